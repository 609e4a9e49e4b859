//! Killing any process brings it back, under a new pid and as the same peer, and the others do not notice.

mod support;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{EVERY_ROLE, Network};

#[test]
fn every_role_comes_back_after_sigkill() {
    let mut network = Network::up(EVERY_ROLE);
    for name in ["bootnode", "node-0", "signaling", "web"] {
        let before = network.process(name);
        network.signal(before.pid.unwrap(), Signal::SIGKILL);
        let after = network.wait_process(name, "is ready again", |process| {
            process.state == State::Ready && process.generation == 2
        });
        assert_ne!(after.pid, before.pid);
        assert_eq!(after.restarts, 1);
        assert_eq!(after.last_exit.unwrap().signal.as_deref(), Some("SIGKILL"));
        assert_eq!(after.peer_id, before.peer_id, "{name} must keep its identity");
        assert_eq!(after.addresses, before.addresses, "{name} must be found where it was");
    }
    let status = network.wait_all_ready();
    assert_eq!(status.processes.iter().filter(|process| process.generation == 1).count(), 1, "node-1 ran on");
    network.down();
}
