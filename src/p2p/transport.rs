//! How nodes reach each other: TCP, secured by noise, multiplexed by yamux, every byte counted.

use std::io;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, noise, tcp, yamux};

use super::metered::Metered;
use super::metrics::Traffic;

/// From TCP connection to multiplexed channel; a stranger who stalls the handshake is dropped then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Substreams of one connection: each protocol holds one or two, and Kademlia opens one per request.
const MAX_SUBSTREAMS: usize = 128;

/// The node's transport.
///
/// # Errors
/// When the key cannot be used for noise.
pub(crate) fn build(
    keypair: &Keypair,
    traffic: Traffic,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, io::Error> {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_SUBSTREAMS);
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(io::Error::other)?)
        .multiplex(yamux)
        .timeout(HANDSHAKE_TIMEOUT)
        .map(move |(peer, muxer), _| {
            let traffic = traffic.of(peer);
            (peer, StreamMuxerBox::new(Metered::new(muxer, traffic)))
        });
    Ok(transport.boxed())
}
