//! A whole network's decisions against a simulated operating system, in random order: who starts after whom, who stops
//! before whom, and that a shutdown always comes to its end.

#[path = "support/random.rs"]
mod random;

use std::time::{Duration, Instant};

use hippius::supervisor::exit::Exit;
use hippius::supervisor::fleet::{Fleet, Index, Order};
use hippius::supervisor::lifecycle::{Action, Event, Generation, Lifecycle, State};
use hippius::topology::plan::{RestartPolicy, RestartWhen, Timing};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const WORLDS: u64 = 1_500;
const STEPS: u32 = 300;

/// What the simulated system and its onlooker know of one process.
#[derive(Debug, Clone, Default)]
struct Member {
    depends_on: Vec<Index>,
    /// The incarnation that exists.
    alive: Option<u64>,
    newest: u64,
    /// Has been told to end, gently or not.
    told: bool,
    killed: bool,
    was_ready: bool,
    wanted: bool,
}

struct World {
    rng: SmallRng,
    now: Instant,
    fleet: Fleet,
    members: Vec<Member>,
    going_down: bool,
    /// Somebody lost patience with the shutdown.
    no_grace: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = rng.random_range(1..=8);
        let mut members = Vec::new();
        let mut lives = Vec::new();
        for index in 0..count {
            let depends_on: Vec<Index> = (0..index).filter(|_| rng.random_bool(0.35)).collect();
            let ms = |rng: &mut SmallRng, to: u64| Duration::from_millis(rng.random_range(1..=to));
            let when = [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never];
            let restart = RestartPolicy {
                when: *when.choose(&mut rng).expect("there are three"),
                backoff: ms(&mut rng, 300),
                max_backoff: ms(&mut rng, 3_000),
                limit: rng.random_range(1..=10),
                within: ms(&mut rng, 60_000),
            };
            let watchdog = if rng.random_bool(0.5) { Duration::ZERO } else { ms(&mut rng, 5_000) };
            let timing =
                Timing { start_timeout: ms(&mut rng, 5_000), watchdog, stop_grace: ms(&mut rng, 3_000) };
            lives.push((Lifecycle::new(restart, timing, rng.random()), depends_on.clone()));
            members.push(Member { depends_on, ..Member::default() });
        }
        let fleet = Fleet::new(lives);
        Self { rng, now: Instant::now(), fleet, members, going_down: false, no_grace: false }
    }

    fn step(&mut self) {
        self.pass_time();
        let index = self.rng.random_range(0..self.members.len());
        match self.rng.random_range(0..100) {
            0..5 => self.wish(index, Event::Start),
            5..8 => self.wish(index, Event::Stop),
            8..11 => self.wish(index, Event::Restart),
            11..45 => self.report_ready(index),
            45..52 => self.sign_of_life(index),
            52..60 => self.late_message(index),
            60..80 => self.process_ends(index),
            _ => self.tick(),
        }
        self.check();
    }

    fn pass_time(&mut self) {
        let due = self.fleet.deadline().map(|due| due.saturating_duration_since(self.now));
        self.now += match (self.rng.random_range(0..8), due) {
            (0..4, _) => Duration::ZERO,
            (4..6, _) | (_, None) => Duration::from_millis(self.rng.random_range(0..100)),
            (6, Some(due)) => due,
            (_, Some(due)) => due + Duration::from_millis(self.rng.random_range(0..5_000)),
        };
    }

    fn wish(&mut self, index: Index, event: Event) {
        match event {
            // The fleet passes over these once it is going down.
            Event::Start | Event::Restart => self.members[index].wanted |= !self.going_down,
            _ => self.members[index].wanted = false,
        }
        let asked = (event == Event::Stop || event == Event::Restart).then_some(index);
        let orders = self.fleet.on_event(index, event, self.now);
        self.carry_out(orders, asked);
    }

    fn report_ready(&mut self, index: Index) {
        let Some(generation) = self.members[index].alive else { return };
        if self.fleet.life(index).state() == State::Starting {
            self.members[index].was_ready = true;
        }
        let orders = self.fleet.on_event(index, Event::Ready(Generation(generation)), self.now);
        self.carry_out(orders, None);
    }

    fn sign_of_life(&mut self, index: Index) {
        let Some(generation) = self.members[index].alive else { return };
        let orders = self.fleet.on_event(index, Event::Watchdog(Generation(generation)), self.now);
        self.carry_out(orders, None);
    }

    fn late_message(&mut self, index: Index) {
        let member = &self.members[index];
        let gone = if member.alive.is_some() { member.newest.saturating_sub(1) } else { member.newest };
        if gone == 0 {
            return;
        }
        let generation = Generation(self.rng.random_range(1..=gone));
        let event = match self.rng.random_range(0..3) {
            0 => Event::Ready(generation),
            1 => Event::Watchdog(generation),
            _ => Event::Exited(generation, Exit::code(0)),
        };
        let before = format!("{:?}", self.fleet);
        let orders = self.fleet.on_event(index, event.clone(), self.now);
        assert_eq!(orders, [], "{event:?} came late");
        assert_eq!(format!("{:?}", self.fleet), before, "{event:?} came late and changed something");
    }

    fn process_ends(&mut self, index: Index) {
        let Some(generation) = self.members[index].alive.take() else { return };
        let mut exit = match self.rng.random_range(0..3) {
            0 => Exit::code(0),
            1 => Exit::code(1),
            _ => Exit::signal(9),
        };
        exit.fatal = self.rng.random_bool(0.03);
        let orders = self.fleet.on_event(index, Event::Exited(Generation(generation), exit), self.now);
        self.carry_out(orders, None);
    }

    fn tick(&mut self) {
        let orders = self.fleet.tick(self.now);
        self.carry_out(orders, None);
    }

    /// Does as ordered, like the supervisor's loop: an incarnation that cannot be started is reported at once.
    /// `asked` names the process that somebody wanted stopped by itself.
    fn carry_out(&mut self, orders: Vec<Order>, asked: Option<Index>) {
        let mut orders = std::collections::VecDeque::from(orders);
        while let Some((index, action)) = orders.pop_front() {
            match action {
                Action::Nothing => panic!("an order to do nothing"),
                Action::Spawn(generation) => {
                    self.spawned(index, generation);
                    if self.rng.random_bool(0.05) {
                        self.members[index].alive = None;
                        let event = Event::SpawnFailed(generation, "no such program".to_owned());
                        orders.extend(self.fleet.on_event(index, event, self.now));
                    }
                }
                Action::Terminate(Generation(generation)) => {
                    assert_eq!(self.members[index].alive, Some(generation));
                    assert!(!self.members[index].told, "told to stop twice");
                    assert!(asked == Some(index) || self.going_down, "nobody wanted {index} to end");
                    if asked != Some(index) {
                        assert_eq!(
                            self.living_dependents(index),
                            Vec::<Index>::new(),
                            "{index} was still needed"
                        );
                    }
                    self.members[index].told = true;
                }
                Action::Kill(Generation(generation)) => {
                    assert_eq!(self.members[index].alive, Some(generation));
                    assert!(!self.members[index].killed || self.no_grace, "killed twice");
                    self.members[index].told = true;
                    self.members[index].killed = true;
                }
            }
        }
    }

    fn spawned(&mut self, index: Index, Generation(generation): Generation) {
        assert!(!self.going_down, "{index} was started while everything was going down");
        let ready = |dependency: &Index| self.members[*dependency].was_ready;
        let member = &self.members[index];
        assert!(member.depends_on.iter().all(ready), "{index} was started before what it depends on");
        assert_eq!(member.alive, None, "two incarnations of {index}");
        assert!(member.wanted, "{index} was started after a stop");
        assert!(generation > member.newest);
        let member = &mut self.members[index];
        member.newest = generation;
        member.alive = Some(generation);
        (member.told, member.killed) = (false, false);
    }

    fn living_dependents(&self, index: Index) -> Vec<Index> {
        let depends = |other: &Index| {
            let member = &self.members[*other];
            member.alive.is_some() && member.depends_on.contains(&index)
        };
        (0..self.members.len()).filter(depends).collect()
    }

    fn check(&self) {
        for (index, member) in self.members.iter().enumerate() {
            let life = self.fleet.life(index);
            assert_eq!(life.state().is_alive(), member.alive.is_some(), "{index} is {:?}", life.state());
            let missing: Vec<Index> = if life.state() == State::Pending {
                let never_ready = |dep: &&Index| !self.members[**dep].was_ready;
                member.depends_on.iter().filter(never_ready).copied().collect()
            } else {
                Vec::new()
            };
            assert_eq!(self.fleet.waits_for(index).collect::<Vec<_>>(), missing);
            if life.state() == State::Pending {
                assert!(!missing.is_empty(), "{index} waits for nothing");
            }
            if member.told && member.alive.is_some() && !member.killed {
                assert!(life.deadline().is_some(), "{index} may ignore SIGTERM for ever");
            }
            if self.going_down && member.alive.is_some() && !member.told {
                assert_ne!(self.living_dependents(index), Vec::<Index>::new(), "{index} was forgotten");
            }
        }
        assert_eq!(self.fleet.is_down(), self.members.iter().all(|member| member.alive.is_none()));
        let first = (0..self.members.len()).filter_map(|index| self.fleet.life(index).deadline()).min();
        assert_eq!(self.fleet.deadline(), first);
    }

    fn start_all(&mut self) {
        for member in &mut self.members {
            member.wanted = true;
        }
        let orders = self.fleet.start_all(self.now);
        self.carry_out(orders, None);
        self.check();
    }

    fn go_down(&mut self) {
        self.going_down = true;
        let orders = self.fleet.shut_down(self.now);
        self.carry_out(orders, None);
        self.check();
    }

    fn lose_patience(&mut self) {
        self.going_down = true;
        self.no_grace = true;
        let orders = self.fleet.kill_all(self.now);
        self.carry_out(orders, None);
        assert!(self.members.iter().all(|member| member.alive.is_none() || member.killed));
        self.check();
    }

    /// Time passes and the killed die: that alone must bring everything down.
    fn wait_until_down(&mut self) {
        let mut steps = 0;
        while !self.fleet.is_down() {
            steps += 1;
            assert!(steps < 1_000, "it never ends");
            match self.members.iter().position(|member| member.killed && member.alive.is_some()) {
                Some(killed) => self.process_ends(killed),
                None => {
                    self.now = self.now.max(self.fleet.deadline().expect("something must be due"));
                    self.tick();
                    // Whoever is well and gives signs of life keeps its watchdog quiet, and is not waited for.
                    for index in 0..self.members.len() {
                        if self.fleet.life(index).state() == State::Ready {
                            self.sign_of_life(index);
                        }
                    }
                }
            }
            self.check();
        }
        assert!(self.members.iter().all(|member| member.alive.is_none()));
    }
}

#[test]
fn events_in_random_order_break_no_rule_of_the_fleet() {
    random::worlds(WORLDS, |seed| {
        let mut world = World::new(seed);
        world.start_all();
        for _ in 0..STEPS {
            world.step();
        }
        world.go_down();
        for _ in 0..world.rng.random_range(0..40) {
            world.step();
        }
        if world.rng.random_bool(0.2) {
            world.lose_patience();
        }
        world.wait_until_down();
    });
}
