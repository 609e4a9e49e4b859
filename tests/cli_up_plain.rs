//! `hippius up` where standard output is no terminal: a line per event, the table, the URLs, then the logs.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{EVERY_ROLE, Network, ONE_PROCESS, http_get, wait_for, wait_until};

#[test]
fn progress_table_urls_and_logs_are_plain_lines() {
    let network = Network::up(EVERY_ROLE);
    wait_until("the table is printed", || network.read("up.out").contains("Ctrl-C stops everything"));
    let out = network.read("up.out");
    let status = network.status();
    assert_eq!(status.processes.len(), 5);

    let heads: Vec<&str> = ["process", "role", "pid", "state", "address", "peer id"].into();
    let table_at = out.lines().position(|line| {
        let mut rest = line;
        heads.iter().all(|head| match rest.split_once(head) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    });
    let table_at = table_at.unwrap_or_else(|| panic!("no head of a table:\n{out}"));
    let (progress, table): (Vec<_>, Vec<_>) = out.lines().enumerate().partition(|(at, _)| *at < table_at);
    for process in &status.processes {
        let name = &process.name;
        let ready = progress.iter().filter(|(_, line)| line.starts_with(&format!("{name} ready ("))).count();
        assert_eq!(ready, 1, "one line says that {name} is ready:\n{out}");
        let (_, row) = table
            .iter()
            .find(|(_, line)| line.split_whitespace().next() == Some(name))
            .unwrap_or_else(|| panic!("no row of {name}:\n{out}"));
        let address = process.addresses[0].split("/p2p/").next().unwrap();
        let pid = process.pid.unwrap().to_string();
        let peer_id = process.peer_id.clone().unwrap_or_default();
        for cell in [process.role.as_str(), &pid, "ready", address, &peer_id] {
            assert!(row.contains(cell), "{cell} is in the row of {name}: {row}");
        }
    }
    // The URLs are those that work.
    let urls: Vec<&str> = out.split_whitespace().filter(|word| word.starts_with("http://")).collect();
    let page = urls.iter().find(|url| http_get(&url.replace("localhost", "127.0.0.1")).contains("<html"));
    assert!(page.is_some(), "the web page is among {urls:?}");
    assert!(urls.iter().any(|url| url.ends_with("/metrics")), "{urls:?}");
    assert!(urls.iter().any(|url| url.ends_with("/stats")), "{urls:?}");
    assert!(!out.contains('\x1b'), "no escape sequences:\n{out}");
    assert_eq!(network.read("up.err"), "", "nothing to complain about");
}

#[test]
fn logs_follow_the_table_with_the_process_in_front() {
    let network = Network::up(EVERY_ROLE);
    wait_until("the table is printed", || network.read("up.out").contains("Ctrl-C stops everything"));
    network.run_ok(&["restart", "node-1"]);
    let logged = |out: &str| {
        let after = out.split("Ctrl-C stops everything").nth(1).unwrap_or_default().to_owned();
        after
            .lines()
            .any(|line| line.starts_with("node-1 ") && line.contains(" │ ") && line.contains("ready"))
    };
    wait_until("the log of the restarted process is printed", || logged(&network.read("up.out")));
}

#[test]
fn every_way_to_ask_for_the_end_stops_everything_and_exits_0() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut network = Network::up(EVERY_ROLE);
        network.signal(network.supervisor().as_raw(), signal);
        assert_eq!(network.wait_exit().code(), Some(0), "{signal}: {}", network.read("up.err"));
        wait_until("no process is left", || network.leftovers().is_empty());
        assert!(network.read("up.out").ends_with("everything has stopped\n"), "{}", network.read("up.out"));
        assert!(!network.data().join("supervisor/control.sock").exists(), "the socket is gone");
    }
}

#[test]
fn being_stopped_while_starting_exits_as_shells_expect() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut network = Network::scripted(EVERY_ROLE, "sleep()");
        // It listens for signals from before it starts the first process on.
        network.wait_state("signaling", State::Starting);
        network.signal(network.supervisor().as_raw(), signal);
        assert_eq!(network.wait_exit().code(), Some(code), "{}", network.read("up.err"));
        wait_until("no process is left", || network.leftovers().is_empty());
        assert!(network.read("up.out").ends_with("everything has stopped\n"), "{}", network.read("up.out"));
        assert_eq!(network.read("up.err"), "", "whoever sent a signal knows");
    }
}

#[test]
fn being_taken_down_while_starting_is_a_failure() {
    let mut network = Network::scripted(EVERY_ROLE, "sleep()");
    network.wait_state("signaling", State::Starting);
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(1));
    let errors = network.read("up.err");
    assert_eq!(errors, "error: the network was stopped before everything was ready\n");
    assert!(network.read("up.out").ends_with("everything has stopped\n"), "{}", network.read("up.out"));
}

