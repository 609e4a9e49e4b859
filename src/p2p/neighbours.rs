//! What a node takes from those it is connected to, and what it does about one that sends too much or rubbish: it is
//! disconnected and kept away for a while. Pure.
//!
//! A neighbour answers for what it passes on as far as it could have known better: a message in the wrong form or of a topic that
//! nobody here wants, and the sheer amount. What only the author did wrong, such as writing too fast, is not held against it
//! (the gossipsub 1.1 specification's `Ignore`).

use std::time::Instant;

use libp2p::PeerId;

use super::blocklist::Blocklist;
use super::config::NodeConfig;
use super::limits::{RateLimiter, author_rate, cost_of, max_connections};
use super::metrics::Refused;
use crate::token_bucket::{Rate, TokenBucket};

/// Authors whose messages one neighbour may pass on at their full rate.
const AUTHORS_PER_NEIGHBOUR: u32 = 10;
/// Patience with a neighbour, in refused tokens: so many times its rate's burst.
const PATIENCE: u32 = 2;
/// … and never less than this, however low the rates are set.
const MIN_PATIENCE: u32 = 200;
/// How often a neighbour may send rubbish in a row before patience is at its end …
const RUBBISH_IN_A_ROW: u32 = 100;
/// … and messages of topics that are not joined: who has just left a busy topic gets many until its neighbours know.
const UNWANTED_IN_A_ROW: u32 = 1_000;
/// RPCs without any message that could be read are allowed a neighbour a quarter as often as messages. What is in them
/// gossipsub does not say: they manage the mesh, a few a second, or the signatures of their messages are wrong, and
/// checking signatures is the most that a stranger can make this node work.
const MESSAGES_PER_SILENT: u32 = 4;
/// What managing a mesh takes, however low the rates are set.
const MIN_SILENT: Rate = Rate::per_second(100, 20);
/// Peers remembered beside the connected ones, so that coming again does not make a bucket full.
const MAX_LEAVERS: usize = 1_024;
/// Bytes of messages that gossipsub may put into its caches. It keeps them for five seconds, so this bounds what all
/// neighbours together can fill: 32 MiB and five times 8 MiB.
const CACHED_BYTES: Rate = Rate::per_second(32 * 1024 * 1024, 8 * 1024 * 1024);
/// What the caches need for a message beside its data.
const CACHE_OVERHEAD: usize = 512;

/// One neighbour's rate, with all that it passes on for others: ten authors'.
fn neighbour_rate(config: &NodeConfig) -> Rate {
    author_rate(config).times(AUTHORS_PER_NEIGHBOUR)
}

/// The neighbours and how they behave.
///
/// Each has a rate, ten authors' by default: 5,000 tokens at once and 500 a second, a short message at one token, and a quarter as many RPCs without a message. And there is
/// patience with each, 10,000 tokens: what is refused for the rate takes its tokens from it, rubbish and each RPC
/// too many a hundredth of all; 500 tokens come back a second. At its end the neighbour is blocked for five minutes.
///
/// Worked example: a neighbour sends 100,000 short messages in one instant. 5,000 pass, 10,000 are refused, and with the
/// next one it is blocked. Another sends 1,000 a second for ever: half of them are refused, and it stays. A third sends rubbish: the
/// 101st piece in a row blocks it.
#[derive(Debug)]
pub(crate) struct Neighbours {
    rate: RateLimiter,
    silent: RateLimiter,
    patience: RateLimiter,
    patience_burst: u32,
    cache: TokenBucket,
    /// Who is kept away, by this or by hand.
    pub(crate) blocked: Blocklist,
    /// Blocked, and still to be disconnected.
    to_close: Vec<PeerId>,
}

