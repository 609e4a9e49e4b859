//! `hippius status`: what runs, for people and for programs.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use hippius::supervisor::lifecycle::State;
use serde_json::Value;
use support::terminal::Terminal;
use support::{EVERY_ROLE, Network, text, wait_for, wait_until};
use unicode_width::UnicodeWidthStr;

#[test]
fn json_has_exactly_the_documented_keys_and_types() {
    let network = Network::up(EVERY_ROLE);
    let supervisor = network.supervisor().as_raw();
    network.run_ok(&["restart", "node-1"]);
    let json: Value = serde_json::from_str(&network.run_ok(&["status", "--json"])).expect("JSON");
    assert_eq!(keys(&json), ["metrics", "pid", "processes", "state", "topology"]);
    assert_eq!(json["topology"], "test");
    assert_eq!(json["state"], "running");
    assert_eq!(json["pid"], supervisor);
    let metrics = json["metrics"].as_str().expect("a string");
    assert!(metrics.starts_with("http://127.0.0.1:") && metrics.ends_with("/metrics"), "{metrics}");

    let processes = json["processes"].as_array().expect("an array");
    let names: Vec<&str> = processes.iter().map(|process| process["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bootnode", "signaling", "node-0", "node-1", "web"]);
    for process in processes {
        for key in ["name", "role", "state"] {
            assert!(process[key].is_string(), "{key}: {process}");
        }
        for key in ["pid", "generation", "restarts"] {
            assert!(process[key].is_u64(), "{key}: {process}");
        }
        assert!(process["uptime_seconds"].is_number(), "{process}");
        assert_eq!(process["state"], "ready");
        let addresses = process["addresses"].as_array().expect("an array");
        let address = addresses[0].as_str().expect("a string");
        let is_node = matches!(process["role"].as_str(), Some("node" | "bootnode"));
        match (is_node, process["peer_id"].as_str()) {
            (true, Some(id)) => {
                assert!(id.starts_with("12D3Koo"), "{id}");
                assert!(
                    address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&format!("/p2p/{id}"))
                );
            }
            (false, None) => assert!(process["peer_id"].is_null(), "there, and null: {process}"),
            _ => panic!("nodes and only nodes have a peer id: {process}"),
        }
        let again = process["name"] == "node-1";
        assert_eq!(process["generation"], if again { 2 } else { 1 });
        assert_eq!(process["restarts"], 0, "what was asked for is not a restart by policy");
        assert_eq!(process["last_exit"].is_null(), !again, "{process}");
        for key in ["name", "role", "state", "pid", "generation", "restarts", "last_exit", "uptime_seconds"] {
            assert!(process.get(key).is_some(), "{key} is there: {process}");
        }
    }
}

#[test]
fn a_stopped_process_has_no_pid_and_no_uptime() {
    let network = Network::up(EVERY_ROLE);
    network.run_ok(&["stop", "web"]);
    let json: Value = serde_json::from_str(&network.run_ok(&["status", "--json"])).expect("JSON");
    let web = json["processes"].as_array().unwrap().iter().find(|process| process["name"] == "web").unwrap();
    assert_eq!(web["state"], "stopped");
    assert!(web["pid"].is_null() && web["uptime_seconds"].is_null(), "{web}");
    let table = network.run_ok(&["status"]);
    let row = table.lines().find(|line| line.starts_with(" web ") || line.starts_with("web ")).unwrap();
    assert!(row.contains("stopped"), "{row}");
}

#[test]
fn the_table_names_every_process_and_the_urls() {
    let network = Network::up(EVERY_ROLE);
    let table = network.run_ok(&["status"]);
    let status = network.status();
    for process in &status.processes {
        assert!(table.contains(&process.name), "{table}");
        assert!(table.contains(&process.pid.unwrap().to_string()), "{table}");
    }
    assert!(table.contains("/metrics") && table.contains("/stats"), "{table}");
    assert!(!table.contains('\x1b'), "no colours where it is no terminal:\n{table}");
}

