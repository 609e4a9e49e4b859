//! Clients of the metrics endpoint that push what they must not, or send rubbish: refused, counted by reason, and
//! neither the processes nor their figures change.

mod support;

use std::collections::BTreeMap;
use std::io::Write;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use prost::Message;
use support::figures::{figure, samples};
use support::wire::{Connection, Place, rubbish};
use support::{EVERY_ROLE, Network, http_get, text, wait_until};

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

struct Endpoint {
    url: String,
    place: Place,
}

impl Endpoint {
    fn of(network: &Network) -> Self {
        let url = network.status().metrics;
        let place = Place::of_url(&url);
        Self { url, place }
    }

    /// Posts a push; gives the status, 0 where the connection broke.
    fn push(&self, headers: &str, body: &[u8]) -> u16 {
        self.place.request("POST", "/v1/metrics", headers, body).status
    }

    /// `hippius_telemetry_refused_total` by reason.
    fn refused(&self) -> BTreeMap<String, f64> {
        samples(&http_get(&self.url))
            .into_iter()
            .filter(|sample| sample.name == "hippius_telemetry_refused_total")
            .map(|sample| (sample.label("reason").to_owned(), sample.value))
            .collect()
    }
}

/// The header with the token that the supervisor gave to a process.
fn token_of(network: &Network, process: &str) -> String {
    let config = network.read(&format!("data/{process}/config.toml"));
    let line = config.lines().find(|line| line.starts_with("token = ")).expect("a token");
    format!("authorization: Bearer {}\r\n", line.split('"').nth(1).expect("a string"))
}

/// A push of one gauge that says whose it is.
fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) -> Vec<u8> {
    let label = |(key, value): &(&str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue((*value).to_owned())) }),
        ..Default::default()
    };
    let point = NumberDataPoint {
        attributes: labels.iter().map(label).collect(),
        value: Some(number_data_point::Value::AsDouble(value)),
        ..Default::default()
    };
    let metric = Metric {
        name: name.to_owned(),
        data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
        ..Default::default()
    };
    let scopes = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let resource = ResourceMetrics { scope_metrics: scopes, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

#[test]
fn pushes_without_a_right_are_refused_and_counted() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let body = gauge("intruder", 1.0, &[]);
    let before = endpoint.refused().get("unauthenticated").copied().unwrap_or_default();
    let strangers = [
        String::new(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer 00\r\n".to_owned(),
        format!("authorization: Bearer {}\r\n", "0".repeat(64)),
        format!("authorization: Basic {}\r\n", "0".repeat(64)),
        format!("authorization: Bearer {}\r\n", "z".repeat(10_000)),
    ];
    for headers in &strangers {
        assert_eq!(endpoint.push(&format!("{PROTOBUF}{headers}"), &body), 401, "{headers}");
    }
    let after = endpoint.refused()["unauthenticated"];
    assert!(after >= before + strangers.len() as f64, "{before} {after}");
    assert_eq!(figure(&http_get(&endpoint.url), "intruder", &[]), None);
    network.assert_unharmed();
    network.down();
}

#[test]
fn what_is_no_push_is_refused_and_counted_by_reason() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let token = token_of(&network, "web");
    let good = gauge("intruder", 1.0, &[]);
    // A gzip of a megabyte of zeros would be a bomb; the announcement alone is enough to be refused.
    for headers in [
        "content-type: application/json\r\n",
        "",
        "content-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n",
        "content-type: application/x-protobuf\r\ncontent-encoding: zstd\r\n",
    ] {
        assert_eq!(endpoint.push(&format!("{headers}{token}"), &good), 415, "{headers}");
    }
    assert!(endpoint.refused()["media_type"] >= 4.0);
    for body in [&[0xff; 1000][..], b"{\"resourceMetrics\": []}", &good[..good.len() - 3]] {
        assert_eq!(endpoint.push(&format!("{PROTOBUF}{token}"), body), 400);
    }
    assert!(endpoint.refused()["malformed"] >= 3.0);
    let status = endpoint.push(&format!("{PROTOBUF}{token}"), &vec![0; 2 * 1024 * 1024]);
    assert!(matches!(status, 413 | 0), "too large, or the line is cut: {status}");
    wait_until("it is counted", || endpoint.refused().get("too_large").is_some_and(|count| *count >= 1.0));
    assert_eq!(figure(&http_get(&endpoint.url), "intruder", &[]), None);
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_push_in_another_s_name_stays_with_its_sender() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let token = token_of(&network, "node-0");
    let claim = gauge("test_claim", 4242.0, &[("process", "node-1"), ("role", "web")]);
    // The node's own pushes replace this one every second, so a look may come too late.
    wait_until("it is kept under the sender's name", || {
        assert_eq!(endpoint.push(&format!("{PROTOBUF}{token}"), &claim), 200);
        let page = http_get(&endpoint.url);
        assert_eq!(
            figure(&page, "test_claim", &[("process", "node-1")]),
            None,
            "never under the claimed one"
        );
        assert_eq!(figure(&page, "test_claim", &[("role", "web")]), None);
        figure(&page, "test_claim", &[("process", "node-0"), ("role", "node")]) == Some(4242.0)
    });
    assert!(endpoint.refused()["identity"] >= 1.0);
    // The supervisor's own names are nobody else's.
    let reserved = gauge("hippius_process_up", 7.0, &[]);
    endpoint.push(&format!("{PROTOBUF}{token}"), &reserved);
    let up = |process| figure(&http_get(&endpoint.url), "hippius_process_up", &[("process", process)]);
    assert_eq!((up("node-0"), up("node-1")), (Some(1.0), Some(1.0)));
    assert!(endpoint.refused()["reserved"] >= 1.0);
    network.assert_unharmed();
    network.down();
}

