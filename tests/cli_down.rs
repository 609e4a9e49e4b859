//! `hippius down`: stops a network, wherever it runs, and waits until nothing of it is left.

mod support;

use support::{EVERY_ROLE, Network, exists, text, wait_until};

#[test]
fn it_ends_a_network_that_runs_in_a_foreground_elsewhere() {
    let mut network = Network::up(EVERY_ROLE);
    let pids: Vec<i32> = network.status().processes.iter().filter_map(|process| process.pid).collect();
    network.run_ok(&["down"]);
    for pid in pids {
        assert!(!exists(pid), "{pid} is still there after `down`");
    }
    assert_eq!(network.wait_exit().code(), Some(0));
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn two_at_once_both_succeed() {
    let mut network = Network::up(EVERY_ROLE);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| network.run(&["down"]));
        let second = scope.spawn(|| network.run(&["down"]));
        for output in [first.join().unwrap(), second.join().unwrap()] {
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        }
    });
    assert_eq!(network.wait_exit().code(), Some(0));
}

#[test]
fn nothing_to_stop_is_no_failure() {
    let network = Network::new(EVERY_ROLE);
    let out = network.run_ok(&["down"]);
    assert!(out.contains("nothing runs in data"), "{out}");
    assert!(!network.data().exists(), "looking creates nothing");
    // The same after one has run.
    network.run_ok(&["up", "-d", "topology.toml"]);
    network.run_ok(&["down"]);
    let out = network.run_ok(&["down"]);
    assert!(out.contains("nothing runs"), "{out}");
}

#[test]
fn a_network_can_be_started_again_and_everybody_is_who_they_were() {
    let network = Network::new(EVERY_ROLE);
    let peers = || -> Vec<Option<String>> {
        network.status().processes.into_iter().map(|process| process.peer_id).collect()
    };
    network.run_ok(&["up", "-d", "topology.toml"]);
    let before = peers();
    network.run_ok(&["down"]);
    network.run_ok(&["up", "-d", "topology.toml"]);
    assert_eq!(peers(), before);
    network.run_ok(&["down"]);
}
