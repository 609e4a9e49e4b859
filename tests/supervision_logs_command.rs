//! `hippius logs`: merged, of some processes, the last lines, what comes later, and what a network that has ended left.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{Network, wait_until};

const TOPOLOGY: &str = r#"
name = "logs"
[ports]
signaling = 0
metrics = 0
[[nodes]]
count = 2
[signaling]
"#;

/// Each prints ten lines whose times alternate between the processes, then one for each file `go-NUMBER` that appears.
const SCRIPT: &str = r#"
for n in range(10):
    second = 3 * n + ["node-0", "node-1", "signaling"].index(name)
    out('{"timestamp":"2026-01-01T00:00:%02d.000Z","level":"INFO","message":"%s says %d"}\n' % (second, name, n))
ready()
n = 0
while True:
    while not os.path.exists(f"go-{n}"):
        time.sleep(0.01)
    out('{"timestamp":"2026-01-02T00:00:00Z","level":"WARN","message":"%s later %d"}\n' % (name, n))
    n += 1
"#;

fn up() -> Network {
    let mut network = Network::scripted(TOPOLOGY, SCRIPT);
    network.wait_all_ready();
    wait_until("all lines are in the files", || {
        network.run_ok(&["logs", "node", "signaling"]).lines().count() == 30
    });
    network
}

fn expected(numbers: std::ops::Range<u32>, names: &[&str]) -> Vec<String> {
    numbers.flat_map(|n| names.iter().map(move |name| format!("{name} says {n}"))).collect()
}

/// The messages in what was printed.
fn said(out: &str) -> Vec<String> {
    out.lines().map(|line| line.split_once("INFO  ").expect("a formatted line").1.to_owned()).collect()
}

#[test]
fn logs_are_merged_by_time_and_chosen_by_process_and_group() {
    let network = up();
    let all = network.run_ok(&["logs", "node", "signaling"]);
    assert_eq!(said(&all), expected(0..10, &["node-0", "node-1", "signaling"]));
    assert!(all.lines().next().unwrap().starts_with("node-0 "), "{all}");
    assert!(all.lines().next().unwrap().contains(" │ 00:00:00.000 INFO"), "{all}");
    assert_eq!(said(&network.run_ok(&["logs", "node", "-n", "4"])), expected(8..10, &["node-0", "node-1"]));
    assert_eq!(said(&network.run_ok(&["logs", "node-1", "-n", "5"])), expected(5..10, &["node-1"]));
    assert_eq!(network.run_ok(&["logs", "node-1", "-n", "0"]), "");
    let json = network.run_ok(&["logs", "signaling", "-n", "1", "--json"]);
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(line["message"], "signaling says 9");

    let own = network.run_ok(&["logs", "supervisor"]);
    assert!(own.contains("started") && own.contains("process=node-0"), "{own}");
    let everything = network.run_ok(&["logs"]);
    assert!(everything.contains("supervisor │") && everything.contains("signaling says 0"), "{everything}");

    let unknown = network.run(&["logs", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    let error = support::text(&unknown.stderr);
    assert!(error.contains("no process or group named nobody"), "{error}");
    network.down();
}

#[test]
fn logs_f_gives_what_comes_later_and_ends_with_the_network() {
    let network = up();
    let mut command = network.command(&["logs", "node", "-n", "1", "-f"]);
    let mut follower = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    // Once the history is there, the rest is followed.
    assert!(lines.next().unwrap().ends_with("node-1 says 9"));
    for round in 0..3 {
        std::fs::write(network.dir().join(format!("go-{round}")), "").unwrap();
        let mut came = [lines.next().unwrap(), lines.next().unwrap()];
        came.sort();
        for (line, name) in came.iter().zip(["node-0", "node-1"]) {
            assert!(line.ends_with(&format!("WARN  {name} later {round}")), "{came:?}");
        }
    }
    network.down();
    assert_eq!(lines.next(), None);
    assert!(follower.wait().unwrap().success());
}

#[test]
fn logs_f_goes_on_across_a_restart_of_the_process() {
    let network = up();
    let mut command = network.command(&["logs", "signaling", "-n", "1", "-f"]);
    let mut follower = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("signaling says 9"));
    network.signal(network.process("signaling").pid.unwrap(), Signal::SIGKILL);
    network.wait_process("signaling", "is back", |p| p.state == State::Ready && p.generation == 2);
    let again: Vec<String> = lines.by_ref().take(10).collect();
    assert!(again[0].ends_with("signaling says 0") && again[9].ends_with("signaling says 9"), "{again:?}");
    network.down();
    assert!(follower.wait().unwrap().success());
}

#[test]
fn the_logs_of_a_network_that_has_ended_can_be_read() {
    let mut network = up();
    let before = network.run_ok(&["logs", "node", "signaling"]);
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(0));
    assert_eq!(network.run_ok(&["logs", "node", "signaling"]), before);
    assert_eq!(said(&network.run_ok(&["logs", "signaling", "-n", "2"])), expected(8..10, &["signaling"]));
    // There is nothing to wait for.
    assert_eq!(
        said(&network.run_ok(&["logs", "signaling", "-f", "-n", "2"])),
        expected(8..10, &["signaling"])
    );
    assert_eq!(network.run(&["logs", "nobody"]).status.code(), Some(1));

    let other = network.run(&["logs", "--data-dir", "elsewhere"]);
    assert_eq!(other.status.code(), Some(1));
    let error = support::text(&other.stderr);
    assert!(error.contains("no network runs in elsewhere"), "{error}");
}
