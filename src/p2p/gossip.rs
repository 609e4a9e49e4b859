//! Gossipsub behind a doorkeeper.
//!
//! Gossipsub puts every new message into its caches and keeps it there for seconds, its id for a minute, before this node gets
//! to see it. So what a node will not have is refused at the door: while gossipsub reads an RPC, the doorkeeper knows which
//! neighbour sent it and asks [`Neighbours`] about each message in it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{
    self, DataTransform, MaxCountSubscriptionFilter, MessageAcceptance, MessageAuthenticity, MessageId,
    PublishError, RawMessage, SubscriptionError, TopicHash, TopicSubscriptionFilter, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::config::NodeConfig;
use super::metrics::{Refusals, Refused};
use super::neighbours::Neighbours;
use super::topics::{MAX_ENCODED_BYTES, Topic};

/// Room for the protobuf frame around an encoded message.
const FRAME_BYTES: usize = 1_024;
/// The first heartbeat builds the mesh; the default of 5 s would leave a new node out of it that long.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Messages waiting for one slow peer, some 8 MB of the largest; more are dropped and counted.
const PEER_QUEUE: usize = 64;
/// Messages in one RPC. Nodes of this kind send one, others a handful; each costs the check of a signature.
const MAX_RPC_MESSAGES: usize = 32;
/// From this size on neighbours are told that a message need not be sent again: below, telling costs as much as it saves.
const TELL_BYTES: usize = 16 * 1024;
/// Topics one peer may subscribe to, and most subscriptions in one request.
const MAX_PEER_TOPICS: usize = 128;

type Inner = gossipsub::Behaviour<Doorkeeper, MaxCountSubscriptionFilter<ValidNames>>;

/// What gossipsub has to tell.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An event of gossipsub's own.
    Event(gossipsub::Event),
    /// This neighbour has sent too much or rubbish, and is to be disconnected. It is kept away for a while.
    Blocked(PeerId),
}

/// See the module's comment.
pub(crate) struct Gossip {
    inner: Inner,
    door: SharedDoor,
}

impl Gossip {
    /// # Errors
    /// When gossipsub refuses its configuration.
    pub(crate) fn new(
        keypair: &Keypair,
        config: &NodeConfig,
        refusals: Arc<Refusals>,
    ) -> Result<Self, String> {
        let door = SharedDoor(Arc::new(Mutex::new(Door {
            joined: HashSet::new(),
            neighbours: Neighbours::new(config, Instant::now()),
            refusals: refusals.clone(),
            reading: None,
        })));
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Strict)
            // A message goes on to others only after this node has checked it.
            .validate_messages()
            .message_id_fn(message_id)
            .heartbeat_initial_delay(FIRST_HEARTBEAT)
            .max_transmit_size(MAX_ENCODED_BYTES + FRAME_BYTES)
            .max_publish_messages(MAX_RPC_MESSAGES)
            .idontwant_message_size_threshold(TELL_BYTES)
            .connection_handler_queue_len(PEER_QUEUE)
            .build()
            .map_err(|error| error.to_string())?;
        let filter = MaxCountSubscriptionFilter {
            filter: ValidNames(refusals),
            max_subscribed_topics: MAX_PEER_TOPICS,
            max_subscriptions_per_request: MAX_PEER_TOPICS,
        };
        let inner = gossipsub::Behaviour::new_with_subscription_filter_and_transform(
            MessageAuthenticity::Signed(keypair.clone()),
            config,
            filter,
            Doorkeeper(door.clone()),
        )?;
        Ok(Self { inner, door })
    }

    /// Joins a topic.
    ///
    /// # Errors
    /// When not all peers could be told at once; the topic is joined nevertheless and they are told later.
    pub(crate) fn join(&mut self, topic: &Topic) -> Result<bool, SubscriptionError> {
        self.door.lock().joined.insert(topic.ident().hash());
        self.inner.subscribe(&topic.ident())
    }

    /// Leaves it.
    pub(crate) fn leave(&mut self, topic: &Topic) {
        self.door.lock().joined.remove(&topic.ident().hash());
        self.inner.unsubscribe(&topic.ident());
    }

    /// Hands an encoded message to the peers on its topic.
    ///
    /// # Errors
    /// Gossipsub's.
    pub(crate) fn publish(&mut self, topic: &Topic, bytes: Vec<u8>) -> Result<MessageId, PublishError> {
        self.inner.publish(topic.ident().hash(), bytes)
    }

    /// All connected peers that speak gossipsub, with their topics.
    pub(crate) fn all_peers(&self) -> impl Iterator<Item = (&PeerId, Vec<&TopicHash>)> {
        self.inner.all_peers()
    }

    /// What becomes of a message that `from` has sent. One that is rejected is held against `from`.
    pub(crate) fn settle(&mut self, id: &MessageId, from: PeerId, acceptance: MessageAcceptance) {
        if matches!(acceptance, MessageAcceptance::Reject) {
            self.door.lock().neighbours.rubbish(from, Instant::now());
        }
        self.inner.report_message_validation_result(id, &from, acceptance);
    }

    /// How many peers are kept away.
    pub(crate) fn blocked(&self) -> usize {
        self.door.lock().neighbours.blocked(Instant::now())
    }

    fn let_in(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        if self.door.lock().neighbours.is_blocked(peer, Instant::now()) {
            return Err(ConnectionDenied::new(KeptAway));
        }
        Ok(())
    }
}

