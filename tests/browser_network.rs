//! Browser windows on a network that the real binary runs, in a network namespace with nothing but loopback: they chat, and go
//! on while the signaling and the web server are killed and come back.
//!
//! Needs root or user namespaces, Node 20, Chromium and `npm ci` in `tests/browser`, like `browser_chat.rs`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Network, binary, namespace};

const NAME: &str = "two_windows_chat_on_a_real_network";

#[test]
fn two_windows_chat_on_a_real_network() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").exists(),
        "the browser test needs its modules: run `npm ci` in tests/browser"
    );
    if !namespace::inside(NAME) {
        return;
    }
    // The shipped topology with its own ports: the namespace has them all free.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology/local.toml");
    let network = Network::up(&std::fs::read_to_string(shipped).unwrap());
    let status = Command::new("node")
        .arg("--test")
        .arg(folder.join("network/two_windows.test.mjs"))
        .current_dir(network.dir())
        .env("WEB_URL", "http://127.0.0.1:3000")
        .env("METRICS_URL", &network.status().metrics)
        .env("HIPPIUS", binary())
        .stdin(Stdio::null())
        .status()
        .expect("node is installed");
    assert!(status.success(), "the browser test failed; see its report above");
    network.down();
}
