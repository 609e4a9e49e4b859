//! The way in: how many connections there are, of one address and in all, and how much each may send, before anybody looks at what it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::limits::{self, IntakeLimit};
use super::refusal;
use super::shared::Shared;
use crate::control::http::{Accept, Remote};
use crate::control::places::{Place, Places};

/// The listener with the bounds per address and in all; what is over them is told so and closed.
pub(super) struct Door {
    listener: TcpListener,
    table: Arc<Places>,
    shared: Arc<Shared>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, table: Arc<Places>, shared: Arc<Shared>) -> Self {
        Self { listener, table, shared }
    }
}

impl Accept for Door {
    type Io = Admitted;

    async fn accept(&self) -> io::Result<(Admitted, Remote)> {
        loop {
            let (stream, remote) = Accept::accept(&self.listener).await?;
            let Remote::Tcp(from) = remote else { continue };
            match self.table.admit(from.ip()) {
                Ok(place) => {
                    let intake = IntakeLimit::new(&self.shared.config, Instant::now());
                    let shared = Arc::clone(&self.shared);
                    return Ok((Admitted { stream, intake, shared, _place: place }, remote));
                }
                Err(full) => {
                    self.shared.count_refused(limits::refusal(full));
                    // As much courtesy as costs nothing: the send buffer of a new socket is empty.
                    let _ = stream.try_write(
                        b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    );
                }
            }
        }
    }

    fn timed_out(&self) {
        self.shared.count_refused(refusal::SLOW_HANDSHAKE);
    }
}

/// A connection that is counted for as long as it lives, as HTTP and as WebSocket, and whose bytes are, too: reading from one that sends too much
/// fails with [`io::ErrorKind::QuotaExceeded`].
pub(super) struct Admitted {
    stream: TcpStream,
    intake: IntakeLimit,
    shared: Arc<Shared>,
    _place: Place,
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.intake.take(buf.filled().len() - before, Instant::now) {
            return read;
        }
        self.shared.count_refused(refusal::FLOOD);
        Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()))
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
