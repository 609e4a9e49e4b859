//! Peers that could be dialled: a bounded set, with their addresses and when each may be tried next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Candidates remembered. Ten times the usual number of connections is choice enough; hearsay of strangers fills no memory.
pub(super) const MAX_CANDIDATES: usize = 128;
/// Addresses remembered of each.
pub(super) const MAX_ADDRESSES: usize = 4;
/// After this many failed dials in a row a candidate is forgotten.
const MAX_FAILURES: u32 = 3;
/// Pause after the first failed dial; quadruples.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Candidate {
    addresses: Vec<Multiaddr>,
    dial_at: Instant,
    failures: u32,
}

/// The set of candidates, connected ones included: a lost peer is a candidate again.
#[derive(Debug, Default)]
pub(super) struct Candidates(HashMap<PeerId, Candidate>);

impl Candidates {
    /// Takes note of a peer's addresses; the latest are kept. A newcomer may be dialled from `dial_at` on. When the set is full, a
    /// candidate chosen at random makes room, so that nobody can hold all places by being first.
    pub(super) fn heard(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        dial_at: Instant,
        random: &mut StdRng,
    ) {
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return;
        }
        if let Some(known) = self.0.get_mut(&peer) {
            // A peer that restarted has another port: its old failures are not those of the new address.
            if known.addresses != addresses {
                known.addresses = addresses;
                known.failures = 0;
            }
            return;
        }
        if self.0.len() >= MAX_CANDIDATES {
            let mut peers: Vec<PeerId> = self.0.keys().copied().collect();
            peers.sort_unstable();
            if let Some(victim) = peers.choose(random) {
                self.0.remove(victim);
            }
        }
        self.0.insert(peer, Candidate { addresses, dial_at, failures: 0 });
    }

    /// The peer is connected.
    pub(super) fn reached(&mut self, peer: PeerId) {
        if let Some(candidate) = self.0.get_mut(&peer) {
            candidate.failures = 0;
        }
    }

    /// Not before `until`.
    pub(super) fn pause(&mut self, peer: PeerId, until: Instant) {
        if let Some(candidate) = self.0.get_mut(&peer) {
            candidate.dial_at = candidate.dial_at.max(until);
        }
    }

    /// A dial failed; `jitter` shortens the pause.
    pub(super) fn failed(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        let Some(candidate) = self.0.get_mut(&peer) else { return };
        candidate.failures += 1;
        if candidate.failures >= MAX_FAILURES {
            self.0.remove(&peer);
        } else {
            candidate.dial_at = now + (FAILED_PAUSE * 4_u32.pow(candidate.failures - 1)).mul_f64(jitter);
        }
    }

    /// One at random of those that are due and not `busy`; else when the next one will be.
    pub(super) fn choose(
        &self,
        now: Instant,
        busy: impl Fn(&PeerId) -> bool,
        random: &mut StdRng,
    ) -> Result<(PeerId, Vec<Multiaddr>), Option<Instant>> {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (peer, candidate) in self.0.iter().filter(|(peer, _)| !busy(peer)) {
            if candidate.dial_at <= now {
                due.push(*peer);
            } else {
                next = Some(next.map_or(candidate.dial_at, |at| at.min(candidate.dial_at)));
            }
        }
        due.sort_unstable();
        let peer = due.choose(random).copied().ok_or(next)?;
        self.0.get(&peer).map(|candidate| (peer, candidate.addresses.clone())).ok_or(next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
