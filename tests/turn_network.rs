//! TURN servers of a running network, whichever engine relays: what browsers are told, what is counted, what a crash leaves. Coturn's
//! own tools are the clients (Debian's package `coturn`).

mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hippius::supervisor::lifecycle::State;
use hippius::turn::credentials::password_of;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::figures::{figure, samples};
use support::relay::{
    Echo, LENGTH, LOOPBACK, MESSAGES, assert_exchanged, counted, exchange, ice, port_of, topology, total, up,
    write,
};
use support::{DEADLINE, Network, http_get, text, wait_until};

#[test]
fn browsers_are_told_of_the_relay_with_credentials_that_it_takes() {
    let network = up(LOOPBACK);
    let port = port_of(&network);
    let (head, told) = ice(&network);
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(told["iceServers"][0]["urls"][0], format!("stun:127.0.0.1:{port}"));
    let turn = &told["iceServers"][1];
    assert_eq!(turn["urls"][0], format!("turn:127.0.0.1:{port}?transport=udp"));
    assert_eq!(turn["urls"][1], format!("turn:127.0.0.1:{port}?transport=tcp"));
    let secret = network.read("data/turn/secret");
    let user = turn["username"].as_str().expect("a name");
    assert_eq!(turn["credential"], password_of(secret.trim(), user));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let end = told["expires_at"].as_u64().expect("a time");
    assert!((now + 3_000..=now + 3_600).contains(&end), "{end} at {now}");
    assert!(user.starts_with(&format!("{end}:")), "{user}");
    for file in ["secret", "config.toml"] {
        let mode = fs::metadata(network.data().join("turn").join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    let echo = Echo::start();
    assert_exchanged(&exchange(&network, &echo, &[]));
    assert_exchanged(&exchange(&network, &echo, &["-t"]));
    let expected = 2 * MESSAGES * LENGTH;
    wait_until("the metrics count what was relayed", || {
        counted(&network, "turn_bytes_sent_total") >= expected as f64
            && counted(&network, "turn_bytes_received_total") >= expected as f64
    });
    wait_until("so does the log", || {
        total(&network).is_some_and(|line| line["bytes_sent"].as_u64() >= Some(expected))
    });
    let stats: Value =
        serde_json::from_str(&http_get(&network.status().metrics.replace("/metrics", "/stats")))
            .expect("JSON");
    assert!(stats["turn"]["bytes_sent"].as_u64() >= Some(expected), "{}", stats["turn"]);
    assert_eq!(stats["turn"]["bytes_sent"], stats["processes"]["turn"]["turn"]["bytes_sent"]);
    assert!(counted(&network, "turn_allocated_total") >= 2.0);

    // Nobody's name or address is a label, and no credential is in a log.
    let page = network.metrics();
    for sample in samples(&page).iter().filter(|sample| sample.name.starts_with("turn_")) {
        for label in sample.labels.keys() {
            assert!(["process", "role", "reason", "code"].contains(&label.as_str()), "{label}");
        }
    }
    let credential = turn["credential"].as_str().expect("one");
    for entry in fs::read_dir(network.dir().join("logs")).expect("logs") {
        let log = fs::read_to_string(entry.expect("an entry").path()).expect("a text");
        assert!(!log.contains(secret.trim()) && !log.contains(credential) && !log.contains(user), "{log}");
    }
    network.down();
}

#[test]
fn a_relay_that_is_killed_comes_back_where_it_was_with_the_same_secret() {
    let network = up(LOOPBACK);
    let (before, port) = (network.process("turn"), port_of(&network));
    network.signal(before.pid.expect("it runs"), Signal::SIGKILL);
    network.wait_process("turn", "it is back", |now| {
        now.generation > before.generation && now.state == State::Ready
    });
    assert_eq!(port_of(&network), port);
    assert_exchanged(&exchange(&network, &Echo::start(), &[]));
    network.down();
}

#[test]
fn signaling_tells_its_clients_of_the_relay() {
    let network = up(LOOPBACK);
    let address = network.process("signaling").addresses[0].replace("ws://", "");
    let address = address.strip_suffix("/signal").expect("a path").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let registered: Value = runtime.block_on(async {
        use futures::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        let stream = tokio::net::TcpStream::connect(&address).await.expect("it listens");
        let url = format!("ws://{address}/signal");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a WebSocket");
        socket.send(Message::text(r#"{"type":"Register","payload":{"peer_id":"ada"}}"#)).await.expect("sent");
        let next = tokio::time::timeout(DEADLINE, socket.next()).await.expect("in time");
        let answer = next.expect("open").expect("a message").into_text().expect("text");
        serde_json::from_str(&answer).expect("JSON")
    });
    assert_eq!(registered["type"], "Registered", "{registered}");
    let turn = &registered["payload"]["ice_servers"][1];
    assert_eq!(turn["urls"][0], format!("turn:127.0.0.1:{}?transport=udp", port_of(&network)));
    let secret = network.read("data/turn/secret");
    assert_eq!(turn["credential"], password_of(secret.trim(), turn["username"].as_str().expect("a name")));
    network.down();
}

/// A binding request, and an Allocate without credentials.
const REQUESTS: [[u8; 20]; 2] = [request(1), request(3)];

const fn request(kind: u8) -> [u8; 20] {
    [0, kind, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
}

/// Kilobytes of memory that a process holds.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Bad input: a flood with forged senders. From this machine's own addresses, so that the answers can be counted.
#[test]
fn an_address_that_proves_nothing_is_answered_now_and_then_and_everybody_else_is_served() {
    const FLOOD: usize = 2_000;
    const SOURCES: usize = 10_000;
    let network = up(&format!("{LOOPBACK}stranger_answers_per_second = 1\n"));
    let (relay, echo) = (("127.0.0.1", port_of(&network)), Echo::start());
    let dropped = || {
        let labels = [("process", "turn"), ("reason", "stranger")];
        figure(&network.metrics(), "turn_dropped_total", &labels).unwrap_or(0.0)
    };
    let since = Instant::now();
    let victim = UdpSocket::bind("127.9.9.9:0").expect("all of 127.0.0.0/8 is ours");
    victim.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    for number in 0..FLOOD {
        victim.send_to(&REQUESTS[number % 2], relay).expect("sent");
    }
    for _ in 0..20 {
        victim.recv(&mut [0; 500]).expect("those of 20 s come at once");
    }
    wait_until("the rest is counted", || dropped() >= FLOOD as f64 - 20.0 - since.elapsed().as_secs_f64());
    assert!(dropped() <= FLOOD as f64 - 20.0);
    // Others come through, the first time as well as later.
    assert_exchanged(&exchange(&network, &echo, &[]));

    let pid = network.process("turn").pid.expect("it runs");
    let before = memory(pid);
    let refused = || {
        let labels = [("process", "turn"), ("code", "401")];
        figure(&network.metrics(), "turn_refused_total", &labels).unwrap_or(0.0)
    };
    let refused_before = refused();
    for number in 0..SOURCES {
        let source = format!("127.{}.{}.7:0", 10 + number / 250, 1 + number % 250);
        let source = UdpSocket::bind(source).expect("all of 127.0.0.0/8 is ours");
        source.send_to(&REQUESTS[1], relay).expect("sent");
    }
    wait_until("all are answered", || refused() >= refused_before + SOURCES as f64);
    let after = memory(pid);
    assert!(after < before + 4_096, "{before} kB before {SOURCES} strangers, {after} kB after");
    assert_exchanged(&exchange(&network, &echo, &[]));
    network.down();
}

#[test]
fn coturn_relays_is_counted_and_never_outlives_its_role() {
    let mut network = up(&format!("engine = \"coturn\"\nrealm = \"example.org\"\n{LOOPBACK}"));
    let file = network.data().join("turn/turnserver.conf");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).expect("a text").contains("realm=example.org"));
    let echo = Echo::start();
    assert_exchanged(&exchange(&network, &echo, &[]));
    // Coturn tells what a session has carried when it ends.
    let expected = (MESSAGES * LENGTH) as f64;
    wait_until("what coturn carried is counted", || counted(&network, "turn_bytes_sent_total") >= expected);
    assert!(counted(&network, "turn_allocated_total") >= 1.0);
    assert!(
        counted(&network, "turn_refused_total") >= 0.0 || network.metrics().contains("turn_refused_total")
    );

    let coturn = || {
        let of = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        network.leftovers().into_iter().find(|pid| of(pid).starts_with(b"turnserver"))
    };
    // Its end is the role's end, which is started again.
    let before = network.process("turn");
    network.signal(coturn().expect("it runs"), Signal::SIGKILL);
    let now = network.wait_process("turn", "coturn is back", |now| {
        now.generation > before.generation && now.state == State::Ready
    });
    let exit = now.last_exit.as_ref().and_then(|exit| exit.message.clone()).unwrap_or_default();
    assert!(exit.contains("turnserver was ended by SIGKILL"), "{exit}");
    // And the role's end is its end.
    let (old, before) = (coturn().expect("it runs"), network.process("turn"));
    network.signal(before.pid.expect("it runs"), Signal::SIGKILL);
    network.wait_process("turn", "the role is back", |now| {
        now.generation > before.generation && now.state == State::Ready
    });
    assert!(!support::exists(old), "coturn outlived its role");
    assert_exchanged(&exchange(&network, &echo, &[]));
    // And the supervisor's.
    network.signal(network.supervisor().as_raw(), Signal::SIGKILL);
    network.wait_exit();
    wait_until("nothing is left", || network.leftovers().is_empty());
}

#[test]
fn a_missing_turnserver_is_told_with_its_package() {
    let mut network = Network::new(&topology("engine = \"coturn\"\n"));
    let up = network
        .command(&["up", "topology.toml", "--timeout", "20s"])
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = text(&up.stderr) + &text(&up.stdout);
    assert!(!up.status.success(), "{said}");
    assert!(said.contains("apt-get install coturn"), "{said}");
    network.spawn(&[]);
    network.signal(network.supervisor().as_raw(), Signal::SIGTERM);
    network.wait_exit();
}

#[test]
fn a_certificate_that_is_not_there_fails_at_once_and_only_the_relay() {
    let mut network =
        Network::new(&topology("tls = { certificate = \"relay.pem\", key = \"relay.key\" }\ntls_port = 0\n"));
    network.spawn(&[]);
    let failed = network.wait_state("turn", State::Failed);
    assert_eq!(failed.generation, 1, "{failed:?}");
    assert!(failed.reason.as_ref().is_some_and(|reason| reason.contains("relay.pem")), "{failed:?}");
    for name in ["web", "signaling"] {
        network.wait_state(name, State::Ready);
    }
    network.signal(network.supervisor().as_raw(), Signal::SIGTERM);
    network.wait_exit();
}

#[test]
fn an_external_server_is_told_to_browsers_and_watched() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let config = format!(
        r#"{{"stun": {{"urls": ["stun:127.0.0.1:{silent}"]}},
            "turn": {{"urls": ["turn:127.0.0.1:{silent}?transport=udp", "turn:127.0.0.1:{silent}?transport=tcp", "turns:127.0.0.1:{silent}"], "username": "ada", "credential": "lovelace"}}}}"#
    );
    let mut network = Network::new(
        &topology("engine = \"external\"\nconfig_file = \"relays.json\"\n").replace("turn = 0\n", ""),
    );
    write(&network, "relays.json", &config);
    network.spawn(&[]);
    network.wait_all_ready();
    let (_, told) = ice(&network);
    assert_eq!(told["iceServers"][0]["urls"][0], format!("stun:127.0.0.1:{silent}"));
    let turn = &told["iceServers"][1];
    assert_eq!((&turn["username"], &turn["credential"]), (&"ada".into(), &"lovelace".into()));
    assert_eq!(told["expires_at"], Value::Null);
    let urls =
        ["turn:127.0.0.1:PORT?transport=udp", "turn:127.0.0.1:PORT?transport=tcp", "turns:127.0.0.1:PORT"];
    let urls = urls.map(|url| url.replace("PORT", &silent.to_string()));
    assert_eq!(network.process("turn").addresses, urls);
    // In the log a URL stands without what is the default.
    for shown in [&urls[0].replace("?transport=udp", ""), &urls[1], &urls[2]] {
        wait_until("its silence is told", || {
            network.read("logs/turn.log").contains(&format!("{shown} does not answer"))
        });
    }
    // With a secret, credentials of a limited time.
    write(
        &network,
        "relays.json",
        &config.replace(r#""username": "ada", "credential": "lovelace""#, r#""secret": "north""#),
    );
    network.run_ok(&["restart", "web"]);
    network.wait_state("web", State::Ready);
    let (_, told) = ice(&network);
    let turn = &told["iceServers"][1];
    assert_eq!(turn["credential"], password_of("north", turn["username"].as_str().expect("a name")));
    assert!(told["expires_at"].is_u64());
    network.down();
}

/// `check`, `plan` and `up` say the same; `said` must be in all of it.
#[track_caller]
fn refused(turn: &str, file: Option<&str>, said: &[&str]) {
    let network = Network::new(&topology(turn));
    if let Some(text) = file {
        write(&network, "config/turn_config.json", text);
    }
    for command in ["check", "plan", "up"].map(|name| [name, "topology.toml"]) {
        let output = network.run(&command);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
        for said in said {
            assert!(errors.contains(said), "{command:?}: {said} is not in\n{errors}");
        }
    }
    assert!(!network.data().exists(), "nothing was started");
}

#[test]
fn a_bad_configuration_is_refused_before_anything_starts() {
    refused("allow = [\"10.0.0.0/40\"]\n", None, &["topology.toml:9:10", "no network of addresses"]);
    let file = r#"{
  "monitoring": { "interval_ms": 0 },
  "turn": { "urls": ["turn:a.example", "http://b"], "secret": "" }
}"#;
    let said = [
        "config/turn_config.json:2:34",
        "must be from 100 to 3600000",
        "`turn.secret` is empty",
        "is no URL of a server",
        "3 mistakes",
    ];
    refused("", Some(file), &said);
}

