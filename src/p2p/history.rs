//! The last messages of each joined topic, for whoever looks in later. Pure; in memory only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::topics::{Message, Topic};

/// Messages kept of each topic: what fits a few screens.
pub const MAX_MESSAGES: usize = 100;
/// Bytes kept of all topics together. Neighbours decide what comes, so this is what they can make a node keep.
pub const MAX_BYTES: usize = 512 * 1024;
/// What a message takes beside its text.
const OVERHEAD: usize = 256;

#[derive(Debug, Default)]
struct Past {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl Past {
    fn drop_oldest(&mut self) -> usize {
        let freed = self.messages.pop_front().map_or(0, |message| size(&message));
        self.bytes -= freed;
        freed
    }
}

/// See the module's comment. Above [`MAX_BYTES`] the topic that takes the most room loses its oldest, so that a loud one
/// costs a quiet one nothing.
#[derive(Debug, Default)]
pub(crate) struct History {
    topics: BTreeMap<Topic, Past>,
    bytes: usize,
}

fn size(message: &Message) -> usize {
    message.text.len() + OVERHEAD
}

impl History {
    /// Keeps a message, this node's own or another's.
    pub(crate) fn keep(&mut self, message: Arc<Message>) {
        let bytes = size(&message);
        let past = self.topics.entry(message.topic.clone()).or_default();
        past.messages.push_back(message);
        past.bytes += bytes;
        self.bytes += bytes;
        if past.messages.len() > MAX_MESSAGES {
            self.bytes -= past.drop_oldest();
        }
        while self.bytes > MAX_BYTES
            && let Some(largest) = self.topics.values_mut().max_by_key(|past| past.bytes)
        {
            self.bytes -= largest.drop_oldest();
        }
    }

    /// The last `limit` messages of `topic`, oldest first.
    pub(crate) fn last(&self, topic: &Topic, limit: usize) -> Vec<Arc<Message>> {
        let Some(past) = self.topics.get(topic) else { return Vec::new() };
        let skip = past.messages.len().saturating_sub(limit);
        past.messages.iter().skip(skip).cloned().collect()
    }

    /// How many are kept of `topic`.
    pub(crate) fn count(&self, topic: &Topic) -> usize {
        self.topics.get(topic).map_or(0, |past| past.messages.len())
    }

    /// Forgets a topic that was left.
    pub(crate) fn forget(&mut self, topic: &Topic) {
        if let Some(past) = self.topics.remove(topic) {
            self.bytes -= past.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::PeerId;

    fn keep(history: &mut History, topic: &str, text: &str) {
        let message = Message {
            id: "1".into(),
            from: PeerId::random(),
            topic: topic.parse().unwrap(),
            sent_at: 0,
            text: text.into(),
        };
        history.keep(Arc::new(message));
    }

    fn texts(history: &History, topic: &str, limit: usize) -> Vec<String> {
        history.last(&topic.parse().unwrap(), limit).iter().map(|message| message.text.clone()).collect()
    }

    #[test]
    fn the_last_messages_are_kept_oldest_first() {
        let mut history = History::default();
        for index in 0..MAX_MESSAGES + 5 {
            keep(&mut history, "a", &index.to_string());
        }
        assert_eq!(texts(&history, "a", 2), ["103", "104"]);
        let all = texts(&history, "a", usize::MAX);
        assert_eq!((all.len(), all[0].as_str()), (MAX_MESSAGES, "5"));
        assert!(texts(&history, "b", 5).is_empty() && texts(&history, "a", 0).is_empty());
        history.forget(&"a".parse().unwrap());
        assert_eq!((history.bytes, history.count(&"a".parse().unwrap())), (0, 0));
    }

    #[test]
    fn a_loud_topic_is_cut_and_a_quiet_one_stays() {
        let mut history = History::default();
        keep(&mut history, "quiet", "still here");
        let long = "x".repeat(64 * 1024);
        for _ in 0..50 {
            keep(&mut history, "loud", &long);
            assert!(history.bytes <= MAX_BYTES);
        }
        assert_eq!(texts(&history, "quiet", 5), ["still here"]);
        assert_eq!(texts(&history, "loud", 50).len(), (MAX_BYTES - 300) / (long.len() + OVERHEAD));
        let counted: usize = history.topics.values().map(|past| past.bytes).sum();
        assert_eq!(counted, history.bytes);
    }
}
