//! How many connections there may be: in all, inbound, with one peer, and such as are only being made.
//!
//! libp2p has a behaviour for that, too, but it remembers every peer that was ever connected, and peers cost nothing.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::max_connections;
use crate::p2p::config::NodeConfig;

/// Why a connection is not made or not kept: there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Handshakes under way that strangers began.
    PendingInbound,
    /// Those that this node began.
    PendingOutbound,
    /// Connections that others opened.
    Inbound,
    /// Connections with this peer.
    OfPeer,
    /// Connections, whoever opened them.
    Total,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingInbound => "too many others are connecting to this node",
            Self::PendingOutbound => "this node is making too many connections already",
            Self::Inbound => "this node has as many inbound connections as it may have",
            Self::OfPeer => "this node has as many connections with that peer as it may have",
            Self::Total => "this node has as many connections as it may have",
        })
    }
}

impl std::error::Error for TooMany {}

/// The most there may be of each.
#[derive(Debug, Clone, Copy)]
struct Most {
    pending_inbound: u32,
    pending_outbound: u32,
    inbound: u32,
    of_peer: u32,
    total: u32,
}

/// See the module's comment.
pub(crate) struct Connections {
    most: Most,
    pending_inbound: HashSet<ConnectionId>,
    pending_outbound: HashSet<ConnectionId>,
    inbound: HashSet<ConnectionId>,
    /// How many each connected peer has. What is in here is bounded by the total.
    of_peer: HashMap<PeerId, u32>,
    total: u32,
}

impl Connections {
    /// Of the total, `low_peers` are kept for connections that this node chose itself, so that strangers cannot fill every
    /// place (eclipse).
    pub(crate) fn new(config: &NodeConfig) -> Self {
        let total = max_connections(config);
        Self {
            most: Most {
                pending_inbound: config.limits.pending_inbound,
                pending_outbound: config.limits.pending_outbound,
                inbound: total.saturating_sub(config.low_peers).max(1),
                of_peer: config.limits.connections_per_peer,
                total,
            },
            pending_inbound: HashSet::new(),
            pending_outbound: HashSet::new(),
            inbound: HashSet::new(),
            of_peer: HashMap::new(),
            total: 0,
        }
    }

    fn may_establish(&self, peer: PeerId, inbound: bool) -> Result<(), TooMany> {
        if inbound && self.inbound.len() >= self.most.inbound as usize {
            Err(TooMany::Inbound)
        } else if self.of_peer.get(&peer).is_some_and(|count| *count >= self.most.of_peer) {
            Err(TooMany::OfPeer)
        } else if self.total >= self.most.total {
            Err(TooMany::Total)
        } else {
            Ok(())
        }
    }

    fn established(&mut self, id: ConnectionId, peer: PeerId, inbound: bool) {
        if inbound {
            self.inbound.insert(id);
        }
        *self.of_peer.entry(peer).or_default() += 1;
        self.total += 1;
    }

    fn closed(&mut self, id: ConnectionId, peer: PeerId) {
        self.inbound.remove(&id);
        if let Some(count) = self.of_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&peer);
            }
            self.total -= 1;
        }
    }
}

/// Takes one of the places for handshakes.
fn begin(
    pending: &mut HashSet<ConnectionId>,
    most: u32,
    id: ConnectionId,
    what: TooMany,
) -> Result<(), TooMany> {
    if pending.len() >= most as usize {
        return Err(what);
    }
    pending.insert(id);
    Ok(())
}

impl NetworkBehaviour for Connections {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        begin(&mut self.pending_inbound, self.most.pending_inbound, id, TooMany::PendingInbound)
            .map_err(ConnectionDenied::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        begin(&mut self.pending_outbound, self.most.pending_outbound, id, TooMany::PendingOutbound)
            .map(|()| Vec::new())
            .map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&id);
        self.may_establish(peer, true).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_outbound.remove(&id);
        self.may_establish(peer, false).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ListenFailure(failure) => {
                self.pending_inbound.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.pending_outbound.remove(&failure.connection_id);
            }
            FromSwarm::ConnectionEstablished(made) => {
                self.established(made.connection_id, made.peer_id, made.endpoint.is_listener());
            }
            FromSwarm::ConnectionClosed(closed) => self.closed(closed.connection_id, closed.peer_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::limits::Limits;

    fn connections() -> Connections {
        let limits = Limits {
            pending_inbound: 2,
            pending_outbound: 1,
            total_connections: Some(4),
            connections_per_peer: 2,
            ..Limits::default()
        };
        Connections::new(&NodeConfig { limits, low_peers: 1, ..NodeConfig::default() })
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn handshakes_have_their_places_and_give_them_back() {
        let mut connections = connections();
        let mut knock =
            |number| begin(&mut connections.pending_inbound, 2, id(number), TooMany::PendingInbound);
        assert_eq!([knock(1), knock(2), knock(3)], [Ok(()), Ok(()), Err(TooMany::PendingInbound)]);
        let nowhere = Multiaddr::empty();
        let peer = PeerId::random();
        assert!(connections.handle_established_inbound_connection(id(1), peer, &nowhere, &nowhere).is_ok());
        assert!(connections.handle_pending_inbound_connection(id(3), &nowhere, &nowhere).is_ok());
        assert!(connections.handle_pending_outbound_connection(id(4), None, &[], Endpoint::Dialer).is_ok());
        assert!(connections.handle_pending_outbound_connection(id(5), None, &[], Endpoint::Dialer).is_err());
    }

    #[test]
    fn each_limit_is_told_by_its_name() {
        let mut connections = connections();
        let [first, second, third] = [PeerId::random(), PeerId::random(), PeerId::random()];
        connections.established(id(1), first, true);
        connections.established(id(2), first, true);
        assert_eq!(connections.may_establish(first, false), Err(TooMany::OfPeer));
        connections.established(id(3), second, true);
        assert_eq!(
            connections.may_establish(third, true),
            Err(TooMany::Inbound),
            "one place is not for strangers"
        );
        assert_eq!(connections.may_establish(third, false), Ok(()));
        connections.established(id(4), third, false);
        assert_eq!(connections.may_establish(PeerId::random(), false), Err(TooMany::Total));
        connections.closed(id(3), second);
        assert_eq!(connections.may_establish(second, true), Ok(()));
    }

    #[test]
    fn nothing_is_left_of_peers_that_are_gone() {
        let mut connections = connections();
        for number in 0..10_000 {
            let peer = PeerId::random();
            connections.established(id(number), peer, number % 2 == 0);
            connections.closed(id(number), peer);
        }
        assert!(connections.of_peer.is_empty() && connections.inbound.is_empty());
        assert_eq!(connections.total, 0);
        assert!(connections.of_peer.capacity() < 100);
    }
}
