//! The topics this node has joined, who of its neighbours is on each, and who else is said to be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::settings::{LOOKUP_FIRST, LOOKUP_MAX, MAX_SAID, SUBSCRIBE_GRACE};
use crate::p2p::topics::Topic;

/// One joined topic.
#[derive(Debug)]
pub(super) struct Need {
    /// Connected peers that are on it.
    members: HashSet<PeerId>,
    /// Other peers that are said to be on it, since the last lookup.
    said: HashSet<PeerId>,
    /// Of those, who is connected since, but has not said so itself yet; and until when that is waited for.
    expected: HashMap<PeerId, Instant>,
    lookup_at: Option<Instant>,
    pause: Duration,
}

impl Need {
    fn new(members: HashSet<PeerId>) -> Self {
        Self { members, said: HashSet::new(), expected: HashMap::new(), lookup_at: None, pause: LOOKUP_FIRST }
    }

    /// Whether `peer` is said to be on the topic.
    pub(super) fn is_said(&self, peer: &PeerId) -> bool {
        self.said.contains(peer)
    }
}

/// The joined topics; as many as a node may join.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<Topic, Need>);

impl Needs {
    pub(super) fn joined(&mut self, topic: Topic, members: HashSet<PeerId>) {
        self.0.insert(topic, Need::new(members));
    }

    pub(super) fn left(&mut self, topic: &Topic) {
        self.0.remove(topic);
    }

    pub(super) fn subscribed(&mut self, peer: PeerId, topic: &Topic) {
        if let Some(need) = self.0.get_mut(topic) {
            need.expected.remove(&peer);
            need.members.insert(peer);
        }
    }

    pub(super) fn unsubscribed(&mut self, peer: PeerId, topic: &Topic) {
        if let Some(need) = self.0.get_mut(topic) {
            need.members.remove(&peer);
        }
    }

    /// Takes note of hearsay; the first to be named stay, until the next lookup asks anew.
    pub(super) fn said(&mut self, peer: PeerId, topic: &Topic) {
        if let Some(need) = self.0.get_mut(topic)
            && need.said.len() < MAX_SAID
        {
            need.said.insert(peer);
        }
    }

    /// Connected: what was said of it, it will say itself in a moment.
    pub(super) fn connected(&mut self, peer: PeerId, now: Instant) {
        for need in self.0.values_mut() {
            if need.said.remove(&peer) {
                need.expected.insert(peer, now + SUBSCRIBE_GRACE);
            }
        }
    }

    /// Given up: whatever was said of it.
    pub(super) fn given_up(&mut self, peer: PeerId) {
        for need in self.0.values_mut() {
            need.said.remove(&peer);
        }
    }

    /// Waits no longer for those who should have spoken by `now`; returns when the next should have, on topics with fewer than
    /// `wanted` members.
    pub(super) fn expire(&mut self, wanted: usize, now: Instant) -> Option<Instant> {
        for need in self.0.values_mut() {
            need.expected.retain(|_, until| *until > now);
        }
        let short = self.0.values().filter(|need| need.members.len() < wanted);
        short.flat_map(|need| need.expected.values().copied()).min()
    }

    /// Connected no more, or about to be. What it was on, it is likely to be on still.
    pub(super) fn disconnected(&mut self, peer: PeerId) {
        for need in self.0.values_mut() {
            need.expected.remove(&peer);
            if need.members.remove(&peer) && need.said.len() < MAX_SAID {
                need.said.insert(peer);
            }
        }
    }

    /// Members of that one of the peer's joined topics that has the fewest; the higher, the less it would be missed.
    pub(super) fn scarcity(&self, peer: PeerId) -> usize {
        let its = self.0.values().filter(|need| need.members.contains(&peer));
        its.map(|need| need.members.len()).min().unwrap_or(usize::MAX)
    }

    /// The topics with fewer than `level` members, those expected or being dialled included, scarcest first.
    pub(super) fn short(&self, level: usize, dialing: &HashSet<PeerId>) -> Vec<&Need> {
        let count =
            |need: &Need| need.members.len() + need.expected.len() + need.said.intersection(dialing).count();
        let mut short: Vec<&Need> = self.0.values().filter(|need| count(need) < level).collect();
        short.sort_by_key(|need| count(need));
        short
    }

    /// Somebody new can be asked: topics with fewer than `wanted` members are looked up at once, if they never were; and soon again when
    /// the node has `settled`, since in one that is still connecting somebody new comes all the time.
    pub(super) fn hasten(&mut self, wanted: usize, settled: bool, now: Instant) {
        for need in self.0.values_mut().filter(|need| need.members.len() < wanted) {
            let soon = match need.pause == LOOKUP_FIRST {
                true => now,
                false if settled => now + LOOKUP_FIRST,
                false => continue,
            };
            need.lookup_at = Some(need.lookup_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Topics that have `wanted` members need no lookup, and the next time they are short begins anew.
    pub(super) fn rest(&mut self, wanted: usize) {
        for need in self.0.values_mut().filter(|need| need.members.len() >= wanted) {
            need.lookup_at = None;
            need.pause = LOOKUP_FIRST;
        }
    }

    /// Nobody can be asked.
    pub(super) fn suspend(&mut self) {
        self.0.values_mut().for_each(|need| need.lookup_at = None);
    }

    /// The topic with fewer than `wanted` members whose lookup is due first, and when; one that has no time yet gets it by `jittered`.
    pub(super) fn next_lookup(
        &mut self,
        wanted: usize,
        now: Instant,
        mut jittered: impl FnMut(Duration) -> Duration,
    ) -> Option<(Topic, Instant)> {
        let short = self.0.iter_mut().filter(|(_, need)| need.members.len() < wanted);
        short
            .map(|(topic, need)| {
                (topic.clone(), *need.lookup_at.get_or_insert_with(|| now + jittered(need.pause)))
            })
            .min_by_key(|(_, at)| *at)
    }

    /// A lookup of `topic` begins: what was said before is forgotten, and the next lookup comes after a longer pause.
    pub(super) fn looked_up(
        &mut self,
        topic: &Topic,
        now: Instant,
        jittered: impl FnOnce(Duration) -> Duration,
    ) {
        if let Some(need) = self.0.get_mut(topic) {
            need.said.clear();
            need.lookup_at = Some(now + jittered(need.pause));
            need.pause = (need.pause * 2).min(LOOKUP_MAX);
        }
    }
}
