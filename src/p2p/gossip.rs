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

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::gossipsub::{
    self, DataTransform, MaxCountSubscriptionFilter, MessageAcceptance, MessageAuthenticity, MessageId,
    PublishError, RawMessage, SubscriptionError, TopicHash, TopicSubscriptionFilter, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::blocklist::Blocklist;
use super::config::NodeConfig;
use super::metrics::{GossipFigures, Refusals, Refused, Traffic};
use super::neighbours::Neighbours;
use super::pass_on::pass_on;
use super::reticent::{Reticent, Voice};
use super::topics::{MAX_ENCODED_BYTES, Topic};

/// Room for the protobuf frame around an encoded message.
const FRAME_BYTES: usize = 1_024;
/// The first heartbeat builds the mesh; the default of 5 s would leave a new node out of it that long.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Messages waiting for one slow peer, some 8 MB of the largest; more are dropped and counted.
const PEER_QUEUE: usize = 64;
/// Above this many peers the mesh of a topic is cut back to 6. The usual 12 lets it grow to 7 in the mean, and every peer more than 6 sends
/// every message once more, each with a signature to check.
const MESH_HIGH: usize = 7;
/// Pause before a peer that left the mesh is taken into it again. The default, a minute, counts also for one that left a topic and
/// has come back: until then it would get its messages by gossip only, a second later than others. It counts as well for a node that all its
/// first neighbours have turned away because their meshes were full, as happens when many start at once; gossipsub
/// itself adds up to two seconds.
const PRUNE_BACKOFF: Duration = Duration::from_secs(1);
/// Heartbeats by which gossipsub is late with asking again, so that it never asks too early. It looks only at every third heartbeat when there
/// is one, and a node could wait five seconds for a pause of one. Who asks too early is turned away once more, and nothing else.
const BACKOFF_SLACK: u32 = 0;
/// The same, as one that leaves a topic asks of the others.
const LEAVE_BACKOFF: Duration = Duration::from_secs(1);
/// Messages in one RPC. Nodes of this kind send one, others a handful; each costs the check of a signature.
const MAX_RPC_MESSAGES: usize = 32;
/// From this size on neighbours are told that a message need not be sent again: below, telling costs as much as it saves.
const TELL_BYTES: usize = 16 * 1024;
/// Time between two looks at the meshes: gossipsub changes them once a second.
const MESH_READING: Duration = Duration::from_millis(900);

type Inner = gossipsub::Behaviour<Doorkeeper, MaxCountSubscriptionFilter<Wanted>>;
/// What its handlers tell it.
type Told = THandlerOutEvent<Inner>;

/// What gossipsub has to tell.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An event of gossipsub's own.
    Event(gossipsub::Event),
    /// This neighbour has sent too much or rubbish, and is to be disconnected. It is kept away for a while.
    Blocked(PeerId),
    /// Whether there is a joined topic with neighbours on it none of which takes this node into its mesh: told once a second while there is,
    /// and once when there is none any more.
    LeftOut(bool),
}

/// See the module's comment.
pub(crate) struct Gossip {
    inner: Inner,
    /// Silent before the first topic is joined.
    voice: Voice,
    door: SharedDoor,
    figures: GossipFigures,
    /// Messages that were new.
    fresh: u64,
    mesh_read: Instant,
    /// Whether it was left out when the meshes were read last.
    left_out: bool,
    max_topics: usize,
    max_message: usize,
}

