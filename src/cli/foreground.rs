//! Runs a network in this process until it is told to stop: progress, table, logs. Used by `up` and by the short form.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::output;
use super::progress::Progress;
use super::screen::Screen;
use super::table;
use crate::roles::notify::{Notifier, watchdog_interval};
use crate::roles::runtime::Listened;
use crate::roles::{self, logging};
use crate::supervisor::handle::Handle;
use crate::supervisor::lifecycle::State;
use crate::supervisor::logs::format::Paint;
use crate::supervisor::logs::{LogLine, SUPERVISOR, TracingWriter};
use crate::supervisor::start::{StartError, Supervisor};
use crate::supervisor::wire::{NetworkState, Status};
use crate::topology::plan::Plan;

/// How to run it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of its state.
    pub data_dir: PathBuf,
    /// The program that plays the roles.
    pub program: PathBuf,
    /// Not all ready by then: stop everything.
    pub timeout: Option<Duration>,
    /// Who looks on.
    pub audience: Audience,
}

/// Who looks on while a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person or a script: progress, table and logs on standard output.
    Foreground,
    /// The command that started it in the background, which prints for it.
    Background,
}

/// How the start went.
enum Outcome {
    Ready(Arc<Status>),
    /// Some have failed for good or were stopped; the rest runs.
    Partly(Arc<Status>),
    /// Some have failed for good, and everything was wanted.
    Failed(Arc<Status>),
    Late(Arc<Status>),
    Interrupted,
}

/// Runs `plan`.
pub async fn run(plan: Plan, options: Options) -> ExitCode {
    if let Err(error) = check_environment() {
        return output::fail(error);
    }
    match Supervisor::prepare(plan, &options.data_dir, options.program.clone()).await {
        Ok(supervisor) => live(supervisor, options).await,
        Err(error) => output::fail(explained(&error)),
    }
}

/// Refuses what every role would refuse.
///
/// # Errors
/// What is wrong with the environment, in words.
pub fn check_environment() -> Result<(), String> {
    let log = roles::config::log_from_environment()?;
    logging::filter(&log.filter)
        .map(drop)
        .map_err(|error| format!("in the environment, HIPPIUS_LOG__FILTER: {error}"))
}

/// The error with what to do about it in the topology.
fn explained(error: &StartError) -> String {
    let StartError::Bind(bind) = error else { return error.to_string() };
    let advice = match bind.kind {
        io::ErrorKind::AddrInUse => "; end it, or choose another port in the topology",
        io::ErrorKind::PermissionDenied => "; choose a higher one in the topology",
        io::ErrorKind::AddrNotAvailable => "; see `bind` in the topology",
        _ => "",
    };
    format!("{error}{advice}")
}

