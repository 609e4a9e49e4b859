//! What roles leave behind: processes that have left the group of their role, by `setsid` say, and so outlive its end.
//!
//! The supervisor is a child subreaper: whatever loses its parent becomes its child. A stray tells whose it is by its environment,
//! which has the `NOTIFY_SOCKET` of the incarnation that it descends from. It may stay as long as that lives, and is killed
//! with it. One that has thrown its environment away is killed when everything stops.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::notify;

/// Tells strays from children that this process had before it became a supervisor.
#[derive(Debug)]
pub struct Strays {
    /// Children from before: a shell may have had some when it turned into this program. They are nobody's but its.
    inherited: HashSet<Pid>,
}

/// A child of this process that is no incarnation of a process of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray(Pid);

impl Strays {
    /// From now on whoever becomes a child is a stray, unless it is known otherwise.
    #[must_use]
    pub fn besides_present_children() -> Self {
        Self { inherited: children().into_iter().collect() }
    }

    /// A child has been reaped: its number may become another's.
    pub fn forget(&mut self, pid: Pid) {
        self.inherited.remove(&pid);
    }

    /// All strays; `is_known` tells of incarnations.
    #[must_use]
    pub fn find(&self, is_known: impl Fn(Pid) -> bool) -> Vec<Stray> {
        children()
            .into_iter()
            .filter(|pid| !is_known(*pid) && !self.inherited.contains(pid))
            .map(Stray)
            .collect()
    }
}

impl Stray {
    /// Whether it descends from an incarnation of this supervisor, whose own folder is `folder`, and that does not live:
    /// the living report to the sockets `living`.
    #[must_use]
    pub fn left_by_the_dead(self, folder: &Path, living: &[OsString]) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.0)).unwrap_or_default();
        let socket =
            environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"NOTIFY_SOCKET="));
        let Some(socket) = socket.map(OsStr::from_bytes) else { return false };
        notify::is_of_this_process(socket, folder) && !living.iter().any(|alive| alive == socket)
    }

    /// Ends it. It is an unreaped child of ours, so its number cannot be anybody else's.
    pub fn kill(self) {
        let program = fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default();
        tracing::warn!(pid = self.0.as_raw(), program = program.trim(), "ended what a role had left behind");
        // "No such process" cannot be; not permitted may be (a program with more rights), and there is no help for it.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// The children of all threads of this process (`/proc/<pid>/task/<tid>/children`), those that have ended included.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_from_before_are_left_alone() {
        let mut before = Command::new("sleep").arg("100").spawn().unwrap();
        let strays = Strays::besides_present_children();
        let mut after = Command::new("sleep").arg("100").spawn().unwrap();
        let [before_pid, after_pid] = [&before, &after].map(|child| Pid::from_raw(child.id().cast_signed()));
        let found = strays.find(|_| false);
        assert!(found.contains(&Stray(after_pid)) && !found.contains(&Stray(before_pid)), "{found:?}");
        assert!(!strays.find(|pid| pid == after_pid).contains(&Stray(after_pid)));
        for child in [&mut before, &mut after] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
