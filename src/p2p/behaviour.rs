//! The protocols a node speaks, and how each is set up.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use libp2p::gossipsub::{
    self, DataTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, RawMessage, TopicHash,
    TopicSubscriptionFilter, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{connection_limits, identify, ping};

use super::config::NodeConfig;
use super::limits::{NodeRole, connection_limits};
use super::metrics::{Refusals, Refused};
use super::scout::Scout;
use super::topics::{MAX_ENCODED_BYTES, Topic};

/// What identify says of this network.
const PROTOCOL_VERSION: &str = "hippius/1.0.0";
/// Room for the protobuf frame around an encoded message.
const FRAME_BYTES: usize = 1_024;
/// Time between two pings: often enough to notice a dead peer within a minute, rare enough to cost nothing.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Nothing that identify tells changes while a connection lives, so it is told once at the start and then hardly ever.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(3600);
/// The first heartbeat builds the mesh; the default of 5 s would leave a new node out of it that long.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Messages waiting for one slow peer; more are dropped and counted.
const PEER_QUEUE: usize = 512;
/// Topics one peer may subscribe to, and most subscriptions in one request.
const MAX_PEER_TOPICS: usize = 128;

pub(crate) type Gossipsub = gossipsub::Behaviour<JoinedOnly, MaxCountSubscriptionFilter<ValidNames>>;

/// All protocols of a node. The limits come first, so that a refused connection costs the others nothing.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) gossipsub: Gossipsub,
    pub(crate) scout: Scout,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl Behaviour {
    /// # Errors
    /// When gossipsub refuses its configuration.
    pub(crate) fn new(
        keypair: &Keypair,
        role: NodeRole,
        config: &NodeConfig,
        refusals: Arc<Refusals>,
        joined: Joined,
    ) -> Result<Self, String> {
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
            .with_agent_version(concat!("hippius/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            // The connection manager keeps the addresses.
            .with_cache_size(0);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(role, config)),
            gossipsub: gossipsub(keypair, refusals, joined)?,
            scout: Scout::new(keypair.public().to_peer_id()),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        })
    }
}

fn gossipsub(keypair: &Keypair, refusals: Arc<Refusals>, joined: Joined) -> Result<Gossipsub, String> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        // A message goes on to others only after this node has checked it.
        .validate_messages()
        .message_id_fn(message_id)
        .heartbeat_initial_delay(FIRST_HEARTBEAT)
        .max_transmit_size(MAX_ENCODED_BYTES + FRAME_BYTES)
        .connection_handler_queue_len(PEER_QUEUE)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: ValidNames(refusals.clone()),
        max_subscribed_topics: MAX_PEER_TOPICS,
        max_subscriptions_per_request: MAX_PEER_TOPICS,
    };
    gossipsub::Behaviour::new_with_subscription_filter_and_transform(
        MessageAuthenticity::Signed(keypair.clone()),
        config,
        filter,
        JoinedOnly { joined, refusals },
    )
    .map_err(ToOwned::to_owned)
}

/// The topics this node has joined, shared with the runner, which joins and leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined(Arc<RwLock<HashSet<TopicHash>>>);

impl Joined {
    pub(crate) fn insert(&self, topic: &Topic) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(topic.ident().hash());
    }

    pub(crate) fn remove(&self, topic: &Topic) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&topic.ident().hash());
    }

    fn contains(&self, topic: &TopicHash) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(topic)
    }
}

/// Refuses messages of topics that this node has not joined. Gossipsub would put them into its caches, and keep them for
/// a minute, before it finds out that nobody here wants them: a stranger could fill the memory.
pub(crate) struct JoinedOnly {
    joined: Joined,
    refusals: Arc<Refusals>,
}

impl DataTransform for JoinedOnly {
    fn inbound_transform(&self, raw: RawMessage) -> Result<gossipsub::Message, io::Error> {
        if !self.joined.contains(&raw.topic) {
            self.refusals.add(Refused::Message, 1);
            return Err(io::Error::other("a message of a topic that was not joined"));
        }
        Ok(gossipsub::Message {
            source: raw.source,
            data: raw.data,
            sequence_number: raw.sequence_number,
            topic: raw.topic,
        })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}

/// Author and sequence number: the same text sent twice is two messages, the same message by two ways is one.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut id = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    id.extend_from_slice(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(id)
}

/// Takes only subscriptions to topics with a valid name, which bounds what each costs, and counts the others. How many a peer
/// may have is bounded by [`MaxCountSubscriptionFilter`] around it.
pub(crate) struct ValidNames(Arc<Refusals>);

impl TopicSubscriptionFilter for ValidNames {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        let valid = topic.as_str().parse::<Topic>().is_ok();
        if !valid {
            self.0.add(Refused::Subscription, 1);
        }
        valid
    }
}
