//! A listener whose connections may speak TLS.
//!
//! The handshake is made by the connection's own task, with the first read: whoever dawdles keeps nobody else waiting. It is bounded in
//! time, and so are the handshakes under way, by address and in all; what fails is counted.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::serving::Serving;
use super::{CertificateFiles, TlsError, plain};
use crate::control::http::{Accept, Remote};
use crate::control::places::{Place, Places};
use crate::telemetry::catalogue;
use crate::telemetry::instruments::TlsInstruments;

/// Time for a handshake. It takes two round trips; the slowest networks need a second for one.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way. Each holds some 20 KB.
pub const MAX_HANDSHAKES: u32 = 1024;
/// Of these, of one address: an office behind one comes back at once after a restart, and a handshake takes milliseconds.
pub const MAX_HANDSHAKES_PER_ADDRESS: u32 = 64;

/// What a server needs for TLS: its present certificate, and the places of those who shake hands.
#[derive(Debug)]
pub struct Tls {
    serving: Serving,
    places: Arc<Places>,
    instruments: TlsInstruments,
}

impl Tls {
    /// Reads the certificate.
    ///
    /// # Errors
    /// When its files cannot be read or do not belong together.
    pub fn open(files: CertificateFiles, instruments: TlsInstruments) -> Result<Arc<Self>, TlsError> {
        let serving = Serving::open(&files, &[b"http/1.1"])?;
        let refusals = [Refusal::Failed, Refusal::Plain, Refusal::Timeout, Refusal::Limit];
        catalogue::TLS_REFUSED.start_at_zero(&instruments.refused, refusals.map(Refusal::as_str));
        let places = Places::new(MAX_HANDSHAKES_PER_ADDRESS, MAX_HANDSHAKES);
        Ok(Arc::new(Self { serving, places, instruments }))
    }

    /// Takes over every new certificate that the files come to hold, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        self.serving.follow(stop).await;
    }

    /// Makes the handshake, in its time.
    async fn shake_hands<S>(self: Arc<Self>, mut io: S, _held: Place) -> io::Result<TlsStream<Begun<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaking = async {
            let first = io.read_u8().await.map_err(|error| (Refusal::Failed, error))?;
            if plain::is_first(first) {
                let told = plain::answer(&mut io, first).await;
                return Err((Refusal::Plain, told.err().unwrap_or(io::ErrorKind::InvalidData.into())));
            }
            let accept = self.serving.acceptor().accept(Begun { first: Some(first), io });
            accept.await.map_err(|error| (Refusal::Failed, error))
        };
        let late = |_| Err((Refusal::Timeout, io::ErrorKind::TimedOut.into()));
        tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await.unwrap_or_else(late).map_err(
            |(refusal, error)| {
                self.refused(refusal);
                error
            },
        )
    }

    fn refused(&self, reason: Refusal) {
        self.instruments.refused.add(1, &[KeyValue::new("reason", reason.as_str())]);
    }
}

/// Why a connection did not come to speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// What came is no TLS, or none that both sides know.
    Failed,
    /// What came is HTTP without TLS.
    Plain,
    /// It did not come in time.
    Timeout,
    /// Too many others were shaking hands.
    Limit,
}

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Refusal::Failed => "failed",
            Refusal::Plain => "plain",
            Refusal::Timeout => "timeout",
            Refusal::Limit => "limit",
        }
    }
}

/// `inner`, with TLS where there is a certificate.
#[derive(Debug)]
pub struct Secured<A> {
    inner: A,
    tls: Option<Arc<Tls>>,
}

impl<A> Secured<A> {
    /// Connections of `inner`, as they are without `tls`.
    pub fn new(inner: A, tls: Option<Arc<Tls>>) -> Self {
        Self { inner, tls }
    }
}

impl<A: Accept> Accept for Secured<A> {
    type Io = Stream<A::Io>;

    async fn accept(&self) -> io::Result<(Self::Io, Remote)> {
        loop {
            let (io, remote) = self.inner.accept().await?;
            let Some(tls) = &self.tls else { return Ok((Stream::Plain(io), remote)) };
            let address = match remote {
                Remote::Tcp(from) => from.ip(),
                Remote::Unix => IpAddr::from([127, 0, 0, 1]),
            };
            let Ok(place) = tls.places.admit(address) else {
                tls.refused(Refusal::Limit);
                continue;
            };
            return Ok((Stream::Handshake(Box::pin(Arc::clone(tls).shake_hands(io, place))), remote));
        }
    }

    fn timed_out(&self) {
        self.inner.timed_out();
    }
}

/// One connection.
pub enum Stream<S> {
    /// As it came.
    Plain(S),
    /// In the middle of its handshake.
    Handshake(Shaking<S>),
    /// Speaking TLS.
    Secure(Box<TlsStream<Begun<S>>>),
    /// Its handshake has failed.
    Broken,
}

type Shaking<S> = Pin<Box<dyn Future<Output = io::Result<TlsStream<Begun<S>>>> + Send>>;

/// A connection of which one byte has been read already, which comes first.
#[derive(Debug)]
pub struct Begun<S> {
    first: Option<u8>,
    io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Goes on with the handshake, if there is one under way, up to its end.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::Handshake(handshake) = self {
            match ready!(handshake.as_mut().poll(cx)) {
                Ok(stream) => *self = Stream::Secure(Box::new(stream)),
                Err(error) => {
                    *self = Stream::Broken;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_handshake(cx))?;
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Handshake(_) | Stream::Broken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(cx))?;
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Handshake(_) | Stream::Broken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing was written yet.
            Stream::Handshake(_) | Stream::Broken => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
            // Nobody waits for a farewell; the connection is closed when this is dropped.
            Stream::Handshake(_) | Stream::Broken => Poll::Ready(Ok(())),
        }
    }
}
