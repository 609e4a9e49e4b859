//! Who provides what, as the providers have told: Kademlia's provider records, kept for programs that look for more than topics.
//!
//! What is full makes room by forgetting a provider that is connected no more; those that are here keep their places.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::{ProviderRecord, RecordKey};

use crate::p2p::address::choice;

/// Records in all, some 2 MB at most.
pub(super) const MAX_RECORDS: usize = 4_096;
/// Records of one provider, so that it takes many to fill the places.
pub(super) const MAX_OF_PROVIDER: usize = 128;
/// Providers of one key: Kademlia tells no more of them.
const MAX_OF_KEY: usize = 20;
/// Pause between two looks through all records for those that have ended, which live for hours.
const SWEEP: Duration = Duration::from_secs(60);
/// A hash of 64 bytes and what says which it is.
const MAX_KEY_BYTES: usize = 80;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Provided {
    keys: HashMap<RecordKey, Vec<ProviderRecord>>,
    per_provider: HashMap<PeerId, usize>,
    records: usize,
    /// When those that have ended were looked for last.
    swept: Option<Instant>,
}

impl Provided {
    /// Keeps a record, in the place of what the same provider said of the same key before. `connected` says who is. Returns `false`
    /// where there is no place for it.
    #[must_use]
    pub(super) fn add(&mut self, mut record: ProviderRecord, connected: impl Fn(&PeerId) -> bool) -> bool {
        if record.key.as_ref().len() > MAX_KEY_BYTES {
            return false;
        }
        let provider = record.provider;
        record.addresses = choice::of_hearsay(&record.addresses, provider, true);
        self.remove(&record.key, &provider);
        let now = Instant::now();
        if self.is_full_for(&record) && self.swept.is_none_or(|last| now >= last + SWEEP) {
            self.swept = Some(now);
            self.forget_expired(now);
        }
        let own = self.of_provider(&provider);
        let of_key = self.keys.get(&record.key).map_or(0, Vec::len);
        if own >= MAX_OF_PROVIDER
            || (of_key >= MAX_OF_KEY && !self.forget_one(Some(&record.key), &connected))
            || (self.records >= MAX_RECORDS && !self.forget_one(None, &connected))
        {
            return false;
        }
        self.keys.entry(record.key.clone()).or_default().push(record);
        *self.per_provider.entry(provider).or_default() += 1;
        self.records += 1;
        true
    }

    fn of_provider(&self, provider: &PeerId) -> usize {
        self.per_provider.get(provider).copied().unwrap_or_default()
    }

    fn is_full_for(&self, record: &ProviderRecord) -> bool {
        self.of_provider(&record.provider) >= MAX_OF_PROVIDER
            || self.keys.get(&record.key).is_some_and(|of_key| of_key.len() >= MAX_OF_KEY)
            || self.records >= MAX_RECORDS
    }

    fn forget_expired(&mut self, now: Instant) {
        let all = self.keys.values().flatten().filter(|record| record.is_expired(now));
        let expired: Vec<_> = all.map(|record| (record.key.clone(), record.provider)).collect();
        for (key, provider) in expired {
            self.remove(&key, &provider);
        }
    }

    /// The providers of a key.
    pub(super) fn of(&self, key: &RecordKey) -> impl Iterator<Item = &ProviderRecord> {
        let now = Instant::now();
        self.keys.get(key).into_iter().flatten().filter(move |record| !record.is_expired(now))
    }

