//! Addresses through real processes: wrong ones on the console, for every transport, and the WebRTC address that a restart keeps.
//!
//! In a network namespace of its own, as everything that connects by WebRTC.

mod support;

use std::io::Write;
use std::process::Stdio;
use std::thread;

use hippius::supervisor::lifecycle::State;
use support::{Network, namespace, text};

const TOPOLOGY: &str = r#"
name = "test"
[ports]
metrics = 0
[[nodes]]
name = "node"
bootnodes = []
listen = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/udp/0/webrtc-direct",
]
[[nodes]]
name = "other"
bootnodes = []
listen = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/udp/0/webrtc-direct",
]
"#;

/// Somebody who is not there.
const NOBODY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// Gives `node`'s console one command; gives its exit code and what it printed.
fn console(network: &Network, line: &str) -> (Option<i32>, String, String) {
    let mut child = network
        .command(&["console", "node"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    writeln!(child.stdin.take().expect("piped"), "{line}").expect("it reads");
    let output = child.wait_with_output().expect("waitable");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The address with another port behind `tcp` or `udp`.
fn with_port(address: &str, port: u16) -> String {
    let mut parts: Vec<String> = address.split('/').map(str::to_owned).collect();
    let at = parts.iter().position(|part| part == "tcp" || part == "udp").expect("a port");
    parts[at + 1] = port.to_string();
    parts.join("/")
}

#[test]
fn wrong_addresses_are_refused_in_clear_words_for_every_transport() {
    if !namespace::inside("wrong_addresses_are_refused_in_clear_words_for_every_transport") {
        return;
    }
    namespace::add_address();
    let network = Network::up(TOPOLOGY);
    let (node, other) = (network.process("node"), network.process("other"));
    let own_id = node.peer_id.expect("a node has one");
    let other_id = other.peer_id.expect("a node has one");
    assert_eq!(other.addresses.len(), 4);
    let mut cases: Vec<(String, String)> = Vec::new();
    for address in &other.addresses {
        // Nobody listens on port 1 of a network that has nothing but this test.
        cases.push((with_port(address, 1), format!("cannot connect to {}: ", with_port(address, 1))));
        let named = address.replace(&other_id, NOBODY);
        cases.push((named.clone(), format!("cannot connect to {named}: another node is there: {other_id}")));
        let nowhere = with_port(address, 0);
        cases.push((nowhere, "has port 0, which nobody can dial".to_owned()));
        let behind = format!("{address}/tcp/1");
        cases.push((behind, "so it cannot be dialled".to_owned()));
    }
    for address in &node.addresses {
        let bare = address.rsplit_once("/p2p/").expect("it names the node").0.to_owned();
        for own in [address.clone(), bare] {
            cases.push((own.clone(), format!("{own} is this node itself")));
        }
        assert!(address.ends_with(&own_id));
    }
    for nonsense in
        ["nonsense", "/ip4/127.0.0.1", "/ip4/300.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/x"]
    {
        cases.push((nonsense.to_owned(), nonsense.to_owned()));
    }
    // At once: what has no answer takes its ten seconds.
    thread::scope(|scope| {
        for (address, words) in &cases {
            let network = &network;
            scope.spawn(move || {
                let (code, output, errors) = console(network, &format!("/connect {address}"));
                assert_eq!(code, Some(1), "{address}: {output}{errors}");
                assert!(
                    errors.starts_with("error: line 1: ") && errors.contains(words),
                    "{address}: {errors}"
                );
                assert_eq!(errors.lines().count(), 1, "{errors}");
            });
        }
    });
    for address in &other.addresses {
        let (code, output, errors) = console(&network, &format!("/connect {address}"));
        assert_eq!((code, output), (Some(0), format!("connected to {other_id}\n")), "{errors}");
    }
    network.assert_unharmed();
    network.down();
}

/// The part of a WebRTC address that is the hash of the certificate.
fn certificate_hash(network: &Network) -> String {
    let addresses = network.process("node").addresses;
    let webrtc = addresses.iter().find(|address| address.contains("/webrtc-direct/")).expect("it listens");
    webrtc.split("/certhash/").nth(1).expect("a hash").to_owned()
}

#[test]
fn a_restarted_node_keeps_its_webrtc_address_and_a_damaged_certificate_is_told() {
    if !namespace::inside("a_restarted_node_keeps_its_webrtc_address_and_a_damaged_certificate_is_told") {
        return;
    }
    let network = Network::up(TOPOLOGY);
    let before = certificate_hash(&network);
    network.run_ok(&["restart", "node"]);
    network.wait_process("node", "is ready again", |process| {
        process.generation > 1 && process.state == State::Ready
    });
    assert_eq!(certificate_hash(&network), before);

    let file = network.data().join("node/webrtc.pem");
    network.run_ok(&["stop", "node"]);
    std::fs::write(&file, "not a certificate").expect("writable");
    let output = network.run(&["start", "node"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let failed = network.wait_state("node", State::Failed);
    let reason = failed.reason.expect("a reason");
    assert!(
        reason.contains("webrtc.pem is damaged") && reason.contains("restore it from a backup"),
        "{reason}"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "not a certificate");
    network.down();
}
