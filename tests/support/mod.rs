//! Runs the real binary for tests: a network in a temporary folder, commands against it, and a look at what is left
//! behind. Everything waits on a condition with a deadline.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod browser;
pub mod figures;
pub mod gateway;
pub mod lab;
pub mod mount;
pub mod namespace;
pub mod relay;
pub mod role;
pub mod scripted;
pub mod terminal;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hippius::supervisor::lifecycle::State;
use hippius::supervisor::wire::{ProcessStatus, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Generous, for a busy machine; a test that passes never waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_hippius"))
}

/// Waits until `condition` gives a value.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// One process of every role, and a second node, all on free ports.
pub const EVERY_ROLE: &str = r#"
name = "test"
[ports]
web = 0
signaling = 0
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 2
topics = ["lobby"]
[signaling]
[web]
"#;

/// The least that runs: one server without peers.
pub const ONE_PROCESS: &str = r#"
name = "test"
[ports]
web = 0
metrics = 0
[web]
"#;

/// A folder with a topology, and the network that runs from it.
pub struct Network {
    dir: Arc<TempDir>,
    child: Option<Child>,
}

impl Network {
    /// A folder with `topology` in it; nothing runs yet.
    pub fn new(topology: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("hippius-test-").tempdir().expect("a temporary folder");
        fs::write(dir.path().join("topology.toml"), topology).expect("writable");
        Self { dir: Arc::new(dir), child: None }
    }

    /// Another run in the same folder.
    pub fn beside(&self) -> Self {
        Self { dir: self.dir.clone(), child: None }
    }

    /// A network that runs `topology`, every process ready.
    #[track_caller]
    pub fn up(topology: &str) -> Self {
        let mut network = Self::new(topology);
        network.spawn(&[]);
        network.wait_all_ready();
        network
    }

    /// The folder; commands run in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Starts `hippius up topology.toml` with more arguments; its output goes to `up.out` and `up.err`.
    pub fn spawn(&mut self, more: &[&str]) {
        let file = |name: &str| fs::File::create(self.dir().join(name)).expect("writable");
        let child = self
            .command(&["up", "topology.toml"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(file("up.out"))
            .stderr(file("up.err"))
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// A command of the binary, run in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.dir()).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary starts")
    }

    /// The same, which must succeed; gives standard output.
    #[track_caller]
    pub fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "hippius {arguments:?}: {}\n{out}\n{err}", output.status);
        out
    }

    /// The supervisor's pid.
    pub fn supervisor(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("it was started").id().cast_signed())
    }

    /// The status, if the supervisor answers.
    pub fn try_status(&self) -> Option<Status> {
        let output = self.run(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status is JSON"))
    }

    /// The status.
    #[track_caller]
    pub fn status(&self) -> Status {
        wait_for("the supervisor answers", || self.try_status())
    }

    /// One process.
    #[track_caller]
    pub fn process(&self, name: &str) -> ProcessStatus {
        let status = self.status();
        status.processes.into_iter().find(|process| process.name == name).expect("a process of that name")
    }

    /// Waits until a process satisfies `condition`.
    #[track_caller]
    pub fn wait_process(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&ProcessStatus) -> bool,
    ) -> ProcessStatus {
        wait_for(&format!("{name} {what}"), || {
            self.try_status()?.processes.into_iter().find(|process| process.name == name).filter(&condition)
        })
    }

    /// Waits until a process is in a state.
    #[track_caller]
    pub fn wait_state(&self, name: &str, state: State) -> ProcessStatus {
        self.wait_process(name, &format!("is {state:?}"), |process| process.state == state)
    }

    /// Waits until every process is ready.
    #[track_caller]
    pub fn wait_all_ready(&mut self) -> Status {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.try_status().filter(Status::all_ready) {
                return status;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("waitable"));
            let gone = ended.is_some() || Instant::now() > deadline;
            assert!(!gone, "not ready ({ended:?}):\n{}{}", self.read("up.out"), self.read("up.err"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nothing that strangers did has touched a process: all are in their first incarnation, and ready.
    #[track_caller]
    pub fn assert_unharmed(&self) {
        for process in self.status().processes {
            let untouched = process.state == State::Ready && process.generation == 1;
            assert!(untouched, "{process:?}\n{}{}", self.read("up.out"), self.read("up.err"));
        }
    }

    /// Waits until the supervisor has ended.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        wait_for("the supervisor ends", || child.try_wait().expect("waitable"))
    }

    /// Sends a signal to a process.
    #[track_caller]
    pub fn signal(&self, pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).expect("the process exists");
    }

    /// A file of the folder as text; empty if it does not exist.
    pub fn read(&self, path: &str) -> String {
        fs::read(self.dir().join(path)).map(|bytes| text(&bytes)).unwrap_or_default()
    }

    /// What the metrics endpoint says.
    #[track_caller]
    pub fn metrics(&self) -> String {
        http_get(&self.status().metrics)
    }

    /// Processes of this network that exist, by what they were started with.
    pub fn leftovers(&self) -> Vec<i32> {
        let needle = self.dir().as_os_str().as_encoded_bytes();
        let folder = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.dir());
        fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                !command.is_empty()
                    && (folder(*pid) || command.windows(needle.len()).any(|window| window == needle))
            })
            .collect()
    }

    /// Stops the network like Ctrl-C does and checks that nothing is left.
    #[track_caller]
    pub fn down(mut self) {
        kill(self.supervisor(), Signal::SIGINT).expect("it runs");
        let status = self.wait_exit();
        // 130 where some had not become ready before.
        let code = status.code();
        assert!(matches!(code, Some(0 | 130)), "{code:?}: {}{}", self.read("up.out"), self.read("up.err"));
        wait_until("no process is left", || self.leftovers().is_empty());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The supervisor is gone: its children must follow. A failed test must leave nothing either, and the folder
        // can only be removed once nobody writes into it.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let pids: Vec<i32> = self.leftovers().into_iter().filter(|pid| exists(*pid)).collect();
            if pids.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The body of a `GET` over plain TCP.
#[track_caller]
pub fn http_get(url: &str) -> String {
    use std::io::{Read, Write};
    let rest = url.strip_prefix("http://").expect("http");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("writable");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("readable");
    reply.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

/// Whether a process exists (a zombie does not count).
pub fn exists(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}