impl Gossip {
    /// # Errors
    /// When gossipsub refuses its configuration.
    pub(crate) fn new(keypair: &Keypair, config: &NodeConfig, traffic: &Traffic) -> Result<Self, String> {
        let now = Instant::now();
        let max_topics = config.limits.subscriptions as usize;
        let max_message = config.limits.message_size as usize;
        let door = SharedDoor(Arc::new(Mutex::new(Door {
            joined: HashSet::new(),
            neighbours: Neighbours::new(config, now),
            refusals: traffic.refusals().clone(),
            reading: None,
            admitted: 0,
            max_topics,
            max_message,
        })));
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Strict)
            // A message goes on to others only after this node has checked it.
            .validate_messages()
            .mesh_n_high(MESH_HIGH)
            .message_id_fn(message_id)
            .heartbeat_initial_delay(FIRST_HEARTBEAT)
            .prune_backoff(PRUNE_BACKOFF)
            .backoff_slack(BACKOFF_SLACK)
            .unsubscribe_backoff(LEAVE_BACKOFF)
            .max_transmit_size(MAX_ENCODED_BYTES + FRAME_BYTES)
            .max_publish_messages(MAX_RPC_MESSAGES)
            .idontwant_message_size_threshold(TELL_BYTES)
            .connection_handler_queue_len(PEER_QUEUE)
            .build()
            .map_err(|error| error.to_string())?;
        let filter = MaxCountSubscriptionFilter {
            filter: Wanted(door.clone()),
            max_subscribed_topics: max_topics,
            // Those are counted one by one, which this filter does not tell of.
            max_subscriptions_per_request: usize::MAX,
        };
        let inner = gossipsub::Behaviour::new_with_subscription_filter_and_transform(
            MessageAuthenticity::Signed(keypair.clone()),
            config,
            filter,
            Doorkeeper(door.clone()),
        )?;
        let figures = traffic.gossip().clone();
        Ok(Self {
            inner,
            voice: Voice::silent(),
            door,
            figures,
            fresh: 0,
            mesh_read: now,
            left_out: false,
            max_topics,
            max_message,
        })
    }

    /// Joins a topic.
    ///
    /// # Errors
    /// When not all peers could be told at once; the topic is joined nevertheless and they are told later.
    pub(crate) fn join(&mut self, topic: &Topic) -> Result<bool, SubscriptionError> {
        self.door.lock().joined.insert(topic.ident().hash());
        let joined = self.inner.subscribe(&topic.ident());
        self.voice.raise();
        joined
    }

    /// Leaves it.
    pub(crate) fn leave(&mut self, topic: &Topic) {
        self.door.lock().joined.remove(&topic.ident().hash());
        self.figures.left(topic.as_str());
        self.inner.unsubscribe(&topic.ident());
    }

    /// Hands an encoded message to the peers on its topic.
    ///
    /// # Errors
    /// Gossipsub's.
    pub(crate) fn publish(&mut self, topic: &Topic, bytes: Vec<u8>) -> Result<MessageId, PublishError> {
        if bytes.len() > self.max_message {
            return Err(PublishError::MessageTooLarge);
        }
        self.inner.publish(topic.ident().hash(), bytes)
    }

    /// All connected peers that speak gossipsub, with their topics.
    pub(crate) fn all_peers(&self) -> impl Iterator<Item = (&PeerId, Vec<&TopicHash>)> {
        self.inner.all_peers()
    }

    /// Says hello to `peer` again, over the connection that is left of two.
    ///
    /// gossipsub's handlers of both take from one queue, and one that had nothing to send so far is not woken when there is something:
    /// messages would lie there until they are too old. With something in the queue the handler opens its stream as
    /// soon as it is woken by anything else. What makes gossipsub say hello is the news of a first connection.
    pub(crate) fn greet_again(&mut self, peer: PeerId, connection: ConnectionId, address: Multiaddr) {
        let endpoint =
            ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::New };
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: connection,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    /// The connected peers that have joined `topic`.
    pub(crate) fn subscribers(&self, topic: &Topic) -> Vec<PeerId> {
        let hash = topic.ident().hash();
        self.all_peers().filter(|(_, topics)| topics.contains(&&hash)).map(|(peer, _)| *peer).collect()
    }

    /// Those of them that every message of the topic is passed on to at once.
    pub(crate) fn mesh(&self, topic: &Topic) -> Vec<PeerId> {
        self.inner.mesh_peers(&topic.ident().hash()).copied().collect()
    }

    /// What becomes of a message that `from` has sent. One that is rejected is held against `from`.
    pub(crate) fn settle(&mut self, id: &MessageId, from: PeerId, acceptance: MessageAcceptance) {
        if matches!(acceptance, MessageAcceptance::Reject) {
            self.door.lock().neighbours.rubbish(from, Instant::now());
        }
        self.inner.report_message_validation_result(id, &from, acceptance);
    }

    /// Who is kept away. For a look or a change: the door stays locked meanwhile.
    pub(crate) fn blocklist<T>(&self, look: impl FnOnce(&mut Blocklist) -> T) -> T {
        look(&mut self.door.lock().neighbours.blocked)
    }

    /// Gossipsub takes none of an RPC's subscriptions when the peer would have too many, and tells nobody.
    fn count_refused_subscriptions(&self, peer: PeerId, last: &TopicHash, count: usize) {
        let Some((_, topics)) = self.inner.all_peers().find(|(known, _)| **known == peer) else { return };
        if topics.len() + count > self.max_topics && !topics.contains(&last) {
            self.door.lock().refusals.add(Refused::Subscription, count as u64);
        }
    }

    /// Reads the meshes, if it is time; returns what is to be told of them.
    fn measure(&mut self) -> Option<Heard> {
        let now = Instant::now();
        if now.saturating_duration_since(self.mesh_read) < MESH_READING {
            return None;
        }
        self.mesh_read = now;
        let admitted = self.door.lock().admitted;
        self.figures.set_duplicates(admitted.saturating_sub(self.fresh));
        let mesh = self.inner.topics().map(|topic| (topic.as_str(), self.inner.mesh_peers(topic).count()));
        self.figures.set_mesh(mesh);
        let left_out = self.is_left_out();
        let before = std::mem::replace(&mut self.left_out, left_out);
        // Twice in a row: a neighbour that has just come is about to be asked.
        (before || left_out).then_some(Heard::LeftOut(before && left_out))
    }

    fn is_left_out(&self) -> bool {
        let mut empty = self.inner.topics().filter(|topic| self.inner.mesh_peers(topic).next().is_none());
        empty.any(|topic| self.inner.all_peers().any(|(_, topics)| topics.contains(&topic)))
    }

    fn let_in(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        if self.blocklist(|blocklist| blocklist.contains(peer, Instant::now())) {
            return Err(ConnectionDenied::new(KeptAway));
        }
        Ok(())
    }
}

