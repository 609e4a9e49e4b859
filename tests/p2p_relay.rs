//! Nodes behind a relay: they are reached through it, keep their place there, and nobody gets more of it than the limits say.

mod p2p_support;

use std::time::Duration;

use hippius::p2p::relay::RelayConfig;
use hippius::p2p::{NodeConfig, NodeRole};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_support::{TestNode, eventually, lobby, next_message, node, start_in};

async fn relay(limits: RelayConfig) -> TestNode {
    let relay = RelayConfig { enabled: true, ..limits };
    node(NodeRole::Bootnode, NodeConfig { relay, ..NodeConfig::of_bootnode() }).await
}

/// A node that listens nowhere but at relays.
fn hidden_config(listen: &str, bootnode: &Multiaddr) -> NodeConfig {
    NodeConfig {
        listen: vec![listen.parse().unwrap()],
        bootnodes: vec![bootnode.clone()],
        topics: vec!["lobby".to_owned()],
        ..NodeConfig::default()
    }
}

async fn hidden(relay: &TestNode) -> TestNode {
    node(NodeRole::Node, hidden_config("/p2p-circuit", &relay.address().await)).await
}

/// A node that looks for nobody: it has the connections that a test makes.
async fn visitor() -> TestNode {
    let config = NodeConfig { low_peers: 0, topics: vec!["lobby".to_owned()], ..NodeConfig::default() };
    node(NodeRole::Node, config).await
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The address at which the node is reached through a relay, once it has a place there.
async fn place(node: &TestNode) -> Multiaddr {
    let find = || async {
        let addresses = node.handle.listen_addrs().await.unwrap();
        addresses.into_iter().find(is_relayed)
    };
    eventually("the node has a place at a relay", || async { find().await.is_some() }).await;
    find().await.expect("it has one")
}

async fn is_connected(node: &TestNode, peer: PeerId) -> bool {
    node.handle.peers().await.unwrap().iter().any(|other| other.peer_id == peer)
}

async fn knows_member(node: &TestNode, peer: PeerId) -> bool {
    let peers = node.handle.peers().await.unwrap();
    peers.iter().any(|other| other.peer_id == peer && other.topics.contains(&"lobby".to_owned()))
}

/// The one says something that the other hears.
async fn say(from: &TestNode, to: &TestNode, text: &str) {
    let mut heard = to.handle.subscribe_events().unwrap();
    eventually("the other is known to be on the topic", || knows_member(from, to.handle.peer_id())).await;
    from.handle.publish(lobby(), text).await.unwrap();
    assert_eq!(next_message(&mut heard).await.text, text);
}

#[tokio::test]
async fn a_node_that_listens_nowhere_is_reached_through_a_relay() {
    let relay = relay(RelayConfig::default()).await;
    // It looks for nobody, or it would find the visitor itself.
    let config = NodeConfig { low_peers: 0, ..hidden_config("/p2p-circuit", &relay.address().await) };
    let hidden = node(NodeRole::Node, config).await;
    let at = place(&hidden).await;
    assert!(at.to_string().contains(&relay.handle.peer_id().to_string()), "{at}");
    assert!(at.to_string().ends_with(&hidden.handle.peer_id().to_string()), "{at}");
    let visitor = visitor().await;
    assert_eq!(visitor.handle.connect(at).await.unwrap(), hidden.handle.peer_id());
    eventually("the other side knows, too", || is_connected(&hidden, visitor.handle.peer_id())).await;
    let theirs = hidden.handle.peers().await.unwrap();
    let theirs = theirs.iter().find(|peer| peer.peer_id == visitor.handle.peer_id()).expect("connected");
    assert!(is_relayed(&theirs.address), "{}", theirs.address);
    say(&visitor, &hidden, "in").await;
    say(&hidden, &visitor, "out").await;
}

#[tokio::test]
async fn peers_that_nothing_else_connects_find_each_other_through_the_relay() {
    let relay = relay(RelayConfig::default()).await;
    let (first, second) = (hidden(&relay).await, hidden(&relay).await);
    eventually("the two are connected", || is_connected(&first, second.handle.peer_id())).await;
    say(&first, &second, "hello").await;
}

#[tokio::test]
async fn a_place_at_a_named_relay_needs_no_bootnode_and_survives_its_restart() {
    let config = || NodeConfig { relay: RelayConfig::of_bootnode(), ..NodeConfig::of_bootnode() };
    let first = node(NodeRole::Bootnode, config()).await;
    let address = first.address().await;
    let (peer, without_peer) = (first.handle.peer_id(), address.iter().take(2).collect::<Multiaddr>());
    let listen = format!("{address}/p2p-circuit");
    let hidden =
        node(NodeRole::Node, NodeConfig { bootnodes: Vec::new(), ..hidden_config(&listen, &address) });
    let hidden = hidden.await;
    let at = place(&hidden).await;
    let folder = first.stop().await;
    eventually("the place is known to be lost", || async {
        !hidden.handle.listen_addrs().await.unwrap().iter().any(is_relayed)
    })
    .await;
    let restarted = NodeConfig { listen: vec![without_peer], ..config() };
    let handle = start_in(folder.path(), NodeRole::Bootnode, restarted).await.unwrap();
    let second = TestNode { handle, folder };
    assert_eq!(second.handle.peer_id(), peer);
    assert_eq!(place(&hidden).await, at);
    let visitor = visitor().await;
    // The relay may still be closing what it had before its restart.
    eventually("the way through it is open", || async { visitor.handle.connect(at.clone()).await.is_ok() })
        .await;
    say(&visitor, &hidden, "again").await;
}

#[tokio::test]
async fn places_above_the_limit_are_refused_and_counted_and_free_ones_are_given() {
    let relay = relay(RelayConfig { max_reservations: 2, ..RelayConfig::default() }).await;
    let (first, second) = (hidden(&relay).await, hidden(&relay).await);
    let kept = place(&first).await;
    place(&second).await;
    let third = hidden(&relay).await;
    eventually("the third place is refused", || async { relay.refused("reservation").await > 0 }).await;
    assert!(!third.handle.listen_addrs().await.unwrap().iter().any(is_relayed));
    let visitor = visitor().await;
    visitor.handle.connect(kept).await.unwrap();
    say(&visitor, &first, "still served").await;
    second.stop().await;
    place(&third).await;
}

#[tokio::test]
async fn relayed_connections_above_the_limit_are_refused_and_counted_and_others_served_after() {
    let relay = relay(RelayConfig { max_circuits: 1, ..RelayConfig::default() }).await;
    let address = relay.address().await;
    let hidden = NodeConfig { low_peers: 0, ..hidden_config("/p2p-circuit", &address) };
    let hidden = node(NodeRole::Node, hidden).await;
    let at = place(&hidden).await;
    let (first, second) = (visitor().await, visitor().await);
    first.handle.connect(at.clone()).await.unwrap();
    let error = second.handle.connect(at.clone()).await.unwrap_err().to_string();
    assert!(error.contains("cannot connect"), "{error}");
    assert_eq!(relay.refused("circuit").await, 1);
    say(&first, &hidden, "still served").await;
    first.stop().await;
    eventually("the place of the first is free", || async {
        second.handle.connect(at.clone()).await.is_ok()
    })
    .await;
    say(&second, &hidden, "served in turn").await;
}

#[tokio::test]
async fn one_peer_has_no_more_relayed_connections_than_its_share() {
    let relay = relay(RelayConfig { max_circuits_per_peer: 2, ..RelayConfig::default() }).await;
    let address = relay.address().await;
    let mut places = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let config = NodeConfig { low_peers: 0, ..hidden_config("/p2p-circuit", &address) };
        nodes.push(node(NodeRole::Node, config).await);
        places.push(place(&nodes[nodes.len() - 1]).await);
    }
    let (greedy, modest) = (visitor().await, visitor().await);
    greedy.handle.connect(places[0].clone()).await.unwrap();
    greedy.handle.connect(places[1].clone()).await.unwrap();
    assert!(greedy.handle.connect(places[2].clone()).await.is_err());
    assert_eq!(relay.refused("circuit").await, 1);
    modest.handle.connect(places[2].clone()).await.unwrap();
}

