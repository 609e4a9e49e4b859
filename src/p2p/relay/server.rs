//! The relay: libp2p's, with what it refuses counted and its figures kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::relay::{self, Config, Status};
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm};
use libp2p::{Multiaddr, PeerId};

use super::RelayConfig;
use crate::p2p::limits::{MAX_AUTHORS, RateLimiter};
use crate::p2p::metrics::{Refusals, Refused};
use crate::p2p::pass_on::pass_on;
use crate::telemetry::instruments::P2pInstruments;
use crate::token_bucket::Rate;

/// Places that one peer may ask for: it needs one an hour, and some while its connection is a bad one.
const RESERVATIONS: Rate = Rate::one_each(20, Duration::from_secs(15));
/// Connections that one peer may ask for: as many as it may have, and one a second when they fail.
const CIRCUITS: Rate = Rate::one_each(64, Duration::from_secs(1));

/// See the module's comment.
pub(crate) struct Server {
    inner: relay::Behaviour,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    reservations: HashSet<PeerId>,
    /// Connections passed on, by who asked for them and to whom.
    circuits: HashMap<(PeerId, PeerId), u32>,
    refusals: Arc<Refusals>,
    instruments: P2pInstruments,
}

impl Server {
    pub(crate) fn new(
        local: PeerId,
        config: &RelayConfig,
        refusals: Arc<Refusals>,
        instruments: P2pInstruments,
    ) -> Self {
        let by_peer = |rate: Rate| -> Box<dyn relay::RateLimiter> {
            let mut limiter = RateLimiter::new(rate, MAX_AUTHORS);
            Box::new(move |peer: PeerId, _: &Multiaddr, now: Instant| limiter.admit(peer, 1, now))
        };
        let mut inner = relay::Behaviour::new(
            local,
            Config {
                max_reservations: config.max_reservations as usize,
                // A peer has one connection, and for a moment two.
                max_reservations_per_peer: 2,
                reservation_duration: config.reservation_duration,
                reservation_rate_limiters: vec![by_peer(RESERVATIONS)],
                max_circuits: config.max_circuits as usize,
                // The library allows one more than it is told.
                max_circuits_per_peer: config.max_circuits_per_peer.saturating_sub(1) as usize,
                max_circuit_duration: config.max_circuit_duration,
                max_circuit_bytes: config.max_circuit_bytes,
                circuit_src_rate_limiters: vec![by_peer(CIRCUITS)],
            },
        );
        // Not to depend on whether somebody has confirmed an address from outside.
        inner.set_status(Some(Status::Enable));
        let server = Self {
            inner,
            connections: HashMap::new(),
            reservations: HashSet::new(),
            circuits: HashMap::new(),
            refusals,
            instruments,
        };
        server.measure();
        server
    }

    fn measure(&self) {
        self.instruments.relay_reservations.record(self.reservations.len() as u64, &[]);
        let circuits: u64 = self.circuits.values().map(|count| u64::from(*count)).sum();
        self.instruments.relay_circuits.record(circuits, &[]);
    }

    fn note(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.reservations.insert(*src_peer_id);
            }
            // The library tells this of each connection that is closed, whether it was the one with the place or another.
            relay::Event::ReservationClosed { src_peer_id }
                if !self.connections.contains_key(src_peer_id) =>
            {
                self.reservations.remove(src_peer_id);
            }
            relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reservations.remove(src_peer_id);
                self.keep_known(*src_peer_id);
            }
            relay::Event::ReservationReqDenied { src_peer_id, .. } => {
                tracing::debug!(peer = %src_peer_id, "a place at this relay was refused");
                self.refusals.add(Refused::Reservation, 1);
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?status, "a relayed connection was refused");
                self.refusals.add(Refused::Circuit, 1);
            }
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                *self.circuits.entry((*src_peer_id, *dst_peer_id)).or_default() += 1;
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, error } => {
                self.circuit_closed((*src_peer_id, *dst_peer_id));
                match error.as_ref().map(std::io::Error::kind) {
                    Some(std::io::ErrorKind::TimedOut) => self.refusals.add(Refused::CircuitTime, 1),
                    // The library's word for too many bytes; errors of the connections have kinds of their own.
                    Some(std::io::ErrorKind::Other)
                        if error
                            .as_ref()
                            .is_some_and(|error| error.to_string().contains("circuit bytes")) =>
                    {
                        self.refusals.add(Refused::CircuitBytes, 1);
                    }
                    _ => {}
                }
            }
            _ => return,
        }
        self.measure();
    }

    /// The library tells the end of a connection twice when it is the other side's that was lost: the second is of none.
    fn circuit_closed(&mut self, between: (PeerId, PeerId)) {
        if let Some(count) = self.circuits.get_mut(&between) {
            *count -= 1;
            if *count == 0 {
                self.circuits.remove(&between);
            }
        }
    }

    /// The library forgets a connection whose place has run out, and panics when a renewal that was under way then comes to its
    /// end. So it is told of the connection once more.
    fn keep_known(&mut self, peer: PeerId) {
        let endpoint =
            ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: Multiaddr::empty() };
        for connection in self.connections.get(&peer).into_iter().flatten() {
            self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: *connection,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
    }
}

impl NetworkBehaviour for Server {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    pass_on!(established, handler_event);

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::ConnectionEstablished(made) => {
                self.connections.entry(made.peer_id).or_default().push(made.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(connections) = self.connections.get_mut(&closed.peer_id) {
                    connections.retain(|id| *id != closed.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&closed.peer_id);
                    }
                }
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let polled = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::GenerateEvent(event)) = &polled {
            self.note(event);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_until_the_last_connection_of_its_peer_is_closed() {
        let instruments = P2pInstruments::new(&opentelemetry::global::meter("test"));
        let refusals = Refusals::new(instruments.refused.clone());
        let mut server = Server::new(PeerId::random(), &RelayConfig::of_bootnode(), refusals, instruments);
        let peer = PeerId::random();
        let closed = relay::Event::ReservationClosed { src_peer_id: peer };
        server.connections.insert(peer, vec![ConnectionId::new_unchecked(1)]);
        server.note(&relay::Event::ReservationReqAccepted { src_peer_id: peer, renewed: false });
        // Of a second connection, which is there no more.
        server.note(&closed);
        assert_eq!(server.reservations.len(), 1);
        server.connections.remove(&peer);
        server.note(&closed);
        assert_eq!(server.reservations.len(), 0);
    }
}
