//! The rules of one process's life, one test each, as the module comment of the lifecycle states them.

use std::time::{Duration, Instant};

use hippius::supervisor::exit::Exit;
use hippius::supervisor::lifecycle::{Action, Event, Generation, Lifecycle, STABLE_AFTER, State};
use hippius::topology::plan::{RestartPolicy, RestartWhen, Timing};

const BACKOFF: Duration = Duration::from_millis(100);
const WITHIN: Duration = Duration::from_secs(60);
const LIMIT: u32 = 4;
const TIMING: Timing = Timing {
    start_timeout: Duration::from_secs(30),
    watchdog: Duration::from_secs(10),
    stop_grace: Duration::from_secs(5),
};

/// A lifecycle with a clock of its own.
struct Subject {
    life: Lifecycle,
    now: Instant,
}

impl Subject {
    fn new(when: RestartWhen) -> Self {
        let max_backoff = BACKOFF * 3;
        let restart = RestartPolicy { when, backoff: BACKOFF, max_backoff, limit: LIMIT, within: WITHIN };
        Self { life: Lifecycle::new(restart, TIMING, 7), now: Instant::now() }
    }

    fn starting() -> Self {
        let mut subject = Self::new(RestartWhen::Always);
        assert_eq!(subject.on(Event::Start), Action::Nothing);
        assert_eq!(subject.on(Event::GateOpen), Action::Spawn(Generation(1)));
        subject
    }

    fn ready() -> Self {
        let mut subject = Self::starting();
        assert_eq!(subject.on(Event::Ready(Generation(1))), Action::Nothing);
        subject
    }

