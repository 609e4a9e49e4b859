//! The cloneable handle to a running supervisor.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::lifecycle::State;
use super::logs::Logs;
pub use super::names::UnknownProcess;
use super::wire::{Acted, ProcessStatus, Status, Verb};

/// Commands that may wait for the supervisor.
pub(super) const COMMAND_QUEUE: usize = 64;

/// What a handle asks of the loop in [`super::core`].
pub(super) enum Command {
    Status(oneshot::Sender<Status>),
    Act { verb: Verb, name: String, reply: oneshot::Sender<Result<Vec<(String, u64)>, UnknownProcess>> },
    Down,
    Kill,
}

/// What the loop tells those who wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulse {
    /// Counts the changes.
    pub version: u64,
    /// All processes have once been ready, or have failed or been stopped, before the whole was to go down.
    pub settled: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// No such process.
    #[error(transparent)]
    Unknown(#[from] UnknownProcess),
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Gone(#[from] Gone),
}

/// The supervisor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor has ended")]
pub struct Gone;

/// A handle to a running supervisor.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    changed: watch::Receiver<Pulse>,
    logs: Logs,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, changed: watch::Receiver<Pulse>, logs: Logs) -> Self {
        Self { commands, changed, logs }
    }

    /// The network as it is now.
    ///
    /// # Errors
    /// [`Gone`] once the supervisor has ended.
    pub async fn status(&self) -> Result<Status, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Waits until something has changed since the last call on this handle.
    ///
    /// # Errors
    /// [`Gone`] once the supervisor has ended.
    pub async fn changed(&mut self) -> Result<(), Gone> {
        self.changed.changed().await.map_err(|_| Gone)
    }

    /// Whether everything had once become ready, failed or been stopped before the whole was told to go down. Still known
    /// when the supervisor has ended.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        self.changed.borrow().settled
    }

    /// Starts, stops or restarts a process or a group, and waits for the outcome for at most `patience`.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn act(&self, verb: Verb, name: &str, patience: Duration) -> Result<Acted, ActError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Act { verb, name: name.to_owned(), reply };
        self.commands.send(command).await.map_err(|_| Gone)?;
        let targets = answer.await.map_err(|_| Gone)??;
        let mut watcher = self.clone();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            watcher.changed.mark_unchanged();
            let status = self.status().await?;
            let processes: Vec<ProcessStatus> = status
                .processes
                .into_iter()
                .filter(|process| targets.iter().any(|(name, _)| *name == process.name))
                .collect();
            let settled = |process: &ProcessStatus| {
                let before = targets.iter().find(|(name, _)| *name == process.name).map_or(0, |t| t.1);
                match (verb, process.state) {
                    (Verb::Stop, state) => !state.is_alive(),
                    (_, State::Failed) => true,
                    (Verb::Start, state) => state == State::Ready,
                    (Verb::Restart, state) => state == State::Ready && process.generation > before,
                }
            };
            let all = processes.iter().all(settled);
            let reached = all && (verb == Verb::Stop || processes.iter().all(|p| p.state == State::Ready));
            if all || tokio::time::timeout_at(deadline, watcher.changed()).await.is_err() {
                return Ok(Acted { done: reached, processes });
            }
        }
    }

    /// Begins to stop everything; the supervisor's loop ends when that is done.
    pub async fn down(&self) {
        // Gone is down.
        let _ = self.commands.send(Command::Down).await;
    }

    /// Ends everything at once.
    pub async fn kill(&self) {
        let _ = self.commands.send(Command::Kill).await;
    }

    /// Waits until the supervisor has ended.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// The network's logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}
