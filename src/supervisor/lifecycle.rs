//! The life of one supervised process as a pure state machine: events and the time go in, an action comes out.
//!
//! The rules, in the order in which they win:
//! 1. A message about an earlier generation changes nothing.
//! 2. *Stop* wins from every state.
//! 3. An explicit start or restart resets the restart budget.
//! 4. An ending that nobody asked for is restarted as the policy says: at once the first time, then with a doubling,
//!    jittered delay, and not at all once the crash-loop limit is reached.
//!
//! Knows nothing of dependencies (see [`super::fleet`]), pids, sockets or clocks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use crate::topology::plan::{RestartPolicy, RestartWhen, Timing};

/// A process that stayed ready this long was no failed start: its next crash is restarted at once again.
pub const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Counts the incarnations of one process, from 1. Every message about a process carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// What happened, as far as one process is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it to run.
    Start,
    /// All it depends on is there; takes effect only while it waits for that.
    GateOpen,
    /// Somebody wants it to end.
    Stop,
    /// Somebody wants it to end without the grace period.
    Kill,
    /// Somebody wants a fresh incarnation.
    Restart,
    /// The process reported readiness.
    Ready(Generation),
    /// The process gave a sign of life.
    Watchdog(Generation),
    /// The process could not be started.
    SpawnFailed(Generation, String),
    /// The process has ended and was reaped.
    Exited(Generation, Exit),
    /// Time has passed; see [`Lifecycle::deadline`].
    Tick,
}

/// What the supervisor must do next for one process.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start an incarnation with this number.
    Spawn(Generation),
    /// Ask its process group to end (SIGTERM).
    Terminate(Generation),
    /// End its process group (SIGKILL).
    Kill(Generation),
}

/// Where a process stands; the words of `hippius status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for what it depends on.
    Pending,
    /// Runs, not ready yet.
    Starting,
    /// Runs and serves.
    Ready,
    /// Was asked to end.
    Stopping,
    /// Does not run, and nobody wants it to.
    Stopped,
    /// Ended; will be started again after a delay.
    Backoff,
    /// Ended, and will not be started again by itself.
    Failed,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Backoff => "backoff",
            State::Failed => "failed",
        }
    }

    /// Whether an operating-system process exists in this state.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, State::Starting | State::Ready | State::Stopping)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Pending,
    Starting { deadline: Instant },
    Ready { since: Instant, watchdog: Option<Instant> },
    Stopping { kill_at: Option<Instant>, then: Then },
    Stopped,
    Backoff { until: Instant },
    Failed,
}

/// What follows the end of a process that was asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    Stay,
    Respawn,
    /// It was ended for this reason, which counts as a crash.
    Crash(String),
}

/// One process's life. See the module for the rules.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    restart: RestartPolicy,
    timing: Timing,
    phase: Phase,
    generation: Generation,
    /// Restarts by policy since the process was first started.
    restarts: u64,
    /// When the restarts that count towards the crash-loop limit happened, oldest first.
    recent: VecDeque<Instant>,
    /// Restarts since the process was last stable.
    consecutive: u32,
    last_exit: Option<Exit>,
    reason: Option<String>,
    jitter: SmallRng,
}

impl Lifecycle {
    /// A process that does not run yet. `seed` feeds the jitter of its delays.
    #[must_use]
    pub fn new(restart: RestartPolicy, timing: Timing, seed: u64) -> Self {
        Self {
            restart,
            timing,
            phase: Phase::Stopped,
            generation: Generation(0),
            restarts: 0,
            recent: VecDeque::new(),
            consecutive: 0,
            last_exit: None,
            reason: None,
            jitter: SmallRng::seed_from_u64(seed),
        }
    }

