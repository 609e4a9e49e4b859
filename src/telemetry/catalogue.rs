//! Every metric by name: the one table that instruments, the store and `docs/metrics.md` agree on.
//!
//! A name here is that of the OpenTelemetry instrument. On the way to Prometheus a counter gains `_total` and a
//! few names keep an untyped twin, because documented queries use it: see [`Metric::exposed_name`] and
//! [`Metric::twin`].

use opentelemetry::metrics::{
    AsyncInstrumentBuilder, Counter, Gauge, Histogram, Meter, ObservableCounter, ObservableGauge,
};
use opentelemetry::{KeyValue, Value};

use super::naming;

/// What a series of a metric means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, and starts again at zero with its process.
    Counter,
    /// A current value.
    Gauge,
    /// A distribution in buckets; grows like a counter.
    Histogram,
}

impl Kind {
    /// The word in `# TYPE` lines and documentation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    /// Whether its series outlive their process until the next generation reports: a counter is history, a
    /// gauge of a dead process is a lie.
    #[must_use]
    pub fn outlives_process(self) -> bool {
        self != Kind::Gauge
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The instrument's name.
    pub name: &'static str,
    /// What its series mean.
    pub kind: Kind,
    /// Labels beside `process` and `role`.
    pub labels: &'static [&'static str],
    /// Unit of the value; `1` for a ratio or a plain number.
    pub unit: &'static str,
    /// One sentence, shown as `# HELP`.
    pub help: &'static str,
}

impl Metric {
    /// The name in the text exposition.
    #[must_use]
    pub fn exposed_name(&self) -> String {
        match self.kind {
            Kind::Counter => naming::counter_name(self.name.to_owned()),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }

    /// The name of the untyped series that stand beside [`Metric::exposed_name`], for queries written before it.
    #[must_use]
    pub fn twin(&self) -> Option<&'static str> {
        naming::twin_of(&self.exposed_name())
    }

    /// A counter that is added to. Without labels it is there from the start, as 0: what appears with its first event
    /// has no increase that `rate()` could see.
    #[must_use]
    pub fn u64_counter(&self, meter: &Meter) -> Counter<u64> {
        let counter = meter.u64_counter(self.name).with_description(self.help).build();
        if self.labels.is_empty() {
            counter.add(0, &[]);
        }
        counter
    }

    /// Makes the series of a counter with one label be there from the start, as 0, one for each of `values`; see
    /// [`Metric::u64_counter`].
    pub fn start_at_zero<V: Into<Value>>(&self, counter: &Counter<u64>, values: impl IntoIterator<Item = V>) {
        if let [label] = self.labels {
            for value in values {
                counter.add(0, &[KeyValue::new(*label, value)]);
            }
        }
    }

    /// A gauge that is recorded.
    #[must_use]
    pub fn u64_gauge(&self, meter: &Meter) -> Gauge<u64> {
        meter.u64_gauge(self.name).with_description(self.help).build()
    }

    /// A gauge that is recorded.
    #[must_use]
    pub fn f64_gauge(&self, meter: &Meter) -> Gauge<f64> {
        meter.f64_gauge(self.name).with_description(self.help).build()
    }

