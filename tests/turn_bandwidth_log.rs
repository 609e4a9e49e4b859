//! The bandwidth log of a running network's relay: what it adds up to, and that relaying goes on when it cannot be written.

mod support;

use std::fs;

use hippius::supervisor::lifecycle::State;
use serde_json::Value;
use support::mount::Mount;
use support::relay::{
    Echo, LENGTH, LOOPBACK, MESSAGES, assert_exchanged, counted, exchange, topology, total, write,
};
use support::{Network, namespace, wait_until};

#[test]
fn relaying_goes_on_when_the_bandwidth_log_cannot_be_written() {
    let mut network = Network::new(&topology(LOOPBACK));
    write(&network, "config/turn_config.json", r#"{"monitoring": {"interval_ms": 100}}"#);
    // A folder in its place: nobody can write that, not even root.
    fs::create_dir_all(network.dir().join("logs/turn_bandwidth.log")).expect("writable");
    network.spawn(&[]);
    network.wait_all_ready();
    wait_until("failures are counted", || counted(&network, "turn_bandwidth_log_failures_total") >= 3.0);
    assert_exchanged(&exchange(&network, &Echo::start(), &[]));
    let log = network.read("logs/turn.log");
    assert_eq!(log.matches("cannot be written").count(), 1, "told once: {log}");
    fs::remove_dir(network.dir().join("logs/turn_bandwidth.log")).expect("empty");
    wait_until("it is written again", || total(&network).is_some());
    network.down();
}

/// The lines of the bandwidth log at `path`.
fn lines_of(network: &Network, path: &str) -> Vec<Value> {
    network.read(path).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Of the allocations that have ended by a log, their number, and what they carried in all: sent and received.
fn ended(lines: &[Value]) -> (usize, [u64; 2]) {
    let last: Vec<&Value> = lines.iter().filter(|line| line["ended"] == true).collect();
    let sum = |key: &str| last.iter().map(|line| line[key].as_u64().expect("a number")).sum();
    (last.len(), [sum("bytes_sent"), sum("bytes_received")])
}

#[track_caller]
fn assert_adds_up(lines: &[Value]) {
    let total = lines.iter().rfind(|line| line["type"] == "total").expect("a total");
    let (_, sums) = ended(lines);
    assert_eq!(sums, [&total["bytes_sent"], &total["bytes_received"]].map(|sum| sum.as_u64().expect("one")));
    assert_eq!((&total["allocations"], &total["missed"]), (&0.into(), &0.into()));
    // Nothing is said twice: of two totals in a row the later one has something new.
    for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| line["type"] == "total")) {
        let without_time = |line: &Value| {
            let mut line = line.clone();
            line["timestamp"] = Value::Null;
            line
        };
        assert_ne!(without_time(&pair[0]), without_time(&pair[1]));
    }
}

/// What ends between two lines, and what ends with the relay.
#[test]
fn the_last_lines_of_all_allocations_add_up_to_the_total() {
    const LOG: &str = "logs/turn_bandwidth.log";
    for engine in ["embedded", "coturn"] {
        let mut network = Network::new(&topology(&format!("engine = \"{engine}\"\n{LOOPBACK}")));
        // The second line would come in an hour.
        write(&network, "config/turn_config.json", r#"{"monitoring": {"interval_ms": 3600000}}"#);
        network.spawn(&[]);
        network.wait_all_ready();
        let echo = Echo::start();
        for _ in 0..2 {
            assert_exchanged(&exchange(&network, &echo, &[]));
        }
        let expected = 2 * MESSAGES * LENGTH;
        wait_until("all is counted", || counted(&network, "turn_bytes_sent_total") >= expected as f64);
        assert_eq!(ended(&lines_of(&network, LOG)).0, 0, "not yet");
        network.run_ok(&["stop", "turn"]);
        network.wait_state("turn", State::Stopped);
        let lines = lines_of(&network, LOG);
        let (count, sums) = ended(&lines);
        assert!(count >= 2 && sums == [expected; 2], "{engine}: {count} with {sums:?}");
        assert_adds_up(&lines);
        network.down();
    }
}

/// Where the log of these tests is, so that it alone stands on a file system that takes nothing.
const SMALL: &str = "logs/small/turn_bandwidth.log";

/// A relay keeps its bandwidth log on a file system that takes nothing at first. It relays all the same, and writes everything down as soon
/// as `mend` has mended that.
fn relays_without_a_log(name: &str, spoil: fn(&Mount), mend: fn(&Mount), error: &str) {
    if !namespace::enter(name, &["--mount"]) {
        return;
    }
    let mut network = Network::new(&topology(LOOPBACK));
    let monitoring = format!(r#"{{"monitoring": {{"interval_ms": 100, "log_file": "{SMALL}"}}}}"#);
    write(&network, "config/turn_config.json", &monitoring);
    let disk = Mount::new(&network.dir().join("logs/small")).expect("root of its own namespace");
    spoil(&disk);
    network.spawn(&[]);
    network.wait_all_ready();
    let echo = Echo::start();
    assert_exchanged(&exchange(&network, &echo, &[]));
    let failures = || counted(&network, "turn_bandwidth_log_failures_total");
    wait_until("failures are counted", || failures() >= 3.0);
    let said = network.read("logs/turn.log");
    assert!(said.contains(error), "{error} in {said}");
    assert_eq!(said.matches("cannot be written").count(), 1, "told once: {said}");
    let written = || fs::read_to_string(network.dir().join(SMALL)).unwrap_or_default();
    assert_eq!(written(), "", "no torn line");

    mend(&disk);
    wait_until("the allocation that has ended meanwhile is told", || written().contains("\"ended\":true"));
    wait_until("so is the end of the trouble", || network.read("logs/turn.log").contains("is written again"));
    assert_exchanged(&exchange(&network, &echo, &[]));
    wait_until("all is told", || ended(&lines_of(&network, SMALL)).1 == [2 * MESSAGES * LENGTH; 2]);
    assert_eq!(counted(&network, "turn_bandwidth_log_missed_total"), 0.0);
    assert_eq!(network.read("logs/turn.log").matches("cannot be written").count(), 1, "no new trouble");
    network.run_ok(&["stop", "turn"]);
    network.wait_state("turn", State::Stopped);
    assert_adds_up(&lines_of(&network, SMALL));
    network.down();
}

#[test]
fn relaying_goes_on_when_the_bandwidth_log_has_no_space() {
    relays_without_a_log(
        "relaying_goes_on_when_the_bandwidth_log_has_no_space",
        Mount::fill,
        Mount::free,
        "No space left on device",
    );
}

#[test]
fn relaying_goes_on_when_the_bandwidth_log_is_read_only() {
    relays_without_a_log(
        "relaying_goes_on_when_the_bandwidth_log_is_read_only",
        Mount::read_only,
        Mount::read_write,
        "Read-only file system",
    );
}
