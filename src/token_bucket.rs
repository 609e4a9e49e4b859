//! The token bucket: how fast something may happen. Every limit of a rate in this program is one of these.
//!
//! Knows nothing of what it limits, so that any room may use it.

use std::time::{Duration, Instant};

/// How fast something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket: what may happen at once after a silence.
    pub burst: u32,
    /// Tokens that come back …
    pub tokens: u32,
    /// … in this time: what may happen in the long run.
    pub every: Duration,
}

impl Rate {
    /// `tokens` a second, and `burst` at once.
    #[must_use]
    pub const fn per_second(burst: u32, tokens: u32) -> Self {
        Self { burst, tokens, every: Duration::from_secs(1) }
    }

    /// One each `every`, and `burst` at once.
    #[must_use]
    pub const fn one_each(burst: u32, every: Duration) -> Self {
        Self { burst, tokens: 1, every }
    }

    /// The rate of `count` together, each at this one.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self {
            burst: self.burst.saturating_mul(count),
            tokens: self.tokens.saturating_mul(count),
            every: self.every,
        }
    }
}

/// A token bucket: it holds up to [`Rate::burst`] tokens and gains [`Rate::tokens`] of them [every](Rate::every) second or
/// minute; what happens takes out what it costs, and is refused, at no cost, when there is not enough.
///
/// Worked example with a burst of 300 and 50 a second, each event at one token. After a silence 300 events pass in one
/// instant and the 301st is refused. 20 ms later one token has come back and one event passes; after 6 s of silence the
/// bucket is full again. Who never rests gets 50 a second through, however often he tries.
///
/// What costs more than a full bucket takes a full bucket; otherwise it could never happen. A burst of 0 lets nothing
/// happen at all. A clock that goes backwards fills nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    rate: Rate,
    /// In fractions of a token, of which there are as many as `rate.every` has nanoseconds: each nanosecond brings
    /// `rate.tokens` of them, so nothing is ever rounded.
    held: u128,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, held: fractions(rate, rate.burst), filled_at: now }
    }

    /// Takes `cost` tokens at `now`; `false` if there are too few, and then takes none.
    #[must_use = "without its tokens the thing must not happen"]
    pub fn take(&mut self, cost: u32, now: Instant) -> bool {
        let passes = self.holds(cost, now);
        if passes {
            self.held -= self.price(cost);
        }
        passes
    }

    /// Whether [`TokenBucket::take`] would pass, for what needs tokens of several buckets.
    pub fn holds(&mut self, cost: u32, now: Instant) -> bool {
        self.fill(now);
        self.held >= self.price(cost)
    }

    /// Whether nothing was taken for so long that the bucket is as good as new.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.held == fractions(self.rate, self.rate.burst)
    }

    fn price(&self, cost: u32) -> u128 {
        // A bucket of no size lets nothing through.
        fractions(self.rate, cost.min(self.rate.burst.max(1)))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at);
        let gained = passed.as_nanos().saturating_mul(self.rate.tokens.into());
        self.held = self.held.saturating_add(gained).min(fractions(self.rate, self.rate.burst));
        self.filled_at = self.filled_at.max(now);
    }
}

