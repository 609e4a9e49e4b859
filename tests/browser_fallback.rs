//! Two browsers behind routers that let nothing in: in network namespaces of their own, with the network of the real binary between
//! them, they meet through its relay.
//!
//! Needs root, nft(8), Node 20, Chromium and `npm ci` in `tests/browser`.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use support::lab::{self, Host};
use support::{Network, browser, wait_for};

const NAME: &str = "browsers_behind_routers_meet_through_the_relay";

const TOPOLOGY: &str = r#"
bind = "203.0.113.254"
[signaling]
[web]
[turn]
"#;

/// A program that starts the browser on `host`.
fn browser_on(network: &Network, host: &str) -> PathBuf {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let path = network.dir().join(format!("chromium-{host}"));
    std::fs::write(&path, format!("#!/bin/sh\nexec ip netns exec {host} {chromium} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn browsers_behind_routers_meet_through_the_relay() {
    let scripts = browser::scripts();
    if !lab::inside(NAME) {
        return;
    }
    lab::begin();
    let (a, b) = (Host::behind_nat("a", 1, true), Host::behind_nat("b", 2, true));
    let network = Network::up(TOPOLOGY);
    for host in [&a, &b] {
        // The pages are there for both before a browser is.
        let mut curl = Command::new("ip");
        curl.args(["route", "get", &lab::TESTER.to_string()]);
        wait_for("a way to the server", || host.command(&curl).status().ok()?.success().then_some(()));
    }
    browser::passes(
        browser::node([scripts.join("fallback/fallback.test.mjs")])
            .current_dir(network.dir())
            .env("WEB_URL", "http://203.0.113.254:3000")
            .env("METRICS_URL", network.status().metrics)
            .env("CHROMIUM_A", browser_on(&network, "a"))
            .env("CHROMIUM_B", browser_on(&network, "b")),
    );
    network.down();
}
