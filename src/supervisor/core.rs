//! The supervisor's loop: hands what happens to the [`Fleet`] and carries out what it orders.
//!
//! It runs on the thread that lives as long as the process (children die with the thread that forked them), owns every
//! child, and is the only place that forks, signals and reaps.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{ffi::CString, io, os::unix::ffi::OsStrExt};

use futures::future::join_all;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};
use tokio::net::unix::pipe;
use tokio::signal::unix::Signal as SignalStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::fleet::{Fleet, Index, Order};
use super::handle::{Command, UnknownProcess};
use super::launch::{self, Surroundings};
use super::lifecycle::{Action, Event, Generation, State};
use super::logs::ProcessLog;
use super::notify::{Notice, NotifySocket};
use super::spawn::{self, HowEnded, spawn};
use super::state_dir::StateDir;
use super::wire::{NetworkState, ProcessStatus, Status, Verb};
use crate::telemetry::store::SharedStore;
use crate::telemetry::supervisor::{ProcessFigures, ProcessTable, Up};
use crate::telemetry::token::Token;
use crate::topology::plan::Plan;

/// Notifications that may wait for the loop; a child that sends more waits.
pub(super) const NOTICE_QUEUE: usize = 256;

/// How long to wait at the end for output that somebody still holds open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A notification and who sent it.
pub(super) type Received = (Index, Generation, Notice);

/// The running supervisor.
pub(super) struct Core {
    pub plan: Plan,
    pub fleet: Fleet,
    pub slots: Vec<Slot>,
    pub state_dir: StateDir,
    /// The program that plays the roles.
    pub program: PathBuf,
    /// Where people and Prometheus find the metrics.
    pub metrics: SocketAddr,
    /// Where children push their telemetry.
    pub receiver: SocketAddr,
    pub store: SharedStore,
    pub table: ProcessTable,
    /// Read end of the lifeline, handed to every child.
    pub lifeline: OwnedFd,
    /// Write end of the lifeline; closes when this process ends, however it ends.
    pub _lifeline_held: OwnedFd,
    pub pids: HashMap<Pid, (Index, Generation)>,
    pub child_ended: SignalStream,
    pub notices: (mpsc::Sender<Received>, mpsc::Receiver<Received>),
    pub commands: mpsc::Receiver<Command>,
    pub changed: watch::Sender<u64>,
    /// All processes have once been ready or failed.
    pub settled: bool,
}

/// What the supervisor holds of one process beside its lifecycle.
pub(super) struct Slot {
    pub log: ProcessLog,
    /// What the metrics and those who wait were last shown.
    pub shown: Option<(State, Generation, u64)>,
    /// The listening socket that every incarnation is handed.
    pub socket: Option<TcpListener>,
    pub child: Option<Child>,
    /// What the newest incarnation told; kept after its end for those that depend on it.
    pub peer_id: Option<String>,
    pub addresses: Vec<String>,
    /// Whether `addresses` may be asked for again: not after an incarnation that failed to start with them.
    pub keep_addresses: bool,
    pub last_words: Option<String>,
    pub fatal: bool,
}

/// A living incarnation.
pub(super) struct Child {
    pid: Pid,
    generation: Generation,
    started: Instant,
    started_at: SystemTime,
    notify: Arc<NotifySocket>,
    /// Ends the task that reads `notify`.
    reading: CancellationToken,
}

