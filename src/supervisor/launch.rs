//! From a planned process to a command line and a configuration file: what a child is told.

use std::ffi::{CString, OsStr};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::Serialize;

use super::state_dir::{create_private, overwrite_private};
use crate::p2p::address::{self, Listen, Socket, TransportKind};
use crate::p2p::config::NodeConfig;
use crate::roles::config::{LogConfig, LogFormat, ProcessConfig, TelemetryConfig};
use crate::roles::turn::TurnRoleConfig;
use crate::signaling::config::SignalingConfig;
use crate::topology::plan::{BootnodeRef, NodeSettings, PlannedProcess, Role, Settings, TurnSettings};
use crate::turn::ice::IceSource;
use crate::web::config::WebConfig;

/// What the supervisor knows and the plan does not.
pub struct Surroundings<'a> {
    /// The process's own folder.
    pub folder: &'a Path,
    /// Where telemetry goes.
    pub receiver: SocketAddr,
    /// The token that tells who pushes.
    pub token: String,
    /// Addresses of other processes, by name, as they reported them.
    pub addresses_of: &'a dyn Fn(&str) -> Vec<String>,
    /// The port of another process's listening socket.
    pub port_of: &'a dyn Fn(&str) -> Option<u16>,
    /// What browsers are to be told of STUN and TURN servers.
    pub ice: &'a dyn Fn() -> io::Result<Vec<IceSource>>,
    /// What a TURN server of these settings is told.
    pub turn: &'a dyn Fn(&TurnSettings) -> io::Result<TurnRoleConfig>,
    /// Addresses of this process's last incarnation that became ready.
    pub last_addresses: &'a [String],
}

/// The role's configuration file, as TOML tables.
#[derive(Serialize)]
struct RoleFile {
    process: ProcessConfig,
    telemetry: TelemetryConfig,
    log: LogConfig,
    #[serde(flatten)]
    own: OwnTable,
}

/// The role's own table; the variant's name is the table's.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum OwnTable {
    Bootnode(NodeConfig),
    Node(NodeConfig),
    Signaling(SignalingConfig),
    Web(WebConfig),
    Turn(Box<TurnRoleConfig>),
}

/// Writes the configuration file and returns its arguments for the program: `<role> --config FILE`.
///
/// # Errors
/// When the file cannot be written; the message names it.
pub fn write_config(process: &PlannedProcess, surroundings: &Surroundings<'_>) -> io::Result<Vec<CString>> {
    let own = match &process.settings {
        Settings::Bootnode(settings) => OwnTable::Bootnode(node_config(settings, surroundings)),
        Settings::Node(settings) => OwnTable::Node(node_config(settings, surroundings)),
        Settings::Signaling(settings) => OwnTable::Signaling(SignalingConfig {
            allowed_origins: settings.allowed_origins.clone(),
            tls: settings.tls.clone(),
            token_secret_file: settings.token_secret_file.clone(),
            max_clients: settings.max_clients,
            max_per_address: settings.max_per_address,
            max_room_peers: settings.max_room_peers,
            messages_per_second: settings.messages_per_second,
            joins_per_second: settings.joins_per_second,
            join_burst: settings.join_burst,
            ice: (surroundings.ice)()?,
            ..Default::default()
        }),
        Settings::Web(settings) => OwnTable::Web(WebConfig {
            signaling_port: settings.signaling.as_deref().and_then(surroundings.port_of),
            signaling_tls: settings.signaling_tls,
            token_secret_file: settings.token_secret_file.clone(),
            tls: settings.tls.clone(),
            pages: settings.pages.clone(),
            ice: (surroundings.ice)()?,
            ..Default::default()
        }),
        Settings::Turn(settings) => OwnTable::Turn(Box::new((surroundings.turn)(settings)?)),
    };
    let file = RoleFile {
        process: ProcessConfig {
            name: process.name.clone(),
            data_dir: surroundings.folder.to_owned(),
            admin_socket: None,
        },
        telemetry: TelemetryConfig {
            endpoint: format!("http://{}/v1/metrics", surroundings.receiver),
            token: Some(surroundings.token.clone()),
            interval: Duration::from_secs(1),
        },
        log: LogConfig { format: Some(LogFormat::Json), ..LogConfig::default() },
        own,
    };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    let path = surroundings.folder.join("config.toml");
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    create_private(surroundings.folder).map_err(io::Error::other)?;
    overwrite_private(&path, text.as_bytes()).map_err(failed)?;
    Ok(vec![
        CString::new("hippius")?,
        CString::new(process.role().as_str())?,
        CString::new("--config")?,
        CString::new(path.as_os_str().as_bytes())?,
    ])
}

