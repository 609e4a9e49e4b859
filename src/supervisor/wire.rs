//! What the control API says: the JSON of `hippius status --json` and of the replies to commands.

use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::lifecycle::State;
use super::names::{self, UnknownProcess};
use crate::topology::plan::Role;

/// The whole network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The topology's name.
    pub topology: String,
    /// Where the network as a whole stands.
    pub state: NetworkState,
    /// The supervisor's pid.
    pub pid: u32,
    /// URL of the metrics.
    pub metrics: String,
    /// All processes, in start order.
    pub processes: Vec<ProcessStatus>,
}

/// Where a network as a whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkState {
    /// Some processes have not become ready for the first time.
    Starting,
    /// All have been ready, or have failed.
    Running,
    /// It is going down.
    Stopping,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: String,
    /// The group it belongs to.
    pub group: String,
    /// Its role.
    pub role: Role,
    /// Where it stands.
    pub state: State,
    /// Its pid while it runs.
    pub pid: Option<i32>,
    /// Which incarnation this is, from 1.
    pub generation: u64,
    /// How often it was restarted by policy.
    pub restarts: u64,
    /// How its last incarnation ended.
    pub last_exit: Option<Exit>,
    /// Why it does not run, or what it waits for.
    pub reason: Option<String>,
    /// Seconds since this incarnation was started.
    pub uptime_seconds: Option<f64>,
    /// A node's peer id.
    pub peer_id: Option<String>,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Why lines of its log are being lost, as long as they are.
    pub log_error: Option<String>,
}

impl Status {
    /// The processes that `name` means: the one of that name, or else all of the group of that name.
    ///
    /// # Errors
    /// [`UnknownProcess`], with the nearest name there is.
    pub fn named(&self, name: &str) -> Result<Vec<&ProcessStatus>, UnknownProcess> {
        let known = self.processes.iter().map(|process| (process.name.as_str(), process.group.as_str()));
        Ok(names::resolve(name, known)?.into_iter().map(|place| &self.processes[place]).collect())
    }

    /// Whether every process is ready.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.processes.iter().all(|process| process.state == State::Ready)
    }
}

/// What can be done to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start what does not run.
    Start,
    /// Stop what runs.
    Stop,
    /// Stop what runs and start it again.
    Restart,
}

impl Verb {
    /// The word in paths and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }

    /// The verb of a path.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Verb::Start, Verb::Stop, Verb::Restart].into_iter().find(|verb| verb.as_str() == word)
    }
}

/// The reply to a command on processes: how they stand now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acted {
    /// Whether all have come to where the command sends them.
    pub done: bool,
    /// The processes that the name meant.
    pub processes: Vec<ProcessStatus>,
}

/// Most lines of history in one reply to `GET /v1/logs`.
pub const MAX_LOG_LINES: usize = 100_000;

/// One line of `GET /v1/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The process that wrote it.
    pub process: String,
    /// The line: a JSON object as text.
    pub line: String,
}
