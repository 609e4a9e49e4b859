//! `engine = "coturn"`: Debian's `turnserver` as a child of this process, watched: when it ends, so does the role.
//!
//! It dies with this process, however that ends: the kernel kills it with the thread that forked it (see
//! [`spawn`](crate::supervisor::spawn)). Its log is read for what it carries and for what it complains of.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::roles::runtime::{Context, RoleError};
use crate::supervisor::launch::reachable;
use crate::supervisor::spawn;
use crate::supervisor::state_dir::overwrite_private;
use crate::token_bucket::{Rate, TokenBucket};
use crate::turn::config::TurnConfig;
use crate::turn::coturn::config::text;
use crate::turn::coturn::log::{Heard, Log};
use crate::turn::probe;

/// The program, and the Debian package that has it.
const PROGRAM: &str = "turnserver";
const PACKAGE: &str = "coturn";
/// Its answer to a first question; the supervisor's own deadline is later.
const START: Duration = Duration::from_secs(20);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// For what it has said before its end, which is in the pipe already.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Its complaints that are passed on: so many at once, and a second. Strangers can make it complain.
const COMPLAINTS: Rate = Rate::per_second(20, 1);

/// Starts `turnserver` and waits until it answers.
pub(super) async fn start(context: &Context, config: &TurnConfig) -> Result<Engine, RoleError> {
    let folder = &context.process.data_dir;
    let program = find(PROGRAM, std::env::var_os("PATH").as_deref()).ok_or_else(|| {
        RoleError::fatal(format!(
            "the program {PROGRAM} is not installed; it comes with the package {PACKAGE}: apt-get install {PACKAGE} \
             (or use engine = \"embedded\", which needs nothing)"
        ))
    })?;
    let config = with_ports(config).map_err(RoleError::passing)?;
    let listen =
        *config.listen.first().ok_or_else(|| RoleError::fatal("coturn needs an address to listen on"))?;
    let written = text(&config, folder).map_err(RoleError::fatal)?;
    let file = folder.join("turnserver.conf");
    overwrite_private(&file, written.as_bytes())
        .map_err(|error| RoleError::passing(format!("cannot write {}: {error}", file.display())))?;

    let child = Child::start(&program, &file)
        .map_err(|error| RoleError::passing(format!("cannot start {}: {error}", program.display())))?;
    let log = Arc::new(Mutex::new(Log::default()));
    let complaint = Arc::new(Mutex::new(None));
    let output = pipe::Receiver::from_owned_fd(child.output)
        .map_err(|error| RoleError::passing(format!("cannot read the log of {PROGRAM}: {error}")))?;
    let reading = tokio::spawn(listen_to(output, log.clone(), complaint.clone()));
    let ended = CancellationToken::new();
    let mut children = signal(SignalKind::child())
        .map_err(|error| RoleError::passing(format!("cannot listen for SIGCHLD: {error}")))?;
    let said = move || locked(&complaint).clone().map_or(String::new(), |line| format!(": {line}"));
    let answered = tokio::select! {
        answered = probe::binding_at_last(reachable(listen), START) => answered,
        how = wait(child.pid, &mut children) => {
            return Err(RoleError::passing(format!("{PROGRAM} {how} before it answered{}", said())));
        }
        () = context.stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
    };
    if let Err(error) = answered {
        end(child.pid, &mut children).await;
        return Err(RoleError::passing(format!("{PROGRAM} does not answer on {listen}: {error}{}", said())));
    }

    let (stop, failure, told) = (context.stop.clone(), context.failure.clone(), ended.clone());
    let stopping = CancellationToken::new();
    let asked = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            how = wait(child.pid, &mut children) => {
                let _ = failure.set(format!("{PROGRAM} {how}{}", said()));
                told.cancel();
                stop.cancel();
            }
            () = asked.cancelled() => {
                end(child.pid, &mut children).await;
                told.cancel();
            }
        }
    });
    let mut addresses = vec![format!("turn:{listen}")];
    addresses.extend(config.tls_listen.iter().map(|address| format!("turns:{address}")));
    let (endings, at_the_end) = (locked(&log).endings(), log.clone());
    Ok(Engine {
        addresses,
        figures: Arc::new(move || locked(&log).figures()),
        endings,
        stop: Box::pin(async move {
            stopping.cancel();
            ended.cancelled().await;
            // Its last words may still be in the pipe.
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
            locked(&at_the_end).end();
        }),
    })
}

/// `program` in the folders of `path`.
fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    // Debian keeps it where daemons are, which is not on everybody's path.
    let folders = std::env::split_paths(path?).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| {
        let executable = |meta: std::fs::Metadata| {
            use std::os::unix::fs::PermissionsExt;
            meta.is_file() && meta.permissions().mode() & 0o111 != 0
        };
        std::fs::metadata(file).is_ok_and(executable)
    })
}

/// `config` with ports in place of 0: coturn cannot tell which it was given.
fn with_ports(config: &TurnConfig) -> io::Result<TurnConfig> {
    let mut config = config.clone();
    for address in
        config.listen.iter_mut().chain(&mut config.tls_listen).filter(|address| address.port() == 0)
    {
        address.set_port(std::net::TcpListener::bind(*address)?.local_addr()?.port());
    }
    Ok(config)
}

/// The running program.
struct Child {
    pid: Pid,
    output: OwnedFd,
}

impl Child {
    fn start(program: &Path, file: &Path) -> io::Result<Self> {
        let (output, write) = pipe2(OFlag::O_CLOEXEC)?;
        // Nobody reads the lifeline but for its end, and coturn not even that; it has the kernel's signal.
        let (lifeline, _) = pipe2(OFlag::O_CLOEXEC)?;
        let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let pid = spawn::spawn(&spawn::Command {
            program: path(program)?,
            args: vec![CString::new(PROGRAM)?, CString::new("-c")?, path(file)?],
            env: vec![CString::new("PATH=/usr/bin:/bin")?, CString::new("LC_ALL=C")?],
            listen: None,
            output: write.as_fd(),
            lifeline: lifeline.as_fd(),
            scheduling: spawn::Scheduling::Eager,
        })?;
        Ok(Self { pid, output })
    }
}

/// Waits until the child has ended; resolves to how, in words.
async fn wait(pid: Pid, children: &mut SignalStream) -> String {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return format!("exited with code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => return format!("was ended by {signal}"),
            Ok(_) => {}
            Err(error) => return format!("is gone ({error})"),
        }
        if children.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the child, with patience first.
async fn end(pid: Pid, children: &mut SignalStream) {
    let _ = kill(pid, Signal::SIGTERM);
    if tokio::time::timeout(GRACE, wait(pid, children)).await.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
        wait(pid, children).await;
    }
}

/// Reads what the program says until it ends.
async fn listen_to(output: pipe::Receiver, log: Arc<Mutex<Log>>, complaint: Arc<Mutex<Option<String>>>) {
    let mut lines = BufReader::new(output).split(b'\n');
    let mut bucket = TokenBucket::full(COMPLAINTS, Instant::now());
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let heard = locked(&log).hear(&line);
        if let Heard::Complaint(text) = heard {
            *locked(&complaint) = Some(text.clone());
            if bucket.take(1, Instant::now()) {
                tracing::warn!("{PROGRAM}: {text}");
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_and_nowhere_else() {
        assert!(find("sh", Some(OsStr::new("/nonexistent:/bin"))).is_some());
        assert_eq!(find("no-such-program-at-all", Some(OsStr::new("/bin:/usr/bin"))), None);
        assert_eq!(find("passwd", Some(OsStr::new("/etc"))), None, "not executable");
    }
}
