//! All processes of a topology together: who waits for whom, who stops before whom. Pure, like the
//! [`Lifecycle`] of each.
//!
//! A process starts once everything it depends on is ready, or has been: whoever was ready once has left an
//! address, and its later troubles must not keep others down. The whole stops against the arrows: a process is asked to
//! end when nothing that depends on it runs any more.

use std::time::Instant;

use super::lifecycle::{Action, Event, Lifecycle, State};

/// A process's place in the plan.
pub type Index = usize;

/// What the supervisor must do, and for whom.
pub type Order = (Index, Action);

/// One process with its dependencies.
#[derive(Debug, Clone)]
struct Member {
    depends_on: Vec<Index>,
    dependents: Vec<Index>,
    was_ready: bool,
    /// Stopped by the order of the shutdown already.
    told_to_stop: bool,
    life: Lifecycle,
}

/// The state of a whole network.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    members: Vec<Member>,
    shutting_down: bool,
}

impl Fleet {
    /// A fleet of the given processes, none started. `depends_on` are positions in the same list.
    ///
    /// # Panics
    /// When a position is out of range; a plan never has one.
    #[must_use]
    pub fn new(processes: Vec<(Lifecycle, Vec<Index>)>) -> Self {
        let mut members: Vec<Member> = processes
            .into_iter()
            .map(|(life, depends_on)| Member {
                depends_on,
                dependents: Vec::new(),
                was_ready: false,
                told_to_stop: false,
                life,
            })
            .collect();
        for index in 0..members.len() {
            for dependency in members[index].depends_on.clone() {
                members[dependency].dependents.push(index);
            }
        }
        Self { members, shutting_down: false }
    }

    /// How many processes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no process at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One process's life.
    #[must_use]
    pub fn life(&self, index: Index) -> &Lifecycle {
        &self.members[index].life
    }

    /// Whether the process has become ready at least once, or will not by itself; see [`Fleet::is_given_up`].
    #[must_use]
    pub fn is_settled(&self, index: Index) -> bool {
        self.members[index].was_ready || self.is_given_up(index)
    }

    /// Whether the process does not run and will not by itself: it failed, was stopped, or waits for one that did.
    #[must_use]
    pub fn is_given_up(&self, index: Index) -> bool {
        matches!(self.members[index].life.state(), State::Failed | State::Stopped)
            || self.waits_for(index).any(|needed| self.is_given_up(needed))
    }

    /// What a pending process waits for.
    pub fn waits_for(&self, index: Index) -> impl Iterator<Item = Index> + '_ {
        let member = &self.members[index];
        member
            .depends_on
            .iter()
            .copied()
            .filter(move |dep| member.life.state() == State::Pending && !self.members[*dep].was_ready)
    }

    /// Starts everything, in order.
    #[must_use]
    pub fn start_all(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for index in 0..self.members.len() {
            self.apply(index, Event::Start, now, &mut orders);
        }
        self.open_gates(now, &mut orders);
        orders
    }

    /// Begins to stop everything, in reverse order; [`Fleet::is_down`] tells when it is done.
    #[must_use]
    pub fn shut_down(&mut self, now: Instant) -> Vec<Order> {
        self.shutting_down = true;
        let mut orders = Vec::new();
        self.stop_unneeded(now, &mut orders);
        orders
    }

    /// Ends everything that still runs, at once.
    #[must_use]
    pub fn kill_all(&mut self, now: Instant) -> Vec<Order> {
        self.shutting_down = true;
        let mut orders = Vec::new();
        for index in 0..self.members.len() {
            self.members[index].told_to_stop = true;
            self.apply(index, Event::Kill, now, &mut orders);
        }
        orders
    }

    /// Hands `event` to one process and draws the consequences for the others.
    #[must_use]
    pub fn on_event(&mut self, index: Index, event: Event, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.shutting_down && matches!(event, Event::Start | Event::Restart) {
            return orders;
        }
        if self.shutting_down
            && let Event::Exited(generation, _) | Event::SpawnFailed(generation, _) = &event
            && *generation == self.members[index].life.generation()
            && self.members[index].life.state().is_alive()
        {
            // An end that comes before its turn is welcome: stopped first, it is not started again. There is nobody left
            // to whom the order to end could be given.
            let _ = self.members[index].life.on_event(Event::Stop, now);
        }
        self.apply(index, event, now, &mut orders);
        if self.members[index].life.state() == State::Ready {
            self.members[index].was_ready = true;
        }
        if self.shutting_down {
            self.stop_unneeded(now, &mut orders);
        } else {
            self.open_gates(now, &mut orders);
        }
        orders
    }

    /// Hands the passing of time to everyone whose deadline has come.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for index in 0..self.members.len() {
            if self.members[index].life.deadline().is_some_and(|deadline| deadline <= now) {
                self.apply(index, Event::Tick, now, &mut orders);
            }
        }
        if self.shutting_down {
            self.stop_unneeded(now, &mut orders);
        }
        orders
    }

    /// When [`Fleet::tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.life.deadline()).min()
    }

    /// Whether no process exists any more.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.members.iter().all(|member| !member.life.state().is_alive())
    }

    /// Whether [`Fleet::shut_down`] was called.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    fn apply(&mut self, index: Index, event: Event, now: Instant, orders: &mut Vec<Order>) {
        let action = self.members[index].life.on_event(event, now);
        if action != Action::Nothing {
            orders.push((index, action));
        }
    }

    fn open_gates(&mut self, now: Instant, orders: &mut Vec<Order>) {
        for index in 0..self.members.len() {
            let member = &self.members[index];
            if member.life.state() == State::Pending
                && member.depends_on.iter().all(|dep| self.members[*dep].was_ready)
            {
                self.apply(index, Event::GateOpen, now, orders);
            }
        }
    }

    fn stop_unneeded(&mut self, now: Instant, orders: &mut Vec<Order>) {
        // From the last to the first: whatever depends on a process comes after it.
        for index in (0..self.members.len()).rev() {
            let member = &self.members[index];
            // Only what serves can be needed: whatever does not run, or ends already, must not be started again.
            let serves = matches!(member.life.state(), State::Starting | State::Ready);
            let needed =
                serves && member.dependents.iter().any(|dep| self.members[*dep].life.state().is_alive());
            if !member.told_to_stop && !needed {
                self.members[index].told_to_stop = true;
                self.apply(index, Event::Stop, now, orders);
            }
        }
    }
}
