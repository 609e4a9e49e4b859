//! The substreams of private messages and files: opened when somebody here asks, handed on when a peer opens one.
//!
//! One handler per connection for both protocols, without timers or buffers of its own. How many streams a peer may have is bounded
//! by the connection's own limit on substreams and, more tightly, by [`Places`](super::places::Places).

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Shared;

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::oneshot;

use super::tied::Tied;

/// Private messages.
pub(crate) const MESSAGES: StreamProtocol = StreamProtocol::new("/hippius/msg/1.0.0");
/// Files.
pub(crate) const FILES: StreamProtocol = StreamProtocol::new("/hippius/file/1.0.0");

/// Why a stream could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The peer does not speak the protocol.
    Unsupported,
    /// The connection broke or did not answer.
    Broken(io::Error),
}

/// Where an opened stream goes.
pub(crate) type OpenReply = oneshot::Sender<Result<Tied<Stream>, OpenError>>;

/// A stream that a peer has opened.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: Tied<Stream>,
}

/// A stream to be opened.
#[derive(Debug)]
pub(crate) struct Open {
    protocol: StreamProtocol,
    reply: OpenReply,
}

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Streams {
    /// What the swarm is to do. Outgoing entries are as many as commands, incoming ones are taken at once.
    queue: VecDeque<ToSwarm<Arrived, Open>>,
}

impl Streams {
    /// Opens a stream to a connected peer. Without a connection `reply` is dropped.
    pub(crate) fn open(&mut self, peer: PeerId, protocol: StreamProtocol, reply: OpenReply) {
        let event = Open { protocol, reply };
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event });
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Arrived;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (stream, protocol): THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Arrived { peer, protocol, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The part of one connection.
#[derive(Default)]
pub(crate) struct Handler {
    opening: VecDeque<Open>,
    arrived: VecDeque<(Tied<Stream>, StreamProtocol)>,
    /// Ends the streams when it is dropped; made for the first one, since most connections never have any.
    life: Option<Life>,
}

struct Life {
    _held: oneshot::Sender<()>,
    end: Shared<oneshot::Receiver<()>>,
}

impl Handler {
    /// A stream that ends with the connection.
    fn tie(&mut self, stream: Stream) -> Tied<Stream> {
        let life = self.life.get_or_insert_with(|| {
            let (held, end) = oneshot::channel();
            Life { _held: held, end: end.shared() }
        });
        Tied::new(stream, life.end.clone())
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Tied<Stream>, StreamProtocol);
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenReply;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade::Either, ())
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opening.push_back(open);
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, OpenReply, Self::ToBehaviour>> {
        if let Some(stream) = self.arrived.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream));
        }
        if let Some(Open { protocol, reply }) = self.opening.pop_front() {
            let protocol = SubstreamProtocol::new(Upgrade::Only(protocol), reply);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.life = None;
        Poll::Ready(None)
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), OpenReply>) {
        // Whoever asked for a stream may have given up; then it is closed again.
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => {
                let stream = self.tie(stream);
                self.arrived.push_back((stream, protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: reply,
            }) => {
                let _ = reply.send(Ok(self.tie(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let _ = reply.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Broken(io::ErrorKind::TimedOut.into()),
                    StreamUpgradeError::Io(error) => OpenError::Broken(error),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}

/// Agrees on a protocol and leaves the stream as it is.
#[derive(Debug, Clone)]
pub(crate) enum Upgrade {
    Either,
    Only(StreamProtocol),
}

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter =
        std::iter::Chain<std::option::IntoIter<StreamProtocol>, std::option::IntoIter<StreamProtocol>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let (first, second) = match self {
            Upgrade::Either => (MESSAGES, Some(FILES)),
            Upgrade::Only(protocol) => (protocol.clone(), None),
        };
        Some(first).into_iter().chain(second)
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
