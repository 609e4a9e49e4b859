//! Strangers who want more of a relay, or of those behind it, than anybody should have.

mod p2p_support;

use std::collections::HashSet;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use hippius::p2p::relay::RelayConfig;
use hippius::p2p::{NodeConfig, NodeRole};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, relay as libp2p_relay, tcp, yamux,
};
use p2p_support::{TestNode, eventually, node};
use tokio::net::TcpListener;

/// Far more than anybody is given in the time of a test.
const TOO_OFTEN: usize = 400;

#[derive(NetworkBehaviour)]
struct Stranger {
    relay: libp2p_relay::client::Behaviour,
    streams: libp2p_stream::Behaviour,
}

fn stranger() -> Swarm<Stranger> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Stranger { relay, streams: libp2p_stream::Behaviour::new() })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

async fn relay() -> TestNode {
    let relay = RelayConfig { enabled: true, ..RelayConfig::default() };
    node(NodeRole::Bootnode, NodeConfig { relay, ..NodeConfig::of_bootnode() }).await
}

/// A node that listens at the relay only, and where it is reached there.
async fn hidden(relay: &TestNode) -> (TestNode, Multiaddr) {
    let config = NodeConfig {
        listen: vec!["/p2p-circuit".parse().unwrap()],
        bootnodes: vec![relay.address().await],
        low_peers: 0,
        ..NodeConfig::default()
    };
    let hidden = node(NodeRole::Node, config).await;
    let find = || async { hidden.handle.listen_addrs().await.unwrap().into_iter().next() };
    eventually("the node has a place at the relay", || async { find().await.is_some() }).await;
    let at = find().await.expect("it has one");
    (hidden, at)
}

async fn connected(swarm: &mut Swarm<Stranger>, to: Multiaddr) -> PeerId {
    swarm.dial(to).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            return peer_id;
        }
    }
}

#[tokio::test]
async fn a_peer_that_asks_for_places_without_end_is_refused_and_others_are_not() {
    let relay = relay().await;
    let mut greedy = stranger();
    let circuit = relay.address().await.with(Protocol::P2pCircuit);
    for _ in 0..TOO_OFTEN {
        let asked = greedy.listen_on(circuit.clone()).unwrap();
        loop {
            match greedy.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == asked => {
                    greedy.remove_listener(asked);
                }
                SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == asked => break,
                _ => {}
            }
        }
        if relay.refused("reservation").await > 0 {
            break;
        }
    }
    assert!(relay.refused("reservation").await > 0, "{TOO_OFTEN} places in a row were given");
    hidden(&relay).await;
}

#[tokio::test]
async fn a_peer_that_connects_through_a_relay_without_end_is_refused_and_others_are_not() {
    let relay = relay().await;
    let (_hidden, at) = hidden(&relay).await;
    let mut greedy = stranger();
    connected(&mut greedy, relay.address().await).await;
    let mut made = 0;
    while made < TOO_OFTEN && relay.refused("circuit").await == 0 {
        greedy.dial(at.clone()).unwrap();
        loop {
            match greedy.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                    made += 1;
                    greedy.close_connection(connection_id);
                }
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => break,
                _ => {}
            }
        }
    }
    assert!(made < TOO_OFTEN, "as many connections in a row were passed on");
    connected(&mut stranger(), at).await;
}

/// What a node asks over a relayed connection, and what it is answered with, are messages of the type 100, 300 being the last:
/// <https://github.com/libp2p/specs/blob/master/relay/DCUtR.md>.
async fn answer(mut stream: Stream, addresses: &[Multiaddr]) -> std::io::Result<()> {
    let mut length = [0; 1];
    stream.read_exact(&mut length).await?;
    let mut asked = vec![0; usize::from(length[0])];
    stream.read_exact(&mut asked).await?;
    let mut message = vec![8, 100];
    for address in addresses {
        let bytes = address.to_vec();
        message.extend([18, u8::try_from(bytes.len()).unwrap()]);
        message.extend(bytes);
    }
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[(length & 127) as u8 | 128, (length >> 7) as u8]).await?;
    stream.write_all(&message).await?;
    stream.flush().await?;
    // Its last word: now both are to dial.
    stream.read_exact(&mut [0; 1]).await
}

#[tokio::test]
async fn nobody_is_dialled_in_crowds_because_a_stranger_says_so() {
    let relay = relay().await;
    let (hidden, at) = hidden(&relay).await;
    let (mut dialled, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let victim = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses
            .push(format!("/ip4/127.0.0.1/tcp/{}", victim.local_addr().unwrap().port()).parse().unwrap());
        dialled.push(victim);
    }
    let mut stranger = stranger();
    let protocol = StreamProtocol::new("/libp2p/dcutr");
    let mut asked = stranger.behaviour().streams.new_control().accept(protocol).unwrap();
    let answers = tokio::spawn(async move {
        while let Some((_, stream)) = asked.next().await {
            let _ = answer(stream, &addresses).await;
        }
    });
    connected(&mut stranger, relay.address().await).await;
    connected(&mut stranger, at).await;
    let run = tokio::spawn(async move {
        loop {
            stranger.select_next_some().await;
        }
    });
    // Three attempts, and it is given up.
    eventually("the attempts are refused", || async { hidden.refused("hole_punch").await == 3 }).await;
    let knocked = dialled.into_iter().map(|victim| async move {
        let accept = tokio::time::timeout(Duration::from_millis(1), victim.accept());
        accept.await.is_ok().then_some(victim.local_addr().unwrap().port())
    });
    let knocked: HashSet<_> = futures::future::join_all(knocked).await.into_iter().flatten().collect();
    assert_eq!(knocked, HashSet::new(), "ports where somebody was dialled");
    run.abort();
    answers.abort();
}
