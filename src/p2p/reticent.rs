//! A handler that opens no stream of its own before there is something to say.
//!
//! gossipsub opens a stream to every peer at once, if only to tell of extensions that nobody uses, and a stream holds 16 KB of
//! buffers. On a bootnode, which has many connections and no topics, that is a fifth of its memory; the peers' own
//! streams, on which they tell it of their topics, are enough.
//!
//! A stream also keeps its connection alive. During the silence the connection to a peer that says it speaks gossipsub is kept for the
//! stream that there would be; two nodes without topics would have none, and lose each other for having nothing to say.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Shared;
use libp2p::swarm::handler::{ConnectionEvent, ProtocolsChange};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use tokio::sync::oneshot;

use super::pass_on::pass_on_handler;

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
        let silence = self.0.as_ref().map(|silence| silence.end.clone());
        Reticent { handler, silence, speaks: false, held: None }
    }
}

/// See the module's comment.
pub(crate) struct Reticent<H: ConnectionHandler> {
    handler: H,
    /// Until it ends no stream is opened.
    silence: Option<Shared<oneshot::Receiver<()>>>,
    /// Whether the peer has said, by identify, that it speaks gossipsub.
    speaks: bool,
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
    pass_on_handler!(handler: types, listen_protocol, close, behaviour_event);

    fn connection_keep_alive(&self) -> bool {
        self.handler.connection_keep_alive() || (self.silence.is_some() && self.speaks)
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

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        if let ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(added)) = &event {
            self.speaks |= added.clone().any(|protocol| protocol.as_ref().starts_with("/meshsub/"));
        }
        self.handler.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use libp2p::core::transport::MemoryTransport;
    use libp2p::core::upgrade::Version;
    use libp2p::identity::Keypair;
    use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
    use libp2p::{Multiaddr, PeerId, Swarm, Transport, identify, noise, yamux};

    use super::super::config::NodeConfig;
    use super::super::gossip::Gossip;
    use super::super::metrics::Traffic;
    use crate::telemetry::instruments::P2pInstruments;

    #[derive(NetworkBehaviour)]
    struct Talkative {
        gossip: Gossip,
        identify: identify::Behaviour,
    }

    fn swarm<B: NetworkBehaviour>(behaviour: impl FnOnce(&Keypair) -> B) -> Swarm<B> {
        let keypair = Keypair::generate_ed25519();
        let transport = MemoryTransport::new()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&keypair).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let config =
            swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_millis(100));
        Swarm::new(transport, behaviour(&keypair), keypair.public().to_peer_id(), config)
    }

    fn identify(keypair: &Keypair) -> identify::Behaviour {
        identify::Behaviour::new(identify::Config::new("test".to_owned(), keypair.public()))
    }

    fn without_topics() -> Swarm<Talkative> {
        swarm(|keypair| {
            let meter = opentelemetry::global::meter("test");
            let traffic = Traffic::new(&meter, &P2pInstruments::new(&meter));
            let gossip = Gossip::new(keypair, &NodeConfig::default(), &traffic).unwrap();
            Talkative { gossip, identify: identify(keypair) }
        })
    }

    /// Drives a swarm until the connection with `peer` is closed.
    async fn until_gone<B: NetworkBehaviour>(swarm: &mut Swarm<B>, peer: PeerId) {
        loop {
            if let SwarmEvent::ConnectionClosed { peer_id, .. } = swarm.select_next_some().await
                && peer_id == peer
            {
                return;
            }
        }
    }

    #[tokio::test]
    async fn peers_without_topics_stay_connected_and_those_without_gossipsub_do_not() {
        let (mut bootnode, mut node, mut stranger) = (without_topics(), without_topics(), swarm(identify));
        bootnode.listen_on("/memory/0".parse().unwrap()).unwrap();
        let address: Multiaddr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = bootnode.select_next_some().await {
                break address;
            }
        };
        let (bootnode_id, node_id, stranger_id) =
            (*bootnode.local_peer_id(), *node.local_peer_id(), *stranger.local_peer_id());
        node.dial(address.clone()).unwrap();
        while !(node.is_connected(&bootnode_id) && bootnode.is_connected(&node_id)) {
            tokio::select! {
                _ = bootnode.select_next_some() => {}
                _ = node.select_next_some() => {}
            }
        }
        // It comes after the node, and is closed for having nothing to say: by the second time the node would be, too.
        for _ in 0..2 {
            stranger.dial(address.clone()).unwrap();
            tokio::select! {
                () = until_gone(&mut bootnode, stranger_id) => {}
                () = until_gone(&mut stranger, bootnode_id) => {}
                () = until_gone(&mut node, bootnode_id) => panic!("two without topics lost each other"),
            }
        }
        assert!(bootnode.is_connected(&node_id) && node.is_connected(&bootnode_id));
    }
}
