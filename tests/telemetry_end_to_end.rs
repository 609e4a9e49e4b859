//! From an instrument in a role to the page that Prometheus reads, over real sockets.

#[path = "telemetry_support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use hippius::telemetry::catalogue::{self, Kind};
use hippius::telemetry::refusal::Reason;
use hippius::telemetry::stats::Stats;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use support::{MetricsServer, eventually, record_everything};

const QUIET: Duration = Duration::from_secs(3600);
const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

#[test]
fn every_metric_of_the_catalogue_arrives_with_its_identity() {
    let server = MetricsServer::start();
    let (exporter, meter) = server.exporter("node-0", "node", QUIET);
    record_everything(&meter);
    exporter.shutdown();
    let page = server.get("/metrics");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    let identity = "{process=\"node-0\",role=\"node\"";
    for metric in catalogue::ALL {
        for name in [Some(metric.exposed_name()), metric.twin().map(str::to_owned)].into_iter().flatten() {
            let own = name.starts_with("hippius_telemetry") || name.starts_with("hippius_connections");
            let identity = if own { "{process=\"supervisor\"" } else { identity };
            // A distribution shows as its parts.
            let series = if metric.kind == Kind::Histogram { format!("{name}_count") } else { name.clone() };
            assert!(page.body.contains(&format!("\n{series}{identity}")), "{name} is not in\n{}", page.body);
            assert!(page.body.contains(&format!("# HELP {name} {}", metric.help)), "{name}");
        }
    }
    let stats: Stats = serde_json::from_str(&server.get("/stats").body).unwrap();
    assert_eq!((stats.network.messages_received, stats.websocket.total_connections), (7, 9));
    assert_eq!(stats.network.peer_connections.len(), 1);
    assert!(stats.processes.contains_key("node-0") && stats.processes.contains_key("supervisor"));

    server.store.lock().exited("node-0", 1);
    let page = server.get("/metrics").body;
    assert!(!page.contains(&format!("\np2p_connected_peers{identity}")));
    assert!(page.contains(&format!("\np2p_messages_sent{identity}}} 5\n")));
}

#[test]
fn exports_repeat_by_themselves() {
    let server = MetricsServer::start();
    let (_exporter, meter) = server.exporter("node-0", "node", Duration::from_millis(100));
    let counter = meter.u64_counter("p2p_messages_sent").build();
    for round in 1..=3 {
        counter.add(1, &[]);
        let line = format!("p2p_messages_sent_total{{process=\"node-0\",role=\"node\"}} {round}\n");
        eventually("the next export", || server.get("/metrics").body.contains(&line).then_some(()));
    }
}

/// The page as any other program would read it: split by hand, without any of our code.
#[test]
fn the_page_is_well_formed() {
    let server = MetricsServer::start();
    for process in ["node-0", "node-1"] {
        let (exporter, meter) = server.exporter(process, "node", QUIET);
        record_everything(&meter);
        exporter.shutdown();
    }
    let page = server.get("/metrics").body;
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
            current = name;
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(seen.insert(series), "{series} is there twice");
            let (name, labels) = series.split_once('{').unwrap();
            let family = match types[current] {
                "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)),
                _ => Some(name),
            };
            assert_eq!(family, Some(current), "{line} is not with its type");
            assert!(
                labels.contains("process=\"") && labels.contains("role=\"") && labels.ends_with('}'),
                "{line}"
            );
        }
    }
    assert_eq!(types["p2p_messages_received"], "untyped");
    assert_eq!(types["p2p_messages_received_total"], "counter");
    assert!(page.contains("what=\"a \\\"quoted\\\" \\\\ thing\\nhere\""), "{page}");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let server = MetricsServer::start();
    let (exporter, meter) = server.exporter("node-0", "node", QUIET);
    record_everything(&meter);
    exporter.shutdown();
    let page = server.get("/metrics").body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: install the package `prometheus`");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[derive(Debug)]
struct PlainClient(std::net::SocketAddr);

#[async_trait::async_trait]
impl opentelemetry_http::HttpClient for PlainClient {
    async fn send_bytes(
        &self,
        request: opentelemetry_http::Request<opentelemetry_http::Bytes>,
    ) -> Result<opentelemetry_http::Response<opentelemetry_http::Bytes>, opentelemetry_http::HttpError> {
        use std::io::Read;
        let mut stream = TcpStream::connect(self.0)?;
        let mut head = format!("POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", request.uri().path());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str()?));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", request.body().len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(request.body())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default().parse::<u16>()?;
        Ok(opentelemetry_http::Response::builder().status(status).body(opentelemetry_http::Bytes::new())?)
    }
}

