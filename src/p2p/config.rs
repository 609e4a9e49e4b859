//! The configuration of one libp2p node: what it listens on, whom it knows, which limits it keeps.

use std::path::PathBuf;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use super::direct::config::FilesConfig;
use super::limits::{Limits, NodeRole};
use super::relay::RelayConfig;

use crate::tls::CertificateFiles;

/// The `[node]` (or `[bootnode]`) table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Multiaddrs to listen on, e.g. `/ip4/127.0.0.1/tcp/0`; see [`parse_listen`](super::address::parse_listen) for all forms.
    /// Default: one TCP port of the system's choice on loopback.
    pub listen: Vec<Multiaddr>,
    /// The certificate for listening on secure WebSocket (`…/tls/ws`), in PEM files that are read again when they change.
    pub tls: Option<CertificateFiles>,
    /// PEM files with certificates that are trusted beside the well-known authorities when dialling secure WebSocket: those of an
    /// authority of one's own.
    pub trusted: Vec<PathBuf>,
    /// Addresses at which others reach this node although it does not listen there: those of a router that passes a port on, or a name.
    pub external: Vec<Multiaddr>,
    /// Whether nodes on the local network are looked for and answered, by multicast DNS. Default no.
    pub mdns: bool,
    /// Whether the router is asked, by UPnP, to pass the ports on. Default no.
    pub upnp: bool,
    /// Bootnodes, each a multiaddr that ends in `/p2p/<peer id>`.
    pub bootnodes: Vec<Multiaddr>,
    /// Gossipsub topics to join at the start.
    pub topics: Vec<String>,
    /// Below this many connected peers the node looks for more. Default 6.
    pub low_peers: u32,
    /// Above this many connected peers the node closes some. Default 16; a bootnode's is 1,000.
    pub high_peers: u32,
    /// Messages of one author that may come at once after a silence; more are dropped. Default 500. See
    /// [`RateLimiter`](super::limits::RateLimiter).
    pub message_burst: u32,
    /// Messages of one author a second in the long run. Default 50. One neighbour may pass on ten times as much.
    pub message_rate: u32,
    /// What it admits at most.
    pub limits: Limits,
    /// What it does for others as a relay.
    pub relay: RelayConfig,
    /// From whom files are taken, and how much of them.
    pub files: FilesConfig,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a valid multiaddr")],
            tls: None,
            trusted: Vec::new(),
            external: Vec::new(),
            mdns: false,
            upnp: false,
            bootnodes: Vec::new(),
            topics: Vec::new(),
            low_peers: 6,
            high_peers: 16,
            message_burst: 500,
            message_rate: 50,
            limits: Limits::default(),
            relay: RelayConfig::default(),
            files: FilesConfig::default(),
        }
    }
}

impl NodeConfig {
    /// The defaults of a bootnode: it looks for nobody and is there for many.
    #[must_use]
    pub fn of_bootnode() -> Self {
        Self {
            low_peers: 0,
            high_peers: 1_000,
            limits: Limits::of(NodeRole::Bootnode),
            relay: RelayConfig::of_bootnode(),
            ..Self::default()
        }
    }
}
