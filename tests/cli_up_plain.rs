//! `hippius up` where standard output is no terminal: a line per event, the table, the URLs, then the logs.

mod support;

use nix::sys::signal::Signal;
use support::{EVERY_ROLE, Network, http_get, wait_until};

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
fn being_stopped_while_starting_is_no_failure() {
    let mut network = Network::new(EVERY_ROLE);
    network.spawn(&[]);
    // It listens for signals from before it starts the first process on.
    wait_until("a process is started", || network.try_status().is_some());
    network.signal(network.supervisor().as_raw(), Signal::SIGTERM);
    assert_eq!(network.wait_exit().code(), Some(0), "{}", network.read("up.err"));
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_network() {
    let mut network = Network::new(EVERY_ROLE);
    let mut child = network
        .command(&["up", "topology.toml"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    network.wait_all_ready();
    drop(child.stdout.take());
    network.run_ok(&["restart", "web"]);
    network.run_ok(&["restart", "node"]);
    assert!(network.wait_all_ready().all_ready());
    network.run_ok(&["down"]);
    let status = support::wait_for("the supervisor ends", || child.try_wait().unwrap());
    assert!(status.code().is_some(), "it was not ended by a signal: {status}");
}
