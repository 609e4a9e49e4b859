//! The supervisor's loop: hands what happens to the [`Fleet`] and carries out what it orders.
//!
//! It runs on the thread that lives as long as the process (children die with the thread that forked them) and owns every
//! child. [`children`] forks, signals and reaps them; [`report`] tells how they stand.

mod children;
mod report;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use nix::unistd::Pid;
use tokio::signal::unix::Signal as SignalStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Index, Order};
use super::handle::{Command, Pulse};
use super::lifecycle::{Event, Generation, State};
use super::logs::ProcessLog;
use super::names;
use super::notify::{Notice, NotifySocket};
use super::sockets::Listening;
use super::state_dir::StateDir;
use super::strays::Strays;
use super::turn;
use super::wire::Verb;
use crate::telemetry::store::SharedStore;
use crate::telemetry::supervisor::ProcessTable;
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
    /// Incarnations that are to be started, one per turn of the loop.
    pub queue: VecDeque<(Index, Generation)>,
    /// What is a child of this process and no incarnation.
    pub strays: Strays,
    pub child_ended: SignalStream,
    pub notices: (mpsc::Sender<Received>, mpsc::Receiver<Received>),
    pub commands: mpsc::Receiver<Command>,
    /// Wakes those who wait for a change.
    pub pulse: watch::Sender<Pulse>,
}

/// What the supervisor holds of one process beside its lifecycle.
pub(super) struct Slot {
    pub log: ProcessLog,
    /// What the metrics and those who wait were last shown.
    pub shown: Option<(State, Generation, u64)>,
    /// Where a TURN server listens, which binds by itself.
    pub turn: Option<turn::Place>,
    /// The listening socket that every incarnation is handed.
    pub listening: Option<Listening>,
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
                // To start a process takes milliseconds: between two of them everybody else has a turn, and what is more
                // urgent goes first. A child that floods its socket must not hold up the others' start, though.
                () = tokio::task::yield_now(), if !self.queue.is_empty() => self.start_next(),
                Some((index, generation, notice)) = self.notices.1.recv() => self.on_notice(index, generation, notice),
            };
            self.carry_out(orders);
        }
        self.end_strays(LAST_WORDS).await;
        // The last words of those that have ended may still stand in their pipes.
        let drained = join_all(self.slots.iter().map(|slot| slot.log.drained()));
        if tokio::time::timeout(LAST_WORDS, drained).await.is_err() {
            tracing::warn!("somebody still holds an output open; its lines are lost");
        }
        self.state_dir
    }

    fn on_notice(&mut self, index: Index, generation: Generation, notice: Notice) -> Vec<Order> {
        if self.fleet.life(index).generation() != generation {
            return Vec::new();
        }
        let begins = notice.ready && self.fleet.life(index).state() == State::Starting;
        let slot = &mut self.slots[index];
        slot.fatal |= notice.fatal;
        if let Some(status) = notice.status {
            slot.last_words = Some(status);
        }
        if let Some(peer_id) = notice.peer_id {
            slot.peer_id = Some(peer_id);
        }
        // One that listens at relays only has no address when it begins, and not those of its last incarnation.
        if begins || !notice.addresses.is_empty() {
            slot.addresses = notice.addresses;
        }
        let now = Instant::now();
        if notice.ready {
            slot.keep_addresses = true;
            slot.last_words = None;
            // Said once, however often the child says it.
            if begins {
                let took = slot.child.as_ref().map_or(0, |child| child.started.elapsed().as_millis());
                tracing::info!(
                    process = self.plan.processes[index].name,
                    milliseconds = took as u64,
                    "ready"
                );
            }
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
                let known =
                    self.plan.processes.iter().map(|known| (known.name.as_str(), known.group.as_str()));
                let targets = match names::resolve(&name, known) {
                    Ok(targets) => targets,
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        return Vec::new();
                    }
                };
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
}
