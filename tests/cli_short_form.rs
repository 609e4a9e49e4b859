//! `hippius --mode …`: a small network without a file, for those who know it that way.

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard};

use hippius::supervisor::lifecycle::State;
use hippius::supervisor::wire::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::figures::figure;
use support::{Network, http_get, text, wait_for, wait_until};

/// The default ports are the same for all tests here: one at a time looks for free ones.
static PORTS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PORTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A port that is free now.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// A short form that runs.
struct Running<'a> {
    network: &'a Network,
    child: Child,
    data_dir: &'static str,
    out: String,
}

impl<'a> Running<'a> {
    /// Starts one that will use `data_dir`, and waits until all of it is ready.
    #[track_caller]
    fn start(network: &'a Network, data_dir: &'static str, arguments: &[&str]) -> Self {
        let out = format!("{data_dir}.out");
        let file = fs::File::create(network.dir().join(&out)).unwrap();
        let mut command = network.command(arguments);
        let child =
            command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let mut running = Self { network, child, data_dir, out };
        wait_until("the short form is ready", || {
            assert!(running.child.try_wait().unwrap().is_none(), "{arguments:?} ended:\n{}", running.out());
            running.out().contains("Ctrl-C stops everything")
        });
        running
    }

    fn out(&self) -> String {
        self.network.read(&self.out)
    }

    #[track_caller]
    fn status(&self) -> Status {
        let json = self.network.run_ok(&["status", "--json", "--data-dir", self.data_dir]);
        serde_json::from_str(&json).unwrap()
    }

    /// Names and roles, in order.
    #[track_caller]
    fn processes(&self) -> Vec<(String, String)> {
        let status = self.status();
        assert!(status.processes.iter().all(|process| process.state == State::Ready), "{status:?}");
        status.processes.into_iter().map(|process| (process.name, process.role.as_str().to_owned())).collect()
    }

    #[track_caller]
    fn address(&self, name: &str) -> String {
        let status = self.status();
        status.processes.iter().find(|process| process.name == name).expect("it runs").addresses[0].clone()
    }

