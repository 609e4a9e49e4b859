//! At which relays a node keeps a place, through which others reach it.
//!
//! Pure: fed events and the time, it answers with actions. The rules:
//!
//! * a place at each relay that the configuration names;
//! * with `/p2p-circuit`, which names none, [`PLACES`] more at connected peers that are relays: bootnodes first, since nobody
//!   closes them for being one too many, then those that have failed least;
//! * a place that is lost or refused is asked for again after a pause that doubles, and meanwhile at another relay if there is one;
//! * a relay that comes back is a new one: it has no failures.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Places kept at relays that were not named: a second one, so that nobody is lost while the first relay restarts.
const PLACES: usize = 2;
/// Pause after a place was lost or refused for the first time; doubles.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause: a full relay is asked twice a minute.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A place that was held for so long starts the pauses anew.
const STABLE: Duration = Duration::from_secs(10);

/// What the configuration asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `/p2p-circuit`: at any relay.
    pub(crate) any: bool,
    /// `…/p2p/RELAY/p2p-circuit`: at that one, found there.
    pub(crate) named: Vec<(PeerId, Multiaddr)>,
}

impl Wish {
    /// What the relayed ones among the addresses to listen on ask for.
    pub(crate) fn of<'a>(relayed: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        let mut wish = Self::default();
        for address in relayed {
            let mut relay = address.clone();
            if relay.pop() != Some(Protocol::P2pCircuit) {
                continue;
            }
            match relay.iter().last() {
                Some(Protocol::P2p(peer)) => wish.named.push((peer, relay)),
                _ => wish.any = true,
            }
        }
        wish
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connected peer is a relay, found at this address.
    Relay { peer: PeerId, address: Multiaddr, bootnode: bool },
    /// It is connected no more.
    Gone(PeerId),
    /// The relay has given the place.
    Held(ListenerId),
    /// The place is lost, or was never given.
    Closed(ListenerId),
    /// It could not even be asked for.
    Failed(PeerId),
    /// The time asked for has come.
    Wake,
}

/// What to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the relay at this address for a place; to be told with [`Places::asked`].
    Reserve(PeerId, Multiaddr),
    /// Keep the connection with this peer.
    Keep(PeerId),
    /// Come back with [`Event::Wake`] at this time; replaces an earlier one.
    WakeAt(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Without a place; may be asked from then on.
    Idle(Instant),
    /// Asked; the listener is known as soon as there is one.
    Asked(Option<ListenerId>),
    Held(ListenerId, Instant),
}

#[derive(Debug)]
struct Relay {
    address: Multiaddr,
    bootnode: bool,
    state: State,
    failures: u32,
}

/// See the module's comment. As many relays are known as peers are connected.
#[derive(Debug)]
pub(crate) struct Places {
    wish: Wish,
    relays: HashMap<PeerId, Relay>,
    random: StdRng,
}

impl Places {
    pub(crate) fn new(wish: Wish, seed: u64) -> Self {
        Self { wish, relays: HashMap::new(), random: StdRng::seed_from_u64(seed) }
    }

    /// Whether the configuration asks for any.
    pub(crate) fn are_wanted(&self) -> bool {
        self.wish.any || !self.wish.named.is_empty()
    }

    /// How many relays have given a place.
    pub(crate) fn held(&self) -> usize {
        self.relays.values().filter(|relay| matches!(relay.state, State::Held(..))).count()
    }

    /// Whether a listener stands for one of the places.
    pub(crate) fn is_place(&self, listener: ListenerId) -> bool {
        self.of_listener(listener).is_some()
    }

