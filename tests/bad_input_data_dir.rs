//! A data folder that cannot be used: a file in its place, read-only, full. Clear words, no half-written key, and
//! everything goes on once there is space.
//!
//! Where the test may not mount a file system of its own (it needs root), the parts that need one are left out.

mod support;

use std::fs;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::mount::Mount;
use support::{EVERY_ROLE, Network, text, wait_until};

#[track_caller]
fn refused(network: &Network, arguments: &[&str], words: &[&str]) {
    let output = network.run(arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    for word in words {
        assert!(errors.contains(word), "{arguments:?}: {word:?} in: {errors}");
    }
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_file_in_place_of_the_folder_is_named() {
    let network = Network::new(EVERY_ROLE);
    fs::write(network.data(), "a file").unwrap();
    refused(&network, &["up", "topology.toml"], &["error: cannot use the data folder data"]);
    refused(&network, &["up", "-d", "topology.toml"], &["error: cannot use the data folder data"]);
    assert_eq!(network.read("data"), "a file");
}

#[test]
fn a_file_in_place_of_a_process_folder_is_that_process_s_trouble() {
    let mut network = Network::new(EVERY_ROLE);
    fs::create_dir(network.data()).unwrap();
    fs::write(network.data().join("web"), "a file").unwrap();
    network.spawn(&[]);
    for name in ["bootnode", "node-0", "node-1", "signaling"] {
        network.wait_state(name, State::Ready);
    }
    let web = network.wait_process("web", "is not started", |web| web.reason.is_some());
    assert!(web.reason.as_ref().unwrap().contains("data/web"), "{web:?}");
    fs::remove_file(network.data().join("web")).unwrap();
    network.wait_state("web", State::Ready);
    network.down();
}

#[test]
fn a_read_only_folder_is_named() {
    let network = Network::new(EVERY_ROLE);
    let Some(mount) = Mount::new(&network.data()) else { return };
    mount.read_only();
    let words = ["error: cannot use the data folder data/supervisor", "Read-only file system"];
    refused(&network, &["up", "topology.toml"], &words);
    refused(&network, &["up", "-d", "topology.toml"], &words);
    // One that was written to before, too.
    mount.read_write();
    network.run_ok(&["up", "-d", "topology.toml"]);
    network.run_ok(&["down"]);
    mount.read_only();
    refused(&network, &["up", "topology.toml"], &["data/supervisor/lock", "Read-only file system"]);
}

#[test]
fn a_full_folder_is_named_and_works_again_once_there_is_space() {
    let network = Network::new(EVERY_ROLE);
    let Some(mount) = Mount::new(&network.data()) else { return };
    mount.fill();
    refused(&network, &["up", "topology.toml"], &["error:", "data/supervisor", "No space left"]);
    mount.free();
    network.run_ok(&["up", "-d", "topology.toml"]);
    network.assert_unharmed();
    network.run_ok(&["down"]);
}

#[test]
fn a_new_key_is_written_whole_or_not_at_all() {
    let network = Network::new("");
    let Some(mount) = Mount::new(&network.data()) else { return };
    mount.fill();
    let arguments = ["node", "--data-dir", "data/alone", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let output = network.run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr) + &text(&output.stdout);
    assert!(errors.contains("data/alone/peer_id.key") && errors.contains("No space left"), "{errors}");
    let left: Vec<String> = fs::read_dir(network.data().join("alone"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("key"))
        .collect();
    assert_eq!(left, [""; 0], "nothing of a key is left");
}

#[test]
fn a_folder_that_fills_up_holds_back_only_what_needs_space_until_there_is_some() {
    let mut network = Network::new(EVERY_ROLE);
    let Some(mount) = Mount::new(&network.data()) else { return };
    network.spawn(&[]);
    network.wait_all_ready();
    let before = network.process("node-0");
    let key = fs::read(network.data().join("node-0/peer_id.key")).unwrap();
    mount.fill();
    network.signal(before.pid.unwrap(), Signal::SIGKILL);
    // What it is told is written over what its last incarnation was told, which takes no space.
    let again =
        network.wait_process("node-0", "is back", |node| node.generation == 2 && node.state == State::Ready);
    assert_eq!(again.peer_id, before.peer_id);
    fs::remove_file(network.data().join("node-0/config.toml")).unwrap();
    mount.fill();
    network.signal(again.pid.unwrap(), Signal::SIGKILL);
    let held = network.wait_process("node-0", "waits with the reason", |node| {
        node.reason.as_ref().is_some_and(|reason| reason.contains("No space left"))
    });
    assert!(matches!(held.state, State::Backoff | State::Failed), "{held:?}");
    for name in ["bootnode", "node-1", "signaling", "web"] {
        assert_eq!(network.process(name).state, State::Ready, "{name} runs on");
    }
    assert_eq!(fs::read(network.data().join("node-0/peer_id.key")).unwrap(), key);
    mount.free();
    if held.state == State::Failed {
        network.run_ok(&["start", "node-0"]);
    }
    let after = network.wait_state("node-0", State::Ready);
    assert_eq!(after.peer_id, before.peer_id);
    // The folder can only go once nothing is mounted in it.
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(0));
}

#[test]
fn a_full_disk_under_the_logs_stops_nothing_and_is_told() {
    let mut network = Network::new(EVERY_ROLE);
    let Some(mount) = Mount::new(&network.dir().join("logs")) else { return };
    let speak = "while not os.path.exists('over'):\n    out('a line\\n')\n    time.sleep(0.02)\nserve()";
    network.play(&format!("ready()\n{speak}"), &[]);
    network.wait_all_ready();
    mount.fill();
    let told = network.wait_process("web", "has lost lines", |web| web.log_error.is_some());
    assert!(told.log_error.as_ref().unwrap().contains("No space left"), "{told:?}");
    let out = network.run_ok(&["status"]);
    assert!(out.contains("web") && out.contains("No space left"), "{out}");
    // Who looks on sees the lines all the same, and what is wrong.
    wait_until("it is told", || network.read("up.out").contains("its log cannot be written"));
    network.signal(told.pid.unwrap(), Signal::SIGKILL);
    network.wait_process("web", "is back", |web| web.generation == 2 && web.state == State::Ready);
    mount.free();
    network.wait_process("web", "is written again", |web| web.log_error.is_none());
    fs::write(network.dir().join("over"), "").unwrap();
    let log = network.read("logs/web.log");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "no torn line");
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(0));
}
