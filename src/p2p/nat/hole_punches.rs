//! Hole punching: libp2p's DCUtR, with a bound to what peers can make this node dial.
//!
//! Both sides of a relayed connection name addresses, and each dials what the other named. A stranger may name whom it likes, as
//! often as it likes: here not more than a few addresses, and not more often than it takes to get through.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::dcutr::{Behaviour, Event};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::asked_dials::AskedDials;
use crate::p2p::address::{self, Route, choice};
use crate::p2p::limits::{MAX_AUTHORS, RateLimiter};
use crate::p2p::metrics::{Refusals, Refused};
use crate::p2p::pass_on::pass_on;
use crate::token_bucket::{Rate, TokenBucket};

/// Attempts with one peer: a relayed connection has three, and there may be a few of them one after the other.
const ATTEMPTS: Rate = Rate::one_each(12, Duration::from_secs(10));
/// … and with all of them, since names cost a stranger nothing. The library keeps some 60 bytes of every attempt for ever: a megabyte a day
/// at the most.
const ATTEMPTS_OF_ALL: Rate = Rate::one_each(128, Duration::from_secs(5));
/// Addresses of one attempt: as many as the library itself tells.
const MAX_ADDRESSES: usize = 20;

/// See the module's comment.
pub(crate) struct HolePunches {
    inner: Behaviour,
    local: PeerId,
    /// Dials under way that peers have asked for.
    dialling: AskedDials,
    rates: RateLimiter,
    rate_of_all: TokenBucket,
    refusals: Arc<Refusals>,
}

impl HolePunches {
    pub(crate) fn new(local: PeerId, refusals: Arc<Refusals>) -> Self {
        Self {
            inner: Behaviour::new(local),
            local,
            dialling: AskedDials::default(),
            rates: RateLimiter::new(ATTEMPTS, MAX_AUTHORS),
            rate_of_all: TokenBucket::full(ATTEMPTS_OF_ALL, Instant::now()),
            refusals,
        }
    }

    fn may_try(&mut self, peer: PeerId, now: Instant) -> bool {
        self.rates.admit(peer, 1, now) && self.rate_of_all.take(1, now)
    }

    /// Whether `peer` may have these dialled.
    fn may_dial(&self, peer: PeerId, addresses: &[Multiaddr]) -> bool {
        let usable = |address: &Multiaddr| {
            address::ip(address).is_none_or(|ip| !ip.is_unspecified() && !ip.is_multicast())
                && Route::of(address).is_none_or(|route| !route.relayed)
        };
        peer != self.local
            && addresses.len() <= MAX_ADDRESSES
            && addresses.iter().all(usable)
            // Where it is seen on its own machine stands in an honest peer's list, too, but beside others.
            && !addresses.iter().all(choice::is_loopback)
    }
}

impl NetworkBehaviour for HolePunches {
    type ConnectionHandler = <Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    pass_on!(established);

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dialling.contains(id) && !peer.is_some_and(|peer| self.may_dial(peer, addresses)) {
            self.refusals.add(Refused::HolePunch, 1);
            return Err(AskedDials::deny());
        }
        Ok(Vec::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.dialling.on_swarm_event(&event);
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // Each is an attempt that begins, or has failed before it began.
        if !self.may_try(peer, Instant::now()) {
            self.refusals.add(Refused::HolePunch, 1);
            return;
        }
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let polled = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &polled {
            self.dialling.begin(opts.connection_id());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::instruments::P2pInstruments;

    fn hole_punches() -> HolePunches {
        let instruments = P2pInstruments::new(&opentelemetry::global::meter("test"));
        HolePunches::new(PeerId::random(), Refusals::new(instruments.refused))
    }

    fn ask(hole_punches: &mut HolePunches, peer: PeerId, addresses: &[&str]) -> bool {
        let id = ConnectionId::new_unchecked(7);
        hole_punches.dialling.begin(id);
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        hole_punches.handle_pending_outbound_connection(id, Some(peer), &addresses, Endpoint::Dialer).is_ok()
    }

    #[test]
    fn a_peer_may_name_a_few_addresses_and_not_only_those_of_this_machine() {
        let (peer, mut hole_punches) = (PeerId::random(), hole_punches());
        let (fine, loopback) = ("/ip4/203.0.113.7/tcp/4002", "/ip4/127.0.0.1/tcp/22");
        assert!(ask(
            &mut hole_punches,
            peer,
            &[fine, "/ip4/10.0.0.7/udp/4002/quic-v1", "/dns4/a.example/tcp/1"]
        ));
        assert!(ask(&mut hole_punches, peer, &[loopback, fine]));
        assert!(ask(&mut hole_punches, peer, &[fine; MAX_ADDRESSES]));
        assert!(!ask(&mut hole_punches, peer, &[fine; MAX_ADDRESSES + 1]));
        let relayed = format!("/ip4/203.0.113.7/tcp/4002/p2p/{}/p2p-circuit", PeerId::random());
        for wrong in ["/ip4/0.0.0.0/tcp/22", "/ip6/ff02::1/udp/5/quic-v1", &relayed] {
            assert!(!ask(&mut hole_punches, peer, &[fine, wrong]), "{wrong}");
        }
        assert!(!ask(&mut hole_punches, peer, &[loopback, "/ip6/::1/tcp/22"]));
        let myself = hole_punches.local;
        assert!(!ask(&mut hole_punches, myself, &[fine]));
        assert_eq!(hole_punches.refusals.counts()["hole_punch"], 6);
    }

    #[test]
    fn attempts_are_counted_by_peer_and_in_all() {
        let (mut hole_punches, now) = (hole_punches(), Instant::now());
        let tries = |hole_punches: &mut HolePunches, peer, count: usize| {
            (0..count).filter(|_| hole_punches.may_try(peer, now)).count()
        };
        assert_eq!(tries(&mut hole_punches, PeerId::random(), 100), 12);
        assert_eq!(tries(&mut hole_punches, PeerId::random(), 3), 3);
        let of_all: usize = (0..100).map(|_| tries(&mut hole_punches, PeerId::random(), 3)).sum();
        assert_eq!(of_all, 128 - 15);
    }

    #[test]
    fn other_dials_are_none_of_its_business() {
        let mut hole_punches = hole_punches();
        let addresses = ["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
        let id = ConnectionId::new_unchecked(8);
        assert!(
            hole_punches.handle_pending_outbound_connection(id, None, &addresses, Endpoint::Dialer).is_ok()
        );
    }
}
