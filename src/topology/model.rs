//! A validated topology, and the plan it comes down to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use libp2p::Multiaddr;

use super::plan::{
    BootnodeRef, ConnectionMarks, LogPolicy, MessageRates, NodeSettings, Plan, PlannedProcess, RestartPolicy,
    Settings, SignalingSettings, Timing, TurnSettings, WebSettings,
};
use crate::p2p::direct::config::FilesConfig;
use crate::p2p::limits::Limits;
use crate::p2p::relay::RelayConfig;
use crate::tls::CertificateFiles;

/// A network that can be started as it stands. Made by [`parse`](super::parse) and its like alone, so every name in it
/// is unique, every reference leads somewhere and no two processes claim one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub(super) name: String,
    pub(super) bind: IpAddr,
    pub(super) metrics: SocketAddr,
    pub(super) logs: LogPolicy,
    /// In start order.
    pub(super) entries: Vec<Entry>,
}

/// One table of the file: a process, or a group of equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) count: Option<u32>,
    pub(super) restart: RestartPolicy,
    pub(super) timing: Timing,
    pub(super) part: Part,
}

/// What only one kind of [`Entry`] has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Bootnode(NodePart),
    Node(NodePart),
    Signaling { socket: SocketAddr, settings: SignalingSettings },
    Web { socket: SocketAddr, settings: WebSettings },
    Turn(TurnSettings),
}

/// What a node and a bootnode have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodePart {
    pub(super) listen: Vec<Multiaddr>,
    pub(super) bootnodes: Vec<BootnodeRef>,
    pub(super) topics: Vec<String>,
    pub(super) connections: ConnectionMarks,
    pub(super) mdns: bool,
    pub(super) upnp: bool,
    pub(super) external: Vec<Multiaddr>,
    pub(super) tls: Option<CertificateFiles>,
    pub(super) trusted: Vec<PathBuf>,
    pub(super) limits: Limits,
    pub(super) rates: MessageRates,
    pub(super) relay: RelayConfig,
    pub(super) files: FilesConfig,
}

impl NodePart {
    fn settings(&self) -> NodeSettings {
        NodeSettings {
            listen: self.listen.clone(),
            bootnodes: self.bootnodes.clone(),
            topics: self.topics.clone(),
            connections: self.connections,
            mdns: self.mdns,
            upnp: self.upnp,
            external: self.external.clone(),
            tls: self.tls.clone(),
            trusted: self.trusted.clone(),
            limits: self.limits.clone(),
            rates: self.rates,
            relay: self.relay.clone(),
            files: self.files.clone(),
        }
    }

    fn depends_on(&self) -> Vec<String> {
        let named = self.bootnodes.iter().filter_map(|bootnode| match bootnode {
            BootnodeRef::Process(name) => Some(name.clone()),
            BootnodeRef::Address(_) => None,
        });
        named.collect()
    }
}

/// The names of the processes of an entry called `name`.
pub(super) fn process_names(name: &str, count: Option<u32>) -> Vec<String> {
    match count {
        None => vec![name.to_owned()],
        Some(count) => (0..count).map(|number| format!("{name}-{number}")).collect(),
    }
}

impl Topology {
    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that services listen on.
    #[must_use]
    pub fn bind(&self) -> IpAddr {
        self.bind
    }

    /// What is to be started, in order.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            topology: self.name.clone(),
            bind: self.bind,
            metrics: self.metrics,
            logs: self.logs,
            processes: self.entries.iter().flat_map(Entry::processes).collect(),
        }
    }
}

impl Entry {
    fn processes(&self) -> impl Iterator<Item = PlannedProcess> {
        let (depends_on, listen_socket, settings) = match &self.part {
            Part::Bootnode(node) => (node.depends_on(), None, Settings::Bootnode(node.settings())),
            Part::Node(node) => (node.depends_on(), None, Settings::Node(node.settings())),
            Part::Signaling { socket, settings } => {
                (Vec::new(), Some(*socket), Settings::Signaling(settings.clone()))
            }
            Part::Web { socket, settings } => {
                (settings.signaling.iter().cloned().collect(), Some(*socket), Settings::Web(settings.clone()))
            }
            // It binds its sockets by itself: there is a UDP one beside each of TCP.
            Part::Turn(settings) => (Vec::new(), None, Settings::Turn(Box::new(settings.clone()))),
        };
        process_names(&self.name, self.count).into_iter().map(move |name| PlannedProcess {
            name,
            group: self.name.clone(),
            depends_on: depends_on.clone(),
            restart: self.restart,
            timing: self.timing,
            listen_socket,
            settings: settings.clone(),
        })
    }
}
