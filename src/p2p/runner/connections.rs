//! Connections: who is connected, how dials ended, and which of two connections with one peer stays.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError, ListenError};
use libp2p::{Multiaddr, PeerId, TransportError, identify, ping};
use opentelemetry::KeyValue;

use super::{Runner, dials, reach};
use crate::p2p::address::{Route, choice};
use crate::p2p::event::Event;
use crate::p2p::gossip::KeptAway;
use crate::p2p::handle::{ConnectError, Direction, Path, PeerInfo};
use crate::p2p::limits::NotAdmitted;
use crate::p2p::metrics::{Open, PeerTraffic, Refused};
use crate::p2p::peers::Source;
use crate::p2p::{peers, relay, scout};

/// A second connection lives this long: by then both sides have sent their subscriptions, which gossipsub sends once per
/// peer and which would be lost with the connection they were sent on.
const DOUBLE_GRACE: Duration = Duration::from_secs(1);
/// A connection on which so many pings in a row are reported as failed is dead. The first that fails after a good one is not
/// reported, so this is the third without an answer.
const MAX_PING_FAILURES: u32 = 2;
/// Characters taken of what a peer calls its program.
const MAX_AGENT_CHARS: usize = 64;

/// A connected peer.
pub(super) struct Peer {
    pub(super) traffic: Arc<PeerTraffic>,
    since: SystemTime,
    /// At most two, by the connection limits; in order of age.
    connections: Vec<Connection>,
    latency: Option<Duration>,
    agent: Option<String>,
    ping_failures: u32,
}

struct Connection {
    id: ConnectionId,
    direction: Direction,
    address: Multiaddr,
    relayed: bool,
    route: Option<Route>,
    /// Counts it as long as it is here.
    _open: Option<Open>,
    /// Made for nothing but to see whether it can be made.
    tried: bool,
}

