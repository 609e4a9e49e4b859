//! A port that another program holds: named with its holder at once, and nothing is started.

mod support;

use std::net::TcpListener;

use support::{Network, text, wait_until};

/// A topology in which everything is free but what `change` puts in place of a port.
fn topology(change: (&str, u16)) -> String {
    let port = |name: &str| if name == change.0 { change.1 } else { 0 };
    format!(
        r#"
name = "taken"
[ports]
web = {}
signaling = {}
metrics = {}
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/{}"]
[[nodes]]
listen = ["/ip4/127.0.0.1/tcp/{}"]
[signaling]
[web]
"#,
        port("web"),
        port("signaling"),
        port("metrics"),
        port("bootnode"),
        port("node"),
    )
}

#[test]
fn the_error_names_the_port_its_holder_and_who_wanted_it() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let program = std::fs::read_to_string("/proc/self/comm").unwrap();
    for (name, wanted) in [
        ("web", "the web server \"web\""),
        ("signaling", "the signaling server \"signaling\""),
        ("metrics", "the metrics endpoint"),
        ("bootnode", "the bootnode \"bootnode\""),
        ("node", "the node \"node\""),
    ] {
        let network = Network::new(&topology((name, port)));
        // `output` returns: it does not wait for anything, and nothing keeps its streams open.
        let output = network.run(&["up", "topology.toml"]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let errors = text(&output.stderr);
        assert!(
            errors.starts_with(&format!("error: {wanted} cannot listen on 127.0.0.1:{port}")),
            "{errors}"
        );
        let holder = format!("{} (pid {})", program.trim(), std::process::id());
        assert!(errors.contains(&holder), "{holder} in: {errors}");
        assert_eq!(text(&output.stdout), "", "{name}: nothing was started");
        wait_until("no process is left", || network.leftovers().is_empty());
    }
    // The same port once it is free again.
    drop(held);
    for name in ["web", "bootnode"] {
        let network = Network::up(&topology((name, port)));
        let process = network.process(name);
        assert!(process.addresses.iter().any(|address| address.contains(&port.to_string())), "{process:?}");
        network.down();
    }
}

#[test]
fn a_port_of_another_network_is_named_too_and_that_network_runs_on() {
    let first = Network::up(&topology(("", 0)));
    let url = first.process("web").addresses[0].clone();
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let second = Network::new(&topology(("web", port)));
    let output = second.run(&["up", "topology.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("hippius (pid "), "{}", text(&output.stderr));
    first.assert_unharmed();
    first.down();
}

#[test]
fn a_wildcard_listener_is_found_as_well() {
    let held = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let network = Network::new(&topology(("signaling", port)));
    let output = network.run(&["up", "topology.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("(pid {})", std::process::id())), "{errors}");
}