    /// A histogram of times that a network takes: from half a millisecond, a round trip on one machine, to the ten seconds after which
    /// everything is given up.
    #[must_use]
    pub fn seconds_histogram(&self, meter: &Meter) -> Histogram<f64> {
        const BOUNDS: [f64; 13] =
            [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        meter.f64_histogram(self.name).with_description(self.help).with_boundaries(BOUNDS.to_vec()).build()
    }

    /// A counter that is read at each collection.
    pub fn observed_counter<'m>(
        &self,
        meter: &'m Meter,
    ) -> AsyncInstrumentBuilder<'m, ObservableCounter<u64>, u64> {
        meter.u64_observable_counter(self.name).with_description(self.help)
    }

    /// A counter that is read at each collection.
    pub fn observed_f64_counter<'m>(
        &self,
        meter: &'m Meter,
    ) -> AsyncInstrumentBuilder<'m, ObservableCounter<f64>, f64> {
        meter.f64_observable_counter(self.name).with_description(self.help)
    }

    /// A gauge that is read at each collection.
    pub fn observed_gauge<'m>(
        &self,
        meter: &'m Meter,
    ) -> AsyncInstrumentBuilder<'m, ObservableGauge<f64>, f64> {
        meter.f64_observable_gauge(self.name).with_description(self.help)
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $unit:literal $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                unit: $unit,
                help: $help,
            };
        )*
        /// Every metric there is.
        pub const ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    P2P_CONNECTED_PEERS = Gauge "p2p_connected_peers" [] "peers" "Peers with at least one connection.";
    P2P_MESSAGES_SENT = Counter "p2p_messages_sent" [] "messages" "Topic messages published by this node.";
    P2P_MESSAGES_RECEIVED = Counter "p2p_messages_received" [] "messages" "Topic messages delivered to this node.";
    P2P_BYTES_SENT = Counter "p2p_bytes_sent" [] "bytes" "Bytes written to substreams.";
    P2P_BYTES_RECEIVED = Counter "p2p_bytes_received" [] "bytes" "Bytes read from substreams.";
    P2P_PEER_BYTES_SENT = Counter "p2p_peer_bytes_sent" ["peer"] "bytes" "Bytes written to substreams, by peer.";
    P2P_PEER_BYTES_RECEIVED = Counter "p2p_peer_bytes_received" ["peer"] "bytes" "Bytes read from substreams, by peer.";
    P2P_PEER_MESSAGES_SENT = Counter "p2p_peer_messages_sent" ["peer"] "messages" "Own topic messages, by the peer they were handed to.";
    P2P_PEER_MESSAGES_RECEIVED = Counter "p2p_peer_messages_received" ["peer"] "messages" "Topic messages, by the peer they arrived through.";
    P2P_PEER_LATENCY = Gauge "p2p_peer_latency_seconds" ["peer"] "seconds" "Last round trip measured by ping, by peer.";
    P2P_PEER_CONNECTED_SINCE = Gauge "p2p_peer_connected_since_seconds" ["peer", "connection_type"] "seconds" "Unix time at which the connection to a peer was made.";
    P2P_PROTOCOL_BYTES = Counter "p2p_protocol_bytes" ["protocol", "direction"] "bytes" "Bytes of substreams, by protocol and direction (sent, received).";
    P2P_CONNECTIONS = Gauge "p2p_connections" ["transport", "path", "direction"] "connections" "Open connections by transport, path (direct, relayed) and direction (inbound, outbound).";
    P2P_ROUND_TRIP = Histogram "p2p_round_trip_seconds" [] "seconds" "Round trips measured by ping, all peers.";
    P2P_MESH_PEERS = Gauge "p2p_mesh_peers" ["topic"] "peers" "Peers in the gossipsub mesh of a joined topic.";
    P2P_MESSAGES_DUPLICATE = Counter "p2p_messages_duplicate" [] "messages" "Topic messages that arrived again after the first time.";
    P2P_KADEMLIA_QUERIES = Counter "p2p_kademlia_queries" ["result"] "queries" "Kademlia queries started, succeeded and failed.";
    P2P_KADEMLIA_QUERY_TIME = Histogram "p2p_kademlia_query_seconds" [] "seconds" "How long Kademlia queries took.";
    P2P_DIALS = Counter "p2p_dials" ["result"] "dials" "Dials by result.";
    P2P_REFUSED = Counter "p2p_refused" ["what"] "events" "What the node refused, by kind.";
    P2P_RELAY_RESERVATIONS = Gauge "p2p_relay_reservations" [] "peers" "Peers that have a place at this relay.";
    P2P_RELAY_CIRCUITS = Gauge "p2p_relay_circuits" [] "connections" "Connections that this relay passes on.";
    P2P_RELAYS_HELD = Gauge "p2p_relays_held" [] "peers" "Relays at which this node has a place.";
    P2P_HOLE_PUNCHES = Counter "p2p_hole_punches" ["result"] "attempts" "Attempts to replace a relayed connection by a direct one, by result.";
    P2P_PRIVATE_MESSAGES_SENT = Counter "p2p_private_messages_sent" [] "messages" "Private messages that a peer has confirmed.";
    P2P_PRIVATE_MESSAGES_RECEIVED = Counter "p2p_private_messages_received" [] "messages" "Private messages delivered to this node.";
    P2P_FILES_SENT = Counter "p2p_files_sent" [] "files" "Files that a peer has confirmed.";
    P2P_FILES_RECEIVED = Counter "p2p_files_received" [] "files" "Files put into the folder of received files.";
    P2P_FILE_BYTES_SENT = Counter "p2p_file_bytes_sent" [] "bytes" "Bytes of files sent, those of broken transfers included.";
    P2P_FILE_BYTES_RECEIVED = Counter "p2p_file_bytes_received" [] "bytes" "Bytes of files received, those of broken transfers included.";
    P2P_NEIGHBOURS_BLOCKED = Counter "p2p_neighbours_blocked" [] "peers" "Peers disconnected and kept away for some minutes because they sent too much or rubbish.";

    WS_ACTIVE_CONNECTIONS = Gauge "ws_active_connections" [] "connections" "Open WebSocket connections.";
    WS_TOTAL_CONNECTIONS = Counter "ws_total_connections" [] "connections" "WebSocket connections accepted.";
    WS_MESSAGES_SENT = Counter "ws_messages_sent" [] "messages" "Signaling messages sent to clients.";
    WS_MESSAGES_RECEIVED = Counter "ws_messages_received" [] "messages" "Signaling messages received from clients.";
    WS_REFUSED = Counter "ws_refused" ["reason"] "events" "Connections and messages refused, by reason.";
    WEBRTC_CONNECTIONS = Gauge "webrtc_connections" ["type"] "connections" "WebRTC connections that clients reported, by type of path.";

    TURN_ALLOCATIONS = Gauge "turn_allocations" [] "allocations" "Relay addresses that clients hold.";
    TURN_ALLOCATED = Counter "turn_allocated" [] "allocations" "Relay addresses given to clients.";
    TURN_CONNECTIONS = Gauge "turn_connections" [] "connections" "Open TCP and TLS connections of clients.";
    TURN_BYTES_SENT = Counter "turn_bytes_sent" [] "bytes" "Payload that came from peers and was sent to clients.";
    TURN_BYTES_RECEIVED = Counter "turn_bytes_received" [] "bytes" "Payload that was received from clients and went on to peers.";
    TURN_PACKETS_SENT = Counter "turn_packets_sent" [] "packets" "Packets that came from peers and were sent to clients.";
    TURN_PACKETS_RECEIVED = Counter "turn_packets_received" [] "packets" "Packets that were received from clients and went on to peers.";
    TURN_BINDINGS = Counter "turn_bindings" [] "requests" "STUN binding requests answered.";
    TURN_UNREACHABLE = Counter "turn_unreachable" [] "packets" "ICMP messages about packets to peers that clients were told of.";
    TURN_DROPPED = Counter "turn_dropped" ["reason"] "packets" "Packets thrown away, by reason.";
    TURN_REFUSED = Counter "turn_refused" ["code"] "requests" "Requests answered with an error, by its code.";
    TURN_AUTH_FAILURES = Counter "turn_auth_failures" [] "requests" "Requests of a named user with a wrong password, an unknown name or expired credentials.";
    TURN_LOG_FAILURES = Counter "turn_bandwidth_log_failures" [] "writes" "Writes to the bandwidth log that the system did not take.";
    TURN_LOG_MISSED = Counter "turn_bandwidth_log_missed" [] "allocations" "Allocations that ended while the bandwidth log could not be written for so long that their last line is missing.";

    WEB_REQUESTS = Counter "web_requests" ["status"] "requests" "HTTP requests answered, by status.";
    WEB_CONNECTIONS_REFUSED = Counter "web_connections_refused" [] "connections" "Connections closed unanswered because too many were open.";

    TLS_REFUSED = Counter "tls_refused" ["reason"] "connections" "Connections whose TLS handshake was not made, by reason.";

    SYSTEM_CPU_USAGE = Gauge "system_cpu_usage" [] "1" "Share of the machine's processors that the process used since the last reading, 0 to 1.";
    SYSTEM_MEMORY_USAGE = Gauge "system_memory_usage" [] "1" "Share of the machine's memory that the process holds, 0 to 1.";
    SYSTEM_DISK_USAGE = Gauge "system_disk_usage" [] "1" "Share of the file system under the data directory that is in use, 0 to 1.";
    PROCESS_THREADS = Gauge "process_threads" [] "threads" "Threads of the process.";
    UPTIME = Gauge "uptime_seconds" [] "seconds" "Time since the process started.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "seconds" "Processor time used by the process, user and system.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" [] "bytes" "Resident memory of the process.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "descriptors" "Open file descriptors of the process.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" [] "seconds" "Unix time at which the process started.";

    HIPPIUS_PROCESS_UP = Gauge "hippius_process_up" [] "1" "Whether a process of the topology is ready: 1, or 0.";
    HIPPIUS_PROCESS_RESTARTS = Counter "hippius_process_restarts_total" [] "restarts" "Restarts of a process that nobody asked for.";
    HIPPIUS_PROCESS_START_TIME = Gauge "hippius_process_start_time_seconds" [] "seconds" "Unix time at which the running generation of a process was started.";
    HIPPIUS_LOG_LINES_DROPPED = Counter "hippius_log_lines_dropped_total" [] "lines" "Log lines of a process that were not kept.";
    HIPPIUS_TELEMETRY_REFUSED = Counter "hippius_telemetry_refused_total" ["reason"] "events" "Telemetry requests and series refused, by reason.";
    HIPPIUS_CONNECTIONS_REFUSED = Counter "hippius_connections_refused_total" ["server"] "connections" "Connections to a server of the supervisor (control, metrics, receiver) closed because too many were open.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn exposed_names_and_twins_are_unique() {
        let mut seen = HashSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.exposed_name()), "{} twice", metric.name);
            if let Some(twin) = metric.twin() {
                assert!(seen.insert(twin.to_owned()), "{twin} twice");
            }
        }
    }

    #[test]
    fn names_of_the_documented_queries_exist() {
        let exposed: HashSet<String> = ALL
            .iter()
            .flat_map(|metric| [Some(metric.exposed_name()), metric.twin().map(str::to_owned)])
            .flatten()
            .collect();
        for name in [
            "p2p_messages_received",
            "p2p_messages_received_total",
            "p2p_connected_peers",
            "p2p_messages_sent",
            "p2p_bytes_sent",
            "p2p_bytes_received",
            "p2p_peer_bytes_sent_total",
            "p2p_peer_bytes_received_total",
            "p2p_peer_latency_seconds",
            "system_cpu_usage",
            "system_memory_usage",
            "system_disk_usage",
            "system_thread_count",
            "uptime_seconds",
            "ws_active_connections",
            "ws_total_connections",
            "ws_messages_sent",
            "ws_messages_received",
            "hippius_process_up",
            "hippius_process_restarts_total",
            "hippius_process_start_time_seconds",
        ] {
            assert!(exposed.contains(name), "{name} is missing");
        }
    }
}