    fn on(&mut self, event: Event) -> Action {
        self.life.on_event(event, self.now)
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn exits(&mut self, code: i32) -> Action {
        let generation = self.life.generation();
        self.on(Event::Exited(generation, Exit::code(code)))
    }

    /// Crashes again and again until it is given up.
    fn crash_loop(&mut self) {
        while self.exits(1) != Action::Nothing || self.life.state() == State::Backoff {
            if let Some(due) = self.life.deadline().filter(|_| self.life.state() == State::Backoff) {
                self.now = due;
                assert!(matches!(self.on(Event::Tick), Action::Spawn(_)));
            }
        }
    }

    #[track_caller]
    fn is(&self, state: State) {
        assert_eq!(self.life.state(), state);
    }
}

/// One of every state.
fn everywhere() -> Vec<Subject> {
    let mut pending = Subject::new(RestartWhen::Always);
    let _ = pending.on(Event::Start);
    let mut stopping = Subject::ready();
    let _ = stopping.on(Event::Stop);
    let mut restarting = Subject::ready();
    let _ = restarting.on(Event::Restart);
    let mut backoff = Subject::starting();
    let _ = backoff.exits(1);
    let _ = backoff.exits(1);
    backoff.is(State::Backoff);
    let mut failed = Subject::starting();
    failed.crash_loop();
    failed.is(State::Failed);
    let stopped = Subject::new(RestartWhen::Always);
    vec![pending, Subject::starting(), Subject::ready(), stopping, restarting, backoff, failed, stopped]
}

#[test]
fn stop_wins_from_every_state() {
    for mut subject in everywhere() {
        let before = subject.life.state();
        let action = subject.on(Event::Stop);
        match before {
            State::Starting | State::Ready => assert!(matches!(action, Action::Terminate(_)), "{before:?}"),
            _ => assert_eq!(action, Action::Nothing, "{before:?}"),
        }
        if subject.life.state().is_alive() {
            assert_eq!(subject.exits(1), Action::Nothing);
        }
        subject.is(State::Stopped);
        for event in [Event::GateOpen, Event::Tick] {
            assert_eq!(subject.after(WITHIN).on(event), Action::Nothing, "stopped is stopped");
        }
    }
}

#[test]
fn kill_wins_from_every_state_without_grace() {
    for mut subject in everywhere() {
        let was_alive = subject.life.state().is_alive();
        let action = subject.on(Event::Kill);
        assert_eq!(was_alive, matches!(action, Action::Kill(_)), "{action:?}");
        if was_alive {
            assert_eq!(subject.exits(1), Action::Nothing);
        }
        subject.is(State::Stopped);
    }
}

#[test]
fn a_message_of_an_earlier_generation_changes_nothing() {
    let mut subject = Subject::starting();
    assert_eq!(subject.exits(1), Action::Spawn(Generation(2)));
    let old = Generation(1);
    for event in
        [Event::Ready(old), Event::Exited(old, Exit::code(0)), Event::SpawnFailed(old, String::new())]
    {
        assert_eq!(subject.on(event), Action::Nothing);
        subject.is(State::Starting);
    }
    let due = subject.life.deadline();
    assert_eq!(subject.after(BACKOFF).on(Event::Watchdog(old)), Action::Nothing);
    assert_eq!(subject.life.deadline(), due);
}

#[test]
fn the_grace_ends_with_sigkill_and_not_before() {
    let mut subject = Subject::ready();
    assert_eq!(subject.on(Event::Stop), Action::Terminate(Generation(1)));
    assert_eq!(subject.after(TIMING.stop_grace - Duration::from_nanos(1)).on(Event::Tick), Action::Nothing);
    assert_eq!(subject.after(Duration::from_nanos(1)).on(Event::Tick), Action::Kill(Generation(1)));
    assert_eq!(subject.after(WITHIN).on(Event::Tick), Action::Nothing, "once");
    assert_eq!(subject.exits(1), Action::Nothing);
    subject.is(State::Stopped);
}

#[test]
fn a_second_stop_does_not_prolong_the_grace() {
    let mut subject = Subject::ready();
    let _ = subject.on(Event::Stop);
    let due = subject.life.deadline();
    assert_eq!(subject.after(BACKOFF).on(Event::Stop), Action::Nothing);
    assert_eq!(subject.life.deadline(), due);
}

#[test]
fn a_process_that_is_not_ready_in_time_is_killed_and_counts_as_crashed() {
    let mut subject = Subject::starting();
    assert_eq!(
        subject.after(TIMING.start_timeout - Duration::from_nanos(1)).on(Event::Tick),
        Action::Nothing
    );
    assert_eq!(subject.after(Duration::from_nanos(1)).on(Event::Tick), Action::Kill(Generation(1)));
    subject.is(State::Stopping);
    assert_eq!(subject.exits(0), Action::Spawn(Generation(2)));
    assert_eq!(subject.life.restarts(), 1);
    assert_eq!(subject.life.last_exit().unwrap().message.as_deref(), Some("not ready after 30s"));
}

#[test]
fn a_sign_of_life_postpones_the_watchdog() {
    let mut subject = Subject::ready();
    let almost = TIMING.watchdog - Duration::from_nanos(1);
    for _ in 0..5 {
        assert_eq!(subject.after(almost).on(Event::Tick), Action::Nothing);
        assert_eq!(subject.on(Event::Watchdog(Generation(1))), Action::Nothing);
    }
    assert_eq!(subject.after(TIMING.watchdog).on(Event::Tick), Action::Kill(Generation(1)));
}

#[test]
fn the_first_restart_is_immediate_and_the_delays_double_up_to_their_limit() {
    let mut subject = Subject::starting();
    assert_eq!(subject.exits(1), Action::Spawn(Generation(2)), "at once");
    for full in [BACKOFF, BACKOFF * 2, BACKOFF * 3] {
        assert_eq!(subject.exits(1), Action::Nothing);
        let delay = subject.life.deadline().unwrap() - subject.now;
        assert!(delay <= full && delay >= full * 3 / 4, "{delay:?} of {full:?}");
        assert!(matches!(subject.after(delay).on(Event::Tick), Action::Spawn(_)));
    }
}

#[test]
fn after_a_stable_time_the_next_crash_is_restarted_at_once_again() {
    for (ready_for, at_once) in [(STABLE_AFTER, true), (STABLE_AFTER - Duration::from_nanos(1), false)] {
        let mut subject = Subject::starting();
        let _ = subject.exits(1);
        let _ = subject.on(Event::Ready(Generation(2)));
        let action = subject.after(ready_for).exits(1);
        assert_eq!(action == Action::Spawn(Generation(3)), at_once, "ready for {ready_for:?}: {action:?}");
    }
}

#[test]
fn a_process_that_hangs_after_a_stable_time_is_restarted_at_once() {
    let mut subject = Subject::starting();
    let _ = subject.exits(1);
    let _ = subject.on(Event::Ready(Generation(2)));
    let _ = subject.after(STABLE_AFTER).on(Event::Watchdog(Generation(2)));
    assert_eq!(subject.after(TIMING.watchdog).on(Event::Tick), Action::Kill(Generation(2)));
    assert_eq!(subject.exits(1), Action::Spawn(Generation(3)));
}

#[test]
fn the_limit_of_restarts_in_a_time_makes_a_crash_loop() {
    let mut subject = Subject::starting();
    subject.crash_loop();
    subject.is(State::Failed);
    assert_eq!(subject.life.restarts(), u64::from(LIMIT));
    assert!(subject.life.reason().unwrap().contains("crash loop"));
    assert_eq!(subject.after(WITHIN * 10).on(Event::Tick), Action::Nothing, "for good");
}

#[test]
fn restarts_that_lie_far_enough_back_do_not_count() {
    let mut subject = Subject::starting();
    for _ in 0..LIMIT * 3 {
        let generation = subject.life.generation();
        let _ = subject.on(Event::Ready(generation));
        let action = subject.after(WITHIN / LIMIT + STABLE_AFTER).exits(1);
        assert_eq!(action, Action::Spawn(Generation(generation.0 + 1)), "stable in between, and rare enough");
    }
}

#[test]
fn an_explicit_start_gives_a_fresh_budget() {
    let mut subject = Subject::starting();
    subject.crash_loop();
    assert_eq!(subject.on(Event::Start), Action::Nothing);
    subject.is(State::Pending);
    assert_eq!(subject.life.reason(), None);
    assert!(matches!(subject.on(Event::GateOpen), Action::Spawn(_)));
    assert!(matches!(subject.exits(1), Action::Spawn(_)), "the first crash after it is restarted at once");
}

#[test]
fn an_explicit_restart_is_no_crash() {
    let mut subject = Subject::ready();
    assert_eq!(subject.on(Event::Restart), Action::Terminate(Generation(1)));
    subject.is(State::Stopping);
    assert_eq!(subject.exits(1), Action::Spawn(Generation(2)));
    assert_eq!(subject.life.restarts(), 0);
}

#[test]
fn a_start_while_it_stops_makes_it_come_back() {
    let mut subject = Subject::ready();
    let _ = subject.on(Event::Stop);
    assert_eq!(subject.on(Event::Start), Action::Nothing);
    assert_eq!(subject.exits(0), Action::Spawn(Generation(2)));
    let _ = subject.on(Event::Restart);
    let _ = subject.on(Event::Stop);
    assert_eq!(subject.exits(0), Action::Nothing, "and a stop after that makes it stay away");
    subject.is(State::Stopped);
}

#[test]
fn policies_decide_by_the_exit_code() {
    use RestartWhen::{Always, Never, OnFailure};
    let again = Action::Spawn(Generation(2));
    for (when, code, action, state) in [
        (Always, 0, again.clone(), State::Starting),
        (Always, 1, again.clone(), State::Starting),
        (OnFailure, 0, Action::Nothing, State::Stopped),
        (OnFailure, 1, again, State::Starting),
        (Never, 0, Action::Nothing, State::Stopped),
        (Never, 1, Action::Nothing, State::Failed),
    ] {
        let mut subject = Subject::new(when);
        let _ = subject.on(Event::Start);
        let _ = subject.on(Event::GateOpen);
        assert_eq!(subject.exits(code), action, "{when:?} {code}");
        subject.is(state);
    }
}

#[test]
fn a_fatal_end_is_not_started_again_whatever_the_policy() {
    let mut subject = Subject::ready();
    let mut exit = Exit::code(1).because("the key is damaged".to_owned());
    exit.fatal = true;
    assert_eq!(subject.on(Event::Exited(Generation(1), exit)), Action::Nothing);
    subject.is(State::Failed);
    assert_eq!(subject.life.reason(), Some("exited with code 1: the key is damaged"));
}

#[test]
fn a_failed_spawn_counts_like_a_crash() {
    let mut subject = Subject::starting();
    let action = subject.on(Event::SpawnFailed(Generation(1), "no memory".to_owned()));
    assert_eq!(action, Action::Spawn(Generation(2)));
    assert_eq!(subject.life.restarts(), 1);
    assert_eq!(subject.life.reason(), Some("could not be started: no memory"));
}
