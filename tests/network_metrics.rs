//! What the metrics of a running network say: the documented names, for every process, true to what happens.

mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::figures::{figure, samples};
use support::{DEADLINE, EVERY_ROLE, Network, http_get, wait_until};

const PROCESSES: [(&str, &str); 5] = [
    ("bootnode", "bootnode"),
    ("node-0", "node"),
    ("node-1", "node"),
    ("signaling", "signaling"),
    ("web", "web"),
];

const P2P: [&str; 8] = [
    "p2p_connected_peers",
    "p2p_messages_sent",
    "p2p_messages_received",
    "p2p_bytes_sent",
    "p2p_bytes_received",
    "p2p_messages_sent_total",
    "p2p_bytes_received_total",
    "p2p_peer_bytes_sent_total",
];

const SYSTEM: [&str; 5] =
    ["system_cpu_usage", "system_memory_usage", "system_disk_usage", "system_thread_count", "uptime_seconds"];

const SIGNALING: [&str; 4] =
    ["ws_active_connections", "ws_total_connections", "ws_messages_sent", "ws_messages_received"];

const SUPERVISOR: [&str; 3] =
    ["hippius_process_up", "hippius_process_restarts_total", "hippius_process_start_time_seconds"];

fn expected(role: &str) -> Vec<&'static str> {
    let mut names = [&SYSTEM[..], &SUPERVISOR[..]].concat();
    match role {
        "node" | "bootnode" => names.extend(P2P),
        "signaling" => names.extend(SIGNALING),
        _ => {}
    }
    names
}

