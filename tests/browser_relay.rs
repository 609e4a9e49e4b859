//! Browser windows that reach each other through the relay of a network that the real binary runs, over UDP and over TCP.
//!
//! Needs root or user namespaces, Node 20, Chromium and `npm ci` in `tests/browser`, like `browser_chat.rs`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Network, binary, namespace};

const NAME: &str = "windows_talk_through_the_relay_and_find_back_when_it_is_killed";

#[test]
fn windows_talk_through_the_relay_and_find_back_when_it_is_killed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").exists(),
        "the browser test needs its modules: run `npm ci` in tests/browser"
    );
    if !namespace::inside(NAME) {
        return;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology/local.toml");
    let mut network = Network::new(&std::fs::read_to_string(shipped).unwrap());
    std::fs::create_dir(network.dir().join("config")).unwrap();
    let often = r#"{"monitoring": {"interval_ms": 200}}"#;
    std::fs::write(network.dir().join("config/turn_config.json"), often).unwrap();
    network.spawn(&[]);
    network.wait_all_ready();
    let status = Command::new("node")
        .arg("--test")
        .args(std::env::var("BROWSER_TEST").map(|only| format!("--test-name-pattern={only}")))
        .arg(folder.join("relay/relay.test.mjs"))
        .current_dir(network.dir())
        .env("WEB_URL", "http://127.0.0.1:3000")
        .env("BANDWIDTH_LOG", network.dir().join("logs/turn_bandwidth.log"))
        .env("HIPPIUS", binary())
        .stdin(Stdio::null())
        .status()
        .expect("node is installed");
    assert!(status.success(), "the browser test failed; see its report above");
    network.down();
}
