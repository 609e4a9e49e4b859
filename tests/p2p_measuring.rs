//! What a node says of its traffic is what the other side says, and what it says of its connections is true.

#[path = "support/figures.rs"]
mod figures;
mod p2p_support;

use std::io::Write;
use std::net::TcpListener;

use figures::figure;
use futures::future::join;
use hippius::p2p::handle::{Direction, Path};
use hippius::p2p::{NodeConfig, NodeRole};
use hippius::telemetry::exposition;
use hippius::telemetry::supervisor::supervisor_meter;
use libp2p::Multiaddr;
use p2p_support::{TestNode, eventually, lobby, measured_node, next_message};
use prometheus::Registry;

/// A node whose figures can be read.
struct Measured {
    node: TestNode,
    registry: Registry,
    _provider: opentelemetry_sdk::metrics::SdkMeterProvider,
}

impl Measured {
    async fn start(config: NodeConfig) -> Self {
        let (registry, provider, meter) = supervisor_meter().unwrap();
        let node = measured_node(NodeRole::Node, config, &meter).await;
        Self { node, registry, _provider: provider }
    }

    fn page(&self) -> String {
        exposition::render(&self.registry)
    }

    fn figure(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        figure(&self.page(), name, labels).unwrap_or(0.0)
    }
}

fn listening_on(listen: &str) -> NodeConfig {
    NodeConfig {
        listen: vec![listen.parse().unwrap()],
        topics: vec!["lobby".to_owned()],
        message_burst: 10_000,
        message_rate: 10_000,
        ..NodeConfig::default()
    }
}

/// Two connected nodes; the first was dialled.
async fn pair(listen: &str) -> (Measured, Measured) {
    let server = Measured::start(listening_on(listen)).await;
    let client = Measured::start(listening_on("/ip4/127.0.0.1/tcp/0")).await;
    client.node.handle.connect(server.node.address().await).await.unwrap();
    for node in [&server, &client] {
        eventually("the peer is on the topic", || async {
            node.node.handle.peers().await.unwrap().iter().any(|peer| !peer.topics.is_empty())
        })
        .await;
    }
    (server, client)
}

/// Whether two counts agree within one percent.
fn agree(one: f64, other: f64) -> bool {
    one > 0.0 && (one - other).abs() <= one.max(other) / 100.0
}

const LARGE: usize = 60_000;
const MESSAGES: usize = 80;

async fn both_sides_agree(listen: &str) {
    let (server, client) = pair(listen).await;
    let mut events = server.node.handle.subscribe_events().unwrap();
    for number in 0..MESSAGES {
        let text = format!("{number} {}", "x".repeat(LARGE));
        client.node.handle.publish(lobby(), text).await.unwrap();
        next_message(&mut events).await;
    }
    let sent_to_server = (MESSAGES * LARGE) as f64;
    for (from, to) in [(&client, &server), (&server, &client)] {
        eventually("all bytes and those of the messages agree", || async {
            let labels = |direction| [("protocol", "gossipsub"), ("direction", direction)];
            let sent = from.figure("p2p_protocol_bytes", &labels("sent"));
            let received = to.figure("p2p_protocol_bytes", &labels("received"));
            let peer = from.node.handle.peers().await.unwrap().remove(0);
            let mirror = to.node.handle.peers().await.unwrap().remove(0);
            agree(sent, received)
                && agree(from.figure("p2p_bytes_sent", &[]), to.figure("p2p_bytes_received", &[]))
                && agree(peer.bytes_sent as f64, mirror.bytes_received as f64)
        })
        .await;
    }
    let sent = client.figure("p2p_protocol_bytes", &[("protocol", "gossipsub"), ("direction", "sent")]);
    assert!(sent > sent_to_server && sent < sent_to_server * 1.05, "{sent} bytes for {sent_to_server}");
    assert!(agree(sent, client.figure("p2p_bytes_sent", &[])), "the rest is small");
    for protocol in ["identify", "ping", "kademlia"] {
        let bytes = || client.figure("p2p_protocol_bytes", &[("protocol", protocol), ("direction", "sent")]);
        eventually(&format!("bytes of {protocol}"), || async { bytes() > 0.0 }).await;
        assert!(bytes() < sent_to_server / 100.0, "{protocol}: {}", bytes());
    }
    let other = client.figure("p2p_protocol_bytes", &[("protocol", "other"), ("direction", "sent")]);
    assert!(other < 4_096.0, "every protocol of a node has a name, but {other} bytes have none");
}

