//! What each role records. Names and descriptions come from the [`catalogue`](super::catalogue).

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
    /// The same by `peer`; at most [`MAX_PEER_SERIES`] peers.
    pub peer_bytes_sent: Counter<u64>,
    /// The same by `peer`; at most [`MAX_PEER_SERIES`] peers.
    pub peer_bytes_received: Counter<u64>,
    /// Messages sent, by `peer`; at most [`MAX_PEER_SERIES`] peers.
    pub peer_messages_sent: Counter<u64>,
    /// Messages received, by `peer`; at most [`MAX_PEER_SERIES`] peers.
    pub peer_messages_received: Counter<u64>,
    /// Unix time of the connection in seconds, by `peer` and `connection_type`. A gauge keeps its last value: record
    /// 0 when the connection is closed, and the peer leaves `/stats`.
    pub peer_connected_since: Gauge<f64>,
    /// Last round trip measured by ping, by `peer`, in seconds.
    pub peer_latency: Gauge<f64>,
    /// Dials by `result`: `ok` or the reason of the failure.
    pub dials: Counter<u64>,
    /// What was refused, by `what`.
    pub refused: Counter<u64>,
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
            peer_bytes_sent: catalogue::P2P_PEER_BYTES_SENT.u64_counter(meter),
            peer_bytes_received: catalogue::P2P_PEER_BYTES_RECEIVED.u64_counter(meter),
            peer_messages_sent: catalogue::P2P_PEER_MESSAGES_SENT.u64_counter(meter),
            peer_messages_received: catalogue::P2P_PEER_MESSAGES_RECEIVED.u64_counter(meter),
            peer_connected_since: catalogue::P2P_PEER_CONNECTED_SINCE.f64_gauge(meter),
            peer_latency: catalogue::P2P_PEER_LATENCY.f64_gauge(meter),
            dials: catalogue::P2P_DIALS.u64_counter(meter),
            refused: catalogue::P2P_REFUSED.u64_counter(meter),
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
