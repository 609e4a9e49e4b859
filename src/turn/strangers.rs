//! How often an address is answered that has not proven to be where it says it is.
//!
//! A datagram's source can be forged, and some answers are several times as long as their questions: a relay that answers everything can be
//! aimed at a third party. Whoever shows a nonce that was sent to his address has proven himself; connections have, by TCP.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::quota::block;

/// Places in each of two rows: half a megabyte in all, however many addresses there are.
const PLACES: usize = 32_768;
/// The answers of so much time may come at once: a whole office returns when its relay has been restarted.
const BURST: Duration = Duration::from_secs(20);

/// Counts answers by address, an IPv6 address standing for its /64, in a table of fixed size.
///
/// Each address has a place in each of two rows, which it shares with whoever else is hashed there; as long as one of the two has something
/// left it is answered. So nobody gets more than the rate, and who is honest is refused only where floods from two other addresses meet his two
/// places: with 300 addresses forged at once that is one of 10,000 honest ones. The hash has a key that nobody knows.
///
/// A place holds when its bucket will be full again ("virtual scheduling"): the same measure as
/// [`TokenBucket`](crate::token_bucket::TokenBucket) in one word, which threads may share without a lock.
///
/// With 100 a second: 2,000 answers at once, then one every 10 ms, and after 20 s of silence 2,000 again. To somebody whose address is forged
/// that is 15 KB a second at most, after a burst of 300 KB.
#[derive(Debug)]
pub(super) struct Strangers {
    rows: [Box<[AtomicU64]>; 2],
    hasher: RandomState,
    start: Instant,
    /// Nanoseconds that one answer takes to come back.
    each: u64,
}

impl Strangers {
    /// `per_second` answers to each address; `None` for 0, which means no limit.
    pub(super) fn new(per_second: u32, start: Instant) -> Option<Self> {
        let row = || (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let each = 1_000_000_000_u64.checked_div(per_second.into())?;
        Some(Self { rows: [row(), row()], hasher: RandomState::new(), start, each })
    }

    /// Takes an answer for `address`, if there is one left.
    #[must_use = "without one nothing must be sent"]
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> bool {
        let hash = self.hasher.hash_one(block(address));
        let places = [hash as usize % PLACES, (hash >> 32) as usize % PLACES];
        let now = nanoseconds(now.saturating_duration_since(self.start));
        let limit = now.saturating_add(nanoseconds(BURST));
        let mut found = false;
        for (row, place) in self.rows.iter().zip(places) {
            let full_at = row[place].load(Ordering::Relaxed).max(now).saturating_add(self.each);
            if full_at <= limit {
                found = true;
                // Of two threads at the same place at the same moment one may be forgotten; that is one answer more.
                row[place].store(full_at, Ordering::Relaxed);
            }
        }
        found
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::token_bucket::{Rate, TokenBucket};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn taken(strangers: &Strangers, address: &str, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| strangers.take(ip(address), now)).count()
    }

    #[test]
    fn an_address_gets_a_burst_and_then_the_rate() {
        let start = Instant::now();
        let strangers = Strangers::new(100, start).unwrap();
        assert_eq!(taken(&strangers, "192.0.2.1", 5_000, start), 2_000);
        assert_eq!(taken(&strangers, "::ffff:192.0.2.1", 1, start), 0, "the same address");
        assert_eq!(taken(&strangers, "192.0.2.2", 5_000, start), 2_000, "others have their own");
        let later = start + Duration::from_secs(1);
        assert_eq!(taken(&strangers, "192.0.2.1", 5_000, later), 100);
        assert_eq!(taken(&strangers, "192.0.2.1", 5_000, later + BURST), 2_000);
    }

    #[test]
    fn an_ipv6_host_has_no_more_than_one_of_ipv4() {
        let start = Instant::now();
        let strangers = Strangers::new(10, start).unwrap();
        assert_eq!(taken(&strangers, "2001:db8::1", 150, start), 150);
        assert_eq!(taken(&strangers, "2001:db8::2:3:4:5", 150, start), 50, "the same /64");
        assert_eq!(taken(&strangers, "2001:db8:0:1::1", 150, start), 150);
    }

    #[test]
    fn no_limit_is_no_table() {
        assert!(Strangers::new(0, Instant::now()).is_none());
    }

    #[test]
    fn it_is_the_measure_of_a_token_bucket() {
        let start = Instant::now();
        let strangers = Strangers::new(50, start).unwrap();
        let mut bucket = TokenBucket::full(Rate::per_second(1_000, 50), start);
        let mut now = start;
        for n in 0..20_000_u64 {
            now += Duration::from_millis(n * 7 % 23);
            assert_eq!(strangers.take(ip("192.0.2.1"), now), bucket.take(1, now), "{n}");
        }
    }

    /// Bad input: a flood from forged addresses. What there is to remember does not grow, and hardly anybody else notices.
    #[test]
    fn honest_addresses_are_answered_while_others_flood() {
        let start = Instant::now();
        let strangers = Strangers::new(100, start).unwrap();
        for forged in 0..300_u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + forged));
            let answers = (0..2_100).filter(|_| strangers.take(address, start)).count();
            assert!(answers <= 2_000, "{answers}");
        }
        let honest = (0..10_000_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        let refused = honest.filter(|address| !strangers.take(*address, start)).count();
        // One is to be expected; that there are twenty has a probability of 10^-18.
        assert!(refused < 20, "{refused}");
    }
}
