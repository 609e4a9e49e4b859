//! Clients of the control socket and of a role's admin socket that send rubbish, too much, too slowly, or too often:
//! they are refused, and no process notices.

mod support;

use std::io::{Read, Write};

use support::figures::figure;
use support::wire::{Connection, Place, rubbish};
use support::{EVERY_ROLE, Network, text, wait_until};

/// Connections that the control socket serves at once.
const CONTROL_CONNECTIONS: usize = 64;

fn control(network: &Network) -> Place {
    Place::Unix(network.data().join("supervisor/control.sock"))
}

/// The control socket and the admin sockets of a node and of a server.
fn places(network: &Network) -> [Place; 3] {
    let admin = |name: &str| Place::Unix(network.data().join(name).join("admin.sock"));
    [control(network), admin("node-0"), admin("web")]
}

#[test]
fn rubbish_is_answered_with_an_error_or_the_end() {
    let network = Network::up(EVERY_ROLE);
    for place in places(&network) {
        for bytes in rubbish() {
            let reply = text(&place.send(&bytes));
            let start = text(&bytes[..bytes.len().min(40)]);
            assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{place:?} {start:?}: {reply}");
        }
        network.assert_unharmed();
    }
    network.down();
}

#[test]
fn wrong_methods_paths_and_parameters_change_nothing() {
    let network = Network::up(EVERY_ROLE);
    let place = control(&network);
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/statuss"),
        ("GET", "/v1/down"),
        ("DELETE", "/v1/status"),
        ("PUT", "/v1/processes/web/stop"),
        ("GET", "/v1/processes/web/stop"),
        ("POST", "/v1/processes/web/explode"),
        ("POST", "/v1/processes/web"),
        ("POST", "/v1/processes//stop"),
        ("POST", "/v1/processes/nobody/stop"),
        ("POST", "/v1/processes/../../stop"),
        ("POST", "/v1/processes/%2e%2e%2fweb/stop"),
        ("POST", "/v1/processes/%/stop"),
        ("POST", "/v1/processes/%ff/stop"),
        ("POST", "/v1/processes/web/stop?wait=soon"),
        ("POST", "/v1/processes/web/stop?wait=-1"),
        ("POST", "/v1/processes/web/stop?wait=99999999999999999999999999"),
        ("POST", "/v1/processes/web/stop?wait=601"),
        ("POST", "/v1/processes/web/stop?wiat=10"),
        ("POST", "/v1/processes/web/stop?wait"),
        ("GET", "/v1/processes/../../../etc/passwd"),
        ("GET", "/v1/logs?n=-1"),
        ("GET", "/v1/logs?n=99999999999999999999999999"),
        ("GET", "/v1/logs?n=100001"),
        ("GET", "/v1/logs?lines=3"),
        ("GET", "/v1/logs?process=../../../../etc/passwd"),
        ("GET", "/v1/logs?process=..%2f..%2ftopology.toml"),
        ("GET", "/v1/logs?process=%00"),
        ("POST", "/v1/logs"),
    ] {
        let answer = place.request(method, target, "", b"");
        assert!((400..500).contains(&answer.status), "{method} {target}: {answer:?}");
        let error: serde_json::Value = serde_json::from_str(&answer.body).expect("errors are JSON");
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(
            error["error"]["code"].is_string() && !message.contains("root:"),
            "{method} {target}: {error}"
        );
    }
    for (method, target, allowed) in [
        ("DELETE", "/v1/status", "GET"),
        ("POST", "/v1/logs", "GET"),
        ("POST", "/v1/processes/web", "GET"),
        ("GET", "/v1/down", "POST"),
        ("GET", "/v1/processes/web/stop", "POST"),
    ] {
        let answer = place.request(method, target, "", b"");
        assert_eq!(answer.status, 405, "{method} {target}: {answer:?}");
        assert!(
            answer.head.to_lowercase().contains(&format!("\r\nallow: {}\r\n", allowed.to_lowercase())),
            "{answer:?}"
        );
    }
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_node_s_admin_socket_takes_only_what_it_knows() {
    let network = Network::up(EVERY_ROLE);
    let place = Place::Unix(network.data().join("node-0/admin.sock"));
    let large = vec![b'a'; 2 * 1024 * 1024];
    let deep = "[".repeat(200_000).into_bytes();
    for (method, target, body) in [
        ("POST", "/v1/publish", &b"{"[..]),
        ("POST", "/v1/publish", b""),
        ("POST", "/v1/publish", b"null"),
        ("POST", "/v1/publish", b"{\"topic\": \"lobby\"}"),
        ("POST", "/v1/publish", b"{\"topic\": 1, \"text\": 2}"),
        ("POST", "/v1/publish", b"{\"topic\": \"\", \"text\": \"x\"}"),
        ("POST", "/v1/publish", b"{\"topic\": \"lobby\", \"text\": \"x\", \"more\": 1}"),
        ("POST", "/v1/publish", b"{\"topic\": \"not joined\", \"text\": \"x\"}"),
        ("POST", "/v1/publish", b"\xff\xfe"),
        ("POST", "/v1/publish", &large),
        ("POST", "/v1/publish", &deep),
        ("POST", "/v1/topics/join", b"{\"topic\": \"a\\u0000b\"}"),
        ("POST", "/v1/peers/connect", b"{\"address\": \"nowhere\"}"),
        ("POST", "/v1/peers/disconnect", b"{\"peer_id\": \"../..\"}"),
        ("GET", "/v1/publish", b""),
        ("DELETE", "/v1/peers", b""),
        ("GET", "/v1/events?topic=%zz", b""),
        ("GET", "/v1/nothing", b""),
        ("POST", "/readyz", b""),
    ] {
        let answer = place.request(method, target, "content-type: application/json\r\n", body);
        let start = text(&body[..body.len().min(60)]);
        // A server that refuses a large body may close before the client has sent, or read, everything.
        let cut_off = answer.status == 0 && body.len() > 100_000;
        assert!((400..500).contains(&answer.status) || cut_off, "{method} {target} {start}: {answer:?}");
    }
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_hundred_half_open_connections_and_slow_ones_leave_the_roles_alone() {
    let network = Network::up(EVERY_ROLE);
    for place in places(&network) {
        let mut held: Vec<Connection> = (0..100).map(|_| place.connect()).collect();
        for (number, connection) in held.iter_mut().enumerate() {
            // Some say nothing, some begin a head, some announce a body that never comes.
            let _ = match number % 3 {
                0 => Ok(()),
                1 => connection.write_all(b"GET /v1/st"),
                _ => connection
                    .write_all(b"POST /v1/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{"),
            };
        }
        // They push their figures, answer their watchdogs and serve others all the same.
        let page = support::http_get(&network.process("web").addresses[0]);
        assert!(page.contains("<html"), "{page}");
        drop(held);
        wait_until("status answers again", || network.try_status().is_some());
        network.assert_unharmed();
    }
    network.down();
}

#[test]
fn a_head_that_comes_byte_by_byte_is_served_and_holds_up_nobody() {
    let network = Network::up(EVERY_ROLE);
    for place in places(&network) {
        let mut slow = place.connect();
        for byte in b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" {
            slow.write_all(&[*byte]).unwrap();
            if *byte == b'\n' {
                network.assert_unharmed();
            }
        }
        let reply = text(&slow.rest());
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    network.down();
}

#[test]
fn whoever_holds_all_connections_and_asks_nothing_keeps_nobody_out() {
    let network = Network::up(EVERY_ROLE);
    let place = control(&network);
    let metrics = network.status().metrics;
    let refused = || {
        figure(&support::http_get(&metrics), "hippius_connections_refused_total", &[("server", "control")])
            .unwrap_or_default()
    };
    let mut held: Vec<Connection> = (0..CONTROL_CONNECTIONS + 30).map(|_| place.connect()).collect();
    for connection in &mut held {
        // A head that never ends is nothing asked.
        let _ = connection.write_all(b"GET /v1/st");
    }
    // One of a moment ago may still count as open, so at least those beyond.
    wait_until("those beyond the limit are counted", || refused() >= 30.0);
    assert_eq!(held[0].rest(), b"", "the oldest has made room");
    let output = network.run(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    network.run_ok(&["restart", "web"]);
    drop(held);
    network.down();
}

#[test]
fn when_all_connections_are_busy_one_more_is_refused_at_once() {
    let network = Network::up(EVERY_ROLE);
    let place = control(&network);
    let followers: Vec<Connection> = (0..CONTROL_CONNECTIONS)
        .map(|_| {
            let mut follower = place.connect();
            follower.write_all(b"GET /v1/logs?follow=1 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut head = [0; 12];
            follower.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            follower
        })
        .collect();
    let output = network.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    drop(followers);
    wait_until("status answers again", || network.try_status().is_some());
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_client_that_does_not_read_its_logs_holds_up_nobody() {
    let network = Network::up(EVERY_ROLE);
    let mut deaf = control(&network).connect();
    deaf.write_all(b"GET /v1/logs?follow=1&n=100000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    for _ in 0..5 {
        network.run_ok(&["restart", "web"]);
    }
    drop(deaf);
    let status = network.status();
    assert!(status.all_ready(), "{status:?}");
    network.down();
}
