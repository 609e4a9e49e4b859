//! Browser windows that reach each other through the relay of a network that the real binary runs, over UDP, TCP and TLS.
//!
//! Needs root or user namespaces, Node 20, Chromium and `npm ci` in `tests/browser`, like `browser_chat.rs`.

mod support;

use std::path::Path;

use support::{Network, binary, browser, namespace};

const NAME: &str = "windows_talk_through_the_relay_and_find_back_when_it_is_killed";

#[test]
fn windows_talk_through_the_relay_and_find_back_when_it_is_killed() {
    let scripts = browser::scripts();
    if !namespace::inside(NAME) {
        return;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology/local.toml");
    // The shipped one, with TLS besides.
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let with_tls = "[turn]\ntls = { certificate = \"relay.pem\", key = \"relay.key\" }\n";
    let mut network = Network::new(&shipped.replace("[turn]\n", with_tls));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(network.dir().join("relay.pem"), made.cert.pem()).unwrap();
    std::fs::write(network.dir().join("relay.key"), made.key_pair.serialize_pem()).unwrap();
    std::fs::create_dir(network.dir().join("config")).unwrap();
    let often = r#"{"monitoring": {"interval_ms": 200}}"#;
    std::fs::write(network.dir().join("config/turn_config.json"), often).unwrap();
    network.spawn(&[]);
    network.wait_all_ready();
    browser::passes(
        browser::node([scripts.join("relay/relay.test.mjs")])
            .current_dir(network.dir())
            .env("WEB_URL", "http://127.0.0.1:3000")
            .env("BANDWIDTH_LOG", network.dir().join("logs/turn_bandwidth.log"))
            .env("HIPPIUS", binary()),
    );
    network.down();
}
