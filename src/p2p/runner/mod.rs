//! The loop that owns the swarm: takes commands and network events, asks the pure parts what to do, and does it.

mod commands;
mod complaints;
mod connections;
mod dials;
mod find;
mod memory;
mod messages;
mod reach;
mod settling;
mod steering;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, ping};
use opentelemetry::KeyValue;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Sleep;

use self::complaints::Complaints;
use super::address::choice;
use super::behaviour::{Behaviour, BehaviourEvent};
use super::boxed::Boxed;
use super::command::Command;
use super::direct::Desk;
use super::event::{Event, GivenUp};
use super::gossip::Heard;
use super::handle::ConnectError;
use super::identity::Identity;
use super::limits::RateLimiter;
use super::metrics::{Refusals, Refused, Traffic};
use super::peers::{self, Action, Manager};
use super::relay;
use super::scout::Found;
use super::topics::Topic;
use super::transport::{self, Pace};
use crate::telemetry::catalogue;
use crate::telemetry::instruments::P2pInstruments;
use connections::Peer;
use find::Finding;
pub(crate) use memory::Memory;
pub(crate) use reach::Reach;
use settling::Settling;

/// How long a stopping node waits for its connections to close in good order.
const CLOSE_GRACE: Duration = Duration::from_millis(300);

/// … and for a slow disk.
const WRITE_GRACE: Duration = Duration::from_secs(2);

/// Events that are taken before messages are passed on.
const HEARD_OUT: usize = 64;

/// What a runner is made of.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Boxed<Behaviour>>,
    pub(crate) pace: Pace,
    pub(crate) manager: Manager,
    /// What happened while the listeners were bound.
    pub(crate) early: Vec<SwarmEvent<BehaviourEvent>>,
    pub(crate) reach: Reach,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) addresses: watch::Sender<Vec<Multiaddr>>,
    pub(crate) topics: BTreeSet<Topic>,
    pub(crate) instruments: P2pInstruments,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) traffic: Traffic,
    pub(crate) authors: RateLimiter,
    pub(crate) memory: Memory,
    pub(crate) desk: Arc<Desk>,
    pub(crate) identity: Identity,
}

pub(crate) struct Runner {
    swarm: Swarm<Boxed<Behaviour>>,
    /// How long each address of a dial waits.
    pace: Pace,
    manager: Manager,
    reach: Reach,
    /// What the manager is still to be told.
    inbox: VecDeque<peers::Event>,
    /// When the manager wants to be woken.
    manager_wake: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// What `timer` is set to; `None`: nothing to wait for.
    timer_at: Option<Instant>,
    peers: HashMap<PeerId, Peer>,
    /// Second connections with a peer, to be closed at that time.
    doubles: VecDeque<(Instant, PeerId)>,
    complaints: Complaints,
    /// Dials of the manager; bounded by the limit of pending outgoing connections, as are the next.
    managed: HashSet<ConnectionId>,
    /// Dials for `connect` commands.
    connecting: HashMap<ConnectionId, Connecting>,
    /// Peers that are being looked for.
    finding: HashMap<PeerId, Finding>,
    desk: Arc<Desk>,
    topics: BTreeSet<Topic>,
    authors: RateLimiter,
    settling: Settling,
    memory: Memory,
    events: broadcast::Sender<Event>,
    /// Where it can be reached, for those who follow that.
    addresses: watch::Sender<Vec<Multiaddr>>,
    instruments: P2pInstruments,
    refusals: Arc<Refusals>,
    traffic: Traffic,
    // The last two are dropped last: whoever sees the commands closed may use the data folder again.
    _identity: Identity,
    commands: mpsc::Receiver<Command>,
}

struct Connecting {
    address: Multiaddr,
    reply: oneshot::Sender<Result<PeerId, ConnectError>>,
}

