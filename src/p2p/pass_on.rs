//! Callbacks of a behaviour that only hand on to the one inside.
//!
//! Several behaviours here are libp2p's own with a word said before or after: most of what the swarm tells them goes to the field
//! `inner` as it is, and so does what comes back.

/// Writes the callbacks it is given the names of into an `impl NetworkBehaviour`: `pending_inbound`, `pending_outbound`, `established`
/// (inbound and outbound), `swarm_event`, `handler_event`.
macro_rules! pass_on {
    ($($callback:ident),+ $(,)?) => { $($crate::p2p::pass_on::pass_on!(@ $callback);)+ };
    (@ pending_inbound) => {
        fn handle_pending_inbound_connection(
            &mut self,
            id: libp2p::swarm::ConnectionId,
            local: &libp2p::Multiaddr,
            remote: &libp2p::Multiaddr,
        ) -> Result<(), libp2p::swarm::ConnectionDenied> {
            self.inner.handle_pending_inbound_connection(id, local, remote)
        }
    };
    (@ pending_outbound) => {
        fn handle_pending_outbound_connection(
            &mut self,
            id: libp2p::swarm::ConnectionId,
            peer: Option<libp2p::PeerId>,
            addresses: &[libp2p::Multiaddr],
            role: libp2p::core::Endpoint,
        ) -> Result<Vec<libp2p::Multiaddr>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
        }
    };
    (@ established) => {
        fn handle_established_inbound_connection(
            &mut self,
            id: libp2p::swarm::ConnectionId,
            peer: libp2p::PeerId,
            local: &libp2p::Multiaddr,
            remote: &libp2p::Multiaddr,
        ) -> Result<libp2p::swarm::THandler<Self>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_established_inbound_connection(id, peer, local, remote)
        }

        fn handle_established_outbound_connection(
            &mut self,
            id: libp2p::swarm::ConnectionId,
            peer: libp2p::PeerId,
            address: &libp2p::Multiaddr,
            role: libp2p::core::Endpoint,
            port: libp2p::core::transport::PortUse,
        ) -> Result<libp2p::swarm::THandler<Self>, libp2p::swarm::ConnectionDenied> {
            self.inner.handle_established_outbound_connection(id, peer, address, role, port)
        }
    };
    (@ swarm_event) => {
        fn on_swarm_event(&mut self, event: libp2p::swarm::FromSwarm) {
            self.inner.on_swarm_event(event);
        }
    };
    (@ handler_event) => {
        fn on_connection_handler_event(
            &mut self,
            peer: libp2p::PeerId,
            connection: libp2p::swarm::ConnectionId,
            event: libp2p::swarm::THandlerOutEvent<Self>,
        ) {
            self.inner.on_connection_handler_event(peer, connection, event);
        }
    };
}

/// The same for a connection handler, around the one in the field that is named first: `types`, `listen_protocol`, `keep_alive`, `poll`,
/// `close`, `behaviour_event`, `connection_event`. The handler inside has the type parameter `H`.
macro_rules! pass_on_handler {
    ($inner:tt: $($callback:ident),+ $(,)?) => { $($crate::p2p::pass_on::pass_on_handler!(@ $callback $inner);)+ };
    (@ types $inner:tt) => {
        type FromBehaviour = H::FromBehaviour;
        type ToBehaviour = H::ToBehaviour;
        type InboundProtocol = H::InboundProtocol;
        type OutboundProtocol = H::OutboundProtocol;
        type InboundOpenInfo = H::InboundOpenInfo;
        type OutboundOpenInfo = H::OutboundOpenInfo;
    };
    (@ listen_protocol $inner:tt) => {
        fn listen_protocol(
            &self,
        ) -> libp2p::swarm::SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
            self.$inner.listen_protocol()
        }
    };
    (@ keep_alive $inner:tt) => {
        fn connection_keep_alive(&self) -> bool {
            self.$inner.connection_keep_alive()
        }
    };
    (@ poll $inner:tt) => {
        fn poll(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<
            libp2p::swarm::ConnectionHandlerEvent<
                Self::OutboundProtocol,
                Self::OutboundOpenInfo,
                Self::ToBehaviour,
            >,
        > {
            self.$inner.poll(cx)
        }
    };
    (@ close $inner:tt) => {
        fn poll_close(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::ToBehaviour>> {
            self.$inner.poll_close(cx)
        }
    };
    (@ behaviour_event $inner:tt) => {
        fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
            self.$inner.on_behaviour_event(event);
        }
    };
    (@ connection_event $inner:tt) => {
        fn on_connection_event(
            &mut self,
            event: libp2p::swarm::handler::ConnectionEvent<
                Self::InboundProtocol,
                Self::OutboundProtocol,
                Self::InboundOpenInfo,
                Self::OutboundOpenInfo,
            >,
        ) {
            self.$inner.on_connection_event(event);
        }
    };
}

pub(crate) use {pass_on, pass_on_handler};
