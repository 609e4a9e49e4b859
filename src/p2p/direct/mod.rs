//! Private messages and files: from one node to another, confirmed by it.
//!
//! ```text
//!   Handle ──► Desk ── a task per file that is sent ──► stream ──► the other node
//!               ▲ │                                                    │
//!               │ └── Command::Find, Command::Open ──► Runner         │
//!               └──── a task per stream that arrived ◄── Runner ◄──────┘
//! ```
//!
//! The runner connects peers and opens streams; everything after that happens in tasks of this room, which the swarm never waits for.
//! What is read from and written to the disk is read and written on blocking threads, a block at a time.

pub mod config;
mod journal;
mod letters;
mod names;
mod pieces;
mod receive;
mod send;
mod source;
mod store;
pub(crate) mod streams;
mod tied;
pub mod transfer;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command::Command;
use super::event::Event;
use super::limits::{MAX_AUTHORS, RateLimiter};
use super::metrics::{Refusals, Refused};
use crate::control::seats::Seats;
use crate::telemetry::instruments::P2pInstruments;
use crate::token_bucket::Rate;
use config::FilesConfig;
pub use letters::{MessageError, PrivateMessage};
pub use send::SendFileError;
pub use source::SourceError;
pub use store::RECEIVED;
use store::{Key, Store};
use streams::{Arrived, FILES, MESSAGES, OpenError};
use tied::Stream;
use transfer::{Decision, Table, Transfer, TransferInfo, TransferState};
pub use wire::Reason;

/// Time to find and connect a peer.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a connected peer to agree on a protocol.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the tasks to end when the node stops: a block that is being written.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Private messages that one peer may send: a page at once, ten lines a second in the long run. In the tokens of
/// [`cost_of`](super::limits::cost_of), as on topics.
pub const MESSAGE_RATE: Rate = Rate::per_second(100, 10);
/// Offers of files that one peer may make. One that was refused because the node was busy is made again.
pub const OFFER_RATE: Rate = Rate::per_second(32, 2);
/// Ended offers that are remembered, so that one whose last answer was lost is neither received twice nor asked about again.
const REMEMBERED: usize = 256;
/// Streams of all peers together, beside those on which files are arriving. Each has a task and a buffer of up to 64 KiB. When all are
/// taken, the one that has been idle for longest of whoever holds most is closed.
const MAX_STREAMS: usize = 64;
/// Streams of one peer: a few files and a few messages at the same time.
const MAX_STREAMS_PER_PEER: usize = 16;

/// Why a peer could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// This node itself.
    #[error("that is this node itself")]
    Myself,
    /// Neither connected nor known to anybody who was asked.
    #[error("{0} is not known here, and no connected peer knows where it is; /connect to its address first")]
    Unknown(PeerId),
    /// Known, but it does not answer.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        peer: PeerId,
        /// What went wrong.
        reason: String,
    },
    /// It speaks other protocols only.
    #[error("{0} takes no private messages or files: it is another program, or an earlier version")]
    Unsupported(PeerId),
    /// Too many others are being looked for.
    #[error("too many peers are being connected at once; try again in a moment")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Gone,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Desk {
    local: PeerId,
    config: FilesConfig,
    store: Store,
    /// Where the files that are being sent are written down.
    journal: PathBuf,
    commands: mpsc::WeakSender<Command>,
    events: broadcast::WeakSender<Event>,
    instruments: P2pInstruments,
    refusals: Arc<Refusals>,
    streams: Arc<Seats<PeerId>>,
    shared: Mutex<Shared>,
    /// Private messages that are being sent.
    letters: Semaphore,
    /// Files that are arriving. Whose comes slowly is idle.
    arriving: Arc<Seats<PeerId>>,
    /// Held by whoever counts what is in the folder.
    counting: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    transfers: Table,
    letters: RateLimiter,
    offers: RateLimiter,
    /// Parts of files that somebody is writing to.
    writing: HashMap<Key, Promise>,
    /// Peers and ids of offers that have ended.
    ended: VecDeque<(PeerId, String, Ending)>,
}