/// The receiver understands OpenTelemetry's own exporter, not just ours.
#[test]
fn the_official_exporter_is_understood() {
    let server = MetricsServer::start();
    let token = server.spawn("foreign", "node").to_hex();
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_http()
        .with_http_client(PlainClient(server.address))
        .with_endpoint(format!("http://{}/v1/metrics", server.address))
        .with_headers(HashMap::from([("authorization".to_owned(), format!("Bearer {token}"))]))
        .build()
        .unwrap();
    let reader = PeriodicReader::builder(exporter).with_interval(QUIET).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let meter = provider.meter("foreign");
    meter.f64_histogram("request.duration").with_boundaries(vec![0.1, 1.0]).build().record(0.5, &[]);
    meter.i64_up_down_counter("open").build().add(-2, &[]);
    provider.force_flush().unwrap();
    let page = server.get("/metrics").body;
    for line in [
        "open{process=\"foreign\",role=\"node\"} -2",
        "request_duration_bucket{process=\"foreign\",role=\"node\",le=\"0.1\"} 0",
        "request_duration_bucket{process=\"foreign\",role=\"node\",le=\"1\"} 1",
        "request_duration_bucket{process=\"foreign\",role=\"node\",le=\"+Inf\"} 1",
        "request_duration_sum{process=\"foreign\",role=\"node\"} 0.5",
        "request_duration_count{process=\"foreign\",role=\"node\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[test]
fn strangers_and_rubbish_are_refused_counted_and_harmless() {
    let server = MetricsServer::start();
    let token = format!("authorization: Bearer {}\r\n", server.spawn("node-0", "node").to_hex());
    let stranger = format!("authorization: Bearer {}\r\n", "0".repeat(64));
    let known = |headers: &str| format!("{token}{headers}");

    for headers in ["", &stranger, "authorization: Bearer x\r\n", "authorization: Basic eDp5\r\n"] {
        let answer = server.post(&format!("{PROTOBUF}{headers}"), b"");
        assert_eq!(answer.status, 401, "{headers}");
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    assert_eq!(server.refused(Reason::Unauthenticated), 4);

    for kind in ["", "content-type: application/json\r\n", &format!("{PROTOBUF}content-encoding: gzip\r\n")] {
        assert_eq!(server.post(&known(kind), b"{}").status, 415, "{kind}");
    }
    assert_eq!(server.refused(Reason::MediaType), 3);

    assert_eq!(server.post(&known(PROTOBUF), b"\xff\xff\xff\xff").status, 400);
    assert_eq!(server.refused(Reason::Malformed), 1);

    let limit = hippius::telemetry::receiver::MAX_PUSH_BYTES;
    assert_eq!(server.post(&known(PROTOBUF), &vec![0; limit + 1]).status, 413);
    assert_eq!(server.refused(Reason::TooLarge), 1);

    let statuses: Vec<u16> = (0..40).map(|_| server.post(&known(PROTOBUF), b"").status).collect();
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");

    let page = server.get("/metrics");
    assert_eq!(page.status, 200);
    let line = "hippius_telemetry_refused_total{process=\"supervisor\",reason=\"unauthenticated\",role=\"supervisor\"} 4";
    assert!(page.body.lines().any(|found| found == line), "{}", page.body);
}

#[test]
fn paths_and_methods_are_checked() {
    let server = MetricsServer::start();
    for path in ["/", "/metrics/", "/v1/traces", "/..%2f"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    for (method, path, allowed) in
        [("GET", "/v1/metrics", "post"), ("POST", "/metrics", "get, head"), ("DELETE", "/stats", "get, head")]
    {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = server.send(&head, &[]);
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.head.contains(&format!("allow: {allowed}")), "{}", answer.head);
    }
    let head = server.send("HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", &[]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn a_client_that_speaks_no_http_harms_nobody() {
    let server = MetricsServer::start();
    server.send("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &[0xff; 64]);
    server.send("GET /metrics\r\n\r\n", &[]);
    assert_eq!(server.get("/metrics").status, 200);
}
