//! Other people's libp2p against nodes that the real binary runs: js-libp2p in Node.js and in a browser, and py-libp2p.
//!
//! The tests themselves are in `tests/interop`; `scripts/test` installs what they need. Each has a network namespace of its own, with
//! loopback and one address more: the WebRTC library of js-libp2p does not use loopback.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, json};
use support::{Network, namespace};

const TOPOLOGY: &str = r#"
name = "interop"
[ports]
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 2
listen = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/10.77.0.1/udp/0/webrtc-direct",
]
topics = ["lobby"]
[[nodes]]
name = "hidden"
listen = ["/p2p-circuit"]
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("tests/interop")
}

/// Node.js as `scripts/test` installs it where the system's is too old, or else the system's.
fn node() -> Command {
    let own = root().join("target/node/node_modules/.bin/node");
    Command::new(if own.exists() { own } else { "node".into() })
}

/// What the scripts are told of the network: for each process its admin socket, its id and its addresses.
fn description(network: &Network) -> String {
    let status = network.status();
    let processes: Map<_, _> = status
        .processes
        .into_iter()
        .map(|process| {
            let admin = network.data().join(&process.name).join("admin.sock");
            (
                process.name,
                json!({ "admin": admin, "peer_id": process.peer_id, "addresses": process.addresses }),
            )
        })
        .collect();
    json!({ "metrics": status.metrics, "processes": processes }).to_string()
}

/// Runs `command` beside a network of its own, in a namespace of its own, for the test called `name`. Every script has time limits of
/// its own.
fn run(name: &str, needs: &str, command: impl FnOnce() -> Command) {
    assert!(root().join(needs).exists(), "{needs} is missing: `scripts/test` installs it");
    if !namespace::inside(name) {
        return;
    }
    namespace::add_address();
    let network = Network::up(TOPOLOGY);
    let status = command()
        .env("NETWORK", description(&network))
        .stdin(Stdio::null())
        .status()
        .expect("the program is installed");
    assert!(status.success(), "{name} failed; see its report above");
    network.assert_unharmed();
    network.down();
}

/// Runs one file of `tests/interop` in Node.js.
fn script(name: &str, file: &str) {
    run(name, "tests/interop/node_modules/libp2p", || {
        let mut node = node();
        node.args(["--test", "--test-force-exit"]).arg(folder().join(file)).current_dir(folder());
        node
    });
}

#[test]
fn js_libp2p_connects_by_every_transport_both_ways() {
    script("js_libp2p_connects_by_every_transport_both_ways", "transports.test.mjs");
}

#[test]
fn js_libp2p_and_hippius_share_topics() {
    script("js_libp2p_and_hippius_share_topics", "topics.test.mjs");
}

#[test]
fn js_libp2p_provides_and_finds_through_hippius() {
    script("js_libp2p_provides_and_finds_through_hippius", "discovery.test.mjs");
}

#[test]
fn js_libp2p_counts_the_same_bytes() {
    script("js_libp2p_counts_the_same_bytes", "bytes.test.mjs");
}

#[test]
fn js_libp2p_and_hippius_meet_through_a_relay() {
    script("js_libp2p_and_hippius_meet_through_a_relay", "relay.test.mjs");
}

#[test]
fn js_libp2p_in_a_browser_meets_hippius() {
    assert!(
        root().join("tests/browser/node_modules/playwright-core").exists(),
        "the browser's driver is missing: `scripts/test` installs it"
    );
    script("js_libp2p_in_a_browser_meets_hippius", "browser.test.mjs");
}

#[test]
fn py_libp2p_meets_hippius_over_tcp() {
    run("py_libp2p_meets_hippius_over_tcp", "target/python/.installed", || {
        let mut python = Command::new(root().join("target/python/bin/python"));
        python.arg(folder().join("py_peer.py"));
        python
    });
}