    /// Forgets a record.
    pub(super) fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        let Some(records) = self.keys.get_mut(key) else { return };
        let before = records.len();
        records.retain(|record| record.provider != *provider);
        if records.len() == before {
            return;
        }
        if records.is_empty() {
            self.keys.remove(key);
        }
        self.records -= 1;
        if let Some(own) = self.per_provider.get_mut(provider) {
            *own -= 1;
            if *own == 0 {
                self.per_provider.remove(provider);
            }
        }
    }

    /// Forgets the record, of `key` or of any, that ends first among those whose provider is gone.
    fn forget_one(&mut self, key: Option<&RecordKey>, connected: impl Fn(&PeerId) -> bool) -> bool {
        let oldest = self
            .keys
            .iter()
            .filter(|(other, _)| key.is_none_or(|key| key == *other))
            .flat_map(|(_, records)| records)
            .filter(|record| !connected(&record.provider))
            .min_by_key(|record| record.expires)
            .map(|record| (record.key.clone(), record.provider));
        let Some((key, provider)) = oldest else { return false };
        self.remove(&key, &provider);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize, provider: PeerId) -> ProviderRecord {
        let key = RecordKey::from(number.to_be_bytes().to_vec());
        ProviderRecord::new(key, provider, vec!["/ip4/10.0.0.1/tcp/4000".parse().unwrap()])
    }

    fn providers(provided: &Provided, number: usize) -> usize {
        provided.of(&record(number, PeerId::random()).key).count()
    }

    #[test]
    fn a_record_is_kept_once_and_until_it_ends() {
        let mut provided = Provided::default();
        let peer = PeerId::random();
        assert!(provided.add(record(1, peer), |_| true) && provided.add(record(1, peer), |_| true));
        assert_eq!((providers(&provided, 1), provided.records), (1, 1));
        let mut ended = record(1, PeerId::random());
        ended.expires = Some(Instant::now() - Duration::from_millis(1));
        assert!(provided.add(ended, |_| true));
        assert_eq!((providers(&provided, 1), provided.records), (1, 2));
        provided.remove(&record(1, peer).key, &peer);
        assert_eq!((providers(&provided, 1), provided.records), (0, 1));
    }

    #[test]
    fn nobody_fills_the_memory_and_those_who_left_make_room() {
        let mut provided = Provided::default();
        let greedy = PeerId::random();
        let taken =
            (0..2 * MAX_OF_PROVIDER).filter(|number| provided.add(record(*number, greedy), |_| true)).count();
        assert_eq!(taken, MAX_OF_PROVIDER);
        let mut number = 1_000;
        while provided.records < MAX_RECORDS {
            let peer = PeerId::random();
            for _ in 0..MAX_OF_PROVIDER.min(MAX_RECORDS - provided.records) {
                assert!(provided.add(record(number, peer), |_| true));
                number += 1;
            }
        }
        assert!(!provided.add(record(1, PeerId::random()), |_| true), "everybody is here");
        assert!(provided.add(record(1, PeerId::random()), |peer| *peer != greedy));
        assert_eq!(provided.per_provider[&greedy], MAX_OF_PROVIDER - 1);
        assert_eq!(provided.records, MAX_RECORDS);
    }

    #[test]
    fn what_has_ended_keeps_no_place() {
        let mut provided = Provided::default();
        let ended = |number, peer| ProviderRecord {
            expires: Some(Instant::now() - Duration::from_millis(1)),
            ..record(number, peer)
        };
        let peer = PeerId::random();
        for number in 0..MAX_OF_PROVIDER {
            assert!(provided.add(ended(number, peer), |_| true));
        }
        assert!(provided.add(record(1_000, peer), |_| true), "the provider has its places back");
        assert_eq!(provided.records, 1);
        let mut provided = Provided::default();
        for _ in 0..MAX_OF_KEY {
            assert!(provided.add(ended(1, PeerId::random()), |_| true));
        }
        assert!(provided.add(record(1, PeerId::random()), |_| true), "and so has the key");
        assert_eq!((providers(&provided, 1), provided.records), (1, 1));
    }

    #[test]
    fn a_popular_key_and_a_long_one_are_bounded() {
        let mut provided = Provided::default();
        for _ in 0..2 * MAX_OF_KEY {
            let _ = provided.add(record(1, PeerId::random()), |_| true);
        }
        assert_eq!(providers(&provided, 1), MAX_OF_KEY);
        let long = ProviderRecord::new(vec![0; MAX_KEY_BYTES + 1], PeerId::random(), Vec::new());
        assert!(!provided.add(long, |_| true));
    }
}
