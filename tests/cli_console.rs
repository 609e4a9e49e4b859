//! `hippius console`: what it says where it cannot be of use.

mod support;

use support::{EVERY_ROLE, Network, text};

#[test]
fn a_process_that_is_no_node_is_told_apart_from_one_that_does_not_run() {
    let network = Network::up(EVERY_ROLE);
    for name in ["web", "signaling"] {
        let output = network.run(&["console", name]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.starts_with(&format!("error: {name} is no node")), "{errors}");
    }
    network.run_ok(&["stop", "node-0"]);
    for name in ["node-0", "nobody"] {
        let output = network.run(&["console", name]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("is it running?"), "{errors}");
    }
    for name in ["bootnode", "node-1"] {
        network.run_ok(&["console", name]);
    }
}
