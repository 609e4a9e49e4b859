use opentelemetry::KeyValue;

use super::super::instruments::{P2pInstruments, SignalingInstruments};
use super::super::supervisor::supervisor_meter;
use super::super::{exposition, host};
use super::*;

/// Families as they are after the exporter: counters end in `_total`.
fn family(metric: &Named, series: &[(&[(&str, &str)], f64)]) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.exposed_name());
    family.set_field_type(prometheus::proto::MetricType::UNTYPED);
    family.set_metric(
        series
            .iter()
            .map(|(labels, value)| {
                let labels = labels.iter().map(|(name, value)| {
                    let mut pair = prometheus::proto::LabelPair::default();
                    pair.set_name((*name).to_owned());
                    pair.set_value((*value).to_owned());
                    pair
                });
                let mut gauge = prometheus::proto::Gauge::default();
                gauge.set_value(*value);
                let mut metric = Metric::from_label(labels.collect());
                metric.set_gauge(gauge);
                metric
            })
            .collect(),
    );
    family
}

#[test]
fn totals_are_sums_and_peers_that_left_are_not_shown() {
    let (a, b): ([_; 1], [_; 1]) = ([("process", "a")], [("process", "b")]);
    let stats = Stats::of(&[
        family(&catalogue::P2P_MESSAGES_SENT, &[(&a, 2.0), (&b, 3.0)]),
        family(&catalogue::UPTIME, &[(&a, 20.9), (&b, 7.0)]),
        family(&catalogue::SYSTEM_CPU_USAGE, &[(&a, 0.25), (&b, 0.5)]),
        family(&catalogue::SYSTEM_DISK_USAGE, &[(&a, 0.25), (&b, 0.5)]),
        family(
            &catalogue::P2P_PEER_CONNECTED_SINCE,
            &[
                (&[("process", "a"), ("peer", "P"), ("connection_type", "tcp")], 100.0),
                (&[("process", "a"), ("peer", "P"), ("connection_type", "quic")], 0.0),
                (&[("process", "b"), ("peer", "P"), ("connection_type", "quic")], 50.0),
                (&[("process", "b"), ("peer", "GONE"), ("connection_type", "tcp")], 0.0),
            ],
        ),
        family(
            &catalogue::P2P_PEER_BYTES_SENT,
            &[
                (&[("process", "a"), ("peer", "P")], 10.0),
                (&[("process", "b"), ("peer", "P")], 5.0),
                (&[("process", "b"), ("peer", "GONE")], 5.0),
            ],
        ),
        family(&catalogue::P2P_PEER_LATENCY, &[(&[("process", "a"), ("peer", "P")], 0.002)]),
    ]);
    assert_eq!((stats.network.messages_sent, stats.network.uptime_secs), (5, 20));
    assert_eq!((stats.system.cpu_usage, stats.system.disk_usage), (0.75, 0.5));
    let both = &stats.network.peer_connections["P"];
    assert_eq!((both.bytes_sent, both.connected_since, both.connection_type.as_str()), (15, 50, "quic"));
    let one = &stats.processes["a"].network.peer_connections["P"];
    assert_eq!((one.bytes_sent, one.connected_since, one.connection_type.as_str()), (10, 100, "tcp"));
    assert_eq!(one.latency_ms, Some(2.0));
    assert_eq!(stats.network.peer_connections.len(), 1);
}

#[test]
fn the_json_has_exactly_the_documented_keys() {
    let mut stats = Stats::default();
    stats.network.peer_connections.insert("P".to_owned(), PeerConnection::default());
    stats.processes.insert("a".to_owned(), ProcessStats::default());
    let json = serde_json::to_value(&stats).unwrap();
    let keys = |pointer: &str| {
        let object = json.pointer(pointer).unwrap().as_object().unwrap();
        let mut keys: Vec<String> = object.keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(""), "network processes system turn websocket");
    for at in ["", "/processes/a"] {
        assert_eq!(
            keys(&format!("{at}/network")),
            "bytes_received bytes_sent connected_peers messages_received messages_sent peer_connections uptime_secs"
        );
        assert_eq!(keys(&format!("{at}/system")), "cpu_usage disk_usage memory_usage thread_count");
        assert_eq!(
            keys(&format!("{at}/websocket")),
            "active_connections messages_received messages_sent total_connections"
        );
        assert_eq!(
            keys(&format!("{at}/turn")),
            "allocations auth_failures bytes_received bytes_sent dropped packets_received packets_sent refused"
        );
    }
    assert_eq!(
        keys("/network/peer_connections/P"),
        "bytes_received bytes_sent connected_since connection_type latency_ms messages_received messages_sent peer_id"
    );
}

/// Every metric in [`SHOWN`] moves a figure: a renamed instrument would be noticed here.
#[test]
fn every_shown_metric_moves_a_figure() {
    for metric in SHOWN {
        let mut families = Vec::new();
        let peer: &[(&str, &str)] = &[("process", "a"), ("peer", "P")];
        if metric.labels.contains(&"peer") {
            families.push(family(&catalogue::P2P_PEER_CONNECTED_SINCE, &[(peer, 5.0)]));
        }
        let before = Stats::of(&families);
        let labels: &[(&str, &str)] = if metric.labels.contains(&"peer") { peer } else { &peer[..1] };
        families.push(family(metric, &[(labels, 7.0)]));
        assert_ne!(before, Stats::of(&families), "{}", metric.name);
    }
}

#[test]
fn instruments_and_stats_agree_on_names() {
    let (registry, _provider, meter) = supervisor_meter().unwrap();
    let own = [KeyValue::new("process", "a"), KeyValue::new("role", "node")];
    P2pInstruments::new(&meter).connected_peers.record(4, &own);
    SignalingInstruments::new(&meter).active_connections.record(2, &own);
    host::observe_as(&meter, std::path::Path::new("/"), &own).unwrap();
    let stats = Stats::of(&exposition::gather(&registry));
    assert_eq!((stats.network.connected_peers, stats.websocket.active_connections), (4, 2));
    assert!(stats.system.thread_count > 0 && stats.system.memory_usage > 0.0, "{:?}", stats.system);
}