impl Runner {
    pub(crate) fn new(mut parts: Parts) -> Self {
        let early = std::mem::take(&mut parts.early);
        catalogue::P2P_DIALS.start_at_zero(&parts.instruments.dials, dials::RESULTS);
        catalogue::P2P_HOLE_PUNCHES.start_at_zero(&parts.instruments.hole_punches, reach::PUNCH_RESULTS);
        let joined = parts.topics.iter().map(|topic| peers::Event::Joined(topic.clone(), Vec::new()));
        let known = parts.memory.known_addresses().into_iter();
        // Hearsay, since it is of another time.
        let known = known.map(|(peer, at)| peers::Event::Heard(peer, at, peers::Source::Hearsay));
        let mut runner = Self {
            inbox: joined.chain(known).chain([peers::Event::Wake]).collect(),
            swarm: parts.swarm,
            pace: parts.pace,
            manager: parts.manager,
            reach: parts.reach,
            manager_wake: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
            peers: HashMap::new(),
            doubles: VecDeque::new(),
            complaints: Complaints::default(),
            managed: HashSet::new(),
            connecting: HashMap::new(),
            finding: HashMap::new(),
            desk: parts.desk,
            topics: parts.topics,
            authors: parts.authors,
            settling: Settling::default(),
            memory: parts.memory,
            events: parts.events,
            addresses: parts.addresses,
            instruments: parts.instruments,
            refusals: parts.refusals,
            traffic: parts.traffic,
            _identity: parts.identity,
            commands: parts.commands,
        };
        for event in early {
            runner.on_swarm_event(event);
        }
        runner.tell_addresses();
        runner
    }

