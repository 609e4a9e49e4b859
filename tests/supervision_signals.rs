//! Signals to the supervisor, and `up --timeout`: however it ends, nothing is left.

mod support;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{EVERY_ROLE, Network};

/// Nobody hears SIGTERM, and the grace is longer than any test waits.
const PATIENT: &str = r#"
name = "patient"
[ports]
signaling = 0
metrics = 0
[timing]
stop_grace = "1h"
[signaling]
[[nodes]]
"#;
const DEAF: &str = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()";

#[test]
fn sigterm_and_sigint_and_sighup_stop_everything_and_succeed() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut network = Network::up(EVERY_ROLE);
        let pids: Vec<i32> = network.status().processes.iter().filter_map(|process| process.pid).collect();
        assert_eq!(pids.len(), 5);
        network.signal(network.supervisor().as_raw(), signal);
        assert_eq!(network.wait_exit().code(), Some(0), "{signal}: {}", network.read("up.err"));
        assert_eq!(network.leftovers(), Vec::<i32>::new(), "{signal}");
        assert!(pids.iter().all(|pid| !support::exists(*pid)), "{signal}");
        let out = network.read("up.out");
        assert!(out.contains("everything has stopped"), "{out}");
    }
}

#[test]
fn a_second_sigint_does_not_wait_for_the_grace() {
    let mut network = Network::scripted(PATIENT, DEAF);
    network.wait_all_ready();
    let supervisor = network.supervisor().as_raw();
    network.signal(supervisor, Signal::SIGINT);
    network.wait_state("signaling", State::Stopping);
    network.signal(supervisor, Signal::SIGINT);
    assert_eq!(network.wait_exit().code(), Some(0));
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn a_signal_while_everything_is_starting_ends_it() {
    let mut network = Network::scripted(PATIENT, "note('begins')\nsleep()");
    network.wait_state("signaling", State::Starting);
    network.signal(network.supervisor().as_raw(), Signal::SIGTERM);
    assert_eq!(network.wait_exit().code(), Some(143));
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn a_signal_is_heard_between_the_starts_of_two_processes() {
    const COUNT: usize = 300;
    let mut network =
        Network::new(&format!("name = \"many\"\n[ports]\nmetrics = 0\n[[nodes]]\ncount = {COUNT}\n"));
    // Every process asks for the end of everything as soon as it is there, which the first one does while most of the
    // others are not started yet.
    let program = network.program("#!/bin/sh\nkill -TERM $PPID\nexec sleep 1000\n");
    network.spawn(&["--role-program", program.to_str().unwrap()]);
    assert_eq!(network.wait_exit().code(), Some(143), "{}", network.read("up.err"));
    let log = network.read("logs/supervisor.log");
    let started = log.lines().filter(|line| line.contains("\"message\":\"started\"")).count();
    assert!((1..COUNT).contains(&started), "{started} of {COUNT} were started before it was heard");
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn up_with_a_timeout_says_who_is_not_ready_and_why_and_stops_all() {
    let mut network = Network::scripted_with(
        EVERY_ROLE,
        "if name in ('bootnode', 'web'): sleep()\nserve()",
        &["--timeout", "1s"],
    );
    assert_eq!(network.wait_exit().code(), Some(1));
    let error = network.read("up.err");
    assert!(error.contains("not everything is ready after 1s"), "{error}");
    assert!(error.contains("bootnode is starting: it has not reported readiness"), "{error}");
    assert!(error.contains("node-0 is pending: waits for bootnode"), "{error}");
    assert!(error.contains("web is starting"), "{error}");
    assert!(!error.contains("signaling is"), "it was ready: {error}");
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn up_in_time_does_not_mind_its_timeout() {
    let mut network = Network::scripted_with(EVERY_ROLE, "serve()", &["--timeout", "10m"]);
    network.wait_all_ready();
    network.down();
}

#[test]
fn a_detached_network_outlives_its_command_and_goes_down_on_demand() {
    let network = Network::new(EVERY_ROLE);
    let program = network.script("serve()");
    let out = network.run_ok(&["up", "topology.toml", "-d", "--role-program", program.to_str().unwrap()]);
    assert!(out.contains("signaling"), "{out}");
    let status = network.status();
    assert!(status.all_ready());
    assert!(network.run_ok(&["down"]).contains("everything has stopped"));
    support::wait_until("the supervisor is gone", || network.leftovers().is_empty());
    assert!(network.run_ok(&["down"]).contains("nothing runs"));
}
