//! Runs a network in this process until it is told to stop: progress, table, logs. Used by `up` and by the short form.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tracing_subscriber::EnvFilter;

use super::progress::Progress;
use super::table;
use crate::roles::notify::{Notifier, watchdog_interval};
use crate::supervisor::handle::Handle;
use crate::supervisor::lifecycle::State;
use crate::supervisor::logs::format::{self, Paint};
use crate::supervisor::logs::{LogLine, SUPERVISOR, TracingWriter};
use crate::supervisor::start::Supervisor;
use crate::supervisor::wire::Status;
use crate::topology::plan::Plan;

/// Lines that may wait for a slow terminal before some are left out (they are in the files).
const PRINT_QUEUE: usize = 4096;
/// How long the last lines may take to be printed.
const LAST_LINES: Duration = Duration::from_secs(2);

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
    Ready(Status),
    /// Some have failed for good; the rest runs.
    Partly(Status),
    Late(Status),
    Interrupted,
}

/// Runs `plan`.
pub async fn run(plan: Plan, options: Options) -> ExitCode {
    let supervisor = match Supervisor::prepare(plan, &options.data_dir, options.program.clone()).await {
        Ok(supervisor) => supervisor,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let handle = supervisor.handle();
    log_to_file(&handle);
    let notifier = Notifier::from_env();
    let network = tokio::spawn(supervisor.run());
    if let Err(error) = stop_on_signals(&handle) {
        eprintln!("error: cannot listen for signals: {error}");
        handle.kill().await;
        let _ = network.await;
        return ExitCode::FAILURE;
    }
    keep_watchdog_quiet(&notifier);

    let started = Instant::now();
    let progress = Progress::new(options.audience, &notifier);
    let outcome = until_settled(handle.clone(), options.timeout, progress).await;
    let foreground = options.audience == Audience::Foreground;
    match outcome {
        Outcome::Interrupted => {
            let _ = network.await;
            return ExitCode::SUCCESS;
        }
        Outcome::Late(status) => {
            let timeout = humantime::format_duration(options.timeout.unwrap_or_default());
            eprintln!("error: not everything is ready after {timeout}");
            explain(&status);
            eprintln!(
                "       everything is stopped again; the logs are in {}",
                handle.logs().dir().display()
            );
            handle.down().await;
            let _ = network.await;
            return ExitCode::FAILURE;
        }
        Outcome::Ready(status) => {
            if foreground {
                println!("\n{}", table::summary(&status, table::Extent::Short));
                println!(
                    "all {} processes ready in {:.2} s; Ctrl-C stops everything",
                    status.processes.len(),
                    started.elapsed().as_secs_f64()
                );
            }
        }
        Outcome::Partly(status) => {
            if foreground {
                println!("\n{}", table::summary(&status, table::Extent::Short));
            }
            eprintln!("warning: not everything could be started; the rest runs on");
            explain(&status);
        }
    }
    notifier.send(&["READY=1"]);
    if options.audience == Audience::Background {
        // Whoever started this reads no more; what comes now belongs into the log.
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stderr(&null);
        }
        let _ = network.await;
        return ExitCode::SUCCESS;
    }
    let printer = print_logs(&handle);
    let _ = network.await;
    let _ = tokio::time::timeout(LAST_LINES, printer).await;
    println!("everything has stopped");
    ExitCode::SUCCESS
}

/// Waits until all processes are ready, or some cannot become so, or time is up.
async fn until_settled(mut handle: Handle, timeout: Option<Duration>, mut progress: Progress) -> Outcome {
    let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    loop {
        let Ok(status) = handle.status().await else { return Outcome::Interrupted };
        progress.show(&status);
        if status.state == crate::supervisor::wire::NetworkState::Stopping {
            progress.finish();
            handle.ended().await;
            return Outcome::Interrupted;
        }
        if status.all_ready() {
            progress.finish();
            return Outcome::Ready(status);
        }
        if settled_with_failures(&status) {
            progress.finish();
            return if timeout.is_some() { Outcome::Late(status) } else { Outcome::Partly(status) };
        }
        let changed = handle.changed();
        let in_time = match deadline {
            None => changed.await.is_ok(),
            Some(deadline) => match tokio::time::timeout_at(deadline, changed).await {
                Ok(changed) => changed.is_ok(),
                Err(_) => {
                    progress.finish();
                    return Outcome::Late(status);
                }
            },
        };
        if !in_time {
            return Outcome::Interrupted;
        }
    }
}

