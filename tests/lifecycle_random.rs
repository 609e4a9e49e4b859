//! One process's lifecycle against a simulated operating system, in a million steps of random order. After every step
//! the answer is compared with what a second, simpler account of the rules expects.

#[path = "support/random.rs"]
mod random;

use std::time::{Duration, Instant};

use hippius::supervisor::exit::Exit;
use hippius::supervisor::lifecycle::{Action, Event, Generation, Lifecycle, STABLE_AFTER, State};
use hippius::topology::plan::{RestartPolicy, RestartWhen, Timing};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const WORLDS: u64 = 2_500;
const STEPS: u32 = 400;

/// An incarnation that the simulated system runs: from `Spawn` until its end was reported.
#[derive(Debug, Clone, Copy)]
struct Process {
    generation: u64,
    /// When it reported readiness.
    ready: Option<Instant>,
    /// Its newest sign of life.
    alive_at: Option<Instant>,
    /// A restart was asked for; a fresh incarnation follows it.
    successor: bool,
    /// Was told to end at somebody's wish.
    ending: bool,
    /// Was killed because it broke a deadline.
    broke_deadline: bool,
    killed: bool,
}

/// What must be true of the world, kept independently of the state machine.
struct World {
    rng: SmallRng,
    now: Instant,
    restart: RestartPolicy,
    timing: Timing,
    life: Lifecycle,
    process: Option<Process>,
    newest: u64,
    /// Somebody started it and nobody has stopped it since.
    wanted: bool,
    /// Restarts by policy that count towards the limit.
    counted: Vec<Instant>,
    /// Restarts by policy since it was last stable.
    in_a_row: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let ms = |rng: &mut SmallRng, from: u64, to: u64| Duration::from_millis(rng.random_range(from..=to));
        let backoff = ms(&mut rng, 1, 500);
        let restart = RestartPolicy {
            when: [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never][rng.random_range(0..3)],
            backoff,
            max_backoff: backoff + ms(&mut rng, 0, 5_000),
            limit: rng.random_range(1..=8),
            within: ms(&mut rng, 1_000, 60_000),
        };
        let watchdog = if rng.random_bool(0.3) { Duration::ZERO } else { ms(&mut rng, 100, 5_000) };
        let timing =
            Timing { start_timeout: ms(&mut rng, 100, 5_000), watchdog, stop_grace: ms(&mut rng, 0, 3_000) };
        Self {
            life: Lifecycle::new(restart, timing, rng.random()),
            rng,
            now: Instant::now(),
            restart,
            timing,
            process: None,
            newest: 0,
            wanted: false,
            counted: Vec::new(),
            in_a_row: 0,
        }
    }

    fn step(&mut self) {
        self.pass_time();
        match self.rng.random_range(0..100) {
            0..6 => self.wish(Event::Start),
            6..9 => self.wish(Event::Stop),
            9..10 => self.wish(Event::Kill),
            10..13 => self.wish(Event::Restart),
            13..25 => self.open_gate(),
            25..40 => self.report_ready(),
            40..50 => self.sign_of_life(),
            50..70 => self.late_message(),
            70..85 => self.process_ends(),
            _ => self.tick(),
        }
        self.check();
    }

    /// Nothing, a little, to just before the next deadline, exactly to it, or far past it.
    fn pass_time(&mut self) {
        let due = self.life.deadline().map(|due| due.saturating_duration_since(self.now));
        let step = match (self.rng.random_range(0..10), due) {
            (0..4, _) => Duration::ZERO,
            (4..6, _) | (_, None) => Duration::from_millis(self.rng.random_range(0..200)),
            (6, Some(due)) => due.saturating_sub(Duration::from_nanos(1)),
            (7..9, Some(due)) => due,
            (_, Some(due)) => due + Duration::from_millis(self.rng.random_range(0..20_000)),
        };
        self.now += step;
    }

    fn wish(&mut self, event: Event) {
        let before = self.life.state();
        let action = self.life.on_event(event.clone(), self.now);
        match event {
            Event::Stop | Event::Kill => {
                self.wanted = false;
                if let Some(process) = &mut self.process {
                    process.successor = false;
                    process.broke_deadline = false;
                }
                let expected = match (&event, self.process.as_mut()) {
                    (Event::Kill, Some(process)) => {
                        process.ending = true;
                        process.killed = true;
                        Action::Kill(Generation(process.generation))
                    }
                    (_, Some(process)) if before != State::Stopping => {
                        process.ending = true;
                        Action::Terminate(Generation(process.generation))
                    }
                    _ => Action::Nothing,
                };
                assert_eq!(action, expected, "{event:?} from {before:?}");
                let after = if self.process.is_some() { State::Stopping } else { State::Stopped };
                assert_eq!(self.life.state(), after, "stop wins from every state, here {before:?}");
                if let Some(process) = &mut self.process {
                    process.ending = true;
                }
            }
            _ => {
                self.wanted = true;
                let restarts = event == Event::Restart;
                let resets = match before {
                    State::Starting | State::Ready => restarts,
                    State::Pending => false,
                    _ => true,
                };
                if resets {
                    self.counted.clear();
                    self.in_a_row = 0;
                }
                match before {
                    State::Stopped | State::Failed => {
                        assert_eq!((action, self.life.state()), (Action::Nothing, State::Pending));
                    }
                    State::Backoff => self.spawned(&action),
                    State::Stopping => {
                        assert_eq!(action, Action::Nothing);
                        self.process.as_mut().expect("stopping is alive").successor = true;
                    }
                    State::Starting | State::Ready if restarts => {
                        let process = self.process.as_mut().expect("it is alive");
                        assert_eq!(action, Action::Terminate(Generation(process.generation)));
                        process.ending = true;
                        process.successor = true;
                    }
                    _ => assert_eq!((action, self.life.state()), (Action::Nothing, before)),
                }
            }
        }
    }

    fn open_gate(&mut self) {
        let pending = self.life.state() == State::Pending;
        let action = self.life.on_event(Event::GateOpen, self.now);
        if pending {
            self.spawned(&action);
        } else {
            assert_eq!(action, Action::Nothing, "the gate matters to those who wait for it only");
        }
    }

    fn report_ready(&mut self) {
        let Some(process) = &mut self.process else { return };
        let before = self.life.state();
        let action = self.life.on_event(Event::Ready(Generation(process.generation)), self.now);
        assert_eq!(action, Action::Nothing);
        if before == State::Starting {
            process.ready = Some(self.now);
            process.alive_at = Some(self.now);
            assert_eq!(self.life.state(), State::Ready);
        } else {
            assert_eq!(self.life.state(), before);
        }
    }

    fn sign_of_life(&mut self) {
        let Some(process) = &mut self.process else { return };
        let before = self.life.state();
        let action = self.life.on_event(Event::Watchdog(Generation(process.generation)), self.now);
        assert_eq!((action, self.life.state()), (Action::Nothing, before));
        if before == State::Ready {
            process.alive_at = Some(self.now);
        }
    }

    /// What an incarnation that has ended said arrives only now.
    fn late_message(&mut self) {
        let gone = if self.process.is_some() { self.newest.saturating_sub(1) } else { self.newest };
        if gone == 0 {
            return;
        }
        let generation = Generation(self.rng.random_range(1..=gone));
        let event = match self.rng.random_range(0..4) {
            0 => Event::Ready(generation),
            1 => Event::Watchdog(generation),
            2 => Event::SpawnFailed(generation, "late".to_owned()),
            _ => Event::Exited(generation, Exit::code(3)),
        };
        let before = format!("{:?}", self.life);
        let action = self.life.on_event(event.clone(), self.now);
        assert_eq!(action, Action::Nothing, "{event:?}");
        assert_eq!(format!("{:?}", self.life), before, "{event:?} came late and changed something");
    }

    fn tick(&mut self) {
        let before = self.life.state();
        let due = self.life.deadline().is_some_and(|due| due <= self.now);
        let action = self.life.on_event(Event::Tick, self.now);
        if !due {
            assert_eq!((action, self.life.state()), (Action::Nothing, before), "nothing was due");
            return;
        }
        match before {
            State::Backoff => self.spawned(&action),
            _ => {
                let process = self.process.as_mut().expect("only the living break deadlines");
                assert_eq!(action, Action::Kill(Generation(process.generation)));
                assert!(!process.killed, "killed twice");
                process.killed = true;
                process.broke_deadline |= before != State::Stopping;
                assert_eq!(self.life.state(), State::Stopping);
            }
        }
    }

    fn process_ends(&mut self) {
        let Some(process) = self.process.take() else { return };
        let generation = Generation(process.generation);
        let mut exit = match self.rng.random_range(0..4) {
            0 => Exit::code(0),
            1 => Exit::code(1),
            _ => Exit::signal(9),
        };
        exit.fatal = self.rng.random_bool(0.02);
        let never_ran = process.ready.is_none() && !process.ending && self.rng.random_bool(0.3);
        let event = if never_ran {
            exit = Exit::not_started("no such program".to_owned());
            Event::SpawnFailed(generation, "no such program".to_owned())
        } else {
            Event::Exited(generation, exit.clone())
        };
        let (restarts, ready_at) = (self.life.restarts(), process.ready);
        let action = self.life.on_event(event, self.now);

        if process.ending || process.successor {
            if process.successor {
                self.spawned(&action);
            } else {
                assert_eq!((action, self.life.state()), (Action::Nothing, State::Stopped));
            }
            assert_eq!(self.life.restarts(), restarts, "what was asked for is no restart by policy");
            return;
        }
        let wanted = match self.restart.when {
            RestartWhen::Always => true,
            RestartWhen::OnFailure => !exit.is_success(),
            RestartWhen::Never => false,
        };
        if exit.fatal || !wanted {
            let good_end = exit.is_success() && !exit.fatal;
            let after = if good_end { State::Stopped } else { State::Failed };
            assert_eq!((action, self.life.state()), (Action::Nothing, after), "{exit}");
            assert_eq!(self.life.restarts(), restarts);
            return;
        }
        // A process that hung was stable for as long as it gave signs of life.
        let last_sign = if process.broke_deadline { process.alive_at } else { Some(self.now) };
        if ready_at.zip(last_sign).is_some_and(|(ready, last)| last - ready >= STABLE_AFTER) {
            self.in_a_row = 0;
        }
        let (now, within) = (self.now, self.restart.within);
        self.counted.retain(|at| now - *at <= within);
        if self.counted.len() == self.restart.limit as usize {
            assert_eq!((action, self.life.state()), (Action::Nothing, State::Failed), "the limit is reached");
            assert!(self.life.reason().is_some_and(|reason| reason.contains("crash loop")));
            assert_eq!(self.life.restarts(), restarts);
            return;
        }
        self.counted.push(now);
        assert_eq!(self.life.restarts(), restarts + 1);
        if self.in_a_row == 0 {
            self.spawned(&action);
        } else {
            assert_eq!((action, self.life.state()), (Action::Nothing, State::Backoff));
            let full = (1..self.in_a_row)
                .fold(self.restart.backoff, |delay, _| delay.saturating_mul(2).min(self.restart.max_backoff));
            let delay = self.life.deadline().expect("a delay ends") - now;
            assert!(delay <= full && delay >= full.mul_f64(0.75), "{delay:?} is not within 25 % of {full:?}");
            assert!(delay <= self.restart.max_backoff);
        }
        self.in_a_row += 1;
    }

    /// The action must be to spawn, and may be.
    fn spawned(&mut self, action: &Action) {
        let Action::Spawn(Generation(generation)) = *action else { panic!("{action:?} instead of a spawn") };
        assert!(self.process.is_none(), "two incarnations at once");
        assert!(self.wanted, "spawned after a stop");
        assert!(generation > self.newest, "generation {generation} after {}", self.newest);
        self.newest = generation;
        self.process = Some(Process {
            generation,
            ready: None,
            alive_at: None,
            successor: false,
            ending: false,
            broke_deadline: false,
            killed: false,
        });
    }

    fn check(&self) {
        let state = self.life.state();
        assert_eq!(state.is_alive(), self.process.is_some(), "{state:?}");
        assert_eq!(self.life.generation(), Generation(self.newest));
        if state == State::Stopped {
            assert_eq!(self.life.reason(), None, "nobody misses it");
        }
        let expected = match (&self.process, state) {
            (_, State::Starting) => Some(self.timing.start_timeout),
            (_, State::Ready) => Some(self.timing.watchdog).filter(|watchdog| !watchdog.is_zero()),
            (Some(process), State::Stopping) => (!process.killed).then_some(self.timing.stop_grace),
            (_, State::Backoff) => Some(self.restart.max_backoff),
            _ => None,
        };
        match (self.life.deadline(), expected) {
            (None, None) => {}
            (Some(due), Some(most)) => assert!(due <= self.now + most, "{state:?} may last too long"),
            (due, _) => panic!("{state:?} must have a deadline or none: {due:?}"),
        }
    }

    /// However it stands: after a stop it ends, if time passes and the killed die.
    fn stop_ends_it(&mut self) {
        self.wish(Event::Stop);
        for _ in 0..4 {
            if self.process.is_some_and(|process| process.killed) {
                self.process_ends();
            } else if let Some(due) = self.life.deadline() {
                self.now = self.now.max(due);
                self.tick();
            }
            self.check();
        }
        assert_eq!(self.life.state(), State::Stopped);
        assert!(self.process.is_none());
    }
}

#[test]
fn a_million_events_in_random_order_break_no_rule() {
    random::worlds(WORLDS, |seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.stop_ends_it();
    });
}