    /// The relay was asked; `listener` stands for the place.
    pub(crate) fn asked(&mut self, peer: PeerId, listener: ListenerId) {
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.state = State::Asked(Some(listener));
        }
    }

    /// Takes note of `event` at `now` and says what to do.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Relay { peer, address, bootnode } => {
                // Told again on every connection with the same peer.
                self.relays.entry(peer).or_insert(Relay {
                    address,
                    bootnode,
                    state: State::Idle(now),
                    failures: 0,
                });
            }
            Event::Gone(peer) => {
                self.relays.remove(&peer);
            }
            Event::Held(listener) => {
                if let Some(peer) = self.of_listener(listener)
                    && let Some(relay) = self.relays.get_mut(&peer)
                    && !matches!(relay.state, State::Held(..))
                {
                    relay.state = State::Held(listener, now);
                    actions.push(Action::Keep(peer));
                }
            }
            Event::Closed(listener) => {
                if let Some(peer) = self.of_listener(listener) {
                    self.lost(peer, now);
                }
            }
            Event::Failed(peer) => self.lost(peer, now),
            Event::Wake => {}
        }
        self.decide(now, &mut actions);
        actions
    }

    fn of_listener(&self, listener: ListenerId) -> Option<PeerId> {
        let stands = |relay: &Relay| match relay.state {
            State::Asked(id) => id == Some(listener),
            State::Held(id, _) => id == listener,
            State::Idle(_) => false,
        };
        self.relays.iter().find(|(_, relay)| stands(relay)).map(|(peer, _)| *peer)
    }

    fn lost(&mut self, peer: PeerId, now: Instant) {
        let jitter = self.random.random_range(0.75..1.25);
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        if matches!(relay.state, State::Held(_, since) if now.saturating_duration_since(since) >= STABLE) {
            relay.failures = 0;
        }
        let pause = BACKOFF.saturating_mul(1 << relay.failures.min(16)).min(MAX_BACKOFF).mul_f64(jitter);
        relay.failures += 1;
        relay.state = State::Idle(now + pause);
    }

    fn is_named(&self, peer: PeerId) -> bool {
        self.wish.named.iter().any(|(named, _)| *named == peer)
    }

    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut free = if self.wish.any { PLACES } else { 0 };
        let mut idle: Vec<(bool, bool, u32, PeerId, Instant)> = Vec::new();
        for (peer, relay) in &self.relays {
            let named = self.is_named(*peer);
            match relay.state {
                State::Idle(at) => idle.push((!named, !relay.bootnode, relay.failures, *peer, at)),
                _ if !named => free = free.saturating_sub(1),
                _ => {}
            }
        }
        // Named ones first, then bootnodes, then those that failed least; the id makes it the same on every run.
        idle.sort_unstable();
        let mut wake: Option<Instant> = None;
        for (unnamed, _, _, peer, at) in idle {
            if unnamed && free == 0 {
                continue;
            }
            if at > now {
                wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
            } else if let Some(relay) = self.relays.get_mut(&peer) {
                relay.state = State::Asked(None);
                actions.push(Action::Reserve(peer, relay.address.clone()));
                free = free.saturating_sub(usize::from(unnamed));
            }
        }
        actions.extend(wake.map(Action::WakeAt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        places: Places,
        start: Instant,
    }

    fn peer(number: u8) -> PeerId {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([number; 32]).unwrap();
        key.public().to_peer_id()
    }

    fn address(number: u8) -> Multiaddr {
        format!("/ip4/10.0.0.{number}/tcp/4002").parse().unwrap()
    }

    fn any() -> Wish {
        Wish { any: true, named: Vec::new() }
    }

    impl Story {
        fn new(wish: Wish) -> Self {
            Self { places: Places::new(wish, 7), start: Instant::now() }
        }

        /// Which relays are asked after `event`, `ms` from the start; and when it wants to be woken.
        fn at(&mut self, ms: u64, event: Event) -> (Vec<PeerId>, Option<u64>) {
            let now = self.start + Duration::from_millis(ms);
            let mut asked = Vec::new();
            let mut wake = None;
            for action in self.places.on_event(event, now) {
                match action {
                    Action::Reserve(peer, _) => asked.push(peer),
                    Action::WakeAt(at) => wake = Some((at - self.start).as_millis() as u64),
                    Action::Keep(_) => {}
                }
            }
            (asked, wake)
        }

        fn relay(&mut self, ms: u64, number: u8, bootnode: bool) -> Vec<PeerId> {
            let event = Event::Relay { peer: peer(number), address: address(number), bootnode };
            self.at(ms, event).0
        }

        /// The relay gives the place.
        fn give(&mut self, ms: u64, number: u8) -> ListenerId {
            let listener = ListenerId::next();
            self.places.asked(peer(number), listener);
            assert_eq!(self.at(ms, Event::Held(listener)).0, []);
            listener
        }
    }

    #[test]
    fn two_places_are_kept_and_a_third_relay_is_not_asked() {
        let mut story = Story::new(any());
        assert_eq!(story.relay(0, 1, true), [peer(1)]);
        assert_eq!(story.relay(0, 2, false), [peer(2)]);
        assert_eq!(story.relay(0, 3, true), []);
        story.give(1, 1);
        story.give(1, 2);
        assert_eq!(story.places.held(), 2);
        assert_eq!(story.relay(2, 1, true), [], "told again");
    }

    #[test]
    fn a_refused_place_is_asked_for_elsewhere_first_bootnodes_before_others() {
        let mut story = Story::new(any());
        story.relay(0, 1, false);
        let first = ListenerId::next();
        story.places.asked(peer(1), first);
        story.relay(0, 2, false);
        story.give(1, 2);
        assert_eq!(story.relay(2, 3, false), []);
        assert_eq!(story.relay(2, 4, true), []);
        let (asked, wake) = story.at(10, Event::Closed(first));
        assert_eq!((asked, wake), (vec![peer(4)], None), "no place is free for the one that refused");
    }

    #[test]
    fn a_relay_that_refuses_is_asked_ever_more_rarely() {
        let mut story = Story::new(any());
        story.relay(0, 1, true);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let listener = ListenerId::next();
            story.places.asked(peer(1), listener);
            let (asked, wake) = story.at(now, Event::Closed(listener));
            assert_eq!(asked, []);
            let at = wake.expect("a time to try again") + 1;
            pauses.push(at - now);
            now = at;
            assert_eq!(story.at(now, Event::Wake).0, [peer(1)]);
        }
        assert!((187..=314).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.windows(2).take(6).all(|pair| pair[1] > pair[0]), "{pauses:?}");
        assert!((22_500..=37_501).contains(&pauses[11]), "{pauses:?}");
    }

    #[test]
    fn a_place_that_lasted_is_asked_for_again_soon_and_a_relay_that_came_back_at_once() {
        let mut story = Story::new(any());
        story.relay(0, 1, true);
        let listener = story.give(0, 1);
        let (_, wake) = story.at(60_000, Event::Closed(listener));
        assert!(wake.is_some_and(|at| at <= 60_313), "{wake:?}");
        assert_eq!(story.at(60_100, Event::Gone(peer(1))), (vec![], None));
        assert_eq!(story.relay(60_200, 1, true), [peer(1)]);
    }

    #[test]
    fn a_named_relay_is_asked_whatever_else_is_held_and_others_only_with_the_general_form() {
        let named = format!("{}/p2p/{}/p2p-circuit", address(1), peer(1)).parse().unwrap();
        let circuit: Multiaddr = "/p2p-circuit".parse().unwrap();
        let only_named = Wish::of([&named]);
        assert!(!only_named.any);
        assert_eq!(only_named.named.len(), 1);
        let mut story = Story::new(only_named);
        assert_eq!(story.relay(0, 2, true), []);
        assert_eq!(story.relay(0, 1, false), [peer(1)]);

        let mut story = Story::new(Wish::of([&circuit, &named]));
        assert_eq!(story.relay(0, 2, true), [peer(2)]);
        assert_eq!(story.relay(0, 3, true), [peer(3)]);
        assert_eq!(story.relay(0, 4, true), []);
        assert_eq!(story.relay(0, 1, false), [peer(1)]);
    }
}
