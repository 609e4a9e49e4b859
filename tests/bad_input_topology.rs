//! Files that are no topology, through the program: what is wrong and where, and nothing is started.
//! What the parser makes of every single mistake is tested at the library.

mod support;

use support::{Network, text};

#[track_caller]
fn refused(network: &Network, arguments: &[&str], words: &[&str]) {
    let output = network.run(arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for word in words {
        assert!(errors.contains(word), "{arguments:?}: {word:?} in:\n{errors}");
    }
    assert!(!network.data().exists(), "{arguments:?}: nothing is started");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let network = Network::new("");
    std::fs::create_dir(network.dir().join("folder.toml")).unwrap();
    std::fs::write(network.dir().join("binary.toml"), [0xff, 0xfe, 0, 1]).unwrap();
    for command in ["up", "check", "plan"] {
        refused(&network, &[command, "missing.toml"], &["no file missing.toml", "hippius init missing.toml"]);
        refused(&network, &[command, "folder.toml"], &["folder.toml", "directory"]);
        refused(&network, &[command, "binary.toml"], &["binary.toml", "UTF-8"]);
    }
    refused(&network, &["up", "-d", "missing.toml"], &["missing.toml"]);
    // The default, which is not there either.
    refused(&network, &["up"], &["no file topology/local.toml"]);
}

#[test]
fn broken_toml_and_unknown_keys_have_a_place() {
    let network = Network::new("name = \"x\n[web]\n");
    refused(&network, &["up", "topology.toml"], &["topology.toml:1:"]);
    let network = Network::new("[webb]\n");
    refused(&network, &["up", "topology.toml"], &["topology.toml:1:2", "webb", "`web`"]);
    let network = Network::new("");
    refused(&network, &["up", "topology.toml"], &["topology.toml"]);
}

#[test]
fn an_unset_variable_is_named_with_its_place() {
    let network = Network::new("bind = \"${HIPPIUS_TEST_NOT_SET}\"\n[ports]\nweb = 0\nmetrics = 0\n[web]\n");
    refused(&network, &["up", "topology.toml"], &["topology.toml:1:", "HIPPIUS_TEST_NOT_SET"]);
    let mut command = network.command(&["check", "topology.toml"]);
    let output = command.env("HIPPIUS_TEST_NOT_SET", "127.0.0.1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn counts_out_of_bounds_are_refused_at_once() {
    for count in ["0", "100000", "-1"] {
        let network =
            Network::new(&format!("[ports]\nmetrics = 0\n[[bootnodes]]\n[[nodes]]\ncount = {count}\n"));
        refused(&network, &["up", "topology.toml"], &["topology.toml:5:9", "count"]);
    }
}
