//! Browser windows on a network that the real binary runs, in a network namespace with nothing but loopback: they chat, and go
//! on while the signaling and the web server are killed and come back.
//!
//! Needs root, Node 20, Chromium and `npm ci` in `tests/browser`, like `browser_chat.rs`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Network, binary};

/// Set in the copy of this test that runs inside the namespace.
const INSIDE: &str = "HIPPIUS_BROWSER_TEST_INSIDE";
const NAME: &str = "two_windows_chat_on_a_real_network";

#[test]
fn two_windows_chat_on_a_real_network() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").exists(),
        "the browser test needs its modules: run `npm ci` in tests/browser"
    );
    if std::env::var_os(INSIDE).is_none() {
        let inside = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .expect("unshare(1) is installed");
        assert!(
            inside.success(),
            "the browser test failed, or this user may not make a network namespace (run as root)"
        );
        return;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8) is installed");
    assert!(up.success(), "loopback could not be switched on");

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
