//! Strangers who send rubbish, too much, or open too many connections. The node refuses, counts, and goes on.

mod p2p_support;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use futures::future::{join, join_all};
use futures::{AsyncWriteExt, StreamExt};
use hippius::p2p::topics::Message;
use hippius::p2p::{Event, EventStream, NodeConfig, NodeRole};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use p2p_support::*;

type Attacker = Swarm<gossipsub::Behaviour>;

/// A peer that keeps no rules, not yet connected.
fn attacker(keypair: &Keypair, authenticity: MessageAuthenticity) -> Attacker {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::None)
        .max_transmit_size(4 * 1024 * 1024)
        .heartbeat_initial_delay(Duration::from_millis(50))
        // However slow the machine, all that is published is sent.
        .publish_queue_duration(Duration::from_secs(600))
        .build()
        .unwrap();
    let behaviour = gossipsub::Behaviour::new(authenticity, config).unwrap();
    SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .build()
}

fn signed(key: &Keypair) -> MessageAuthenticity {
    MessageAuthenticity::Signed(key.clone())
}

/// Connects and waits until the victim has told its topics.
async fn meet(attacker: &mut Attacker, victim: &Multiaddr) {
    attacker.dial(victim.clone()).unwrap();
    let subscribed = async {
        while !matches!(
            attacker.select_next_some().await,
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. })
        ) {}
    };
    tokio::time::timeout(DEADLINE, subscribed).await.expect("the victim's topics");
}

fn keep_going(mut attacker: Attacker) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            attacker.select_next_some().await;
        }
    })
}

fn message(from: PeerId, topic: &str, text: &str) -> Vec<u8> {
    let message =
        Message { id: "1".into(), from, topic: topic.parse().unwrap(), sent_at: 0, text: text.into() };
    serde_json::to_vec(&message).unwrap()
}

/// A victim with an honest friend, and the victim's events.
async fn victim_and_friend() -> (TestNode, TestNode, EventStream) {
    victim_with_rate(30, 2).await
}

async fn victim_with_rate(message_burst: u32, message_rate: u32) -> (TestNode, TestNode, EventStream) {
    let config = NodeConfig { message_burst, message_rate, ..NodeConfig::default() };
    let victim = node(NodeRole::Bootnode, config).await;
    victim.handle.join(lobby()).await.unwrap();
    let friend = member(&victim.address().await).await;
    let events = victim.handle.subscribe_events().unwrap();
    eventually("the friend knows the victim's topic", || async {
        friend.handle.peers().await.unwrap().iter().any(|peer| !peer.topics.is_empty())
    })
    .await;
    (victim, friend, events)
}

#[tokio::test]
async fn malformed_messages_are_refused_and_counted_and_honest_ones_still_arrive() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut attacker = attacker(&key, signed(&key));
    meet(&mut attacker, &victim.address().await).await;
    let rubbish = [
        vec![0xff, 0xfe, 0x00],
        b"{}".to_vec(),
        message(friend.handle.peer_id(), "lobby", "not from the friend"),
        message(me, "elsewhere", "another topic"),
        message(me, "lobby", &"x".repeat(64 * 1024 + 1)),
    ];
    let count = rubbish.len() as u64;
    for bytes in rubbish {
        attacker.behaviour_mut().publish(IdentTopic::new("lobby"), bytes).unwrap();
    }
    let attack = keep_going(attacker);
    eventually("all are counted", || async { victim.refused("message").await == count }).await;
    friend.handle.publish(lobby(), "honest").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "honest", "nothing came through before");
    attack.abort();
}

#[tokio::test]
async fn unsigned_and_oversized_messages_never_arrive() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let address = victim.address().await;
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut unsigned = attacker(&key, MessageAuthenticity::Author(me));
    meet(&mut unsigned, &address).await;
    unsigned.behaviour_mut().publish(IdentTopic::new("lobby"), message(me, "lobby", "unsigned")).unwrap();
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut oversized = attacker(&key, signed(&key));
    meet(&mut oversized, &address).await;
    let megabyte = message(me, "lobby", &"x".repeat(1024 * 1024));
    oversized.behaviour_mut().publish(IdentTopic::new("lobby"), megabyte).unwrap();
    let attacks = [keep_going(unsigned), keep_going(oversized)];
    eventually("the unsigned one is counted", || async { victim.refused("message").await == 1 }).await;
    // The honest messages leave later and, on the same machine, arrive later.
    for number in 0..20 {
        friend.handle.publish(lobby(), format!("honest {number}")).await.unwrap();
        assert_eq!(next_message(&mut events).await.text, format!("honest {number}"));
        tokio::task::yield_now().await;
    }
    attacks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What stands in a gossipsub message, and who signs it.
