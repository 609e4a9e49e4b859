//! The life of a role process, the same for every role: logging, admin socket, telemetry, readiness, watchdog, shutdown.
//!
//! Nothing here knows whether a supervisor, systemd, a container or a person started the process: readiness goes to
//! `NOTIFY_SOCKET` if there is one, listening sockets come from `LISTEN_FDS` if there are any, and a lifeline is watched if one was
//! handed down.

use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use listenfd::ListenFd;
use opentelemetry::metrics::Meter;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::admin::{self, AdminState, Extra};
use super::config::RoleConfig;
use super::logging;
use super::notify::{Notifier, watchdog_interval};
use crate::telemetry::export::{ExportSettings, Exporter, silent_meter};
use crate::telemetry::host;
use crate::topology::plan::Role;

/// Longest time a role may take to stop before it leaves anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// What a role tells about itself once it is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// A node's peer id.
    pub peer_id: Option<String>,
    /// Where it can be reached: multiaddrs or URLs.
    pub addresses: Vec<String>,
}

/// What a role is given to start with.
pub struct Context {
    /// The `[process]` table.
    pub process: super::config::ProcessConfig,
    /// Where the role's instruments are made.
    pub meter: Meter,
    /// The listening socket that was handed down, if any.
    pub listener: Option<TcpListener>,
    /// Cancelled when the process is to end; a role cancels it to end by itself.
    pub stop: CancellationToken,
    /// Where the role tells, once it is ready, that it can be reached elsewhere than it said then; all its addresses each time.
    pub addresses: watch::Sender<Vec<String>>,
    /// Where a role that ends by itself says why, if that is a failure.
    pub failure: Arc<OnceLock<String>>,
}

/// A role that runs.
pub struct Started {
    /// What others must know of it.
    pub facts: Facts,
    /// Its part of the admin API.
    pub admin: Option<Extra>,
    /// Runs beside it from the moment it is ready.
    pub beside: Option<BoxFuture<'static, ()>>,
    /// Stops it; polled once, when the process is to end.
    pub stop: BoxFuture<'static, ()>,
}

/// Why a role cannot run.
#[derive(Debug)]
pub struct RoleError {
    message: String,
    fatal: bool,
}

impl RoleError {
    /// Trying again may help: a port is taken, a disk full.
    pub fn passing(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), fatal: false }
    }

    /// Trying again cannot help before somebody has mended something: a damaged file, a wrong configuration.
    pub fn fatal(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), fatal: true }
    }
}

impl fmt::Display for RoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs a role until it is told to stop. Prints what goes wrong.
pub async fn run<S>(
    role: Role,
    config: RoleConfig<S>,
    start: impl AsyncFnOnce(Context, S) -> Result<Started, RoleError>,
) -> ExitCode {
    if let Err(message) = logging::init(&config.log) {
        return refuse(&message);
    }
    let notifier = Notifier::from_env();
    match live(role, config, &notifier, start).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            let mut notice = vec![format!("STATUS={error}")];
            if error.fatal {
                notice.push("X_HIPPIUS_FATAL=1".to_owned());
            }
            notifier.send(&notice);
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever reads and whoever supervises that the configuration is of no use: starting again cannot help.
pub fn refuse(error: &dyn fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    Notifier::from_env().send(&[format!("STATUS={error}"), "X_HIPPIUS_FATAL=1".to_owned()]);
    ExitCode::FAILURE
}

/// A signal that this process listens for, unless it was started with that signal ignored: `nohup` means it.
pub struct Listened(Option<Signal>);

impl Listened {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn to(kind: SignalKind) -> std::io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status")
            .is_ok_and(|status| is_ignored(&status, kind.as_raw_value()));
        if ignored { Ok(Self(None)) } else { signal(kind).map(Some).map(Self) }
    }

    /// Waits for the next one.
    pub async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                let _ = signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether `signal` is in the mask `SigIgn` of `/proc/<pid>/status` (proc_pid_status(5)).
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    (1..=64).contains(&signal) && mask & (1 << (signal - 1)) != 0
}

