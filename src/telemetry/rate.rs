//! How often one process may push.

use std::time::{Duration, Instant};

/// A token bucket: holds up to [`Rate::burst`] permits, gains one every [`Rate::refill`], and a request takes one.
///
/// Worked example with the defaults (20, 100 ms). A child pushes once a second: each push takes one permit and ten
/// come back before the next, so the bucket stays full. A child gone wild pushes 1,000 times in the first second:
/// 20 pass at once, then one every 100 ms, 30 in all; 970 are refused and counted, at the price of a header
/// each. Once it pushes slower than ten times a second again, all pass.
///
/// The default leaves a factor of ten over the usual interval of one second, and the burst covers a child that was
/// suspended and catches up, or that flushes while it stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// Permits, in units of the time each took to come back.
    credit: Duration,
    last: Option<Instant>,
}

/// The limits of a [`Bucket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Most requests at once.
    pub burst: u32,
    /// Time for one more.
    pub refill: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Self { burst: 20, refill: Duration::from_millis(100) }
    }
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self { credit: Duration::ZERO, last: None }
    }

    /// Takes a permit at `now`; `false` when there is none.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let full = rate.refill.saturating_mul(rate.burst);
        self.credit = match self.last {
            None => full,
            Some(last) => full.min(self.credit.saturating_add(now.saturating_duration_since(last))),
        };
        self.last = Some(now);
        match self.credit.checked_sub(rate.refill) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_holds() {
        let (rate, start) = (Rate::default(), Instant::now());
        let mut bucket = Bucket::new();
        let passed = (0..1000).filter(|ms| bucket.take(rate, start + Duration::from_millis(*ms))).count();
        assert!((29..=30).contains(&passed), "{passed}");
    }

    #[test]
    fn once_a_second_always_passes() {
        let (rate, start) = (Rate::default(), Instant::now());
        let mut bucket = Bucket::new();
        assert!((0..1000).all(|s| bucket.take(rate, start + Duration::from_secs(s))));
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing() {
        let (rate, start) = (Rate { burst: 1, refill: Duration::from_secs(1) }, Instant::now());
        let mut bucket = Bucket::new();
        let later = start + Duration::from_secs(10);
        assert!(bucket.take(rate, later));
        assert!(!bucket.take(rate, start));
    }
}
