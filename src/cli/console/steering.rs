//! Commands that look at the node's past and say who is let in.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::session::{Peers, Session, words};
use crate::control::percent;
use crate::p2p::{BlockedPeer, Message, PeerInfo, Topic};
use libp2p::PeerId;

/// Messages of each topic that are shown to whoever attaches …
const EARLIER: usize = 5;
/// … of so many topics.
const EARLIER_TOPICS: usize = 8;

#[derive(Deserialize)]
struct Past {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Blocked {
    blocked: Vec<BlockedPeer>,
}

impl Session {
    /// The last messages of a topic.
    pub(super) async fn history(&self, topic: &Topic, count: usize) -> Result<Vec<Message>, String> {
        let target = format!("/v1/topics/{}/messages?limit={count}", percent::encode(topic.as_str()));
        let past: Past = self.client().get(&target).await.map_err(words)?;
        Ok(past.messages)
    }

    /// What was said before this console came. Nothing when the node does not answer: the next command will tell.
    pub(super) async fn earlier(&self) -> Vec<Message> {
        let mut earlier = Vec::new();
        let topics = self.topic_infos().await.unwrap_or_default();
        for topic in topics.iter().filter(|topic| topic.messages > 0).take(EARLIER_TOPICS) {
            earlier.extend(self.history(&topic.topic, EARLIER).await.unwrap_or_default());
        }
        earlier
    }

    pub(super) async fn connected(&self) -> Result<Vec<PeerInfo>, String> {
        self.client().get::<Peers>("/v1/peers").await.map(|peers| peers.peers).map_err(words)
    }

    async fn blocked_peers(&self) -> Result<Vec<BlockedPeer>, String> {
        self.client().get::<Blocked>("/v1/peers/blocked").await.map(|list| list.blocked).map_err(words)
    }

    pub(super) async fn connected_named(&self, typed: &str) -> Result<PeerId, String> {
        self.resolve(typed, self.connected().await?.iter().map(|peer| peer.peer_id)).await
    }

    pub(super) async fn disconnect(&self, typed: &str) -> Result<String, String> {
        let peer = self.connected_named(typed).await?;
        let body = json!({ "peer_id": peer.to_base58() });
        let reply: Value = self.client().post("/v1/peers/disconnect", &body).await.map_err(words)?;
        let closed = reply["closed"].as_bool().unwrap_or(true);
        Ok(if closed { format!("disconnected from {peer}") } else { format!("{peer} was not connected") })
    }

    pub(super) async fn block(&self, typed: &str, time: Option<Duration>) -> Result<String, String> {
        let peer = self.connected_named(typed).await?;
        let seconds = time.map(|time| time.as_secs());
        let body = json!({ "peer_id": peer.to_base58(), "seconds": seconds });
        let reply: Value = self.client().post("/v1/peers/block", &body).await.map_err(words)?;
        let time =
            seconds.map_or_else(|| "until /unblock".to_owned(), |seconds| format!("for {}", span(seconds)));
        Ok(match reply["kept"].as_bool() {
            Some(false) => {
                format!("blocked {peer} {time}, but only until the node ends: its disk cannot keep it")
            }
            _ => format!("blocked {peer} {time}"),
        })
    }

    pub(super) async fn unblock(&self, typed: &str) -> Result<String, String> {
        let blocked = self.blocked_peers().await?;
        let peer = self.resolve(typed, blocked.iter().map(|blocked| blocked.peer_id)).await?;
        let body = json!({ "peer_id": peer.to_base58() });
        let reply: Value = self.client().post("/v1/peers/unblock", &body).await.map_err(words)?;
        let changed = reply["changed"].as_bool().unwrap_or(true);
        Ok(if changed { format!("{peer} is let in again") } else { format!("{peer} was not blocked") })
    }

    pub(super) async fn blocked(&self) -> Result<Vec<String>, String> {
        let blocked = self.blocked_peers().await?;
        if blocked.is_empty() {
            return Ok(vec!["nobody is blocked".to_owned()]);
        }
        Ok(blocked.iter().map(line).collect())
    }
}

fn line(blocked: &BlockedPeer) -> String {
    let by = match blocked.by {
        crate::p2p::BlockedBy::User => "by hand",
        crate::p2p::BlockedBy::Node => "sent too much or rubbish",
    };
    let left = blocked
        .seconds_left
        .map_or_else(|| "until /unblock".to_owned(), |seconds| format!("{} left", span(seconds)));
    format!("{}  {by}  {left}", blocked.peer_id)
}

fn span(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
