//! What users look at and change by hand: topics with their mesh, past messages, who is kept away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tokio::sync::oneshot;

use super::Runner;
use crate::p2p::event::Event;
use crate::p2p::handle::{BlockError, BlockedPeer, TopicInfo};
use crate::p2p::peers;
use crate::p2p::topics::{Message, Topic};

impl Runner {
    pub(super) fn topic_infos(&self) -> Vec<TopicInfo> {
        let gossip = &self.swarm.behaviour().gossip;
        let texts = |mut peers: Vec<PeerId>| {
            peers.sort_unstable();
            peers.iter().map(|peer| peer.to_base58()).collect()
        };
        let info = |topic: &Topic| TopicInfo {
            topic: topic.clone(),
            subscribers: texts(gossip.subscribers(topic)),
            mesh: texts(gossip.mesh(topic)),
            waiting: self.memory.waiting.count(topic),
            messages: self.memory.history.count(topic),
        };
        self.topics.iter().map(info).collect()
    }

    /// `None` where the topic is not joined.
    pub(super) fn past_messages(&self, topic: &Topic, limit: usize) -> Option<Vec<Arc<Message>>> {
        self.topics.contains(topic).then(|| self.memory.history.last(topic, limit))
    }

    pub(super) fn block(
        &mut self,
        peer: PeerId,
        time: Option<Duration>,
        reply: oneshot::Sender<Result<bool, BlockError>>,
    ) {
        if peer == *self.swarm.local_peer_id() {
            let _ = reply.send(Err(BlockError::Myself));
            return;
        }
        let now = Instant::now();
        if self.swarm.behaviour().gossip.blocklist(|list| list.by_hand(peer, time, now)).is_err() {
            let _ = reply.send(Err(BlockError::Full));
            return;
        }
        tracing::info!(%peer, "blocked by the user");
        self.inbox.push_back(peers::Event::Unwanted(peer));
        let _ = self.swarm.disconnect_peer_id(peer);
        self.announce(Event::PeerBlocked { peer, by: crate::p2p::BlockedBy::User });
        self.keep_blocks(|kept| reply.send(Ok(kept)).is_ok());
    }

    pub(super) fn unblock(&mut self, peer: PeerId, reply: oneshot::Sender<bool>) {
        let now = Instant::now();
        if !self.swarm.behaviour().gossip.blocklist(|list| list.unblock(peer, now)) {
            let _ = reply.send(false);
            return;
        }
        tracing::info!(%peer, "let in again by the user");
        self.announce(Event::PeerUnblocked { peer });
        self.keep_blocks(|_| reply.send(true).is_ok());
    }

    /// Answers only when the disk has it, or has refused it: who is told that a peer is blocked may rely on it.
    fn keep_blocks(&mut self, answer: impl FnOnce(bool) -> bool + Send + 'static) {
        let memory = &mut self.memory;
        let written = self.swarm.behaviour().gossip.blocklist(|list| memory.write_blocks(list));
        tokio::spawn(async move { answer(written.await.unwrap_or(false)) });
    }

    pub(super) fn blocked(&self) -> Vec<BlockedPeer> {
        let list = self.swarm.behaviour().gossip.blocklist(|list| list.list(Instant::now()));
        list.into_iter()
            .map(|(peer_id, by, left)| BlockedPeer {
                peer_id,
                by,
                seconds_left: left.map(|left| left.as_secs()),
            })
            .collect()
    }
}
