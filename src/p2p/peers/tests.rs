use super::candidates::MAX_CANDIDATES;
use super::*;
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
        let manager = Manager::new(Settings { local, low, high }, bootnodes, 7, now);
        Self { manager, now, actions: Vec::new() }
    }

    fn on(&mut self, event: Event) -> &mut Self {
        self.actions = self.manager.on_event(event, self.now);
        self
    }

    fn dials(&self) -> Vec<PeerId> {
        let dial = |action: &Action| if let Action::Dial(peer, _) = action { Some(*peer) } else { None };
        self.actions.iter().filter_map(dial).collect()
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
        world.on(Event::Connected(ids[1])).on(Event::Disconnected(ids[1]));
        world.sleep();
    }
    world.on(Event::Connected(ids[1])).on(Event::Disconnected(ids[1]));
    assert!(world.wake().unwrap() - world.now >= BOOTNODE_MAX_BACKOFF / 2);
    world.sleep();
    world.on(Event::Connected(ids[1]));
    world.now += BOOTNODE_STABLE;
    world.on(Event::Disconnected(ids[1]));
    assert!(world.sleep() <= BOOTNODE_BACKOFF, "a lasting connection starts the pauses anew");
}

#[test]
fn dials_are_few_at_a_time_and_stop_at_the_low_mark() {
    let ids = ids(30);
    let mut world = World::new(ids[0], 5, 16, &[]);
    let mut under_way = Vec::new();
    for peer in &ids[1..] {
        world.on(Event::Heard(*peer, address(2)));
        under_way.extend(world.dials());
    }
    assert_eq!(under_way.len(), MAX_DIALS);
    let mut connected = 0;
    while let Some(peer) = under_way.pop() {
        connected += 1;
        under_way.extend(world.on(Event::Connected(peer)).dials());
        assert!(under_way.len() <= MAX_DIALS);
    }
    assert_eq!(connected, 5);
}

#[test]
fn nobody_is_dialled_who_is_connected_or_being_dialled() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    assert_eq!(world.on(Event::Heard(ids[1], address(2))).dials().len(), 1);
    assert_eq!(world.on(Event::Heard(ids[1], address(3))).dials().len(), 0);
    world.on(Event::Connected(ids[1]));
    assert_eq!(world.on(Event::Heard(ids[1], address(4))).dials().len(), 0);
    assert_eq!(world.on(Event::Heard(ids[0], address(4))).dials().len(), 0, "nor itself");
}

#[test]
fn of_two_that_hear_of_each_other_one_waits() {
    let ids = ids(2);
    let mut low = World::new(ids[0], 5, 16, &[]);
    let mut high = World::new(ids[1], 5, 16, &[]);
    assert_eq!(low.on(Event::Heard(ids[1], address(2))).dials(), [ids[1]]);
    assert!(high.on(Event::Heard(ids[0], address(2))).dials().is_empty());
    assert!(high.sleep() <= YIELD.mul_f64(1.25));
    assert_eq!(high.dials(), [ids[0]], "but not for ever");
}

#[test]
fn searches_come_soon_at_first_and_rarely_in_the_end() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 6, 16, &[]);
    world.on(Event::Connected(ids[1])).on(Event::CanSearch);
    assert!(world.searched());
    let mut pauses = Vec::new();
    for _ in 0..15 {
        pauses.push(world.sleep());
        assert!(world.searched());
    }
    assert!(pauses[0] <= SEARCH_FIRST.mul_f64(1.25));
    assert!(pauses[14] >= SEARCH_MAX.mul_f64(0.75) && pauses[14] <= SEARCH_MAX.mul_f64(1.25));
    world.on(Event::Connected(ids[2])).on(Event::Disconnected(ids[2]));
    assert!(world.sleep() <= SEARCH_FIRST.mul_f64(1.25), "a lost peer makes it hurry again");
}

