//! The children: how they are started, signalled and reaped, and what they leave behind.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Child, Core, Received, Slot};
use crate::supervisor::exit::Exit;
use crate::supervisor::fleet::{Index, Order};
use crate::supervisor::launch::{self, Surroundings};
use crate::supervisor::lifecycle::{Action, Event, Generation, State};
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::sockets::Listening;
use crate::supervisor::spawn::{self, HowEnded, Scheduling, spawn};
use crate::supervisor::turn;
use crate::telemetry::token::Token;
use crate::topology::plan::Role;

impl Core {
    pub(super) fn carry_out(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some((index, action)) = orders.pop_front() {
            match action {
                Action::Nothing => {}
                // One that is alone, like a restart, need not wait for the next turn.
                Action::Spawn(generation) if self.queue.is_empty() && orders.is_empty() => {
                    orders.extend(self.start(index, generation));
                }
                Action::Spawn(generation) => self.queue.push_back((index, generation)),
                Action::Terminate(generation) => {
                    orders.extend(self.signal(index, generation, Signal::SIGTERM));
                }
                Action::Kill(generation) => orders.extend(self.signal(index, generation, Signal::SIGKILL)),
            }
        }
        self.show_changes();
    }

    /// Starts the next one of the queue.
    pub(super) fn start_next(&mut self) -> Vec<Order> {
        let next = self.queue.pop_front();
        next.map(|(index, generation)| self.start(index, generation)).unwrap_or_default()
    }

    fn start(&mut self, index: Index, generation: Generation) -> Vec<Order> {
        match self.spawn(index, generation) {
            Ok(()) => {
                self.show_figures(index);
                Vec::new()
            }
            Err(error) => {
                let name = &self.plan.processes[index].name;
                tracing::error!(process = name, "cannot start {name}: {error}");
                self.fleet.on_event(index, Event::SpawnFailed(generation, error.to_string()), Instant::now())
            }
        }
    }

