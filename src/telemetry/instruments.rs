//! Every metric that a role records, by name, in one place.
//!
//! Names are those of the OpenTelemetry instruments. On the way to Prometheus a counter gains `_total`, and
//! the plain names that documented queries use (`p2p_messages_received` and its like) stay beside it as
//! untyped series; see `exposition`.

use opentelemetry::metrics::{Counter, Gauge, Meter};

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
            connected_peers: meter
                .u64_gauge("p2p_connected_peers")
                .with_description("Peers with at least one connection.")
                .build(),
            messages_sent: meter
                .u64_counter("p2p_messages_sent")
                .with_description("Topic messages published by this node.")
                .build(),
            messages_received: meter
                .u64_counter("p2p_messages_received")
                .with_description("Topic messages delivered to this node.")
                .build(),
            bytes_sent: meter
                .u64_counter("p2p_bytes_sent")
                .with_description("Bytes written to substreams.")
                .build(),
            bytes_received: meter
                .u64_counter("p2p_bytes_received")
                .with_description("Bytes read from substreams.")
                .build(),
            peer_bytes_sent: meter
                .u64_counter("p2p_peer_bytes_sent")
                .with_description("Bytes written to substreams, by peer.")
                .build(),
            peer_bytes_received: meter
                .u64_counter("p2p_peer_bytes_received")
                .with_description("Bytes read from substreams, by peer.")
                .build(),
            peer_latency: meter
                .f64_gauge("p2p_peer_latency_seconds")
                .with_description("Last round trip measured by ping, by peer.")
                .build(),
            dials: meter.u64_counter("p2p_dials").with_description("Dials by result.").build(),
            refused: meter
                .u64_counter("p2p_refused")
                .with_description("What the node refused, by kind.")
                .build(),
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
            active_connections: meter
                .u64_gauge("ws_active_connections")
                .with_description("Open WebSocket connections.")
                .build(),
            total_connections: meter
                .u64_counter("ws_total_connections")
                .with_description("WebSocket connections accepted.")
                .build(),
            messages_sent: meter
                .u64_counter("ws_messages_sent")
                .with_description("Signaling messages sent to clients.")
                .build(),
            messages_received: meter
                .u64_counter("ws_messages_received")
                .with_description("Signaling messages received from clients.")
                .build(),
            refused: meter
                .u64_counter("ws_refused")
                .with_description("Connections and messages refused, by reason.")
                .build(),
            webrtc_connections: meter
                .u64_gauge("webrtc_connections")
                .with_description("WebRTC connections that clients reported, by type of path.")
                .build(),
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
        Self {
            requests: meter
                .u64_counter("web_requests")
                .with_description("HTTP requests answered, by status.")
                .build(),
        }
    }
}
