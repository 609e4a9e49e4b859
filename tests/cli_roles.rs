//! One role in the foreground, by itself: `hippius bootnode`, `node`, `signaling`, `web`, `turn`, `collector`.

mod p2p_support;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use hippius::p2p::{NodeConfig, NodeRole};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::role::{Folder, Role, failure, wait_notice};
use support::wire::Place;
use support::{http_get, text, wait_until};

const ANY: [&str; 2] = ["--listen", "127.0.0.1:0"];
const ANY_PEER: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];

/// Starts a role on a free port and waits until it is ready.
#[track_caller]
fn start(folder: &Folder, role: &str, more: &[&str]) -> Role {
    let listen = if role.ends_with("node") { ANY_PEER } else { ANY };
    let arguments = [&[role][..], &listen, more].concat();
    let mut running = folder.start(folder.command(&arguments), role);
    running.wait_ready();
    running
}

/// The first address that a role's log or status tells.
fn address(role: &Role) -> String {
    role.status()["addresses"][0].as_str().expect("an address").to_owned()
}

#[test]
fn every_role_serves_tells_about_itself_and_ends_well() {
    let folder = Folder::new();
    for (name, signal) in [
        ("bootnode", Signal::SIGTERM),
        ("node", Signal::SIGINT),
        ("signaling", Signal::SIGTERM),
        ("web", Signal::SIGINT),
        ("turn", Signal::SIGTERM),
        ("collector", Signal::SIGTERM),
    ] {
        let role = start(&folder, name, &[]);
        assert_eq!(role.admin.request("GET", "/livez", "", b"").status, 200, "{name}");
        assert!(role.status().is_object(), "{name}");
        role.stop(signal);
        assert!(!folder.path(&format!("data/{name}/admin.sock")).exists(), "{name} tidies up");
    }
}

#[test]
fn web_serves_the_page_signaling_its_endpoint_and_the_collector_metrics() {
    let folder = Folder::new();
    let web = start(&folder, "web", &[]);
    assert!(http_get(&address(&web)).contains("<html"));
    let signaling = start(&folder, "signaling", &[]);
    let url = address(&signaling);
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/signal"), "{url}");
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut connection = Place::of_url(&url).connect();
    write!(connection, "GET /signal HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n").unwrap();
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut connection, &mut head).unwrap();
    assert_eq!(text(&head), "HTTP/1.1 101");
    drop(connection);
    let collector = start(&folder, "collector", &[]);
    let url = address(&collector);
    let place = Place::of_url(&url);
    assert_eq!(place.request("GET", "/metrics", "", b"").status, 200);
    let stats = place.request("GET", "/stats", "", b"");
    assert!(serde_json::from_str::<Value>(&stats.body).is_ok_and(|stats| stats["network"].is_object()));
    for role in [web, signaling, collector] {
        role.stop(Signal::SIGTERM);
    }
}

#[test]
fn a_node_finds_its_bootnode_and_takes_a_console() {
    let folder = Folder::new();
    let boot = start(&folder, "bootnode", &[]);
    let at = address(&boot);
    let node = start(&folder, "node", &["--bootnode", &at, "--topic", "lobby"]);
    wait_until("they are connected", || node.status()["connected_peers"] == 1);
    let mut console = folder.command(&["console", "node"]);
    let mut child = console.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"/topics\n/peers\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let out = text(&output.stdout);
    assert!(out.starts_with("lobby "), "{out}");
    assert!(out.contains(at.rsplit('/').next().unwrap()), "{out}");
    // Under the same folder it is the same peer again.
    let id = node.status()["peer_id"].clone();
    assert!(id.is_string());
    node.stop(Signal::SIGTERM);
    let node = start(&folder, "node", &[]);
    assert_eq!(node.status()["peer_id"], id);
    node.stop(Signal::SIGTERM);
    boot.stop(Signal::SIGTERM);
}

