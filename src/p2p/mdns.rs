//! Peers on the local network, found by multicast DNS: libp2p's, with a bound to what it remembers.
//!
//! Anybody on the local network can send answers, with as many names as fit and a lifetime of years. What is found are candidates for the
//! connection manager, whose number is bounded; libp2p's own list is thrown away when it grows beyond [`MAX_FOUND`].

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::ListenerId;
use libp2p::mdns::{self, Config, tokio::Behaviour};
use libp2p::swarm::behaviour::NewListenAddr;
use libp2p::swarm::{FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm};
use libp2p::{Multiaddr, PeerId};

use super::metrics::{Refusals, Refused};
use super::pass_on::pass_on;

/// Names with an address that libp2p may remember. A local network of some hundred nodes with a few addresses each is below.
const MAX_FOUND: usize = 2_048;

/// A peer, and where it says it is.
#[derive(Debug)]
pub(crate) struct Found(pub(crate) PeerId, pub(crate) Vec<Multiaddr>);

/// See the module's comment.
pub(crate) struct LocalNetwork {
    local: PeerId,
    inner: Behaviour,
    /// What this node listens on: a new list must be told.
    listens: Vec<(ListenerId, Multiaddr)>,
    found: Vec<Found>,
    refusals: Arc<Refusals>,
}

impl LocalNetwork {
    /// # Errors
    /// When the system does not tell of its network interfaces.
    pub(crate) fn new(local: PeerId, refusals: Arc<Refusals>) -> io::Result<Self> {
        let inner = Behaviour::new(Config::default(), local)?;
        Ok(Self { local, inner, listens: Vec::new(), found: Vec::new(), refusals })
    }

    fn start_anew(&mut self) {
        tracing::warn!("more than {MAX_FOUND} names on the local network; forgetting all of them");
        self.refusals.add(Refused::LocalName, MAX_FOUND as u64);
        match Behaviour::new(Config::default(), self.local) {
            Ok(new) => self.inner = new,
            Err(error) => tracing::error!(%error, "discovery on the local network cannot be started again"),
        }
        for (listener_id, addr) in &self.listens {
            let listener_id = *listener_id;
            self.inner.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
        }
    }

    fn take_note(&mut self, discovered: Vec<(PeerId, Multiaddr)>) {
        let mut peers: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in discovered {
            peers.entry(peer).or_default().push(address);
        }
        self.found.extend(peers.into_iter().map(|(peer, addresses)| Found(peer, addresses)));
    }
}

impl NetworkBehaviour for LocalNetwork {
    type ConnectionHandler = <Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Found;

    pass_on!(established, handler_event);

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::NewListenAddr(new) => self.listens.push((new.listener_id, new.addr.clone())),
            FromSwarm::ExpiredListenAddr(old) => {
                self.listens.retain(|(id, address)| (*id, address) != (old.listener_id, old.addr));
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(found) = self.found.pop() {
                return Poll::Ready(ToSwarm::GenerateEvent(found));
            }
            let polled = self.inner.poll(cx);
            if self.inner.discovered_nodes().len() > MAX_FOUND {
                self.start_anew();
            }
            match polled {
                Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Discovered(found))) => self.take_note(found),
                // The manager finds out by itself who is gone, and the addresses came with the event.
                Poll::Ready(ToSwarm::GenerateEvent(_) | ToSwarm::NewExternalAddrOfPeer { .. }) => {}
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("taken by the arms above")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
