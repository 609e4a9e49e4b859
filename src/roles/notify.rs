//! A role's end of the `sd_notify(3)` protocol: tells whoever started it that it is ready, alive, or cannot go on.
//! The same for the supervisor, systemd, and nobody at all.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends notifications; does nothing where `NOTIFY_SOCKET` is not set.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// Connects to the socket that the environment names.
    #[must_use]
    pub fn from_env() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "cannot reach the socket of NOTIFY_SOCKET");
                None
            }
        });
        Self { socket }
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends assignments such as `READY=1`, one per line.
    pub fn send<S: AsRef<str>>(&self, assignments: &[S]) {
        let Some(socket) = &self.socket else { return };
        // A value must not begin an assignment of its own.
        let lines: Vec<String> =
            assignments.iter().map(|line| line.as_ref().replace(['\n', '\r'], " ")).collect();
        if let Err(error) = socket.send(lines.join("\n").as_bytes()) {
            tracing::debug!(%error, "a notification was not taken");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often a sign of life is due: a third of what `WATCHDOG_USEC` allows.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros) / 3)
}