impl Neighbours {
    pub(crate) fn new(config: &NodeConfig, now: Instant) -> Self {
        let rate = neighbour_rate(config);
        let patience = Rate { burst: rate.burst.saturating_mul(PATIENCE).max(MIN_PATIENCE), ..rate };
        let silent = Rate::per_second(
            (rate.burst / MESSAGES_PER_SILENT).max(MIN_SILENT.burst),
            (rate.tokens / MESSAGES_PER_SILENT).max(MIN_SILENT.tokens),
        );
        let places = max_connections(config) as usize + MAX_LEAVERS;
        Self {
            rate: RateLimiter::new(rate, places),
            silent: RateLimiter::new(silent, places),
            patience: RateLimiter::new(patience, places),
            patience_burst: patience.burst,
            cache: TokenBucket::full(CACHED_BYTES, now),
            blocked: Blocklist::default(),
            to_close: Vec::new(),
        }
    }

    /// Whether a message of `bytes` that `peer` sends at `now` may go on to gossipsub's caches; `joined`: its topic is.
    ///
    /// # Errors
    /// What to count it as.
    pub(crate) fn message(
        &mut self,
        peer: PeerId,
        bytes: usize,
        joined: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        if self.blocked.contains(peer, now) {
            return Err(Refused::Rate);
        }
        let cost = cost_of(bytes);
        if !self.rate.admit(peer, cost, now) {
            self.lose_patience(peer, cost, now);
            return Err(Refused::Rate);
        }
        if !joined {
            self.lose_patience(peer, self.patience_burst / UNWANTED_IN_A_ROW, now);
            return Err(Refused::Message);
        }
        let cached = u32::try_from(bytes.saturating_add(CACHE_OVERHEAD)).unwrap_or(u32::MAX);
        if self.cache.take(cached, now) { Ok(()) } else { Err(Refused::Memory) }
    }

    /// `peer` has sent an RPC without a message that could be read.
    pub(crate) fn silent(&mut self, peer: PeerId, now: Instant) {
        if !self.silent.admit(peer, 1, now) {
            self.rubbish(peer, now);
        }
    }

    /// `peer` has passed on a message that it should have refused.
    pub(crate) fn rubbish(&mut self, peer: PeerId, now: Instant) {
        self.lose_patience(peer, self.patience_burst / RUBBISH_IN_A_ROW, now);
    }

    fn lose_patience(&mut self, peer: PeerId, cost: u32, now: Instant) {
        if self.blocked.contains(peer, now) || self.patience.admit(peer, cost.max(1), now) {
            return;
        }
        self.blocked.misbehaved(peer, now);
        self.to_close.push(peer);
        // It has served its time when the block is over.
        self.patience.forget(peer);
    }

