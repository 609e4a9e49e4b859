//! What one node admits: connections by role, and messages by peer.

mod admission;
mod config;
mod connections;

use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;

use super::config::NodeConfig;
use crate::token_bucket::{Rate, TokenBucket};
pub(crate) use admission::{Admission, NotAdmitted};
pub use config::Limits;
pub(crate) use connections::Connections;

/// What a node is in its network; decides how many strangers it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// Everybody's first contact: lets many in, looks for nobody but its own bootnodes.
    Bootnode,
    /// Keeps between `low_peers` and `high_peers` connections.
    Node,
}

/// Fewest connections that a node may have by default, whatever `high_peers` is.
const FEWEST: u32 = 16;

/// Connections of a node, all together; see [`Limits::total_connections`].
pub(super) fn max_connections(config: &NodeConfig) -> u32 {
    config.limits.total_connections.unwrap_or_else(|| config.high_peers.saturating_mul(2).max(FEWEST))
}

/// One author's rate, in the tokens of [`cost_of`]. The defaults: a person types one message a second, a script may send a page
/// of lines at once.
#[must_use]
pub fn author_rate(config: &NodeConfig) -> Rate {
    Rate::per_second(config.message_burst, config.message_rate)
}

/// Bytes of a message that cost as much as the message itself: about a page of text.
const BYTES_PER_TOKEN: usize = 4_096;

/// What a message of `bytes` costs: one token, and one more for every 4 KiB. A line costs 1, the largest message 33.
#[must_use]
pub fn cost_of(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX)
}

/// Authors with a bucket of their own.
pub const MAX_AUTHORS: usize = 1_024;

/// A [token bucket](TokenBucket) per peer, from which each message takes what it [costs](cost_of).
///
/// Worked example with burst 500 and 50 a second: an author silent for long sends 600 short messages in one instant; 500
/// pass, 100 are refused. A second later 50 more pass. After 10 s of silence the bucket is full again. Of texts of 64 KiB, at 17
/// tokens each, 29 pass at once and three a second after that.
///
/// A bounded number of peers is remembered. For one more, buckets that have filled up again are forgotten, which changes
/// nothing for them; when none has, the newcomer is refused.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    places: usize,
    buckets: HashMap<PeerId, TokenBucket>,
}

impl RateLimiter {
    /// A limiter that remembers `places` peers, each with a full bucket at first.
    #[must_use]
    pub fn new(rate: Rate, places: usize) -> Self {
        Self { rate, places, buckets: HashMap::new() }
    }

    /// Whether something of `peer` that costs `cost` passes at `now`; takes the tokens if so.
    pub fn admit(&mut self, peer: PeerId, cost: u32, now: Instant) -> bool {
        if self.buckets.len() >= self.places && !self.buckets.contains_key(&peer) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= self.places {
                return false;
            }
        }
        self.buckets.entry(peer).or_insert_with(|| TokenBucket::full(self.rate, now)).take(cost, now)
    }

    /// Forgets what `peer` has taken.
    pub fn forget(&mut self, peer: PeerId) {
        self.buckets.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::p2p::topics::{MAX_ENCODED_BYTES, MAX_TEXT_BYTES};

    fn limiter() -> RateLimiter {
        RateLimiter::new(author_rate(&NodeConfig::default()), MAX_AUTHORS)
    }

    fn admitted(
        limiter: &mut RateLimiter,
        peer: PeerId,
        messages: usize,
        bytes: usize,
        now: Instant,
    ) -> usize {
        (0..messages).filter(|_| limiter.admit(peer, cost_of(bytes), now)).count()
    }

    #[test]
    fn the_worked_example_holds() {
        let (mut limiter, peer, start) = (limiter(), PeerId::random(), Instant::now());
        assert_eq!(admitted(&mut limiter, peer, 600, 20, start), 500);
        assert_eq!(admitted(&mut limiter, peer, 600, 20, start + Duration::from_secs(1)), 50);
        let rested = start + Duration::from_secs(11);
        assert_eq!(admitted(&mut limiter, peer, 600, MAX_TEXT_BYTES, rested), 29);
        let second = Duration::from_secs(1);
        let later: usize =
            (1..=60).map(|n| admitted(&mut limiter, peer, 9, MAX_TEXT_BYTES, rested + n * second)).sum();
        assert_eq!(later, (500 - 29 * 17 + 60 * 50) / 17);
        assert_eq!(cost_of(MAX_ENCODED_BYTES), 33);
    }

    #[test]
    fn one_peer_does_not_use_up_anothers_tokens() {
        let (mut limiter, now) = (limiter(), Instant::now());
        assert_eq!(admitted(&mut limiter, PeerId::random(), 600, 20, now), 500);
        assert_eq!(admitted(&mut limiter, PeerId::random(), 1, 20, now), 1);
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let (mut limiter, now) = (limiter(), Instant::now());
        for _ in 0..3 * MAX_AUTHORS {
            limiter.admit(PeerId::random(), 1, now);
        }
        assert_eq!(limiter.buckets.len(), MAX_AUTHORS);
        assert!(!limiter.admit(PeerId::random(), 1, now), "nobody can be forgotten yet");
        assert!(limiter.admit(PeerId::random(), 1, now + Duration::from_secs(1)));
    }

    proptest! {
        /// Splitting a text into more messages never buys more bytes a token, and a larger one never costs less.
        #[test]
        fn size_is_paid_for(bytes in 0..MAX_ENCODED_BYTES, more in 0..MAX_ENCODED_BYTES) {
            prop_assert!(cost_of(bytes) >= 1);
            prop_assert!(cost_of(bytes + more) >= cost_of(bytes));
            prop_assert!(cost_of(bytes) + cost_of(more) >= cost_of(bytes + more));
        }
    }
}