impl Runner {
    pub(super) fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
        self.managed.remove(&id);
        if direction == Direction::Outbound {
            self.instruments.dials.add(1, &[KeyValue::new("result", "ok")]);
        }
        let address = reach::address_of(endpoint, peer);
        let route = route(endpoint);
        let open = route.map(|route| self.traffic.connections().open(route, direction));
        let relayed = endpoint.is_relayed();
        let connection = Connection { id, direction, address, relayed, route, _open: open, tried: false };
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.push(connection);
            known.tell_path();
            self.doubles.push_back((Instant::now() + DOUBLE_GRACE, peer));
        } else {
            let traffic = self.traffic.of(peer);
            let since = SystemTime::now();
            traffic.connected(since);
            let address = connection.address.clone();
            let connections = vec![connection];
            let new = Peer { traffic, since, connections, latency: None, agent: None, ping_failures: 0 };
            new.tell_path();
            self.peers.insert(peer, new);
            self.count_peers();
            self.complaints.reached(peer);
            self.inbox.push_back(peers::Event::Connected(peer, direction));
            self.desk.connected(peer);
            tracing::debug!(%peer, %address, ?direction, "connected");
            self.announce(Event::PeerConnected { peer, address });
        }
        self.found(peer);
        if let Some(connecting) = self.connecting.remove(&id) {
            self.inbox.push_back(peers::Event::Wanted(peer));
            let _ = connecting.reply.send(Ok(peer));
        }
    }

    pub(super) fn on_closed(&mut self, peer: PeerId, id: ConnectionId, remaining: u32) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.retain(|connection| connection.id != id);
            known.tell_path();
            if let Some(left) = known.connections.first() {
                self.inbox.push_back(peers::Event::Connected(peer, left.direction));
                self.swarm.behaviour_mut().left_of_two(peer, left.id, left.address.clone());
            }
        }
        if remaining == 0 && self.peers.remove(&peer).is_some() {
            self.count_peers();
            self.swarm.behaviour_mut().scout.forget(peer);
            self.inbox.push_back(peers::Event::Disconnected(peer));
            self.consult_places(relay::Event::Gone(peer));
            tracing::debug!(%peer, "disconnected");
            self.announce(Event::PeerDisconnected { peer });
        }
    }

    fn count_peers(&self) {
        self.instruments.connected_peers.record(self.peers.len() as u64, &[]);
    }

    /// Closes one of two connections with the same peer, once they have lived side by side long enough.
    pub(super) fn close_doubles(&mut self, now: Instant) {
        while self.doubles.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, peer)) = self.doubles.pop_front() else { return };
            let local = *self.swarm.local_peer_id();
            if let Some(loser) = self.peers.get(&peer).and_then(|known| known.loser(local, peer)) {
                tracing::debug!(%peer, "closing the second connection");
                self.swarm.close_connection(loser);
            }
        }
    }

    pub(super) fn on_dial_error(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        self.instruments.dials.add(1, &[KeyValue::new("result", dials::result(error))]);
        tracing::debug!(peer = peer.map(tracing::field::display), reason = describe(error), "dial failed");
        if let Some(peer) = peer {
            if self.managed.remove(&id) {
                let outcome = dials::outcome(peer, error);
                if matches!(outcome, peers::Event::DialFailed(_)) && self.manager.is_bootnode(peer) {
                    self.complaints.failed(peer, error);
                }
                self.inbox.push_back(outcome);
            }
            self.not_found(peer, describe(error));
        }
        if let Some(connecting) = self.connecting.remove(&id) {
            let reason = describe(error);
            let _ = connecting.reply.send(Err(match error {
                DialError::LocalPeerId { .. } => ConnectError::Myself(connecting.address),
                _ => ConnectError::Failed { address: connecting.address, reason },
            }));
        }
    }

    pub(super) fn on_incoming_error(&mut self, from: &Multiaddr, error: &ListenError) {
        let what = match error {
            ListenError::Denied { cause } if let Some(NotAdmitted(what)) = cause.downcast_ref() => *what,
            ListenError::Denied { cause } if cause.downcast_ref::<KeptAway>().is_some() => Refused::Blocked,
            ListenError::Denied { .. } => Refused::Connection,
            _ => Refused::Handshake,
        };
        self.refusals.add(what, 1);
        tracing::debug!(%from, %error, "inbound connection refused");
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        self.look_for_relay(peer, info);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.agent = Some(info.agent_version.chars().take(MAX_AGENT_CHARS).collect());
        if !info.protocols.contains(&scout::PROTOCOL) {
            return;
        }
        let Some(connection) = known.connections.first() else { return };
        let mut addresses = choice::of_itself(&info.listen_addrs, peer, &connection.address);
        if connection.direction == Direction::Outbound
            && let Some(dialled) = choice::dialable(&connection.address, peer)
        {
            // Nothing says better where it can be reached than having reached it there.
            addresses.retain(|address| *address != dialled);
            addresses.insert(0, dialled);
            addresses.truncate(choice::MAX_ADDRESSES);
        }
        self.swarm.behaviour_mut().scout.add(peer, &addresses);
        if !self.manager.is_bootnode(peer) {
            self.memory.met(peer, &addresses);
        }
        self.inbox.push_back(peers::Event::Heard(peer, addresses, Source::Itself));
        self.inbox.push_back(peers::Event::CanSearch);
    }

    /// Somebody says where a peer is.
    pub(super) fn on_hearsay(&mut self, peer: PeerId, told: &[Multiaddr]) {
        let near = self
            .peers
            .values()
            .filter_map(|known| known.connections.first())
            .any(|connection| choice::is_loopback(&connection.address));
        let addresses = choice::of_hearsay(told, peer, near);
        self.heard_where(peer, &addresses);
        self.inbox.push_back(peers::Event::Heard(peer, addresses, Source::Hearsay));
    }

    pub(super) fn on_ping(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        result: Result<Duration, ping::Failure>,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        match result {
            Ok(round_trip) => {
                known.ping_failures = 0;
                known.latency = Some(round_trip);
                known.traffic.latency(round_trip);
                self.instruments.round_trip.record(round_trip.as_secs_f64(), &[]);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                known.ping_failures += 1;
                if known.ping_failures >= MAX_PING_FAILURES {
                    tracing::debug!(%peer, %error, "closing: the peer answers no pings");
                    self.swarm.close_connection(id);
                }
            }
        }
    }

    /// All connected peers, those connected longest first.
    pub(super) fn peer_infos(&self) -> Vec<PeerInfo> {
        let mut infos: Vec<PeerInfo> = self
            .peers
            .iter()
            .filter_map(|(peer, known)| {
                // Of two, a direct one is about to replace the other.
                let connection = known.connections.iter().min_by_key(|connection| connection.relayed)?;
                let (bytes_sent, bytes_received) = known.traffic.bytes();
                let since = known.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Some(PeerInfo {
                    peer_id: *peer,
                    address: connection.address.clone(),
                    transport: connection.route.map(|route| route.transport.as_str().to_owned()),
                    path: if connection.relayed { Path::Relayed } else { Path::Direct },
                    bytes_sent,
                    bytes_received,
                    direction: connection.direction,
                    connections: known.connections.len(),
                    connected_since: since.as_secs(),
                    latency_ms: known.latency.map(|latency| latency.as_secs_f64() * 1e3),
                    agent: known.agent.clone(),
                    bootnode: self.manager.is_bootnode(*peer),
                    topics: self.topics_of(*peer),
                })
            })
            .collect();
        infos.sort_by_key(|info| (info.connected_since, info.peer_id));
        infos
    }
}

