//! The configuration of the role `turn`: which engine, and how relayed traffic is written down.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::topology::plan::TurnEngine;
use crate::topology::turn_file::Monitoring;
use crate::turn::config::TurnConfig;

/// The `[turn]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnRoleConfig {
    /// Who relays. Default `embedded`.
    pub engine: TurnEngine,
    /// What the server of `embedded` and `coturn` is told.
    pub server: TurnConfig,
    /// URLs of the servers of `external`.
    pub urls: Vec<String>,
    /// How relayed traffic is written down.
    pub bandwidth: BandwidthConfig,
}

impl Default for TurnRoleConfig {
    fn default() -> Self {
        Self {
            engine: TurnEngine::Embedded,
            server: TurnConfig::default(),
            urls: Vec::new(),
            bandwidth: BandwidthConfig::default(),
        }
    }
}

/// The `[turn.bandwidth]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BandwidthConfig {
    /// Whether traffic is written down. Default: it is.
    pub enabled: bool,
    /// Time between two lines of one allocation. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Where. Default `logs/turn_bandwidth.log`.
    pub log_file: PathBuf,
    /// The file is rotated before it grows past this many bytes. Default 10 MiB.
    pub max_bytes: u64,
    /// How many rotated files are kept beside it. Default 3.
    pub keep: u32,
}

impl BandwidthConfig {
    /// As config/turn_config.json says, the rest by default.
    #[must_use]
    pub fn of(monitoring: &Monitoring) -> Self {
        let Monitoring { enabled, interval, log_file } = monitoring.clone();
        Self { enabled, interval, log_file, max_bytes: 10 << 20, keep: 3 }
    }
}

impl Default for BandwidthConfig {
    fn default() -> Self {
        Self::of(&Monitoring::default())
    }
}
