//! The supervisor's end of the `sd_notify(3)` protocol: one datagram socket per incarnation of a process.
//!
//! The socket is a file in the supervisor's own folder, which only this user can enter. Where that path is too long for a
//! socket address it lives in the abstract namespace, where anyone on the host can find it and write to it. In both
//! cases the kernel attaches the sender's credentials, and messages from any other process than the child are dropped.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::control::printable::printable;

/// Largest notification that is read, in bytes; the protocol's messages are far smaller.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// Most messages that are taken from a socket in one go: more than wait in it (`net.unix.max_dgram_qlen`, mostly 10 or 512), so
/// that whoever sends without end cannot hold up the reader.
const MAX_WAITING: usize = 1024;
/// Most addresses that a process may report.
const MAX_ADDRESSES: usize = 32;

/// What one datagram said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`
    pub ready: bool,
    /// `WATCHDOG=1`
    pub watchdog: bool,
    /// `STATUS=…`: a line for people.
    pub status: Option<String>,
    /// `X_HIPPIUS_FATAL=1`: starting this process again cannot help.
    pub fatal: bool,
    /// `X_HIPPIUS_PEER_ID=…`: the node's peer id.
    pub peer_id: Option<String>,
    /// `X_HIPPIUS_ADDRESS=…`, once per address that the process serves.
    pub addresses: Vec<String>,
}

impl Notice {
    /// Reads a datagram's lines; what is unknown or no UTF-8 is passed over, as the protocol demands.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut notice = Notice::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((key, value)) = line.split_once('=') else { continue };
            match key {
                "READY" => notice.ready = value == "1",
                "WATCHDOG" => notice.watchdog = value == "1",
                "STATUS" => notice.status = Some(printable(value)),
                "X_HIPPIUS_FATAL" => notice.fatal = value == "1",
                "X_HIPPIUS_PEER_ID" => notice.peer_id = Some(printable(value)),
                "X_HIPPIUS_ADDRESS" if notice.addresses.len() < MAX_ADDRESSES => {
                    notice.addresses.push(printable(value));
                }
                _ => {}
            }
        }
        notice
    }
}

/// The socket that one incarnation of a process reports to.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    place: Place,
    /// A foreign sender was complained about: once is enough.
    warned: AtomicBool,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Abstract(String),
}

impl NotifySocket {
    /// Opens a socket as file `name` in `folder`, which should let nobody else in; in the abstract namespace where the
    /// path is too long for a socket address.
    ///
    /// # Errors
    /// What the system says, e.g. out of file descriptors.
    pub fn open_in(folder: &Path, name: &str) -> io::Result<Self> {
        // The protocol wants an absolute path.
        let path = std::path::absolute(folder)?.join(name);
        match SocketAddr::from_pathname(&path) {
            Ok(address) => {
                let _ = std::fs::remove_file(&path);
                Self::bind(&address, Place::File(path))
            }
            Err(_) => Self::open(),
        }
    }

    /// Opens a socket in the abstract namespace.
    ///
    /// # Errors
    /// What the system says, e.g. out of file descriptors.
    pub fn open() -> io::Result<Self> {
        let name = format!("{}{:032x}", abstract_prefix(), rand::random::<u128>());
        Self::bind(&SocketAddr::from_abstract_name(&name)?, Place::Abstract(name))
    }

