//! A metrics server as the supervisor runs it, in a thread, and a bare HTTP client to look at it from outside.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hippius::control::http::{self, Limits};
use hippius::telemetry::export::{ExportSettings, Exporter};
use hippius::telemetry::instruments::{P2pInstruments, SignalingInstruments, WebInstruments};
use hippius::telemetry::store::SharedStore;
use hippius::telemetry::supervisor::{
    ProcessFigures, ProcessTable, SupervisorInstruments, Up, supervisor_meter,
};
use hippius::telemetry::token::Token;
use hippius::telemetry::{catalogue, exposition, host, receiver};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// A running server; it ends when this is dropped.
pub struct MetricsServer {
    pub address: SocketAddr,
    pub store: SharedStore,
    pub processes: ProcessTable,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    pub fn start() -> Self {
        let (store, processes) = (SharedStore::default(), ProcessTable::new());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::channel();
        let (in_store, in_processes) = (store.clone(), processes.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (registry, _provider, meter) = supervisor_meter().unwrap();
                let _instruments = SupervisorInstruments::new(
                    &meter,
                    &in_processes,
                    &in_store,
                    vec![("control", Arc::default())],
                    Path::new("/"),
                )
                .unwrap();
                exposition::register(&registry, in_store.clone()).unwrap();
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let server = http::serve(listener, Limits::default(), receiver::handler(in_store, registry));
                let _ = stopped.await;
                server.shutdown(Duration::from_secs(1)).await;
            });
        });
        let address = address.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { address, store, processes, stop: Some(stop), thread: Some(thread) }
    }

    /// Registers a process with the store and in the table, as the supervisor does when it spawns one.
    pub fn spawn(&self, process: &str, role: &str) -> Token {
        let token = Token::random();
        self.store.lock().register(&token, process, role, 1);
        let start_time = Some(std::time::SystemTime::now());
        self.processes.set(
            process,
            ProcessFigures {
                role: role.to_owned(),
                up: Up::Yes,
                restarts: 0,
                start_time,
                dropped_lines: Arc::default(),
            },
        );
        token
    }

    pub fn exporter(&self, process: &str, role: &str, interval: Duration) -> (Exporter, Meter) {
        let token = self.spawn(process, role);
        Exporter::start(ExportSettings {
            endpoint: format!("http://{}/v1/metrics", self.address),
            token: Some(token.to_hex()),
            interval,
            process: process.to_owned(),
            role: role.to_owned(),
        })
        .unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), &[])
    }

    pub fn post(&self, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&head, body)
    }

    pub fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer, and close, before it has read a body that it refuses.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            panic!("pages have a length: {head}")
        } else {
            body.to_owned()
        };
        Answer { status, head: head.to_ascii_lowercase(), body }
    }

    pub fn refused(&self, reason: hippius::telemetry::refusal::Reason) -> u64 {
        self.store.lock().refused().get(reason)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Waits until `condition` gives a value.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Records one value on every instrument that a role has.
pub fn record_everything(meter: &Meter) {
    let p2p = P2pInstruments::new(meter);
    let peer = [KeyValue::new("peer", "12D3KooWGjMCw5CkAYAqWyiFG4Zj7TQvEVBRyJBs")];
    let since = [peer[0].clone(), KeyValue::new("connection_type", "tcp")];
    p2p.connected_peers.record(3, &[]);
    p2p.messages_sent.add(5, &[]);
    p2p.messages_received.add(7, &[]);
    catalogue::P2P_BYTES_SENT.u64_counter(meter).add(500, &[]);
    catalogue::P2P_BYTES_RECEIVED.u64_counter(meter).add(700, &[]);
    catalogue::P2P_PEER_BYTES_SENT.u64_counter(meter).add(50, &peer);
    catalogue::P2P_PEER_BYTES_RECEIVED.u64_counter(meter).add(70, &peer);
    catalogue::P2P_PEER_MESSAGES_SENT.u64_counter(meter).add(1, &peer);
    catalogue::P2P_PEER_MESSAGES_RECEIVED.u64_counter(meter).add(2, &peer);
    catalogue::P2P_PEER_CONNECTED_SINCE.f64_gauge(meter).record(1_700_000_000.0, &since);
    catalogue::P2P_PEER_LATENCY.f64_gauge(meter).record(0.0015, &peer);
    p2p.dials.add(1, &[KeyValue::new("result", "ok")]);
    p2p.refused.add(1, &[KeyValue::new("what", "a \"quoted\" \\ thing\nhere")]);
    for counter in [
        &p2p.kademlia_queries,
        &p2p.private_messages_sent,
        &p2p.private_messages_received,
        &p2p.files_sent,
        &p2p.files_received,
        &p2p.file_bytes_sent,
        &p2p.file_bytes_received,
        &p2p.neighbours_blocked,
        &p2p.hole_punches,
    ] {
        counter.add(1, &[]);
    }
    for gauge in [&p2p.relay_reservations, &p2p.relay_circuits, &p2p.relays_held] {
        gauge.record(1, &[]);
    }
    for histogram in [&p2p.round_trip, &p2p.kademlia_query_time] {
        histogram.record(0.001, &[]);
    }
    catalogue::P2P_PROTOCOL_BYTES.u64_counter(meter).add(5, &[KeyValue::new("protocol", "ping")]);
    catalogue::P2P_MESSAGES_DUPLICATE.u64_counter(meter).add(1, &[]);
    catalogue::P2P_CONNECTIONS.u64_gauge(meter).record(1, &[KeyValue::new("transport", "tcp")]);
    catalogue::P2P_MESH_PEERS.u64_gauge(meter).record(1, &[KeyValue::new("topic", "lobby")]);
    let signaling = SignalingInstruments::new(meter);
    signaling.active_connections.record(2, &[]);
    signaling.total_connections.add(9, &[]);
    signaling.messages_sent.add(11, &[]);
    signaling.messages_received.add(13, &[]);
    signaling.refused.add(1, &[KeyValue::new("reason", "full")]);
    signaling.webrtc_connections.record(1, &[KeyValue::new("type", "direct")]);
    WebInstruments::new(meter).requests.add(1, &[KeyValue::new("status", 200)]);
    catalogue::WEB_CONNECTIONS_REFUSED.u64_counter(meter).add(1, &[]);
    catalogue::TLS_REFUSED.u64_counter(meter).add(1, &[KeyValue::new("reason", "handshake")]);
    catalogue::TURN_ALLOCATIONS.u64_gauge(meter).record(1, &[]);
    catalogue::TURN_CONNECTIONS.u64_gauge(meter).record(1, &[]);
    for counter in [
        &catalogue::TURN_ALLOCATED,
        &catalogue::TURN_BYTES_SENT,
        &catalogue::TURN_BYTES_RECEIVED,
        &catalogue::TURN_PACKETS_SENT,
        &catalogue::TURN_PACKETS_RECEIVED,
        &catalogue::TURN_BINDINGS,
        &catalogue::TURN_UNREACHABLE,
        &catalogue::TURN_AUTH_FAILURES,
        &catalogue::TURN_LOG_FAILURES,
        &catalogue::TURN_LOG_MISSED,
    ] {
        counter.u64_counter(meter).add(1, &[]);
    }
    catalogue::TURN_DROPPED.u64_counter(meter).add(1, &[KeyValue::new("reason", "malformed")]);
    catalogue::TURN_REFUSED.u64_counter(meter).add(1, &[KeyValue::new("code", 401)]);
    host::observe(meter, Path::new("/")).unwrap();
}