    /// Where the process stands.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Pending => State::Pending,
            Phase::Starting { .. } => State::Starting,
            Phase::Ready { .. } => State::Ready,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Stopped => State::Stopped,
            Phase::Backoff { .. } => State::Backoff,
            Phase::Failed => State::Failed,
        }
    }

    /// Whether somebody asked for the end that is under way, or about to be.
    #[must_use]
    pub fn is_asked_to_end(&self) -> bool {
        matches!(self.phase, Phase::Stopping { then: Then::Stay | Then::Respawn, .. })
    }

    /// The newest incarnation's number; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How often the policy has restarted it.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How the last incarnation ended.
    #[must_use]
    pub fn last_exit(&self) -> Option<&Exit> {
        self.last_exit.as_ref()
    }

    /// Why it is not running although somebody wants it to, in words.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting { deadline } => Some(deadline),
            Phase::Ready { watchdog, .. } => watchdog,
            Phase::Stopping { kill_at, .. } => kill_at,
            Phase::Backoff { until } => Some(until),
            Phase::Pending | Phase::Stopped | Phase::Failed => None,
        }
    }

    /// Advances on `event` at `now`.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Action {
        match event {
            Event::Ready(g) | Event::Watchdog(g) | Event::SpawnFailed(g, _) | Event::Exited(g, _)
                if g != self.generation =>
            {
                Action::Nothing
            }
            Event::Stop => self.stop(now),
            Event::Kill => self.kill(),
            Event::Start => self.start(now),
            Event::Restart => self.explicit_restart(now),
            Event::GateOpen => match self.phase {
                Phase::Pending => self.spawn(now),
                _ => Action::Nothing,
            },
            Event::Ready(_) => {
                if let Phase::Starting { .. } = self.phase {
                    self.phase = Phase::Ready { since: now, watchdog: self.watchdog_due(now) };
                    self.reason = None;
                }
                Action::Nothing
            }
            Event::Watchdog(_) => {
                let due = self.watchdog_due(now);
                if let Phase::Ready { watchdog, .. } = &mut self.phase {
                    *watchdog = due;
                }
                Action::Nothing
            }
            Event::SpawnFailed(_, why) => self.ended(Exit::not_started(why), now),
            Event::Exited(_, exit) => self.ended(exit, now),
            Event::Tick => self.tick(now),
        }
    }

    fn start(&mut self, now: Instant) -> Action {
        match &mut self.phase {
            Phase::Stopped | Phase::Failed => {
                self.reset_budget();
                self.phase = Phase::Pending;
                Action::Nothing
            }
            Phase::Backoff { .. } => {
                self.reset_budget();
                self.spawn(now)
            }
            Phase::Stopping { then, .. } => {
                *then = Then::Respawn;
                self.reset_budget();
                Action::Nothing
            }
            Phase::Pending | Phase::Starting { .. } | Phase::Ready { .. } => Action::Nothing,
        }
    }

    fn explicit_restart(&mut self, now: Instant) -> Action {
        match self.phase {
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.reset_budget();
                self.phase =
                    Phase::Stopping { kill_at: Some(now + self.timing.stop_grace), then: Then::Respawn };
                Action::Terminate(self.generation)
            }
            _ => self.start(now),
        }
    }

    fn stop(&mut self, now: Instant) -> Action {
        match &mut self.phase {
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.reason = None;
                self.phase =
                    Phase::Stopping { kill_at: Some(now + self.timing.stop_grace), then: Then::Stay };
                Action::Terminate(self.generation)
            }
            Phase::Stopping { then, .. } => {
                *then = Then::Stay;
                self.reason = None;
                Action::Nothing
            }
            Phase::Pending | Phase::Backoff { .. } | Phase::Failed | Phase::Stopped => {
                self.phase = Phase::Stopped;
                self.reason = None;
                Action::Nothing
            }
        }
    }

    fn kill(&mut self) -> Action {
        self.reason = None;
        if self.state().is_alive() {
            self.phase = Phase::Stopping { kill_at: None, then: Then::Stay };
            Action::Kill(self.generation)
        } else {
            self.phase = Phase::Stopped;
            Action::Nothing
        }
    }

    fn tick(&mut self, now: Instant) -> Action {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Action::Nothing;
        }
        match &mut self.phase {
            Phase::Starting { .. } => self.end_for(format!(
                "not ready after {}",
                humantime::format_duration(self.timing.start_timeout)
            )),
            Phase::Ready { since, watchdog } => {
                // It was well until its last sign of life.
                let last_sign = watchdog.and_then(|due| due.checked_sub(self.timing.watchdog));
                if last_sign.is_some_and(|last| last.saturating_duration_since(*since) >= STABLE_AFTER) {
                    self.consecutive = 0;
                }
                self.end_for(format!(
                    "no sign of life on its watchdog for {}",
                    humantime::format_duration(self.timing.watchdog)
                ))
            }
            Phase::Stopping { kill_at, .. } => {
                *kill_at = None;
                Action::Kill(self.generation)
            }
            Phase::Backoff { .. } => self.spawn(now),
            Phase::Pending | Phase::Stopped | Phase::Failed => Action::Nothing,
        }
    }

    /// Kills a process that broke a deadline; its end counts as a crash.
    fn end_for(&mut self, reason: String) -> Action {
        self.reason = Some(reason.clone());
        self.phase = Phase::Stopping { kill_at: None, then: Then::Crash(reason) };
        Action::Kill(self.generation)
    }

    fn ended(&mut self, exit: Exit, now: Instant) -> Action {
        let (exit, was_ready_since) = match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Stopping { then: Then::Stay, .. } => {
                self.last_exit = Some(exit);
                return Action::Nothing;
            }
            Phase::Stopping { then: Then::Respawn, .. } => {
                self.last_exit = Some(exit);
                return self.spawn(now);
            }
            Phase::Stopping { then: Then::Crash(reason), .. } => (exit.because(reason), None),
            Phase::Starting { .. } => (exit, None),
            Phase::Ready { since, .. } => (exit, Some(since)),
            // An exit without a process: cannot come from a real child; change nothing.
            other @ (Phase::Pending | Phase::Stopped | Phase::Backoff { .. } | Phase::Failed) => {
                self.phase = other;
                return Action::Nothing;
            }
        };
        let wanted = match self.restart.when {
            RestartWhen::Always => true,
            RestartWhen::OnFailure => !exit.is_success(),
            RestartWhen::Never => false,
        };
        let (fatal, success, why) = (exit.fatal, exit.is_success(), exit.to_string());
        self.last_exit = Some(exit);
        if fatal || (!wanted && !success) {
            self.reason = Some(why);
            self.phase = Phase::Failed;
            return Action::Nothing;
        }
        if !wanted {
            self.reason = None;
            return Action::Nothing;
        }
        if was_ready_since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE_AFTER) {
            self.consecutive = 0;
        }
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) > self.restart.within) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.restart.limit as usize {
            self.reason = Some(format!(
                "crash loop: {} restarts in {}; the last time it {why}",
                self.recent.len(),
                humantime::format_duration(self.restart.within)
            ));
            self.phase = Phase::Failed;
            return Action::Nothing;
        }
        self.recent.push_back(now);
        self.restarts += 1;
        let delay = self.delay();
        self.consecutive = self.consecutive.saturating_add(1);
        self.reason = Some(why);
        if delay.is_zero() {
            self.spawn(now)
        } else {
            self.phase = Phase::Backoff { until: now + delay };
            Action::Nothing
        }
    }

    /// The delay before the next restart: zero, then `backoff`, doubling up to `max_backoff`, less up to a quarter
    /// at random so that processes that fell together do not all come back together.
    fn delay(&mut self) -> Duration {
        if self.consecutive == 0 {
            return Duration::ZERO;
        }
        let doublings = (self.consecutive - 1).min(31);
        let full = self.restart.backoff.saturating_mul(1 << doublings).min(self.restart.max_backoff);
        full.mul_f64(1.0 - self.jitter.random_range(0.0..0.25))
    }

    fn spawn(&mut self, now: Instant) -> Action {
        self.generation = Generation(self.generation.0 + 1);
        self.phase = Phase::Starting { deadline: now + self.timing.start_timeout };
        Action::Spawn(self.generation)
    }

    fn reset_budget(&mut self) {
        self.recent.clear();
        self.consecutive = 0;
        self.reason = None;
    }

    fn watchdog_due(&self, now: Instant) -> Option<Instant> {
        (!self.timing.watchdog.is_zero()).then(|| now + self.timing.watchdog)
    }
}
