//! The task of one WebSocket: reads and checks what the client sends, writes what is queued for it, and sees to
//! it that neither takes forever.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::hub::{Departure, Event};
use super::limits::{RateLimit, Verdict};
use super::refusal;
use super::shared::{Inbox, Outgoing, Shared};
use super::wire::{self, CloseReason, ErrorCode, ErrorReply};

/// How long a client has to answer a Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a session ended.
#[derive(Debug)]
enum End {
    /// The client closed the connection, or it broke.
    Client(Departure),
    /// The server closes it.
    Server(CloseReason),
    /// The client does not read what is sent to it.
    SlowReader,
    /// The client sends more bytes than are read, whatever they are; counted already.
    Flood,
}

/// Serves one WebSocket, which counts for `address` and has reached us by the name `host`, until either side ends it.
pub(super) async fn run<S>(
    socket: WebSocketStream<S>,
    (address, host): (Option<IpAddr>, Option<String>),
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let inbox = shared.connect(address);
    let client = inbox.client;
    shared.came_by(client, host);
    let now = Instant::now();
    let limit = RateLimit::new(&shared.config, now.into_std());
    let mut session = Session { socket, inbox, shared, limit, heard_at: now, pinged_at: now };
    let end = session.serve().await;
    tracing::debug!(client = client.0, ?end, "session ended");
    let Session { socket, shared, .. } = session;
    let departure = match end {
        End::Client(departure) => departure,
        End::Server(reason) if refusal::of_close(reason).is_some() => Departure::Clean,
        End::Flood => Departure::Clean,
        End::Server(_) | End::SlowReader => Departure::Lost,
    };
    shared.disconnect(Event::Closed { client, departure }, client);
    match end {
        End::SlowReader => shared.count_refused(refusal::SLOW_READER),
        End::Client(_) => {}
        End::Flood => close(socket, CloseReason::Flood, &shared).await,
        End::Server(reason) => {
            if let Some(counted) = refusal::of_close(reason) {
                shared.count_refused(counted);
            }
            close(socket, reason, &shared).await;
        }
    }
}

/// Tells a client that has connected why it is not served.
pub(super) async fn turn_away<S>(socket: WebSocketStream<S>, reason: CloseReason, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(counted) = refusal::of_close(reason) {
        shared.count_refused(counted);
    }
    close(socket, reason, shared).await;
}

async fn close<S>(mut socket: WebSocketStream<S>, reason: CloseReason, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: CloseCode::from(reason.code()), reason: reason.as_str().into() };
    let farewell = timeout(CLOSE_TIMEOUT, async {
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, Error>(())
    });
    let _ = shared.kill.run_until_cancelled(farewell).await;
}

