//! Nodes find each other through a bootnode, stay connected, and talk.

mod p2p_support;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hippius::p2p::{ConnectError, NodeConfig, NodeRole, PublishError};
use libp2p::PeerId;
use p2p_support::*;

async fn all_have(nodes: &[TestNode], peers: usize) -> bool {
    join_all(nodes.iter().map(TestNode::peers)).await.into_iter().all(|count| count >= peers)
}

#[tokio::test]
async fn three_nodes_that_start_at_once_are_soon_connected_to_each_other() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let nodes = join_all((0..3).map(|_| member(&address))).await;
    let begin = Instant::now();
    eventually("a full mesh", || all_have(&nodes, 3)).await;
    println!("full mesh after {:?}", begin.elapsed());
    assert_eq!(bootnode.peers().await, 3);
}

#[tokio::test]
async fn a_latecomer_finds_everybody_through_the_bootnode() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let mut nodes = join_all((0..3).map(|_| member(&address))).await;
    eventually("a full mesh", || all_have(&nodes, 3)).await;
    nodes.push(member(&address).await);
    let begin = Instant::now();
    eventually("a full mesh with the latecomer", || all_have(&nodes, 4)).await;
    println!("the latecomer was in after {:?}", begin.elapsed());
}

#[tokio::test]
async fn two_peers_that_dial_each_other_keep_one_connection_and_lose_no_subscription() {
    let mut doubles = 0;
    for _ in 0..10 {
        let (first, second) = (bootnode().await, bootnode().await);
        first.handle.join(lobby()).await.unwrap();
        second.handle.join(lobby()).await.unwrap();
        let (to_second, to_first) = (second.address().await, first.address().await);
        let dials = tokio::join!(first.handle.connect(to_second), second.handle.connect(to_first));
        assert!(dials.0.is_ok() && dials.1.is_ok(), "{dials:?}");
        let connections = |node: &TestNode| {
            let handle = node.handle.clone();
            async move { handle.peers().await.unwrap().first().map_or(0, |peer| peer.connections) }
        };
        doubles += usize::from(connections(&first).await == 2 || connections(&second).await == 2);
        eventually("one connection on both sides", || async {
            connections(&first).await == 1 && connections(&second).await == 1
        })
        .await;
        for node in [&first, &second] {
            eventually("the other's subscription is known", || async {
                node.handle.publish(lobby(), "hi").await.unwrap().peers == 1
            })
            .await;
        }
    }
    assert!(doubles > 0, "no double dial came about, so nothing was tested");
}

#[tokio::test]
async fn a_message_reaches_everybody_and_the_same_text_twice_arrives_twice() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let nodes = join_all((0..4).map(|_| member(&address))).await;
    let sender = &nodes[0];
    let mut streams: Vec<_> = nodes[1..].iter().map(|node| node.handle.subscribe_events().unwrap()).collect();
    eventually("the sender knows three subscribers", || async {
        let peers = sender.handle.peers().await.unwrap();
        peers.iter().filter(|peer| peer.topics.contains(&"lobby".to_owned())).count() == 3
    })
    .await;
    let mut ids = HashSet::new();
    for text in ["hello", "hello", "\u{1b}[31m \"quoted\" \\ 🦀\n"] {
        let published = sender.handle.publish(lobby(), text).await.unwrap();
        assert_eq!(published.peers, 3);
        assert!(ids.insert(published.id.clone()));
        for stream in &mut streams {
            let message = next_message(stream).await;
            assert_eq!((message.id.as_str(), message.text.as_str()), (published.id.as_str(), text));
            assert_eq!(message.from, sender.handle.peer_id());
        }
    }
    let largest = "x".repeat(64 * 1024);
    sender.handle.publish(lobby(), largest.clone()).await.unwrap();
    for stream in &mut streams {
        assert_eq!(next_message(stream).await.text, largest);
    }
    let error = sender.handle.publish(lobby(), largest + "x").await.unwrap_err();
    assert_eq!(error, PublishError::TooLarge);
}

