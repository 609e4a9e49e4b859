//! A terminal that a program runs in: a pty whose other end the test reads and types into.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

use super::{text, wait_for, wait_until};

/// A program in a terminal of its own, which is its controlling terminal.
pub struct Terminal {
    /// The session's leader: the program itself.
    pub child: Child,
    keyboard: Option<File>,
    screen: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `command` with standard input, output and error on a new terminal of 120 × 40.
    #[track_caller]
    pub fn run(command: &Command) -> Self {
        Self::run_in(command, 120, 40)
    }

    /// The same on a terminal of this size.
    #[track_caller]
    pub fn run_in(command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a terminal");
        // The program must not hold the test's end, or the terminal could never be closed.
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        let side = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        // setsid(1) makes the terminal the controlling one, then becomes the program.
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        wrapped.env("TERM", "xterm-256color");
        let child = wrapped.stdin(side()).stdout(side()).stderr(side()).spawn().expect("setsid starts");
        drop(wrapped);
        let master = File::from(pty.master);
        let mut reader = master.try_clone().expect("a descriptor");
        let (screen, closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (screen.clone(), closed.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
                if poll(&mut ready, PollTimeout::from(50_u8)) == Ok(0) {
                    continue;
                }
                // Fails once nobody has the other side open any more.
                let Ok(count @ 1..) = reader.read(&mut buffer) else { return };
                seen.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, keyboard: Some(master), screen, closed, reader: Some(reader) }
    }

    /// Closes the terminal's window: whoever runs in it is hung up on.
    pub fn close(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.reader.take().expect("not closed before").join();
        self.keyboard = None;
    }

    /// Everything printed so far, escape sequences included.
    pub fn raw(&self) -> String {
        text(&self.screen.lock().expect("no panic"))
    }

    /// Everything printed so far without escape sequences.
    pub fn plain(&self) -> String {
        without_escapes(&self.raw())
    }

    /// Waits until the text appears.
    #[track_caller]
    pub fn wait_text(&self, wanted: &str) {
        wait_until(&format!("{wanted:?} is on the screen"), || self.plain().contains(wanted));
    }

    /// Types; `\x03` is Ctrl-C.
    #[track_caller]
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.as_mut().expect("open").write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the program in the terminal ends", || self.child.try_wait().expect("waitable"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Text without CSI sequences (`ESC [ … letter`), which is all that a progress display uses.
fn without_escapes(raw: &str) -> String {
    let mut plain = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|c| ('\x40'..='\x7e').contains(c));
                }
            }
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}