/// Each with the place in the topology that asks for the file.
#[test]
fn a_turn_file_that_is_missing_or_of_no_use_is_told_where_it_is_named() {
    let external = "engine = \"external\"\n";
    let engine = "topology.toml:9:10";
    refused(external, Some("{}"), &[engine, "config/turn_config.json names no TURN server", "1 mistake"]);
    refused(external, None, &[engine, "cannot read config/turn_config.json: No such file", "1 mistake"]);
    let named = "config_file = \"relays.json\"\n";
    let missing = "cannot read relays.json: No such file";
    refused(named, None, &["topology.toml:9:15", missing, "TURN_SERVER_SETUP.md"]);
    refused(&format!("{external}{named}"), None, &["topology.toml:10:15", missing]);
    // What the usual file is not, where nothing names it.
    let network = Network::new(&topology(""));
    fs::create_dir_all(network.dir().join("config/turn_config.json")).expect("writable");
    let errors = text(&network.run(&["check", "topology.toml"]).stderr);
    assert!(errors.contains("topology.toml:8:1") && errors.contains("is a directory"), "{errors}");
}

#[test]
fn a_port_that_is_taken_over_tcp_or_udp_is_told_with_its_holder() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let ports = [tcp.local_addr().expect("an address").port(), udp.local_addr().expect("an address").port()];
    for (port, what) in [(ports[0], "port"), (ports[1], "UDP port")] {
        for engine in ["embedded", "coturn"] {
            let network = Network::new(&topology(&format!("engine = \"{engine}\"\nport = {port}\n")));
            let output = network.run(&["up", "topology.toml"]);
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{errors}");
            let said = format!(
                "the TURN server \"turn\" cannot listen on 127.0.0.1:{port}: {what} {port} is held by"
            );
            assert!(errors.contains(&said), "{said} is not in\n{errors}");
        }
    }
}

