//! What a topology comes down to: the processes to run, in start order, with everything each needs.
//!
//! A plan is made from a validated [topology](crate::topology) and is plain data: no file, socket or
//! clock. The supervisor turns it into running processes; `hippius plan` prints it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::p2p::direct::config::FilesConfig;
use crate::p2p::limits::Limits;
use crate::p2p::relay::RelayConfig;
use crate::signaling::origin::AllowedOrigin;
use crate::tls::CertificateFiles;
use crate::turn::cidr::Cidr;

/// A whole network, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The topology's name.
    pub topology: String,
    /// Address that services listen on.
    pub bind: IpAddr,
    /// Where `/metrics` and `/stats` are served. Port 0 is any free port.
    pub metrics: SocketAddr,
    /// How log files are rotated.
    pub logs: LogPolicy,
    /// The processes in start order: a process comes after all it depends on.
    pub processes: Vec<PlannedProcess>,
}

/// One process of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedProcess {
    /// Unique name, e.g. `node-0`; also the name of its folder and log file.
    pub name: String,
    /// The name of the table it came from, e.g. `node`; commands on a group reach all its processes.
    pub group: String,
    /// Names of processes that must be ready before this one starts.
    pub depends_on: Vec<String>,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// Deadlines of its life.
    pub timing: Timing,
    /// TCP address that the supervisor binds and hands down; `None` where the role binds by itself.
    pub listen_socket: Option<SocketAddr>,
    /// What the role is told.
    pub settings: Settings,
}

impl PlannedProcess {
    /// The role this process plays.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.settings {
            Settings::Bootnode(_) => Role::Bootnode,
            Settings::Node(_) => Role::Node,
            Settings::Signaling(_) => Role::Signaling,
            Settings::Web(_) => Role::Web,
            Settings::Turn(_) => Role::Turn,
        }
    }
}

/// The kinds of process a topology can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A libp2p node that others find the network through.
    Bootnode,
    /// A libp2p node.
    Node,
    /// The WebRTC signaling server.
    Signaling,
    /// The server of the web client's pages.
    Web,
    /// The STUN and TURN server.
    Turn,
    /// The metric store as a process of its own.
    Collector,
}

impl Role {
    /// The word used on the command line, in files and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Bootnode => "bootnode",
            Role::Node => "node",
            Role::Signaling => "signaling",
            Role::Web => "web",
            Role::Turn => "turn",
            Role::Collector => "collector",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Role-specific part of a [`PlannedProcess`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settings {
    /// See [`Role::Bootnode`].
    Bootnode(NodeSettings),
    /// See [`Role::Node`].
    Node(NodeSettings),
    /// See [`Role::Signaling`].
    Signaling(SignalingSettings),
    /// See [`Role::Web`].
    Web(WebSettings),
    /// See [`Role::Turn`].
    Turn(Box<TurnSettings>),
}

/// What the topology says of one libp2p node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// Multiaddrs to listen on.
    pub listen: Vec<Multiaddr>,
    /// Where to find the network; empty for a first bootnode.
    pub bootnodes: Vec<BootnodeRef>,
    /// Gossipsub topics to join at the start.
    pub topics: Vec<String>,
    /// The connection manager's marks.
    pub connections: ConnectionMarks,
    /// Whether nodes on the local network are found by multicast DNS.
    pub mdns: bool,
    /// Whether the router is asked to pass the ports on.
    pub upnp: bool,
    /// Addresses told to others besides those it listens on.
    pub external: Vec<Multiaddr>,
    /// The certificate for listening on secure WebSocket.
    pub tls: Option<CertificateFiles>,
    /// Authorities trusted beside the well-known ones when dialling secure WebSocket.
    pub trusted: Vec<PathBuf>,
    /// What it admits at most.
    pub limits: Limits,
    /// Messages that it takes of one author.
    pub rates: MessageRates,
    /// What it does for others as a relay.
    pub relay: RelayConfig,
    /// From whom it takes files, and how much of them.
    pub files: FilesConfig,
}

/// Messages of one author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRates {
    /// So many short ones at once …
    pub burst: u32,
    /// … and so many a second in the long run.
    pub a_second: u32,
}

/// How many connections a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionMarks {
    /// Below this many connected peers a node looks for more.
    pub low: u32,
    /// Above this many connected peers it closes some.
    pub high: u32,
}

