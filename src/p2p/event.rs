//! What happens in a node, in the words of its users, and the stream that they listen to.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::blocklist::BlockedBy;
use super::direct::PrivateMessage;
use super::direct::transfer::TransferInfo;
use super::topics::{Message, Topic, as_text};

/// Events kept for a subscriber that is slow; a slower one is told how many it lost.
pub(crate) const EVENT_QUEUE: usize = 256;

/// Something that happened in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first line of a stream of events: all that happens from now on will be in it.
    Subscribed,
    /// A peer has its first connection with this node.
    PeerConnected {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
        /// The address at its end.
        address: Multiaddr,
    },
    /// A peer's last connection is closed.
    PeerDisconnected {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
    },
    /// A connected peer joined a topic.
    PeerJoinedTopic {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
        /// Which.
        topic: Topic,
    },
    /// A connected peer left a topic.
    PeerLeftTopic {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
        /// Which.
        topic: Topic,
    },
    /// A message arrived on a topic this node has joined.
    Message(#[serde(with = "shared")] Arc<Message>),
    /// A message of this node that waited for a subscriber was handed on.
    MessageDelivered {
        /// Where.
        topic: Topic,
        /// Which; as the answer to the publishing said.
        id: String,
        /// How many peers it was handed to.
        peers: usize,
    },
    /// A message of this node that waited for a subscriber reached nobody and is dropped.
    MessageGivenUp {
        /// Where.
        topic: Topic,
        /// Which.
        id: String,
        /// Why.
        reason: GivenUp,
    },
    /// A peer is kept away from now on.
    PeerBlocked {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
        /// Who keeps it away.
        by: BlockedBy,
    },
    /// The user lets a peer in again.
    PeerUnblocked {
        /// Who.
        #[serde(with = "as_text")]
        peer: PeerId,
    },
    /// A peer has sent this node a private message.
    PrivateMessage(#[serde(with = "shared")] Arc<PrivateMessage>),
    /// A peer offers a file; somebody must accept or refuse it.
    FileOffered(TransferInfo),
    /// A file is on its way; at most twice a second for each.
    FileProgress(TransferInfo),
    /// A file has arrived and is in the folder of received files.
    FileReceived(TransferInfo),
    /// A file has arrived at the peer, which has confirmed it.
    FileSent(TransferInfo),
    /// A file was refused, cancelled, interrupted or given up.
    FileFailed(TransferInfo),
    /// The subscriber was too slow: this many events are lost to it.
    Lagged {
        /// How many.
        lost: u64,
    },
}

/// Why a waiting message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenUp {
    /// Nobody joined the topic in time.
    NobodyCame,
    /// This node has left the topic.
    Left,
    /// This node stops.
    Stopped,
    /// The peers that came could not take it.
    Failed,
}

impl Event {
    /// Every `type`, as the documentation lists them.
    pub const TYPES: [&str; 17] = [
        "subscribed",
        "peer_connected",
        "peer_disconnected",
        "peer_joined_topic",
        "peer_left_topic",
        "message",
        "message_delivered",
        "message_given_up",
        "peer_blocked",
        "peer_unblocked",
        "private_message",
        "file_offered",
        "file_progress",
        "file_received",
        "file_sent",
        "file_failed",
        "lagged",
    ];

    /// Its `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Subscribed => "subscribed",
            Event::PeerConnected { .. } => "peer_connected",
            Event::PeerDisconnected { .. } => "peer_disconnected",
            Event::PeerJoinedTopic { .. } => "peer_joined_topic",
            Event::PeerLeftTopic { .. } => "peer_left_topic",
            Event::Message(_) => "message",
            Event::MessageDelivered { .. } => "message_delivered",
            Event::MessageGivenUp { .. } => "message_given_up",
            Event::PeerBlocked { .. } => "peer_blocked",
            Event::PeerUnblocked { .. } => "peer_unblocked",
            Event::PrivateMessage(_) => "private_message",
            Event::FileOffered(_) => "file_offered",
            Event::FileProgress(_) => "file_progress",
            Event::FileReceived(_) => "file_received",
            Event::FileSent(_) => "file_sent",
            Event::FileFailed(_) => "file_failed",
            Event::Lagged { .. } => "lagged",
        }
    }

    /// The topic this is about, if it is about one.
    #[must_use]
    pub fn topic(&self) -> Option<&Topic> {
        match self {
            Event::PeerJoinedTopic { topic, .. }
            | Event::PeerLeftTopic { topic, .. }
            | Event::MessageDelivered { topic, .. }
            | Event::MessageGivenUp { topic, .. } => Some(topic),
            Event::Message(message) => Some(&message.topic),
            _ => None,
        }
    }
}

/// A message behind its `Arc`, which costs subscribers no copy of the text.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(
        message: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(message, serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The events of a node from the moment of subscribing on.
#[derive(Debug)]
pub struct EventStream(pub(crate) broadcast::Receiver<Event>);

impl EventStream {
    /// The next event; `None` once the node has stopped. A gap shows as [`Event::Lagged`].
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Event::Lagged { lost }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_lost() {
        let (sender, receiver) = broadcast::channel(4);
        let mut stream = EventStream(receiver);
        let peers: Vec<PeerId> = (0..7).map(|_| PeerId::random()).collect();
        for peer in &peers {
            sender.send(Event::PeerDisconnected { peer: *peer }).unwrap();
        }
        drop(sender);
        assert_eq!(stream.next().await, Some(Event::Lagged { lost: 3 }));
        assert_eq!(stream.next().await, Some(Event::PeerDisconnected { peer: peers[3] }));
        for _ in 0..3 {
            assert!(stream.next().await.is_some());
        }
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn an_event_is_one_flat_json_object() {
        let message = Message {
            id: "1".into(),
            from: PeerId::random(),
            topic: "lobby".parse().unwrap(),
            sent_at: 5,
            text: "hi".into(),
        };
        let event = Event::Message(Arc::new(message));
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], event.kind());
        assert_eq!(json["text"], "hi");
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