#[tokio::test]
async fn both_sides_of_a_tcp_connection_count_the_same() {
    both_sides_agree("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn both_sides_of_a_quic_connection_count_the_same() {
    both_sides_agree("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test]
async fn connections_are_counted_by_the_way_they_take() {
    for (listen, transport) in [
        ("/ip4/127.0.0.1/tcp/0", "tcp"),
        ("/ip4/127.0.0.1/tcp/0/ws", "ws"),
        ("/ip4/127.0.0.1/udp/0/quic-v1", "quic"),
    ] {
        let (server, client) = pair(listen).await;
        for (node, direction, other) in
            [(&server, Direction::Inbound, "outbound"), (&client, Direction::Outbound, "inbound")]
        {
            let own = if other == "inbound" { "outbound" } else { "inbound" };
            let labels = |direction| [("transport", transport), ("path", "direct"), ("direction", direction)];
            assert_eq!(node.figure("p2p_connections", &labels(own)), 1.0, "{transport}");
            assert_eq!(node.figure("p2p_connections", &labels(other)), 0.0, "{transport}");
            let peer = node.node.handle.peers().await.unwrap().remove(0);
            assert_eq!(peer.transport.as_deref(), Some(transport));
            assert_eq!((peer.path, peer.direction), (Path::Direct, direction));
            assert!(peer.bytes_sent > 0 && peer.bytes_received > 0);
            let since = node.figure("p2p_peer_connected_since_seconds", &[("connection_type", "direct")]);
            assert!(since > 0.0);
        }
        server.node.stop().await;
        eventually("none is left", || async {
            let labels = [("transport", transport), ("path", "direct"), ("direction", "outbound")];
            client.figure("p2p_connections", &labels) == 0.0
        })
        .await;
    }
}

#[tokio::test]
async fn mesh_duplicates_round_trips_and_queries_are_measured() {
    let (first, second) = pair("/ip4/127.0.0.1/tcp/0").await;
    let third = Measured::start(listening_on("/ip4/127.0.0.1/tcp/0")).await;
    for other in [&first, &second] {
        third.node.handle.connect(other.node.address().await).await.unwrap();
    }
    for node in [&first, &second, &third] {
        eventually("a mesh of two others", || async {
            node.figure("p2p_mesh_peers", &[("topic", "lobby")]) == 2.0
        })
        .await;
        eventually("a round trip", || async {
            figure(&node.page(), "p2p_round_trip_seconds_count", &[]).is_some_and(|count| count >= 1.0)
        })
        .await;
    }
    let mut events = join(async { first.node.handle.subscribe_events().unwrap() }, async {
        second.node.handle.subscribe_events().unwrap()
    })
    .await;
    for number in 0..20 {
        third.node.handle.publish(lobby(), format!("line {number}")).await.unwrap();
        next_message(&mut events.0).await;
        next_message(&mut events.1).await;
    }
    // Whoever hears it first passes it on to the other, which has it from the author already.
    eventually("duplicates", || async {
        let count = |node: &Measured| node.figure("p2p_messages_duplicate", &[]);
        count(&first) + count(&second) >= 1.0 && count(&first) <= 40.0 && count(&second) <= 40.0
    })
    .await;
    assert_eq!(first.figure("p2p_messages_received", &[]), 20.0, "each is delivered once");
    eventually("queries, as many as have ended", || async {
        let of = |result| third.figure("p2p_kademlia_queries", &[("result", result)]);
        of("started") >= 1.0
            && of("succeeded") >= 1.0
            && third.figure("p2p_kademlia_query_seconds_count", &[]) == of("succeeded") + of("failed")
    })
    .await;
    assert!(third.node.handle.leave(lobby()).await.unwrap());
    assert_eq!(figure(&third.page(), "p2p_mesh_peers", &[("topic", "lobby")]), None, "left");
}

#[tokio::test]
async fn dials_are_counted_by_what_became_of_them() {
    let node = Measured::start(NodeConfig::default()).await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap().port();
    drop(closed);
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let stranger = rude.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = rude.accept().unwrap();
        // Too long to be a multistream heading.
        let _ = stream.write_all(&[0xff; 64]);
    });
    for (address, result) in [
        (format!("/ip4/127.0.0.1/tcp/{nobody}"), "refused"),
        (format!("/ip4/127.0.0.1/tcp/{nobody}/ws"), "refused"),
        (format!("/ip4/127.0.0.1/tcp/{stranger}"), "handshake"),
    ] {
        let before = node.figure("p2p_dials", &[("result", result)]);
        let address: Multiaddr = address.parse().unwrap();
        node.node.handle.connect(address.clone()).await.unwrap_err();
        assert_eq!(node.figure("p2p_dials", &[("result", result)]), before + 1.0, "{address}");
    }
}