#[test]
fn without_a_network_the_error_says_how_to_start_one() {
    let network = Network::new(EVERY_ROLE);
    for arguments in [&["status"][..], &["status", "--json"], &["status", "--watch"], &["restart", "web"]] {
        let output = network.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}: nothing on standard output");
        let errors = text(&output.stderr);
        assert!(
            errors.starts_with("error: no network runs in data") && errors.contains("hippius up"),
            "{errors}"
        );
    }
    assert!(!network.data().exists(), "looking creates nothing");
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    let network = Network::up(EVERY_ROLE);
    let mut watcher =
        network.command(&["status", "--watch"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(watcher.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("process"), "{first}");
    let status = wait_for("the watcher ends", || watcher.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// Twelve nodes, one of which ends at once and stays down.
fn twelve() -> Network {
    let topology = "name = \"twelve\"\n[ports]\nmetrics = 0\n[restart]\npolicy = \"never\"\n[[bootnodes]]\n\
                    [[nodes]]\ncount = 12\n";
    let network = Network::scripted(topology, "if name == 'node-9': sys.exit(3)\nserve()");
    network.wait_state("node-9", State::Failed);
    for number in (0..12).filter(|number| *number != 9) {
        network.wait_state(&format!("node-{number}"), State::Ready);
    }
    network
}

#[test]
fn a_large_group_is_folded_to_a_line_and_those_that_are_not_ready() {
    let network = twelve();
    let folded = network.run_ok(&["status"]);
    assert!(folded.contains("node-0 … node-11  node      11 ready, 1 failed\n"), "{folded}");
    assert!(
        folded.lines().any(|line| line.starts_with("  node-9 ") && line.contains("exited with code 3")),
        "{folded}"
    );
    assert!(!folded.contains("node-8"), "{folded}");
    assert!(folded.contains("12 of 13 processes ready"), "{folded}");
    let all = network.run_ok(&["status", "--all"]);
    for number in 0..12 {
        assert!(
            all.lines().any(|line| line.starts_with(&format!("node-{number} "))),
            "node-{number} in:\n{all}"
        );
    }
}

#[test]
fn watching_fits_the_window_however_small() {
    let network = twelve();
    for (columns, rows) in [(80, 12), (40, 6)] {
        let mut terminal = Terminal::run_in(&network.command(&["status", "--watch", "--all"]), columns, rows);
        // Two pictures, the second begun.
        wait_until("it is drawn again", || terminal.raw().matches("\x1b[H").count() >= 3);
        let raw = terminal.raw();
        let pictures: Vec<&str> = raw.split("\x1b[H").skip(1).collect();
        for picture in &pictures[..2] {
            let lines: Vec<String> = picture
                .lines()
                .map(|line| line.replace("\x1b[2J", "").replace("\x1b[K", "").replace("\x1b[J", ""))
                .collect();
            assert!(lines.len() <= usize::from(rows), "{} lines in {rows}:\n{picture}", lines.len());
            for line in &lines {
                assert!(line.trim_end().width() <= usize::from(columns), "{line:?} in {columns}");
            }
            assert!(picture.contains("more lines than"), "{picture}");
            assert!(!picture.trim_start_matches("\x1b[2J").contains("\x1b[2J"), "wiped once: {picture:?}");
        }
        terminal.type_in("\x03");
        terminal.wait_exit();
    }
}

#[test]
fn no_line_is_wider_than_the_window() {
    let network = Network::up(EVERY_ROLE);
    let id = network.process("node-0").peer_id.expect("a node");
    for (columns, shown) in
        [(200, id.as_str()), (100, &id[id.len() - 6..]), (80, &id[id.len() - 6..]), (30, "ready")]
    {
        let mut terminal = Terminal::run_in(&network.command(&["status"]), columns, 40);
        assert_eq!(terminal.wait_exit().code(), Some(0));
        terminal.wait_text("topology test");
        let screen = terminal.plain();
        for line in screen.lines() {
            assert!(line.width() <= usize::from(columns), "{columns}: {line:?}");
            assert!(!line.ends_with(' '), "no blanks at the end: {line:?}");
        }
        assert!(screen.contains(shown), "{columns}: {shown} in:\n{screen}");
    }
    let everything = network.run_ok(&["status"]);
    assert!(everything.contains(&id), "in full where it is no terminal:\n{everything}");
    assert!(everything.lines().next().unwrap().contains("uptime"), "{everything}");
}