async fn live<S>(
    role: Role,
    config: RoleConfig<S>,
    notifier: &Notifier,
    start: impl AsyncFnOnce(Context, S) -> Result<Started, RoleError>,
) -> Result<(), RoleError> {
    let RoleConfig { process, telemetry, settings, .. } = config;
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    watch_lifeline(&stop);
    raise_file_limit();

    create_folder(&process.data_dir)?;
    let socket_path = process.admin_socket();
    let state = AdminState::new(&process.name, role);
    let admin = admin::serve(&socket_path, state.clone()).await.map_err(|error| {
        RoleError::passing(format!("cannot open the admin socket {}: {error}", socket_path.display()))
    })?;

    let (exporter, meter) = match telemetry {
        None => (None, silent_meter()),
        Some(telemetry) => {
            let (exporter, meter) = Exporter::start(ExportSettings {
                endpoint: telemetry.endpoint,
                token: telemetry.token,
                interval: telemetry.interval,
                process: process.name.clone(),
                role: role.as_str().to_owned(),
            })
            .map_err(RoleError::fatal)?;
            (Some(exporter), meter)
        }
    };
    host::observe(&meter, &process.data_dir)
        .map_err(|error| RoleError::passing(format!("cannot read the process's own figures: {error}")))?;

    let listener = ListenFd::from_env().take_tcp_listener(0).ok().flatten();
    let (addresses, mut moved) = watch::channel(Vec::new());
    let failure = Arc::new(OnceLock::new());
    let context =
        Context { process, meter, listener, stop: stop.clone(), addresses, failure: failure.clone() };
    let started = tokio::select! {
        started = start(context, settings) => started?,
        () = stop.cancelled() => return Ok(()),
    };

    let mut notice = vec!["READY=1".to_owned()];
    notice.extend(started.facts.peer_id.iter().map(|id| format!("X_HIPPIUS_PEER_ID={id}")));
    notice.extend(started.facts.addresses.iter().map(|address| address_line(address)));
    tracing::info!(addresses = started.facts.addresses.join(" "), "ready");
    state.set_ready(started.facts, started.admin);
    notifier.send(&notice);
    if let Some(beside) = started.beside {
        tokio::spawn(beside);
    }

    let watchdog = watchdog_interval().filter(|_| notifier.is_connected());
    let mut alive = pin!(signs_of_life(watchdog, notifier));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = &mut alive => {}
            // A role that keeps no sender never tells anything.
            Ok(()) = moved.changed() => {
                let lines: Vec<String> = moved.borrow_and_update().iter().map(|address| address_line(address)).collect();
                notifier.send(&lines);
            }
        }
    }

    tracing::info!("stopping");
    notifier.send(&["STOPPING=1"]);
    state.set_stopping();
    if tokio::time::timeout(STOP_TIMEOUT, started.stop).await.is_err() {
        tracing::warn!("did not stop in {STOP_TIMEOUT:?}; leaving anyway");
    }
    admin.shutdown(Duration::ZERO).await;
    let _ = std::fs::remove_file(&socket_path);
    if let Some(exporter) = exporter {
        let _ = tokio::task::spawn_blocking(move || exporter.shutdown()).await;
    }
    match failure.get() {
        Some(reason) => Err(RoleError::passing(reason)),
        None => Ok(()),
    }
}

/// Tells the supervisor at each `interval` that this process lives; without one, nothing.
async fn signs_of_life(interval: Option<Duration>, notifier: &Notifier) {
    let Some(interval) = interval else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        notifier.send(&["WATCHDOG=1"]);
    }
}

fn address_line(address: &str) -> String {
    format!("X_HIPPIUS_ADDRESS={address}")
}

fn create_folder(path: &Path) -> Result<(), RoleError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        RoleError::passing(format!("cannot create the data folder {}: {error}", path.display()))
    })
}

fn stop_on_signals(stop: &CancellationToken) -> Result<(), RoleError> {
    let failed = |error| RoleError::passing(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = Listened::to(SignalKind::interrupt()).map_err(failed)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            () = interrupt.received() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Ends the process when the supervisor that holds the other end of the lifeline is gone, however it went.
fn watch_lifeline(stop: &CancellationToken) {
    let Some(number) = std::env::var("HIPPIUS_LIFELINE_FD").ok().and_then(|fd| fd.parse::<u32>().ok()) else {
        return;
    };
    match pipe::OpenOptions::new().open_receiver(format!("/proc/self/fd/{number}")) {
        Ok(mut lifeline) => {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut byte = [0_u8];
                while lifeline.read(&mut byte).await.is_ok_and(|count| count > 0) {}
                tracing::warn!("the supervisor is gone");
                stop.cancel();
            });
        }
        Err(error) => tracing::warn!(%error, "cannot watch the lifeline"),
    }
}

/// Lets this process open as many files as the system permits: every connection is one.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The listening socket of a server: the one that was handed down, or a new one on `address`.
///
/// # Errors
/// When the address is taken or cannot be had.
pub async fn tcp_listener(
    handed_down: Option<TcpListener>,
    address: SocketAddr,
) -> Result<tokio::net::TcpListener, RoleError> {
    match handed_down {
        Some(listener) => {
            let adopt = || {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener)
            };
            adopt().map_err(|error| RoleError::passing(format!("cannot use the socket handed down: {error}")))
        }
        None => tokio::net::TcpListener::bind(address)
            .await
            .map_err(|error| RoleError::passing(format!("cannot listen on {address}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_bit_by_bit() {
        let status = "Name:\thippius\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        let ignored: Vec<i32> = (-1..=70).filter(|signal| is_ignored(status, *signal)).collect();
        assert_eq!(ignored, [1, 13]);
        assert!(!is_ignored("Name:\thippius\n", 1));
    }
}
