//! The command line: one file per command. Each reads arguments, calls the library and prints.

pub mod check;
pub mod client;
pub mod columns;
pub mod console;
pub mod detach;
pub mod foreground;
pub mod init;
pub mod logs;
pub mod mode;
pub mod output;
pub mod plan;
pub mod progress;
pub mod role;
pub mod schema;
pub mod screen;
pub mod status;
pub mod table;
pub mod token;
pub mod up;
pub mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::supervisor::state_dir::DEFAULT_DATA_DIR;
use crate::supervisor::wire::Verb;
use crate::topology::plan::Role;

/// Runs a whole peer-to-peer network from one TOML file.
#[derive(Debug, Parser)]
#[command(name = "hippius", version, about, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    short: mode::ModeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a network and stay in the foreground; Ctrl-C stops it.
    Up(up::UpArgs),
    /// Stop a running network and wait until it is down.
    Down(client::DownArgs),
    /// Show what runs.
    Status(status::StatusArgs),
    /// Print the logs of processes, merged by time.
    Logs(logs::LogsArgs),
    /// Start processes or groups that do not run.
    Start(client::ActArgs),
    /// Stop processes or groups.
    Stop(client::ActArgs),
    /// Restart processes or groups.
    Restart(client::ActArgs),
    /// Talk to a running node.
    Console(console::ConsoleArgs),
    Check(check::CheckArgs),
    Plan(plan::PlanArgs),
    Schema(schema::SchemaArgs),
    Init(init::InitArgs),
    /// Run a bootnode by itself.
    Bootnode(role::NodeArgs),
    /// Run a node by itself.
    Node(role::NodeArgs),
    /// Run a signaling server by itself.
    Signaling(role::SignalingArgs),
    /// Run a web server by itself.
    Web(role::ServerArgs),
    /// Run a STUN and TURN server by itself.
    Turn(role::TurnArgs),
    /// Run a metric store by itself.
    Collector(role::ServerArgs),
}

/// The folder that holds a network's state.
#[derive(Debug, Clone, clap::Args)]
pub struct DataDir {
    /// The folder that holds the network's state.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

/// Sockets that are taken up at once. What one client sends is then written to the other while it is still in the processor's cache; with a
/// thousand clients, and the usual 1,024, all are read before the first is written, and a signaling server relays a sixth less.
const SOCKETS_AT_ONCE: usize = 64;
/// Tasks that are polled before sockets are looked at again: more than twice as many, so that those that were read are written first.
const TASKS_AT_ONCE: u32 = 256;

/// The whole program. It is made here and not in `main.rs` so that it is compiled with the library, once.
///
/// One thread for everything: children must be forked by a thread that lives as long as the process, and a hundred
/// roles on one machine want few threads each.
#[must_use]
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .max_io_events_per_tick(SOCKETS_AT_ONCE)
        .event_interval(TASKS_AT_ONCE)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(format!("cannot start: {error}")),
    };
    let code = runtime.block_on(run());
    // A thread that waits for the next line of a terminal must not keep the process.
    runtime.shutdown_background();
    code
}

/// Reads the command line and runs what it says.
async fn run() -> ExitCode {
    let cli = Cli::parse();
    let Some(command) = cli.command else {
        return match cli.short.mode {
            Some(mode) => mode::run(mode, cli.short).await,
            None => {
                output::complain(Cli::command().render_help().to_string().trim_end());
                ExitCode::from(2)
            }
        };
    };
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Down(args) => client::down(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Start(args) => client::act(Verb::Start, args).await,
        Command::Stop(args) => client::act(Verb::Stop, args).await,
        Command::Restart(args) => client::act(Verb::Restart, args).await,
        Command::Console(args) => match console::run(&args).await {
            Ok(outcome) => outcome.exit_code(),
            Err(error) => output::fail(error),
        },
        Command::Check(args) => check::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Init(args) => init::run(args),
        Command::Bootnode(args) => role::run_node(args, Role::Bootnode).await,
        Command::Node(args) => role::run_node(args, Role::Node).await,
        Command::Signaling(args) => match args.command {
            Some(role::SignalingCommand::Token(args)) => token::run(args),
            None => role::run_signaling(args.server).await,
        },
        Command::Web(args) => role::run_web(args).await,
        Command::Turn(args) => role::run_turn(args).await,
        Command::Collector(args) => role::run_collector(args).await,
    }
}

/// This program, which also plays the roles.
fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find out this program's own path: {error}"))
}
