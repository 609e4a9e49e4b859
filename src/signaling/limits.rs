//! What one client may take, messages and bytes, and what there is besides the clients.

use std::time::Instant;

use super::config::SignalingConfig;
use super::wire::CloseReason;
use crate::control::places::Full;
use crate::token_bucket::{Rate, TokenBucket};

/// What becomes of a message.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is read.
    Pass,
    /// It is dropped and the client is told.
    Refuse,
    /// The client goes on although it was told: it is disconnected.
    Cut,
}

/// The limiter of one connection: a [token bucket](TokenBucket) for messages and one for bytes; a message needs
/// both. A client that is refused as often as its burst, without a pause in which both fill again, is cut off.
///
/// The defaults (50 a second, 300 at once; 256 KiB a second, 1 MiB at once) let a page that joins a room
/// of a dozen peers send its offer and twenty candidates to each at once, and bound a stranger to a rate that a
/// thousand of them do not fill a core with.
#[derive(Debug)]
pub struct RateLimit {
    messages: TokenBucket,
    bytes: TokenBucket,
    refused: u32,
    tolerance: u32,
}

impl RateLimit {
    /// The limits that `config` names, untouched at `now`.
    #[must_use]
    pub fn new(config: &SignalingConfig, now: Instant) -> Self {
        let messages = Rate::per_second(config.message_burst, config.messages_per_second);
        let bytes = Rate::per_second(config.byte_burst, config.bytes_per_second);
        Self {
            messages: TokenBucket::full(messages, now),
            bytes: TokenBucket::full(bytes, now),
            refused: 0,
            tolerance: config.message_burst,
        }
    }

    /// Decides on a message of `bytes` that arrives at `now`.
    pub fn check(&mut self, bytes: usize, now: Instant) -> Verdict {
        // Both: whoever sends a few large messages never empties the one of messages.
        if self.messages.is_full(now) && self.bytes.is_full(now) {
            self.refused = 0;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.bytes.holds(bytes, now) && self.messages.take(1, now) && self.bytes.take(bytes, now) {
            return Verdict::Pass;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused > self.tolerance { Verdict::Cut } else { Verdict::Refuse }
    }
}

/// Connections that one address may hold besides its clients: to be told that they are one too many, which a browser learns
/// on an open WebSocket only, or to ask for the server's health.
pub const SPARE_PER_ADDRESS: u32 = 16;
/// The same for all addresses together.
pub const SPARE: u32 = 256;

/// What a client is told that finds no place.
#[must_use]
pub fn close_reason(full: Full) -> CloseReason {
    match full {
        Full::Address => CloseReason::AddressLimit,
        Full::Server => CloseReason::ServerFull,
    }
}

/// The same in the metrics.
#[must_use]
pub fn refusal(full: Full) -> &'static str {
    match full {
        Full::Address => "address_limit",
        Full::Server => "server_full",
    }
}

/// What a connection may send at all, messages or not: WebSocket frames that never become one, or requests for nothing. Four times what its messages
/// may have, so that whoever only sends too large or too many messages is told so by [`RateLimit`] before.
///
/// With the defaults, 4 MiB at once and 1 MiB a second: of the smallest frames, 6 bytes each, some 175,000. The clock is looked at once for each [`IntakeLimit::PORTION`].
#[derive(Debug)]
pub struct IntakeLimit {
    bytes: TokenBucket,
    unpaid: u32,
}

impl IntakeLimit {
    /// How many times the bytes of messages.
    const TIMES: u32 = 4;
    /// So many bytes are taken on trust.
    const PORTION: u32 = 16 * 1024;

    /// The limit by what `config` grants messages, untouched at `now`.
    #[must_use]
    pub fn new(config: &SignalingConfig, now: Instant) -> Self {
        let rate = Rate::per_second(config.byte_burst, config.bytes_per_second).times(Self::TIMES);
        Self { bytes: TokenBucket::full(rate, now), unpaid: 0 }
    }

    /// Whether `bytes` more may come, at `now()`; once they may not, the connection is of no use any more.
    #[must_use]
    pub fn take(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        self.unpaid = self.unpaid.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.unpaid < Self::PORTION {
            return true;
        }
        let cost = std::mem::take(&mut self.unpaid);
        self.bytes.take(cost, now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(now: Instant) -> RateLimit {
        RateLimit::new(&SignalingConfig::default(), now)
    }

    #[test]
    fn the_worked_example_is_true() {
        let start = Instant::now();
        let mut limit = limit(start);
        assert!((0..300).all(|_| limit.check(1, start) == Verdict::Pass));
        assert_eq!(limit.check(1, start), Verdict::Refuse);
        let later = start + Duration::from_millis(20);
        assert_eq!(limit.check(1, later), Verdict::Pass);
        assert_eq!(limit.check(1, later), Verdict::Refuse);
        let rested = later + Duration::from_secs(6);
        assert!((0..300).all(|_| limit.check(1, rested) == Verdict::Pass));
    }

    #[test]
    fn bytes_count_as_well() {
        let start = Instant::now();
        let mut limit = limit(start);
        assert!((0..4).all(|_| limit.check(256 * 1024, start) == Verdict::Pass));
        assert_eq!(limit.check(256 * 1024, start), Verdict::Refuse);
        assert_eq!(limit.check(256 * 1024, start + Duration::from_secs(1)), Verdict::Pass);
    }

    #[test]
    fn bytes_that_are_no_messages_are_bounded_too() {
        let start = Instant::now();
        let mut limit = IntakeLimit::new(&SignalingConfig::default(), start);
        let admitted =
            |limit: &mut IntakeLimit, now| (0..10_000).take_while(|_| limit.take(1024, || now)).count();
        assert!((4_096..4_096 + 16).contains(&admitted(&mut limit, start)), "4 MiB at once");
        let mut limit = IntakeLimit::new(&SignalingConfig::default(), start);
        // A megabyte a second for an hour is no flood; nothing is forgotten that is below the portion.
        for second in 0..3_600 {
            assert!((0..1_024).all(|_| limit.take(1_024, || start + Duration::from_secs(second))));
        }
    }

    #[test]
    fn who_goes_on_is_cut_off_and_who_rests_is_forgiven() {
        let start = Instant::now();
        let mut limit = limit(start);
        let verdicts: Vec<_> = (0..601).map(|_| limit.check(1, start)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Refuse).count(), 300);
        assert_eq!(verdicts[600], Verdict::Cut);
        assert_eq!(limit.check(1, start + Duration::from_secs(6)), Verdict::Pass);
        assert_eq!(limit.refused, 0);
    }

    #[test]
    fn who_goes_on_with_a_few_large_messages_is_cut_off_as_well() {
        let start = Instant::now();
        let mut limit = limit(start);
        // Ten a second, each as large as may be: ten times what the bytes allow, a fifth of what the messages do.
        let verdicts: Vec<_> =
            (0..600).map(|n| limit.check(256 * 1024, start + Duration::from_millis(100 * n))).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Cut));
        let honest = start + Duration::from_secs(3600);
        let verdicts: Vec<_> =
            (0..600).map(|n| limit.check(250 * 1024, honest + Duration::from_secs(n))).collect();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    }
}