fn fractions(rate: Rate, tokens: u32) -> u128 {
    // In no time at all nothing can be measured.
    u128::from(tokens).saturating_mul(rate.every.as_nanos().max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passing(bucket: &mut TokenBucket, events: usize, now: Instant) -> usize {
        (0..events).filter(|_| bucket.take(1, now)).count()
    }

    #[test]
    fn the_worked_example_holds() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(Rate::per_second(300, 50), start);
        assert_eq!(passing(&mut bucket, 301, start), 300);
        let later = start + Duration::from_millis(20);
        assert_eq!(passing(&mut bucket, 2, later), 1);
        assert!(!bucket.is_full(later + Duration::from_millis(5_999)));
        assert!(bucket.is_full(later + Duration::from_secs(6)));
        assert_eq!(passing(&mut bucket, 301, later + Duration::from_secs(6)), 300);
        let restless = (0..10_000).filter(|ms| bucket.take(1, later + Duration::from_millis(6_000 + ms)));
        assert_eq!(restless.count(), 499);
    }

    #[test]
    fn a_token_may_take_longer_than_a_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(Rate::one_each(2, Duration::from_secs(3)), start);
        assert_eq!(passing(&mut bucket, 3, start), 2);
        assert!(!bucket.holds(1, start + Duration::from_millis(2_999)));
        assert_eq!(passing(&mut bucket, 3, start + Duration::from_secs(3)), 1);
    }

    #[test]
    fn a_bucket_of_no_size_lets_nothing_through() {
        let now = Instant::now();
        let mut bucket = TokenBucket::full(Rate::per_second(0, 1_000), now);
        assert!(!bucket.take(1, now) && !bucket.take(1, now + Duration::from_secs(60)));
    }

    fn rates() -> impl Strategy<Value = Rate> {
        let any_rate = (any::<u32>(), any::<u32>(), any::<u32>());
        let small = (0_u32..50, 0_u32..50, 1_u32..5_000);
        prop_oneof![any_rate, small].prop_map(|(burst, tokens, millis)| Rate {
            burst,
            tokens,
            every: Duration::from_millis(millis.into()),
        })
    }

    /// Nanoseconds that pass, then a cost.
    fn events() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let wait = prop_oneof![Just(0), 0_u64..3_000_000_000, any::<u32>().prop_map(u64::from)];
        let cost = prop_oneof![0_u32..20, any::<u32>()];
        proptest::collection::vec((wait, cost), 1..60)
    }

    proptest! {
        /// The one thing a limit promises: in any stretch of time no more than the burst and what came back meanwhile.
        #[test]
        fn never_more_passes_than_the_rate_allows(rate in rates(), events in events()) {
            let mut now = Instant::now();
            let mut bucket = TokenBucket::full(rate, now);
            let mut passed: Vec<(Instant, u128)> = Vec::new();
            for (wait, cost) in events {
                now += Duration::from_nanos(wait);
                if bucket.take(cost, now) {
                    passed.push((now, fractions(rate, cost.min(rate.burst))));
                }
            }
            for (index, (from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (at, cost) in &passed[index..] {
                    sum += cost;
                    let back = at.duration_since(*from).as_nanos() * u128::from(rate.tokens);
                    prop_assert!(sum <= fractions(rate, rate.burst) + back);
                }
            }
        }

        /// And it refuses nothing that would fit: who keeps below the rate is never refused.
        #[test]
        fn who_keeps_to_the_rate_always_passes(
            burst in 1_u32..100, tokens in 1_u32..1_000, every in 1_u32..5_000, rounds in 1_usize..200, cost in 1_u32..100,
        ) {
            let mut now = Instant::now();
            let rate = Rate { burst, tokens, every: Duration::from_micros(every.into()) };
            let mut bucket = TokenBucket::full(rate, now);
            let pause = fractions(rate, cost.min(burst)).div_ceil(tokens.into());
            let pause = Duration::from_nanos(u64::try_from(pause).unwrap());
            for _ in 0..rounds {
                prop_assert!(bucket.take(cost, now));
                now += pause;
            }
        }

        #[test]
        fn a_refusal_costs_nothing(rate in rates(), costs in proptest::collection::vec(any::<u32>(), 1..30)) {
            let now = Instant::now();
            let mut bucket = TokenBucket::full(rate, now);
            for cost in costs {
                let before = bucket;
                if !bucket.take(cost, now) {
                    prop_assert_eq!(bucket, before);
                }
            }
        }

        #[test]
        fn asking_first_is_answered_truly(rate in rates(), events in events()) {
            let mut now = Instant::now();
            let mut bucket = TokenBucket::full(rate, now);
            for (wait, cost) in events {
                now += Duration::from_nanos(wait);
                let promised = bucket.holds(cost, now);
                prop_assert_eq!(bucket.take(cost, now), promised);
            }
        }

        /// Back and forth is no more than standing still.
        #[test]
        fn a_clock_that_goes_backwards_fills_nothing(rate in rates(), back in 1_u64..3_000_000_000) {
            let now = Instant::now() + Duration::from_secs(10);
            let mut bucket = TokenBucket::full(rate, now);
            let _ = bucket.take(rate.burst, now);
            let emptied = bucket;
            prop_assert!(bucket.holds(0, now - Duration::from_nanos(back)));
            prop_assert!(bucket.holds(0, now));
            prop_assert_eq!(bucket, emptied);
        }
    }
}