/// Why a connection is denied.
#[derive(Debug)]
struct KeptAway;

impl fmt::Display for KeptAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer has sent too much or rubbish and is kept away for some minutes")
    }
}

impl std::error::Error for KeptAway {}

#[derive(Clone)]
struct SharedDoor(Arc<Mutex<Door>>);

impl SharedDoor {
    fn lock(&self) -> MutexGuard<'_, Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Door {
    joined: HashSet<TopicHash>,
    neighbours: Neighbours,
    refusals: Arc<Refusals>,
    reading: Option<Reading>,
}

/// The RPC that gossipsub is reading.
struct Reading {
    from: PeerId,
    messages: usize,
}

impl Door {
    fn admit(&mut self, raw: &RawMessage, now: Instant) -> Result<(), Refused> {
        // Messages come in RPCs only.
        let Some(reading) = &mut self.reading else { return Err(Refused::Message) };
        reading.messages += 1;
        let joined = self.joined.contains(&raw.topic);
        self.neighbours.message(reading.from, raw.data.len(), joined, now)
    }
}

/// The part of the door that gossipsub asks.
pub(crate) struct Doorkeeper(SharedDoor);

impl DataTransform for Doorkeeper {
    fn inbound_transform(&self, raw: RawMessage) -> Result<gossipsub::Message, io::Error> {
        let mut door = self.0.lock();
        if let Err(what) = door.admit(&raw, Instant::now()) {
            door.refusals.add(what, 1);
            return Err(io::Error::other("refused at the door"));
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

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Heard;

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.let_in(peer)?;
        }
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.let_in(peer)?;
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.let_in(peer)?;
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        {
            let mut door = self.door.lock();
            // What was on its way when the neighbour was blocked; its connection is about to close.
            if door.neighbours.is_blocked(peer, Instant::now()) {
                return;
            }
            door.reading = Some(Reading { from: peer, messages: 0 });
        }
        self.inner.on_connection_handler_event(peer, connection, event);
        let mut door = self.door.lock();
        if door.reading.take().is_some_and(|reading| reading.messages == 0) {
            door.neighbours.silent(peer, Instant::now());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.door.lock().neighbours.next_to_close() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Blocked(peer)));
        }
        self.inner.poll(cx).map(|event| event.map_out(Heard::Event))
    }
}
