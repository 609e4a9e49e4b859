//! The connection manager: whom to dial, when to look for more peers, whom to close.
//!
//! Pure: fed events and the time, it answers with actions. The rules, in order of rank:
//!
//! * a bootnode that is not connected is dialled again for ever, with growing pauses;
//! * below `low` peers it dials candidates at random, a few at a time, and searches for more: soon at first, then ever
//!   more rarely as long as nothing changes;
//! * above `high` peers it closes some at random, but no bootnode, nobody the user asked for, and nobody young;
//! * at most one dial per peer, and none to a connected one. Of two nodes that hear of each other at the same moment,
//!   the one with the greater id waits a little, or each would dial the other.
//!
//! Candidates are chosen at random, not by closeness: random graphs of degree three and more are connected with high
//! probability, while nearest neighbours may form islands.

mod candidates;
mod settings;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use candidates::Candidates;
use settings::{
    BOOTNODE_BACKOFF, BOOTNODE_MAX_BACKOFF, BOOTNODE_STABLE, REJOIN_PAUSE, SEARCH_FIRST, SEARCH_GAP,
    SEARCH_MAX, TRIM_GRACE, UNWANTED_PAUSE, YIELD,
};
pub use settings::{MAX_DIALS, Settings};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node listens, or the time asked for by [`Action::WakeAt`] has come.
    Wake,
    /// A peer's first connection is established, whoever dialled.
    Connected(PeerId),
    /// A peer's last connection is closed.
    Disconnected(PeerId),
    /// A dial that this manager asked for came to nothing.
    DialFailed(PeerId),
    /// A peer is said to be at these addresses.
    Heard(PeerId, Vec<Multiaddr>),
    /// A connected peer can be asked for others.
    CanSearch,
    /// The user asked for this peer: it is never trimmed.
    Wanted(PeerId),
    /// The user closed this peer: it is not dialled for a while.
    Unwanted(PeerId),
}

/// What to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Dial a peer; the answer is `Connected` or `DialFailed`.
    Dial(PeerId, Vec<Multiaddr>),
    /// Ask the network for peers around a random key; what is found comes as `Heard`.
    Search,
    /// Close a peer's connections; the answer is `Disconnected`.
    Close(PeerId),
    /// Come back with `Wake` at this time; replaces an earlier one. Without it there is nothing to wait for.
    WakeAt(Instant),
}

#[derive(Debug)]
struct Bootnode {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    /// Pause before the dial after the next.
    backoff: Duration,
    dial_at: Instant,
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    closing: bool,
}

/// The connection manager.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    bootnodes: Vec<Bootnode>,
    connected: HashMap<PeerId, Connection>,
    dialing: HashSet<PeerId>,
    wanted: HashSet<PeerId>,
    candidates: Candidates,
    search_at: Option<Instant>,
    search_pause: Duration,
    last_search: Option<Instant>,
    random: StdRng,
}

impl Manager {
    /// A manager without connections. `seed` decides all its random choices.
    #[must_use]
    pub fn new(
        settings: Settings,
        bootnodes: Vec<(PeerId, Vec<Multiaddr>)>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let bootnodes = bootnodes
            .into_iter()
            .filter(|(peer, _)| *peer != settings.local)
            .map(|(peer, addresses)| Bootnode { peer, addresses, backoff: BOOTNODE_BACKOFF, dial_at: now })
            .collect();
        Self {
            settings,
            bootnodes,
            connected: HashMap::new(),
            dialing: HashSet::new(),
            wanted: HashSet::new(),
            candidates: Candidates::default(),
            search_at: None,
            search_pause: SEARCH_FIRST,
            last_search: None,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Whether this peer is one of the configured bootnodes.
    #[must_use]
    pub fn is_bootnode(&self, peer: PeerId) -> bool {
        self.bootnodes.iter().any(|bootnode| bootnode.peer == peer)
    }

    /// Takes note of `event` at `now` and says what to do.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Wake => {}
            Event::Connected(peer) => {
                self.dialing.remove(&peer);
                self.connected.insert(peer, Connection { since: now, closing: false });
                self.candidates.reached(peer);
            }
            Event::Disconnected(peer) => self.disconnected(peer, now),
            Event::DialFailed(peer) => self.dial_failed(peer, now),
            Event::Heard(peer, addresses) => self.heard(peer, addresses, now),
            Event::CanSearch => {
                let earliest = self.last_search.map_or(now, |last| now.max(last + SEARCH_GAP));
                self.search_at = Some(self.search_at.map_or(earliest, |at| at.min(earliest)));
            }
            Event::Wanted(peer) => {
                // As many as there can be connections; the set is cleaned as they go.
                self.wanted.insert(peer);
            }
            Event::Unwanted(peer) => {
                self.wanted.remove(&peer);
                self.candidates.pause(peer, now + UNWANTED_PAUSE);
                if let Some(bootnode) = self.bootnodes.iter_mut().find(|bootnode| bootnode.peer == peer) {
                    bootnode.dial_at = now + UNWANTED_PAUSE;
                }
            }
        }
        self.decide(now)
    }

    fn disconnected(&mut self, peer: PeerId, now: Instant) {
        self.wanted.remove(&peer);
        let Some(connection) = self.connected.remove(&peer) else { return };
        // Fewer than before: look around soon again.
        self.search_pause = SEARCH_FIRST;
        self.search_at = None;
        let pause = self.jittered(REJOIN_PAUSE);
        self.candidates.pause(peer, now + pause);
        let stable = now.saturating_duration_since(connection.since) >= BOOTNODE_STABLE;
        let jitter = self.random.random_range(0.5..1.0);
        if let Some(bootnode) = self.bootnodes.iter_mut().find(|bootnode| bootnode.peer == peer) {
            // A full bootnode closes newcomers at once: only a connection that lasted starts the pauses anew.
            if stable {
                bootnode.backoff = BOOTNODE_BACKOFF;
            }
            bootnode.dial_at = bootnode.dial_at.max(now + bootnode.backoff.mul_f64(jitter));
            bootnode.backoff = (bootnode.backoff * 2).min(BOOTNODE_MAX_BACKOFF);
        }
    }

