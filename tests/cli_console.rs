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
    for (name, words) in [
        ("node-0", "node-0 is stopped; `hippius start node-0` starts it"),
        ("node", "node is a group of 2 nodes; name one of them: node-0 … node-1"),
        ("ndoe-1", "there is no node named ndoe-1; did you mean node-1?"),
        ("nobody", "there is no node named nobody (the nodes are: bootnode, node-0, node-1)"),
        ("../node-1", "is not a process name"),
    ] {
        let output = network.run(&["console", name]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.starts_with("error: ") && errors.contains(words), "{name}: {errors}");
    }
    for name in ["bootnode", "node-1"] {
        network.run_ok(&["console", name]);
    }
}

#[test]
fn without_a_network_it_says_how_to_start_one() {
    let network = Network::new(EVERY_ROLE);
    let output = network.run(&["console", "node-0"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.starts_with("error: no network runs in data") && errors.contains("`hippius up`"),
        "{errors}"
    );
    assert!(!network.data().exists(), "looking creates nothing");
}