#[test]
fn a_secret_of_nothing_is_refused_before_anything_starts() {
    let network = Network::new(&topology("secret_file = \"secret\"\n"));
    for (content, said) in [(None, "No such file"), (Some(" \n"), "is empty"), (Some("a\nb\n"), "one line")] {
        if let Some(content) = content {
            write(&network, "secret", content);
        }
        let output = network.run(&["up", "topology.toml"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("the TURN server \"turn\" cannot be started") && errors.contains(said),
            "{errors}"
        );
        assert!(!errors.contains("a\nb"), "a secret is not repeated: {errors}");
    }
}

#[test]
fn a_role_by_itself_relays_and_keeps_a_secret_of_its_own() {
    let folder = support::role::Folder::new();
    let mut role =
        folder.start(folder.command(&["turn", "--listen", "127.0.0.1:0", "--allow", "127.0.0.0/8"]), "turn");
    role.wait_ready();
    let address = role.status()["addresses"][0].as_str().expect("an address").to_owned();
    let port = address.rsplit(':').next().expect("a port").to_owned();
    let output = Command::new("turnutils_stunclient")
        .args(["-p", &port, "127.0.0.1"])
        .output()
        .expect("coturn's tools");
    assert!(text(&output.stdout).contains("UDP reflexive addr: 127.0.0.1"), "{}", text(&output.stdout));
    assert!(Path::new(&folder.path("data/turn/secret")).exists());
    role.stop(Signal::SIGTERM);

    fs::write(folder.path("role.toml"), "[turn.server]\nsecret = \"\"\n").expect("writable");
    let errors = support::role::failure(folder.command(&["turn", "--config", "role.toml"]));
    assert!(errors.contains("`secret` is empty"), "{errors}");
}