struct Session<S> {
    socket: WebSocketStream<S>,
    inbox: Inbox,
    shared: Arc<Shared>,
    limit: RateLimit,
    heard_at: Instant,
    pinged_at: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn serve(&mut self) -> End {
        let timer = tokio::time::sleep_until(self.next_deadline());
        tokio::pin!(timer);
        loop {
            // Whatever ends a session from outside shows in its queue.
            let ended = tokio::select! {
                outgoing = self.inbox.queue.recv() => match outgoing {
                    Some(Outgoing::Text(text)) => self.write(text).await.err(),
                    Some(Outgoing::Close(reason)) => Some(End::Server(reason)),
                    // The hub has let go of this client and everything for it is written.
                    None => Some(End::SlowReader),
                },
                incoming = self.socket.next() => self.read(incoming).err(),
                () = timer.as_mut() => {
                    let ended = self.on_time().await.err();
                    timer.as_mut().reset(self.next_deadline());
                    ended
                }
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// The earlier of the next ping and the end of patience. Hearing from the client only moves the latter on,
    /// so the timer may fire early and is then set again.
    fn next_deadline(&self) -> Instant {
        let config = &self.shared.config;
        (self.pinged_at + config.ping_interval).min(self.heard_at + config.silence_timeout)
    }

    async fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now.duration_since(self.heard_at) >= self.shared.config.silence_timeout {
            return Err(End::Server(CloseReason::Silent));
        }
        if now.duration_since(self.pinged_at) >= self.shared.config.ping_interval {
            self.pinged_at = now;
            let ping = self.socket.send(Message::Ping(Bytes::new()));
            let sending =
                self.shared.kill.run_until_cancelled(timeout(self.shared.config.write_timeout, ping));
            return sending.await.map_or(Err(End::Client(Departure::Lost)), sent);
        }
        Ok(())
    }

    /// Writes `first` and what else is queued by now, then flushes once.
    async fn write(&mut self, first: Utf8Bytes) -> Result<(), End> {
        let (socket, inbox, shared) = (&mut self.socket, &mut self.inbox, &self.shared);
        let cut = Arc::clone(&inbox.cut);
        if cut.is_off() {
            return Err(End::SlowReader);
        }
        let batch = async {
            let mut closing = None;
            let mut next = Some(first);
            let mut count = 0;
            while let Some(text) = next.take() {
                inbox.taken(&text);
                socket.feed(Message::Text(text)).await?;
                count += 1;
                match inbox.queue.try_recv() {
                    Ok(Outgoing::Text(text)) => next = Some(text),
                    Ok(Outgoing::Close(reason)) => closing = Some(reason),
                    Err(_) => {}
                }
            }
            shared.instruments.messages_sent.add(count, &[]);
            socket.flush().await.map(|()| closing)
        };
        tokio::pin!(batch);
        // Most writes are over at once, and then nothing has to be set up to wait for.
        let result = match futures::poll!(batch.as_mut()) {
            Poll::Ready(result) => Ok(result),
            Poll::Pending => tokio::select! {
                result = timeout(shared.config.write_timeout, batch) => result,
                () = cut.wait() => return Err(End::SlowReader),
                () = shared.kill.cancelled() => return Err(End::Client(Departure::Lost)),
            },
        };
        sent(result)?.map_or(Ok(()), |reason| Err(End::Server(reason)))
    }

    fn read(&mut self, incoming: Option<Result<Message, Error>>) -> Result<(), End> {
        let message = match incoming {
            None => return Err(End::Client(Departure::Lost)),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(message)) => message,
        };
        let now = Instant::now();
        self.heard_at = now;
        let client = self.inbox.client;
        match self.limit.check(message.len(), now.into_std()) {
            Verdict::Pass => {}
            Verdict::Cut => return Err(End::Server(CloseReason::Flood)),
            Verdict::Refuse => {
                if message.is_text() {
                    self.shared.instruments.messages_received.add(1, &[]);
                    let message = "too many messages; this one was dropped".to_owned();
                    let error = ErrorReply { code: ErrorCode::RateLimited, message, to: None };
                    self.shared.refuse(client, error);
                    return Ok(());
                }
            }
        }
        match message {
            Message::Text(text) => {
                self.shared.instruments.messages_received.add(1, &[]);
                if self.shared.pass_on(client, &text) {
                    return Ok(());
                }
                match wire::parse(&text) {
                    Ok(message) => self.shared.receive(client, message),
                    Err(error) => self.shared.refuse(client, error),
                }
                Ok(())
            }
            Message::Binary(_) => Err(End::Server(CloseReason::Binary)),
            Message::Close(frame) => {
                let meant = frame.is_none_or(|frame| frame.code == CloseCode::Normal);
                Err(End::Client(if meant { Departure::Clean } else { Departure::Lost }))
            }
            // A ping's answer goes out with the next write or, at the latest, the next read.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }
}

/// What a failed read means.
fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Server(CloseReason::TooBig),
        Error::Utf8(_) => End::Server(CloseReason::NotUtf8),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => End::Client(Departure::Lost),
        Error::Protocol(_) => End::Server(CloseReason::Protocol),
        Error::Io(error) if error.kind() == io::ErrorKind::QuotaExceeded => End::Flood,
        _ => End::Client(Departure::Lost),
    }
}

/// What the result of a write means.
fn sent<T>(result: Result<Result<T, Error>, Elapsed>) -> Result<T, End> {
    match result {
        Ok(Ok(done)) => Ok(done),
        // The connection has a time limit of its own below this one, which may be the first to run out.
        Ok(Err(Error::Io(error))) if error.kind() == io::ErrorKind::TimedOut => Err(End::SlowReader),
        Ok(Err(_)) => Err(End::Client(Departure::Lost)),
        Err(_) => Err(End::SlowReader),
    }
}