#[test]
fn one_process_is_not_called_all_processes() {
    let network = Network::up(ONE_PROCESS);
    wait_until("it is told", || network.read("up.out").contains("\n1 process ready in "));
    network.down();
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_network() {
    let mut network = Network::new(EVERY_ROLE);
    let mut child = network
        .command(&["up", "topology.toml"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    network.wait_all_ready();
    drop(child.stdout.take());
    network.run_ok(&["restart", "web"]);
    network.run_ok(&["restart", "node"]);
    assert!(network.wait_all_ready().all_ready());
    network.run_ok(&["down"]);
    let status = wait_for("the supervisor ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn output_that_nobody_reads_from_the_start_is_no_matter() {
    let network = Network::new(EVERY_ROLE);
    let nobody = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let mut command = network.command(&["up", "topology.toml"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(nobody()).stderr(nobody()).spawn().expect("the binary starts");
    wait_until("all are ready", || network.try_status().is_some_and(|status| status.all_ready()));
    network.run_ok(&["restart", "node"]);
    network.signal(child.id().cast_signed(), Signal::SIGINT);
    let status = wait_for("the supervisor ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{status}");
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn signals_that_were_ignored_when_it_was_started_stay_ignored() {
    let network = Network::new(EVERY_ROLE);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT; exec \"$0\" up topology.toml"]).arg(support::binary());
    command.current_dir(network.dir()).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    let null = || fs::File::create(network.dir().join("up.out")).unwrap();
    let mut child = command.stdout(null()).stderr(null()).spawn().unwrap();
    wait_until("all are ready", || network.try_status().is_some_and(|status| status.all_ready()));
    let pid = child.id().cast_signed();
    network.signal(pid, Signal::SIGHUP);
    network.signal(pid, Signal::SIGINT);
    // Had it begun to stop, it would refuse this.
    network.run_ok(&["restart", "web"]);
    assert!(network.status().all_ready());
    network.signal(pid, Signal::SIGTERM);
    let status = wait_for("the supervisor ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{status}");
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_process_that_is_stopped_while_the_network_starts_does_not_hold_up_the_rest() {
    let slow_web = "sleep() if name == 'web' else serve()";
    let mut network = Network::scripted_with(EVERY_ROLE, slow_web, &["--timeout", "10m"]);
    network.wait_state("web", State::Starting);
    network.run_ok(&["stop", "web"]);
    wait_until("it is told", || network.read("up.err").contains("web is stopped"));
    let errors = network.read("up.err");
    assert!(errors.contains("warning: not everything runs; the rest runs on"), "{errors}");
    wait_until("the table is printed", || network.read("up.out").contains("bootnode"));
    network.down();

    let done = "sys.exit(0) if name == 'web' else serve()";
    let topology = format!("{EVERY_ROLE}[restart]\npolicy = \"never\"\n");
    network = Network::scripted(&topology, done);
    wait_until("it is told", || network.read("up.err").contains("web is stopped"));
    network.down();
}

#[test]
fn a_failure_for_good_is_told_as_one_and_the_end_once_it_is_true() {
    let broken = r#"
if name == "web":
    notify("STATUS=the page is missing\nX_HIPPIUS_FATAL=1")
    sys.exit(1)
serve()
"#;
    let mut network = Network::scripted_with(EVERY_ROLE, broken, &["--timeout", "10m"]);
    assert_eq!(network.wait_exit().code(), Some(1));
    let errors = network.read("up.err");
    assert!(errors.starts_with("error: not everything could be started\n"), "{errors}");
    assert!(errors.contains("web is failed") && errors.contains("the page is missing"), "{errors}");
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.contains("everything is stopped again; the logs are in"), "{errors}");
    assert!(
        network.read("logs/supervisor.log").contains("not everything could be started"),
        "in its log, too"
    );
    assert!(network.leftovers().is_empty(), "nothing is left");
}

#[test]
fn a_setting_in_the_environment_that_every_role_would_refuse_is_refused_at_once() {
    let network = Network::new(EVERY_ROLE);
    for (variable, value) in [
        ("HIPPIUS_LOG__FORMAT", "yaml"),
        ("HIPPIUS_LOG__FILTER", "info,=nonsense=="),
        ("HIPPIUS_LOG__COLOUR", "red"),
    ] {
        for arguments in [&["up", "topology.toml"][..], &["up", "-d", "topology.toml"], &["--mode", "node"]] {
            let mut command = network.command(arguments);
            let output = command.env(variable, value).stdin(Stdio::null()).output().unwrap();
            let errors = support::text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{variable} {arguments:?}: {errors}");
            let start = format!("error: in the environment, {variable}: ");
            assert!(errors.starts_with(&start), "{variable}: {errors}");
        }
    }
    assert!(network.leftovers().is_empty());
}
