//! The protocols a node speaks, and how each is set up.

use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{connection_limits, identify, ping, relay};

use super::config::NodeConfig;
use super::gossip::Gossip;
use super::limits::{NodeRole, connection_limits};
use super::metrics::Refusals;
use super::scout::Scout;

/// What identify says of this network.
const PROTOCOL_VERSION: &str = "hippius/1.0.0";
/// Time between two pings: often enough to notice a dead peer within a minute, rare enough to cost nothing.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time for an answer: a busy peer is given seconds, a silent one is not waited for until the next ping is due.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing that identify tells changes while a connection lives, so it is told once at the start and then hardly ever.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(3600);

/// All protocols of a node. The limits come first, so that a refused connection costs the others nothing.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) gossip: Gossip,
    pub(crate) scout: Scout,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: relay::client::Behaviour,
}

impl Behaviour {
    /// # Errors
    /// When gossipsub refuses its configuration.
    pub(crate) fn new(
        keypair: &Keypair,
        role: NodeRole,
        config: &NodeConfig,
        refusals: Arc<Refusals>,
        relay_client: relay::client::Behaviour,
    ) -> Result<Self, String> {
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(concat!("hippius/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            // The connection manager keeps the addresses.
            .with_cache_size(0);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(role, config)),
            gossip: Gossip::new(keypair, config, refusals)?,
            scout: Scout::new(keypair.public().to_peer_id()),
            identify: identify::Behaviour::new(identify),
            relay_client,
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
        })
    }
}
