//! Limits of a node, each set low and passed: what is above is refused and counted, and honest peers are served. The large attacks
//! are on a process of its own, so that its memory can be seen.

mod p2p_support;
mod support;

use std::fs;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use futures::future::poll_fn;
use futures::{AsyncWriteExt, StreamExt};
use hippius::p2p::limits::Limits;
use hippius::p2p::{NodeConfig, NodeRole, PublishError};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt};
use libp2p::core::transport::{Boxed, DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport, noise, tcp, yamux};
use p2p_support::*;
use serde_json::{Value, json};
use support::role::{Folder, Role};
use tokio::net::{TcpSocket, TcpStream};

fn limited(limits: Limits) -> NodeConfig {
    let topics = vec!["lobby".to_owned()];
    NodeConfig { limits, topics, message_burst: 10_000, message_rate: 10_000, ..NodeConfig::of_bootnode() }
}

async fn victim(limits: Limits) -> TestNode {
    node(NodeRole::Bootnode, limited(limits)).await
}

/// A stranger that wants to be connected.
fn visitor(victim: &Multiaddr) -> tokio::task::JoinHandle<()> {
    let mut swarm = gossiper(&Keypair::generate_ed25519());
    swarm.dial(victim.clone()).unwrap();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    })
}

fn gossiper(key: &Keypair) -> Swarm<gossipsub::Behaviour> {
    let config = gossipsub::ConfigBuilder::default().max_transmit_size(4 << 20).build().unwrap();
    let behaviour = gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config).unwrap();
    swarm(key, behaviour)
}

