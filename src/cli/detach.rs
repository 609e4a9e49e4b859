//! `hippius up --detach`: starts the supervisor as a process of its own and waits until it reports readiness.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::up::{DETACHED_TIMEOUT, UpArgs};
use super::{output, table};
use crate::control::client::Client;
use crate::roles::runtime::Listened;
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::Status;

/// Runs the command.
pub async fn run(args: &UpArgs) -> ExitCode {
    let program = match super::own_program() {
        Ok(program) => program,
        Err(error) => return output::fail(error),
    };
    match start(args, &program).await {
        Ok(code) => code,
        Err(error) => output::fail(format_args!("cannot start the supervisor in the background: {error}")),
    }
}

async fn start(args: &UpArgs, program: &Path) -> io::Result<ExitCode> {
    let notify = NotifySocket::open()?;
    let mut signals = Signals::listen()?;
    let mut supervisor = command(args, program, &notify).spawn()?;
    let pid = Pid::from_raw(supervisor.id().cast_signed());
    // Read to its end elsewhere, so that the supervisor never waits for us; it ends when the supervisor closes it.
    let stderr = supervisor.stderr.take();
    let complaints = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let line = progress_line();
    let mut interrupted = None;
    let ended = loop {
        tokio::select! {
            // In this order: Ctrl-C may end the supervisor by itself, as long as it is in the terminal's session.
            biased;
            signal = to_stop(&mut signals.interrupt, &mut signals.terminate) => {
                interrupted.get_or_insert(signal);
                line.set_message("stopping everything");
                // It was not waited for yet, so this is still its number. A second signal is an order, there as here.
                let _ = kill(pid, Signal::SIGTERM);
            }
            _ = signals.child.recv() => {
                if let Some(status) = supervisor.try_wait()? {
                    break Some(status);
                }
            }
            notice = notify.next(pid) => {
                let notice = notice?;
                if let Some(status) = notice.status {
                    line.set_message(status);
                }
                // Once it was told to stop there is only its end to wait for.
                if notice.ready && interrupted.is_none() {
                    break None;
                }
            }
        }
    };
    line.finish_and_clear();
    let complaints = complaints.await.unwrap_or_default();
    if !complaints.is_empty() {
        output::complain(complaints.trim_end());
    }
    if let Some(signal) = interrupted {
        output::say("everything has stopped");
        return Ok(output::ended_by(signal));
    }
    if let Some(status) = ended {
        if complaints.is_empty() {
            output::complain(&format!(
                "error: the supervisor has ended before everything was ready ({status})"
            ));
        }
        return Ok(ExitCode::FAILURE);
    }
    let paths = Paths::new(&args.data.data_dir);
    match Client::new(&paths.control_socket()).get::<Status>("/v1/status").await {
        Ok(status) => output::say(&table::summary(&status, table::Extent::Short)),
        Err(error) => {
            output::complain(&format!("warning: the network is up but does not answer: {error}"));
        }
    }
    output::say(&format!(
        "running in the background (pid {pid}); {} stops it, {} follows it",
        paths.command("down"),
        paths.command("logs -f")
    ));
    Ok(ExitCode::SUCCESS)
}

fn command(args: &UpArgs, program: &Path, notify: &NotifySocket) -> Command {
    let timeout = args.timeout.unwrap_or(DETACHED_TIMEOUT);
    let mut command = Command::new(program);
    command
        .arg("up")
        .arg("--background")
        .args(["--timeout", &humantime::format_duration(timeout).to_string()])
        .arg("--data-dir")
        .arg(&args.data.data_dir)
        .env("NOTIFY_SOCKET", notify.env_value())
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(program) = &args.role_program {
        command.arg("--role-program").arg(program);
    }
    command.arg("--").arg(&args.topology);
    command
}

/// What this command hears while it waits. Not SIGHUP: what it starts is to outlive the terminal.
struct Signals {
    child: tokio::signal::unix::Signal,
    interrupt: Listened,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            interrupt: Listened::to(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Waits until somebody wants the network stopped before it is ready.
async fn to_stop(interrupt: &mut Listened, terminate: &mut tokio::signal::unix::Signal) -> SignalKind {
    tokio::select! {
        () = interrupt.received() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    }
}

fn progress_line() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let line = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(std::time::Duration::from_millis(80));
    line
}