    /// Runs until a command or the last handle's end stops it.
    pub(crate) async fn run(mut self) {
        self.instruments.connected_peers.record(0, &[]);
        self.look_at_places(Instant::now());
        let stop = loop {
            self.consult_manager();
            self.set_timer();
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(reply)) => break Some(reply),
                    Some(command) => self.on_command(command),
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                () = self.settling.turn() => {
                    self.hear_out().await;
                    self.settle();
                }
                () = self.timer.as_mut(), if self.timer_at.is_some() => self.on_timer(),
            }
        };
        self.desk.stop().await;
        self.close().await;
        if let Some(reply) = stop {
            let _ = reply.send(());
        }
    }

    /// Takes from the swarm what it has read so far, before messages are passed on: neighbours that have sent one meanwhile need it no
    /// more. Not more than so many events, since there may always be another.
    async fn hear_out(&mut self) {
        for _ in 0..HEARD_OUT {
            let next = poll_fn(|cx| Poll::Ready(self.swarm.poll_next_unpin(cx))).await;
            let Poll::Ready(Some(event)) = next else { return };
            self.on_swarm_event(event);
        }
    }

    async fn close(&mut self) {
        let known = self.memory.write_known(Instant::now(), true);
        for topic in self.memory.waiting.topics() {
            self.give_up(&topic, GivenUp::Stopped);
        }
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().connection_counters().num_established() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_GRACE, closed).await;
        if let Some(known) = known {
            let _ = tokio::time::timeout(WRITE_GRACE, known).await;
        }
    }

    /// Tells the manager what has happened and does what it says, until it has nothing more to say.
    fn consult_manager(&mut self) {
        while let Some(event) = self.inbox.pop_front() {
            self.manager_wake = None;
            for action in self.manager.on_event(event, Instant::now()) {
                match action {
                    Action::Dial(peer, addresses) => self.dial(peer, addresses),
                    Action::Search => self.swarm.behaviour_mut().scout.search(),
                    Action::LookUp(topic) => self.swarm.behaviour_mut().scout.look_up(&topic),
                    Action::Close(peer) => {
                        tracing::debug!(%peer, "closing: more peers than wanted");
                        let _ = self.swarm.disconnect_peer_id(peer);
                    }
                    Action::WakeAt(at) => self.manager_wake = Some(at),
                }
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let schedule = transport::schedule(addresses);
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(schedule.iter().map(|(address, _)| address.clone()).collect());
        // From the listening port, two nodes that dial each other would meet in one TCP connection with two initiators; and a port pair
        // in TIME_WAIT would forbid the redial. A bootnode does not dial back, and where it sees this node is where others are to
        // knock when they make their way through a NAT.
        let seen_by_others = self.manager.is_bootnode(peer)
            && !schedule.iter().any(|(address, _)| choice::is_loopback(address));
        let options = if seen_by_others { options } else { options.allocate_new_port() }.build();
        let id = options.connection_id();
        match self.pace.during(schedule, || self.swarm.dial(options)) {
            Ok(()) => {
                self.managed.insert(id);
            }
            Err(error) => {
                self.instruments.dials.add(1, &[KeyValue::new("result", dials::result(&error))]);
                self.inbox.push_back(dials::outcome(peer, &error));
            }
        }
    }

    fn set_timer(&mut self) {
        let double = self.doubles.front().map(|(at, _)| *at);
        let others = [self.memory.wake_at(), self.complaints.wake_at()];
        let at = [self.manager_wake, double, self.reach.wake].into_iter().chain(others).flatten().min();
        if at != self.timer_at {
            self.timer_at = at;
            if let Some(at) = at {
                self.timer.as_mut().reset(at.into());
            }
        }
    }

    fn on_timer(&mut self) {
        self.timer_at = None;
        let now = Instant::now();
        self.close_doubles(now);
        self.expire_waiting(now);
        self.memory.write_known(now, false);
        self.look_at_places(now);
        if self.reach.wake.is_some_and(|at| at <= now) {
            self.consult_places(relay::Event::Wake);
        }
        if self.manager_wake.is_some_and(|at| at <= now) {
            self.inbox.push_back(peers::Event::Wake);
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let moves = matches!(
            event,
            SwarmEvent::NewListenAddr { .. }
                | SwarmEvent::ExpiredListenAddr { .. }
                | SwarmEvent::ListenerClosed { .. }
                | SwarmEvent::ExternalAddrConfirmed { .. }
                | SwarmEvent::ExternalAddrExpired { .. }
        );
        self.take_swarm_event(event);
        if moves {
            self.tell_addresses();
        }
    }

    fn take_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::trace!(peer = %peer_id, ?cause, "connection closed");
                self.on_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_error(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.on_incoming_error(&send_back_addr, &error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.on_listening(listener_id, address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listening_no_more(&address),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                tracing::info!(%address, "reachable from outside")
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. }
                if self.on_place_closed(listener_id, reason.as_ref().err()) => {}
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener failed; nobody can reach this node there any more");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a connection could not be accepted")
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(Heard::Event(event)) => self.on_gossipsub_event(event),
            BehaviourEvent::Gossip(Heard::Blocked(peer)) => self.on_blocked(peer),
            BehaviourEvent::Gossip(Heard::LeftOut(so)) => self.inbox.push_back(peers::Event::LeftOut(so)),
            BehaviourEvent::Scout(Found::Peer(peer, addresses)) => {
                self.on_hearsay(peer, &addresses);
            }
            BehaviourEvent::Scout(Found::Members(topic, members)) => {
                self.inbox.push_back(peers::Event::Members(topic, members));
            }
            BehaviourEvent::Scout(Found::Ended(peer)) => self.on_search_ended(peer),
            BehaviourEvent::Direct(arrived) => self.desk.take(arrived),
            BehaviourEvent::Scout(Found::RecordRefused) => self.refusals.add(Refused::Record, 1),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => {
                self.on_ping(peer, connection, result);
            }
            other => self.on_reach_event(other),
        }
    }

    fn on_gossipsub_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.on_message(propagation_source, &message_id, &message);
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } => {
                if let Ok(topic) = topic.as_str().parse() {
                    self.on_subscribed(peer_id, topic);
                }
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                if let Ok(topic) = topic.as_str().parse::<Topic>() {
                    self.swarm.behaviour_mut().scout.left(peer_id, &topic);
                    self.inbox.push_back(peers::Event::Unsubscribed(peer_id, topic.clone()));
                    self.announce(Event::PeerLeftTopic { peer: peer_id, topic });
                }
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => {
                tracing::debug!(peer = %peer_id, "the peer takes messages too slowly; some were dropped");
                self.refusals.add(Refused::SlowPeer, 1);
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "the peer does not speak gossipsub");
            }
        }
    }

    fn on_subscribed(&mut self, peer: PeerId, topic: Topic) {
        // The connection it came on may be closed by now; then nobody would ever take the entry out again.
        if self.peers.contains_key(&peer) {
            if !self.swarm.behaviour_mut().scout.joined(peer, &topic) {
                self.refusals.add(Refused::Record, 1);
            }
            self.inbox.push_back(peers::Event::Subscribed(peer, topic.clone()));
        }
        self.announce(Event::PeerJoinedTopic { peer, topic: topic.clone() });
        self.hand_on_waiting(&topic);
    }

    /// Tells the subscribers; without any there is nobody to tell.
    fn announce(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