#[tokio::test]
async fn publishing_to_nobody_is_not_an_error_but_a_topic_that_is_not_joined_is() {
    let alone = bootnode().await;
    assert!(alone.handle.join(lobby()).await.unwrap());
    assert!(!alone.handle.join(lobby()).await.unwrap());
    assert_eq!(alone.handle.publish(lobby(), "anybody?").await.unwrap().peers, 0);
    let other = "loby".parse().unwrap();
    assert_eq!(alone.handle.publish(other, "?").await, Err(PublishError::NotJoined("loby".parse().unwrap())));
    assert!(alone.handle.leave(lobby()).await.unwrap());
    assert!(alone.handle.topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_leaves_a_topic_hears_nothing_more_of_it() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let (first, second) = (member(&address).await, member(&address).await);
    let subscribers = || async { first.handle.publish(lobby(), "ping").await.unwrap().peers };
    eventually("a subscriber", || async { subscribers().await == 1 }).await;
    second.handle.leave(lobby()).await.unwrap();
    eventually("no subscriber", || async { subscribers().await == 0 }).await;
    second.handle.join(lobby()).await.unwrap();
    eventually("a subscriber again", || async { subscribers().await == 1 }).await;
}

#[tokio::test]
async fn a_restarted_bootnode_is_found_again_and_keeps_its_name() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let nodes = [member(&address).await, member(&address).await];
    eventually("a full mesh", || all_have(&nodes, 2)).await;
    let name = bootnode.handle.peer_id();
    let folder = bootnode.stop().await;
    eventually("the bootnode is gone", || async {
        nodes[0].peers().await == 1 && nodes[1].peers().await == 1
    })
    .await;
    let config = NodeConfig {
        listen: vec![address.iter().take(2).collect()],
        high_peers: 1000,
        ..NodeConfig::default()
    };
    let again = start_in(folder.path(), NodeRole::Bootnode, config).await.unwrap();
    assert_eq!(again.peer_id(), name);
    eventually("both are back", || async { again.peers().await.unwrap().len() == 2 }).await;
}

#[tokio::test]
async fn connecting_by_hand_says_what_went_wrong() {
    let (first, second) = (bootnode().await, bootnode().await);
    let address = second.address().await;
    assert_eq!(first.handle.connect(address.clone()).await, Ok(second.handle.peer_id()));
    assert_eq!(first.handle.connect(address.clone()).await, Ok(second.handle.peer_id()), "already there");
    assert!(first.handle.disconnect(second.handle.peer_id()).await.unwrap());
    eventually("disconnected", || async { first.peers().await == 0 && second.peers().await == 0 }).await;
    assert!(!first.handle.disconnect(second.handle.peer_id()).await.unwrap());

    let bare: libp2p::Multiaddr = address.iter().take(2).collect();
    let impostor = bare.clone().with_p2p(PeerId::random()).unwrap();
    let error = first.handle.connect(impostor).await.unwrap_err();
    assert!(error.to_string().contains("another node is there"), "{error}");
    assert_eq!(first.handle.connect(bare.clone()).await, Ok(second.handle.peer_id()), "without a name");
    let own = first.address().await;
    assert_eq!(first.handle.connect(own.clone()).await, Err(ConnectError::Myself(own)));
    second.stop().await;
    let error = first.handle.connect(bare).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    let error = first.handle.connect("/dns4/localhost/udp/1".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("not of a kind"), "{error}");
}

/// Twenty nodes at once through one bootnode: each has enough peers, none far too many, and all are one component.
#[tokio::test]
async fn a_swarm_that_starts_at_once_becomes_one_network() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let nodes = join_all((0..20).map(|_| member(&address))).await;
    let begin = Instant::now();
    eventually("six peers each", || all_have(&nodes, 6)).await;
    println!("six peers each after {:?}", begin.elapsed());
    // Without the bootnode: neighbours chosen at random must hold the network together by themselves.
    let mut edges: HashMap<PeerId, Vec<PeerId>> = HashMap::new();
    for node in &nodes {
        let peers = node.handle.peers().await.unwrap();
        assert!(peers.len() <= 17, "{} peers: more than wanted", peers.len());
        let others = peers.iter().filter(|peer| !peer.bootnode).map(|peer| peer.peer_id).collect();
        edges.insert(node.handle.peer_id(), others);
    }
    let mut seen = HashSet::new();
    let mut open = vec![nodes[0].handle.peer_id()];
    while let Some(peer) = open.pop() {
        if seen.insert(peer) {
            open.extend(&edges[&peer]);
        }
    }
    assert_eq!(seen.len(), nodes.len(), "the network has more than one part");
}

/// Events of a node that has stopped end, and its handle says so.
#[tokio::test]
async fn a_stopped_node_says_that_it_is_gone() {
    let node = bootnode().await;
    let handle = node.handle.clone();
    let mut events = handle.subscribe_events().unwrap();
    node.stop().await;
    assert!(handle.status().await.is_err());
    assert!(handle.subscribe_events().is_err());
    let end = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
    assert_eq!(end, Ok(None));
    handle.shutdown().await;
}
