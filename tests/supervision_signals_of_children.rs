//! Unusual endings and pauses: a child that a real-time signal ends, and a supervisor that was stopped for a while.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::Network;

const TOPOLOGY: &str = r#"
name = "pauses"
[ports]
metrics = 0
[timing]
watchdog = "1s"
[[nodes]]
count = 3
"#;

#[test]
fn a_child_that_a_real_time_signal_ends_is_replaced_like_any_other() {
    let mut network = Network::up(TOPOLOGY);
    let before = network.process("node-0");
    // Real-time signals have numbers only, which the `nix` crate does not know.
    let sent = Command::new("kill").args(["-40", &before.pid.unwrap().to_string()]).status().unwrap();
    assert!(sent.success());
    let after = network.wait_process("node-0", "is back", |process| {
        process.state == State::Ready && process.generation == 2
    });
    assert_eq!(after.last_exit.unwrap().signal.as_deref(), Some("signal 40"));
    // Nobody behind it in the queue of the dead is forgotten.
    let other = network.process("node-1");
    network.signal(other.pid.unwrap(), Signal::SIGKILL);
    network.wait_process("node-1", "is back", |process| {
        process.state == State::Ready && process.generation == 2
    });
    network.wait_all_ready();
    network.down();
}

#[test]
fn a_supervisor_that_was_paused_does_not_take_it_out_on_its_children() {
    let mut network = Network::up(TOPOLOGY);
    let supervisor = network.supervisor().as_raw();
    network.signal(supervisor, Signal::SIGSTOP);
    // Longer than the watchdog allows: the children's signs of life wait in their sockets.
    let end = Instant::now() + Duration::from_millis(3_500);
    while Instant::now() < end {
        std::thread::park_timeout(end - Instant::now());
    }
    network.signal(supervisor, Signal::SIGCONT);
    let status = network.wait_all_ready();
    for process in &status.processes {
        assert_eq!((process.generation, process.restarts), (1, 0), "{} was well all the time", process.name);
    }
    network.down();
}
