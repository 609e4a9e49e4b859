//! A role that says that starting it again cannot help is not started again; the rest of the network is unharmed.

mod support;

use hippius::supervisor::lifecycle::State;
use support::Network;

const TOPOLOGY: &str = r#"
name = "fatal"
[ports]
signaling = 0
metrics = 0
[[bootnodes]]
[[nodes]]
count = 3
[signaling]
"#;

fn with_damaged_key() -> Network {
    let network = Network::new(TOPOLOGY);
    let folder = network.data().join("node-1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("peer_id.key"), "this is no key").unwrap();
    network
}

#[test]
fn a_damaged_identity_fails_one_node_at_once_and_harms_no_other() {
    let mut network = with_damaged_key();
    network.spawn(&[]);
    let failed = network.wait_state("node-1", State::Failed);
    assert_eq!((failed.generation, failed.restarts), (1, 0), "no restart");
    assert!(failed.last_exit.unwrap().fatal);
    let reason = failed.reason.unwrap();
    assert!(reason.contains("peer_id.key"), "{reason}");
    let table = network.run_ok(&["status"]);
    assert!(table.contains("peer_id.key"), "{table}");
    for name in ["bootnode", "node-0", "node-2", "signaling"] {
        assert_eq!(network.wait_state(name, State::Ready).generation, 1, "{name}");
    }
    let key = std::fs::read_to_string(network.data().join("node-1/peer_id.key")).unwrap();
    assert_eq!(key, "this is no key", "nobody touches it");

    let output = network.run(&["start", "node-1"]);
    assert_eq!(output.status.code(), Some(1), "it fails again");
    assert!(support::text(&output.stdout).contains("peer_id.key"));
    std::fs::remove_file(network.data().join("node-1/peer_id.key")).unwrap();
    assert_eq!(network.run_ok(&["start", "node-1"]).trim(), "node-1 ready");
    network.down();
}

#[test]
fn up_with_a_timeout_names_it_and_stops_everything() {
    let mut network = with_damaged_key();
    network.spawn(&["--timeout", "10m"]);
    assert_eq!(network.wait_exit().code(), Some(1), "without waiting for the timeout");
    let error = network.read("up.err");
    assert!(error.contains("node-1 is failed") && error.contains("peer_id.key"), "{error}");
    assert!(!error.contains("node-0 is"), "only those that are not ready are named: {error}");
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn a_fatal_word_stands_however_the_process_ends() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
if name != "signaling": serve()
notify("STATUS=the disk is gone\nX_HIPPIUS_FATAL=1")
os.kill(os.getpid(), signal.SIGKILL)
"#,
    );
    let failed = network.wait_state("signaling", State::Failed);
    assert_eq!((failed.generation, failed.restarts), (1, 0));
    assert_eq!(failed.reason.as_deref(), Some("was ended by SIGKILL: the disk is gone"));
    network.down();
}
