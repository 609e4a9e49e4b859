//! `--data-dir`: one supervisor each, of any length, with everything of a network inside.

mod support;

use std::path::PathBuf;

use nix::sys::signal::Signal;
use support::{EVERY_ROLE, Network, ONE_PROCESS, text, wait_until};

#[test]
fn a_second_supervisor_is_told_who_works_there_and_the_first_is_unharmed() {
    let network = Network::up(EVERY_ROLE);
    let supervisor = network.supervisor();
    std::fs::write(network.dir().join("other.toml"), ONE_PROCESS.replace("\"test\"", "\"other\"")).unwrap();
    for arguments in [&["up", "other.toml"][..], &["up", "-d", "other.toml"], &["up", "topology.toml"]] {
        let output = network.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with("error: data is in use by"), "{errors}");
        assert!(errors.contains("\"test\"") && errors.contains(&format!("pid {supervisor}")), "{errors}");
        assert!(errors.contains("--data-dir"), "it says what to do: {errors}");
    }
    network.assert_unharmed();
    assert_eq!(network.status().topology, "test");
    // With a folder of its own it runs beside the first.
    let background = network.run_ok(&["up", "-d", "other.toml", "--data-dir", "elsewhere"]);
    assert!(background.contains("`hippius down --data-dir elsewhere` stops it"), "{background}");
    let errors = text(&network.run(&["up", "other.toml", "--data-dir", "elsewhere"]).stderr);
    assert!(errors.contains("stop that with `hippius down --data-dir elsewhere`"), "{errors}");
    let errors = text(&network.run(&["status", "--data-dir", "no where"]).stderr);
    assert!(errors.contains("start one with `hippius up --data-dir 'no where'`"), "{errors}");
    assert!(network.run_ok(&["status", "--data-dir", "elsewhere"]).contains("topology other"));
    network.run_ok(&["down", "--data-dir", "elsewhere"]);
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_path_longer_than_a_socket_address_works_for_every_command() {
    let mut network = Network::new(EVERY_ROLE);
    let long = PathBuf::from("d".repeat(120)).join("e".repeat(120)).join("data");
    // Relative to the folder, and absolute.
    for path in [long.clone(), network.dir().join("f".repeat(200))] {
        let path = path.to_str().unwrap();
        let hippius = |arguments: &[&str]| {
            let mut all = arguments.to_vec();
            all.extend(["--data-dir", path]);
            network.run_ok(&all)
        };
        hippius(&["up", "-d", "topology.toml"]);
        assert!(hippius(&["status"]).contains("5 of 5 processes ready"));
        assert!(hippius(&["logs", "web"]).contains("ready"));
        hippius(&["restart", "node-0"]);
        let mut console = network.command(&["console", "node-0", "--data-dir", path]);
        let output = console.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        hippius(&["down"]);
        let output = network.run(&["status", "--data-dir", path]);
        assert_eq!(output.status.code(), Some(1));
    }
    let path = long.to_str().unwrap().to_owned();
    network.spawn(&["--data-dir", &path]);
    wait_until("it is up", || {
        text(&network.run(&["status", "--data-dir", &path]).stdout).contains("5 of 5 processes ready")
    });
    network.signal(network.supervisor().as_raw(), Signal::SIGINT);
    assert_eq!(network.wait_exit().code(), Some(0), "{}", network.read("up.err"));
}

#[test]
fn nothing_is_written_outside_of_it() {
    let network = Network::new(EVERY_ROLE);
    network.run_ok(&["up", "-d", "topology.toml", "--data-dir", "mine"]);
    network.run_ok(&["down", "--data-dir", "mine"]);
    let mut names: Vec<String> = std::fs::read_dir(network.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["mine", "topology.toml"]);
    assert!(network.dir().join("mine/logs/node-0.log").is_file());
    assert!(network.dir().join("mine/node-0/peer_id.key").is_file());
}

#[test]
fn keys_and_sockets_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let network = Network::up(EVERY_ROLE);
    for path in ["supervisor/control.sock", "node-0/peer_id.key", "node-0/config.toml", "node-0/admin.sock"] {
        let mode = std::fs::metadata(network.data().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    network.down();
}