impl Core {
    /// Runs the network until it was told to go down and nothing runs any more; gives back the folder, still locked.
    pub async fn run(mut self) -> StateDir {
        let orders = self.fleet.start_all(Instant::now());
        self.carry_out(orders);
        while !(self.fleet.is_shutting_down() && self.fleet.is_down()) {
            let deadline = self.fleet.deadline();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let orders = tokio::select! {
                biased;
                _ = self.child_ended.recv() => self.reap(),
                () = timer => self.tick(),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some((index, generation, notice)) = self.notices.1.recv() => self.on_notice(index, generation, notice),
            };
            self.carry_out(orders);
        }
        // The last words of those that have ended may still stand in their pipes.
        let drained = join_all(self.slots.iter().map(|slot| slot.log.drained()));
        if tokio::time::timeout(LAST_WORDS, drained).await.is_err() {
            tracing::warn!("a process outside of every group still holds an output open; its lines are lost");
        }
        self.state_dir
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some((index, action)) = orders.pop_front() {
            match action {
                Action::Nothing => {}
                Action::Spawn(generation) => {
                    if let Err(error) = self.spawn(index, generation) {
                        let message = format!("cannot start {}: {error}", self.plan.processes[index].name);
                        tracing::error!(process = self.plan.processes[index].name, "{message}");
                        let event = Event::SpawnFailed(generation, error.to_string());
                        orders.extend(self.fleet.on_event(index, event, Instant::now()));
                    }
                }
                Action::Terminate(generation) => self.signal(index, generation, Signal::SIGTERM),
                Action::Kill(generation) => self.signal(index, generation, Signal::SIGKILL),
            }
        }
        self.show_changes();
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
                port_of: &|name| Some(self.slot_of(name)?.socket.as_ref()?.local_addr().ok()?.port()),
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
        let pid = spawn(&spawn::Command {
            program: CString::new(self.program.as_os_str().as_bytes())?,
            args: arguments,
            env: launch::environment(&notify.env_value(), process.timing.watchdog),
            listen: slot.socket.as_ref().map(AsFd::as_fd),
            output: output_write.as_fd(),
            lifeline: self.lifeline.as_fd(),
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

    fn signal(&mut self, index: Index, generation: Generation, signal: Signal) {
        let Some(child) = self.slots[index].child.as_ref().filter(|child| child.generation == generation)
        else {
            return;
        };
        // Each child leads its own group. "No such process": it has ended and is about to be reaped.
        if let Err(error) = killpg(child.pid, signal)
            && error != Errno::ESRCH
        {
            tracing::error!(process = self.plan.processes[index].name, %error, "cannot send {signal}");
        }
    }

    /// Hands on the time. Signs of life that are there already count first: after a pause of the supervisor itself they wait
    /// in the sockets, and their senders are well.
    fn tick(&mut self) -> Vec<Order> {
        let now = Instant::now();
        let mut orders = Vec::new();
        for index in 0..self.slots.len() {
            let due = self.fleet.life(index).deadline().is_some_and(|deadline| deadline <= now);
            let Some(child) = self.slots[index].child.as_ref().filter(|_| due) else { continue };
            let (socket, pid, generation) = (child.notify.clone(), child.pid, child.generation);
            while let Some(notice) = socket.try_next(pid) {
                orders.extend(self.on_notice(index, generation, notice));
            }
        }
        orders.extend(self.fleet.tick(Instant::now()));
        orders
    }

    /// Collects everybody who has ended: children, and orphans of theirs that fell to us.
    fn reap(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        // What children said before they ended is heard first: a process's last words explain its end.
        while let Ok((index, generation, notice)) = self.notices.1.try_recv() {
            orders.extend(self.on_notice(index, generation, notice));
        }
        // First look, then end what is left of the group, then reap: until it is reaped its number stays its own.
        while let Some(ended) = spawn::next_ended() {
            let known = self.pids.remove(&ended.pid);
            if known.is_some() {
                let _ = killpg(ended.pid, Signal::SIGKILL);
            }
            spawn::reap(ended);
            let exit = match ended.how {
                HowEnded::Exited(code) => Exit::code(code),
                HowEnded::Killed(number) => Exit::signal(number),
            };
            if let Some((index, generation)) = known {
                orders.extend(self.on_exit(index, generation, exit));
            }
        }
        orders
    }

    fn on_exit(&mut self, index: Index, generation: Generation, mut exit: Exit) -> Vec<Order> {
        let name = self.plan.processes[index].name.clone();
        let mut orders = Vec::new();
        if let Some(child) = self.slots[index].child.take() {
            child.reading.cancel();
            while let Some(notice) = child.notify.try_next(child.pid) {
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

    fn on_notice(&mut self, index: Index, generation: Generation, notice: Notice) -> Vec<Order> {
        if self.fleet.life(index).generation() != generation {
            return Vec::new();
        }
        let slot = &mut self.slots[index];
        slot.fatal |= notice.fatal;
        if let Some(status) = notice.status {
            slot.last_words = Some(status);
        }
        if let Some(peer_id) = notice.peer_id {
            slot.peer_id = Some(peer_id);
        }
        if !notice.addresses.is_empty() {
            slot.addresses = notice.addresses;
        }
        let now = Instant::now();
        if notice.ready {
            slot.keep_addresses = true;
            slot.last_words = None;
            let took = slot.child.as_ref().map_or(0, |child| child.started.elapsed().as_millis());
            tracing::info!(process = self.plan.processes[index].name, milliseconds = took as u64, "ready");
            return self.fleet.on_event(index, Event::Ready(generation), now);
        }
        if notice.watchdog {
            return self.fleet.on_event(index, Event::Watchdog(generation), now);
        }
        Vec::new()
    }

    fn on_command(&mut self, command: Command) -> Vec<Order> {
        let now = Instant::now();
        match command {
            Command::Status(reply) => {
                let _ = reply.send(self.status());
                Vec::new()
            }
            Command::Down => {
                tracing::info!("going down");
                self.fleet.shut_down(now)
            }
            Command::Kill => self.fleet.kill_all(now),
            Command::Act { verb, name, reply } => {
                let targets = self.targets(&name);
                if targets.is_empty() {
                    let _ = reply.send(Err(UnknownProcess { name, known: self.known_names() }));
                    return Vec::new();
                }
                tracing::info!(process = name, "asked to {}", verb.as_str());
                let before = targets
                    .iter()
                    .map(|index| {
                        let generation = self.fleet.life(*index).generation().0;
                        (self.plan.processes[*index].name.clone(), generation)
                    })
                    .collect();
                let mut orders = Vec::new();
                for index in targets {
                    let event = match verb {
                        Verb::Start => Event::Start,
                        Verb::Stop => Event::Stop,
                        Verb::Restart => Event::Restart,
                    };
                    orders.extend(self.fleet.on_event(index, event, now));
                }
                let _ = reply.send(Ok(before));
                orders
            }
        }
    }

    fn targets(&self, name: &str) -> Vec<Index> {
        let named = |index: &Index| self.plan.processes[*index].name == name;
        let grouped = |index: &Index| self.plan.processes[*index].group == name;
        let all = 0..self.plan.processes.len();
        let exact: Vec<Index> = all.clone().filter(named).collect();
        if exact.is_empty() { all.filter(grouped).collect() } else { exact }
    }

    fn known_names(&self) -> String {
        let mut groups: Vec<&str> =
            self.plan.processes.iter().map(|process| process.group.as_str()).collect();
        groups.dedup();
        groups.join(", ")
    }

    fn status(&mut self) -> Status {
        let mut processes = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.len() {
            processes.push(self.process_status(index));
        }
        self.settled |= (0..self.slots.len()).all(|index| self.fleet.is_settled(index));
        let state = if self.fleet.is_shutting_down() {
            NetworkState::Stopping
        } else if self.settled {
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
        let addresses = match &slot.socket {
            Some(socket) if slot.addresses.is_empty() => {
                socket.local_addr().map(|address| vec![address.to_string()]).unwrap_or_default()
            }
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
        }
    }

    /// Brings the supervisor's own metrics up to date and wakes those who wait for a change, if there is one.
    fn show_changes(&mut self) {
        let mut any = false;
        for (index, process) in self.plan.processes.iter().enumerate() {
            let (life, slot) = (self.fleet.life(index), &mut self.slots[index]);
            let now = Some((life.state(), life.generation(), life.restarts()));
            if slot.shown != now {
                slot.shown = now;
                any = true;
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
        if any {
            self.changed.send_modify(|version| *version += 1);
        }
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
