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
mod places;
mod receive;
mod send;
mod source;
mod store;
pub(crate) mod streams;
mod tied;
pub mod transfer;
mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
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
use crate::telemetry::instruments::P2pInstruments;
use crate::token_bucket::Rate;
use config::FilesConfig;
pub use letters::{MessageError, PrivateMessage};
use places::Places;
pub use send::SendFileError;
pub use source::SourceError;
pub use store::RECEIVED;
use store::{Key, Store};
use streams::{Arrived, FILES, MESSAGES, OpenError};
use tied::Stream;
use transfer::{Table, Transfer, TransferInfo, TransferState};
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
/// Finished offers that are remembered, so that one whose confirmation was lost is not received twice.
const REMEMBERED: usize = 256;

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
    places: Arc<Places>,
    shared: Mutex<Shared>,
    /// Private messages that are being sent.
    letters: Semaphore,
    /// Files that are arriving.
    arriving: Arc<Semaphore>,
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
    /// Parts of files that somebody is writing to, with the size that each will have.
    writing: HashMap<Key, u64>,
    /// Peers and ids of the offers that were finished.
    finished: VecDeque<(PeerId, String)>,
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
        let places = usize::try_from(parts.config.max_transfers).unwrap_or(usize::MAX);
        Arc::new(Self {
            local: parts.local,
            config: parts.config,
            store: Store::new(parts.folder),
            journal: parts.folder.join(journal::FOLDER),
            commands: parts.commands,
            events: parts.events,
            instruments: parts.instruments,
            refusals: parts.refusals,
            places: Arc::default(),
            shared: Mutex::new(Shared {
                transfers: Table::default(),
                letters: RateLimiter::new(MESSAGE_RATE, MAX_AUTHORS),
                offers: RateLimiter::new(OFFER_RATE, MAX_AUTHORS),
                writing: HashMap::new(),
                finished: VecDeque::new(),
            }),
            letters: Semaphore::new(letters::MAX_SENDING),
            arriving: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
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
        let Some(place) = self.places.take(peer) else {
            self.refusals.add(Refused::Stream, 1);
            return;
        };
        let desk = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let work = async {
                if protocol == MESSAGES {
                    desk.receive_letter(peer, stream).await;
                } else if protocol == FILES {
                    desk.receive_file(peer, stream).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            drop(place);
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
        if transfer.decide(accept) { Ok(transfer.info()) } else { Err(DecideError::NotOffered(id)) }
    }

    /// Ends a transfer.
    pub(crate) fn cancel(&self, id: u64) -> Result<TransferInfo, DecideError> {
        let transfer = self.transfer(id)?;
        let info = transfer.info();
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

    fn failed(&self, transfer: &Transfer, reason: String) {
        let info = transfer.set(TransferState::Failed, Some(reason));
        tracing::info!(id = info.id, peer = %info.peer, reason = info.reason, "a file failed");
        self.announce(Event::FileFailed(info));
    }

    /// The parts of files that are being written, and what is still to come of them.
    fn busy(&self) -> (Vec<Key>, u64) {
        let shared = self.shared();
        let promised = shared.writing.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        (shared.writing.keys().cloned().collect::<HashSet<_>>().into_iter().collect(), promised)
    }
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