/// Waits until every documented figure of every process is there.
fn wait_complete(metrics: &str) -> String {
    let missing = |page: &str| -> Vec<String> {
        let missing = |(process, role): &(&'static str, &'static str)| {
            let labels = [("process", *process), ("role", *role)];
            let missing =
                expected(role).into_iter().filter(move |name| figure(page, name, &labels).is_none());
            missing.map(|name| format!("{name} of {process}")).collect::<Vec<_>>()
        };
        PROCESSES.iter().flat_map(missing).collect()
    };
    let started = Instant::now();
    loop {
        let page = http_get(metrics);
        let missing = missing(&page);
        let peers = figure(&page, "p2p_connected_peers", &[("role", "node")]);
        if missing.is_empty() && peers == Some(4.0) {
            return page;
        }
        assert!(started.elapsed() < DEADLINE, "peers of nodes: {peers:?}, missing: {missing:?} in\n{page}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends messages on the lobby from a node.
fn send(network: &Network, node: &str, count: usize) {
    let mut command = network.command(&["console", node]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("/send lobby \"hello\"\n".repeat(count).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_process_has_the_documented_series_with_its_labels() {
    let network = Network::up(EVERY_ROLE);
    let page = wait_complete(&network.status().metrics);
    for sample in samples(&page) {
        let (process, role) = (sample.label("process"), sample.label("role"));
        if process != "supervisor" {
            assert!(PROCESSES.contains(&(process, role)), "{sample:?}");
        }
        let ratio = sample.name.starts_with("system_") && sample.name.ends_with("_usage");
        assert!(!ratio || (0.0..=1.0).contains(&sample.value), "{sample:?}");
    }
    assert!(page.contains("# TYPE p2p_messages_received untyped\n"), "kept for old queries");
    assert!(page.contains("# TYPE p2p_messages_received_total counter\n"), "and its canonical twin");
    for (name, role, label) in [
        ("p2p_refused_total", "node", ("what", "message")),
        ("p2p_dials_total", "node", ("result", "wrong_peer")),
        ("ws_refused_total", "signaling", ("reason", "flood")),
        ("web_requests_total", "web", ("status", "404")),
        ("web_connections_refused_total", "web", ("process", "web")),
    ] {
        // Otherwise `rate()` would miss the first event.
        assert_eq!(
            figure(&page, name, &[("role", role), label]),
            Some(0.0),
            "{name} {label:?} from the start"
        );
    }
    for (process, role) in PROCESSES {
        let up = figure(&page, "hippius_process_up", &[("process", process), ("role", role)]);
        assert_eq!(up, Some(1.0), "{process}");
    }
    network.down();
}

#[test]
fn stats_has_the_documented_shape_and_says_the_same() {
    let network = Network::up(EVERY_ROLE);
    let metrics = network.status().metrics;
    wait_complete(&metrics);
    let stats: Value = serde_json::from_str(&http_get(&metrics.replace("/metrics", "/stats"))).expect("JSON");
    assert_eq!(keys(&stats), ["network", "processes", "system", "turn", "websocket"]);
    let processes = stats["processes"].as_object().expect("an object");
    for (process, _) in PROCESSES {
        assert_eq!(keys(&processes[process]), ["network", "system", "turn", "websocket"], "{process}");
    }
    for part in processes.values().chain([&stats]) {
        let network = [
            "bytes_received",
            "bytes_sent",
            "connected_peers",
            "messages_received",
            "messages_sent",
            "peer_connections",
            "uptime_secs",
        ];
        assert_eq!(keys(&part["network"]), network);
        assert_eq!(keys(&part["system"]), ["cpu_usage", "disk_usage", "memory_usage", "thread_count"]);
        let websocket = ["active_connections", "messages_received", "messages_sent", "total_connections"];
        assert_eq!(keys(&part["websocket"]), websocket);
        for (id, connection) in part["network"]["peer_connections"].as_object().expect("an object") {
            let connection_keys = [
                "bytes_received",
                "bytes_sent",
                "connected_since",
                "connection_type",
                "latency_ms",
                "messages_received",
                "messages_sent",
                "peer_id",
            ];
            assert_eq!(keys(connection), connection_keys);
            assert_eq!(connection["peer_id"], id.as_str());
            assert_eq!(connection["connection_type"], "direct", "on this machine nobody needs a relay");
        }
    }
    let node = &processes["node-0"]["network"];
    assert_eq!(node["connected_peers"], 2);
    let other = network.process("node-1").peer_id.unwrap();
    assert!(node["peer_connections"].get(&other).is_some(), "{node}");
    network.down();
}

#[test]
fn messages_are_counted_where_they_are_sent_and_where_they_arrive() {
    let network = Network::up(EVERY_ROLE);
    let metrics = network.status().metrics;
    wait_complete(&metrics);
    wait_until("node-0 sees node-1 on lobby", || {
        let mut command = network.command(&["console", "node-0"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"/topics\n").unwrap();
        support::text(&child.wait_with_output().unwrap().stdout).starts_with("lobby  1 peer")
    });
    send(&network, "node-0", 5);
    wait_until("all are counted, once", || {
        let page = http_get(&metrics);
        let count = |name, process| figure(&page, name, &[("process", process)]);
        count("p2p_messages_sent", "node-0") == Some(5.0)
            && count("p2p_messages_sent_total", "node-0") == Some(5.0)
            && count("p2p_messages_received", "node-1") == Some(5.0)
            && count("p2p_messages_received", "node-0") == Some(0.0)
    });
    network.down();
}

#[test]
fn gauges_leave_with_their_process_and_counters_begin_again() {
    let network = Network::up(EVERY_ROLE);
    let metrics = network.status().metrics;
    wait_complete(&metrics);
    send(&network, "node-0", 3);
    let sent = |page: &str| figure(page, "p2p_messages_sent_total", &[("process", "node-0")]);
    wait_until("the messages are counted", || sent(&http_get(&metrics)) == Some(3.0));

    network.run_ok(&["stop", "node-0"]);
    let page = http_get(&metrics);
    for gauge in
        ["p2p_connected_peers", "system_memory_usage", "process_open_fds", "p2p_peer_latency_seconds"]
    {
        assert_eq!(figure(&page, gauge, &[("process", "node-0")]), None, "{gauge} is gone at once");
    }
    assert_eq!(figure(&page, "hippius_process_up", &[("process", "node-0")]), Some(0.0));
    assert_eq!(sent(&page), Some(3.0), "a counter is history");

    network.run_ok(&["start", "node-0"]);
    wait_until("the counter begins again", || sent(&http_get(&metrics)) == Some(0.0));
    wait_until("the gauges are back", || {
        let page = http_get(&metrics);
        figure(&page, "p2p_connected_peers", &[("process", "node-0")]) == Some(2.0)
            && figure(&page, "hippius_process_up", &[("process", "node-0")]) == Some(1.0)
    });
    network.down();
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