#[test]
fn a_node_tells_that_its_bootnode_is_another_or_not_there() {
    let folder = Folder::new();
    let boot = start(&folder, "bootnode", &[]);
    let place = address(&boot).split("/p2p/").next().unwrap().to_owned();
    let stranger = libp2p::PeerId::random();
    let node = start(&folder, "node", &["--bootnode", &format!("{place}/p2p/{stranger}")]);
    let told = |node: &Role, why: &str| {
        node.log().lines().any(|line| line.contains("the bootnode is not reached") && line.contains(why))
    };
    wait_until("another is there", || told(&node, "another node is there"));
    node.stop(Signal::SIGTERM);
    boot.stop(Signal::SIGTERM);
    let node = start(&folder, "node", &["--bootnode", &format!("{place}/p2p/{stranger}")]);
    wait_until("nobody is there", || told(&node, "refused"));
    node.stop(Signal::SIGTERM);
}

#[test]
fn a_certificate_that_is_not_there_ends_a_node_at_once_and_for_good() {
    let folder = Folder::new();
    let config = folder.path("node.toml");
    let tls = "tls = { certificate = \"nowhere.pem\", key = \"nowhere.key\" }";
    fs::write(&config, format!("[node]\nlisten = [\"/ip4/127.0.0.1/tcp/0/tls/ws\"]\n{tls}\n")).unwrap();
    let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
    let mut node = folder.command(&["node", "--config", config.to_str().unwrap()]);
    let output = node.env("NOTIFY_SOCKET", folder.path("notify")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    wait_notice(&socket, "X_HIPPIUS_FATAL=1");
    assert!(
        text(&output.stderr).contains("secure WebSocket: cannot read nowhere.pem"),
        "{}",
        text(&output.stderr)
    );
}

/// As many peers as a node would refuse, and none is trimmed: a bootnode by itself has a bootnode's limits.
#[test]
fn a_bootnode_by_itself_admits_many() {
    // Above the 32 connections that a node takes with its defaults.
    const PEERS: usize = 60;
    let folder = Folder::new();
    let boot = start(&folder, "bootnode", &[]);
    let at: libp2p::Multiaddr = address(&boot).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            let config = NodeConfig { low_peers: 0, ..NodeConfig::default() };
            let peer = p2p_support::node(NodeRole::Node, config).await;
            peer.handle.connect(at.clone()).await.expect("connected");
            peers.push(peer);
        }
        p2p_support::eventually("all are connected", || async {
            boot.status()["connected_peers"] == PEERS && boot.status()["refused"]["connection"].is_null()
        })
        .await;
    });
    boot.stop(Signal::SIGTERM);
}

/// A node's command in a mount namespace of its own, where its key is mounted read-only, as orchestrators mount secrets.
fn with_mounted_key(folder: &Folder) -> Command {
    let mut command = folder.command(&[]);
    let (program, place) = (command.get_program().to_owned(), command.get_current_dir().unwrap().to_owned());
    command = Command::new("unshare");
    command.arg("--mount");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script =
        "key=data/node/peer_id.key; mount --bind $key $key && mount -o remount,bind,ro $key && exec \"$@\"";
    command.args(["--", "sh", "-c", script, "sh"]).arg(program).args([&["node"][..], &ANY_PEER].concat());
    command.current_dir(place).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}

#[test]
fn a_key_on_a_read_only_mount_serves_unless_others_may_write_it() {
    let folder = Folder::new();
    let node = start(&folder, "node", &[]);
    let id = node.status()["peer_id"].clone();
    node.stop(Signal::SIGTERM);
    let key = folder.path("data/node/peer_id.key");
    for mode in [0o440, 0o644] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let mut node = folder.start(with_mounted_key(&folder), "node");
        node.wait_ready();
        assert_eq!(node.status()["peer_id"], id);
        assert!(node.log().contains(&format!("{mode:04o}")), "the mode is told: {}", node.log());
        node.stop(Signal::SIGTERM);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    let errors = failure(with_mounted_key(&folder));
    assert!(errors.contains("can be changed by others (mode 0666)"), "{errors}");
}