    fn spawn(&mut self, index: Index, generation: Generation) -> io::Result<()> {
        let process = &self.plan.processes[index];
        let folder = self.state_dir.paths().process(&process.name);
        let token = Token::random();
        let arguments = launch::write_config(
            process,
            &Surroundings {
                folder: &folder,
                receiver: self.receiver,
                token: token.to_hex(),
                addresses_of: &|name| {
                    self.slot_of(name).map(|slot| slot.addresses.clone()).unwrap_or_default()
                },
                port_of: &|name| Some(self.slot_of(name)?.listening.as_ref()?.address().port()),
                ice: &|| {
                    let paths = self.state_dir.paths();
                    turn::ice_sources(&self.plan, paths, &|name| self.slot_of(name)?.turn)
                },
                turn: &|settings| {
                    let (paths, place) = (self.state_dir.paths(), self.slots[index].turn);
                    turn::role_config(&process.name, settings, place, &self.plan, paths)
                },
                last_addresses: if self.slots[index].keep_addresses {
                    &self.slots[index].addresses
                } else {
                    &[]
                },
            },
        )?;
        let notify = Arc::new(self.notify_socket(index, generation)?);
        let (output_read, output_write) = pipe2(OFlag::O_CLOEXEC)?;
        // Whatever can fail comes before the fork: a process that runs must be known.
        let output_read = pipe::Receiver::from_owned_fd(output_read)?;
        let slot = &mut self.slots[index];
        let listen = slot.listening.as_mut().map(Listening::socket).transpose().map_err(io::Error::other)?;
        let pid = spawn(&spawn::Command {
            program: CString::new(self.program.as_os_str().as_bytes())?,
            args: arguments,
            env: launch::environment(&notify.env_value(), process.timing.watchdog),
            listen,
            output: output_write.as_fd(),
            lifeline: self.lifeline.as_fd(),
            // A message wakes every node within milliseconds. If each stopped the one that has just told it, that one would not get to
            // tell the others: more turns, each with less to do, and more messages sent twice.
            scheduling: if process.role() == Role::Node { Scheduling::Patient } else { Scheduling::Eager },
        })
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display())))?;
        drop(output_write);

        self.store.lock().register(&token, &process.name, process.role().as_str(), generation.0);
        self.pids.insert(pid, (index, generation));
        slot.log.collect(output_read);
        slot.last_words = None;
        slot.fatal = false;
        let reading = CancellationToken::new();
        read_notices(index, generation, pid, notify.clone(), self.notices.0.clone(), reading.clone());
        slot.child = Some(Child {
            pid,
            generation,
            started: Instant::now(),
            started_at: SystemTime::now(),
            notify,
            reading,
        });
        tracing::info!(process = process.name, pid = pid.as_raw(), generation = generation.0, "started");
        Ok(())
    }

    /// A socket for one incarnation's notifications, in the folder that only this user can enter.
    fn notify_socket(&self, index: Index, generation: Generation) -> io::Result<NotifySocket> {
        let name = format!("{}.{}.notify", self.plan.processes[index].name, generation.0);
        NotifySocket::open_in(&self.state_dir.paths().supervisor(), &name)
    }

    fn slot_of(&self, name: &str) -> Option<&Slot> {
        let index = self.plan.processes.iter().position(|process| process.name == name)?;
        self.slots.get(index)
    }

    /// Sends a signal to an incarnation and its group. One that was only about to be started has then ended.
    fn signal(&mut self, index: Index, generation: Generation, signal: Signal) -> Vec<Order> {
        if let Some(place) = self.queue.iter().position(|waiting| *waiting == (index, generation)) {
            self.queue.remove(place);
            let event = Event::SpawnFailed(generation, "its turn to be started had not come yet".to_owned());
            return self.fleet.on_event(index, event, Instant::now());
        }
        // Each child leads its own group. "No such process": it has ended and is about to be reaped.
        if let Some(child) = self.slots[index].child.as_ref().filter(|child| child.generation == generation)
            && let Err(error) = killpg(child.pid, signal)
            && error != Errno::ESRCH
        {
            tracing::error!(process = self.plan.processes[index].name, %error, "cannot send {signal}");
        }
        Vec::new()
    }

    /// Hands on the time. Signs of life that are there already count first: after a pause of the supervisor itself they wait
    /// in the sockets, or on their way from there, and their senders are well.
    pub(super) fn tick(&mut self) -> Vec<Order> {
        let now = Instant::now();
        let mut orders = self.hear();
        for index in 0..self.slots.len() {
            let due = self.fleet.life(index).deadline().is_some_and(|deadline| deadline <= now);
            let Some(child) = self.slots[index].child.as_ref().filter(|_| due) else { continue };
            let (socket, pid, generation) = (child.notify.clone(), child.pid, child.generation);
            for notice in socket.waiting(pid) {
                orders.extend(self.on_notice(index, generation, notice));
            }
        }
        orders.extend(self.fleet.tick(Instant::now()));
        orders
    }

    /// Takes the notices that have been read.
    fn hear(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Ok((index, generation, notice)) = self.notices.1.try_recv() {
            orders.extend(self.on_notice(index, generation, notice));
        }
        orders
    }

    /// Collects everybody who has ended: children, and orphans of theirs that fell to us.
    pub(super) fn reap(&mut self) -> Vec<Order> {
        // What children said before they ended is heard first: a process's last words explain its end.
        let mut orders = self.hear();
        // First look, then end what is left of the group, then reap: until it is reaped its number stays its own.
        while let Some(ended) = spawn::next_ended() {
            let known = self.pids.remove(&ended.pid);
            if known.is_some() {
                let _ = killpg(ended.pid, Signal::SIGKILL);
            }
            spawn::reap(ended);
            self.strays.forget(ended.pid);
            let exit = match ended.how {
                HowEnded::Exited(code) => Exit::code(code),
                HowEnded::Killed(number) => Exit::signal(number),
            };
            if let Some((index, generation)) = known {
                orders.extend(self.on_exit(index, generation, exit));
            }
        }
        // What they left behind outside of their groups fell to this process when they ended.
        let reported_to: Vec<OsString> =
            self.slots.iter().filter_map(|slot| Some(slot.child.as_ref()?.notify.env_value())).collect();
        let folder = self.state_dir.paths().supervisor();
        for stray in self.strays.find(|pid| self.pids.contains_key(&pid)) {
            if stray.left_by_the_dead(&folder, &reported_to) {
                stray.kill();
            }
        }
        orders
    }

    /// Ends what roles have left behind, and waits for it for at most `patience`. Nothing else runs any more.
    pub(super) async fn end_strays(&mut self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            while let Some(ended) = spawn::next_ended() {
                spawn::reap(ended);
                self.strays.forget(ended.pid);
            }
            let left = self.strays.find(|_| false);
            if left.is_empty() {
                return;
            }
            for stray in &left {
                stray.kill();
            }
            if tokio::time::timeout_at(deadline, self.child_ended.recv()).await.is_err() {
                tracing::warn!("{} processes that roles have left behind do not end", left.len());
                return;
            }
        }
    }

    fn on_exit(&mut self, index: Index, generation: Generation, mut exit: Exit) -> Vec<Order> {
        let name = self.plan.processes[index].name.clone();
        let mut orders = Vec::new();
        if let Some(child) = self.slots[index].child.take() {
            child.reading.cancel();
            for notice in child.notify.waiting(child.pid) {
                orders.extend(self.on_notice(index, generation, notice));
            }
        }
        self.store.lock().exited(&name, generation.0);
        let was_starting = self.fleet.life(index).state() == State::Starting;
        let slot = &mut self.slots[index];
        if was_starting {
            slot.keep_addresses = false;
        }
        exit.message = slot.last_words.take();
        exit.fatal = slot.fatal;
        let asked_for = self.fleet.life(index).is_asked_to_end();
        orders.extend(self.fleet.on_event(index, Event::Exited(generation, exit), Instant::now()));
        if let Some(exit) = self.fleet.life(index).last_exit() {
            if asked_for {
                tracing::info!(process = name, "{exit}");
            } else {
                tracing::warn!(process = name, "{exit}");
            }
        }
        if self.fleet.life(index).state() == State::Failed {
            let reason = self.fleet.life(index).reason().unwrap_or_default();
            tracing::error!(process = name, "failed, and is not started again: {reason}");
        }
        orders
    }
}

/// Reads an incarnation's notifications until it has ended.
fn read_notices(
    index: Index,
    generation: Generation,
    pid: Pid,
    socket: Arc<NotifySocket>,
    notices: mpsc::Sender<Received>,
    ended: CancellationToken,
) {
    tokio::spawn(ended.run_until_cancelled_owned(async move {
        while let Ok(notice) = socket.next(pid).await {
            if notices.send((index, generation, notice)).await.is_err() {
                return;
            }
        }
    }));
}
