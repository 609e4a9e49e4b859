//! A handler that opens no stream of its own before there is something to say.
//!
//! gossipsub opens a stream to every peer at once, if only to tell of extensions that nobody uses, and a stream holds 16 KB of
//! buffers. On a bootnode, which has many connections and no topics, that is a fifth of its memory; the peers' own
//! streams, on which they tell it of their topics, are enough.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Shared;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use tokio::sync::oneshot;

/// Whether there is something to say. Once there was, it stays so.
#[derive(Debug)]
pub(crate) struct Voice(Option<Silence>);

#[derive(Debug)]
struct Silence {
    /// Ends the silence when it is dropped.
    _kept: oneshot::Sender<()>,
    end: Shared<oneshot::Receiver<()>>,
}

impl Voice {
    /// Nothing to say yet.
    pub(crate) fn silent() -> Self {
        let (kept, end) = oneshot::channel();
        Self(Some(Silence { _kept: kept, end: end.shared() }))
    }

    /// From now on handlers open their streams; those that have waited are woken.
    pub(crate) fn raise(&mut self) {
        self.0 = None;
    }

    /// `handler`, which opens no stream during the silence.
    pub(crate) fn wrap<H: ConnectionHandler>(&self, handler: H) -> Reticent<H> {
        Reticent { handler, silence: self.0.as_ref().map(|silence| silence.end.clone()), held: None }
    }
}

/// See the module's comment.
pub(crate) struct Reticent<H: ConnectionHandler> {
    handler: H,
    /// Until it ends no stream is opened.
    silence: Option<Shared<oneshot::Receiver<()>>>,
    /// The stream that is to be opened then; gossipsub asks for one at a time.
    held: Option<SubstreamProtocol<H::OutboundProtocol, H::OutboundOpenInfo>>,
}

impl<H: ConnectionHandler> Reticent<H> {
    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        if self.silence.as_mut().is_some_and(|end| end.poll_unpin(cx).is_ready()) {
            self.silence = None;
        }
        self.silence.is_some()
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Reticent<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.handler.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.handler.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        let silent = self.is_silent(cx);
        if let Some(protocol) = self.held.take_if(|_| !silent) {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        loop {
            match self.handler.poll(cx) {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }) if silent => {
                    self.held = Some(protocol);
                }
                polled => return polled,
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.handler.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.handler.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.handler.on_connection_event(event);
    }
}
