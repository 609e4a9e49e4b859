//! What telemetry costs with 100 processes: each push at its sender and at the receiver, each scrape, and all of it
//! together over real sockets.
//!
//! `cargo bench --bench otlp_ingest`

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use hippius::control::http;
use hippius::telemetry::export::{ExportSettings, Exporter};
use hippius::telemetry::instruments::P2pInstruments;
use hippius::telemetry::snapshot::Snapshot;
use hippius::telemetry::stats::Stats;
use hippius::telemetry::store::{Limits, SharedStore};
use hippius::telemetry::supervisor::supervisor_meter;
use hippius::telemetry::token::Token;
use hippius::telemetry::{catalogue, exposition, host, receiver};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
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
    record(&P2pInstruments::new(&meter), &meter);
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
    let mut next = || {
        // A second passes between two pushes of one process.
        let now = Instant::now() + Duration::from_secs(u64::from(pushes) / PROCESSES as u64);
        let token = &tokens[pushes as usize % PROCESSES];
        pushes += 1;
        (store.lock().admit(Some(token), now).expect("it is registered"), now)
    };
    time("receiver: decode, judge and store a push of new series", ROUNDS * 10, || {
        let (ticket, now) = next();
        let request = ExportMetricsServiceRequest::decode(body.as_slice()).expect("it was just encoded");
        let snapshot = Snapshot::from_request(request, &limits);
        let _ = black_box(store.lock().accept(&ticket, snapshot, now).expect("it lives"));
    });
    let ingest = time("receiver: store a push with new numbers for known series", ROUNDS * 100, || {
        let (ticket, now) = next();
        let _ = black_box(store.ingest(&ticket, &body, now).expect("it lives"));
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
    over_sockets();
}

/// 100 exporters and one server in this process, for a few seconds: the processor time of the server's thread, and of
/// all others.
fn over_sockets() {
    let store = SharedStore::default();
    let (bound, address) = std::sync::mpsc::channel();
    let in_store = store.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (registry, _provider, _meter) = supervisor_meter().expect("a new registry");
            exposition::register(&registry, in_store.clone()).expect("the first store");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
            // The link leads to the thread that opens it.
            let used = std::fs::File::open("/proc/thread-self/schedstat").expect("/proc is there");
            bound.send((listener.local_addr().expect("it is bound"), used)).expect("main waits");
            let _server =
                http::serve(listener, http::Limits::default(), receiver::handler(in_store, registry));
            std::future::pending::<()>().await;
        });
    });
    let (address, used) = address.recv().expect("the server starts");
    let nanoseconds = || {
        let mut text = [0; 64];
        let length = std::os::unix::fs::FileExt::read_at(&used, &mut text, 0).expect("/proc is there");
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("as proc(5) says")
    };
    let exporters: Vec<_> = (0..PROCESSES)
        .map(|index| {
            let (token, process) = (Token::random(), format!("node-{index}"));
            store.lock().register(&token, &process, "node", 1);
            let (exporter, meter) = Exporter::start(ExportSettings {
                endpoint: format!("http://{address}/v1/metrics"),
                token: Some(token.to_hex()),
                interval: Duration::from_secs(1),
                process,
                role: "node".to_owned(),
            })
            .expect("the endpoint is good");
            record(&P2pInstruments::new(&meter), &meter);
            host::observe(&meter, Path::new("/")).expect("/proc is there");
            // Starts are spread as those of real processes are.
            std::thread::sleep(Duration::from_millis(7));
            exporter
        })
        .collect();
    // The first pushes make connections and caches.
    std::thread::sleep(Duration::from_secs(2));
    let mut host = host::Host::open(Path::new("/")).expect("/proc is there");
    let mut all = || host.read().expect("/proc is there").cpu_time;
    let (all_before, server_before, begin) = (all(), nanoseconds(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let wall = begin.elapsed().as_secs_f64();
    let server = (nanoseconds() - server_before) as f64 / 1e9;
    let senders = (all() - all_before).as_secs_f64() - server;
    println!(
        "over sockets: senders {:.2} %, receiver {:.2} % of one core",
        senders / wall * 100.0,
        server / wall * 100.0
    );
    drop(store);
    // All at once: each waits for its last push.
    std::thread::scope(|scope| {
        for exporter in exporters {
            scope.spawn(move || exporter.shutdown());
        }
    });
}

fn record(p2p: &P2pInstruments, meter: &Meter) {
    let by_peer = [
        catalogue::P2P_PEER_BYTES_SENT.u64_counter(meter),
        catalogue::P2P_PEER_BYTES_RECEIVED.u64_counter(meter),
        catalogue::P2P_PEER_MESSAGES_SENT.u64_counter(meter),
        catalogue::P2P_PEER_MESSAGES_RECEIVED.u64_counter(meter),
    ];
    let latency = catalogue::P2P_PEER_LATENCY.f64_gauge(meter);
    let since = catalogue::P2P_PEER_CONNECTED_SINCE.f64_gauge(meter);
    p2p.connected_peers.record(PEERS as u64, &[]);
    for counter in [&p2p.messages_sent, &p2p.messages_received, &p2p.neighbours_blocked, &p2p.hole_punches] {
        counter.add(12_345, &[]);
    }
    p2p.dials.add(1, &[KeyValue::new("result", "ok")]);
    for peer in 0..PEERS {
        let name = KeyValue::new("peer", format!("12D3KooWGjMCw5CkAYAqWyiFG4Zj7TQvEVBRyJBsgHXJ5M{peer:06}"));
        let peer = [name];
        for counter in &by_peer {
            counter.add(99, &peer);
        }
        latency.record(0.001, &peer);
        let [name] = peer;
        since.record(1_700_000_000.0, &[name, KeyValue::new("connection_type", "tcp")]);
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
