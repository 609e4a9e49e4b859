//! How nodes reach each other: TCP and WebSocket secured by noise and multiplexed by yamux, QUIC, WebRTC-direct, and through relays;
//! every byte counted.

mod certificate;
mod metered;
mod multiplexed;
mod negotiation;
mod paced;
mod secure_websocket;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OptionalTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, quic, relay, tcp, websocket};

pub use super::metrics::Traffic;
use crate::tls::CertificateFiles;
pub use certificate::{CertificateError, WebRtcCertificate};
use metered::Metered;
use multiplexed::Multiplexed;
pub(crate) use negotiation::Flow;
pub use paced::Pace;
use paced::Paced;
pub(crate) use paced::schedule;
use secure_websocket::SecureWebSocket;

/// From first packet to multiplexed channel; a stranger who stalls the handshake is dropped then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Substreams of our own on a connection beside the peer's, and those that are refused and still to be closed.
const MORE_STREAMS: usize = 128;
/// Bytes that a QUIC peer may send on one stream, and on all together, before this node has read them.
const QUIC_STREAM_WINDOW: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 4 << 20;
/// The largest WebSocket frame taken: noise's frames have at most 64 KiB, other implementations may join some.
const MAX_WEBSOCKET_FRAME: usize = 1 << 20;

/// A transport from addresses to encrypted, multiplexed connections.
pub type Upgraded = Boxed<(PeerId, StreamMuxerBox)>;

/// What a transport is made of.
pub struct Parts<'a> {
    /// Who the node is.
    pub keypair: &'a Keypair,
    /// Where bytes are counted.
    pub traffic: Traffic,
    /// Substreams that a peer may have open on one connection.
    pub streams: usize,
    /// The certificate for secure WebSocket; without it there is none to listen on.
    pub tls: Option<CertificateFiles>,
    /// Authorities to trust beside the well-known ones when dialling secure WebSocket.
    pub trusted: &'a [PathBuf],
    /// The certificate for WebRTC; without it there is no WebRTC.
    pub webrtc: Option<WebRtcCertificate>,
    /// The way through relays.
    pub relay: relay::client::Transport,
}

/// The node's transport, and the handle that paces its dials.
///
/// # Errors
/// When a key or certificate cannot be used.
pub fn build(parts: Parts<'_>) -> io::Result<(Upgraded, Pace)> {
    let Parts { keypair, traffic, streams, tls, trusted, webrtc, relay } = parts;
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let quic = {
        let mut config = quic::Config::new(keypair);
        config.handshake_timeout = HANDSHAKE_TIMEOUT;
        config.max_concurrent_stream_limit = u32::try_from(streams).unwrap_or(u32::MAX);
        config.max_stream_data = QUIC_STREAM_WINDOW;
        config.max_connection_data = QUIC_CONNECTION_WINDOW;
        quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    };
    let webrtc = webrtc.map(|certificate| {
        libp2p_webrtc::tokio::Transport::new(keypair.clone(), certificate.into_inner())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    });
    let webrtc = webrtc.map_or_else(OptionalTransport::none, OptionalTransport::some);
    // Names inside WebSocket addresses must reach the TLS handshake, so WebSocket does its own look-ups: it comes first and
    // takes only what ends in `/ws`.
    let websocket = {
        let mut config = websocket::Config::new(resolving(tcp())?);
        config.set_max_data_size(MAX_WEBSOCKET_FRAME);
        secured(SecureWebSocket::new(config, tls, trusted)?, keypair, streams)?
    };
    let plain = secured(tcp(), keypair, streams)?
        .or_transport(quic)
        .map(|either, _| either.into_inner())
        .or_transport(webrtc)
        .map(|either, _| either.into_inner())
        .boxed();
    // The resolving transport takes every address, so it comes last.
    let all = secured(relay, keypair, streams)?
        .or_transport(websocket)
        .map(|either, _| either.into_inner())
        .or_transport(resolving(plain)?)
        .map(|either, _| either.into_inner());
    let all = TransportTimeout::new(all, HANDSHAKE_TIMEOUT)
        .map(move |(peer, muxer), _| {
            let metered = Metered::new(muxer, traffic.of(peer), streams, traffic.refusals().clone());
            (peer, StreamMuxerBox::new(metered))
        })
        .boxed();
    let pace = Pace::default();
    Ok((Paced::new(all, pace.clone()).boxed(), pace))
}

/// `transport` with noise and yamux on top.
fn secured<T>(transport: T, keypair: &Keypair, streams: usize) -> io::Result<Upgraded>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    // Above the limit streams are refused one by one; here, the connection would be cut.
    let yamux = Multiplexed::new(streams.saturating_add(MORE_STREAMS));
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    Ok(transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}

/// `transport` with DNS names in the addresses that it dials. Where the system has no configuration for it, names cannot be looked up and
/// everything else works.
fn resolving<T>(transport: T) -> io::Result<dns::tokio::Transport<T>> {
    if dns::tokio::Transport::system(()).is_ok() {
        return dns::tokio::Transport::system(transport);
    }
    tracing::debug!("the system has no DNS configuration; addresses with names cannot be dialled");
    Ok(dns::tokio::Transport::custom(transport, dns::ResolverConfig::default(), dns::ResolverOpts::default()))
}
