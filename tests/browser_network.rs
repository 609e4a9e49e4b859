//! Browser windows on a network that the real binary runs, in a network namespace with nothing but loopback: they chat, and go
//! on while the signaling and the web server are killed and come back.
//!
//! Needs root or user namespaces, Node 20, Chromium and `npm ci` in `tests/browser`, like `browser_chat.rs`.

mod support;

use std::path::Path;

use support::{Network, binary, browser, namespace};

const NAME: &str = "two_windows_chat_on_a_real_network";

#[test]
fn two_windows_chat_on_a_real_network() {
    let scripts = browser::scripts();
    if !namespace::inside(NAME) {
        return;
    }
    // The shipped topology with its own ports: the namespace has them all free.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology/local.toml");
    let network = Network::up(&std::fs::read_to_string(shipped).unwrap());
    browser::passes(
        browser::node([scripts.join("network/two_windows.test.mjs")])
            .current_dir(network.dir())
            .env("WEB_URL", "http://127.0.0.1:3000")
            .env("METRICS_URL", &network.status().metrics)
            .env("HIPPIUS", binary()),
    );
    network.down();
}
