//! What one node admits: connections by role, and messages by peer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::connection_limits::ConnectionLimits;

use super::config::NodeConfig;

/// What a node is in its network; decides how many strangers it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// Everybody's first contact: lets many in, looks for nobody but its own bootnodes.
    Bootnode,
    /// Keeps between `low_peers` and `high_peers` connections.
    Node,
}

/// Connections that are being made to us at once. Each costs a handshake of some 30 KB and a millisecond, for a stranger
/// who may never finish it; a bootnode takes the start of a whole swarm.
const PENDING_INCOMING: (u32, u32) = (64, 512);
/// Connections that we are making at once: the manager dials at most [`MAX_DIALS`](super::peers::MAX_DIALS), the rest is
/// for `connect` commands.
const PENDING_OUTGOING: u32 = 24;
/// Connections with one peer: one, and a second for the moment when both sides dialled each other.
const PER_PEER: u32 = 2;

/// The connection limits of a node. The total is twice the upper mark and 16, since the manager lets new connections
/// live for a while before it trims; of these, `low_peers` are kept for connections that we chose ourselves, so that
/// strangers cannot fill every place (eclipse).
#[must_use]
pub fn connection_limits(role: NodeRole, config: &NodeConfig) -> ConnectionLimits {
    let total = config.high_peers.saturating_mul(2).saturating_add(16);
    let pending = match role {
        NodeRole::Node => PENDING_INCOMING.0,
        NodeRole::Bootnode => PENDING_INCOMING.1,
    };
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(pending))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING))
        .with_max_established(Some(total))
        .with_max_established_incoming(Some(total.saturating_sub(config.low_peers).max(1)))
        .with_max_established_per_peer(Some(PER_PEER))
}

/// How fast messages may come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Messages that may come at once after a silence.
    pub burst: f64,
    /// Messages a second in the long run.
    pub per_second: f64,
}

impl Rate {
    /// One author's rate. The defaults: a person types one message a second, a script may send a page of lines at once.
    #[must_use]
    pub fn of_author(config: &NodeConfig) -> Self {
        Self { burst: config.message_burst.into(), per_second: config.message_rate.into() }
    }

    /// One neighbour's rate, with all that it passes on for others: ten authors'.
    #[must_use]
    pub fn of_neighbour(config: &NodeConfig) -> Self {
        let author = Self::of_author(config);
        Self { burst: author.burst * 10.0, per_second: author.per_second * 10.0 }
    }
}

/// Peers with a bucket of their own.
const MAX_BUCKETS: usize = 1_024;

/// A token bucket per peer.
///
/// Each bucket holds up to `burst` tokens and gains `per_second` of them every second; a message takes one, and without
/// one it is refused. Worked example with burst 500 and 50 a second: an author silent for long sends 600 messages
/// in one instant; 500 pass, 100 are refused. A second later 50 more pass. After 10 s of silence the bucket is full again.
///
/// At most 1,024 peers are remembered. For one more, buckets that have filled up again are forgotten, which changes
/// nothing for them; when none has, the newcomer is refused.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    buckets: HashMap<PeerId, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    /// A limiter in which every peer's bucket is full.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Whether a message of `peer` passes at `now`; takes a token if so.
    pub fn admit(&mut self, peer: PeerId, now: Instant) -> bool {
        let rate = self.rate;
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&peer) {
            self.buckets.retain(|_, bucket| bucket.refilled(rate, now) < rate.burst);
            if self.buckets.len() >= MAX_BUCKETS {
                return false;
            }
        }
        let bucket = self.buckets.entry(peer).or_insert(Bucket { tokens: rate.burst, at: now });
        bucket.tokens = bucket.refilled(rate, now);
        bucket.at = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

impl Bucket {
    fn refilled(&self, rate: Rate, now: Instant) -> f64 {
        let elapsed: Duration = now.saturating_duration_since(self.at);
        (self.tokens + elapsed.as_secs_f64() * rate.per_second).min(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limiter: &mut RateLimiter, peer: PeerId, messages: usize, now: Instant) -> usize {
        (0..messages).filter(|_| limiter.admit(peer, now)).count()
    }

    #[test]
    fn the_worked_example_holds() {
        let mut limiter = RateLimiter::new(Rate::of_author(&NodeConfig::default()));
        let (peer, start) = (PeerId::random(), Instant::now());
        assert_eq!(admitted(&mut limiter, peer, 600, start), 500);
        assert_eq!(admitted(&mut limiter, peer, 600, start + Duration::from_secs(1)), 50);
        assert_eq!(admitted(&mut limiter, peer, 600, start + Duration::from_secs(11)), 500);
    }

    #[test]
    fn one_peer_does_not_use_up_anothers_tokens() {
        let mut limiter = RateLimiter::new(Rate::of_author(&NodeConfig::default()));
        let now = Instant::now();
        assert_eq!(admitted(&mut limiter, PeerId::random(), 600, now), 500);
        assert_eq!(admitted(&mut limiter, PeerId::random(), 1, now), 1);
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let mut limiter = RateLimiter::new(Rate::of_author(&NodeConfig::default()));
        let now = Instant::now();
        for _ in 0..3 * MAX_BUCKETS {
            limiter.admit(PeerId::random(), now);
        }
        assert_eq!(limiter.buckets.len(), MAX_BUCKETS);
        assert!(!limiter.admit(PeerId::random(), now), "nobody can be forgotten yet");
        assert!(limiter.admit(PeerId::random(), now + Duration::from_secs(1)));
    }
}