/// Why a connection is denied.
#[derive(Debug)]
pub(crate) struct KeptAway;

impl fmt::Display for KeptAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer is blocked; /blocked says for how long")
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
    /// Messages let through, new ones and others.
    admitted: u64,
    max_topics: usize,
    max_message: usize,
}

/// The RPC that gossipsub is reading.
struct Reading {
    from: PeerId,
    messages: usize,
    /// Subscriptions and their ends, those let through, and the topic of the last of these.
    subscriptions: usize,
    taken: usize,
    last_topic: Option<TopicHash>,
}

impl Door {
    fn admit(&mut self, raw: &RawMessage, now: Instant) -> Result<(), Refused> {
        // Messages come in RPCs only.
        let Some(reading) = &mut self.reading else { return Err(Refused::Message) };
        reading.messages += 1;
        if raw.data.len() > self.max_message {
            return Err(Refused::Message);
        }
        let joined = self.joined.contains(&raw.topic);
        self.neighbours.message(reading.from, raw.data.len(), joined, now)?;
        self.admitted += 1;
        Ok(())
    }

    /// Whether a subscription, this node's own or a peer's, may be.
    fn may_subscribe(&mut self, topic: &TopicHash) -> bool {
        let valid = topic.as_str().parse::<Topic>().is_ok();
        let Some(reading) = &mut self.reading else { return valid };
        reading.subscriptions += 1;
        let taken = valid && reading.subscriptions <= self.max_topics;
        if taken {
            reading.taken += 1;
            reading.last_topic = Some(topic.clone());
        } else {
            self.refusals.add(Refused::Subscription, 1);
        }
        taken
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

/// Takes only subscriptions to topics with a valid name, which bounds what each costs, and not too many in one RPC. How many a
/// peer may have is bounded by [`MaxCountSubscriptionFilter`] around it.
pub(crate) struct Wanted(SharedDoor);

impl TopicSubscriptionFilter for Wanted {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        self.0.lock().may_subscribe(topic)
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Reticent<THandler<Inner>>;
    type ToSwarm = Heard;

    pass_on!(pending_inbound, swarm_event);

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

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.let_in(peer)?;
        let handler = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(self.voice.wrap(handler))
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
        let handler = self.inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        Ok(self.voice.wrap(handler))
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // Else the handler tells of this side: which protocol it speaks, or what came too late for a slow peer.
        let is_rpc = matches!(event, Told::Message { .. });
        {
            let mut door = self.door.lock();
            // What was on its way when the neighbour was blocked; its connection is about to close.
            if door.neighbours.blocked.contains(peer, Instant::now()) {
                return;
            }
            // Their signature is wrong, or they have none; gossipsub drops them without a word.
            if let Told::Message { invalid_messages, .. } = &event {
                door.refusals.add(Refused::Message, invalid_messages.len() as u64);
            }
            door.reading =
                Some(Reading { from: peer, messages: 0, subscriptions: 0, taken: 0, last_topic: None });
        }
        self.inner.on_connection_handler_event(peer, connection, event);
        let mut door = self.door.lock();
        let Some(reading) = door.reading.take() else { return };
        if is_rpc && reading.messages == 0 {
            door.neighbours.silent(peer, Instant::now());
        }
        drop(door);
        if let Some(topic) = reading.last_topic {
            self.count_refused_subscriptions(peer, &topic, reading.taken);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.door.lock().neighbours.next_to_close() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Blocked(peer)));
        }
        let polled = self.inner.poll(cx);
        match &polled {
            Poll::Ready(ToSwarm::GenerateEvent(gossipsub::Event::Message { .. })) => self.fresh += 1,
            // All that was new has been told of.
            Poll::Pending => {
                if let Some(heard) = self.measure() {
                    return Poll::Ready(ToSwarm::GenerateEvent(heard));
                }
            }
            Poll::Ready(_) => {}
        }
        polled.map(|event| event.map_out(Heard::Event))
    }
}
