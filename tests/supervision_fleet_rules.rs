//! Who waits for whom and who stops before whom, one rule per test.

use std::time::{Duration, Instant};

use hippius::supervisor::exit::Exit;
use hippius::supervisor::fleet::{Fleet, Index, Order};
use hippius::supervisor::lifecycle::{Action, Event, Generation, Lifecycle, State};
use hippius::topology::plan::{RestartPolicy, RestartWhen, Timing};

/// The bootnode, two nodes that need it, a server on its own.
const BOOTNODE: Index = 0;
const NODES: [Index; 2] = [1, 2];
const SERVER: Index = 3;
const FIRST: Generation = Generation(1);

struct Subject {
    fleet: Fleet,
    now: Instant,
}

impl Subject {
    fn new() -> Self {
        let restart = RestartPolicy {
            when: RestartWhen::Always,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            limit: 10,
            within: Duration::from_secs(60),
        };
        let timing = Timing {
            start_timeout: Duration::from_secs(30),
            watchdog: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
        };
        let needs = [vec![], vec![BOOTNODE], vec![BOOTNODE], vec![]];
        let members = needs.map(|needs| (Lifecycle::new(restart, timing, 7), needs));
        Self { fleet: Fleet::new(members.into()), now: Instant::now() }
    }

    /// All of them ready.
    fn up() -> Self {
        let mut subject = Self::new();
        let _ = subject.fleet.start_all(subject.now);
        for index in [BOOTNODE, NODES[0], NODES[1], SERVER] {
            let _ = subject.on(index, Event::Ready(FIRST));
            assert_eq!(subject.state(index), State::Ready);
        }
        subject
    }

    fn on(&mut self, index: Index, event: Event) -> Vec<Order> {
        self.fleet.on_event(index, event, self.now)
    }

    fn exits(&mut self, index: Index) -> Vec<Order> {
        let generation = self.fleet.life(index).generation();
        self.on(index, Event::Exited(generation, Exit::code(0)))
    }

    fn state(&self, index: Index) -> State {
        self.fleet.life(index).state()
    }
}

fn spawn(index: Index, generation: u64) -> Order {
    (index, Action::Spawn(Generation(generation)))
}

fn terminate(index: Index) -> Order {
    (index, Action::Terminate(FIRST))
}

#[test]
fn whoever_needs_nobody_starts_at_once_and_the_others_when_what_they_need_is_ready() {
    let mut subject = Subject::new();
    assert_eq!(subject.fleet.start_all(subject.now), [spawn(BOOTNODE, 1), spawn(SERVER, 1)]);
    assert_eq!(subject.fleet.waits_for(NODES[0]).collect::<Vec<_>>(), [BOOTNODE]);
    assert_eq!(subject.on(SERVER, Event::Ready(FIRST)), []);
    assert_eq!(subject.on(BOOTNODE, Event::Ready(FIRST)), NODES.map(|node| spawn(node, 1)));
    assert_eq!(subject.fleet.waits_for(NODES[0]).count(), 0);
}

#[test]
fn whoever_was_ready_once_keeps_nobody_down() {
    let mut subject = Subject::up();
    assert_eq!(subject.on(BOOTNODE, Event::Stop), [terminate(BOOTNODE)]);
    assert_eq!(subject.exits(BOOTNODE), []);
    assert_eq!(subject.exits(NODES[0]), [spawn(NODES[0], 2)]);
    assert_eq!(subject.on(NODES[1], Event::Stop), [terminate(NODES[1])]);
    assert_eq!(subject.exits(NODES[1]), []);
    assert_eq!(subject.on(NODES[1], Event::Start), [spawn(NODES[1], 2)], "its address is known");
}

#[test]
fn a_shutdown_stops_whoever_is_needed_by_nobody_first() {
    let mut subject = Subject::up();
    let first = subject.fleet.shut_down(subject.now);
    assert_eq!(first, [terminate(SERVER), terminate(NODES[1]), terminate(NODES[0])]);
    assert_eq!(subject.exits(NODES[0]), []);
    assert_eq!(subject.exits(SERVER), []);
    assert_eq!(subject.exits(NODES[1]), [terminate(BOOTNODE)], "nobody needs it any more");
    assert!(!subject.fleet.is_down());
    assert_eq!(subject.exits(BOOTNODE), []);
    assert!(subject.fleet.is_down());
}

#[test]
fn during_a_shutdown_nothing_is_started() {
    let mut subject = Subject::up();
    let _ = subject.exits(NODES[0]);
    let _ = subject.exits(NODES[0]);
    assert_eq!(subject.state(NODES[0]), State::Backoff);
    let _ = subject.on(SERVER, Event::Restart);
    let _ = subject.fleet.shut_down(subject.now);
    assert_eq!(subject.state(NODES[0]), State::Stopped, "its restart is off");
    assert_eq!(subject.exits(SERVER), [], "and so is this one");
    assert_eq!(subject.exits(BOOTNODE), [], "a crash while its dependents stop");
    assert_eq!(subject.state(BOOTNODE), State::Stopped);
    for event in [Event::Start, Event::Restart] {
        assert_eq!(subject.on(NODES[0], event), []);
    }
    assert_eq!(subject.exits(NODES[1]), []);
    assert!(subject.fleet.is_down());
}

#[test]
fn a_process_killed_during_a_shutdown_by_a_deadline_stays_down() {
    let mut subject = Subject::up();
    let _ = subject.fleet.shut_down(subject.now);
    subject.now += Duration::from_secs(10);
    let orders = subject.fleet.tick(subject.now);
    assert!(orders.contains(&(BOOTNODE, Action::Kill(FIRST))), "its watchdog: {orders:?}");
    assert_eq!(subject.exits(BOOTNODE), []);
    assert_eq!(subject.state(BOOTNODE), State::Stopped);
}

#[test]
fn to_kill_all_asks_nobody_and_waits_for_nobody() {
    let mut subject = Subject::up();
    let _ = subject.on(SERVER, Event::Stop);
    let orders = subject.fleet.kill_all(subject.now);
    assert_eq!(orders, [BOOTNODE, 1, 2, SERVER].map(|index| (index, Action::Kill(FIRST))));
    for index in [BOOTNODE, 1, 2, SERVER] {
        assert_eq!(subject.exits(index), []);
    }
    assert!(subject.fleet.is_down());
}

#[test]
fn the_earliest_deadline_of_all_is_the_fleets() {
    let mut subject = Subject::up();
    let watchdog = subject.fleet.deadline().unwrap();
    let _ = subject.on(SERVER, Event::Stop);
    let grace = subject.fleet.deadline().unwrap();
    assert!(grace < watchdog);
    assert_eq!(subject.fleet.tick(grace - Duration::from_nanos(1)), []);
    assert_eq!(subject.fleet.tick(grace), [(SERVER, Action::Kill(FIRST))]);
    assert_eq!(subject.fleet.deadline(), Some(watchdog));
}