#[test]
fn a_wrong_configuration_is_named_with_its_key() {
    let folder = Folder::new();
    for (role, config, word) in [
        ("node", "[node]\ntopisc = [\"lobby\"]\n", "topisc"),
        ("bootnode", "[node]\ntopics = []\n", "[node]"),
        ("signaling", "[signaling]\nmax_clients = \"many\"\n", "max_clients"),
        ("web", "[web]\nlisten = \"nowhere\"\n", "listen"),
        ("collector", "[collector\n", "role.toml"),
        ("turn", "[turn]\nengine = \"x\"\n", "engine"),
        ("turn", "[turn.server]\nallow = [\"10.0.0.0/40\"]\n", "allow"),
        ("node", "[process]\nnam = \"x\"\n", "nam"),
        ("node", "[log]\nfilter = \"a=b=c\"\n", "filter"),
    ] {
        fs::write(folder.path("role.toml"), config).unwrap();
        let errors = failure(folder.command(&[role, "--config", "role.toml"]));
        assert!(errors.contains(word), "{role} {config:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
    for unreadable in ["missing.toml", "."] {
        let errors = failure(folder.command(&["node", "--config", unreadable]));
        let start = format!("error: cannot read the configuration file {unreadable}: ");
        assert!(errors.starts_with(&start), "{errors}");
    }
    let errors = failure(folder.command(&["node", "--name", "../outside"]));
    assert!(errors.contains("\"../outside\""), "{errors}");
    assert!(!folder.path("data").exists() && !folder.path("outside").exists(), "nothing is started");
}

#[test]
fn a_flag_of_the_wrong_form_is_wrong_usage() {
    let folder = Folder::new();
    for (arguments, word) in [
        (["web", "--listen", "nowhere"], "IP:PORT"),
        (["node", "--listen", "nowhere"], "/ip4/127.0.0.1/tcp/4002"),
        (["node", "--bootnode", "nowhere"], "/ip4/127.0.0.1/tcp/4002"),
        (["node", "--bootnode", "/ip4/127.0.0.1/tcp/4002"], "/p2p/PEER_ID"),
        (["node", "--topic", ""], "a topic needs a name"),
        (["node", "--topic", "a b"], "white space"),
    ] {
        let output = folder.command(&arguments).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains(word), "{arguments:?}: {errors}");
    }
    assert!(!folder.path("data").exists(), "nothing is started");
}

#[test]
fn the_environment_stands_between_file_and_flags() {
    let folder = Folder::new();
    fs::write(folder.path("role.toml"), "[node]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\ntopics = [\"file\"]\n")
        .unwrap();
    let topics = |role: &Role| {
        let body = role.admin.request("GET", "/v1/topics", "", b"").body;
        serde_json::from_str::<Value>(&body).unwrap()["topics"].clone()
    };
    let run = |environment: Option<&str>, flag: &[&str]| {
        let mut command = folder.command(&[&["node", "--config", "role.toml"][..], flag].concat());
        command.envs(environment.map(|value| ("HIPPIUS_NODE__TOPICS", value)));
        let mut role = folder.start(command, "node");
        role.wait_ready();
        let topics = topics(&role);
        role.stop(Signal::SIGTERM);
        topics
    };
    assert_eq!(run(None, &[]), serde_json::json!(["file"]));
    assert_eq!(run(Some("[environment]"), &[]), serde_json::json!(["environment"]));
    assert_eq!(run(Some("[environment]"), &["--topic", "flag"]), serde_json::json!(["flag"]));
}

#[test]
fn two_nodes_cannot_share_a_folder_and_are_told_who_has_it() {
    let folder = Folder::new();
    let first = start(&folder, "node", &[]);
    let errors = failure(folder.command(&[&["node"][..], &ANY_PEER].concat()));
    assert!(errors.contains("data/node"), "{errors}");
    assert!(errors.contains(&first.child.id().to_string()), "the holder's pid is told: {errors}");
    // The first one is not hurt, and its console still works.
    assert_eq!(first.admin.request("GET", "/readyz", "", b"").status, 200);
    first.stop(Signal::SIGTERM);
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let folder = Folder::new();
    let (tcp, peer) = (format!("127.0.0.1:{port}"), format!("/ip4/127.0.0.1/tcp/{port}"));
    for (role, listen) in [
        ("web", &tcp),
        ("signaling", &tcp),
        ("turn", &tcp),
        ("collector", &tcp),
        ("node", &peer),
        ("bootnode", &peer),
    ] {
        let errors = failure(folder.command(&[role, "--listen", listen]));
        assert!(errors.contains(&port.to_string()), "{role}: {errors}");
    }
}