/// Whether nothing will change any more by itself: whoever is not ready has failed, or waits for one that has.
fn settled_with_failures(status: &Status) -> bool {
    let mut failed = false;
    for process in &status.processes {
        match process.state {
            State::Failed => failed = true,
            State::Ready | State::Pending | State::Stopped => {}
            State::Starting | State::Stopping | State::Backoff => return false,
        }
    }
    failed
}

/// Says of everyone who is not ready why.
fn explain(status: &Status) {
    const MOST: usize = 20;
    let late: Vec<_> = status.processes.iter().filter(|process| process.state != State::Ready).collect();
    for process in late.iter().take(MOST) {
        let reason = match (&process.reason, &process.last_exit) {
            (Some(reason), _) => reason.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) => "it has not reported readiness".to_owned(),
        };
        eprintln!("       {} is {}: {reason}", process.name, process.state.as_str());
    }
    if late.len() > MOST {
        eprintln!("       … and {} more", late.len() - MOST);
    }
}

fn stop_on_signals(handle: &Handle) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let handle = handle.clone();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            // Once is a request, twice is an order.
            if asked {
                handle.kill().await;
            } else {
                handle.down().await;
            }
            asked = true;
        }
    });
    Ok(())
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

/// Prints every line from now on. A terminal that is held up loses lines, never the network's time.
fn print_logs(handle: &Handle) -> impl Future<Output = ()> + use<> {
    let (lines, printed) = (print_thread(io::stdout().is_terminal()), handle.logs().follow());
    let task = tokio::spawn(forward(printed, lines, handle.clone()));
    async move {
        let _ = task.await;
    }
}

async fn forward(
    mut live: tokio::sync::broadcast::Receiver<LogLine>,
    mut lines: Option<(SyncSender<LogLine>, tokio::sync::oneshot::Receiver<()>)>,
    handle: Handle,
) {
    let mut lost = 0;
    let ended = handle.ended();
    tokio::pin!(ended);
    let mut over = false;
    loop {
        let line = if over {
            // What was written up to the end is still printed.
            match live.try_recv() {
                Ok(line) => line,
                Err(_) => break,
            }
        } else {
            tokio::select! {
                biased;
                line = live.recv() => match line {
                    Ok(line) => line,
                    Err(RecvError::Lagged(count)) => { lost += count; continue }
                    Err(RecvError::Closed) => break,
                },
                () = &mut ended => { over = true; continue }
            }
        };
        let Some((sender, _)) = &lines else { continue };
        match sender.try_send(line) {
            Ok(()) if lost > 0 => {
                // The queue has room again: say what is missing.
                if sender.try_send(crate::supervisor::logs::lagged(lost)).is_ok() {
                    lost = 0;
                }
            }
            Ok(()) => {}
            Err(TrySendError::Full(_)) => lost += 1,
            Err(TrySendError::Disconnected(_)) => lines = None,
        }
    }
    if let Some((sender, done)) = lines {
        drop(sender);
        let _ = done.await;
    }
}

/// A thread that writes lines to standard output; the receiver tells when it has written the last.
fn print_thread(colour: bool) -> Option<(SyncSender<LogLine>, tokio::sync::oneshot::Receiver<()>)> {
    let (sender, lines) = sync_channel::<LogLine>(PRINT_QUEUE);
    let (done, finished) = tokio::sync::oneshot::channel();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let paint = if colour && !no_color { Paint::Colour } else { Paint::Plain };
    std::thread::Builder::new()
        .name("print".to_owned())
        .spawn(move || {
            let mut width = 0;
            for line in lines {
                width = width.max(line.process.len());
                if writeln!(io::stdout(), "{}", format::line(&line, width, paint)).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        })
        .ok()
        .map(|_| (sender, finished))
}
