//! The configuration file of a role, and how its layers are put together.
//!
//! ```toml
//! [process]                 # who this is and where its files are
//! name = "node-0"
//! data_dir = "data/node-0"
//!
//! [telemetry]               # absent: nothing is exported
//! endpoint = "http://127.0.0.1:9091/v1/metrics"
//! token = "…"
//!
//! [log]
//! format = "json"
//!
//! [node]                    # the role's own table: node, bootnode, signaling, web, collector
//! listen = ["/ip4/127.0.0.1/tcp/0"]
//! ```
//!
//! Layers: defaults < file < environment (`HIPPIUS_NODE__TOPICS`, two underscores between table and key) <
//! command-line flags.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything one role process is told; `S` is the role's own table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleConfig<S> {
    /// The `[process]` table.
    pub process: ProcessConfig,
    /// The `[telemetry]` table; `None`: nothing is exported.
    pub telemetry: Option<TelemetryConfig>,
    /// The `[log]` table.
    pub log: LogConfig,
    /// The role's own table.
    pub settings: S,
}

/// The `[process]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// The process's name in metrics and logs. Default: the role's name.
    pub name: String,
    /// Folder of its identity and other state. Default `data/<name>`.
    pub data_dir: PathBuf,
    /// Unix socket of its admin API. Default: `admin.sock` in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_socket: Option<PathBuf>,
}

impl ProcessConfig {
    /// Where the admin API listens.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| self.data_dir.join("admin.sock"))
    }
}

/// The `[telemetry]` table.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// URL that OTLP metrics are posted to.
    pub endpoint: String,
    /// Sent as `Authorization: Bearer …`; tells the receiver who this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Time between two exports. Default 1 s.
    #[serde(default = "default_interval", with = "humantime_serde")]
    pub interval: Duration,
}

impl std::fmt::Debug for TelemetryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelemetryConfig")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(secret)"))
            .field("interval", &self.interval)
            .finish()
    }
}

fn default_interval() -> Duration {
    Duration::from_secs(1)
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How lines look. Default: `json` where standard error is no terminal, `text` where it is.
    pub format: Option<LogFormat>,
    /// What is logged, as a `tracing` filter, e.g. `info` or `info,libp2p_gossipsub=debug`. Default `info`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: None, filter: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
