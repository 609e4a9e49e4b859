//! What each role records. Names and descriptions come from the [`catalogue`](super::catalogue).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

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
    /// Round trips measured by ping.
    pub round_trip: Histogram<f64>,
    /// Kademlia queries, by `result`: `started`, `succeeded`, `failed`.
    pub kademlia_queries: Counter<u64>,
    /// How long they took.
    pub kademlia_query_time: Histogram<f64>,
    /// Dials by `result`: `ok` or the reason of the failure.
    pub dials: Counter<u64>,
    /// What was refused, by `what`.
    pub refused: Counter<u64>,
    /// Private messages that a peer has confirmed.
    pub private_messages_sent: Counter<u64>,
    /// Private messages delivered to this node.
    pub private_messages_received: Counter<u64>,
    /// Files that a peer has confirmed.
    pub files_sent: Counter<u64>,
    /// Files put into the folder of received files.
    pub files_received: Counter<u64>,
    /// Bytes of files sent.
    pub file_bytes_sent: Counter<u64>,
    /// Bytes of files received.
    pub file_bytes_received: Counter<u64>,
    /// Peers disconnected and kept away because they sent too much or rubbish.
    pub neighbours_blocked: Counter<u64>,
    /// Peers that have a place at this relay.
    pub relay_reservations: Gauge<u64>,
    /// Connections that this relay passes on.
    pub relay_circuits: Gauge<u64>,
    /// Relays at which this node has a place.
    pub relays_held: Gauge<u64>,
    /// Attempts to replace a relayed connection by a direct one, by `result`.
    pub hole_punches: Counter<u64>,
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
            round_trip: catalogue::P2P_ROUND_TRIP.seconds_histogram(meter),
            kademlia_queries: catalogue::P2P_KADEMLIA_QUERIES.u64_counter(meter),
            kademlia_query_time: catalogue::P2P_KADEMLIA_QUERY_TIME.seconds_histogram(meter),
            dials: catalogue::P2P_DIALS.u64_counter(meter),
            refused: catalogue::P2P_REFUSED.u64_counter(meter),
            private_messages_sent: catalogue::P2P_PRIVATE_MESSAGES_SENT.u64_counter(meter),
            private_messages_received: catalogue::P2P_PRIVATE_MESSAGES_RECEIVED.u64_counter(meter),
            files_sent: catalogue::P2P_FILES_SENT.u64_counter(meter),
            files_received: catalogue::P2P_FILES_RECEIVED.u64_counter(meter),
            file_bytes_sent: catalogue::P2P_FILE_BYTES_SENT.u64_counter(meter),
            file_bytes_received: catalogue::P2P_FILE_BYTES_RECEIVED.u64_counter(meter),
            neighbours_blocked: catalogue::P2P_NEIGHBOURS_BLOCKED.u64_counter(meter),
            relay_reservations: catalogue::P2P_RELAY_RESERVATIONS.u64_gauge(meter),
            relay_circuits: catalogue::P2P_RELAY_CIRCUITS.u64_gauge(meter),
            relays_held: catalogue::P2P_RELAYS_HELD.u64_gauge(meter),
            hole_punches: catalogue::P2P_HOLE_PUNCHES.u64_counter(meter),
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

/// What a server with TLS records.
#[derive(Debug, Clone)]
pub struct TlsInstruments {
    /// Connections whose handshake was not made, by `reason`.
    pub refused: Counter<u64>,
}

impl TlsInstruments {
    /// Creates the instruments on `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self { refused: catalogue::TLS_REFUSED.u64_counter(meter) }
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