fn node_config(settings: &NodeSettings, surroundings: &Surroundings<'_>) -> NodeConfig {
    let bootnodes = settings
        .bootnodes
        .iter()
        .flat_map(|bootnode| match bootnode {
            BootnodeRef::Address(address) => vec![address.clone()],
            BootnodeRef::Process(name) => {
                (surroundings.addresses_of)(name).iter().filter_map(|address| address.parse().ok()).collect()
            }
        })
        .collect();
    NodeConfig {
        listen: keep_ports(&settings.listen, surroundings.last_addresses),
        bootnodes,
        topics: settings.topics.clone(),
        low_peers: settings.connections.low,
        high_peers: settings.connections.high,
        mdns: settings.mdns,
        upnp: settings.upnp,
        external: settings.external.clone(),
        tls: settings.tls.clone(),
        trusted: settings.trusted.clone(),
        limits: settings.limits.clone(),
        message_burst: settings.rates.burst,
        message_rate: settings.rates.a_second,
        relay: settings.relay.clone(),
        files: settings.files.clone(),
    }
}

/// Puts the ports that the last incarnation was given in place of port 0, so that a restarted node is found where it was.
fn keep_ports(listen: &[Multiaddr], last: &[String]) -> Vec<Multiaddr> {
    // Where a relay listens is no business of this process.
    let own = |address: &Multiaddr| !address.iter().any(|part| part == Protocol::P2pCircuit);
    let mut last: Vec<(Socket, TransportKind)> = last
        .iter()
        .filter_map(|address| address.parse().ok())
        .filter(own)
        .filter_map(|address| listener(&listening_part(&address)))
        .collect();
    listen
        .iter()
        .map(|address| match listener(address) {
            Some((socket, kind)) if socket.address().port() == 0 => {
                let ip = socket.address().ip();
                let same = |(known, other): &(Socket, TransportKind)| {
                    let known = known.address().ip();
                    kind == *other
                        && (known == ip || (ip.is_unspecified() && known.is_ipv4() == ip.is_ipv4()))
                };
                match last.iter().position(same) {
                    Some(place) => address::with_port(address, last.remove(place).0.address().port()),
                    None => address.clone(),
                }
            }
            _ => address.clone(),
        })
        .collect()
}

fn listener(address: &Multiaddr) -> Option<(Socket, TransportKind)> {
    match address::parse_listen(address) {
        Ok(Listen::Socket(socket, kind)) => Some((socket, kind)),
        _ => None,
    }
}

/// An address that a node has told, without what it has learnt since it listens: its certificate's hash and its id.
fn listening_part(told: &Multiaddr) -> Multiaddr {
    told.iter().take_while(|part| !matches!(part, Protocol::Certhash(_) | Protocol::P2p(_))).collect()
}

/// An address that a process of this machine can connect to: a wildcard stands for loopback.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The environment of a child: the supervisor's own without what is meant for the supervisor, and the notify protocol's.
#[must_use]
pub fn environment(notify_socket: &OsStr, watchdog: Duration) -> Vec<CString> {
    const OURS: [&str; 7] = [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "INVOCATION_ID",
    ];
    let mut environment: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            // A role's own settings come from its file; only the log filter may be turned from outside.
            !OURS.contains(&name.as_ref())
                && (!name.starts_with("HIPPIUS_") || name.starts_with("HIPPIUS_LOG__"))
        })
        .filter_map(|(name, value)| {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            CString::new(entry).ok()
        })
        .collect();
    let mut add = |text: Vec<u8>| environment.extend(CString::new(text));
    add([b"NOTIFY_SOCKET=", notify_socket.as_bytes()].concat());
    if !watchdog.is_zero() {
        add(format!("WATCHDOG_USEC={}", watchdog.as_micros()).into_bytes());
    }
    environment
}

/// A role and its name, as messages call it: `the web server "web"`.
#[must_use]
pub fn describe(process: &PlannedProcess) -> String {
    let what = match process.role() {
        Role::Signaling => "signaling server",
        Role::Web => "web server",
        Role::Turn => "TURN server",
        role => role.as_str(),
    };
    format!("{what} \"{}\"", process.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_node_keeps_its_port() {
        let listen: Vec<Multiaddr> = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/4002", "/ip6/::1/tcp/0"]
            .map(|a| a.parse().unwrap())
            .into();
        let last =
            ["/ip4/127.0.0.1/tcp/41000/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".to_owned()];
        let kept: Vec<String> = keep_ports(&listen, &last).iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["/ip4/127.0.0.1/tcp/41000", "/ip4/127.0.0.1/tcp/4002", "/ip6/::1/tcp/0"]);
    }

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
    }
}
