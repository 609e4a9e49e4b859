//! A role that runs by itself, without a supervisor.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::wire::Place;
use super::{DEADLINE, binary, text, wait_for};

/// A folder for roles to run in.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("hippius-role-").tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command of the binary in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.0.path()).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a command whose role keeps its state in `data/NAME`.
    #[track_caller]
    pub fn start(&self, mut command: Command, name: &str) -> Role {
        let log = self.path(&format!("{name}.log"));
        let file = || fs::File::options().append(true).create(true).open(&log).expect("writable");
        let child = command.stdout(file()).stderr(file()).spawn().expect("the binary starts");
        Role { child, log, admin: Place::Unix(self.path(&format!("data/{name}/admin.sock"))) }
    }
}

/// A running role; killed when dropped.
pub struct Role {
    pub child: Child,
    log: PathBuf,
    pub admin: Place,
}

impl Role {
    /// Everything it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_for("the role is ready", || {
            let ended = self.child.try_wait().expect("waitable");
            assert!(ended.is_none(), "it ended, {ended:?}:\n{}", self.log());
            let Place::Unix(path) = &self.admin else { unreachable!("a unix socket") };
            std::os::unix::net::UnixStream::connect(path).ok()?;
            (self.admin.request("GET", "/readyz", "", b"").status == 200).then_some(())
        });
    }

    /// Its own `/v1/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.admin.request("GET", "/v1/status", "", b"").body).expect("JSON")
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the role ends", || self.child.try_wait().expect("waitable"))
    }

    /// Asks it to end and checks that it does, well.
    #[track_caller]
    pub fn stop(self, signal: Signal) {
        self.signal(signal);
        self.ends_well();
    }

    /// The same for one that is about to end.
    #[track_caller]
    pub fn ends_well(mut self) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads notifications until one has the line; gives all of that one's lines.
#[track_caller]
pub fn wait_notice(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    loop {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {wanted}: {error}"));
        let lines: Vec<String> = text(&buffer[..count]).lines().map(str::to_owned).collect();
        if lines.iter().any(|line| line == wanted) {
            return lines;
        }
    }
}

/// Everything that a command prints to standard error, for one that must fail.
#[track_caller]
pub fn failure(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    assert_eq!(child.wait().expect("waitable").code(), Some(1), "{errors}");
    errors
}
