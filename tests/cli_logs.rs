//! `hippius logs`: of all, of some, of the last, as they come, and after the network has ended.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;
use support::terminal::Terminal;
use support::{DEADLINE, EVERY_ROLE, Network, text};

/// The names in front of the lines.
fn names(out: &str) -> Vec<&str> {
    let mut names: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn all_or_some_or_a_group_merged_by_time() {
    let network = Network::up(EVERY_ROLE);
    let all = network.run_ok(&["logs"]);
    for name in ["bootnode", "node-0", "node-1", "signaling", "web"] {
        assert!(names(&all).contains(&name), "{name} is in:\n{all}");
    }
    assert_eq!(names(&network.run_ok(&["logs", "web"])), ["web"]);
    assert_eq!(names(&network.run_ok(&["logs", "node", "web"])), ["node-0", "node-1", "web"]);
    let twice = network.run_ok(&["logs", "web", "web"]);
    assert_eq!(twice, network.run_ok(&["logs", "web"]), "named twice is printed once");
    assert!(!all.contains('\x1b'), "plain where it is no terminal");

    let json = network.run_ok(&["logs", "--json"]);
    let times: Vec<String> = json
        .lines()
        .map(|line| {
            let line: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("JSON: {line}"));
            line["timestamp"].as_str().unwrap_or_else(|| panic!("a time: {line}")).to_owned()
        })
        .collect();
    assert!(times.len() >= 5 && times.is_sorted(), "{times:?}");
}

#[test]
fn n_is_how_many_of_the_last() {
    let network = Network::up(EVERY_ROLE);
    let all = network.run_ok(&["logs", "bootnode", "-n", "1000"]);
    assert!(all.lines().count() >= 2, "{all}");
    let one = network.run_ok(&["logs", "bootnode", "-n", "1"]);
    assert_eq!(one.lines().collect::<Vec<_>>(), [all.lines().last().unwrap()]);
    assert_eq!(network.run_ok(&["logs", "-n", "0"]), "");
    assert_eq!(network.run(&["logs", "-n", "some"]).status.code(), Some(2));
}

