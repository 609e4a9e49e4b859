//! Who of the connected peers is on which topic, in the form of Kademlia's store of providers.
//!
//! Nobody publishes the records of topics: each is what a connected peer has told by its gossipsub subscription, and goes with the
//! subscription or the connection. So they are never older than a ping and cost no message. Peers that are asked for a
//! topic's members answer from here. Records of other keys are kept as [`Provided`] says.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter;

use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};
use rand::seq::IndexedRandom;

use super::provided::Provided;
use crate::p2p::handle::MAX_TOPICS;
use crate::p2p::topics::Topic;

/// Entries in all, a peer on a topic being one: the topics of a thousand peers that are on as many as a node may join.
pub(super) const MAX_ENTRIES: usize = 1_024 * MAX_TOPICS;
/// Members told in one answer, chosen at random. Kademlia's own bound is 20; the one more may be who asked.
const TOLD: usize = 21;
/// What a topic's key begins with, ahead of its name.
const PREFIX: &[u8] = b"/hippius/topic/";

/// The key of a topic.
pub(super) fn key(topic: &Topic) -> RecordKey {
    RecordKey::from([PREFIX, topic.as_str().as_bytes()].concat())
}

/// The topic of a key.
pub(super) fn topic(key: &RecordKey) -> Option<Topic> {
    let name = key.as_ref().strip_prefix(PREFIX)?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[derive(Debug, Default)]
struct Member {
    addresses: Vec<Multiaddr>,
    topics: Vec<RecordKey>,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Members {
    peers: HashMap<PeerId, Member>,
    topics: HashMap<RecordKey, Vec<PeerId>>,
    entries: usize,
    provided: Provided,
}

impl Members {
    /// Where a connected peer is to be found.
    pub(super) fn located(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.peers.entry(peer).or_default().addresses = addresses.to_vec();
    }

    /// A connected peer is on `topic`. Returns `false` where there is no place for one more entry.
    #[must_use]
    pub(super) fn joined(&mut self, peer: PeerId, topic: &Topic) -> bool {
        let key = key(topic);
        let member = self.peers.entry(peer).or_default();
        if member.topics.contains(&key) {
            return true;
        }
        if self.entries >= MAX_ENTRIES || member.topics.len() >= MAX_TOPICS {
            return false;
        }
        member.topics.push(key.clone());
        self.topics.entry(key).or_default().push(peer);
        self.entries += 1;
        true
    }

    /// It is on `topic` no more.
    pub(super) fn left(&mut self, peer: PeerId, topic: &Topic) {
        let key = key(topic);
        if let Some(member) = self.peers.get_mut(&peer)
            && let Some(index) = member.topics.iter().position(|other| *other == key)
        {
            member.topics.swap_remove(index);
            self.strike(&key, peer);
        }
    }

    /// It is connected no more.
    pub(super) fn gone(&mut self, peer: PeerId) {
        for key in self.peers.remove(&peer).unwrap_or_default().topics {
            self.strike(&key, peer);
        }
    }

    fn strike(&mut self, key: &RecordKey, peer: PeerId) {
        self.entries -= 1;
        if let Some(members) = self.topics.get_mut(key) {
            members.retain(|other| *other != peer);
            if members.is_empty() {
                self.topics.remove(key);
            }
        }
    }
}

impl RecordStore for Members {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    /// Which topics a peer is on only its subscriptions say.
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.key.as_ref().starts_with(PREFIX) {
            return Err(Error::MaxProvidedKeys);
        }
        let kept = self.provided.add(record, |peer| self.peers.contains_key(peer));
        if kept { Ok(()) } else { Err(Error::MaxProvidedKeys) }
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        if !key.as_ref().starts_with(PREFIX) {
            return self.provided.of(key).cloned().collect();
        }
        let members = self.topics.get(key).map_or(&[][..], Vec::as_slice);
        let told = members.sample(&mut rand::rng(), TOLD);
        let record = |peer: &PeerId| {
            let addresses = self.peers.get(peer).map(|member| member.addresses.clone()).unwrap_or_default();
            ProviderRecord { key: key.clone(), provider: *peer, expires: None, addresses }
        };
        // One that has not said yet where it listens cannot be found by anybody.
        told.map(record).filter(|record| !record.addresses.is_empty()).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        self.provided.remove(key, provider);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Vec<Multiaddr> {
        vec!["/ip4/10.0.0.1/tcp/4000".parse().unwrap()]
    }

    fn numbered(number: usize) -> Topic {
        format!("topic-{number}").parse().unwrap()
    }

    fn told(members: &Members, topic: &Topic) -> Vec<PeerId> {
        members.providers(&key(topic)).into_iter().map(|record| record.provider).collect()
    }

    #[test]
    fn members_are_told_from_their_subscription_to_its_end() {
        let mut members = Members::default();
        let (first, second) = (PeerId::random(), PeerId::random());
        let (rare, other) = (numbered(0), numbered(1));
        assert!(members.joined(first, &rare) && members.joined(first, &other));
        assert!(told(&members, &rare).is_empty(), "nobody knows yet where it listens");
        members.located(first, &address());
        members.located(second, &address());
        assert!(members.joined(second, &rare) && members.joined(second, &rare));
        assert_eq!(told(&members, &rare).len(), 2);
        members.left(second, &rare);
        members.left(second, &rare);
        assert_eq!(told(&members, &rare), [first]);
        members.gone(first);
        members.gone(second);
        assert!(told(&members, &rare).is_empty() && told(&members, &other).is_empty());
        assert_eq!(members.entries, 0);
        assert!(members.topics.is_empty() && members.peers.is_empty());
    }

    #[test]
    fn a_large_topic_is_told_in_part() {
        let mut members = Members::default();
        for _ in 0..100 {
            let peer = PeerId::random();
            members.located(peer, &address());
            assert!(members.joined(peer, &numbered(0)));
        }
        assert_eq!(told(&members, &numbered(0)).len(), TOLD);
    }

    #[test]
    fn neither_one_peer_nor_all_together_fill_the_memory() {
        let mut members = Members::default();
        let greedy = PeerId::random();
        let taken = (0..2 * MAX_TOPICS).filter(|number| members.joined(greedy, &numbered(*number))).count();
        assert_eq!(taken, MAX_TOPICS);
        for _ in 0..MAX_ENTRIES / MAX_TOPICS {
            let peer = PeerId::random();
            for number in 0..MAX_TOPICS {
                let _ = members.joined(peer, &numbered(number));
            }
        }
        assert_eq!(members.entries, MAX_ENTRIES);
        assert!(!members.joined(PeerId::random(), &numbered(0)));
        members.gone(greedy);
        assert!(members.joined(PeerId::random(), &numbered(0)), "a place is free again");
    }

    #[test]
    fn a_key_is_its_topic_and_nothing_else() {
        let topic_of = |bytes: &[u8]| topic(&RecordKey::from(bytes.to_vec()));
        assert_eq!(topic(&key(&numbered(7))), Some(numbered(7)));
        for bytes in
            [b"".as_slice(), b"topic-7", b"/hippius/topic/", b"/hippius/topic/a b", b"/hippius/topic/\xff"]
        {
            assert_eq!(topic_of(bytes), None);
        }
    }
}
