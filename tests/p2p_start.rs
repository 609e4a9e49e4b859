//! What can be wrong when a node starts, and how it says so.

#[path = "support/namespace.rs"]
mod namespace;
mod p2p_support;

use std::fs;

use hippius::p2p::{Identity, IdentityError, NodeConfig, NodeRole, StartError};
use hippius::telemetry::exposition;
use hippius::telemetry::supervisor::supervisor_meter;
use libp2p::Multiaddr;
use p2p_support::*;

async fn refused(config: NodeConfig) -> StartError {
    let folder = tempfile::tempdir().unwrap();
    start_in(folder.path(), NodeRole::Node, config).await.expect_err("a refusal")
}

fn listening_on(address: Multiaddr) -> NodeConfig {
    NodeConfig { listen: vec![address], ..NodeConfig::default() }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = bootnode().await;
    let address: Multiaddr = first.address().await.iter().take(2).collect();
    let error = refused(listening_on(address.clone())).await;
    assert!(matches!(&error, StartError::InUse(taken) if *taken == address), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let other_program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other_program.local_addr().unwrap().port();
    let error = refused(listening_on(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap())).await;
    assert!(matches!(error, StartError::InUse(_)), "{error}");
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_the_reason() {
    for address in ["/ip4/127.0.0.1/udp/0", "/dns4/localhost/tcp/0", "/memory/1"] {
        let error = refused(listening_on(address.parse().unwrap())).await;
        assert!(matches!(error, StartError::Unsupported { .. }), "{address}: {error}");
    }
    let error = refused(listening_on("/ip4/192.0.2.1/tcp/0".parse().unwrap())).await;
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let error = refused(NodeConfig { listen: vec![], ..NodeConfig::default() }).await;
    assert!(matches!(error, StartError::NoAddress), "{error}");
    let nameless = vec!["/ip4/127.0.0.1/tcp/4002".parse().unwrap()];
    let error = refused(NodeConfig { bootnodes: nameless, ..NodeConfig::default() }).await;
    assert!(matches!(error, StartError::Bootnode(_)), "{error}");
    let error = refused(NodeConfig { topics: vec!["a b".into()], ..NodeConfig::default() }).await;
    assert!(matches!(error, StartError::Topic { .. }), "{error}");
    let many = (0..65).map(|number| format!("topic-{number}")).collect();
    let error = refused(NodeConfig { topics: many, ..NodeConfig::default() }).await;
    assert!(matches!(error, StartError::TooManyTopics(65)), "{error}");
    let error = refused(NodeConfig { low_peers: 9, high_peers: 8, ..NodeConfig::default() }).await;
    assert!(matches!(error, StartError::Marks { .. }), "{error}");
}

#[tokio::test]
async fn a_running_node_holds_its_folder_until_it_has_stopped() {
    let node = bootnode().await;
    let name = node.handle.peer_id();
    let error = Identity::open(node.folder.path()).unwrap_err();
    assert!(matches!(error, IdentityError::InUse { .. }), "{error}");
    let folder = node.stop().await;
    assert_eq!(Identity::open(folder.path()).unwrap().peer_id(), name);
}

#[tokio::test]
async fn every_address_is_bound_and_carries_the_peer_id() {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let node = node(NodeRole::Node, NodeConfig { listen, ..NodeConfig::default() }).await;
    let addresses = node.handle.listen_addrs().await.unwrap();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let text = address.to_string();
        assert!(
            text.ends_with(&format!("/p2p/{}", node.handle.peer_id())) && !text.contains("/tcp/0/"),
            "{text}"
        );
    }
}

#[test]
fn both_families_may_share_a_port() {
    // On all addresses only inside, where there are none but loopback.
    if !namespace::inside("both_families_may_share_a_port") {
        return;
    }
    let both =
        ["/ip4/0.0.0.0/tcp/4002", "/ip6/::/tcp/4002"].map(|address| address.parse::<Multiaddr>().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for listen in [both.to_vec(), both.iter().rev().cloned().collect()] {
        runtime.block_on(async {
            let node = node(NodeRole::Bootnode, NodeConfig { listen, ..NodeConfig::default() }).await;
            for address in ["/ip4/127.0.0.1/tcp/4002", "/ip6/::1/tcp/4002"] {
                let friend = bootnode().await;
                let address = format!("{address}/p2p/{}", node.handle.peer_id()).parse().unwrap();
                friend.handle.connect(address).await.expect("reached in both families");
            }
            for address in &both {
                let error = refused(listening_on(address.clone())).await;
                assert!(matches!(&error, StartError::InUse(taken) if taken == address), "{error}");
            }
            node.stop().await;
        });
    }
}

#[tokio::test]
async fn counters_with_labels_are_there_from_the_start() {
    let (registry, _provider, meter) = supervisor_meter().unwrap();
    let _node = measured_node(NodeRole::Node, NodeConfig::default(), &meter).await;
    let text = exposition::render(&registry);
    for series in [
        "p2p_refused{what=\"message\"} 0",
        "p2p_refused{what=\"slow_peer\"} 0",
        "p2p_dials{result=\"ok\"} 0",
        "p2p_dials{result=\"unreachable\"} 0",
        "p2p_neighbours_blocked 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is not in\n{text}");
    }
}

/// Root may write anywhere, so the test checks only what the user can be refused.
#[test]
fn a_read_only_folder_is_a_clear_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    match Identity::open(folder.path()) {
        Err(IdentityError::Lock { path, .. }) => assert!(path.starts_with(folder.path())),
        Err(error) => panic!("{error}"),
        Ok(_) => assert!(nix::unistd::geteuid().is_root(), "only root may write here"),
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}
