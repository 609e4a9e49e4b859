//! What `/metrics` shows of a process that does not run: its counters, and no gauge.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{Network, wait_until};

const TOPOLOGY: &str = r#"
name = "metrics"
[ports]
signaling = 0
metrics = 0
[[nodes]]
count = 2
[signaling]
"#;
/// Gauges that only a living process has.
const GAUGES: [&str; 4] = [
    "system_thread_count",
    "system_memory_usage",
    "ws_active_connections",
    "hippius_process_start_time_seconds",
];
/// Counters that stay.
const COUNTERS: [&str; 2] = ["process_cpu_seconds_total", "ws_total_connections"];

/// The value of a series of one process.
fn value(metrics: &str, name: &str, process: &str) -> Option<f64> {
    let label = format!("process=\"{process}\"");
    let line = metrics
        .lines()
        .find(|line| line.split_once('{').is_some_and(|(n, rest)| n == name && rest.contains(&label)));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

fn gauges(metrics: &str, process: &str) -> Vec<&'static str> {
    GAUGES.into_iter().filter(|name| value(metrics, name, process).is_some()).collect()
}

fn wait_for_gauges(network: &Network) {
    wait_until("the server has reported its figures", || {
        let metrics = network.metrics();
        gauges(&metrics, "signaling") == GAUGES && value(&metrics, "system_thread_count", "node-0").is_some()
    });
}

/// A client that connects, and has gone again: something to count.
fn one_client(network: &Network) {
    let reported = network.process("signaling").addresses.remove(0);
    let rest = reported.split_once("://").map_or(reported.as_str(), |(_, rest)| rest);
    let host = rest.split('/').next().unwrap();
    let mut client = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET /signal HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
}

#[test]
fn gauges_of_a_stopped_process_are_gone_at_once_and_its_counters_stay() {
    let network = Network::up(TOPOLOGY);
    wait_for_gauges(&network);
    one_client(&network);
    wait_until("the client was counted", || {
        COUNTERS.into_iter().all(|name| value(&network.metrics(), name, "signaling").is_some())
    });
    let before = network.metrics();
    assert_eq!(value(&before, "hippius_process_up", "signaling"), Some(1.0));

    network.run_ok(&["stop", "signaling"]);
    let stopped = network.metrics();
    assert_eq!(gauges(&stopped, "signaling"), Vec::<&str>::new());
    assert_eq!(value(&stopped, "hippius_process_up", "signaling"), Some(0.0));
    assert_eq!(value(&stopped, "hippius_process_restarts_total", "signaling"), Some(0.0));
    for counter in COUNTERS {
        let (before, after) = (value(&before, counter, "signaling"), value(&stopped, counter, "signaling"));
        assert!(after.is_some() && after >= before, "{counter}: {before:?}, then {after:?}");
    }
    assert!(value(&stopped, "system_thread_count", "node-0").is_some(), "the others' stay");

    network.run_ok(&["start", "signaling"]);
    assert_eq!(value(&network.metrics(), "hippius_process_up", "signaling"), Some(1.0));
    wait_for_gauges(&network);
    network.down();
}

#[test]
fn a_crash_is_seen_at_once_and_counted() {
    let network =
        Network::up(&TOPOLOGY.replace("[signaling]", "[signaling]\nrestart = { policy = \"never\" }"));
    wait_for_gauges(&network);
    network.signal(network.process("signaling").pid.unwrap(), Signal::SIGKILL);
    network.wait_state("signaling", State::Failed);
    let metrics = network.metrics();
    assert_eq!(gauges(&metrics, "signaling"), Vec::<&str>::new());
    assert_eq!(value(&metrics, "hippius_process_up", "signaling"), Some(0.0));

    network.signal(network.process("node-0").pid.unwrap(), Signal::SIGKILL);
    network.wait_process("node-0", "is back", |p| p.generation == 2 && p.state == State::Ready);
    let metrics = network.metrics();
    assert_eq!(value(&metrics, "hippius_process_restarts_total", "node-0"), Some(1.0));
    assert_eq!(value(&metrics, "hippius_process_restarts_total", "node-1"), Some(0.0));
    assert_eq!(value(&metrics, "hippius_process_up", "node-0"), Some(1.0));
    network.down();
}
