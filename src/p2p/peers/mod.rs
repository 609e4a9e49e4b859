//! The connection manager: whom to dial, when to look for more peers, whom to close.
//!
//! Pure: fed events and the time, it answers with actions. The rules, in order of rank:
//!
//! * a bootnode that is not connected is dialled again for ever, with growing pauses;
//! * of each joined topic it wants a few connected peers that are on it; while there are fewer it asks the network who is, and
//!   dials some: the topic with the fewest first, and none where `high` leaves no room;
//! * below `low` peers it dials candidates at random, a few at a time, members of such topics first, and searches for more: soon at
//!   first, then ever more rarely as long as nothing changes;
//! * while the meshes of all neighbours are full, so that messages reach it late, it wants a few more than `low`;
//! * above `high` peers it closes some at random, those that dialled us first: but no bootnode, nobody the user asked for, nobody
//!   young, nobody a topic needs, and never so many that fewer than `low` are left that this node chose to dial;
//! * at most one dial per peer, and none to a connected one. Of two nodes that hear of each other at the same moment,
//!   the one with the greater id waits a little, or each would dial the other;
//! * nothing that others do makes it ask more often than its budgets allow (`SEARCHES`, `LOOKUPS`).
//!
//! Candidates are chosen at random, not by closeness: random graphs of degree three and more are connected with high
//! probability, while nearest neighbours may form islands. They know nothing of topics, though: two members of a rare one are
//! hardly ever neighbours by chance, hence the second rule.

mod candidates;
mod needs;
mod seek;
mod settings;
mod trim;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::handle::Direction;
use super::topics::Topic;
use crate::token_bucket::TokenBucket;
use candidates::Candidates;
pub use candidates::Source;
use needs::Needs;
use settings::{
    BOOTNODE_BACKOFF, BOOTNODE_MAX_BACKOFF, LEFT_OUT_EXTRA, LOOKUPS, PUT_OFF, REJOIN_PAUSE, SEARCH_FIRST,
    SEARCH_GAP, SEARCHES, SETTLE, STABLE, UNWANTED_PAUSE, YIELD,
};
pub use settings::{MAX_DIALS, Settings};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node listens, or the time asked for by [`Action::WakeAt`] has come.
    Wake,
    /// A peer's first connection is established; or, of a peer that is connected, which connection stayed.
    Connected(PeerId, Direction),
    /// A peer's last connection is closed.
    Disconnected(PeerId),
    /// A dial that this manager asked for came to nothing.
    DialFailed(PeerId),
    /// A dial that this manager asked for was not made, for a reason that is not the peer's: this node makes as many as it may, or the peer is
    /// being dialled by somebody else.
    DialPutOff(PeerId),
    /// A peer is said to be at these addresses.
    Heard(PeerId, Vec<Multiaddr>, Source),
    /// A connected peer can be asked for others.
    CanSearch,
    /// The user asked for this peer: it is never trimmed.
    Wanted(PeerId),
    /// The user closed this peer: it is not dialled for a while.
    Unwanted(PeerId),
    /// This node has joined a topic, which these connected peers are on.
    Joined(Topic, Vec<PeerId>),
    /// This node has left a topic.
    Left(Topic),
    /// A connected peer is on a topic.
    Subscribed(PeerId, Topic),
    /// A connected peer is on a topic no more.
    Unsubscribed(PeerId, Topic),
    /// These peers are said to be on a topic.
    Members(Topic, Vec<PeerId>),
    /// Whether there is a topic with neighbours on it none of which has this node in its mesh. While there is, this comes again and again.
    LeftOut(bool),
}

