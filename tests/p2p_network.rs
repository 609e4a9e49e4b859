//! Nodes find each other through a bootnode, stay connected, and talk.

mod p2p_support;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hippius::p2p::{ConnectError, Handle, NodeConfig, NodeRole, PublishError, Topic};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_support::*;
use tokio::net::TcpSocket;

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
                node.subscribers("lobby").await == 1
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
async fn a_bootnode_that_had_nothing_to_say_joins_a_topic_and_is_heard() {
    let bootnode = bootnode().await;
    let node = member(&bootnode.address().await).await;
    eventually("the bootnode knows what the node has joined", || async {
        bootnode.handle.peers().await.unwrap().iter().any(|peer| peer.topics == ["lobby"])
    })
    .await;
    let (mut heard, mut heard_by_bootnode) =
        (node.handle.subscribe_events().unwrap(), bootnode.handle.subscribe_events().unwrap());
    bootnode.handle.join(lobby()).await.unwrap();
    bootnode.handle.publish(lobby(), "hello").await.unwrap();
    assert_eq!(next_message(&mut heard).await.text, "hello");
    eventually("the node knows what the bootnode has joined", || async {
        node.subscribers("lobby").await == 1
    })
    .await;
    node.handle.publish(lobby(), "hello, too").await.unwrap();
    assert_eq!(next_message(&mut heard_by_bootnode).await.text, "hello, too");
}

#[tokio::test]
async fn publishing_to_nobody_is_not_an_error_but_a_topic_that_is_not_joined_is() {
    let alone = bootnode().await;
    assert!(alone.handle.join(lobby()).await.unwrap());
    assert!(!alone.handle.join(lobby()).await.unwrap());
    let published = alone.handle.publish(lobby(), "anybody?").await.unwrap();
    assert_eq!((published.peers, published.waiting), (0, true));
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
    let subscribers = || first.subscribers("lobby");
    eventually("a subscriber", || async { subscribers().await == 1 }).await;
    second.handle.leave(lobby()).await.unwrap();
    eventually("no subscriber", || async { subscribers().await == 0 }).await;
    second.handle.join(lobby()).await.unwrap();
    eventually("a subscriber again", || async { subscribers().await == 1 }).await;
}

/// gossipsub keeps one that has left a topic out of the mesh for a while. Seen from afar, since whoever is connected to an author gets
/// its messages anyway.
#[tokio::test]
async fn who_leaves_a_topic_and_comes_back_is_soon_in_the_mesh_again() {
    let (author, middle, leaver) = (bootnode().await, bootnode().await, bootnode().await);
    for node in [&author, &middle, &leaver] {
        node.handle.join(lobby()).await.unwrap();
    }
    for node in [&author, &leaver] {
        node.handle.connect(middle.address().await).await.unwrap();
    }
    let id = leaver.handle.peer_id().to_base58();
    let in_mesh = || async { middle.handle.topic_infos().await.unwrap()[0].mesh.contains(&id) };
    eventually("all are in the mesh", || async {
        in_mesh().await && middle.handle.topic_infos().await.unwrap()[0].mesh.len() == 2
    })
    .await;
    leaver.handle.leave(lobby()).await.unwrap();
    eventually("it has left", || async { middle.subscribers("lobby").await == 1 && !in_mesh().await }).await;
    leaver.handle.join(lobby()).await.unwrap();
    let mut events = leaver.handle.subscribe_events().unwrap();
    let begin = Instant::now();
    eventually("it is known to be back", || async { middle.subscribers("lobby").await == 2 }).await;
    // Not in the mesh yet: it is told what there is and asks for it.
    author.handle.publish(lobby(), "while it is out of the mesh").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "while it is out of the mesh");
    println!("the first message came after {:?}", begin.elapsed());
    // With gossipsub's defaults this takes a minute.
    eventually("it is in the mesh again", in_mesh).await;
    println!("in the mesh again after {:?}", begin.elapsed());
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

    let bare: Multiaddr = address.iter().take(2).collect();
    let impostor = bare.clone().with_p2p(PeerId::random()).unwrap();
    let error = first.handle.connect(impostor).await.unwrap_err();
    assert!(error.to_string().contains("another node is there"), "{error}");
    assert_eq!(first.handle.connect(bare.clone()).await, Ok(second.handle.peer_id()), "without a name");
    let own = first.address().await;
    assert_eq!(first.handle.connect(own.clone()).await, Err(ConnectError::Myself(own)));
    second.stop().await;
    let error = first.handle.connect(bare).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    for address in ["", "/dns4/localhost/udp/1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1/webrtc-direct"] {
        let error = first.handle.connect(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unsupported { .. }), "{address}: {error}");
        assert!(error.to_string().contains("cannot be dialled"), "{error}");
    }
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
    // One that many others happened to choose has a few more, until they are old enough to be closed.
    let limit = NodeConfig::default().high_peers as usize + 1;
    eventually("nobody has more than wanted", || async {
        join_all(nodes.iter().map(TestNode::peers)).await.into_iter().all(|count| count <= limit)
    })
    .await;
    // Without the bootnode: neighbours chosen at random must hold the network together by themselves.
    let mut edges: HashMap<PeerId, Vec<PeerId>> = HashMap::new();
    for node in &nodes {
        let peers = node.handle.peers().await.unwrap();
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

/// Members of a topic that few nodes have joined find each other, though each has neighbours enough.
#[tokio::test]
async fn a_message_on_a_rare_topic_reaches_all_its_members() {
    const LOW: u32 = 2;
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let few = NodeConfig { low_peers: LOW, high_peers: LOW + 2, ..member_config(&address) };
    let nodes = join_all((0..12).map(|_| node(NodeRole::Node, few.clone()))).await;
    eventually("neighbours enough", || all_have(&nodes, LOW as usize + 1)).await;
    let rare: Topic = "rare".parse().unwrap();
    let mut members = Vec::new();
    for member in [&nodes[0], &nodes[5], &nodes[11]] {
        assert!(member.handle.join(rare.clone()).await.unwrap());
        members.push((member, member.handle.subscribe_events().unwrap()));
    }
    for sender in 0..members.len() {
        eventually("the other members are neighbours", || async {
            let peers = members[sender].0.handle.peers().await.unwrap();
            peers.iter().filter(|peer| peer.topics.contains(&rare.to_string())).count() == members.len() - 1
        })
        .await;
        members[sender].0.handle.publish(rare.clone(), format!("from {sender}")).await.unwrap();
        for (receiver, (_, events)) in members.iter_mut().enumerate() {
            if receiver != sender {
                assert_eq!(next_message(events).await.text, format!("from {sender}"));
            }
        }
    }
}

fn port(address: &Multiaddr) -> u16 {
    address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None }).unwrap()
}