struct Forged<'a> {
    from: PeerId,
    text: &'a str,
    seqno: &'a [u8],
    signer: &'a Keypair,
    /// Whether the signer's key is sent along.
    key: bool,
    /// What becomes of the signature before it is sent.
    spoil: fn(&mut Vec<u8>),
}

impl Forged<'_> {
    /// An RPC with this message, behind its length.
    fn rpc(&self) -> Vec<u8> {
        let data = message(self.from, "lobby", self.text);
        let mut message =
            [field(1, &self.from.to_bytes()), field(2, &data), field(3, self.seqno), field(4, b"lobby")]
                .concat();
        let mut signature = self.signer.sign(&[b"libp2p-pubsub:", &message[..]].concat()).unwrap();
        (self.spoil)(&mut signature);
        if !signature.is_empty() {
            message.extend(field(5, &signature));
        }
        if self.key {
            message.extend(field(6, &self.signer.public().encode_protobuf()));
        }
        delimited(&field(2, &message))
    }
}

#[tokio::test]
async fn wrongly_signed_messages_never_arrive_and_are_counted() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (me, friend_id) = (key.public().to_peer_id(), friend.handle.peer_id());
    let good = Forged { from: me, text: "good", seqno: &[1; 8], signer: &key, key: false, spoil: |_| {} };
    let forged = [
        Forged { text: "of another", signer: &other, ..good },
        Forged { text: "with the key of another", signer: &other, key: true, ..good },
        Forged { from: friend_id, text: "in the friend's name", ..good },
        Forged { from: friend_id, text: "in the friend's name, with a key", key: true, ..good },
        Forged { text: "one bit off", spoil: |signature| signature[9] ^= 1, ..good },
        Forged { text: "half of it", spoil: |signature| signature.truncate(32), ..good },
        Forged { text: "none", spoil: Vec::clear, ..good },
        Forged { text: "a number too short", seqno: &[1; 7], ..good },
    ];
    let behaviour = libp2p_stream::Behaviour::new();
    let mut control = behaviour.new_control();
    let mut swarm = SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .build();
    swarm.dial(victim.address().await).unwrap();
    let attack = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let protocol = libp2p::StreamProtocol::new("/meshsub/1.1.0");
    let opened = control.open_stream(victim.handle.peer_id(), protocol);
    let mut stream = tokio::time::timeout(DEADLINE, opened).await.expect("in time").expect("a stream");
    for forged in &forged {
        stream.write_all(&forged.rpc()).await.unwrap();
    }
    // One that is right comes through on the same stream, after all of them.
    stream.write_all(&good.rpc()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "good");
    assert_eq!(victim.refused("message").await, forged.len() as u64);
    friend.handle.publish(lobby(), "honest").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "honest");
    attack.abort();
}

#[tokio::test]
async fn a_flood_of_messages_is_cut_to_the_rate() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut attacker = attacker(&key, signed(&key));
    meet(&mut attacker, &victim.address().await).await;
    for _ in 0..100 {
        attacker.behaviour_mut().publish(IdentTopic::new("lobby"), message(me, "lobby", "again")).unwrap();
    }
    let attack = keep_going(attacker);
    eventually("some are refused", || async { victim.refused("rate").await > 0 }).await;
    friend.handle.publish(lobby(), "honest").await.unwrap();
    let mut passed = 0;
    let heard = async {
        loop {
            match events.next().await {
                Some(Event::Message(message)) if message.text == "honest" => return,
                Some(Event::Message(_)) => passed += 1,
                Some(Event::Lagged { lost }) => passed += lost,
                Some(_) => {}
                None => panic!("the node has stopped"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, heard).await.expect("the honest message");
    assert!(passed < 100, "{passed} of 100 passed");
    attack.abort();
}

#[tokio::test]
async fn messages_of_a_topic_that_is_not_joined_are_refused_at_the_door() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let elsewhere = "elsewhere".parse().unwrap();
    victim.handle.join(elsewhere).await.unwrap();
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut attacker = attacker(&key, signed(&key));
    meet(&mut attacker, &victim.address().await).await;
    assert!(victim.handle.leave("elsewhere".parse().unwrap()).await.unwrap());
    // The attacker, not polled meanwhile, does as if it had not heard.
    for number in 0..20 {
        let unwanted = message(me, "elsewhere", &format!("unwanted {number}"));
        attacker.behaviour_mut().publish(IdentTopic::new("elsewhere"), unwanted).unwrap();
    }
    attacker.behaviour_mut().publish(IdentTopic::new("lobby"), message(me, "lobby", "wanted")).unwrap();
    let attack = keep_going(attacker);
    assert_eq!(next_message(&mut events).await.text, "wanted");
    // Gossipsub itself would have kept them, and told nobody.
    assert_eq!(victim.refused("message").await, 20);
    assert_eq!(victim.handle.status().await.unwrap().blocked, 0, "who left a topic is sent some more of it");
    friend.handle.publish(lobby(), "honest").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "honest");
    attack.abort();
}