/// Runs a supervisor that is prepared.
pub async fn live(supervisor: Supervisor, options: Options) -> ExitCode {
    let handle = supervisor.handle();
    log_to_file(&handle);
    let notifier = Notifier::from_env();
    let foreground = options.audience == Audience::Foreground;
    let paint = if logging::colour(io::stdout().is_terminal()) { Paint::Colour } else { Paint::Plain };
    let screen = match Screen::open(Progress::new(options.audience, &notifier), paint) {
        Ok(screen) => screen,
        Err(error) => return output::fail(format_args!("cannot start a thread: {error}")),
    };
    // Before the first process is started, or a signal in between would leave it alone in the world.
    let signalled = match stop_on_signals(&handle) {
        Ok(signalled) => signalled,
        Err(error) => return output::fail(format_args!("cannot listen for signals: {error}")),
    };
    let network = tokio::spawn(supervisor.run());
    keep_watchdog_quiet(&notifier);

    let started = Instant::now();
    let outcome = until_settled(handle.clone(), options.timeout, &screen).await;
    screen.end_progress();
    match outcome {
        Outcome::Interrupted => {
            let _ = network.await;
            let code = ended_early(&handle, &signalled, options.audience, &screen);
            if foreground {
                screen.say("everything has stopped");
            }
            screen.flush().await;
            return code;
        }
        Outcome::Late(status) => {
            let timeout = humantime::format_duration(options.timeout.unwrap_or_default());
            complain(&screen, format!("error: not everything is ready after {timeout}"));
            return give_up(&status, &screen, &handle, network).await;
        }
        Outcome::Failed(status) => {
            complain(&screen, "error: not everything could be started".to_owned());
            return give_up(&status, &screen, &handle, network).await;
        }
        Outcome::Ready(status) => {
            if foreground {
                let all = match status.processes.len() {
                    1 => "1 process".to_owned(),
                    count => format!("all {count} processes"),
                };
                screen.say(format!(
                    "\n{}\n{all} ready in {:.2} s; Ctrl-C stops everything",
                    table::summary(&status, table::Extent::Short),
                    started.elapsed().as_secs_f64()
                ));
            }
        }
        Outcome::Partly(status) => {
            if foreground {
                screen.say(format!("\n{}", table::summary(&status, table::Extent::Short)));
            }
            let failed = status.processes.iter().any(|process| process.state == State::Failed);
            let what = if failed { "not everything could be started" } else { "not everything runs" };
            complain(&screen, format!("warning: {what}; the rest runs on"));
            explain(&status, &screen);
        }
    }
    let ended = if foreground {
        notifier.send(&["READY=1"]);
        let printer = tokio::spawn(print_logs(handle.logs().follow(), handle, screen.clone()));
        let ended = network.await;
        let _ = printer.await;
        if ended.is_ok() {
            screen.say("everything has stopped");
        }
        ended
    } else {
        screen.flush().await;
        notifier.send(&["READY=1"]);
        // Whoever started this reads no more; what comes now belongs into the log.
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stderr(&null);
        }
        network.await
    };
    // Its processes end with this one.
    if let Err(error) = &ended {
        complain(&screen, format!("error: the supervisor has failed: {error}"));
    }
    screen.flush().await;
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The exit code of a network that was told to stop while it started: that of a program which the signal has ended, as shells
/// know it. It may just so have become ready; that is an end like any other.
fn ended_early(
    handle: &Handle,
    signalled: &OnceLock<SignalKind>,
    audience: Audience,
    screen: &Screen,
) -> ExitCode {
    if handle.has_settled() {
        return ExitCode::SUCCESS;
    }
    let signal = signalled.get();
    // Whoever pressed Ctrl-C knows.
    if signal.is_none() || audience == Audience::Background {
        complain(screen, "error: the network was stopped before everything was ready".to_owned());
    }
    signal.map_or(ExitCode::FAILURE, |signal| output::ended_by(*signal))
}

/// Stops everything, and says so once it is true.
async fn give_up(status: &Status, screen: &Screen, handle: &Handle, network: JoinHandle<()>) -> ExitCode {
    explain(status, screen);
    handle.down().await;
    let _ = network.await;
    let logs = handle.logs().dir().display().to_string();
    screen.complain(format!("       everything is stopped again; the logs are in {logs}"));
    screen.flush().await;
    ExitCode::FAILURE
}

/// For whoever looks on, and for whoever reads the supervisor's log later.
fn complain(screen: &Screen, message: String) {
    tracing::warn!("{}", message.trim_start());
    screen.complain(message);
}

/// Waits until all processes are ready, or some cannot become so, or time is up.
async fn until_settled(mut handle: Handle, timeout: Option<Duration>, screen: &Screen) -> Outcome {
    let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    loop {
        let Ok(status) = handle.status().await else { return Outcome::Interrupted };
        let status = Arc::new(status);
        screen.show(status.clone());
        if status.state == NetworkState::Stopping {
            handle.ended().await;
            return Outcome::Interrupted;
        }
        if status.all_ready() {
            return Outcome::Ready(status);
        }
        if is_settled(&status) {
            let failed = status.processes.iter().any(|process| process.state == State::Failed);
            // What somebody stopped, or has done its work, is no failure.
            return if failed && timeout.is_some() {
                Outcome::Failed(status)
            } else {
                Outcome::Partly(status)
            };
        }
        let changed = handle.changed();
        let goes_on = match deadline {
            None => changed.await.is_ok(),
            Some(deadline) => match tokio::time::timeout_at(deadline, changed).await {
                Ok(changed) => changed.is_ok(),
                Err(_) => return Outcome::Late(status),
            },
        };
        if !goes_on {
            return Outcome::Interrupted;
        }
    }
}

