mod needs;
mod seek;
mod trim;

use super::candidates::MAX_CANDIDATES;
use super::settings::*;
use super::*;
use crate::token_bucket::Rate;
use proptest::prelude::*;

/// A manager with its own clock, and the actions it last asked for.
struct World {
    manager: Manager,
    now: Instant,
    actions: Vec<Action>,
}

fn address(port: u16) -> Vec<Multiaddr> {
    vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]
}

/// Ids in ascending order; the local node takes the lowest and so yields to nobody.
fn ids(count: usize) -> Vec<PeerId> {
    let mut ids: Vec<PeerId> = (0..count).map(|_| PeerId::random()).collect();
    ids.sort_unstable();
    ids
}

impl World {
    fn new(local: PeerId, low: usize, high: usize, bootnodes: &[PeerId]) -> Self {
        let now = Instant::now();
        let bootnodes = bootnodes.iter().map(|peer| (*peer, address(1))).collect();
        let settings = Settings { local, low, high, topic_peers: TOPIC_PEERS };
        let manager = Manager::new(settings, bootnodes, 7, now);
        Self { manager, now, actions: Vec::new() }
    }

    fn hear(&mut self, peer: PeerId, port: u16) -> &mut Self {
        self.on(Event::Heard(peer, address(port), Source::Hearsay))
    }

    fn dialled_us(&mut self, peer: PeerId) -> &mut Self {
        self.on(Event::Connected(peer, Direction::Inbound))
    }

    fn reach(&mut self, peer: PeerId) -> &mut Self {
        self.on(Event::Connected(peer, Direction::Outbound))
    }

    fn on(&mut self, event: Event) -> &mut Self {
        self.actions = self.manager.on_event(event, self.now);
        self
    }

    fn dials(&self) -> Vec<PeerId> {
        let dial = |action: &Action| if let Action::Dial(peer, _) = action { Some(*peer) } else { None };
        self.actions.iter().filter_map(dial).collect()
    }

    fn closed(&self) -> Vec<PeerId> {
        let close = |action: &Action| if let Action::Close(peer) = action { Some(*peer) } else { None };
        self.actions.iter().filter_map(close).collect()
    }

    fn searched(&self) -> bool {
        self.actions.contains(&Action::Search)
    }

    fn wake(&self) -> Option<Instant> {
        self.actions.iter().find_map(|action| if let Action::WakeAt(at) = action { Some(*at) } else { None })
    }

    /// Goes to the time that the manager asked for.
    fn sleep(&mut self) -> Duration {
        let at = self.wake().expect("a time to wake at");
        let slept = at - self.now;
        self.now = at;
        self.on(Event::Wake);
        slept
    }
}

#[test]
fn a_bootnode_is_dialled_at_the_start_and_for_ever_with_growing_pauses() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 6, 16, &ids[1..]);
    assert_eq!(world.on(Event::Wake).dials(), [ids[1]]);
    let mut pauses = Vec::new();
    for _ in 0..40 {
        world.on(Event::DialFailed(ids[1]));
        pauses.push(world.sleep());
        assert_eq!(world.dials(), [ids[1]]);
    }
    assert!(pauses[0] <= BOOTNODE_BACKOFF && pauses[0] >= BOOTNODE_BACKOFF / 2);
    assert!(pauses[39] <= BOOTNODE_MAX_BACKOFF && pauses[39] >= BOOTNODE_MAX_BACKOFF / 2);
}

#[test]
fn a_bootnode_that_throws_us_out_at_once_is_dialled_ever_more_rarely() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 0, 16, &ids[1..]);
    world.on(Event::Wake);
    for _ in 0..10 {
        world.reach(ids[1]).on(Event::Disconnected(ids[1]));
        world.sleep();
    }
    world.reach(ids[1]).on(Event::Disconnected(ids[1]));
    assert!(world.wake().unwrap() - world.now >= BOOTNODE_MAX_BACKOFF / 2);
    world.sleep();
    world.reach(ids[1]);
    world.now += STABLE;
    world.on(Event::Disconnected(ids[1]));
    assert!(world.sleep() <= BOOTNODE_BACKOFF, "a lasting connection starts the pauses anew");
}

