//! Fork and exec of one child, and the collection of those that have ended: the only place in the project with
//! `unsafe` code.
//!
//! `std::process` cannot do what a supervisor needs here: `LISTEN_PID` must be the child's own pid, known only after the
//! fork, and nothing but async-signal-safe calls may happen between fork and exec (`signal-safety(7)`), since the
//! supervisor has other threads.
//!
//! What a child gets, and nothing else:
//!  - a process group of its own;
//!  - SIGKILL when the thread that forked it ends (`PR_SET_PDEATHSIG`), with a check that it did not end in between;
//!  - standard input from `/dev/null`, standard output and error to one pipe;
//!  - file descriptor 3: a listening socket, announced as `LISTEN_FDS=1` (`sd_listen_fds(3)`), where there is one;
//!  - file descriptor 10: the lifeline, a pipe that reads end-of-file once the supervisor is gone.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::{ForkResult, Pid, fork, pipe2};

/// Where a child finds its listening socket (`SD_LISTEN_FDS_START`).
const LISTEN_FD: RawFd = 3;
/// Where a child finds the lifeline; it is told the number in `HIPPIUS_LIFELINE_FD`.
pub const LIFELINE_FD: RawFd = 10;
/// Sources of a child's descriptors are moved above this, so that none is overwritten while they are put in place.
const ABOVE_TARGETS: RawFd = 16;

/// Everything a child is started with.
#[derive(Debug)]
pub struct Command<'a> {
    /// The program's path.
    pub program: CString,
    /// Its arguments, the first being its name.
    pub args: Vec<CString>,
    /// Its whole environment, `NAME=value`; without `LISTEN_*` and `HIPPIUS_LIFELINE_FD`, which are added.
    pub env: Vec<CString>,
    /// A listening socket to hand down.
    pub listen: Option<BorrowedFd<'a>>,
    /// Where its output goes.
    pub output: BorrowedFd<'a>,
    /// The read end of the lifeline.
    pub lifeline: BorrowedFd<'a>,
    /// When it gets its turn.
    pub scheduling: Scheduling,
}

/// When a process that has something to do gets its turn (`sched(7)`). Each gets the same share of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// At once, even if that interrupts another: `SCHED_OTHER`, the usual.
    Eager,
    /// When the one that runs has done its work or its time is over: `SCHED_BATCH`.
    Patient,
}

/// Starts a child and returns once it has been exec'd.
///
/// Call it only from the thread that lives as long as the supervisor: the child's death signal follows the thread.
///
/// # Errors
/// What fork or exec failed with: `NotFound`, `PermissionDenied`, out of memory or processes.
pub fn spawn(command: &Command<'_>) -> io::Result<Pid> {
    let null = File::open("/dev/null")?;
    let null = above(null.as_fd())?;
    let output = above(command.output)?;
    let lifeline = above(command.lifeline)?;
    let listen = command.listen.map(above).transpose()?;
    let (failure_read, failure_write) = pipe2(OFlag::O_CLOEXEC)?;
    let failure = above(failure_write.as_fd())?;
    // The only copies must be the one above and the child's: end-of-file tells that the exec succeeded.
    drop(failure_write);

    // Built before the fork: the child must not allocate. The digits of LISTEN_PID are filled in by the child.
    let mut listen_pid = *b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0\0";
    let lifeline_env = CString::new(format!("HIPPIUS_LIFELINE_FD={LIFELINE_FD}"))?;
    let mut envp: Vec<*const libc::c_char> = command.env.iter().map(|entry| entry.as_ptr()).collect();
    envp.push(lifeline_env.as_ptr());
    if listen.is_some() {
        envp.push(c"LISTEN_FDS=1".as_ptr());
        envp.push(listen_pid.as_ptr().cast());
    }
    envp.push(std::ptr::null());
    let mut argv: Vec<*const libc::c_char> = command.args.iter().map(|entry| entry.as_ptr()).collect();
    argv.push(std::ptr::null());

    let child = Child {
        program: command.program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        listen_pid: listen_pid.as_mut_ptr(),
        parent: nix::unistd::getpid().as_raw(),
        null: null.as_raw_fd(),
        output: output.as_raw_fd(),
        lifeline: lifeline.as_raw_fd(),
        listen: listen.as_ref().map(AsRawFd::as_raw_fd),
        failure: failure.as_raw_fd(),
        scheduling: command.scheduling,
    };
    // SAFETY: the child's branch makes async-signal-safe calls only, on memory that was prepared above and that the
    // fork copied, and never returns.
    match unsafe { fork() }? {
        ForkResult::Child => unsafe { child.exec() },
        ForkResult::Parent { child: pid } => {
            drop(failure);
            let mut errno = [0_u8; 4];
            // End-of-file: the exec closed the pipe. Four bytes: why it could not.
            match File::from(failure_read).read(&mut errno)? {
                4 => {
                    // The child ends by itself at once; the reaper collects it like any unknown process.
                    Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
                }
                _ => Ok(pid),
            }
        }
    }
}

/// A child that has ended and was not reaped yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its pid; it stays its own until [`reap`].
    pub pid: Pid,
    /// How it ended.
    pub how: HowEnded,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowEnded {
    /// It exited with this code.
    Exited(i32),
    /// The signal of this number ended it; real-time signals have numbers only.
    Killed(i32),
}

