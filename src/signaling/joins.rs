//! How often clients of one address may join rooms.
//!
//! Everybody in a room is told of each who comes and goes. A stranger who connects, registers and leaves over and over would have the server
//! send two messages to each of a thousand peers every time, at the cost of two of his own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::token_bucket::{Rate, TokenBucket};

/// Below so many addresses nobody looks for those that can be forgotten.
const FEW: usize = 64;

/// A [token bucket](TokenBucket) for each address that has joined lately; who joins takes one token.
///
/// Worked example with the defaults, 300 at once and 2 a second: the 256 clients of an office come back at once after a restart of the
/// server. Somebody who then joins and leaves a room of 1,000 without end has 4 × 999 messages a second sent, and without the
/// bound 100 times that from a single connection after the other.
#[derive(Debug)]
pub(super) struct Joins {
    rate: Rate,
    by_address: HashMap<IpAddr, TokenBucket>,
    /// How many addresses there may be before those that are as good as new are dropped.
    sweep_at: usize,
}

impl Joins {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, by_address: HashMap::new(), sweep_at: FEW }
    }

    /// Whether one more of `address` may join at `now`; if so, it is counted.
    #[must_use]
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.by_address.len() >= self.sweep_at {
            self.by_address.retain(|_, bucket| !bucket.is_full(now));
            // Each sweep is paid for by as many newcomers as there are entries.
            self.sweep_at = (2 * self.by_address.len()).max(FEW);
        }
        let rate = self.rate;
        self.by_address.entry(address).or_insert_with(|| TokenBucket::full(rate, now)).take(1, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_address_has_its_own_rate_and_is_forgotten_when_it_rests() {
        let start = Instant::now();
        let mut joins = Joins::new(Rate::per_second(3, 1));
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let admitted = |joins: &mut Joins, now| (0..10).filter(|_| joins.admit(address(1), now)).count();
        assert_eq!(admitted(&mut joins, start), 3);
        assert!(joins.admit(address(2), start));
        assert_eq!(admitted(&mut joins, start + Duration::from_secs(2)), 2);
        for n in 0..10_000 {
            assert!(joins.admit(address(n + 10), start + Duration::from_secs(u64::from(n) * 4)));
        }
        assert!(joins.by_address.len() <= 2 * FEW, "{}", joins.by_address.len());
    }
}