fn swarm<B: libp2p::swarm::NetworkBehaviour>(key: &Keypair, behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

#[tokio::test]
async fn connections_are_limited_in_all_by_address_and_by_memory() {
    let total = || Limits { total_connections: Some(3), ..Limits::default() };
    let by_address = || Limits { connections_per_address: 3, count_loopback: true, ..Limits::default() };
    let by_memory = || Limits { memory: 1, ..Limits::default() };
    for (limits, most, what) in
        [(total(), 3, "connection"), (by_address(), 3, "address"), (by_memory(), 0, "process_memory")]
    {
        let victim = victim(limits).await;
        let address = victim.address().await;
        let visitors: Vec<_> = (0..8).map(|_| visitor(&address)).collect();
        eventually(what, || async { victim.refused(what).await == 8 - most }).await;
        eventually("the others are in", || async { victim.peers().await as u64 == most }).await;
        visitors.iter().for_each(tokio::task::JoinHandle::abort);
        if most > 0 {
            eventually("places are free again", || async { victim.peers().await == 0 }).await;
            let friend = bootnode().await;
            friend.handle.connect(address).await.expect("a place");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_not_counted_has_all_places() {
    let victim =
        victim(Limits { connections_per_address: 1, pending_per_address: 1, ..Limits::default() }).await;
    let address = victim.address().await;
    let _visitors: Vec<_> = (0..8).map(|_| visitor(&address)).collect();
    eventually("a swarm on one host", || async { victim.peers().await == 8 }).await;
    assert_eq!(victim.refused("address").await, 0);
}

#[tokio::test]
async fn subscriptions_are_limited_and_those_above_counted() {
    let victim = victim(Limits { subscriptions: 3, ..Limits::default() }).await;
    let friend = bootnode().await;
    friend.handle.connect(victim.address().await).await.unwrap();
    for number in 0..3 {
        friend.handle.join(format!("topic-{number}").parse().unwrap()).await.unwrap();
    }
    let topics = || async { victim.handle.peers().await.unwrap().remove(0).topics.len() };
    eventually("three topics", || async { topics().await == 3 }).await;
    friend.handle.join("one-too-many".parse().unwrap()).await.unwrap();
    eventually("the fourth is counted", || async { victim.refused("subscription").await == 1 }).await;
    assert_eq!(topics().await, 3);
    // An end makes room, and is not counted itself.
    friend.handle.leave("topic-0".parse().unwrap()).await.unwrap();
    eventually("one less", || async { topics().await == 2 }).await;
    friend.handle.join("another".parse().unwrap()).await.unwrap();
    eventually("another", || async { topics().await == 3 }).await;
    assert_eq!(victim.refused("subscription").await, 1);
}

#[tokio::test]
async fn messages_above_the_size_are_neither_sent_nor_taken() {
    let victim = victim(Limits { message_size: 2_000, ..Limits::default() }).await;
    let friend = node(NodeRole::Bootnode, limited(Limits::default())).await;
    friend.handle.connect(victim.address().await).await.unwrap();
    for node in [&victim, &friend] {
        eventually("the peer is on the topic", || async {
            node.handle.peers().await.unwrap().iter().any(|peer| !peer.topics.is_empty())
        })
        .await;
    }
    let mut events = victim.handle.subscribe_events().unwrap();
    let own = victim.handle.publish(lobby(), "x".repeat(2_000)).await;
    assert_eq!(own, Err(PublishError::TooLarge));
    friend.handle.publish(lobby(), "x".repeat(2_000)).await.unwrap();
    friend.handle.publish(lobby(), "x".repeat(1_000)).await.unwrap();
    assert_eq!(next_message(&mut events).await.text.len(), 1_000);
    assert_eq!(victim.refused("message").await, 1);
}

/// An encrypted, multiplexed connection without any protocol.
fn bare_transport() -> Boxed<(PeerId, StreamMuxerBox)> {
    let key = Keypair::generate_ed25519();
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// Opens streams and begins to say which protocol, but never ends.
async fn half_open(victim: &Multiaddr, count: usize) -> tokio::task::JoinHandle<()> {
    let mut transport = bare_transport();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, mut muxer) = transport.dial(victim.clone(), options).unwrap().await.unwrap();
    tokio::spawn(async move {
        let mut opened = 0;
        let (mut beginning, mut begun) = (Vec::new(), Vec::new());
        poll_fn(|cx| {
            while opened < count
                && let Poll::Ready(Ok(mut stream)) = muxer.poll_outbound_unpin(cx)
            {
                opened += 1;
                // Nothing is on the wire before the first byte.
                beginning.push(Box::pin(async move {
                    let _ = stream.write_all(&[19]).await;
                    let _ = stream.flush().await;
                    stream
                }));
            }
            beginning.retain_mut(|stream| match stream.as_mut().poll(cx) {
                Poll::Ready(stream) => {
                    begun.push(stream);
                    false
                }
                Poll::Pending => true,
            });
            match muxer.poll_unpin(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        // The victim has cut it; the place is kept as long as the test lasts.
        std::future::pending::<()>().await;
    })
}

#[tokio::test]
async fn half_open_streams_are_limited_by_connection() {
    let victim = victim(Limits { streams: 40, negotiating_streams: 8, ..Limits::default() }).await;
    let attack = half_open(&victim.address().await, 100).await;
    // However long it takes: who says nothing for ten seconds loses its place, and another gets it.
    eventually("those above are refused", || async { victim.refused("stream").await >= 60 }).await;
    let friend = member(&victim.address().await).await;
    let mut events = victim.handle.subscribe_events().unwrap();
    eventually("the friend is on the topic", || async {
        friend.handle.peers().await.unwrap().iter().any(|peer| !peer.topics.is_empty())
    })
    .await;
    friend.handle.publish(lobby(), "honest").await.unwrap();
    assert_eq!(next_message(&mut events).await.text, "honest");
    // Eight may be without a protocol, and sixteen wait.
    assert!(victim.refused("stream").await <= 100 - 8 - 16, "those within the limit are not refused");
    attack.abort();
}

/// A node in a process of its own.
struct Process {
    role: Role,
    _folder: Folder,
}

impl Process {
    fn start(limits: &str) -> Self {
        let folder = Folder::new();
        let file = folder.path("role.toml");
        let text = format!(
            "[process]\nname = \"victim\"\ndata_dir = \"data/victim\"\n[bootnode]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\ntopics = [\"lobby\"]\nmessage_burst = 100000\nmessage_rate = 100000\n[bootnode.limits]\n{limits}"
        );
        fs::write(&file, text).unwrap();
        let command = folder.command(&["bootnode", "--config", file.to_str().unwrap()]);
        let mut role = folder.start(command, "victim");
        role.wait_ready();
        Self { role, _folder: folder }
    }

    fn address(&self) -> Multiaddr {
        self.role.status()["addresses"][0].as_str().unwrap().parse().unwrap()
    }

    fn refused(&self, what: &str) -> u64 {
        self.role.status()["refused"][what].as_u64().unwrap_or(0)
    }

    /// Resident memory, in MiB.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.role.child.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024
    }

    fn publish(&self, text: &str) {
        let body = json!({ "topic": "lobby", "text": text }).to_string();
        let answer = self.role.admin.request("POST", "/v1/publish", "", body.as_bytes());
        assert!(answer.status == 200, "{}", answer.body);
    }

    fn peer(&self, peer: PeerId) -> Option<Value> {
        let peers: Value =
            serde_json::from_str(&self.role.admin.request("GET", "/v1/peers", "", b"").body).unwrap();
        let peers = peers["peers"].as_array().unwrap();
        peers.iter().find(|known| known["peer_id"] == peer.to_base58()).cloned()
    }
}

/// Another stranger's connection is made, and a message arrives in both directions.
async fn honest_peers_are_served(victim: &Process) {
    let friend = member(&victim.address()).await;
    let mut events = friend.handle.subscribe_events().unwrap();
    let me = friend.handle.peer_id();
    eventually("the friend knows the victim's topic", || async {
        friend.handle.peers().await.unwrap().iter().any(|peer| !peer.topics.is_empty())
    })
    .await;
    eventually("the victim knows the friend's topic", || async {
        victim.peer(me).is_some_and(|peer| peer["topics"] == json!(["lobby"]))
    })
    .await;
    victim.publish("to the honest");
    while next_message(&mut events).await.text != "to the honest" {}
    friend.handle.publish(lobby(), "from the honest").await.unwrap();
    eventually("the victim has it from the friend", || async {
        victim.peer(me).is_some_and(|peer| peer["bytes_received"].as_u64() > Some(0))
    })
    .await;
}

/// Far more than any of these attacks costs, and far less than one without limits would.
const MEMORY_MIB: u64 = 96;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_that_never_finish_their_handshake() {
    let victim = Process::start("count_loopback = true\n");
    let before = victim.memory();
    let port = victim.address().iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let at = ([127, 0, 0, 1], port.unwrap()).into();
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..1_000 {
        // Another address of this machine than the honest ones have.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        silent.push(socket.connect(at).await.unwrap());
    }
    // Of a bootnode's 512 places one address fills 128.
    eventually("the rest is refused", || async { victim.refused("address") >= 1_000 - 128 }).await;
    honest_peers_are_served(&victim).await;
    let grown = victim.memory().saturating_sub(before);
    println!("{grown} MiB for 1,000 silent connections");
    assert!(grown < MEMORY_MIB, "{grown} MiB more");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_connections_full_of_half_open_streams() {
    let victim = Process::start("");
    let before = victim.memory();
    let address = victim.address();
    let mut attacks = Vec::new();
    for _ in 0..40 {
        attacks.push(half_open(&address, 200).await);
    }
    eventually("those above are refused", || async { victim.refused("stream") >= 40 * 36 }).await;
    honest_peers_are_served(&victim).await;
    let grown = victim.memory().saturating_sub(before);
    println!("{grown} MiB for 8,000 half-open streams");
    assert!(grown < MEMORY_MIB, "{grown} MiB more");
    attacks.iter().for_each(tokio::task::JoinHandle::abort);
}

const GOSSIPSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

/// A gossipsub RPC that subscribes to `count` topics, behind its length.
fn subscriptions(first: usize, count: usize) -> Vec<u8> {
    let subscribe =
        |number| field(1, &[vec![0x08, 0x01], field(2, format!("t-{number:06}").as_bytes())].concat());
    delimited(&(first..first + count).flat_map(subscribe).collect::<Vec<u8>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_subscriptions() {
    // Gossipsub reads no more than 16 KiB of them at once.
    const IN_ONE: usize = 1_000;
    const REQUESTS: usize = 100;
    let victim = Process::start("");
    let before = victim.memory();
    let behaviour = libp2p_stream::Behaviour::new();
    let mut control = behaviour.new_control();
    // The victim asks whether gossipsub is spoken here.
    let mut incoming = control.accept(GOSSIPSUB).unwrap();
    let mut swarm = swarm(&Keypair::generate_ed25519(), behaviour);
    let me = *swarm.local_peer_id();
    swarm.dial(victim.address()).unwrap();
    let peer = loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            break peer_id;
        }
    };
    let attack = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Some((_, stream)) = incoming.next() => kept.push(stream),
            }
        }
    });
    let mut stream = control.open_stream(peer, GOSSIPSUB).await.unwrap();
    for number in 0..REQUESTS {
        let request = subscriptions(number * IN_ONE, IN_ONE);
        tokio::time::timeout(DEADLINE, stream.write_all(&request)).await.expect("it is read").unwrap();
        stream.flush().await.unwrap();
    }
    let most = (IN_ONE * REQUESTS - 128) as u64;
    eventually("all but those kept are counted", || async { victim.refused("subscription") == most }).await;
    let topics = victim.peer(me).expect("it is connected")["topics"].as_array().unwrap().len();
    assert_eq!(topics, 128);
    honest_peers_are_served(&victim).await;
    let grown = victim.memory().saturating_sub(before);
    println!("{grown} MiB for 100,000 subscriptions");
    assert!(grown < MEMORY_MIB, "{grown} MiB more");
    attack.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read() {
    const READERS: usize = 4;
    let victim = Process::start("");
    let before = victim.memory();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = gossiper(&Keypair::generate_ed25519());
        reader.behaviour_mut().subscribe(&IdentTopic::new("lobby")).unwrap();
        reader.dial(victim.address()).unwrap();
        let me = *reader.local_peer_id();
        let on_topic = || victim.peer(me).is_some_and(|peer| peer["topics"] == json!(["lobby"]));
        while !on_topic() {
            let _ = tokio::time::timeout(Duration::from_millis(20), reader.select_next_some()).await;
        }
        // From now on nobody moves it.
        readers.push(reader);
    }
    let bootnodes = vec![victim.address()];
    // It takes as much as the victim may send.
    let friend = node(NodeRole::Node, NodeConfig { bootnodes, ..limited(Limits::default()) }).await;
    let mut events = friend.handle.subscribe_events().unwrap();
    eventually("the victim knows the friend's topic", || async {
        victim.peer(friend.handle.peer_id()).is_some_and(|peer| peer["topics"] == json!(["lobby"]))
    })
    .await;
    let large = "x".repeat(60_000);
    for number in 0..300 {
        victim.publish(&format!("{number} {large}"));
        let text = next_message(&mut events).await.text;
        assert!(text.starts_with(&format!("{number} ")), "the friend reads and is served");
    }
    eventually("what they do not take is counted", || async { victim.refused("slow_peer") > 0 }).await;
    let grown = victim.memory().saturating_sub(before);
    println!("{grown} MiB for 18 MB each that {READERS} readers do not read");
    assert!(grown < MEMORY_MIB, "{grown} MiB more");
}