/// The next child that has ended, if there is one. It remains to be reaped.
///
/// `nix` cannot be used here: it refuses to tell of children that a real-time signal has ended.
#[must_use]
pub fn next_ended() -> Option<Ended> {
    // SAFETY: all zeroes is a valid siginfo_t, which the kernel then fills in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: the pointer is valid for the time of the call.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
        if result == 0 {
            break;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    // SAFETY: after a successful waitid these fields are set; a pid of 0 says that nobody has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let how = match info.si_code {
        libc::CLD_EXITED => HowEnded::Exited(status),
        _ => HowEnded::Killed(status),
    };
    (pid != 0).then_some(Ended { pid: Pid::from_raw(pid), how })
}

/// Reaps a child that [`next_ended`] told of; its pid is free then.
pub fn reap(child: Ended) {
    let mut status = 0;
    // SAFETY: the pointer is valid for the time of the call. The child has ended: this does not wait.
    unsafe {
        libc::waitpid(child.pid.as_raw(), &raw mut status, libc::WNOHANG);
    }
}

/// A duplicate, above all target numbers, that closes on exec.
fn above(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_TARGETS))?;
    // SAFETY: the kernel has just handed out this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Raw forms of everything the child's branch touches.
struct Child {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    /// `LISTEN_PID=` and room for ten digits and a zero.
    listen_pid: *mut u8,
    parent: libc::pid_t,
    null: RawFd,
    output: RawFd,
    lifeline: RawFd,
    listen: Option<RawFd>,
    failure: RawFd,
    scheduling: Scheduling,
}

impl Child {
    /// Turns this process into the program.
    ///
    /// # Safety
    /// Only in a freshly forked child, with pointers that are valid there.
    unsafe fn exec(&self) -> ! {
        // SAFETY: plain system calls on owned descriptors and prepared memory.
        unsafe {
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != self.parent {
                // The supervisor ended before the death signal was armed.
                libc::_exit(1);
            }
            if self.scheduling == Scheduling::Patient {
                // Without it the child runs as well, if it runs less well.
                let usual: libc::sched_param = std::mem::zeroed();
                libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const usual);
            }
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());

            let placed = libc::dup2(self.null, 0) >= 0
                && libc::dup2(self.output, 1) >= 0
                && libc::dup2(self.output, 2) >= 0
                && libc::dup2(self.lifeline, LIFELINE_FD) >= 0
                && self.listen.is_none_or(|fd| libc::dup2(fd, LISTEN_FD) >= 0);
            if placed {
                // Whatever the supervisor's own parent left open without close-on-exec ends here.
                let first = if self.listen.is_some() { LISTEN_FD + 1 } else { LISTEN_FD };
                let cloexec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
                libc::close_range(first as libc::c_uint, LIFELINE_FD as libc::c_uint - 1, cloexec);
                libc::close_range(LIFELINE_FD as libc::c_uint + 1, libc::c_uint::MAX, cloexec);
                self.write_pid(libc::getpid().unsigned_abs());
                libc::execve(self.program, self.argv, self.envp);
            }
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(self.failure, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }

    /// Writes `pid` in decimal behind `LISTEN_PID=`.
    ///
    /// # Safety
    /// `listen_pid` must have room for 11 bytes behind its prefix.
    unsafe fn write_pid(&self, mut pid: u32) {
        let mut digits = [0_u8; 10];
        let mut count = 0;
        loop {
            digits[count] = b'0' + (pid % 10) as u8;
            count += 1;
            pid /= 10;
            if pid == 0 {
                break;
            }
        }
        // SAFETY: at most ten digits and the zero that is there already.
        unsafe {
            let start = self.listen_pid.add(b"LISTEN_PID=".len());
            for (place, digit) in digits[..count].iter().rev().enumerate() {
                *start.add(place) = *digit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    /// Runs a shell script as a child and returns its pid, its exit code and what it wrote.
    fn run(script: &str, listen: Option<BorrowedFd<'_>>) -> (Pid, i32, String) {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (lifeline, _held) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let pid = spawn(&Command {
            program: c"/bin/sh".to_owned(),
            args: vec![c"sh".to_owned(), c"-c".to_owned(), CString::new(script).unwrap()],
            env: vec![c"PATH=/usr/bin:/bin".to_owned()],
            listen,
            output: write.as_fd(),
            lifeline: lifeline.as_fd(),
            scheduling: Scheduling::Eager,
        })
        .unwrap();
        drop(write);
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        let WaitStatus::Exited(_, code) = waitpid(pid, None).unwrap() else { panic!("ended by a signal") };
        (pid, code, output)
    }

    #[test]
    fn a_child_leads_its_own_group_and_knows_its_pid() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (pid, code, output) = run(
            "echo $LISTEN_PID $LISTEN_FDS $HIPPIUS_LIFELINE_FD; cut -d' ' -f5 /proc/$$/stat; exit 7",
            Some(socket.as_fd()),
        );
        assert_eq!(code, 7);
        assert_eq!(output, format!("{pid} 1 10\n{pid}\n"));
    }

    #[test]
    fn a_child_inherits_no_other_descriptor() {
        let _open = File::open("/etc/passwd").unwrap();
        let (_, _, output) = run("ls /proc/$$/fd", None);
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["0", "1", "10", "2"]);
    }

    #[test]
    fn a_missing_program_is_reported() {
        let (_read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let error = spawn(&Command {
            program: c"/no/such/program".to_owned(),
            args: vec![c"x".to_owned()],
            env: vec![],
            listen: None,
            output: write.as_fd(),
            lifeline: write.as_fd(),
            scheduling: Scheduling::Eager,
        })
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