#[test]
fn at_rest_there_is_nothing_to_wait_for() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 6, 16, &[]);
    for peer in &ids[1..] {
        world.on(Event::Connected(*peer)).on(Event::CanSearch);
    }
    assert_eq!(world.on(Event::Wake).actions, []);
}

#[test]
fn too_many_peers_are_trimmed_but_not_young_wanted_or_boot_nodes() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 1, 2, &ids[1..2]);
    world.on(Event::Wanted(ids[2]));
    for peer in &ids[1..] {
        world.on(Event::Connected(*peer));
    }
    assert!(!world.actions.iter().any(|action| matches!(action, Action::Close(_))), "all are young");
    assert_eq!(world.sleep(), TRIM_GRACE);
    let closed: Vec<_> = world
        .actions
        .iter()
        .filter_map(|action| if let Action::Close(peer) = action { Some(*peer) } else { None })
        .collect();
    assert_eq!(closed.len(), 5);
    assert!(!closed.contains(&ids[1]) && !closed.contains(&ids[2]));
    assert_eq!(world.on(Event::Wake).actions, [], "nobody is closed twice");
}

#[test]
fn a_candidate_that_never_answers_is_forgotten() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.on(Event::Heard(ids[1], address(2)));
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
    world.on(Event::Heard(ids[1], address(2))).on(Event::Connected(ids[1]));
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
        4 => (0..7_u8, 0..40_usize).prop_map(|(kind, peer)| Step::Event(kind, peer)),
        1 => (0..20_000_u16).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever comes in whatever order: dials are bounded and never doubled, nobody is closed who is not there, the
    /// bootnode is never given up, and a wake-up is never in the past.
    #[test]
    fn the_rules_hold_in_any_order(steps in proptest::collection::vec(step(), 1..300)) {
        let ids = ids(41);
        let mut world = World::new(ids[0], 6, 10, &ids[1..2]);
        let (mut dialing, mut connected) = (HashSet::new(), HashSet::new());
        for step in steps {
            let event = match step {
                Step::Wait(millis) => {
                    world.now += Duration::from_millis(millis.into());
                    Event::Wake
                }
                Step::Event(kind, index) => {
                    let peer = ids[index + 1];
                    match kind {
                        0 if connected.insert(peer) => { dialing.remove(&peer); Event::Connected(peer) }
                        1 if connected.remove(&peer) => Event::Disconnected(peer),
                        2 if dialing.remove(&peer) => Event::DialFailed(peer),
                        3 => Event::CanSearch,
                        4 if connected.contains(&peer) => Event::Wanted(peer),
                        5 if connected.contains(&peer) => Event::Unwanted(peer),
                        _ => Event::Heard(peer, address(index as u16 + 1)),
                    }
                }
            };
            world.on(event);
            for action in &world.actions {
                match action {
                    Action::Dial(peer, addresses) => {
                        prop_assert!(!addresses.is_empty());
                        prop_assert!(!connected.contains(peer), "dialled a connected peer");
                        prop_assert!(dialing.insert(*peer), "dialled twice");
                    }
                    Action::Close(peer) => prop_assert!(connected.contains(peer) && *peer != ids[1]),
                    Action::WakeAt(at) => prop_assert!(*at > world.now),
                    Action::Search => prop_assert!(!connected.is_empty()),
                }
            }
            prop_assert!(dialing.len() <= MAX_DIALS + 1);
            prop_assert!(world.manager.candidates.len() <= MAX_CANDIDATES);
            let bootnode = ids[1];
            prop_assert!(connected.contains(&bootnode) || dialing.contains(&bootnode) || world.wake().is_some());
        }
    }

    /// Hearsay fills no memory.
    #[test]
    fn candidates_are_bounded(count in 1..400_usize) {
        let mut world = World::new(PeerId::random(), 0, 10, &[]);
        for _ in 0..count {
            world.on(Event::Heard(PeerId::random(), address(2)));
        }
        prop_assert!(world.manager.candidates.len() <= MAX_CANDIDATES);
    }
}
