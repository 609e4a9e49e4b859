//! A behaviour whose connection handlers live on the heap.
//!
//! The handlers of all protocols together are some 11 KB. The swarm moves them when a connection is made, and its task for the
//! connection has room for two: once as an argument and once in use. A pointer is moved for nothing.

use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, NetworkBehaviour, THandler, THandlerInEvent, ToSwarm,
};

use super::pass_on::{pass_on, pass_on_handler};

/// See the module's comment.
pub(crate) struct Boxed<B> {
    inner: B,
}

impl<B> Boxed<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner }
    }
}

impl<B> Deref for Boxed<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Boxed<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Boxed<B> {
    type ConnectionHandler = BoxedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    pass_on!(pending_inbound, pending_outbound, swarm_event, handler_event);

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote).map(BoxedHandler::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
            .map(BoxedHandler::new)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

/// The handler of one connection.
pub(crate) struct BoxedHandler<H>(Box<H>);

impl<H> BoxedHandler<H> {
    fn new(handler: H) -> Self {
        Self(Box::new(handler))
    }
}

impl<H: ConnectionHandler> ConnectionHandler for BoxedHandler<H> {
    pass_on_handler!(0: types, listen_protocol, keep_alive, poll, close, behaviour_event, connection_event);
}
