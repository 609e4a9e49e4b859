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

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::topology::plan::Role;

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
    /// What is logged, as a `tracing` filter, e.g. `info` or `info,libp2p_gossipsub=debug`. Default `info`, without
    /// libp2p's greeting, which repeats the node's own, and Kademlia's warning that a first node knows nobody yet.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: None, filter: "info,libp2p_swarm=warn,libp2p_kad=error".to_owned() }
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

/// Why a role's configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or a value in one of the layers is wrong; the message names the key and the layer.
    #[error("{0}")]
    Figment(Box<figment::Error>),
    /// A table that this role does not know.
    #[error("unknown table [{table}] in the configuration of role {role}; it knows {known}")]
    UnknownTable {
        /// The table.
        table: String,
        /// The role.
        role: Role,
        /// What the role knows.
        known: String,
    },
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        ConfigError::Figment(Box::new(error))
    }
}

/// Puts the layers of a role's configuration together: `defaults`, `file`, environment, `flags`.
///
/// `flags` is a tree like the file's, e.g. `{"node": {"topics": ["lobby"]}}`.
///
/// # Errors
/// See [`ConfigError`].
pub fn load<S>(
    role: Role,
    defaults: S,
    file: Option<&Path>,
    flags: serde_json::Value,
) -> Result<RoleConfig<S>, ConfigError>
where
    S: DeserializeOwned + Serialize,
{
    let own = role.as_str();
    let tables = ["process", "telemetry", "log", own];
    let mut figment = Figment::new().merge(Serialized::default(own, defaults));
    if let Some(file) = file {
        figment = figment.merge(Toml::file_exact(file));
    }
    let environment = Env::prefixed("HIPPIUS_")
        .filter(move |key| {
            key.as_str()
                .split_once("__")
                .is_some_and(|(table, _)| tables.iter().any(|known| known.eq_ignore_ascii_case(table)))
        })
        .split("__");
    figment = figment.merge(environment).merge(Serialized::globals(flags));

    let data: figment::value::Dict = figment.extract()?;
    if let Some(table) = data.keys().find(|table| !tables.contains(&table.as_str())) {
        return Err(ConfigError::UnknownTable {
            table: table.clone(),
            role,
            known: tables.map(|table| format!("[{table}]")).join(", "),
        });
    }
    let name = figment.extract_inner::<String>("process.name").unwrap_or_else(|_| own.to_owned());
    let defaults = ProcessConfig { data_dir: Path::new("data").join(&name), name, admin_socket: None };
    let figment = Figment::new().merge(Serialized::default("process", defaults)).merge(figment);
    let optional = |table: &str| data.contains_key(table);
    Ok(RoleConfig {
        process: figment.extract_inner("process")?,
        telemetry: if optional("telemetry") { Some(figment.extract_inner("telemetry")?) } else { None },
        log: if optional("log") { figment.extract_inner("log")? } else { LogConfig::default() },
        settings: figment.extract_inner(own)?,
    })
}

/// The `[log]` table as far as the environment says what is in it.
///
/// # Errors
/// A value that every role would refuse, with its variable, in words.
pub fn log_from_environment() -> Result<LogConfig, String> {
    let environment = Env::prefixed("HIPPIUS_")
        .filter(|key| {
            key.as_str().split_once("__").is_some_and(|(table, _)| table.eq_ignore_ascii_case("log"))
        })
        .split("__");
    let figment = Figment::from(Serialized::default("log", LogConfig::default())).merge(environment);
    figment.extract_inner("log").map_err(|error| {
        // The path begins with the key itself.
        let key = error.path.first().map(|key| key.to_uppercase()).unwrap_or_default();
        format!("in the environment, HIPPIUS_LOG__{key}: {}", error.kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::config::NodeConfig;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn without_a_file_everything_has_its_default() {
        let config =
            load::<NodeConfig>(Role::Node, NodeConfig::default(), None, serde_json::json!({})).unwrap();
        assert_eq!(config.settings, NodeConfig::default());
        assert_eq!(config.process.data_dir, Path::new("data/node"));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file = write("[process]\nname = \"n\"\n[node]\ntopics = [\"a\"]\nlow_peers = 2\n");
        let flags = serde_json::json!({"node": {"topics": ["b"]}});
        let config = load::<NodeConfig>(Role::Node, NodeConfig::default(), Some(file.path()), flags).unwrap();
        assert_eq!(config.settings.topics, ["b"]);
        assert_eq!(config.settings.low_peers, 2);
        assert_eq!(config.process.data_dir, Path::new("data/n"));
    }

    #[test]
    fn unknown_tables_and_keys_and_a_missing_file_are_errors() {
        let table = write("[nod]\n");
        let error =
            load::<NodeConfig>(Role::Node, NodeConfig::default(), Some(table.path()), serde_json::json!({}))
                .unwrap_err();
        assert!(error.to_string().contains("[nod]"), "{error}");
        let key = write("[node]\ntopic = []\n");
        let error =
            load::<NodeConfig>(Role::Node, NodeConfig::default(), Some(key.path()), serde_json::json!({}))
                .unwrap_err();
        assert!(error.to_string().contains("topic"), "{error}");
        assert!(
            load::<NodeConfig>(
                Role::Node,
                NodeConfig::default(),
                Some(Path::new("/no/file")),
                serde_json::json!({})
            )
            .is_err()
        );
    }
}
