//! Peers that could be dialled: a bounded set, with their addresses and when each may be tried next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Candidates remembered. Ten times the usual number of connections is choice enough; hearsay of strangers fills no memory.
pub(super) const MAX_CANDIDATES: usize = 128;
/// Addresses remembered of each from each source.
pub(super) const MAX_ADDRESSES: usize = 4;
/// After this many failed dials in a row a candidate is forgotten of which there is only hearsay …
const MAX_FAILURES_HEARSAY: u32 = 3;
/// … and one that has told its addresses itself: with the pauses, some six minutes.
const MAX_FAILURES: u32 = 6;
/// Pause after the first failed dial; quadruples.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Who says where a peer is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The peer itself, on a connection that proves who it is.
    Itself,
    /// Somebody else. Never replaces what the peer itself has told, and no reason to try more often.
    Hearsay,
}

#[derive(Debug)]
struct Candidate {
    own: Vec<Multiaddr>,
    hearsay: Vec<Multiaddr>,
    dial_at: Instant,
    failures: u32,
}

impl Candidate {
    /// Where to dial: its own word, and after a failed dial there, what others say, by turns. Never both in one dial, which fails as
    /// a whole when a wrong peer answers first at any of the addresses.
    fn addresses(&self) -> &[Multiaddr] {
        let others_turn = self.failures % 2 == 1 && !self.hearsay.is_empty();
        if self.own.is_empty() || others_turn { &self.hearsay } else { &self.own }
    }

    fn max_failures(&self) -> u32 {
        if self.own.is_empty() { MAX_FAILURES_HEARSAY } else { MAX_FAILURES }
    }
}

impl super::Manager {
    /// Where a peer that is not connected may be dialled, as far as is known.
    #[must_use]
    pub fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        match self.bootnodes.iter().find(|bootnode| bootnode.peer == peer) {
            Some(bootnode) => bootnode.addresses.clone(),
            None => self.candidates.0.get(&peer).map_or_else(Vec::new, |known| known.addresses().to_vec()),
        }
    }
}

/// The set of candidates, connected ones included: a lost peer is a candidate again.
#[derive(Debug, Default)]
pub(super) struct Candidates(HashMap<PeerId, Candidate>);

impl Candidates {
    /// Takes note of a peer's addresses; the latest of each source are kept. A newcomer may be dialled from `dial_at` on. When the set is
    /// full, a candidate chosen at random makes room, so that nobody can hold all places by being first; but one that has told
    /// its addresses itself makes no room for hearsay.
    pub(super) fn heard(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        source: Source,
        dial_at: Instant,
        random: &mut StdRng,
    ) {
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return;
        }
        if let Some(known) = self.0.get_mut(&peer) {
            match source {
                // A peer that restarted has another port: its old failures are not those of the new address.
                Source::Itself if known.own != addresses => {
                    known.own = addresses;
                    known.failures = 0;
                }
                Source::Itself => {}
                Source::Hearsay => known.hearsay = addresses,
            }
            return;
        }
        if self.0.len() >= MAX_CANDIDATES && !self.make_room(source, random) {
            return;
        }
        let (own, hearsay) = match source {
            Source::Itself => (addresses, Vec::new()),
            Source::Hearsay => (Vec::new(), addresses),
        };
        self.0.insert(peer, Candidate { own, hearsay, dial_at, failures: 0 });
    }

    fn make_room(&mut self, source: Source, random: &mut StdRng) -> bool {
        let only_hearsay = self.0.iter().filter(|(_, candidate)| candidate.own.is_empty());
        let mut victims: Vec<PeerId> = only_hearsay.map(|(peer, _)| *peer).collect();
        if victims.is_empty() && source == Source::Itself {
            victims = self.0.keys().copied().collect();
        }
        // The map's order differs from run to run; sorted, the seed alone decides.
        victims.sort_unstable();
        victims.choose(random).is_some_and(|victim| self.0.remove(victim).is_some())
    }

    /// The peer is connected.
    pub(super) fn reached(&mut self, peer: PeerId) {
        if let Some(candidate) = self.0.get_mut(&peer) {
            candidate.failures = 0;
        }
    }

    /// This node is back from being alone: that nobody could be reached meanwhile was nobody's fault but its network's.
    pub(super) fn forgive(&mut self, now: Instant) {
        for candidate in self.0.values_mut().filter(|candidate| candidate.failures > 0) {
            candidate.failures = 0;
            candidate.dial_at = now;
        }
    }

    /// Not before `until`.
    pub(super) fn pause(&mut self, peer: PeerId, until: Instant) {
        if let Some(candidate) = self.0.get_mut(&peer) {
            candidate.dial_at = candidate.dial_at.max(until);
        }
    }

    /// A dial failed; `jitter` shortens the pause. Returns whether the peer was given up.
    pub(super) fn failed(&mut self, peer: PeerId, now: Instant, jitter: f64) -> bool {
        let Some(candidate) = self.0.get_mut(&peer) else { return true };
        candidate.failures += 1;
        if candidate.failures >= candidate.max_failures() {
            self.0.remove(&peer);
            return true;
        }
        candidate.dial_at = now + (FAILED_PAUSE * 4_u32.pow(candidate.failures - 1)).mul_f64(jitter);
        false
    }

    /// One at random of those that are `eligible` and due; else when the next one will be.
    pub(super) fn choose(
        &self,
        now: Instant,
        eligible: impl Fn(&PeerId) -> bool,
        random: &mut StdRng,
    ) -> Result<(PeerId, Vec<Multiaddr>), Option<Instant>> {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (peer, candidate) in self.0.iter().filter(|(peer, _)| eligible(peer)) {
            if candidate.dial_at <= now {
                due.push(*peer);
            } else {
                next = Some(next.map_or(candidate.dial_at, |at| at.min(candidate.dial_at)));
            }
        }
        due.sort_unstable();
        let peer = due.choose(random).copied().ok_or(next)?;
        self.0.get(&peer).map(|candidate| (peer, candidate.addresses().to_vec())).ok_or(next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
