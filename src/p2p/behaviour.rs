//! The protocols a node speaks, and how each is set up.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, identify, ping, relay as libp2p_relay, upnp};

use super::config::NodeConfig;
use super::direct::streams::Streams;
use super::gossip::Gossip;
use super::limits::{Admission, Connections, NodeRole};
use super::mdns::LocalNetwork;
use super::metrics::Traffic;
use super::nat::{DialBacks, HolePunches, Probes};
use super::relay;
use super::scout::Scout;
use crate::telemetry::instruments::P2pInstruments;

/// What identify says of this network.
const PROTOCOL_VERSION: &str = "hippius/1.0.0";
/// Time between two pings: often enough to notice a dead peer within a minute, rare enough to cost nothing.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time for an answer: a busy peer is given seconds, a silent one is not waited for until the next ping is due.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Hardly anything that identify tells changes while a connection lives, so it is told once at the start and then hardly ever.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(3600);

/// All protocols of a node. The limits come first, so that a refused connection costs the others nothing.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    admission: Admission,
    connections: Connections,
    pub(crate) gossip: Gossip,
    pub(crate) scout: Scout,
    pub(crate) direct: Streams,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: libp2p_relay::client::Behaviour,
    hole_punching: Toggle<HolePunches>,
    relay_server: Toggle<relay::Server>,
    probes: Toggle<Probes>,
    dial_backs: Toggle<DialBacks>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    local_network: Toggle<LocalNetwork>,
}

/// What a node does to be reached.
pub(crate) struct Reach<'a> {
    pub(crate) relay_client: libp2p_relay::client::Behaviour,
    /// Whether it is a question from where it can be reached.
    pub(crate) asks: bool,
    pub(crate) instruments: &'a P2pInstruments,
}

impl Behaviour {
    /// # Errors
    /// When gossipsub refuses its configuration, or the system does not tell of its network interfaces.
    pub(crate) fn new(
        keypair: &Keypair,
        role: NodeRole,
        config: &NodeConfig,
        traffic: &Traffic,
        reach: Reach<'_>,
    ) -> Result<Self, String> {
        let refusals = traffic.refusals();
        let local = keypair.public().to_peer_id();
        let Reach { relay_client, asks, instruments } = reach;
        let local_network = if config.mdns {
            let failed = |error| format!("discovery on the local network cannot be started: {error}");
            Some(LocalNetwork::new(local, refusals.clone()).map_err(failed)?)
        } else {
            None
        };
        let relay_server = config
            .relay
            .enabled
            .then(|| relay::Server::new(local, &config.relay, refusals.clone(), instruments.clone()));
        let answers = asks && role == NodeRole::Bootnode;
        let dial_backs = answers.then(|| DialBacks::new(refusals.clone()));
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(concat!("hippius/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            // Except for where it can be found: a place at a relay comes after the connection with the relay.
            .with_push_listen_addr_updates(true)
            // The connection manager keeps the addresses.
            .with_cache_size(0);
        Ok(Self {
            admission: Admission::new(config.limits.clone()),
            connections: Connections::new(config),
            gossip: Gossip::new(keypair, config, traffic)?,
            scout: Scout::new(local, instruments),
            direct: Streams::default(),
            identify: identify::Behaviour::new(identify),
            relay_client,
            hole_punching: asks.then(|| HolePunches::new(local, refusals.clone())).into(),
            relay_server: relay_server.into(),
            probes: asks.then(Probes::new).into(),
            dial_backs: dial_backs.into(),
            upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
            local_network: local_network.into(),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
        })
    }

    /// Of two connections with `peer` this one is left, and gossipsub's handler on it may sleep; see [`Gossip::greet_again`]. identify
    /// wakes it, by telling the peer once more what it knows.
    pub(crate) fn left_of_two(&mut self, peer: PeerId, connection: ConnectionId, address: Multiaddr) {
        self.gossip.greet_again(peer, connection, address);
        self.identify.push([peer]);
    }
}