/// Room for a file that is arriving.
#[derive(Debug, Clone, Copy)]
struct Promise {
    peer: PeerId,
    /// Bytes of the whole file.
    size: u64,
}

/// How an offer ended for good.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// With this file.
    Received(Key),
    /// Somebody here does not want it.
    Unwanted,
}

impl Shared {
    fn remember(&mut self, peer: PeerId, offer: &str, ending: Ending) {
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((peer, offer.to_owned(), ending));
    }

    /// Whether the offer of `key` under this id has ended, and how. Another file under the same id is another offer, unless nothing is wanted
    /// under that.
    fn ending(&self, peer: PeerId, offer: &str, key: &Key) -> Option<&Ending> {
        let endings = self.ended.iter().filter(|(from, id, _)| *from == peer && id == offer);
        endings.map(|(.., ending)| ending).find(|ending| match ending {
            Ending::Received(received) => received == key,
            Ending::Unwanted => true,
        })
    }
}

/// What a desk is made of.
pub(crate) struct Parts<'a> {
    pub(crate) local: PeerId,
    pub(crate) config: FilesConfig,
    pub(crate) folder: &'a Path,
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) instruments: P2pInstruments,
    pub(crate) refusals: Arc<Refusals>,
}

impl Desk {
    pub(crate) fn new(parts: Parts<'_>) -> Arc<Self> {
        let arriving = usize::try_from(parts.config.max_transfers).unwrap_or(usize::MAX);
        Arc::new(Self {
            local: parts.local,
            config: parts.config,
            store: Store::new(parts.folder),
            journal: parts.folder.join(journal::FOLDER),
            commands: parts.commands,
            events: parts.events,
            instruments: parts.instruments,
            refusals: parts.refusals,
            streams: Seats::new(MAX_STREAMS.saturating_add(arriving), MAX_STREAMS_PER_PEER),
            shared: Mutex::new(Shared {
                transfers: Table::default(),
                letters: RateLimiter::new(MESSAGE_RATE, MAX_AUTHORS),
                offers: RateLimiter::new(OFFER_RATE, MAX_AUTHORS),
                writing: HashMap::new(),
                ended: VecDeque::new(),
            }),
            letters: Semaphore::new(letters::MAX_SENDING),
            arriving: Seats::new(arriving, share_of(arriving)),
            counting: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a stream that a peer has opened.
    pub(crate) fn take(self: &Arc<Self>, Arrived { peer, protocol, stream }: Arrived) {
        let close = CancellationToken::new();
        let welcome = self.streams.take(peer, close.clone());
        if !welcome.was_free() {
            self.refusals.add(Refused::Stream, 1);
        }
        let Some(seat) = welcome.seat() else { return };
        let desk = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let work = async {
                if protocol == MESSAGES {
                    desk.receive_letter(peer, stream).await;
                } else if protocol == FILES {
                    desk.receive_file(peer, stream, &seat).await;
                }
            };
            tokio::select! {
                // First, so that nobody is told anything that is not so: after a restart it goes on.
                biased;
                () = stop.cancelled() => {}
                () = close.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// A peer is connected that was not: what is being sent to it need not wait any longer.
    pub(crate) fn connected(&self, peer: PeerId) {
        self.shared().transfers.connected(peer);
    }

    /// Ends all tasks; what was under way can go on when the node is started again.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_GRACE, self.tasks.wait()).await;
    }

    /// A stream to a peer, who is connected if need be.
    async fn stream_to(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream, ReachError> {
        if peer == self.local {
            return Err(ReachError::Myself);
        }
        let reason = |reason: &str| ReachError::Unreachable { peer, reason: reason.to_owned() };
        let reached = self.ask(|reply| Command::Find(peer, reply));
        match tokio::time::timeout(REACH_TIMEOUT, reached).await {
            Ok(reached) => reached??,
            Err(_) => return Err(reason("it does not answer")),
        }
        let opened = self.ask(|reply| Command::Open(peer, protocol, reply));
        match tokio::time::timeout(OPEN_TIMEOUT, opened).await {
            Ok(Ok(Ok(stream))) => Ok(stream),
            Ok(Ok(Err(OpenError::Unsupported))) => Err(ReachError::Unsupported(peer)),
            Ok(Ok(Err(OpenError::Broken(error)))) => Err(reason(&error.to_string())),
            // The connection has gone in between.
            Ok(Err(_)) => Err(reason("the connection was closed")),
            Err(_) => Err(reason("it does not answer")),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ReachError> {
        let (reply, answer) = oneshot::channel();
        // Not held while waiting: the node ends when nobody else has a handle.
        let commands = self.commands.upgrade().ok_or(ReachError::Gone)?;
        let sent = commands.send(command(reply)).await;
        drop(commands);
        sent.map_err(|_| ReachError::Gone)?;
        answer.await.map_err(|_| ReachError::Gone)
    }

    /// Tells the subscribers; without any there is nobody to tell.
    fn announce(&self, event: Event) {
        if let Some(events) = self.events.upgrade() {
            let _ = events.send(event);
        }
    }

    /// All files on their way, and the last that have ended.
    pub(crate) fn transfers(&self) -> Vec<TransferInfo> {
        self.shared().transfers.list()
    }

    fn transfer(&self, id: u64) -> Result<Arc<Transfer>, DecideError> {
        self.shared().transfers.get(id).ok_or(DecideError::Unknown(id))
    }

    /// Accepts or refuses a file that is offered.
    pub(crate) fn decide(&self, id: u64, accept: bool) -> Result<TransferInfo, DecideError> {
        let transfer = self.transfer(id)?;
        let decision = if accept { Decision::Accepted } else { Decision::Refused };
        if transfer.decide(decision) { Ok(transfer.info()) } else { Err(DecideError::NotOffered(id)) }
    }

    /// Ends a transfer. One that is interrupted is not gone on with.
    pub(crate) fn cancel(self: &Arc<Self>, id: u64) -> Result<TransferInfo, DecideError> {
        let transfer = self.transfer(id)?;
        let info = transfer.info();
        let interrupted = {
            let mut shared = self.shared();
            let part = transfer.take_part();
            if part.is_some() {
                shared.remember(info.peer, &transfer.offer, Ending::Unwanted);
            }
            part
        };
        if let Some(part) = interrupted {
            self.failed(&transfer, "cancelled");
            self.tasks.spawn(self.clone().throw_away(part));
            return Ok(info);
        }
        if matches!(info.state, TransferState::Done | TransferState::Failed) {
            return Err(DecideError::Over(id));
        }
        transfer.cancel.cancel();
        Ok(info)
    }

    /// Tells how far a transfer is, if it is time to.
    fn report(&self, transfer: &Transfer, done: u64) {
        if let Some(info) = transfer.progress(done, Instant::now()) {
            self.announce(Event::FileProgress(info));
        }
    }

    fn failed(&self, transfer: &Transfer, reason: impl Into<String>) {
        let info = transfer.set(TransferState::Failed, Some(reason.into()));
        tracing::info!(id = info.id, peer = %info.peer, reason = info.reason, "a file failed");
        self.announce(Event::FileFailed(info));
    }
}

/// How much of `all` one peer may have: half, so that something is left for others.
fn share_of(all: usize) -> usize {
    all.div_ceil(2)
}

/// Why a transfer could not be accepted, refused or cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// No such transfer.
    #[error("there is no file {0}; /files lists them")]
    Unknown(u64),
    /// Nothing to decide.
    #[error("file {0} is not waiting for an answer")]
    NotOffered(u64),
    /// Nothing to cancel.
    #[error("file {0} has ended already")]
    Over(u64),
}

/// Runs something that blocks, on a thread for such things.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(
            error.try_into_panic().unwrap_or_else(|_| Box::new("the runtime is shutting down")),
        ),
    }
}
