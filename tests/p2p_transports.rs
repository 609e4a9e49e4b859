//! Every transport, from node to node: connecting, messages both ways, names in addresses, certificates that change.

mod p2p_support;

use std::fs;
use std::path::Path;

use hippius::p2p::{NodeConfig, NodeRole};
use hippius::tls::CertificateFiles;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_support::{TestNode, eventually, lobby, next_message, node};

fn listening_on(addresses: &[&str]) -> NodeConfig {
    NodeConfig {
        listen: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        topics: vec!["lobby".to_owned()],
        ..NodeConfig::default()
    }
}

/// The two say something to each other.
async fn talk(left: &TestNode, right: &TestNode) {
    for (from, to) in [(left, right), (right, left)] {
        let mut heard = to.handle.subscribe_events().unwrap();
        eventually("the peer is on the topic", || async {
            from.handle.peers().await.unwrap().iter().any(|peer| peer.topics.contains(&"lobby".to_owned()))
        })
        .await;
        from.handle.publish(lobby(), "hello").await.unwrap();
        assert_eq!(next_message(&mut heard).await.text, "hello");
    }
}

async fn connect_and_talk(listen: &str, transport: &str) {
    let server = node(NodeRole::Node, listening_on(&[listen])).await;
    let client = node(NodeRole::Node, listening_on(&["/ip4/127.0.0.1/tcp/0"])).await;
    client.handle.connect(server.address().await).await.unwrap();
    let address = client.handle.peers().await.unwrap()[0].address.to_string();
    assert!(address.contains(transport), "{address}");
    talk(&client, &server).await;
}

#[tokio::test]
async fn tcp() {
    connect_and_talk("/ip4/127.0.0.1/tcp/0", "/tcp/").await;
}

#[tokio::test]
async fn tcp_over_ipv6() {
    connect_and_talk("/ip6/::1/tcp/0", "/ip6/::1/tcp/").await;
}

#[tokio::test]
async fn websocket() {
    connect_and_talk("/ip4/127.0.0.1/tcp/0/ws", "/ws").await;
}

#[tokio::test]
async fn quic() {
    connect_and_talk("/ip4/127.0.0.1/udp/0/quic-v1", "/quic-v1").await;
}

#[tokio::test]
async fn quic_over_ipv6() {
    connect_and_talk("/ip6/::1/udp/0/quic-v1", "/ip6/::1/udp/").await;
}

#[tokio::test]
async fn a_name_in_the_address_is_looked_up() {
    let server =
        node(NodeRole::Node, listening_on(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"])).await;
    for address in server.handle.listen_addrs().await.unwrap() {
        // `localhost` stands in the hosts file: nobody on the network is asked.
        let named: Multiaddr = address
            .iter()
            .map(
                |part| {
                    if matches!(part, Protocol::Ip4(_)) { Protocol::Dns4("localhost".into()) } else { part }
                },
            )
            .collect();
        let client = node(NodeRole::Node, listening_on(&["/ip4/127.0.0.1/tcp/0"])).await;
        client.handle.connect(named).await.unwrap();
        talk(&client, &server).await;
        client.stop().await;
    }
}

#[tokio::test]
async fn one_connection_is_made_by_the_best_transport() {
    let all = ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
    let server = node(NodeRole::Bootnode, listening_on(&all)).await;
    let bootnodes = server.handle.listen_addrs().await.unwrap();
    assert_eq!(bootnodes.len(), 3);
    let client =
        node(NodeRole::Node, NodeConfig { bootnodes, ..listening_on(&["/ip4/127.0.0.1/tcp/0"]) }).await;
    eventually("the bootnode is connected", || async { client.peers().await == 1 }).await;
    let peer = client.handle.peers().await.unwrap().remove(0);
    let parts: Vec<Protocol<'_>> = peer.address.iter().collect();
    assert!(
        matches!(parts.as_slice(), [Protocol::Ip4(_), Protocol::Tcp(_), Protocol::P2p(_)]),
        "{}",
        peer.address
    );
    assert_eq!(peer.connections, 1);
}

#[tokio::test]
async fn two_that_dial_each_other_by_different_transports_keep_one_connection() {
    let both = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let mut doubles = 0;
    for _ in 0..5 {
        let (left, right) = (
            node(NodeRole::Bootnode, listening_on(&both)).await,
            node(NodeRole::Bootnode, listening_on(&both)).await,
        );
        let at = async |node: &TestNode, transport: &str| {
            let all = node.handle.listen_addrs().await.unwrap();
            all.into_iter().find(|address| address.to_string().contains(transport)).unwrap()
        };
        let (by_tcp, by_quic) = (at(&right, "/tcp/").await, at(&left, "/quic-v1").await);
        let dials = tokio::join!(left.handle.connect(by_tcp), right.handle.connect(by_quic));
        assert!(dials.0.is_ok() && dials.1.is_ok(), "{dials:?}");
        let connections = async |node: &TestNode| {
            node.handle.peers().await.unwrap().first().map_or(0, |peer| peer.connections)
        };
        doubles += usize::from(connections(&left).await == 2 || connections(&right).await == 2);
        eventually("one connection on both sides", || async {
            connections(&left).await == 1 && connections(&right).await == 1
        })
        .await;
        talk(&left, &right).await;
    }
    assert!(doubles > 0, "no double dial came about, so nothing was tested");
}

/// Writes a fresh certificate for `localhost`, signed by itself.
fn write_certificate(folder: &Path) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    files
}

async fn dial_secure(server: &TestNode, trusted: &Path) -> Result<(), String> {
    let named: Multiaddr = server
        .address()
        .await
        .iter()
        .map(|part| if matches!(part, Protocol::Ip4(_)) { Protocol::Dns4("localhost".into()) } else { part })
        .collect();
    let config = NodeConfig { trusted: vec![trusted.to_owned()], ..listening_on(&["/ip4/127.0.0.1/tcp/0"]) };
    let client = node(NodeRole::Node, config).await;
    client.handle.connect(named).await.map_err(|error| error.to_string())?;
    talk(&client, server).await;
    client.stop().await;
    Ok(())
}

#[tokio::test]
async fn secure_websocket_takes_a_new_certificate_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_certificate(folder.path());
    let old = folder.path().join("old.pem");
    fs::copy(&files.certificate, &old).unwrap();
    let config = NodeConfig { tls: Some(files.clone()), ..listening_on(&["/ip4/127.0.0.1/tcp/0/tls/ws"]) };
    let server = node(NodeRole::Node, config).await;
    dial_secure(&server, &old).await.unwrap();

    write_certificate(folder.path());
    eventually("the new certificate is in use", || async {
        dial_secure(&server, &files.certificate).await.is_ok()
    })
    .await;
    let error = dial_secure(&server, &old).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");

    // Half a renewal: the key no longer fits, the good pair stays in use.
    let good = folder.path().join("good.pem");
    fs::copy(&files.certificate, &good).unwrap();
    fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    dial_secure(&server, &good).await.unwrap();
}