    fn dial_failed(&mut self, peer: PeerId, now: Instant) {
        self.dialing.remove(&peer);
        if self.connected.contains_key(&peer) {
            return;
        }
        let jitter = self.random.random_range(0.5..1.0);
        if let Some(bootnode) = self.bootnodes.iter_mut().find(|bootnode| bootnode.peer == peer) {
            bootnode.dial_at = now + bootnode.backoff.mul_f64(jitter);
            bootnode.backoff = (bootnode.backoff * 2).min(BOOTNODE_MAX_BACKOFF);
        }
        self.candidates.failed(peer, now, jitter);
    }

    fn heard(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        if peer == self.settings.local || self.is_bootnode(peer) {
            return;
        }
        let dial_at = if self.settings.local > peer { now + self.jittered(YIELD) } else { now };
        self.candidates.heard(peer, addresses, dial_at, &mut self.random);
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.random_range(0.75..1.25))
    }

    /// Connections that count: those we are about to close do not.
    fn count(&self) -> usize {
        self.connected.values().filter(|connection| !connection.closing).count()
    }

    /// Those of them that are no bootnodes: bootnodes join no topics, so enough of them are still no network.
    fn count_peers(&self) -> usize {
        let counts =
            |(peer, connection): &(&PeerId, &Connection)| !connection.closing && !self.is_bootnode(**peer);
        self.connected.iter().filter(counts).count()
    }

    fn decide(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut wake: Option<Instant> = None;
        let mut wake_at = |at: Instant| wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        self.dial_bootnodes(now, &mut actions, &mut wake_at);
        if self.count_peers() < self.settings.low {
            self.dial_candidates(now, &mut actions, &mut wake_at);
            self.search(now, &mut actions, &mut wake_at);
        } else {
            self.search_at = None;
            self.search_pause = SEARCH_FIRST;
        }
        self.trim(now, &mut actions, &mut wake_at);
        if let Some(at) = wake {
            actions.push(Action::WakeAt(at));
        }
        actions
    }

    fn dial_bootnodes(&mut self, now: Instant, actions: &mut Vec<Action>, wake_at: &mut impl FnMut(Instant)) {
        for bootnode in &self.bootnodes {
            if self.connected.contains_key(&bootnode.peer) || self.dialing.contains(&bootnode.peer) {
                continue;
            }
            if bootnode.dial_at <= now {
                self.dialing.insert(bootnode.peer);
                actions.push(Action::Dial(bootnode.peer, bootnode.addresses.clone()));
            } else {
                wake_at(bootnode.dial_at);
            }
        }
    }

    fn dial_candidates(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        // A bootnode being dialled is as good as a peer to come, but must not hold up the others while it is down.
        let dialing = self.dialing.iter().filter(|peer| !self.is_bootnode(**peer)).count();
        let missing = self.settings.low.saturating_sub(self.count_peers() + dialing);
        let mut slots = missing.min(MAX_DIALS.saturating_sub(dialing));
        while slots > 0 {
            let busy = |peer: &PeerId| self.connected.contains_key(peer) || self.dialing.contains(peer);
            match self.candidates.choose(now, busy, &mut self.random) {
                Ok((peer, addresses)) => {
                    self.dialing.insert(peer);
                    actions.push(Action::Dial(peer, addresses));
                    slots -= 1;
                }
                Err(next) => {
                    if let Some(at) = next {
                        wake_at(at);
                    }
                    return;
                }
            }
        }
    }

    fn search(&mut self, now: Instant, actions: &mut Vec<Action>, wake_at: &mut impl FnMut(Instant)) {
        if self.connected.is_empty() {
            // Nobody to ask; `CanSearch` comes with the first peer.
            self.search_at = None;
            return;
        }
        let pause = self.search_pause;
        let at = match self.search_at {
            Some(at) => at,
            None => now + self.jittered(pause),
        };
        if at > now {
            self.search_at = Some(at);
            wake_at(at);
            return;
        }
        actions.push(Action::Search);
        self.last_search = Some(now);
        let next = now + self.jittered(pause);
        self.search_at = Some(next);
        self.search_pause = (pause * 2).min(SEARCH_MAX);
        wake_at(next);
    }

    fn trim(&mut self, now: Instant, actions: &mut Vec<Action>, wake_at: &mut impl FnMut(Instant)) {
        let mut excess = self.count().saturating_sub(self.settings.high);
        if excess == 0 {
            return;
        }
        let mut old = Vec::new();
        for (peer, connection) in &self.connected {
            if connection.closing || self.wanted.contains(peer) || self.is_bootnode(*peer) {
                continue;
            }
            let ripe_at = connection.since + TRIM_GRACE;
            if ripe_at <= now { old.push(*peer) } else { wake_at(ripe_at) }
        }
        // The map's order differs from run to run; sorted, the seed alone decides.
        old.sort_unstable();
        while excess > 0 {
            let Some(peer) = old.choose(&mut self.random).copied() else { return };
            old.retain(|other| *other != peer);
            if let Some(connection) = self.connected.get_mut(&peer) {
                connection.closing = true;
            }
            actions.push(Action::Close(peer));
            excess -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
