//! AutoNAT v2's answering side: libp2p's, but nobody can make it dial a third party.
//!
//! The protocol lets a client name any address, if it pays with some data. Here it must be of the host that the client is seen at:
//! a bootnode is no means to knock on doors of others, or of the network that it stands in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::autonat::v2::server::Behaviour;
use libp2p::core::Endpoint;
use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm};
use libp2p::{Multiaddr, PeerId};

use super::Tried;
use super::asked_dials::AskedDials;
use crate::p2p::address;
use crate::p2p::limits::{MAX_AUTHORS, RateLimiter};
use crate::p2p::metrics::{Refusals, Refused};
use crate::p2p::pass_on::pass_on;
use crate::token_bucket::Rate;

/// Dials for one peer: it has a few addresses to be tried when it starts, and new ones hardly ever.
const DIALS: Rate = Rate::one_each(16, Duration::from_secs(30));

type Inner = Behaviour<rand::rngs::StdRng>;

/// See the module's comment.
pub(crate) struct DialBacks {
    inner: Inner,
    /// Where each connected peer is seen.
    seen: HashMap<ConnectionId, (PeerId, IpAddr)>,
    /// Dials under way for clients.
    dialling: AskedDials,
    rates: RateLimiter,
    refusals: Arc<Refusals>,
    tried: Option<Tried>,
}

impl DialBacks {
    pub(crate) fn new(refusals: Arc<Refusals>) -> Self {
        Self {
            inner: Behaviour::new(rand::make_rng()),
            seen: HashMap::new(),
            dialling: AskedDials::default(),
            rates: RateLimiter::new(DIALS, MAX_AUTHORS),
            refusals,
            tried: None,
        }
    }

    fn may_dial(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) -> bool {
        let is_its_own = |address: &Multiaddr| {
            address::ip(address)
                .is_some_and(|ip| self.seen.values().any(|(client, seen)| *client == peer && *seen == ip))
                && address::Route::of(address).is_some_and(|route| !route.relayed)
        };
        addresses.iter().all(is_its_own) && self.rates.admit(peer, 1, now)
    }
}

impl NetworkBehaviour for DialBacks {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Tried;

    pass_on!(established, handler_event);

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dialling.contains(id)
            && !peer.is_some_and(|peer| self.may_dial(peer, addresses, Instant::now()))
        {
            self.refusals.add(Refused::DialBack, 1);
            return Err(AskedDials::deny());
        }
        Ok(Vec::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let asked_for = self.dialling.on_swarm_event(&event);
        match &event {
            FromSwarm::ConnectionEstablished(made) => {
                if asked_for {
                    self.tried = Some(Tried { peer: made.peer_id, connection: made.connection_id });
                }
                if let Some(ip) = address::ip(made.endpoint.get_remote_address()) {
                    self.seen.insert(made.connection_id, (made.peer_id, ip));
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.seen.remove(&closed.connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(tried) = self.tried.take() {
            return Poll::Ready(ToSwarm::GenerateEvent(tried));
        }
        loop {
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    tracing::debug!(client = %event.client, address = %event.tested_addr, "dialled back");
                }
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    self.dialling.begin(opts.connection_id());
                    return Poll::Ready(ToSwarm::Dial { opts });
                }
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("taken by the arm above")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::instruments::P2pInstruments;

    fn with_client(peer: PeerId, ip: &str) -> DialBacks {
        let instruments = P2pInstruments::new(&opentelemetry::global::meter("test"));
        let mut dial_backs = DialBacks::new(Refusals::new(instruments.refused));
        dial_backs.seen.insert(ConnectionId::new_unchecked(1), (peer, ip.parse().unwrap()));
        dial_backs
    }

    fn ask(dial_backs: &mut DialBacks, peer: PeerId, address: &str) -> bool {
        let id = ConnectionId::new_unchecked(7);
        dial_backs.dialling.begin(id);
        let addresses = [address.parse().unwrap()];
        dial_backs.handle_pending_outbound_connection(id, Some(peer), &addresses, Endpoint::Dialer).is_ok()
    }

    #[test]
    fn a_client_has_its_own_host_dialled_and_nobody_elses() {
        let (client, other) = (PeerId::random(), PeerId::random());
        let mut dial_backs = with_client(client, "203.0.113.7");
        assert!(ask(&mut dial_backs, client, "/ip4/203.0.113.7/tcp/4002"));
        let relayed = format!("/ip4/203.0.113.7/tcp/4002/p2p/{other}/p2p-circuit");
        for elsewhere in
            ["/ip4/203.0.113.8/tcp/4002", "/ip4/127.0.0.1/tcp/22", "/dns4/localhost/tcp/22", &relayed]
        {
            assert!(!ask(&mut dial_backs, client, elsewhere), "{elsewhere}");
        }
        assert!(!ask(&mut dial_backs, other, "/ip4/203.0.113.7/tcp/4002"));
        assert_eq!(dial_backs.refusals.counts()["dial_back"], 5);
    }

    #[test]
    fn a_client_that_asks_without_end_is_refused() {
        let client = PeerId::random();
        let mut dial_backs = with_client(client, "203.0.113.7");
        let granted = (0..100).filter(|_| ask(&mut dial_backs, client, "/ip4/203.0.113.7/tcp/4002")).count();
        assert_eq!(granted, 16);
    }

    #[test]
    fn other_dials_are_none_of_its_business() {
        let mut dial_backs = with_client(PeerId::random(), "203.0.113.7");
        let id = ConnectionId::new_unchecked(8);
        let addresses = ["/ip4/198.51.100.1/tcp/1".parse().unwrap()];
        let dial = dial_backs.handle_pending_outbound_connection(id, None, &addresses, Endpoint::Dialer);
        assert!(dial.is_ok());
    }
}
