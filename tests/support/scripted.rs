//! Roles played by a Python script, for processes that misbehave as no real role would.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{Network, binary, text};

/// What every script can use: `role`, `name`, `out(text)`, `notify(text)`, `ready()`, `serve()` (ready, then asleep until
/// SIGTERM), `note(word)` (a line with the time in the file `notes`), `real()` (be the real role).
const PRELUDE: &str = r#"
import os, signal, socket, sys, time
role, config = sys.argv[1], sys.argv[3]
name = os.path.basename(os.path.dirname(config))
def out(text):
    data = text.encode()
    while data:
        data = data[os.write(1, data):]
def notify(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    place = os.environ["NOTIFY_SOCKET"]
    s.sendto(text.encode(), "\0" + place[1:] if place.startswith("@") else place)
    s.close()
def ready():
    notify("READY=1")
def sleep():
    while True:
        signal.pause()
def serve():
    ready()
    sleep()
def note(word):
    file = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{time.monotonic_ns()} {name} {word}\n".encode())
    os.close(file)
def real():
    os.execv(BINARY, ["hippius"] + sys.argv[1:])
"#;

/// The interpreter itself: a wrapper in front of it would cost every start a shell.
static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    text(&output.expect("python3 is installed").stdout).trim().to_owned()
});

/// One line of the file `notes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub nanoseconds: u64,
    pub process: String,
    pub word: String,
}

impl Network {
    /// Writes a program that plays the roles as `script` says, and gives its path.
    pub fn script(&self, script: &str) -> PathBuf {
        self.program(&format!("#!{} -SE\nBINARY = {:?}\n{PRELUDE}{script}\n", *PYTHON, binary()))
    }

    /// Writes a program that plays the roles, and gives its path.
    pub fn program(&self, program: &str) -> PathBuf {
        let path = self.dir().join("role");
        // Written by another process: a file that a test of this process holds open for writing, if only through a
        // fork at the wrong moment, cannot be executed.
        let mut shell = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        shell.stdin.take().expect("piped").write_all(program.as_bytes()).expect("it reads");
        assert!(shell.wait().expect("it ends").success());
        path
    }

    /// A network whose roles are played by `script`; it is on its way up.
    pub fn scripted(topology: &str, script: &str) -> Self {
        Self::scripted_with(topology, script, &[])
    }

    /// The same with more arguments to `up`.
    pub fn scripted_with(topology: &str, script: &str, more: &[&str]) -> Self {
        let mut network = Self::new(topology);
        network.play(script, more);
        network
    }

    /// Starts the network with its roles played by `script`.
    pub fn play(&mut self, script: &str, more: &[&str]) {
        let program = self.script(script);
        let mut arguments = vec!["--role-program", program.to_str().expect("a plain path")];
        arguments.extend(more);
        self.spawn(&arguments);
    }

    /// What the scripts noted, in order.
    pub fn notes(&self) -> Vec<Note> {
        let parse = |line: &str| {
            let (time, rest) = line.split_once(' ')?;
            let (process, word) = rest.split_once(' ')?;
            let nanoseconds = time.parse().ok()?;
            Some(Note { nanoseconds, process: process.to_owned(), word: word.to_owned() })
        };
        self.read("notes").lines().map(|line| parse(line).expect("a note")).collect()
    }
}
