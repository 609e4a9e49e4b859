//! Private messages.

use hippius::p2p::direct::{MessageError, ReachError};
use libp2p::PeerId;

use super::*;

#[tokio::test]
async fn a_private_message_is_delivered_and_confirmed() {
    let receiver = bootnode().await;
    let sender = connected_to(&receiver).await;
    let mut events = receiver.handle.subscribe_events().unwrap();
    let text = "hi \"there\"\n日本 \u{1b}[2J";
    let id = sender.handle.send_message(receiver.handle.peer_id(), text).await.unwrap();
    let message = loop {
        if let Event::PrivateMessage(message) = next_event(&mut events).await {
            break message;
        }
    };
    assert_eq!((message.id.as_str(), message.text.as_str()), (id.as_str(), text));
    assert_eq!(message.from, sender.handle.peer_id());
    let largest = "x".repeat(64 * 1024);
    sender.handle.send_message(receiver.handle.peer_id(), largest.as_str()).await.unwrap();
    let error = sender.handle.send_message(receiver.handle.peer_id(), largest + "x").await.unwrap_err();
    assert_eq!(error, MessageError::TooLarge);
    // As long as it may be, but twice as long as that when written as JSON.
    let escaped = "\u{1}".repeat(64 * 1024);
    let error = sender.handle.send_message(receiver.handle.peer_id(), escaped).await.unwrap_err();
    assert_eq!(error, MessageError::TooLarge);
}

#[tokio::test]
async fn a_peer_that_is_known_but_not_connected_is_connected() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let quiet = |topics: &[&str]| NodeConfig {
        bootnodes: vec![address.clone()],
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        // Neither looks for others by itself.
        low_peers: 0,
        ..NodeConfig::default()
    };
    let first = node(NodeRole::Node, quiet(&[])).await;
    let second = node(NodeRole::Node, quiet(&[])).await;
    eventually("both are connected to the bootnode and it knows where they are", || async {
        let peers = bootnode.handle.peers().await.unwrap();
        peers.len() == 2 && peers.iter().all(|peer| peer.agent.is_some())
    })
    .await;
    assert_eq!((first.peers().await, second.peers().await), (1, 1));
    eventually("the message arrives", || async {
        first.handle.send_message(second.handle.peer_id(), "hi").await.is_ok()
    })
    .await;
    assert_eq!(first.peers().await, 2);
    let stranger = PeerId::random();
    let error = first.handle.send_message(stranger, "hi").await.unwrap_err();
    assert_eq!(error, MessageError::Reach(ReachError::Unknown(stranger)));
    let error = first.handle.send_message(first.handle.peer_id(), "hi").await.unwrap_err();
    assert_eq!(error, MessageError::Reach(ReachError::Myself));
    let gone = second.handle.peer_id();
    drop(second.stop().await);
    eventually("the loss is noticed", || async { first.peers().await == 1 }).await;
    let error = first.handle.send_message(gone, "hi").await.unwrap_err();
    let unreached =
        matches!(error, MessageError::Reach(ReachError::Unreachable { .. } | ReachError::Unknown(_)));
    assert!(unreached, "{error}");
}

#[tokio::test]
async fn a_flood_of_private_messages_is_refused_and_counted() {
    let receiver = bootnode().await;
    let sender = connected_to(&receiver).await;
    let peer = receiver.handle.peer_id();
    let mut refused = 0;
    for _ in 0..150 {
        match sender.handle.send_message(peer, "x").await {
            Ok(_) => {}
            Err(MessageError::TooFast) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "150 at once are more than a full bucket and what comes back meanwhile");
    assert_eq!(receiver.refused("private_message").await, refused);
    let other = connected_to(&receiver).await;
    other.handle.send_message(peer, "one sender does not use up another's").await.unwrap();
}
