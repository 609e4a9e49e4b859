//! What happens in a node, in the words of its users, and the stream that they listen to.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

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
    /// The subscriber was too slow: this many events are lost to it.
    Lagged {
        /// How many.
        lost: u64,
    },
}

impl Event {
    /// The topic this is about, if it is about one.
    #[must_use]
    pub fn topic(&self) -> Option<&Topic> {
        match self {
            Event::PeerJoinedTopic { topic, .. } | Event::PeerLeftTopic { topic, .. } => Some(topic),
            Event::Message(message) => Some(&message.topic),
            _ => None,
        }
    }
}

/// A message behind its `Arc`, which costs subscribers no copy of the text.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Message;

    pub fn serialize<S: Serializer>(message: &Arc<Message>, serializer: S) -> Result<S::Ok, S::Error> {
        Message::serialize(message, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Message>, D::Error> {
        Message::deserialize(deserializer).map(Arc::new)
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
        assert_eq!(json["type"], "message");
        assert_eq!(json["text"], "hi");
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
