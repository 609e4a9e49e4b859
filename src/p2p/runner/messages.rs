//! Topic messages in and out.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId};

use super::Runner;
use crate::p2p::blocklist::BlockedBy;
use crate::p2p::event::{Event, GivenUp};
use crate::p2p::handle::{PublishError, Published};
use crate::p2p::limits::cost_of;
use crate::p2p::metrics::Refused;
use crate::p2p::peers;
use crate::p2p::topics::{Message, Topic};

impl Runner {
    /// Checks a message before anybody else sees it: a wrong one is rejected, one too many ignored, and only the rest is
    /// passed on and announced. Signature and sequence number were checked by gossipsub, the neighbour's rate at the door.
    pub(super) fn on_message(&mut self, from: PeerId, id: &MessageId, message: &gossipsub::Message) {
        let acceptance = match self.judge(message) {
            Ok(message) => {
                self.instruments.messages_received.add(1, &[]);
                if let Some(neighbour) = self.peers.get(&from) {
                    neighbour.traffic.message_received();
                }
                let message = Arc::new(message);
                self.memory.history.keep(message.clone());
                self.announce(Event::Message(message));
                MessageAcceptance::Accept
            }
            Err((what, acceptance)) => {
                self.refusals.add(what, 1);
                acceptance
            }
        };
        self.settling.add(id.clone(), from, acceptance);
    }

    /// Passes on what has been judged.
    pub(super) fn settle(&mut self) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        for (id, from, acceptance) in self.settling.take() {
            gossip.settle(&id, from, acceptance);
        }
    }

    fn judge(&mut self, message: &gossipsub::Message) -> Result<Message, (Refused, MessageAcceptance)> {
        let Some(author) = message.source else {
            return Err((Refused::Message, MessageAcceptance::Reject));
        };
        let decoded = Message::decode(&message.data, author, message.topic.as_str()).map_err(|error| {
            tracing::debug!(%author, %error, "message refused");
            (Refused::Message, MessageAcceptance::Reject)
        })?;
        if self.authors.admit(author, cost_of(message.data.len()), Instant::now()) {
            Ok(decoded)
        } else {
            Err((Refused::Rate, MessageAcceptance::Ignore))
        }
    }

    /// A neighbour has sent too much or rubbish: it is disconnected, and for a while neither let in nor dialled.
    pub(super) fn on_blocked(&mut self, peer: PeerId) {
        self.announce(Event::PeerBlocked { peer, by: BlockedBy::Node });
        tracing::warn!(%peer, "disconnected and kept away for some minutes: it sent too much or rubbish");
        self.instruments.neighbours_blocked.add(1, &[]);
        self.inbox.push_back(peers::Event::Unwanted(peer));
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    pub(super) fn publish(&mut self, topic: Topic, text: String) -> Result<Published, PublishError> {
        if !self.topics.contains(&topic) {
            return Err(PublishError::NotJoined(topic));
        }
        let from = *self.swarm.local_peer_id();
        let sent_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let id = format!("{:032x}", rand::random::<u128>());
        let message = Message { id: id.clone(), from, topic, sent_at, text };
        let bytes = message.encode().map_err(|_| PublishError::TooLarge)?;
        if !self.authors.admit(from, cost_of(bytes.len()), Instant::now()) {
            return Err(PublishError::TooFast);
        }
        // What waits has been written before. With somebody there, nothing does.
        let sent = if self.memory.waiting.count(&message.topic) == 0 {
            self.hand_on(&message.topic, &bytes)?
        } else {
            0
        };
        if sent == 0 {
            let waiting = self.memory.waiting.add(&message.topic, id.clone(), bytes, Instant::now());
            waiting.map_err(|_| PublishError::NobodyThere(message.topic.clone()))?;
        }
        self.memory.history.keep(Arc::new(message));
        Ok(Published { id, peers: sent, waiting: sent == 0 })
    }

    /// Gives a message of this node to the subscribers of its topic; says to how many.
    fn hand_on(&mut self, topic: &Topic, bytes: &[u8]) -> Result<usize, PublishError> {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        // A message of one's own goes to every connected subscriber (flood publishing), not only to the mesh.
        let subscribers = gossip.subscribers(topic);
        match gossip.publish(topic, bytes.to_vec()) {
            Ok(_) => {}
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => return Ok(0),
            Err(gossipsub::PublishError::AllQueuesFull(_)) => return Err(PublishError::Busy),
            Err(gossipsub::PublishError::MessageTooLarge) => return Err(PublishError::TooLarge),
            Err(error) => return Err(PublishError::Failed(error.to_string())),
        }
        self.instruments.messages_sent.add(1, &[]);
        for subscriber in &subscribers {
            if let Some(peer) = self.peers.get(subscriber) {
                peer.traffic.message_sent();
            }
        }
        Ok(subscribers.len())
    }

    /// Somebody has joined `topic`: what waits there is handed on.
    pub(super) fn hand_on_waiting(&mut self, topic: &Topic) {
        for held in self.memory.waiting.take(topic) {
            let topic = topic.clone();
            let outcome = match self.hand_on(&topic, &held.bytes) {
                Ok(peers) if peers > 0 => Event::MessageDelivered { topic, id: held.id, peers },
                outcome => {
                    tracing::debug!(%topic, ?outcome, "a message that waited could not be handed on");
                    Event::MessageGivenUp { topic, id: held.id, reason: GivenUp::Failed }
                }
            };
            self.announce(outcome);
        }
    }

    /// Nobody has come for these messages in time.
    pub(super) fn expire_waiting(&mut self, now: Instant) {
        for (topic, held) in self.memory.waiting.expired(now) {
            self.announce(Event::MessageGivenUp { topic, id: held.id, reason: GivenUp::NobodyCame });
        }
    }

    /// Nobody shall have what waits on `topic` any more.
    pub(super) fn give_up(&mut self, topic: &Topic, reason: GivenUp) {
        for held in self.memory.waiting.take(topic) {
            self.announce(Event::MessageGivenUp { topic: topic.clone(), id: held.id, reason });
        }
    }

    /// The topics that `peer` has joined, in alphabetical order.
    pub(super) fn topics_of(&self, peer: PeerId) -> Vec<String> {
        let mut topics: Vec<String> = self
            .swarm
            .behaviour()
            .gossip
            .all_peers()
            .filter(|(other, _)| **other == peer)
            .flat_map(|(_, topics)| topics.into_iter().map(|topic| topic.as_str().to_owned()))
            .collect();
        topics.sort_unstable();
        topics
    }
}