/// What to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Dial a peer; the answer is `Connected`, `DialFailed` or `DialPutOff`.
    Dial(PeerId, Vec<Multiaddr>),
    /// Ask the network for peers around a random key; what is found comes as `Heard`.
    Search,
    /// Ask the network who is on a topic; the answer comes as `Members` and `Heard`.
    LookUp(Topic),
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
    direction: Direction,
    /// It has said which topics it is on, or one of them.
    spoke: bool,
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
    needs: Needs,
    /// Not before then does a topic get another dial.
    members_at: Instant,
    /// Peers wanted above `low`, while this node is left out.
    extra: usize,
    /// Since when there are `low` peers.
    enough_since: Option<Instant>,
    lookups: TokenBucket,
    search_at: Option<Instant>,
    search_pause: Duration,
    last_search: Option<Instant>,
    searches: TokenBucket,
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
            needs: Needs::default(),
            members_at: now,
            extra: 0,
            enough_since: None,
            lookups: TokenBucket::full(LOOKUPS, now),
            search_at: None,
            search_pause: SEARCH_FIRST,
            last_search: None,
            searches: TokenBucket::full(SEARCHES, now),
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
            Event::Connected(peer, direction) => self.connected(peer, direction, now),
            Event::Disconnected(peer) => self.disconnected(peer, now),
            Event::DialFailed(peer) => self.dial_failed(peer, now),
            Event::DialPutOff(peer) => self.dial_put_off(peer, now),
            Event::Heard(peer, addresses, source) => self.heard(peer, addresses, source, now),
            Event::CanSearch => {
                let settled = self.enough_since.is_some_and(|since| since + SETTLE.0 <= now);
                self.needs.hasten(self.settings.topic_peers, settled, now);
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
            Event::Joined(topic, peers) => {
                self.needs.joined(topic, peers.into_iter().filter(|peer| self.stays(*peer)).collect());
                if !self.connected.is_empty() {
                    self.needs.hasten(self.settings.topic_peers, false, now);
                }
            }
            Event::Left(topic) => self.needs.left(&topic),
            Event::Subscribed(peer, topic) => {
                if let Some(connection) = self.connected.get_mut(&peer).filter(|held| !held.closing) {
                    connection.spoke = true;
                    self.needs.subscribed(peer, &topic);
                }
            }
            Event::Unsubscribed(peer, topic) => self.needs.unsubscribed(peer, &topic),
            Event::Members(topic, peers) => {
                for peer in peers {
                    if peer != self.settings.local && !self.connected.contains_key(&peer) {
                        self.needs.said(peer, &topic);
                    }
                }
            }
            Event::LeftOut(false) => self.extra = 0,
            // One more each time, not ahead of those that are being dialled.
            Event::LeftOut(true) if self.count_peers() >= self.low() => {
                self.extra = (self.extra + 1).min(LEFT_OUT_EXTRA);
            }
            Event::LeftOut(true) => {}
        }
        self.decide(now)
    }

    /// Below this many peers it dials and searches now.
    fn low(&self) -> usize {
        match self.settings.low {
            0 => 0,
            low => (low + self.extra).min(self.settings.high),
        }
    }

    fn connected(&mut self, peer: PeerId, direction: Direction, now: Instant) {
        self.dialing.remove(&peer);
        if let Some(connection) = self.connected.get_mut(&peer) {
            connection.direction = direction;
            return;
        }
        if self.connected.is_empty() {
            self.candidates.forgive(now);
        }
        self.connected.insert(peer, Connection { since: now, direction, spoke: false, closing: false });
        self.candidates.reached(peer);
        self.needs.connected(peer, now);
    }

    /// Whether a peer is connected and not about to be closed.
    fn stays(&self, peer: PeerId) -> bool {
        self.connected.get(&peer).is_some_and(|connection| !connection.closing)
    }

    fn disconnected(&mut self, peer: PeerId, now: Instant) {
        self.wanted.remove(&peer);
        let Some(connection) = self.connected.remove(&peer) else { return };
        self.needs.disconnected(peer);
        let stable = now.saturating_duration_since(connection.since) >= STABLE;
        if stable {
            // Fewer than before: look around soon again. One that comes and goes changes nothing.
            self.search_pause = SEARCH_FIRST;
            self.search_at = None;
        }
        let pause = self.jittered(REJOIN_PAUSE);
        self.candidates.pause(peer, now + pause);
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
        if self.candidates.failed(peer, now, jitter) {
            self.needs.given_up(peer);
        }
    }

    fn dial_put_off(&mut self, peer: PeerId, now: Instant) {
        self.dialing.remove(&peer);
        let again_at = now + self.jittered(PUT_OFF);
        self.candidates.pause(peer, again_at);
        if let Some(bootnode) = self.bootnodes.iter_mut().find(|bootnode| bootnode.peer == peer) {
            bootnode.dial_at = bootnode.dial_at.max(again_at);
        }
    }

    fn heard(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, source: Source, now: Instant) {
        if peer == self.settings.local || self.is_bootnode(peer) {
            return;
        }
        let dial_at = if self.settings.local > peer { now + self.jittered(YIELD) } else { now };
        self.candidates.heard(peer, addresses, source, dial_at, &mut self.random);
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        jittered(&mut self.random, pause)
    }

    /// Connections that count: neither those we are about to close, nor bootnodes, which join no topics, so that enough of
    /// them are still no network.
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
        self.look_up(now, &mut actions, &mut wake_at);
        if self.count_peers() < self.low() {
            self.enough_since = None;
            self.dial_candidates(now, &mut actions, &mut wake_at);
            self.search(now, &mut actions, &mut wake_at);
        } else {
            let since = *self.enough_since.get_or_insert(now);
            self.dial_members(since, now, &mut actions, &mut wake_at);
            self.search_at = None;
            self.search_pause = SEARCH_FIRST;
        }
        self.trim(now, &mut actions, &mut wake_at);
        if let Some(at) = wake {
            actions.push(Action::WakeAt(at));
        }
        actions
    }
}

fn jittered(random: &mut StdRng, pause: Duration) -> Duration {
    pause.mul_f64(random.random_range(0.75..1.25))
}

#[cfg(test)]
mod tests;