#[test]
fn dials_are_few_at_a_time_and_stop_at_the_low_mark() {
    let ids = ids(30);
    let mut world = World::new(ids[0], 5, 16, &[]);
    let mut under_way = Vec::new();
    for peer in &ids[1..] {
        world.hear(*peer, 2);
        under_way.extend(world.dials());
    }
    assert_eq!(under_way.len(), MAX_DIALS);
    let mut connected = 0;
    while let Some(peer) = under_way.pop() {
        connected += 1;
        under_way.extend(world.reach(peer).dials());
        assert!(under_way.len() <= MAX_DIALS);
    }
    assert_eq!(connected, 5);
}

#[test]
fn nobody_is_dialled_who_is_connected_or_being_dialled() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    assert_eq!(world.hear(ids[1], 2).dials().len(), 1);
    assert_eq!(world.hear(ids[1], 3).dials().len(), 0);
    world.reach(ids[1]);
    assert_eq!(world.hear(ids[1], 4).dials().len(), 0);
    assert_eq!(world.hear(ids[0], 4).dials().len(), 0, "nor itself");
}

#[test]
fn of_two_that_hear_of_each_other_one_waits() {
    let ids = ids(2);
    let mut low = World::new(ids[0], 5, 16, &[]);
    let mut high = World::new(ids[1], 5, 16, &[]);
    assert_eq!(low.hear(ids[1], 2).dials(), [ids[1]]);
    assert!(high.hear(ids[0], 2).dials().is_empty());
    assert!(high.sleep() <= YIELD.mul_f64(1.25));
    assert_eq!(high.dials(), [ids[0]], "but not for ever");
}

#[test]
fn searches_come_soon_at_first_and_rarely_in_the_end() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 6, 16, &[]);
    world.reach(ids[1]).on(Event::CanSearch);
    assert!(world.searched());
    let mut pauses = Vec::new();
    for _ in 0..15 {
        pauses.push(world.sleep());
        assert!(world.searched());
    }
    assert!(pauses[0] <= SEARCH_FIRST.mul_f64(1.25));
    assert!(pauses[14] >= SEARCH_MAX.mul_f64(0.75) && pauses[14] <= SEARCH_MAX.mul_f64(1.25));
    world.reach(ids[2]);
    world.now += STABLE;
    world.on(Event::Disconnected(ids[2]));
    assert!(world.sleep() <= SEARCH_FIRST.mul_f64(1.25), "a lost peer makes it hurry again");
}

#[test]
fn at_rest_there_is_nothing_to_wait_for() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 6, 16, &[]);
    for peer in &ids[1..] {
        world.reach(*peer).on(Event::CanSearch);
    }
    assert_eq!(world.on(Event::Wake).actions, []);
}

#[test]
fn a_candidate_that_never_answers_is_forgotten() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.hear(ids[1], 2);
    for _ in 0..2 {
        world.on(Event::DialFailed(ids[1]));
        world.sleep();
        assert_eq!(world.dials(), [ids[1]]);
    }
    assert_eq!(world.on(Event::DialFailed(ids[1])).actions, []);
    assert_eq!(world.manager.candidates.len(), 0);
}

#[test]
fn a_peer_that_the_user_closed_is_left_alone_for_a_while() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.hear(ids[1], 2).reach(ids[1]);
    world.on(Event::Unwanted(ids[1])).on(Event::Disconnected(ids[1]));
    assert!(world.dials().is_empty());
    assert!(world.sleep() >= UNWANTED_PAUSE - Duration::from_secs(1));
    assert_eq!(world.dials(), [ids[1]]);
}

#[derive(Debug, Clone)]
enum Step {
    Event(u8, usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..14_u8, 0..40_usize).prop_map(|(kind, peer)| Step::Event(kind, peer)),
        1 => (0..20_000_u16).prop_map(Step::Wait),
    ]
}

fn topic(index: usize) -> Topic {
    format!("topic-{}", index % 4).parse().unwrap()
}