/// A node that looks for nobody but its bootnode.
async fn passive(folder: &Path, bootnode: &Multiaddr) -> Handle {
    let config = NodeConfig { low_peers: 0, topics: Vec::new(), ..member_config(bootnode) };
    start_in(folder, NodeRole::Node, config).await.unwrap()
}

/// Nobody is sent to a node that has ended.
#[tokio::test]
async fn a_peer_that_has_gone_is_told_to_nobody() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [gone, stays] =
        [passive(folders[0].path(), &address).await, passive(folders[1].path(), &address).await];
    eventually("the bootnode has identified both", || async {
        bootnode.handle.peers().await.unwrap().iter().filter(|peer| peer.agent.is_some()).count() == 2
    })
    .await;
    let place = port(&gone.listen_addrs().await.unwrap()[0]);
    gone.shutdown().await;
    eventually("the bootnode has lost one", || async { bootnode.peers().await == 1 }).await;
    // In its place listens somebody who takes note of visitors.
    let listener = std::net::TcpListener::bind(("127.0.0.1", place)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let newcomer = member(&address).await;
    eventually("the newcomer was told of the other", || async {
        let peers = newcomer.handle.peers().await.unwrap();
        peers.iter().any(|peer| peer.peer_id == stays.peer_id())
    })
    .await;
    let visitor = listener.accept();
    assert!(visitor.is_err(), "{visitor:?} was sent to a peer that has gone");
}

/// A peer that comes back under its name on another port is found there, through what others say.
#[tokio::test]
async fn a_peer_that_comes_back_on_another_port_is_found_there() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let first = member(&address).await;
    let folder = tempfile::tempdir().unwrap();
    let second = passive(folder.path(), &address).await;
    eventually("both are connected", || async { first.peers().await == 2 }).await;
    let before = second.listen_addrs().await.unwrap().remove(0);
    second.shutdown().await;
    // The old port stays taken, and nobody answers there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], port(&before)).into()).unwrap();
    eventually("it is gone", || async { first.peers().await == 1 }).await;
    let again = passive(folder.path(), &address).await;
    let now = again.listen_addrs().await.unwrap().remove(0);
    assert_ne!(now, before);
    eventually("the first has found it", || async {
        let peers = first.handle.peers().await.unwrap();
        peers.iter().any(|peer| peer.peer_id == again.peer_id() && port(&peer.address) == port(&now))
    })
    .await;
}
