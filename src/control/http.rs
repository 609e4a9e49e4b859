//! A bounded HTTP/1.1 server on hyper, the same for unix and TCP listeners, and the replies it gives.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::places::subject;
use super::seats::{Busy, Seats};

/// The body of every reply.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where servers of strangers say that they are alive and serve, which is the same for them: `200`. The first is what people try, the
/// others are named as on a role's admin socket.
pub const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// What one server admits. Whatever a stranger can open or send is bounded here.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. For one more that which waits for a request for longest is closed, or the new one if none does;
    /// either is counted.
    pub max_connections: usize,
    /// Time for a client to send the head of a request, also on an idle kept-alive connection.
    pub header_timeout: Duration,
    /// A client that takes nothing of a reply for this long is cut off. `None` for streams that a person may pause.
    pub write_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 256,
            header_timeout: Duration::from_secs(30),
            write_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client of a unix socket: a process of the same user.
    Unix,
}

impl Remote {
    /// The address of a TCP client.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Remote::Tcp(from) => Some(from.ip()),
            Remote::Unix => None,
        }
    }
}

/// A listener that [`serve`] can take connections from.
pub trait Accept: Send + Sync + 'static {
    /// The connection's byte stream.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Remote)>> + Send;
    /// Told of each connection that was closed because the head of a request did not come in [time](Limits::header_timeout).
    fn timed_out(&self) {}
}

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<(Self::Io, Remote)> {
        let (stream, from) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, Remote::Tcp(from)))
    }
}

impl Accept for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<(Self::Io, Remote)> {
        UnixListener::accept(self).await.map(|(stream, _)| (stream, Remote::Unix))
    }
}

/// A running server; dropping it leaves the server running until the runtime ends.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    /// Ends what is still under way after the grace period.
    kill: CancellationToken,
    connections: TaskTracker,
    refused: Arc<AtomicU64>,
}

impl Server {
    /// Connections closed because of [`Limits::max_connections`]: a counter shared with the server, for an observable
    /// instrument.
    #[must_use]
    pub fn refused_counter(&self) -> Arc<AtomicU64> {
        self.refused.clone()
    }

    /// Takes no more connections, lets requests under way finish for `grace`, then drops the rest.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(grace, self.connections.wait()).await.is_err() {
            self.kill.cancel();
            self.connections.wait().await;
        }
    }
}

/// Serves `handler` on `listener` until [`Server::shutdown`]. Upgrades (WebSocket) are possible.
pub fn serve<A, F, Fut>(listener: A, limits: Limits, handler: F) -> Server
where
    A: Accept,
    F: Fn(Request<Incoming>, Remote) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let server = Server {
        stop: CancellationToken::new(),
        kill: CancellationToken::new(),
        connections: TaskTracker::new(),
        refused: Arc::default(),
    };
    let (stop, kill) = (server.stop.clone(), server.kill.clone());
    let (connections, refused) = (server.connections.clone(), server.refused.clone());
    let tracker = connections.clone();
    let listener = Arc::new(listener);
    // Tracked as well: once a shutdown is over, the listener is closed.
    tracker.spawn(async move {
        let seats = Seats::new(limits.max_connections, usize::MAX);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (io, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the client left at once: go on after a breath.
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            if seats.are_full() {
                // Whoever has just come is given the time to ask before the next one takes a seat.
                tokio::task::yield_now().await;
            }
            let close = kill.child_token();
            let welcome = seats.take(remote.address().map(subject), close.clone());
            if !welcome.was_free() {
                refused.fetch_add(1, Relaxed);
            }
            let Some(seat) = welcome.seat() else { continue };
            let handler = handler.clone();
            let (stop, listener) = (stop.clone(), Arc::clone(&listener));
            let mut io = TimeoutStream::new(io);
            io.set_write_timeout(limits.write_timeout);
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let busy = seat.busy();
                    let reply = handler(request, remote);
                    async move { Ok::<_, Infallible>(reply.await.map(|body| UnderWay { body, _busy: busy })) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits.header_timeout)
                    .max_buf_size(64 * 1024)
                    .serve_connection(TokioIo::new(Box::pin(io)), service)
                    .with_upgrades();
                let mut connection = std::pin::pin!(connection);
                let served = async {
                    tokio::select! {
                        result = connection.as_mut() => result,
                        () = stop.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    }
                };
                let result = close.run_until_cancelled(served).await.unwrap_or(Ok(()));
                if let Err(error) = result {
                    if error.is_timeout() {
                        listener.timed_out();
                    }
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
    });
    server
}

/// The body of a reply that is being sent.
struct UnderWay {
    body: Body,
    _busy: Busy<Option<IpAddr>>,
}

impl HttpBody for UnderWay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than the handler takes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive in {0:?}")]
    Timeout(Duration),
    /// The client left, or its framing is wrong.
    #[error("the body could not be read")]
    Broken,
}

impl BodyError {
    /// The reply that tells the client.
    #[must_use]
    pub fn reply(&self) -> Response<Body> {
        let (status, code) = match self {
            BodyError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            BodyError::Timeout(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "broken_body"),
        };
        error(status, code, &self.to_string())
    }
}

/// Longest time a client may take to send a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Err(_) => Err(BodyError::Timeout(BODY_TIMEOUT)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

/// A reply with `body` of the given content type.
#[must_use]
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON reply.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => reply(status, "application/json", bytes),
        Err(err) => error(StatusCode::INTERNAL_SERVER_ERROR, "encoding", &err.to_string()),
    }
}

/// A plain text reply.
#[must_use]
pub fn text(status: StatusCode, value: impl Into<String>) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", value.into())
}

/// The shape of every error reply: `{"error": {"code": …, "message": …}}`.
#[must_use]
pub fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, &serde_json::json!({"error": {"code": code, "message": message}}))
}

/// The refusal of a request with another method than those that the path takes.
#[must_use]
pub fn wrong_method(allowed: &'static str) -> Response<Body> {
    let message = format!("this path takes {allowed} only");
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", &message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A reply whose body is what arrives on `chunks`, until the sender is dropped.
#[must_use]
pub fn stream(content_type: &'static str, chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(Chunks(chunks)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

struct Chunks(mpsc::Receiver<Bytes>);

impl futures::Stream for Chunks {
    type Item = Result<Frame<Bytes>, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}