#[test]
fn followed_lines_come_as_they_are_written_until_the_network_ends() {
    let network = Network::up(EVERY_ROLE);
    let mut follower =
        network.command(&["logs", "web", "-f", "-n", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(follower.stdout.take().unwrap());
    let (lines, seen) = channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    // A line of before the follower is attached would not be shown: make some until one is.
    support::wait_until("a new line is shown", || {
        network.run_ok(&["restart", "web"]);
        seen.recv_timeout(std::time::Duration::from_millis(200)).is_ok_and(|line| line.starts_with("web "))
    });
    network.run_ok(&["restart", "node-0"]);
    network.run_ok(&["down"]);
    let status = support::wait_for("the follower ends with the network", || follower.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let rest: Vec<String> = std::iter::from_fn(|| seen.recv_timeout(DEADLINE).ok()).collect();
    assert!(rest.iter().all(|line| line.starts_with("web ")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("stopping")), "the last words are shown: {rest:?}");
}

#[test]
fn the_logs_of_a_network_that_has_ended_can_be_read() {
    let network = Network::new(EVERY_ROLE);
    network.run_ok(&["up", "-d", "topology.toml"]);
    network.run_ok(&["down"]);
    let all = network.run_ok(&["logs"]);
    assert!(names(&all).contains(&"node-0") && names(&all).contains(&"supervisor"), "{all}");
    assert_eq!(names(&network.run_ok(&["logs", "node"])), ["node-0", "node-1"]);
    let output = network.run(&["logs", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no log of nobody"), "{}", text(&output.stderr));
    let slip = text(&network.run(&["logs", "node_1"]).stderr);
    assert!(slip.contains("did you mean node-1?"), "{slip}");
}

#[test]
fn unknown_names_and_no_network_are_errors() {
    let network = Network::new(EVERY_ROLE);
    let output = network.run(&["logs"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no network runs in data"), "{}", text(&output.stderr));

    network.run_ok(&["up", "-d", "topology.toml"]);
    for name in ["nobody", "../../etc/passwd", "no body", "a&process=web", "wéb", "%41", "a#b", ""] {
        let output = network.run(&["logs", name]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name:?}: {errors}");
        assert!(
            errors.contains("there is no process or group named") && errors.contains(name),
            "{name:?}: {errors}"
        );
        assert_eq!(text(&output.stdout), "", "{name:?}");
    }
    let slip = text(&network.run(&["logs", "node_1"]).stderr);
    assert!(slip.contains("did you mean node-1?"), "{slip}");
    let many = network.run(&["logs", "-n", "100001"]);
    assert_eq!(many.status.code(), Some(1));
    assert!(text(&many.stderr).contains("at most its last 100000 lines"), "{}", text(&many.stderr));
    network.assert_unharmed();
    network.run_ok(&["down"]);
    network.run_ok(&["logs", "-n", "100001"]);
}

#[test]
fn lines_of_a_process_cannot_touch_the_terminal() {
    let script =
        "out('\\x1b[2Jplain \\x9b2J\\x07 \\u202e end\\n{\"message\": \"json \\x9b2J\\x7f\"}\\n')\nserve()";
    let mut network = Network::scripted("name = \"x\"\n[ports]\nweb = 0\nmetrics = 0\n[web]\n", script);
    network.wait_all_ready();
    fs::write(network.dir().join("logs/\u{1b}[2J.log"), "{}\n").unwrap();
    let shown = |network: &Network, arguments: &[&str]| {
        let mut terminal = Terminal::run(&network.command(arguments));
        assert_eq!(terminal.wait_exit().code(), Some(0));
        terminal.wait_text("json ");
        let raw = terminal.raw();
        assert!(!raw.contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{7f}', '\u{202e}']), "{arguments:?}: {raw:?}");
    };
    for arguments in [&["logs"][..], &["logs", "--json"]] {
        shown(&network, arguments);
    }
    network.run_ok(&["down"]);
    network.wait_exit();
    for arguments in [&["logs"][..], &["logs", "--json"]] {
        shown(&network, arguments);
    }
    let errors = text(&network.run(&["logs", "nobody"]).stderr);
    assert!(errors.contains("there are: ") && !errors.contains('\u{1b}'), "{errors:?}");
    let file = network.run_ok(&["logs", "--json", "web"]);
    assert!(file.contains('\u{9b}'), "as it is in the file where it is no terminal: {file:?}");
}

#[test]
fn following_a_network_that_has_ended_says_that_no_more_will_come() {
    let network = Network::new(EVERY_ROLE);
    network.run_ok(&["up", "-d", "topology.toml"]);
    network.run_ok(&["down"]);
    let output = network.run(&["logs", "-f"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("node-0"));
    assert!(text(&output.stderr).starts_with("no network runs in data: "), "{}", text(&output.stderr));
    assert_eq!(text(&network.run(&["logs"]).stderr), "", "without -f there is nothing to say");
}

#[test]
fn lines_that_do_not_come_any_more_are_an_error() {
    let mut network = Network::scripted("name = \"x\"\n[ports]\nweb = 0\nmetrics = 0\n[web]\n", "serve()");
    network.wait_all_ready();
    // More than is on its way to somebody who does not read.
    let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(1000));
    fs::write(network.dir().join("logs/web.log.1"), line.repeat(8000)).unwrap();
    let mut reader = network
        .command(&["logs", "web", "-n", "8000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(reader.stdout.take().unwrap());
    assert!(out.read_line(&mut String::new()).unwrap() > 1000);
    network.signal(network.supervisor().as_raw(), Signal::SIGKILL);
    network.wait_exit();
    let rest = out.lines().map(Result::unwrap).count();
    let output = reader.wait_with_output().unwrap();
    assert!(rest < 7999, "all {rest} of them came");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the connection broke"), "{}", text(&output.stderr));
}

#[test]
fn lines_that_cannot_be_written_are_an_error() {
    let network = Network::up(EVERY_ROLE);
    let to_a_full_disk = || {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        network.command(&["logs"]).stdin(Stdio::null()).stdout(full).output().unwrap()
    };
    let output = to_a_full_disk();
    assert_eq!(output.status.code(), Some(1), "while it runs");
    assert!(text(&output.stderr).contains("cannot write to standard output"), "{}", text(&output.stderr));
    network.run_ok(&["down"]);
    let output = to_a_full_disk();
    assert_eq!(output.status.code(), Some(1), "after it has ended");
    assert!(text(&output.stderr).contains("cannot write to standard output"), "{}", text(&output.stderr));
}