    #[track_caller]
    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        let status = wait_for("it ends", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.out());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pairs(of: &[&str]) -> Vec<(String, String)> {
    of.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn each_mode_starts_its_processes_on_the_ports_named() {
    let _alone = alone();
    for (mode, processes) in [
        ("all", &["bootnode", "signaling", "web"][..]),
        ("signaling", &["signaling", "web"]),
        ("bootnode", &["bootnode"]),
        ("node", &["signaling", "node", "web"]),
    ] {
        let network = Network::new("");
        let ports: Vec<(&str, String)> =
            ["web", "signaling", "bootnode"].map(|name| (name, free_port())).into();
        let mut arguments = vec!["--mode".to_owned(), mode.to_owned()];
        for (name, port) in ports.iter().filter(|(name, _)| processes.contains(name)) {
            arguments.extend([format!("--{name}-port"), port.clone()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = Running::start(&network, "data", &arguments);
        let mut expected = pairs(processes);
        let mut actual = running.processes();
        expected.sort_unstable();
        actual.sort_unstable();
        assert_eq!(actual, expected, "--mode {mode}");
        for (name, port) in ports.iter().filter(|(name, _)| processes.contains(name)) {
            let address = running.address(name);
            let there = address.contains(&format!(":{port}")) || address.contains(&format!("/tcp/{port}/"));
            assert!(there, "{name} is on {port}: {address}");
        }
        running.stop();
        wait_until("no process is left", || network.leftovers().is_empty());
    }
}

#[test]
fn a_default_port_that_is_taken_moves_to_the_next_free_one_and_says_so() {
    let _alone = alone();
    // Whoever holds them, they are held.
    let _held: Vec<_> = [3000, 8001, 4002].map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).into();
    let network = Network::new("");
    let running = Running::start(&network, "data", &["--mode", "all"]);
    let out = running.out();
    for (name, port) in [("web", 3000), ("signaling", 8001), ("bootnode", 4002)] {
        let start = format!("port {port} is taken: {name} uses ");
        let line = out.lines().find(|line| line.starts_with(&start));
        let moved: u16 =
            line.unwrap_or_else(|| panic!("{start}… in:\n{out}"))[start.len()..].parse().unwrap();
        assert!(moved > port && moved <= port + 100, "{moved}");
        let address = running.address(name);
        let there = address.contains(&format!(":{moved}")) || address.contains(&format!("/tcp/{moved}/"));
        assert!(there, "{name} is on {moved}: {address}");
    }
    running.stop();
}

#[test]
fn a_named_port_that_is_taken_is_an_error_with_its_holder() {
    let _alone = alone();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let network = Network::new("");
    for flag in ["--web-port", "--signaling-port", "--bootnode-port"] {
        let output = network.run(&["--mode", "all", flag, &port]);
        assert_eq!(output.status.code(), Some(1), "{flag}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with(&format!("error: {flag} {port}: ")), "{errors}");
        assert!(errors.contains(&format!("(pid {})", std::process::id())), "{errors}");
    }
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_node_finds_the_bootnode_that_it_is_told_and_a_second_one_is_somebody_else() {
    let _alone = alone();
    let network = Network::new("");
    let boot = Running::start(&network, "boot", &["--mode", "bootnode", "--data-dir", "boot"]);
    let address = boot.address("bootnode");
    let arguments = ["--mode", "node", "--bootnode-address", address.as_str()];
    let first = Running::start(&network, "data", &arguments);
    let second = Running::start(&network, "data-2", &arguments);
    assert!(
        second.out().contains("data is used by another network: this one uses data-2"),
        "{}",
        second.out()
    );
    let peer_id = |running: &Running<'_>| {
        running.status().processes.into_iter().find_map(|process| process.peer_id).expect("a node")
    };
    let ids = [peer_id(&first), peer_id(&second)];
    assert_ne!(ids[0], ids[1]);
    wait_until("the nodes find each other through the bootnode", || {
        [&first, &second].into_iter().all(|running| {
            let page = http_get(&running.status().metrics);
            figure(&page, "p2p_connected_peers", &[("process", "node")]) == Some(2.0)
        })
    });
    second.stop();
    first.stop();
    // Each folder keeps its own.
    let first = Running::start(&network, "data", &arguments);
    assert_eq!(peer_id(&first), ids[0]);
    first.stop();
    boot.stop();
}

#[test]
fn a_bootnode_address_that_is_none_is_an_error() {
    let _alone = alone();
    let network = Network::new("");
    for address in ["nonsense", "/ip4/127.0.0.1/tcp/4002", ""] {
        let output = network.run(&["--mode", "node", "--bootnode-address", address]);
        assert_eq!(output.status.code(), Some(2), "{address}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with("error: ") && errors.contains("--bootnode-address"), "{errors}");
        assert!(errors.contains(address) && errors.contains("/p2p/PEER_ID"), "{address}: {errors}");
        assert!(!errors.contains("file") && !errors.contains("line"), "nobody wrote a file: {errors}");
    }
    assert!(!network.data().exists(), "nothing is started");
}

#[test]
fn wrong_combinations_exit_2() {
    let _alone = alone();
    let network = Network::new("");
    let address = "/ip4/10.0.0.1/tcp/4002/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let wrong: [&[&str]; 12] = [
        &["--mode"],
        &["--mode", "turn"],
        &["--web-port", "3000"],
        &["--bootnode-address", address],
        &["--mode", "all", "--web-port", "0"],
        &["--mode", "all", "--web-port", "65536"],
        &["--mode", "all", "--web-port", "4000", "--signaling-port", "4000"],
        &["--mode", "bootnode", "--web-port", "3000"],
        &["--mode", "node", "--bootnode-port", "4002"],
        &["--mode", "signaling", "--bootnode-port", "4002"],
        &["--mode", "all", "--bootnode-address", address],
        &["--mode", "all", "up"],
    ];
    for arguments in wrong {
        let output = network.run(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: "), "{arguments:?}: {errors}");
    }
    assert!(!network.data().exists(), "nothing is started");
}

#[test]
fn networks_that_start_at_once_in_one_folder_make_way_for_each_other() {
    let _alone = alone();
    let network = Network::new("");
    let mut children: Vec<(String, Child)> = (0..4)
        .map(|number| {
            let out = format!("{number}.out");
            let file = fs::File::create(network.dir().join(&out)).unwrap();
            let mut command = network.command(&["--mode", "node"]);
            command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
            (out, command.spawn().unwrap())
        })
        .collect();
    for (out, child) in &mut children {
        wait_until("all of it is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "{out} ended:\n{}", network.read(out));
            network.read(out).contains("Ctrl-C stops everything")
        });
    }
    for (out, mut child) in children {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        let status = wait_for("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", network.read(&out));
    }
}