/// Lets a stranger attack and asserts that the victim disconnects it, does not let it in again, and goes on with its friend.
async fn is_kept_away(
    (victim, friend, mut events): (TestNode, TestNode, EventStream),
    authenticity: fn(&Keypair) -> MessageAuthenticity,
    attack: fn(&mut Attacker, PeerId),
) {
    let address = victim.address().await;
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mut first = attacker(&key, authenticity(&key));
    meet(&mut first, &address).await;
    attack(&mut first, me);
    let first = keep_going(first);
    eventually("the attacker is kept away", || async {
        let peers = victim.handle.peers().await.unwrap();
        victim.handle.status().await.unwrap().blocked == 1 && peers.iter().all(|peer| peer.peer_id != me)
    })
    .await;
    first.abort();
    let before = victim.refused("blocked").await;
    let mut again = attacker(&key, authenticity(&key));
    again.dial(address.clone()).unwrap();
    let again = keep_going(again);
    eventually("it is not let in again", || async { victim.refused("blocked").await > before }).await;
    again.abort();
    let told = victim.handle.connect(format!("/ip4/127.0.0.1/tcp/1/p2p/{me}").parse().unwrap()).await;
    assert!(told.unwrap_err().to_string().contains("blocked"));
    friend.handle.publish(lobby(), "honest").await.unwrap();
    while next_message(&mut events).await.text != "honest" {}
}

