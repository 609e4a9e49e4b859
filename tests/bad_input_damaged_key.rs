//! A damaged `peer_id.key`: that node has failed and says why, the file stays as it is, the rest runs.

mod support;

use std::fs;

use hippius::supervisor::lifecycle::State;
use support::{EVERY_ROLE, Network, text, wait_until};

#[test]
fn the_node_fails_with_the_file_named_and_the_rest_runs() {
    let network = Network::new(EVERY_ROLE);
    network.run_ok(&["up", "-d", "topology.toml"]);
    let peer_id = network.process("node-0").peer_id;
    network.run_ok(&["down"]);
    let path = network.data().join("node-0/peer_id.key");
    let good = fs::read(&path).unwrap();
    for damaged in
        [b"".to_vec(), b"this is no key\n".to_vec(), vec![0xff; 100], good[..good.len() / 2].to_vec()]
    {
        fs::write(&path, &damaged).unwrap();
        let mut network = network.beside();
        network.spawn(&[]);
        let node = network.wait_state("node-0", State::Failed);
        let reason = node.reason.unwrap_or_default();
        assert!(reason.contains("peer_id.key is damaged"), "{reason}");
        assert_eq!(node.generation, 1, "starting it again cannot help");
        for name in ["bootnode", "node-1", "signaling", "web"] {
            network.wait_state(name, State::Ready);
        }
        assert_eq!(fs::read(&path).unwrap(), damaged, "the file is as it was");
        wait_until("the failure is explained", || network.read("up.err").contains("peer_id.key is damaged"));
        assert!(network.read("up.err").contains("node-0 is failed"), "{}", network.read("up.err"));
        let restart = network.run(&["restart", "node-0"]);
        assert_eq!(restart.status.code(), Some(1), "{}", text(&restart.stdout));

        // Put right, it comes back as who it was.
        fs::write(&path, &good).unwrap();
        network.run_ok(&["restart", "node-0"]);
        assert_eq!(network.process("node-0").peer_id, peer_id);
        network.run_ok(&["down"]);
        assert_eq!(network.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_start_with_a_time_limit_fails_and_stops_the_rest() {
    let network = Network::new(EVERY_ROLE);
    fs::create_dir_all(network.data().join("node-1")).unwrap();
    fs::write(network.data().join("node-1/peer_id.key"), "garbage").unwrap();
    for arguments in [&["up", "topology.toml", "--timeout", "60s"][..], &["up", "-d", "topology.toml"]] {
        let output = network.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains("node-1 is failed") && errors.contains("peer_id.key"), "{errors}");
        wait_until("no process is left", || network.leftovers().is_empty());
    }
    assert_eq!(network.read("data/node-1/peer_id.key"), "garbage");
}
