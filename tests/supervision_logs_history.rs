//! However much history is asked for, the supervisor goes on with its work and keeps its memory, and where history ends
//! and new lines begin none is lost or doubled.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, Stdio};

use support::wire::{Connection, Place};
use support::{Network, wait_until};

const PROCESSES: usize = 12;
const LINES: usize = 30_000;

/// Twelve processes that wrote much, in turns.
fn talkative() -> Network {
    let topology = format!("name = \"logs\"\n[ports]\nmetrics = 0\n[[nodes]]\ncount = {PROCESSES}\n");
    let mut network = Network::new(&topology);
    let logs = network.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    for process in 0..PROCESSES {
        let mut text = String::new();
        for line in 0..LINES {
            let n = line * PROCESSES + process;
            let words = "some text that makes the line as long as most of them are";
            text += &format!(
                "{{\"timestamp\":\"2026-01-01T00:00:00.{n:06}Z\",\"level\":\"INFO\",\"message\":\"{words}\",\"n\":{n}}}\n"
            );
        }
        fs::write(logs.join(format!("node-{process}.log")), text).unwrap();
    }
    network.play("serve()", &[]);
    network.wait_all_ready();
    network
}

fn control(network: &Network) -> Place {
    Place::Unix(network.data().join("supervisor/control.sock"))
}

/// Asks for as much history as there may be, and reads nothing of it.
fn ask(network: &Network) -> Connection {
    let mut connection = control(network).connect();
    let Connection::Unix(stream) = &connection else { unreachable!("the control socket is a unix socket") };
    stream.set_nonblocking(true).unwrap();
    connection
        .write_all(
            b"GET /v1/logs?process=node&n=100000 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    connection
}

/// Whether the first byte of a reply is there.
fn begun(connection: &mut Connection) -> bool {
    match connection.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        read => read.unwrap() == 1,
    }
}

#[test]
fn others_are_answered_while_history_is_searched() {
    let network = talkative();
    // On one thread, at most what came before the question would be answered before it.
    wait_until("five questions are answered meanwhile", || {
        let mut history = ask(&network);
        let mut answered = 0;
        while !begun(&mut history) {
            assert_eq!(control(&network).request("GET", "/v1/status", "", b"").status, 200);
            answered += 1;
        }
        answered >= 5
    });
    network.down();
}

#[test]
fn much_history_takes_little_memory_whether_it_is_read_or_not() {
    let network = talkative();
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", network.supervisor())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
    };
    let before = peak();
    let out = network.run_ok(&["logs", "node", "-n", "100000", "--json"]);
    let numbers: Vec<u64> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect();
    let all = (PROCESSES * LINES) as u64;
    assert!(numbers.iter().copied().eq(all - 100_000..all), "the last ones, in order");
    // Those who ask and then do not read.
    let mut idle: Vec<Connection> = (0..5).map(|_| ask(&network)).collect();
    wait_until("all have been answered", || {
        idle.retain_mut(|connection| !begun(connection));
        idle.is_empty()
    });
    let after = peak();
    // The lines asked for are 14 MB each time.
    assert!(after < before + 30, "{before} MB before, {after} MB at the most");
    network.down();
}

#[test]
fn history_and_new_lines_join_without_a_gap_while_files_are_rotated() {
    // Fewer than a follower may lag behind.
    const WRITTEN: u64 = 3000;
    let network = Network::scripted(
        "name = \"logs\"\n[ports]\nmetrics = 0\n[logs]\nmax_size = 2048\nkeep = 400\n[[nodes]]\nname = \"node\"\n",
        r#"
ready()
for n in range(3000):
    out('{"timestamp":"2026-01-01T00:00:00Z","n":%d,"message":"%s"}\n' % (n, "x" * 50))
    time.sleep(0.0005)
sleep()
"#,
    );
    wait_until("it writes", || network.dir().join("logs/node.log.1").exists());
    // All at once, each begins at another place.
    let followers: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = network.command(&["logs", "node", "-f", "-n", "100000", "--json"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for mut follower in followers {
        let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
        let seen: Vec<u64> = lines
            .by_ref()
            .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["n"].as_u64().unwrap())
            .take_while(|n| *n < WRITTEN - 1)
            .collect();
        assert!(seen.iter().copied().eq(0..WRITTEN - 1), "{seen:?}");
        follower.kill().unwrap();
        follower.wait().unwrap();
    }
    network.down();
}