/// A bootnode, by the name of a process in the same plan or by address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootnodeRef {
    /// A process of this plan; its address is known once it is ready.
    Process(String),
    /// A full multiaddr that ends in `/p2p/<peer id>`.
    Address(Multiaddr),
}

/// What the topology says of one signaling server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalingSettings {
    /// Whose pages may connect besides those of the same host.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// The certificate with which it speaks TLS.
    pub tls: Option<CertificateFiles>,
    /// The secrets of the tokens without which nobody registers.
    pub token_secret_file: Option<PathBuf>,
    /// How many clients it serves at once.
    pub max_clients: u32,
    /// How many clients one address may have.
    pub max_per_address: u32,
    /// How many peers one room holds.
    pub max_room_peers: u32,
    /// Messages a client may send, sustained.
    pub messages_per_second: u32,
    /// Clients of one address that may join rooms, sustained …
    pub joins_per_second: u32,
    /// … and at once.
    pub join_burst: u32,
}

/// What the topology says of one web server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSettings {
    /// Process name of the signaling server its pages use, if there is one.
    pub signaling: Option<String>,
    /// Whether that one speaks TLS.
    pub signaling_tls: bool,
    /// The secrets of that one's tokens, which are asked for here, too.
    pub token_secret_file: Option<PathBuf>,
    /// The certificate with which it speaks TLS itself.
    pub tls: Option<CertificateFiles>,
    /// The folder of its pages; `None`: those of the program.
    pub pages: Option<PathBuf>,
}

/// What the topology says of one TURN server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnSettings {
    /// Who relays.
    pub engine: TurnEngine,
    /// Where it listens, UDP and TCP; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where it listens for TLS, if it does.
    pub tls_listen: Option<SocketAddr>,
    /// The certificate for that.
    pub tls: Option<CertificateFiles>,
    /// The realm of its credentials.
    pub realm: String,
    /// The file with its secret; `None`: one of its own, made at random.
    pub secret_file: Option<PathBuf>,
    /// The host that browsers are told; `None`: that of the page.
    pub host: Option<String>,
    /// The address that others know its relay addresses by.
    pub external_address: Option<IpAddr>,
    /// The UDP ports that it relays on.
    pub relay_ports: TurnPorts,
    /// Networks that are relayed to although they are refused by default.
    pub allow: Vec<Cidr>,
    /// Networks that are never relayed to.
    pub deny: Vec<Cidr>,
    /// How many allocations it has at once …
    pub max_allocations: u32,
    /// … of one user …
    pub max_per_user: u32,
    /// … and of one address.
    pub max_per_address: u32,
    /// Answers a second to one address that has not proven to be where it says it is.
    pub stranger_answers_per_second: u32,
    /// Bytes that one allocation may relay a second; `None`: no limit.
    pub bytes_per_second: Option<u64>,
    /// How long the credentials hold that browsers are given.
    #[serde(with = "humantime_serde")]
    pub credential_lifetime: Duration,
    /// The file that names external servers and says how traffic is written down; `None`: the usual one, if it is there.
    pub config_file: Option<PathBuf>,
}

/// Who relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnEngine {
    /// This program itself.
    Embedded,
    /// The program `turnserver` as a child.
    Coturn,
    /// Servers elsewhere.
    External,
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnPorts {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

/// When an ended process is started again, and when not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which endings lead to a restart.
    pub when: RestartWhen,
    /// Delay before the second consecutive restart (the first is immediate); doubles from there.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// Upper end of the delay.
    #[serde(with = "humantime_serde")]
    pub max_backoff: Duration,
    /// This many restarts …
    pub limit: u32,
    /// … in this time are a crash loop.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

/// Which endings of a process lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Every ending that nobody asked for.
    Always,
    /// A signal or an exit code other than 0.
    OnFailure,
    /// None.
    Never,
}

/// Deadlines in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From spawn to readiness; past it the process is killed and counts as crashed.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Longest silence on the watchdog of a ready process; zero switches it off.
    #[serde(with = "humantime_serde")]
    pub watchdog: Duration,
    /// From SIGTERM to SIGKILL.
    #[serde(with = "humantime_serde")]
    pub stop_grace: Duration,
}

/// How log files are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// A file is rotated before it grows past this many bytes.
    pub max_bytes: u64,
    /// How many rotated files are kept beside the current one.
    pub keep: u32,
}
