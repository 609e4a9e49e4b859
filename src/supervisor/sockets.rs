//! The listening sockets that the supervisor opens and hands down, and who else holds a port.
//!
//! A socket stays open while its role restarts: clients wait in its queue instead of being refused. Only when nobody will serve
//! them by itself, after a stop or a failure for good, it is closed; the next start opens it on the same port.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{Backlog, listen};

use crate::control::printable::printable;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {address}: {reason}")]
pub struct BindError {
    /// Who wanted it, e.g. `the web server "web"`.
    pub what: String,
    /// The address.
    pub address: SocketAddr,
    /// Why not, with the holder if it is known. What to do depends on where the address comes from.
    pub reason: String,
    /// Why not, for programs.
    pub kind: io::ErrorKind,
}

/// Opens a listening socket.
///
/// # Errors
/// [`BindError`] with the program that holds the port, where that can be found out.
pub fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        // The library's queue holds 128 clients; one that finds it full tries again after a second. As many as the
        // system allows (`net.core.somaxconn`) may wait while a role restarts.
        listen(&listener, Backlog::MAXALLOWABLE)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|error| bind_error(what, address, Protocol::Tcp, &error))
}

fn bind_error(what: &str, address: SocketAddr, protocol: Protocol, error: &io::Error) -> BindError {
    let port = address.port();
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder =
                holder_of(protocol, port).map_or_else(|| "another program".to_owned(), |h| h.to_string());
            let name = if protocol == Protocol::Udp { "UDP port" } else { "port" };
            format!("{name} {port} is held by {holder}")
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need more rights".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    BindError { what: what.to_owned(), address, reason, kind: error.kind() }
}

/// A listening socket that keeps its address while it is closed.
#[derive(Debug)]
pub struct Listening {
    what: String,
    address: SocketAddr,
    socket: Option<TcpListener>,
}

impl Listening {
    /// Opens it; `address` may leave the choice of the port to the system, which then stays the same.
    ///
    /// # Errors
    /// Like [`bind`].
    pub fn open(what: &str, address: SocketAddr) -> Result<Self, BindError> {
        let socket = bind(what, address)?;
        let address = socket.local_addr().unwrap_or(address);
        Ok(Self { what: what.to_owned(), address, socket: Some(socket) })
    }

    /// Where it listens, or listened.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, opened again if it was closed.
    ///
    /// # Errors
    /// Like [`bind`]: while it was closed, another program may have taken the port.
    pub fn socket(&mut self) -> Result<BorrowedFd<'_>, BindError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => bind(&self.what, self.address)?,
        };
        let socket: &TcpListener = self.socket.insert(socket);
        Ok(socket.as_fd())
    }

    /// Closes it: clients are refused, also those that wait in its queue.
    pub fn close(&mut self) {
        self.socket = None;
    }
}

/// Finds out whether an address that a process is going to bind by itself is free, and frees it again.
///
/// # Errors
/// Like [`bind`].
pub fn probe(what: &str, address: SocketAddr) -> Result<(), BindError> {
    bind(what, address).map(drop)
}

/// The same for a UDP address.
///
/// # Errors
/// Like [`bind`].
pub fn probe_udp(what: &str, address: SocketAddr) -> Result<(), BindError> {
    UdpSocket::bind(address).map(drop).map_err(|error| bind_error(what, address, Protocol::Udp, &error))
}

/// TCP and UDP have ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its program's name.
    pub program: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// The process that listens on TCP `port`, if this user may know it (`/proc/net/tcp`, `/proc/<pid>/fd`).
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    holder_of(Protocol::Tcp, port)
}

fn holder_of(protocol: Protocol, port: u16) -> Option<Holder> {
    let (tables, state) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], TCP_LISTEN),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], UDP_BOUND),
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes(&table, state, port))
        .collect();
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| wanted.iter().any(|socket| target.as_os_str() == socket.as_str()))
        });
        if holds {
            // A process gives itself its name, whatever is in it.
            let name = fs::read(process.path().join("comm")).unwrap_or_default();
            return Some(Holder { pid, program: printable(String::from_utf8_lossy(&name).trim()) });
        }
    }
    None
}

/// The state `TCP_LISTEN` in the kernel's tables.
const TCP_LISTEN: &str = "0A";
/// The state of every UDP socket there that is bound and connected to nobody (`TCP_CLOSE`).
const UDP_BOUND: &str = "07";

/// Inodes of sockets in `state` on `port`, from the text of `/proc/net/tcp` or its like (`proc_net_tcp.txt` of the kernel).
fn inodes(table: &str, state: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&state) && fields.get(1)?.ends_with(&suffix);
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        fs::write("/proc/self/comm", "x\u{1b}[2J").unwrap();
        let error = bind("the web server", address).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
        drop(held);
        probe("the web server", address).unwrap();
    }

    #[test]
    fn a_taken_udp_port_names_its_holder() {
        let held = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let error = probe_udp("the node", address).unwrap_err().to_string();
        assert!(error.contains("UDP port"), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(held);
        probe_udp("the node", address).unwrap();
    }
}