/// How a connection runs; for an inbound one the listener tells.
fn route(endpoint: &ConnectedPoint) -> Option<Route> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => Route::of(address),
        ConnectedPoint::Listener { local_addr, .. } => Route::of(local_addr),
    }
}

impl Peer {
    /// Tells the metrics whether there is a way without a relay.
    fn tell_path(&self) {
        self.traffic.set_relayed(self.connections.iter().all(|connection| connection.relayed));
    }

    /// A connection turns out to have been made for nothing but to see whether it can be made.
    pub(super) fn mark_tried(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.tried = true;
        }
    }

    /// Where it is reached without a relay, and whether this node found it there.
    pub(super) fn direct_address(&self) -> Option<(Multiaddr, bool)> {
        let direct = self.connections.iter().find(|connection| !connection.relayed && !connection.tried)?;
        Some((direct.address.clone(), direct.direction == Direction::Outbound))
    }

    /// Of two connections, the one to close; both sides come to the same answer. One that was made to see whether it can be made goes
    /// first, and a relayed one gives way to a direct one. Of two that the sides opened towards each other,
    /// the one opened by the peer with the greater id; of two opened by the same side, the older one: whoever dials again
    /// has lost the first.
    fn loser(&self, local: PeerId, peer: PeerId) -> Option<ConnectionId> {
        let [first, second, ..] = self.connections.as_slice() else { return None };
        for worse in
            [|connection: &Connection| connection.tried, |connection: &Connection| connection.relayed]
        {
            match (worse(first), worse(second)) {
                (true, false) => return Some(first.id),
                (false, true) => return Some(second.id),
                _ => {}
            }
        }
        if first.direction == second.direction {
            return Some(first.id);
        }
        let losing = if local < peer { Direction::Inbound } else { Direction::Outbound };
        Some(if first.direction == losing { first.id } else { second.id })
    }
}

/// The reason in words, without the wrapping that every layer adds.
pub(super) fn describe(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, .. } => format!("another node is there: {obtained}"),
        DialError::Transport(errors) => match errors.first() {
            Some((_, TransportError::MultiaddrNotSupported(_))) => {
                "the address is not of a kind this node can dial".to_owned()
            }
            Some((_, TransportError::Other(error))) => innermost(error),
            None => "no address answered".to_owned(),
        },
        DialError::Denied { cause } => innermost(cause),
        other => other.to_string(),
    }
}

pub(super) fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