/// Whether nothing will change any more by itself: whoever is not ready has failed or is stopped, or waits for one that is.
fn is_settled(status: &Status) -> bool {
    let mut over = false;
    for process in &status.processes {
        match process.state {
            State::Failed | State::Stopped => over = true,
            State::Ready | State::Pending => {}
            State::Starting | State::Stopping | State::Backoff => return false,
        }
    }
    over
}

/// Says of everyone who is not ready why.
fn explain(status: &Status, screen: &Screen) {
    const MOST: usize = 20;
    let late: Vec<_> = status.processes.iter().filter(|process| process.state != State::Ready).collect();
    for process in late.iter().take(MOST) {
        let reason = match (&process.reason, &process.last_exit) {
            (Some(reason), _) => reason.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) if process.state == State::Stopped => "somebody stopped it".to_owned(),
            (None, None) => "it has not reported readiness".to_owned(),
        };
        complain(screen, format!("       {} is {}: {reason}", process.name, process.state.as_str()));
    }
    if late.len() > MOST {
        complain(screen, format!("       … and {} more", late.len() - MOST));
    }
}

/// Stops the network on a signal; the first one that came can be read from what it returns.
fn stop_on_signals(handle: &Handle) -> io::Result<Arc<OnceLock<SignalKind>>> {
    let signalled = Arc::new(OnceLock::new());
    let first = signalled.clone();
    let mut interrupt = Listened::to(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = Listened::to(SignalKind::hangup())?;
    let handle = handle.clone();
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                () = interrupt.received() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
                () = hangup.received() => SignalKind::hangup(),
            };
            // Once is a request, twice is an order.
            match first.set(signal) {
                Ok(()) => handle.down().await,
                Err(_) => handle.kill().await,
            }
        }
    });
    Ok(signalled)
}

/// The supervisor is itself a correct `Type=notify` unit: it tells its own watchdog that its loop turns.
fn keep_watchdog_quiet(notifier: &Notifier) {
    if let Some(interval) = watchdog_interval().filter(|_| notifier.is_connected()) {
        let notifier = Notifier::from_env();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                notifier.send(&["WATCHDOG=1"]);
            }
        });
    }
}

/// The supervisor's own log lines go into a file like everybody's.
fn log_to_file(handle: &Handle) {
    let log = handle.logs().of(SUPERVISOR);
    let filter = std::env::var("HIPPIUS_LOG__FILTER").unwrap_or_default();
    let filter = EnvFilter::try_new(if filter.is_empty() { "info" } else { &filter })
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // A second installation in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || TracingWriter(log.clone()))
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .try_init();
}

/// Prints every line from now on until the network has ended.
async fn print_logs(mut live: broadcast::Receiver<LogLine>, handle: Handle, screen: Screen) {
    let ended = handle.ended();
    tokio::pin!(ended);
    let mut over = false;
    loop {
        let line = if over {
            // What was written up to the end is still printed.
            live.try_recv().map_err(|error| match error {
                TryRecvError::Lagged(count) => RecvError::Lagged(count),
                TryRecvError::Empty | TryRecvError::Closed => RecvError::Closed,
            })
        } else {
            tokio::select! {
                biased;
                line = live.recv() => line,
                () = &mut ended => { over = true; continue }
            }
        };
        match line {
            Ok(line) => screen.line(line),
            Err(RecvError::Lagged(count)) => screen.lost(count),
            Err(RecvError::Closed) => break,
        }
    }
}