proptest! {
    /// Whatever comes in whatever order: dials are bounded and never doubled, nobody is closed who is not there, the
    /// bootnode is never given up, a wake-up is never in the past, and outbound connections are not trimmed below `low`.
    #[test]
    fn the_rules_hold_in_any_order(steps in proptest::collection::vec(step(), 1..300)) {
        const LOW: usize = 6;
        let ids = ids(41);
        let mut world = World::new(ids[0], LOW, 10, &ids[1..2]);
        let (mut dialing, mut connected) = (HashSet::new(), HashMap::new());
        let mut questions = 0;
        let begin = world.now;
        for step in steps {
            let event = match step {
                Step::Wait(millis) => {
                    world.now += Duration::from_millis(millis.into());
                    Event::Wake
                }
                Step::Event(kind, index) => {
                    let peer = ids[index + 1];
                    let there = connected.contains_key(&peer);
                    match kind {
                        0 | 1 if !there => {
                            let direction =
                                if dialing.remove(&peer) { Direction::Outbound } else { Direction::Inbound };
                            connected.insert(peer, direction);
                            Event::Connected(peer, direction)
                        }
                        1 if connected.remove(&peer).is_some() => Event::Disconnected(peer),
                        2 if dialing.remove(&peer) => Event::DialFailed(peer),
                        3 => Event::CanSearch,
                        4 if there => Event::Wanted(peer),
                        5 if there => Event::Unwanted(peer),
                        6 if there => Event::Subscribed(peer, topic(index)),
                        7 if there => Event::Unsubscribed(peer, topic(index)),
                        8 => Event::Joined(topic(index), connected.keys().copied().collect()),
                        9 => Event::Left(topic(index)),
                        10 => Event::Members(topic(index), ids[index..].to_vec()),
                        11 => Event::Heard(peer, address(index as u16 + 50), Source::Itself),
                        12 => Event::LeftOut(index % 4 != 0),
                        _ => Event::Heard(peer, address(index as u16 + 1), Source::Hearsay),
                    }
                }
            };
            world.on(event);
            let mut outbound = connected
                .iter()
                .filter(|(peer, direction)| **peer != ids[1] && **direction == Direction::Outbound && world.manager.stays(**peer))
                .count() + world.closed().iter().filter(|peer| connected[*peer] == Direction::Outbound).count();
            for action in &world.actions {
                match action {
                    Action::Dial(peer, addresses) => {
                        prop_assert!(!addresses.is_empty());
                        prop_assert!(!connected.contains_key(peer), "dialled a connected peer");
                        prop_assert!(*peer != ids[0], "dialled itself");
                        prop_assert!(dialing.insert(*peer), "dialled twice");
                    }
                    Action::Close(peer) => {
                        prop_assert!(*peer != ids[1]);
                        if connected[peer] == Direction::Outbound {
                            prop_assert!(outbound > LOW, "closed one of the few that we chose");
                            outbound -= 1;
                        }
                    }
                    Action::WakeAt(at) => prop_assert!(*at > world.now),
                    Action::Search | Action::LookUp(_) => {
                        questions += 1;
                        prop_assert!(!connected.is_empty());
                    }
                }
            }
            let most =
                |rate: Rate| rate.burst + (world.now - begin).div_duration_f64(rate.every) as u32;
            prop_assert!(questions <= most(SEARCHES) + most(LOOKUPS));
            prop_assert!(dialing.len() <= MAX_DIALS + 1);
            prop_assert!(world.manager.candidates.len() <= MAX_CANDIDATES);
            let bootnode = ids[1];
            prop_assert!(connected.contains_key(&bootnode) || dialing.contains(&bootnode) || world.wake().is_some());
        }
    }

    /// Hearsay fills no memory.
    #[test]
    fn candidates_are_bounded(count in 1..400_usize) {
        let mut world = World::new(PeerId::random(), 0, 10, &[]);
        for _ in 0..count {
            world.hear(PeerId::random(), 2);
        }
        prop_assert!(world.manager.candidates.len() <= MAX_CANDIDATES);
    }
}
