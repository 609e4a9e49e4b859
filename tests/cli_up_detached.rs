//! `hippius up -d`: returns once everything is ready, and what it started does not depend on where it was typed.

mod support;

use std::process::Stdio;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::terminal::Terminal;
use support::{EVERY_ROLE, Network, exists, text, wait_until};

#[test]
fn it_returns_when_all_are_ready_and_down_waits_until_all_are_gone() {
    let network = Network::new(EVERY_ROLE);
    let out = network.run_ok(&["up", "-d", "topology.toml"]);
    let status = network.try_status().expect("it answers at once");
    assert!(status.all_ready(), "{status:?}");
    for process in &status.processes {
        assert!(out.contains(&process.name), "{} is in the table:\n{out}", process.name);
    }
    assert!(out.contains("/metrics") && out.contains(&status.pid.to_string()), "{out}");
    let pids: Vec<i32> = status.processes.iter().filter_map(|process| process.pid).collect();

    let out = network.run_ok(&["down"]);
    assert!(out.contains("stopped"), "{out}");
    for pid in pids {
        assert!(!exists(pid), "{pid} is still there after `down`");
    }
    assert!(!network.data().join("supervisor/control.sock").exists(), "the socket is gone");
    wait_until("the supervisor has ended, too", || network.leftovers().is_empty());
}

#[test]
fn closing_the_terminal_leaves_it_running() {
    let network = Network::new(EVERY_ROLE);
    let mut terminal = Terminal::run(&network.command(&["up", "-d", "topology.toml"]));
    assert_eq!(terminal.wait_exit().code(), Some(0), "{}", terminal.plain());
    terminal.wait_text("running in the background");
    terminal.close();
    network.assert_unharmed();
    // It can still print into the terminal that is gone, and read from it, without being hurt.
    network.run_ok(&["restart", "node", "web"]);
    let status = network.status();
    assert!(status.all_ready(), "{status:?}");
    let tty = std::fs::read_to_string(format!("/proc/{}/stat", status.pid)).unwrap();
    let tty = tty.rsplit(") ").next().unwrap().split(' ').nth(4).unwrap().to_owned();
    assert_eq!(tty, "0", "the supervisor has no controlling terminal");
    network.run_ok(&["down"]);
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_network_that_cannot_start_is_told_to_whoever_typed_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let network = Network::new(&format!("name = \"t\"\n[ports]\nmetrics = 0\nweb = {port}\n[web]\n"));
    let output = network.run(&["up", "-d", "topology.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains("error:") && errors.contains(&port.to_string()), "{errors}");
    wait_until("no process is left", || network.leftovers().is_empty());
    assert!(network.try_status().is_none());
}

#[test]
fn being_stopped_before_everything_was_ready_is_a_failure() {
    let network = Network::new(EVERY_ROLE);
    let program = network.script("sleep()");
    let program = program.to_str().unwrap();
    let mut command = network.command(&["up", "-d", "topology.toml", "--role-program", program]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the supervisor answers", || network.try_status().is_some());
    network.run_ok(&["down"]);
    let output = child.wait_with_output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("stopped before everything was ready"), "{errors}");
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn ctrl_c_while_it_waits_stops_what_it_has_started() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let network = Network::new(EVERY_ROLE);
        let program = network.script("sleep()");
        let program = program.to_str().unwrap();
        let mut command = network.command(&["up", "-d", "topology.toml", "--role-program", program]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        network.wait_state("signaling", State::Starting);
        network.signal(child.id().cast_signed(), signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(text(&output.stdout), "everything has stopped\n");
        assert_eq!(network.leftovers(), Vec::<i32>::new(), "it is true");
    }
}

#[test]
fn a_supervisor_that_is_killed_while_it_starts_is_told() {
    let network = Network::new(EVERY_ROLE);
    let program = network.script("sleep()");
    let program = program.to_str().unwrap();
    let mut command = network.command(&["up", "-d", "topology.toml", "--role-program", program]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    network.wait_state("signaling", State::Starting);
    network.signal(network.status().pid.cast_signed(), Signal::SIGKILL);
    let output = child.wait_with_output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("error: the supervisor has ended before everything was ready"), "{errors}");
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn ctrl_c_in_a_terminal_stops_what_it_has_started() {
    let network = Network::new(EVERY_ROLE);
    let program = network.script("sleep()");
    let program = program.to_str().unwrap();
    let mut terminal =
        Terminal::run(&network.command(&["up", "-d", "topology.toml", "--role-program", program]));
    network.wait_state("signaling", State::Starting);
    terminal.type_in("\x03");
    assert_eq!(terminal.wait_exit().code(), Some(130), "{}", terminal.plain());
    terminal.wait_text("everything has stopped");
    assert_eq!(network.leftovers(), Vec::<i32>::new(), "it is true");
}
