//! How the processes stand: for the control API, for the metrics, and for whoever waits for a change.

use super::Core;
use crate::supervisor::fleet::Index;
use crate::supervisor::lifecycle::State;
use crate::supervisor::wire::{NetworkState, ProcessStatus, Status};
use crate::telemetry::supervisor::{ProcessFigures, Up};

impl Core {
    pub(super) fn status(&self) -> Status {
        let mut processes = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.len() {
            processes.push(self.process_status(index));
        }
        let state = if self.fleet.is_shutting_down() {
            NetworkState::Stopping
        } else if self.pulse.borrow().settled {
            NetworkState::Running
        } else {
            NetworkState::Starting
        };
        Status {
            topology: self.plan.topology.clone(),
            state,
            pid: std::process::id(),
            metrics: format!("http://{}/metrics", self.metrics),
            processes,
        }
    }

    fn process_status(&self, index: Index) -> ProcessStatus {
        let (process, slot, life) = (&self.plan.processes[index], &self.slots[index], self.fleet.life(index));
        let waits: Vec<&str> =
            self.fleet.waits_for(index).map(|dep| self.plan.processes[dep].name.as_str()).collect();
        let reason = if waits.is_empty() {
            life.reason().map(str::to_owned)
        } else {
            Some(format!("waits for {}", waits.join(", ")))
        };
        let addresses = match &slot.listening {
            Some(listening) if slot.addresses.is_empty() => vec![listening.address().to_string()],
            _ => slot.addresses.clone(),
        };
        ProcessStatus {
            name: process.name.clone(),
            group: process.group.clone(),
            role: process.role(),
            state: life.state(),
            pid: slot.child.as_ref().map(|child| child.pid.as_raw()),
            generation: life.generation().0,
            restarts: life.restarts(),
            last_exit: life.last_exit().cloned(),
            reason,
            uptime_seconds: slot.child.as_ref().map(|child| child.started.elapsed().as_secs_f64()),
            peer_id: slot.peer_id.clone(),
            addresses,
            log_error: slot.log.trouble(),
        }
    }

    /// Draws the consequences of what has changed for those who look on: the supervisor's metrics, the clients of the
    /// sockets, and those who wait for a change.
    pub(super) fn show_changes(&mut self) {
        let mut any = false;
        for index in 0..self.slots.len() {
            let life = self.fleet.life(index);
            let now = Some((life.state(), life.generation(), life.restarts()));
            if self.slots[index].shown != now {
                self.slots[index].shown = now;
                self.show_figures(index);
                any = true;
            }
        }
        if !any {
            return;
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // Nobody will serve those who come now: they must be refused instead of waiting for nothing.
            if let Some(listening) = slot.listening.as_mut().filter(|_| self.fleet.is_given_up(index)) {
                listening.close();
            }
        }
        // Whatever stops while all stop has not settled by that.
        let settled =
            !self.fleet.is_shutting_down() && (0..self.slots.len()).all(|index| self.fleet.is_settled(index));
        self.pulse.send_modify(|pulse| {
            pulse.version += 1;
            pulse.settled |= settled;
        });
    }

    /// Brings the supervisor's own metrics of one process up to date.
    pub(super) fn show_figures(&self, index: Index) {
        let (process, slot, life) = (&self.plan.processes[index], &self.slots[index], self.fleet.life(index));
        self.table.set(
            &process.name,
            ProcessFigures {
                role: process.role().as_str().to_owned(),
                up: if life.state() == State::Ready { Up::Yes } else { Up::No },
                restarts: life.restarts(),
                start_time: slot.child.as_ref().map(|child| child.started_at),
                dropped_lines: slot.log.dropped(),
            },
        );
    }
}
