//! What each role records. Names and descriptions come from the [`catalogue`](super::catalogue).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Gauge, Meter};

use super::catalogue;

/// What a libp2p node records.
#[derive(Debug, Clone)]
pub struct P2pInstruments {
    /// Peers with at least one connection.
    pub connected_peers: Gauge<u64>,
    /// Topic messages published by this node.
    pub messages_sent: Counter<u64>,
    /// Topic messages delivered to this node.
    pub messages_received: Counter<u64>,
    /// Bytes of substreams written, all peers.
    pub bytes_sent: Counter<u64>,
    /// Bytes of substreams read, all peers.
    pub bytes_received: Counter<u64>,
    /// Dials by `result`: `ok` or the reason of the failure.
    pub dials: Counter<u64>,
    /// What was refused, by `what`.
    pub refused: Counter<u64>,
    /// Peers disconnected and kept away because they sent too much or rubbish.
    pub neighbours_blocked: Counter<u64>,
}

/// Most peers that have series of their own; the traffic of all others is in the totals only.
pub const MAX_PEER_SERIES: usize = 64;

impl P2pInstruments {
    /// Creates the instruments on `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            connected_peers: catalogue::P2P_CONNECTED_PEERS.u64_gauge(meter),
            messages_sent: catalogue::P2P_MESSAGES_SENT.u64_counter(meter),
            messages_received: catalogue::P2P_MESSAGES_RECEIVED.u64_counter(meter),
            bytes_sent: catalogue::P2P_BYTES_SENT.u64_counter(meter),
            bytes_received: catalogue::P2P_BYTES_RECEIVED.u64_counter(meter),
            dials: catalogue::P2P_DIALS.u64_counter(meter),
            refused: catalogue::P2P_REFUSED.u64_counter(meter),
            neighbours_blocked: catalogue::P2P_NEIGHBOURS_BLOCKED.u64_counter(meter),
        }
    }
}

/// What a signaling server records.
#[derive(Debug, Clone)]
pub struct SignalingInstruments {
    /// Open WebSocket connections.
    pub active_connections: Gauge<u64>,
    /// WebSocket connections ever accepted.
    pub total_connections: Counter<u64>,
    /// Messages sent to clients.
    pub messages_sent: Counter<u64>,
    /// Messages received from clients.
    pub messages_received: Counter<u64>,
    /// What was refused, by `reason`.
    pub refused: Counter<u64>,
    /// WebRTC connections that clients reported, by `type`: `direct`, `stun`, `turn`.
    pub webrtc_connections: Gauge<u64>,
}

impl SignalingInstruments {
    /// Creates the instruments on `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            active_connections: catalogue::WS_ACTIVE_CONNECTIONS.u64_gauge(meter),
            total_connections: catalogue::WS_TOTAL_CONNECTIONS.u64_counter(meter),
            messages_sent: catalogue::WS_MESSAGES_SENT.u64_counter(meter),
            messages_received: catalogue::WS_MESSAGES_RECEIVED.u64_counter(meter),
            refused: catalogue::WS_REFUSED.u64_counter(meter),
            webrtc_connections: catalogue::WEBRTC_CONNECTIONS.u64_gauge(meter),
        }
    }
}

/// Registers the connections that a web server did not take, as it counts them in `refused`.
pub fn observe_refused_connections(meter: &Meter, refused: Arc<AtomicU64>) {
    let _ = catalogue::WEB_CONNECTIONS_REFUSED
        .observed_counter(meter)
        .with_callback(move |observer| observer.observe(refused.load(Ordering::Relaxed), &[]))
        .build();
}

/// What a web server records.
#[derive(Debug, Clone)]
pub struct WebInstruments {
    /// Requests answered, by `status`.
    pub requests: Counter<u64>,
}

impl WebInstruments {
    /// Creates the instruments on `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self { requests: catalogue::WEB_REQUESTS.u64_counter(meter) }
    }
}