    fn bind(address: &SocketAddr, place: Place) -> io::Result<Self> {
        let socket = StdDatagram::bind_addr(address)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixDatagram::from_std(socket)?, place, warned: AtomicBool::new(false) })
    }

    /// The value of `NOTIFY_SOCKET` for the child.
    #[must_use]
    pub fn env_value(&self) -> OsString {
        match &self.place {
            Place::File(path) => path.clone().into_os_string(),
            Place::Abstract(name) => format!("@{name}").into(),
        }
    }

    /// Waits for the next message of process `from`.
    ///
    /// # Errors
    /// What the system says; the socket is of no use any more then.
    pub async fn next(&self, from: Pid) -> io::Result<Notice> {
        loop {
            let (sender, notice) = self.socket.async_io(Interest::READABLE, || self.receive()).await?;
            if sender == Some(from.as_raw()) {
                return Ok(notice);
            }
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(?sender, "dropped a notification from a foreign process; there may be more");
            }
        }
    }

    /// The messages of process `from` that are there already.
    #[must_use]
    pub fn waiting(&self, from: Pid) -> Vec<Notice> {
        let there = std::iter::from_fn(|| self.receive().ok()).take(MAX_WAITING);
        there.filter(|(sender, _)| *sender == Some(from.as_raw())).map(|(_, notice)| notice).collect()
    }

    /// Takes one datagram from the socket, with its sender's pid.
    fn receive(&self) -> io::Result<(Option<libc::pid_t>, Notice)> {
        let mut buffer = [0_u8; MAX_MESSAGE_BYTES];
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let mut control = cmsg_space!(libc::ucred);
        let message = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        )?;
        // A message with more than credentials (descriptors, which no child sends) is nobody's.
        let sender = message.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                _ => None,
            })
        });
        let length = message.bytes;
        Ok((sender, Notice::parse(&buffer[..length])))
    }
}

/// How the names of this process's sockets in the abstract namespace begin.
fn abstract_prefix() -> String {
    format!("hippius-{}-", std::process::id())
}

/// Whether `value`, of a variable `NOTIFY_SOCKET`, is one that this process has given to a child; its sockets are in `folder`.
#[must_use]
pub fn is_of_this_process(value: &OsStr, folder: &Path) -> bool {
    let in_folder =
        std::path::absolute(folder).is_ok_and(|folder| Path::new(value).parent() == Some(folder.as_path()));
    in_folder || value.as_bytes().starts_with(format!("@{}", abstract_prefix()).as_bytes())
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Place::File(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_line_by_line() {
        let notice = Notice::parse(
            b"READY=1\nSTATUS=serving\x1b[2J\nX_HIPPIUS_ADDRESS=/ip4/127.0.0.1/tcp/1\nJUNK\n\xff=1",
        );
        assert!(notice.ready);
        assert_eq!(notice.status.as_deref(), Some("serving\\u{1b}[2J"));
        assert_eq!(notice.addresses, ["/ip4/127.0.0.1/tcp/1"]);
    }

    #[tokio::test]
    async fn only_the_child_is_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        for folder in [folder.path(), &deep] {
            let socket = NotifySocket::open_in(folder, "node.1.notify").unwrap();
            let client = StdDatagram::unbound().unwrap();
            let address = match &socket.place {
                Place::File(path) => SocketAddr::from_pathname(path).unwrap(),
                Place::Abstract(name) => SocketAddr::from_abstract_name(name).unwrap(),
            };
            client.send_to_addr(b"READY=1", &address).unwrap();
            assert!(socket.next(nix::unistd::getpid()).await.unwrap().ready);

            client.send_to_addr(b"READY=1", &address).unwrap();
            assert_eq!(
                socket.waiting(Pid::from_raw(1)),
                [],
                "a message of this process is none of process 1"
            );
            for _ in 0..2 {
                client.send_to_addr(b"WATCHDOG=1", &address).unwrap();
            }
            assert_eq!(socket.waiting(nix::unistd::getpid()).len(), 2);
            drop(socket);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the socket's file goes with it");
    }

    #[tokio::test]
    async fn a_message_with_descriptors_is_dropped_and_the_next_one_heard() {
        use nix::sys::socket::{ControlMessage, UnixAddr, sendmsg};
        use std::io::IoSlice;
        let socket = NotifySocket::open().unwrap();
        let Place::Abstract(name) = &socket.place else { unreachable!("open() makes no file") };
        let client = StdDatagram::unbound().unwrap();
        let to = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        let text = [IoSlice::new(b"READY=1")];
        let stdin = [0];
        let rights = [ControlMessage::ScmRights(&stdin)];
        sendmsg(client.as_raw_fd(), &text, &rights, MsgFlags::empty(), Some(&to)).unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        client.send_to_addr(b"WATCHDOG=1", &address).unwrap();
        let heard = socket.next(nix::unistd::getpid()).await.unwrap();
        assert!(heard.watchdog && !heard.ready, "{heard:?}");
    }
}