    /// One that was blocked since the last time and is to be disconnected.
    pub(crate) fn next_to_close(&mut self) -> Option<PeerId> {
        self.to_close.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::p2p::blocklist::BLOCK;

    struct Fixture {
        neighbours: Neighbours,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let now = Instant::now();
            Self { neighbours: Neighbours::new(&NodeConfig::default(), now), now }
        }

        fn send(&mut self, peer: PeerId) -> Result<(), Refused> {
            self.neighbours.message(peer, 100, true, self.now)
        }

        fn is_blocked(&mut self, peer: PeerId) -> bool {
            self.neighbours.blocked.contains(peer, self.now)
        }
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_then_the_neighbour_is_blocked() {
        let (mut fixture, peer, other) = (Fixture::new(), PeerId::random(), PeerId::random());
        assert_eq!((0..5_000).filter(|_| fixture.send(peer).is_ok()).count(), 5_000);
        assert!((0..10_000).all(|_| fixture.send(peer) == Err(Refused::Rate)));
        assert!(!fixture.is_blocked(peer));
        assert_eq!(fixture.send(peer), Err(Refused::Rate));
        assert!(fixture.is_blocked(peer));
        assert_eq!(fixture.neighbours.next_to_close(), Some(peer));
        assert_eq!(fixture.neighbours.next_to_close(), None, "once");
        assert_eq!(fixture.send(other), Ok(()), "nobody else answers for it");
    }

    #[test]
    fn twice_the_rate_is_borne_for_ever() {
        let (mut fixture, peer) = (Fixture::new(), PeerId::random());
        for _ in 0..3_600 {
            fixture.now += Duration::from_secs(1);
            for _ in 0..1_000 {
                let _ = fixture.send(peer);
            }
            assert!(!fixture.is_blocked(peer));
        }
        assert_eq!((0..1_000).filter(|_| fixture.send(peer).is_ok()).count(), 0);
    }

    #[test]
    fn a_hundred_pieces_of_rubbish_are_forgiven() {
        let (mut fixture, peer) = (Fixture::new(), PeerId::random());
        for _ in 0..RUBBISH_IN_A_ROW {
            fixture.neighbours.rubbish(peer, fixture.now);
        }
        assert!(!fixture.is_blocked(peer));
        fixture.neighbours.rubbish(peer, fixture.now);
        assert!(fixture.is_blocked(peer));
    }

    #[test]
    fn messages_that_nobody_wants_are_refused_and_not_borne_for_ever() {
        let (mut fixture, peer) = (Fixture::new(), PeerId::random());
        let now = fixture.now;
        for _ in 0..UNWANTED_IN_A_ROW {
            assert_eq!(fixture.neighbours.message(peer, 100, false, now), Err(Refused::Message));
        }
        assert!(!fixture.is_blocked(peer));
        let _ = fixture.neighbours.message(peer, 100, false, now);
        assert!(fixture.is_blocked(peer));
    }

    #[test]
    fn a_block_ends_and_is_then_forgotten() {
        let (mut fixture, peer) = (Fixture::new(), PeerId::random());
        for _ in 0..=RUBBISH_IN_A_ROW {
            fixture.neighbours.rubbish(peer, fixture.now);
        }
        assert_eq!(fixture.neighbours.blocked.count(fixture.now), 1);
        fixture.now += BLOCK - Duration::from_millis(1);
        assert!(fixture.is_blocked(peer));
        fixture.now += Duration::from_millis(1);
        assert!(!fixture.is_blocked(peer));
        assert_eq!(fixture.send(peer), Ok(()));
        fixture.neighbours.rubbish(peer, fixture.now);
        assert!(!fixture.is_blocked(peer), "with new patience");
    }

    #[test]
    fn all_together_fill_the_caches_only_so_far() {
        let mut fixture = Fixture::new();
        let mut kept = 0;
        for _ in 0..100 {
            let peer = PeerId::random();
            while kept < 1_000_000_000 && fixture.neighbours.message(peer, 130_000, true, fixture.now).is_ok()
            {
                kept += 130_000;
            }
        }
        assert!(kept <= CACHED_BYTES.burst, "{kept}");
        assert_eq!(fixture.send(PeerId::random()), Ok(()), "a short one may still fit");
        let large = fixture.neighbours.message(PeerId::random(), 130_000, true, fixture.now);
        assert_eq!(large, Err(Refused::Memory));
        fixture.now += Duration::from_secs(1);
        assert_eq!(fixture.neighbours.message(PeerId::random(), 130_000, true, fixture.now), Ok(()));
    }

    #[test]
    fn rpcs_without_a_message_have_their_price() {
        let (mut fixture, peer) = (Fixture::new(), PeerId::random());
        for _ in 0..5_000 / MESSAGES_PER_SILENT + RUBBISH_IN_A_ROW {
            fixture.neighbours.silent(peer, fixture.now);
        }
        assert!(!fixture.is_blocked(peer));
        assert_eq!(fixture.send(peer), Ok(()), "messages have their own tokens");
        fixture.neighbours.silent(peer, fixture.now);
        assert!(fixture.is_blocked(peer));
    }

    #[test]
    fn however_low_the_rate_a_mesh_can_be_managed() {
        let now = Instant::now();
        for message_burst in [0, 1] {
            let config = NodeConfig { message_burst, message_rate: 1, ..NodeConfig::default() };
            let (mut neighbours, peer) = (Neighbours::new(&config, now), PeerId::random());
            (0..MIN_SILENT.burst).for_each(|_| neighbours.silent(peer, now));
            for _ in 0..MIN_PATIENCE {
                let _ = neighbours.message(peer, 100, true, now);
            }
            assert!(!neighbours.blocked.contains(peer, now));
        }
    }
}
