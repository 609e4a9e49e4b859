//! What telemetry costs with 100 processes: each push at its sender and at the receiver, and each scrape.
//!
//! `cargo bench --bench otlp_ingest`

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use hippius::telemetry::instruments::P2pInstruments;
use hippius::telemetry::snapshot::Snapshot;
use hippius::telemetry::stats::Stats;
use hippius::telemetry::store::{Limits, SharedStore};
use hippius::telemetry::supervisor::supervisor_meter;
use hippius::telemetry::token::Token;
use hippius::telemetry::{exposition, host};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{ManualReader, Pipeline, SdkMeterProvider};
use prost::Message;

const PROCESSES: usize = 100;
/// Peers of a node that has connected to as many as it keeps.
const PEERS: usize = 16;
const ROUNDS: u32 = 200;

#[derive(Debug, Clone)]
struct Reader(std::sync::Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }
    fn collect(&self, metrics: &mut ResourceMetrics) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.collect(metrics)
    }
    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.force_flush()
    }
    fn shutdown_with_timeout(&self, timeout: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
    fn temporality(
        &self,
        kind: opentelemetry_sdk::metrics::InstrumentKind,
    ) -> opentelemetry_sdk::metrics::Temporality {
        self.0.temporality(kind)
    }
}

fn main() {
    let reader = Reader(std::sync::Arc::new(ManualReader::builder().build()));
    let provider = SdkMeterProvider::builder().with_reader(reader.clone()).build();
    let meter = provider.meter("bench");
    record(&P2pInstruments::new(&meter));
    host::observe(&meter, Path::new("/")).expect("/proc is there");

    let mut metrics = ResourceMetrics::default();
    let mut body = Vec::new();
    let encode = time("sender: collect and encode one push", ROUNDS, || {
        reader.collect(&mut metrics).expect("the provider lives");
        body.clear();
        ExportMetricsServiceRequest::from(&metrics).encode(&mut body).expect("a vector grows");
    });

    let store = SharedStore::default();
    let (registry, _provider, _meter) = supervisor_meter().expect("a new registry");
    exposition::register(&registry, store.clone()).expect("the first store");
    let tokens: Vec<Token> = (0..PROCESSES).map(|_| Token::random()).collect();
    for (index, token) in tokens.iter().enumerate() {
        store.lock().register(token, &format!("node-{index}"), "node", 1);
    }
    let limits = Limits::default();
    let mut pushes = 0_u32;
    let ingest = time("receiver: decode, judge and store one push", ROUNDS * 10, || {
        // A second passes between two pushes of one process.
        let now = Instant::now() + Duration::from_secs(u64::from(pushes) / PROCESSES as u64);
        let token = &tokens[pushes as usize % PROCESSES];
        pushes += 1;
        let ticket = store.lock().admit(Some(token), now).expect("it is registered");
        let request = ExportMetricsServiceRequest::decode(body.as_slice()).expect("it was just encoded");
        let snapshot = Snapshot::from_request(request, &limits);
        black_box(store.lock().accept(&ticket, snapshot, now).expect("it lives"));
    });
    time("receiver: /metrics of all processes", 20, || {
        black_box(exposition::render(&registry));
    });
    time("receiver: /stats of all processes", 20, || {
        black_box(serde_json::to_vec(&Stats::of(&exposition::gather(&registry))).expect("plain data"));
    });
    let page = exposition::render(&registry);
    println!(
        "a push: {} bytes; the page: {} lines, {} KiB",
        body.len(),
        page.lines().count(),
        page.len() / 1024
    );
    println!(
        "{PROCESSES} processes at one push a second: senders {:.2} %, receiver {:.2} % of one core (without sockets)",
        encode.as_secs_f64() * PROCESSES as f64 * 100.0,
        ingest.as_secs_f64() * PROCESSES as f64 * 100.0,
    );
}

fn record(p2p: &P2pInstruments) {
    p2p.connected_peers.record(PEERS as u64, &[]);
    for counter in [&p2p.messages_sent, &p2p.messages_received, &p2p.bytes_sent, &p2p.bytes_received] {
        counter.add(12_345, &[]);
    }
    p2p.dials.add(1, &[KeyValue::new("result", "ok")]);
    for peer in 0..PEERS {
        let name = KeyValue::new("peer", format!("12D3KooWGjMCw5CkAYAqWyiFG4Zj7TQvEVBRyJBsgHXJ5M{peer:06}"));
        let peer = [name];
        for counter in [
            &p2p.peer_bytes_sent,
            &p2p.peer_bytes_received,
            &p2p.peer_messages_sent,
            &p2p.peer_messages_received,
        ] {
            counter.add(99, &peer);
        }
        p2p.peer_latency.record(0.001, &peer);
        let [name] = peer;
        p2p.peer_connected_since.record(1_700_000_000.0, &[name, KeyValue::new("connection_type", "tcp")]);
    }
}

fn time(what: &str, rounds: u32, mut run: impl FnMut()) -> Duration {
    run();
    let begin = Instant::now();
    for _ in 0..rounds {
        run();
    }
    let each = begin.elapsed() / rounds;
    println!("{what}: {:.1} µs", each.as_secs_f64() * 1e6);
    each
}
