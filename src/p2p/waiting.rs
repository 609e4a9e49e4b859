//! Messages of this node for which nobody was there yet. Pure.
//!
//! Whoever has just started, or just opened a topic, writes before the first subscriber is connected. Such a message waits for one
//! instead of being lost, for a short time and in small number: a topic is no mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::topics::Topic;

/// How long a message waits: a node that starts together with its network has its first neighbours within a second or two, and one
/// that lost them all has others again within this time.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait on one topic. Half the queue to one peer, so that the first to come can take them all.
pub const MAX_WAITING: usize = 32;
/// Their bytes: three of the largest.
pub const MAX_WAITING_BYTES: usize = 512 * 1024;

/// A message, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) bytes: Vec<u8>,
    until: Instant,
}

/// No more messages can wait on the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The waiting messages of all topics, each topic's in the order of writing.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<Topic, VecDeque<Held>>);

impl Waiting {
    /// Keeps a message until somebody comes.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn add(
        &mut self,
        topic: &Topic,
        id: String,
        bytes: Vec<u8>,
        now: Instant,
    ) -> Result<(), Full> {
        let queue = self.0.entry(topic.clone()).or_default();
        let held: usize = queue.iter().map(|held| held.bytes.len()).sum();
        if queue.len() >= MAX_WAITING || held + bytes.len() > MAX_WAITING_BYTES {
            return Err(Full);
        }
        queue.push_back(Held { id, bytes, until: now + PATIENCE });
        Ok(())
    }

    /// How many wait on `topic`.
    pub(crate) fn count(&self, topic: &Topic) -> usize {
        self.0.get(topic).map_or(0, VecDeque::len)
    }

    /// All that wait on `topic`: somebody has come, or nobody shall any more.
    pub(crate) fn take(&mut self, topic: &Topic) -> VecDeque<Held> {
        self.0.remove(topic).unwrap_or_default()
    }

    /// Those that have waited long enough.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(Topic, Held)> {
        let mut expired = Vec::new();
        for (topic, queue) in &mut self.0 {
            while queue.front().is_some_and(|held| held.until <= now) {
                expired.extend(queue.pop_front().map(|held| (topic.clone(), held)));
            }
        }
        self.0.retain(|_, queue| !queue.is_empty());
        expired
    }

    /// When the next will have.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.0.values().filter_map(|queue| queue.front()).map(|held| held.until).min()
    }

    /// The topics on which something waits.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.0.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        name.parse().unwrap()
    }

    #[test]
    fn messages_wait_in_order_and_for_their_time() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        let second = start + Duration::from_secs(1);
        waiting.add(&topic("a"), "1".into(), vec![1], start).unwrap();
        waiting.add(&topic("a"), "2".into(), vec![2], second).unwrap();
        waiting.add(&topic("b"), "3".into(), vec![3], start).unwrap();
        assert_eq!(waiting.next_expiry(), Some(start + PATIENCE));
        assert!(waiting.expired(start + PATIENCE - Duration::from_millis(1)).is_empty());
        let expired = waiting.expired(start + PATIENCE);
        let ids: Vec<&str> = expired.iter().map(|(_, held)| held.id.as_str()).collect();
        assert_eq!(ids, ["1", "3"]);
        assert_eq!(waiting.next_expiry(), Some(second + PATIENCE));
        assert_eq!(waiting.count(&topic("b")), 0);
        assert_eq!(waiting.take(&topic("a")).into_iter().map(|held| held.bytes).collect::<Vec<_>>(), [[2]]);
        assert_eq!((waiting.next_expiry(), waiting.topics()), (None, Vec::new()));
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_bytes_on_each_topic() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for index in 0..MAX_WAITING {
            waiting.add(&topic("a"), index.to_string(), vec![0], now).unwrap();
        }
        assert_eq!(waiting.add(&topic("a"), "x".into(), vec![0], now), Err(Full));
        let largest = vec![0; MAX_WAITING_BYTES];
        assert_eq!(waiting.add(&topic("b"), "x".into(), largest.clone(), now), Ok(()));
        assert_eq!(waiting.add(&topic("b"), "y".into(), vec![0], now), Err(Full));
        assert!(
            waiting.take(&topic("b")).len() == 1
                && waiting.add(&topic("b"), "y".into(), largest, now).is_ok()
        );
    }
}
