//! AutoNAT v2's asking side: libp2p's, with a bound to what peers can make it ask.

use std::collections::{HashSet, VecDeque};
use std::task::{Context, Poll};

use libp2p::autonat::v2::client::{Behaviour, Config};
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm};
use libp2p::{Multiaddr, PeerId};

use super::Tried;
use crate::p2p::pass_on::pass_on;

/// Addresses looked into, all in all. Every peer says where it sees this node, and may say what it likes; honest ones say the
/// few addresses that there are.
const MAX_CANDIDATES: usize = 32;

type Inner = Behaviour<rand::rngs::StdRng>;

/// See the module's comment.
pub(crate) struct Probes {
    inner: Inner,
    candidates: HashSet<Multiaddr>,
    tried: VecDeque<Tried>,
}

impl Probes {
    pub(crate) fn new() -> Self {
        Self {
            inner: Behaviour::new(rand::make_rng(), Config::default()),
            candidates: HashSet::new(),
            tried: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Probes {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Tried;

    pass_on!(established);

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event
            && !self.candidates.contains(candidate.addr)
        {
            if self.candidates.len() >= MAX_CANDIDATES {
                return;
            }
            self.candidates.insert(candidate.addr.clone());
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // What the inbound side has to tell is that somebody has dialled back.
        if event.is_right() {
            self.tried.push_back(Tried { peer, connection });
        }
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(tried) = self.tried.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(tried));
        }
        loop {
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    tracing::debug!(address = %event.tested_addr, by = %event.server, result = ?event.result, "asked whether this node can be reached");
                }
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("taken by the arm above")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
