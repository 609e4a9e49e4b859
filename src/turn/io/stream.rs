//! TCP and TLS: one task for each connection, which cuts the stream into messages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker::{Command, Connection, ConnectionState, WorkerHandle};
use crate::turn::engine::{Client, Transport};
use crate::turn::figures::{Counters, DropReason};
use crate::turn::frame;
use crate::turn::quota::ConnectionQuota;

/// Room for what comes after a silence: connections that wait should not cost much.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// Room for the rest of a message and what follows it.
const READ_BYTES: usize = 16 * 1024;
/// Messages that wait are written together up to this size.
const WRITE_BYTES: usize = 64 * 1024;
/// After an error of `accept`, such as too many open files, the next try comes after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for one write. TCP goes on trying for minutes; a client that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Routes of connections begin here; below are listening UDP sockets.
const FIRST_CONNECTION: u64 = 1 << 32;

/// What all connections need.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) quota: ConnectionQuota,
    pub(crate) counters: Arc<Counters>,
    pub(crate) message_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) queue_bytes: usize,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) next: std::sync::atomic::AtomicU64,
}

/// A place of a connection; given back when dropped.
struct Place(Arc<Front>, SocketAddr);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.quota.give_back(self.1.ip());
    }
}

/// Takes connections until the server stops.
pub(crate) async fn accept(front: Arc<Front>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let accepted = tokio::select! {
            () = front.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !front.quota.take(address.ip()) {
            front.counters.drop_one(DropReason::TooManyConnections);
            continue;
        }
        let place = Place(Arc::clone(&front), address);
        let (front_of_it, tls) = (Arc::clone(&front), tls.clone());
        front.tasks.spawn(async move {
            let stop = front_of_it.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                // Why a connection has ended is its client's affair; what is ours is counted.
                _ = connection(&front_of_it, stream, address, tls) => {}
            }
            drop(place);
        });
    }
}

async fn connection(
    front: &Arc<Front>,
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?.ip();
    let number = front.next.fetch_add(1, Ordering::Relaxed);
    let worker = &front.workers[(number % front.workers.len() as u64) as usize];
    let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
    let client = Client { route: FIRST_CONNECTION + number, address, local, transport };
    match tls {
        None => serve(front, worker, client, stream).await,
        Some(acceptor) => {
            let handshake = timeout(front.message_timeout, acceptor.accept(stream));
            let Ok(stream) = handshake.await else {
                front.counters.drop_one(DropReason::TooSlow);
                return Ok(());
            };
            serve(front, worker, client, stream?).await
        }
    }
}

/// Says that a connection has ended, however it does.
struct Farewell<'a> {
    front: &'a Front,
    worker: WorkerHandle,
    client: Client,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let (worker, client) = (self.worker.clone(), self.client);
        // The worker's queue may be full, and this must not be lost. Without a runtime all is over anyway.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.front.tasks.spawn_on(async move { worker.send(Command::Closed(client)).await }, &runtime);
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite>(
    front: &Front,
    worker: &WorkerHandle,
    client: Client,
    stream: S,
) -> io::Result<()> {
    let (connection, messages, state) = Connection::new(front.queue_bytes);
    if !worker.send(Command::Opened(client, connection)).await {
        return Ok(());
    }
    let _farewell = Farewell { front, worker: worker.clone(), client };
    let (reading, writing) = tokio::io::split(stream);
    tokio::select! {
        read = read(front, worker, client, &state, reading) => read,
        written = write(&state, messages, writing) => written,
    }
}

/// Hands each message over to the worker.
async fn read<R: AsyncRead + Unpin>(
    front: &Front,
    worker: &WorkerHandle,
    client: Client,
    state: &ConnectionState,
    mut stream: R,
) -> io::Result<()> {
    let mut received: Vec<u8> = Vec::new();
    let mut patience = front.message_timeout;
    loop {
        let mut deadline = tokio::time::Instant::now() + patience;
        // The time is for a whole message: what comes in drips does not begin it anew.
        let mut length = loop {
            match complete(&received) {
                Ok(Some(length)) => break length,
                Ok(None) => {}
                Err(frame::NoMessage) => {
                    front.counters.drop_one(DropReason::Malformed);
                    return Ok(());
                }
            }
            let was_silent = received.is_empty();
            received.reserve(if was_silent { FIRST_READ_BYTES } else { READ_BYTES });
            match tokio::time::timeout_at(deadline, stream.read_buf(&mut received)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(result) => result?,
                // Silence between messages is not slowness while there is an allocation: that will expire by itself.
                Err(_) if was_silent && state.has_allocation.load(Ordering::Relaxed) => {
                    deadline = tokio::time::Instant::now() + patience;
                    continue;
                }
                Err(_) => {
                    front.counters.drop_one(DropReason::TooSlow);
                    return Ok(());
                }
            };
            if was_silent {
                deadline = tokio::time::Instant::now() + front.message_timeout;
            }
        };
        let mut start = 0;
        loop {
            let message = received[start..start + length].to_vec();
            start += length;
            if !worker.send(Command::Message(client, message)).await {
                return Ok(());
            }
            match complete(&received[start..]) {
                Ok(Some(next)) => length = next,
                // What is wrong with the rest comes to light at once above.
                _ => break,
            }
        }
        received.drain(..start);
        if received.is_empty() && received.capacity() > FIRST_READ_BYTES {
            received = Vec::new();
        }
        patience = if received.is_empty() { front.idle_timeout } else { front.message_timeout };
    }
}

/// The length of the message that `received` begins with, once all of it is there.
fn complete(received: &[u8]) -> Result<Option<usize>, frame::NoMessage> {
    Ok(frame::length(received)?.filter(|length| *length <= received.len()))
}

/// Writes what the worker has for the client.
async fn write<W: AsyncWrite + Unpin>(
    state: &ConnectionState,
    mut messages: mpsc::Receiver<Vec<u8>>,
    mut stream: W,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    while let Some(message) = messages.recv().await {
        bytes.clear();
        bytes.extend_from_slice(&message);
        while bytes.len() < WRITE_BYTES
            && let Ok(message) = messages.try_recv()
        {
            bytes.extend_from_slice(&message);
        }
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        timeout(WRITE_TIMEOUT, written).await??;
        state.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
    Ok(())
}
