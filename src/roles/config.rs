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

use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Source};
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
    /// libp2p's greeting, which repeats the node's own, Kademlia's warning that a first node knows nobody yet, and gossipsub's
    /// line for each bad message, with which strangers could fill the log; the node counts them. For the same reason those of
    /// mDNS, AutoNAT, relays, identify, yamux and STUN about what peers do.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: None,
            filter: "info,libp2p_swarm=warn,libp2p_kad=error,libp2p_gossipsub=off,libp2p_mdns=error,libp2p_autonat=error,libp2p_relay=error,libp2p_identify=warn,libp2p_yamux=error,yamux=off,stun_types=off,turn_types=off".to_owned(),
        }
    }
}

impl LogConfig {
    /// The default without what goes well.
    #[must_use]
    pub fn beside_a_prompt() -> Self {
        let default = Self::default();
        Self { filter: default.filter.replacen("info,", "warn,", 1), ..default }
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
    /// A value in one of the layers is wrong; the message names the key and the layer.
    #[error("{}", words(.0))]
    Figment(Box<figment::Error>),
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that cannot be a folder's.
    #[error("the name {0:?} is of no use: it is also the name of a folder, so it is one word without a /")]
    Name(String),
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

/// Says where a value is wrong and why, one line for each.
fn words(error: &figment::Error) -> String {
    let lines = error.clone().into_iter().map(|error| {
        // The name of the table that was asked for stands behind the path within it.
        let key = match error.path.split_last() {
            Some((table, rest)) => [std::slice::from_ref(table), rest].concat().join("."),
            None => String::new(),
        };
        let place = match error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref()) {
            Some(Source::File(path)) => format!("{}: ", path.display()),
            _ => match error.metadata.as_ref().map(|metadata| metadata.name.as_ref()) {
                Some(name) if name.contains("environment") => format!("in the {name}: "),
                _ => String::new(),
            },
        };
        let key = if key.is_empty() { key } else { format!("{key}: ") };
        format!("{place}{key}{}", error.kind)
    });
    lines.collect::<Vec<_>>().join("\n")
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
        let failed = |source| ConfigError::File { path: file.to_owned(), source };
        if fs::metadata(file).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
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
    if !is_folder_name(&name) {
        return Err(ConfigError::Name(name));
    }
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

/// Whether a process of this name gets a folder of its own below the data folder, and nowhere else.
fn is_folder_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let alone = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    alone && !name.contains(|character: char| character.is_control() || character == '/')
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
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn beside_a_prompt_only_trouble_is_logged_and_none_that_is_no_trouble() {
        let filter = LogConfig::beside_a_prompt().filter;
        assert!(filter.starts_with("warn,libp2p_") && filter.contains("libp2p_kad=error"), "{filter}");
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
        for missing in ["/no/file", "/"] {
            let error = load::<NodeConfig>(
                Role::Node,
                NodeConfig::default(),
                Some(Path::new(missing)),
                serde_json::json!({}),
            )
            .unwrap_err()
            .to_string();
            assert!(error.starts_with(&format!("cannot read the configuration file {missing}: ")), "{error}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place_and_key() {
        let said = |file: &str, flags: serde_json::Value| {
            let file = write(file);
            let error =
                load::<NodeConfig>(Role::Node, NodeConfig::default(), Some(file.path()), flags).unwrap_err();
            error.to_string().replace(&*file.path().to_string_lossy(), "FILE")
        };
        let none = serde_json::json!({});
        assert_eq!(
            said("[node]\nlow_peers = \"few\"\n", none.clone()),
            "FILE: node.low_peers: invalid type: found string \"few\", expected u32"
        );
        assert_eq!(
            said("[node]\nlisten = [\"x\"]\n", none.clone()),
            "FILE: node.listen.0: invalid multiaddr"
        );
        assert!(said("[node\n", none).starts_with("FILE: "));
        assert_eq!(
            said("", serde_json::json!({"node": {"listen": ["x"]}})),
            "node.listen.0: invalid multiaddr"
        );
    }

    #[test]
    fn a_name_is_a_folder_of_its_own() {
        for bad in ["", ".", "..", "../x", "a/b", "/a", "a/", "a\nb"] {
            let flags = serde_json::json!({"process": {"name": bad}});
            let error = load::<NodeConfig>(Role::Node, NodeConfig::default(), None, flags).unwrap_err();
            assert!(matches!(error, ConfigError::Name(_)), "{bad:?}: {error}");
        }
        let flags = serde_json::json!({"process": {"name": "Node_1.example"}});
        assert!(load::<NodeConfig>(Role::Node, NodeConfig::default(), None, flags).is_ok());
    }
}