#[tokio::test]
async fn a_relayed_connection_that_carries_too_much_is_cut_and_counted() {
    let limits = RelayConfig { max_circuit_bytes: 256 << 10, ..RelayConfig::default() };
    let relay = relay(limits).await;
    let address = relay.address().await;
    let config = NodeConfig { low_peers: 0, ..hidden_config("/p2p-circuit", &address) };
    let hidden = node(NodeRole::Node, config).await;
    let at = place(&hidden).await;
    let visitor = visitor().await;
    visitor.handle.connect(at.clone()).await.unwrap();
    say(&visitor, &hidden, "little").await;
    let page = "x".repeat(60 << 10);
    eventually("the connection is cut", || async {
        let _ = visitor.handle.publish(lobby(), page.clone()).await;
        relay.refused("circuit_bytes").await > 0
    })
    .await;
    eventually("the next one is served", || async { visitor.handle.connect(at.clone()).await.is_ok() }).await;
}

#[tokio::test]
async fn a_relayed_connection_that_lasts_too_long_is_cut_and_counted() {
    let limits = RelayConfig { max_circuit_duration: Duration::from_secs(1), ..RelayConfig::default() };
    let relay = relay(limits).await;
    let config = NodeConfig { low_peers: 0, ..hidden_config("/p2p-circuit", &relay.address().await) };
    let hidden = node(NodeRole::Node, config).await;
    let visitor = visitor().await;
    visitor.handle.connect(place(&hidden).await).await.unwrap();
    eventually("the connection is cut", || async { relay.refused("circuit_time").await == 1 }).await;
    eventually("the end is noticed", || async { !is_connected(&visitor, hidden.handle.peer_id()).await })
        .await;
}

#[tokio::test]
async fn a_node_is_no_relay_unless_it_is_told_so() {
    let plain = node(NodeRole::Node, NodeConfig::default()).await;
    let hidden = hidden(&plain).await;
    eventually("the two are connected", || is_connected(&hidden, plain.handle.peer_id())).await;
    eventually("the other has said what it is", || async {
        hidden.handle.peers().await.unwrap().iter().all(|peer| peer.agent.is_some())
    })
    .await;
    assert_eq!(hidden.handle.listen_addrs().await.unwrap(), Vec::<Multiaddr>::new());
}

#[tokio::test]
async fn a_whole_swarm_on_one_host_has_places_at_one_relay() {
    let relay = relay(RelayConfig::default()).await;
    let address = relay.address().await;
    let mut swarm = Vec::new();
    // More than libp2p's own limit of places for one IP address.
    for _ in 0..70 {
        let config =
            NodeConfig { low_peers: 0, topics: Vec::new(), ..hidden_config("/p2p-circuit", &address) };
        swarm.push(node(NodeRole::Node, config).await);
    }
    for node in &swarm {
        place(node).await;
    }
    assert_eq!(relay.refused("reservation").await, 0);
}
