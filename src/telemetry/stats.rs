//! `/stats`: the most asked-for figures as JSON, for the whole network and for each process.
//!
//! Made of the same families as `/metrics`, so both always say the same.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily};
use serde::{Deserialize, Serialize};

use super::catalogue::{self, Metric as Named};
use super::exposition::number;

/// The reply to `GET /stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The whole network: sums over all processes, the longest uptime.
    pub network: Network,
    /// Sums of the processes' shares of processor, memory and threads; the fullest file system.
    pub system: System,
    /// Sums over all signaling servers.
    pub websocket: WebSocket,
    /// Sums over all TURN servers.
    pub turn: Turn,
    /// The same for each process by itself, by name.
    pub processes: BTreeMap<String, ProcessStats>,
}

/// One process's part of [`Stats`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStats {
    /// Its part in the network.
    pub network: Network,
    /// What it uses of its machine.
    pub system: System,
    /// Its WebSocket clients.
    pub websocket: WebSocket,
    /// What it relays.
    pub turn: Turn,
}

/// Traffic of the peer-to-peer network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Peers with at least one connection, counted at each process.
    pub connected_peers: u64,
    /// Topic messages published.
    pub messages_sent: u64,
    /// Topic messages delivered.
    pub messages_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// Bytes read.
    pub bytes_received: u64,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Connected peers that have series of their own, by PeerId.
    pub peer_connections: BTreeMap<String, PeerConnection>,
}

/// Traffic with one peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerConnection {
    /// The peer.
    pub peer_id: String,
    /// Unix time in seconds; the earliest where several processes are connected to it.
    pub connected_since: u64,
    /// Messages sent to it.
    pub messages_sent: u64,
    /// Messages it delivered.
    pub messages_received: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// How it is connected; empty where nobody said.
    pub connection_type: String,
    /// Last round trip in milliseconds, the shortest where several processes measured; `null` before the first.
    pub latency_ms: Option<f64>,
}

/// Use of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Share of all processors, 0 to 1.
    pub cpu_usage: f64,
    /// Share of the memory, 0 to 1.
    pub memory_usage: f64,
    /// Share of the file system in use, 0 to 1.
    pub disk_usage: f64,
    /// Threads.
    pub thread_count: u64,
}

/// Clients of signaling servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocket {
    /// Open connections.
    pub active_connections: u64,
    /// Connections ever accepted.
    pub total_connections: u64,
    /// Messages sent to clients.
    pub messages_sent: u64,
    /// Messages received from clients.
    pub messages_received: u64,
}

/// Traffic of TURN servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Relay addresses that clients hold.
    pub allocations: u64,
    /// Payload sent to clients.
    pub bytes_sent: u64,
    /// Payload received from clients.
    pub bytes_received: u64,
    /// Packets sent to clients.
    pub packets_sent: u64,
    /// Packets received from clients.
    pub packets_received: u64,
    /// Packets thrown away, for all reasons.
    pub dropped: u64,
    /// Requests answered with an error, all codes.
    pub refused: u64,
    /// Requests of a named user with credentials that are not good.
    pub auth_failures: u64,
}

impl Stats {
    /// The figures in gathered `families`.
    #[must_use]
    pub fn of(families: &[MetricFamily]) -> Self {
        let mut stats = Self::default();
        for family in families {
            for metric in family.get_metric() {
                if let Some(process) = label(metric, "process") {
                    let entry = match stats.processes.get_mut(process) {
                        Some(entry) => entry,
                        None => stats.processes.entry(process.to_owned()).or_default(),
                    };
                    entry.take(family.name(), metric, number(family, metric));
                }
            }
        }
        for process in stats.processes.values_mut() {
            // The traffic of a peer that is gone is still counted, but it is no connection.
            process.network.peer_connections.retain(|_, peer| peer.connected_since > 0);
        }
        let Stats { network, system, websocket, turn, processes } = &mut stats;
        for process in processes.values() {
            network.add(&process.network);
            system.add(&process.system);
            websocket.add(&process.websocket);
            turn.add(&process.turn);
        }
        stats
    }
}

impl ProcessStats {
    fn take(&mut self, name: &str, metric: &Metric, value: f64) {
        if let Some(peer) = label(metric, "peer") {
            return self.take_peer(name, peer, metric, value);
        }
        // A float that is too large or negative becomes the nearest whole number there is.
        let whole = value as u64;
        let Self { network, system, websocket, turn } = self;
        match name {
            "p2p_connected_peers" => network.connected_peers = whole,
            "p2p_messages_sent_total" => network.messages_sent = whole,
            "p2p_messages_received_total" => network.messages_received = whole,
            "p2p_bytes_sent_total" => network.bytes_sent = whole,
            "p2p_bytes_received_total" => network.bytes_received = whole,
            "uptime_seconds" => network.uptime_secs = whole,
            "system_cpu_usage" => system.cpu_usage = value,
            "system_memory_usage" => system.memory_usage = value,
            "system_disk_usage" => system.disk_usage = value,
            "process_threads" => system.thread_count = whole,
            "ws_active_connections" => websocket.active_connections = whole,
            "ws_connections_total" => websocket.total_connections = whole,
            "ws_messages_sent_total" => websocket.messages_sent = whole,
            "ws_messages_received_total" => websocket.messages_received = whole,
            "turn_allocations" => turn.allocations = whole,
            "turn_bytes_sent_total" => turn.bytes_sent = whole,
            "turn_bytes_received_total" => turn.bytes_received = whole,
            "turn_packets_sent_total" => turn.packets_sent = whole,
            "turn_packets_received_total" => turn.packets_received = whole,
            "turn_auth_failures_total" => turn.auth_failures = whole,
            // One series for each reason or code.
            "turn_dropped_total" => add(&mut turn.dropped, whole),
            "turn_refused_total" => add(&mut turn.refused, whole),
            _ => {}
        }
    }

