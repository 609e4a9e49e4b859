//! `hippius console PROCESS`: talk to a running node through its admin socket.
//!
//! On a terminal it is an editor with history and completion, and incoming messages appear above the prompt. Otherwise it is a
//! script: commands are read line by line, each is answered before the next is read, and the exit code says whether
//! all of them succeeded. Whatever comes from other peers is printed with its control characters escaped.

mod absent;
pub mod command;
mod direct;
mod editing;
mod events;
mod files;
mod processes;
mod render;
mod script;
mod session;
mod steering;
mod terminal;
mod who;

use std::io::{self, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::DataDir;
use crate::control::client::{Client, ClientError};
use crate::roles::config::ProcessConfig;
use crate::supervisor::lifecycle::State;
use crate::topology::plan::Role;

pub use script::Script;

/// Arguments of `hippius console`.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsoleArgs {
    /// The node to talk to, e.g. node-0.
    pub process: String,
    #[command(flatten)]
    data: DataDir,
}

impl ConsoleArgs {
    /// The admin socket of the process.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let data_dir = self.data.data_dir.join(&self.process);
        ProcessConfig { name: self.process.clone(), data_dir, admin_socket: None }.admin_socket()
    }
}

/// Why a console ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No process by this name.
    #[error("{0:?} is not a process name; see `hippius status`")]
    Name(String),
    /// A process that is no node.
    #[error(
        "{name} is no node, its role is {role}; the console is for nodes and bootnodes, see `hippius status`"
    )]
    NoNode {
        /// The process.
        name: String,
        /// What it is.
        role: Role,
    },
    /// A node that does not answer at the moment.
    #[error("{name} is {state}; {advice}", state = .state.as_str())]
    NotReady {
        /// The process.
        name: String,
        /// Where it stands.
        state: State,
        /// What to do.
        advice: String,
    },
    /// A group, which has a console for each of its nodes.
    #[error("{name} is a group of {count} nodes; name one of them: {first} … {last}")]
    Group {
        /// The group.
        name: String,
        /// How many nodes it has.
        count: usize,
        /// Its first node.
        first: String,
        /// Its last node.
        last: String,
    },
    /// Nothing of that name in the network.
    #[error("there is no node named {name}{hint} (the nodes are: {known})")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        hint: String,
        /// The nodes there are.
        known: String,
    },
    /// Neither a network nor such a node by itself.
    #[error(
        "no network runs in {data_dir}, and no node {name} by itself; start a network with `hippius up`, or a node \
         with `hippius node`",
        data_dir = .data_dir.display()
    )]
    NoNetwork {
        /// What was asked for.
        name: String,
        /// Where.
        data_dir: PathBuf,
    },
    /// The node's admin socket does not answer.
    #[error("cannot talk to the node: {0}; see `hippius status`")]
    Connect(#[source] ClientError),
    /// The node stopped, or its connection broke.
    #[error("the node has stopped")]
    NodeStopped,
    /// Standard input or output failed.
    #[error("the console's input or output failed: {0}")]
    Io(#[from] io::Error),
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}")]
    Terminal(String),
}

/// How a console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Commands that were refused or failed.
    pub failed: usize,
}

impl Outcome {
    /// 0 when a script's commands all succeeded; 1 otherwise.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Where commands come from and answers go.
pub enum Input {
    /// The terminal that standard input and output are.
    Terminal,
    /// Lines.
    Script(Script),
}

impl Input {
    /// The terminal if standard input and output are one, else a script on standard input.
    #[must_use]
    pub fn standard() -> Self {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            return Input::Terminal;
        }
        Input::Script(Script {
            // `Stdin` is locked line by line on the reading thread; a lock held here could not be sent there.
            commands: Box::new(BufReader::new(io::stdin())),
            output: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
        })
    }
}

/// What the admin API of every role says of itself.
#[derive(serde::Deserialize)]
struct Admin {
    /// A node has a status of its own, without it.
    role: Option<Role>,
}

/// Runs `hippius console`.
///
/// # Errors
/// See [`ConsoleError`].
pub async fn run(args: &ConsoleArgs) -> Result<Outcome, ConsoleError> {
    let mut parts = Path::new(&args.process).components();
    let is_name = matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
    if !is_name {
        return Err(ConsoleError::Name(args.process.clone()));
    }
    let socket = args.socket();
    let admin: Admin = match Client::new(&socket).get("/v1/status").await {
        Ok(admin) => admin,
        Err(ClientError::NotRunning(_)) => return Err(absent::explain(args).await),
        Err(error) => return Err(ConsoleError::Connect(error)),
    };
    if let Some(role) = admin.role.filter(|role| !matches!(role, Role::Node | Role::Bootnode)) {
        return Err(ConsoleError::NoNode { name: args.process.clone(), role });
    }
    attach(&socket, Input::standard()).await
}

/// Talks to the node whose admin API listens on `socket`, until `/quit` or the end of the input.
///
/// # Errors
/// See [`ConsoleError`]. A command that fails is no error: it is reported to the user and counted in the [`Outcome`].
pub async fn attach(socket: &Path, input: Input) -> Result<Outcome, ConsoleError> {
    match input {
        Input::Terminal => terminal::run(socket).await,
        Input::Script(script) => script::run(socket, script).await,
    }
}