#[tokio::test]
async fn a_neighbour_that_sends_rubbish_is_kept_away() {
    is_kept_away(victim_and_friend().await, signed, |attacker, _| {
        for _ in 0..150 {
            attacker.behaviour_mut().publish(IdentTopic::new("lobby"), b"{}".to_vec()).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_neighbour_that_floods_is_kept_away() {
    is_kept_away(victim_with_rate(5, 1).await, signed, |attacker, me| {
        for _ in 0..400 {
            let again = message(me, "lobby", "again");
            attacker.behaviour_mut().publish(IdentTopic::new("lobby"), again).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_neighbour_that_floods_with_large_messages_is_kept_away_sooner() {
    is_kept_away(victim_and_friend().await, signed, |attacker, me| {
        for _ in 0..100 {
            let large = message(me, "lobby", &"x".repeat(64 * 1024));
            attacker.behaviour_mut().publish(IdentTopic::new("lobby"), large).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_neighbour_that_sends_unsigned_messages_is_kept_away() {
    is_kept_away(
        victim_and_friend().await,
        |key| MessageAuthenticity::Author(key.public().to_peer_id()),
        |attacker, me| {
            for _ in 0..600 {
                let unsigned = message(me, "lobby", "unsigned");
                attacker.behaviour_mut().publish(IdentTopic::new("lobby"), unsigned).unwrap();
            }
        },
    )
    .await;
}

#[tokio::test]
async fn own_messages_are_held_to_the_same_rate() {
    let (node, _friend, _events) = victim_and_friend().await;
    let mut refused = None;
    for _ in 0..2_000 {
        if let Err(error) = node.handle.publish(lobby(), "x").await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(hippius::p2p::PublishError::TooFast));
}

#[tokio::test]
async fn too_many_or_nameless_subscriptions_are_not_kept() {
    let (victim, friend, mut events) = victim_and_friend().await;
    let key = Keypair::generate_ed25519();
    let mut attacker = attacker(&key, signed(&key));
    attacker.behaviour_mut().subscribe(&IdentTopic::new("a name with spaces")).unwrap();
    for number in 0..127 {
        attacker.behaviour_mut().subscribe(&IdentTopic::new(format!("topic-{number}"))).unwrap();
    }
    meet(&mut attacker, &victim.address().await).await;
    for number in 127..200 {
        attacker.behaviour_mut().subscribe(&IdentTopic::new(format!("topic-{number}"))).unwrap();
    }
    let attack = keep_going(attacker);
    eventually("the nameless one is counted", || async { victim.refused("subscription").await > 0 }).await;
    friend.handle.publish(lobby(), "honest").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "honest");
    let me = key.public().to_peer_id();
    let peers = victim.handle.peers().await.unwrap();
    let topics = peers.iter().find(|peer| peer.peer_id == me).map_or(0, |peer| peer.topics.len());
    assert!(topics <= 128, "{topics} topics of one peer");
    attack.abort();
}

#[tokio::test]
async fn a_flood_of_peers_meets_the_connection_limit() {
    // Twice the upper mark and 16, of which `low_peers` are kept for outbound ones.
    let config = NodeConfig { low_peers: 1, high_peers: 1, ..NodeConfig::default() };
    let victim = node(NodeRole::Node, config).await;
    let address = victim.address().await;
    let attacks: Vec<_> = (0..40)
        .map(|_| {
            let key = Keypair::generate_ed25519();
            let mut attacker = attacker(&key, signed(&key));
            attacker.dial(address.clone()).unwrap();
            keep_going(attacker)
        })
        .collect();
    eventually("the rest is refused and counted", || async {
        assert!(victim.peers().await <= 17);
        victim.refused("connection").await >= 40 - 17
    })
    .await;
    for attack in attacks {
        attack.abort();
    }
    let friend = bootnode().await;
    eventually("a friend gets in when they have left", || async {
        friend.handle.connect(address.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn strangers_who_stall_the_handshake_fill_only_their_places() {
    let victim = node(NodeRole::Node, NodeConfig::default()).await;
    let address = victim.address().await;
    let mut parts = address.iter();
    let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else {
        panic!("{address}");
    };
    let socket = SocketAddr::from((ip, port));
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(socket).unwrap()).collect();
    eventually("those over the limit are refused", || async { victim.refused("connection").await >= 36 })
        .await;
    drop(silent);
    let friends = join_all((0..3).map(|_| bootnode())).await;
    for friend in friends {
        eventually("friends get in", || async { friend.handle.connect(address.clone()).await.is_ok() }).await;
    }
}

/// The other side of all these limits. Three in a row, the one in the middle passes everything on.
#[tokio::test]
async fn who_keeps_to_the_rate_loses_nothing_and_is_held_to_be_honest() {
    const BURST: u32 = 100;
    let middle = member_with_burst(BURST, Vec::new()).await;
    let known = vec![middle.address().await];
    let (one, other) = join(member_with_burst(BURST, known.clone()), member_with_burst(BURST, known)).await;
    let mut events = other.handle.subscribe_events().unwrap();
    eventually("all know each other's topic", || async {
        let (left, right) = join(one.handle.peers(), other.handle.peers()).await;
        [left.unwrap(), right.unwrap()].iter().all(|peers| peers.len() == 1 && !peers[0].topics.is_empty())
            && middle.handle.peers().await.unwrap().iter().filter(|peer| !peer.topics.is_empty()).count() == 2
    })
    .await;
    for number in 0..BURST {
        one.handle.publish(lobby(), format!("line {number}")).await.unwrap();
    }
    let mut heard = 0;
    let all = async {
        while heard < u64::from(BURST) {
            match events.next().await.expect("a running node") {
                Event::Message(_) => heard += 1,
                Event::Lagged { lost } => heard += lost,
                _ => {}
            }
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, all).await;
    assert!(in_time.is_ok(), "{heard} of {BURST} arrived");
    for node in [&one, &middle, &other] {
        let status = node.handle.status().await.unwrap();
        assert!(status.refused.is_empty() && status.blocked == 0, "{status:?}");
    }
}

/// A node in the lobby that looks for nobody but `bootnodes`.
async fn member_with_burst(message_burst: u32, bootnodes: Vec<Multiaddr>) -> TestNode {
    let topics = vec!["lobby".to_owned()];
    let config = NodeConfig { message_burst, bootnodes, topics, ..NodeConfig::of_bootnode() };
    node(NodeRole::Bootnode, config).await
}