#[test]
fn the_token_of_an_ended_process_is_worth_nothing() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let old = token_of(&network, "node-0");
    network.run_ok(&["restart", "node-0"]);
    assert_ne!(token_of(&network, "node-0"), old, "each incarnation has its own");
    assert_eq!(endpoint.push(&format!("{PROTOBUF}{old}"), &gauge("intruder", 1.0, &[])), 401);
    assert!(endpoint.refused()["late"] >= 1.0);
    assert_eq!(figure(&http_get(&endpoint.url), "intruder", &[]), None);
    network.down();
}

#[test]
fn too_many_pushes_are_refused_and_counted() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let headers = format!("{PROTOBUF}{}", token_of(&network, "web"));
    // The bucket holds 20 and fills with 10 a second: whoever pushes as fast as possible empties it.
    let body = gauge("p2p_connected_peers", 1.0, &[]);
    wait_until("one is refused", || endpoint.push(&headers, &body) == 429);
    assert!(endpoint.refused()["rate"] >= 1.0);
    network.assert_unharmed();
    network.down();
}

#[test]
fn rubbish_and_wrong_requests_are_answered_with_an_error_or_the_end() {
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    for bytes in rubbish() {
        let reply = text(&endpoint.place.send(&bytes));
        let start = text(&bytes[..bytes.len().min(40)]);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{start:?}: {reply}");
    }
    for (method, target, status) in [
        ("POST", "/metrics", 405),
        ("DELETE", "/stats", 405),
        ("GET", "/v1/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/stats/%2e%2e/metrics", 404),
    ] {
        assert_eq!(endpoint.place.request(method, target, "", b"").status, status, "{method} {target}");
    }
    network.assert_unharmed();
    network.down();
}

#[test]
fn half_open_connections_and_more_than_the_limit_are_survived() {
    /// Connections that the endpoint serves at once.
    const METRICS_CONNECTIONS: usize = 2_500;
    hippius::roles::runtime::raise_file_limit();
    let network = Network::up(EVERY_ROLE);
    let endpoint = Endpoint::of(&network);
    let mut held: Vec<Connection> = (0..100).map(|_| endpoint.place.connect()).collect();
    for connection in &mut held {
        connection.write_all(b"POST /v1/metrics HTTP/1.1\r\ncontent-length: 10\r\n").unwrap();
    }
    assert!(http_get(&endpoint.url).contains("hippius_process_up"), "others are served");
    network.assert_unharmed();
    held.extend((0..METRICS_CONNECTIONS).map(|_| endpoint.place.connect()));
    // For those beyond the limit the oldest idle ones are closed: the first of all reads its end.
    assert_eq!(held[0].rest(), b"");
    assert!(http_get(&endpoint.url).contains("hippius_process_up"), "others are served");
    network.assert_unharmed();
    drop(held);
    wait_until("others are served again", || endpoint.place.request("GET", "/stats", "", b"").status == 200);
    network.assert_unharmed();
    network.down();
}