    fn take_peer(&mut self, name: &str, peer: &str, metric: &Metric, value: f64) {
        if !name.starts_with("p2p_peer_") {
            return;
        }
        let connections = &mut self.network.peer_connections;
        let entry = match connections.get_mut(peer) {
            Some(entry) => entry,
            None => connections
                .entry(peer.to_owned())
                .or_insert_with(|| PeerConnection { peer_id: peer.to_owned(), ..PeerConnection::default() }),
        };
        let whole = value as u64;
        match name {
            "p2p_peer_bytes_sent_total" => entry.bytes_sent = whole,
            "p2p_peer_bytes_received_total" => entry.bytes_received = whole,
            "p2p_peer_messages_sent_total" => entry.messages_sent = whole,
            "p2p_peer_messages_received_total" => entry.messages_received = whole,
            "p2p_peer_latency_seconds" => entry.latency_ms = Some(value * 1000.0),
            // 0: this way of connection is closed, another may be open.
            "p2p_peer_connected_since_seconds" if whole > 0 => {
                entry.connected_since = whole;
                label(metric, "connection_type").unwrap_or_default().clone_into(&mut entry.connection_type);
            }
            _ => {}
        }
    }
}

impl Network {
    fn add(&mut self, other: &Network) {
        add(&mut self.connected_peers, other.connected_peers);
        add(&mut self.messages_sent, other.messages_sent);
        add(&mut self.messages_received, other.messages_received);
        add(&mut self.bytes_sent, other.bytes_sent);
        add(&mut self.bytes_received, other.bytes_received);
        self.uptime_secs = self.uptime_secs.max(other.uptime_secs);
        for (peer, connection) in &other.peer_connections {
            match self.peer_connections.get_mut(peer) {
                Some(known) => known.add(connection),
                None => {
                    self.peer_connections.insert(peer.clone(), connection.clone());
                }
            }
        }
    }
}

impl PeerConnection {
    fn add(&mut self, other: &PeerConnection) {
        if other.connected_since < self.connected_since {
            self.connected_since = other.connected_since;
            self.connection_type.clone_from(&other.connection_type);
        }
        add(&mut self.messages_sent, other.messages_sent);
        add(&mut self.messages_received, other.messages_received);
        add(&mut self.bytes_sent, other.bytes_sent);
        add(&mut self.bytes_received, other.bytes_received);
        self.latency_ms = match (self.latency_ms, other.latency_ms) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

impl System {
    fn add(&mut self, other: &System) {
        self.cpu_usage += other.cpu_usage;
        self.memory_usage += other.memory_usage;
        self.disk_usage = self.disk_usage.max(other.disk_usage);
        add(&mut self.thread_count, other.thread_count);
    }
}

impl WebSocket {
    fn add(&mut self, other: &WebSocket) {
        add(&mut self.active_connections, other.active_connections);
        add(&mut self.total_connections, other.total_connections);
        add(&mut self.messages_sent, other.messages_sent);
        add(&mut self.messages_received, other.messages_received);
    }
}

impl Turn {
    fn add(&mut self, other: &Turn) {
        add(&mut self.allocations, other.allocations);
        add(&mut self.bytes_sent, other.bytes_sent);
        add(&mut self.bytes_received, other.bytes_received);
        add(&mut self.packets_sent, other.packets_sent);
        add(&mut self.packets_received, other.packets_received);
        add(&mut self.dropped, other.dropped);
        add(&mut self.refused, other.refused);
        add(&mut self.auth_failures, other.auth_failures);
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn label<'m>(metric: &'m Metric, name: &str) -> Option<&'m str> {
    metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value())
}

/// The metrics that `/stats` shows; the names above are theirs.
pub const SHOWN: &[&Named] = &[
    &catalogue::P2P_CONNECTED_PEERS,
    &catalogue::P2P_MESSAGES_SENT,
    &catalogue::P2P_MESSAGES_RECEIVED,
    &catalogue::P2P_BYTES_SENT,
    &catalogue::P2P_BYTES_RECEIVED,
    &catalogue::P2P_PEER_BYTES_SENT,
    &catalogue::P2P_PEER_BYTES_RECEIVED,
    &catalogue::P2P_PEER_MESSAGES_SENT,
    &catalogue::P2P_PEER_MESSAGES_RECEIVED,
    &catalogue::P2P_PEER_LATENCY,
    &catalogue::P2P_PEER_CONNECTED_SINCE,
    &catalogue::UPTIME,
    &catalogue::SYSTEM_CPU_USAGE,
    &catalogue::SYSTEM_MEMORY_USAGE,
    &catalogue::SYSTEM_DISK_USAGE,
    &catalogue::PROCESS_THREADS,
    &catalogue::WS_ACTIVE_CONNECTIONS,
    &catalogue::WS_TOTAL_CONNECTIONS,
    &catalogue::WS_MESSAGES_SENT,
    &catalogue::WS_MESSAGES_RECEIVED,
    &catalogue::TURN_ALLOCATIONS,
    &catalogue::TURN_BYTES_SENT,
    &catalogue::TURN_BYTES_RECEIVED,
    &catalogue::TURN_PACKETS_SENT,
    &catalogue::TURN_PACKETS_RECEIVED,
    &catalogue::TURN_DROPPED,
    &catalogue::TURN_REFUSED,
    &catalogue::TURN_AUTH_FAILURES,
];

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
