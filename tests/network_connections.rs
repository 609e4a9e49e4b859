//! The nodes of a network find each other, and find each other again.

mod support;

use nix::sys::signal::Signal;
use support::figures::figure;
use support::{Network, http_get, wait_until};

const TOPOLOGY: &str = r#"
name = "connections"
[ports]
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 3
topics = ["lobby"]
"#;

fn connected(metrics: &str, process: &str) -> Option<f64> {
    figure(&http_get(metrics), "p2p_connected_peers", &[("process", process)])
}

/// Waits until each of the four is connected to the three others.
fn wait_all_connected(metrics: &str) {
    wait_until("all are connected to each other", || {
        let page = http_get(metrics);
        ["bootnode", "node-0", "node-1", "node-2"]
            .iter()
            .all(|name| figure(&page, "p2p_connected_peers", &[("process", name)]) == Some(3.0))
    });
}

#[test]
fn all_nodes_are_connected_to_each_other_and_to_the_bootnode() {
    let network = Network::up(TOPOLOGY);
    wait_all_connected(&network.status().metrics);
    network.down();
}

/// The scheduling policy of a process (`proc_pid_stat(5)`, field 41): 0 is `SCHED_OTHER`, 3 `SCHED_BATCH`.
fn policy(pid: i32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    fields.split(' ').nth(41 - 3).expect("so many fields").parse().expect("a number")
}

#[test]
fn a_node_that_is_woken_lets_others_finish_first() {
    let network = Network::up(TOPOLOGY);
    let policies = ["bootnode", "node-0", "node-2"].map(|name| policy(network.process(name).pid.unwrap()));
    assert_eq!(policies, [0, 3, 3]);
    network.down();
}

#[test]
fn a_bootnode_that_comes_back_is_found_again() {
    let network = Network::up(TOPOLOGY);
    let metrics = network.status().metrics;
    wait_all_connected(&metrics);
    let before = network.process("bootnode");
    network.signal(before.pid.unwrap(), Signal::SIGKILL);
    let after = network.wait_process("bootnode", "is ready again", |bootnode| {
        bootnode.pid.is_some_and(|pid| {
            Some(pid) != before.pid && bootnode.state == hippius::supervisor::lifecycle::State::Ready
        })
    });
    assert_eq!((after.peer_id, after.addresses), (before.peer_id, before.addresses));
    wait_all_connected(&metrics);
    let untouched = network.status().processes.iter().filter(|process| process.generation == 1).count();
    assert_eq!(untouched, 3, "the nodes ran on");
    network.down();
}

#[test]
fn a_place_at_a_relay_is_shown_and_its_end_too() {
    let network = Network::up(
        r#"
name = "relayed"
[ports]
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
listen = ["/ip4/127.0.0.1/tcp/0", "/p2p-circuit"]
"#,
    );
    let relay = network.process("bootnode").peer_id.unwrap();
    let place = format!("/p2p/{relay}/p2p-circuit/p2p/");
    let shown = network.wait_process("node", "shows its place", |node| {
        node.addresses.iter().any(|address| address.contains(&place))
    });
    assert_eq!(shown.addresses.len(), 2, "{:?}", shown.addresses);
    network.run_ok(&["stop", "bootnode"]);
    let left = network.wait_process("node", "has no place any more", |node| node.addresses.len() == 1);
    assert!(!left.addresses[0].contains("p2p-circuit"), "{:?}", left.addresses);
    network.down();
}

#[test]
fn without_its_bootnode_the_others_stay_connected() {
    let network = Network::up(TOPOLOGY);
    let metrics = network.status().metrics;
    wait_all_connected(&metrics);
    network.run_ok(&["stop", "bootnode"]);
    wait_until("the nodes count each other only", || {
        ["node-0", "node-1", "node-2"].iter().all(|name| connected(&metrics, name) == Some(2.0))
    });
    network.run_ok(&["start", "bootnode"]);
    wait_all_connected(&metrics);
    network.down();
}

#[test]
fn a_node_that_is_restarted_finds_the_others_without_the_bootnode() {
    let network = Network::up(TOPOLOGY);
    let metrics = network.status().metrics;
    wait_all_connected(&metrics);
    network.run_ok(&["stop", "bootnode"]);
    network.run_ok(&["restart", "node-1"]);
    wait_until("the nodes are connected to each other", || {
        ["node-0", "node-1", "node-2"].iter().all(|name| connected(&metrics, name) == Some(2.0))
    });
    assert!(network.read("data/node-1/peers.json").contains(&network.process("node-2").peer_id.unwrap()));
    network.down();
}

#[test]
fn a_node_that_is_restarted_is_taken_back() {
    let network = Network::up(TOPOLOGY);
    let metrics = network.status().metrics;
    wait_all_connected(&metrics);
    network.run_ok(&["restart", "node-1"]);
    wait_all_connected(&metrics);
    network.down();
}
