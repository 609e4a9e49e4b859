//! A file that is sent: hashed, offered, sent from where the receiver wants it, and again after a break.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::PeerId;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::journal::{self, Entry};
use super::pieces::IDLE;
use super::receive::ASK_FOR;
use super::source::{BLOCK, Source, SourceError};
use super::streams::FILES;
use super::tied::Stream;
use super::transfer::{MAX_SENDING, New, Transfer, TransferInfo, TransferState};
use super::wire::{self, Answer, Begin, FrameError, MAX_FRAME_BYTES, Offer, Reason};
use super::{Desk, ReachError, blocking};
use crate::p2p::event::Event;
use crate::p2p::handle::Direction;

/// For a receiver to answer an offer: it may read what it has of the file first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// For a receiver to put the file on its disk and confirm it.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(120);
/// After a write has failed: for a refusal that has arrived before.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after the first break; doubles, begins anew whenever something arrived, and ends when the peer is connected again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// For the peer to hear that a file will not come.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(10);
/// So long without getting any further, and the file is given up.
const GIVE_UP: Duration = Duration::from_secs(600);

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendFileError {
    /// To this node itself.
    #[error("that is this node itself")]
    Myself,
    /// The file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Too many at once.
    #[error("{MAX_SENDING} files are being sent already; wait for one, or cancel one")]
    TooMany,
    /// The node has stopped.
    #[error("the node has stopped")]
    Gone,
}

/// How a try ended without success.
enum Stop {
    /// Another try may go better.
    Again(String),
    /// None will, since the peer does not want it.
    Never(String),
    /// None will, since the file is not what it was.
    Withdrawn(String),
    /// Nobody knows the peer. At the first try most likely a mistake, later one of those things.
    Unknown(String),
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        Stop::Again(error.to_string())
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Stop::Withdrawn(error.to_string())
    }
}

impl From<ReachError> for Stop {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Unknown(_) => Stop::Unknown(error.to_string()),
            ReachError::Unsupported(_) | ReachError::Myself => Stop::Never(error.to_string()),
            _ => Stop::Again(error.to_string()),
        }
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Busy | Reason::TooFast => Stop::Again(reason.to_string()),
            _ => Stop::Never(reason.to_string()),
        }
    }
}

fn silent<E>(_: E) -> Stop {
    Stop::Again("the peer does not answer".to_owned())
}

impl Desk {
    /// Begins to send a file; what becomes of it comes as events.
    pub(crate) async fn send_file(
        self: &Arc<Self>,
        peer: PeerId,
        path: PathBuf,
    ) -> Result<TransferInfo, SendFileError> {
        if self.stop.is_cancelled() {
            return Err(SendFileError::Gone);
        }
        if peer == self.local {
            return Err(SendFileError::Myself);
        }
        let unreadable = |source| SourceError::Read { path: path.clone(), source };
        let path = std::path::absolute(&path).map_err(unreadable)?;
        let entry = Entry { id: format!("{:032x}", rand::random::<u128>()), peer, path };
        let opened = entry.path.clone();
        let source = blocking(move || Source::open(&opened)).await?;
        let transfer = self.enlist(&entry, source.size()).ok_or(SendFileError::TooMany)?;
        let (folder, written) = (self.journal.clone(), entry.clone());
        if let Err(error) = blocking(move || journal::write(&folder, &written)).await {
            tracing::warn!(%error, "the file will not be sent on after a restart");
        }
        let info = transfer.info();
        self.tasks.spawn(self.clone().send(transfer, entry, Ok(source), Since::Now));
        Ok(info)
    }

    fn enlist(&self, entry: &Entry, size: u64) -> Option<Arc<Transfer>> {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let state = TransferState::Preparing;
        let (peer, direction) = (entry.peer, Direction::Outbound);
        let new = New { peer, direction, offer: &entry.id, name, size, state };
        self.shared().transfers.add(new, Instant::now())
    }

    /// Goes on with what was being sent when the node stopped.
    pub(crate) fn resume(self: &Arc<Self>) {
        if !self.journal.exists() {
            return;
        }
        let desk = self.clone();
        self.tasks.spawn(async move {
            let folder = desk.journal.clone();
            let open = |entry: Entry| {
                let source = Source::open(&entry.path);
                (entry, source)
            };
            let entries =
                blocking(move || journal::load(&folder).into_iter().map(open).collect::<Vec<_>>()).await;
            for (entry, source) in entries {
                let size = source.as_ref().map_or(0, Source::size);
                if let Some(transfer) = desk.enlist(&entry, size) {
                    desk.tasks.spawn(desk.clone().send(transfer, entry, source, Since::Before));
                }
            }
        });
    }

    async fn send(
        self: Arc<Self>,
        transfer: Arc<Transfer>,
        entry: Entry,
        source: Result<Source, SourceError>,
        since: Since,
    ) {
        // What the peer knows of.
        let offered = OnceLock::new();
        let outcome = match source {
            Err(error) => Err(Failed::Ours(error.to_string())),
            Ok(source) => tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = transfer.cancel.cancelled() => Err(Failed::Ours("cancelled".to_owned())),
                outcome = self.deliver(&transfer, &entry, source, since, &offered) => outcome,
            },
        };
        let peer = entry.peer;
        let folder = self.journal.clone();
        blocking(move || journal::remove(&folder, &entry.id)).await;
        match outcome {
            Ok(()) => {
                self.instruments.files_sent.add(1, &[]);
                let info = transfer.info();
                transfer.progress(info.size, Instant::now());
                self.announce(Event::FileSent(transfer.set(TransferState::Done, None)));
            }
            Err(Failed::Theirs(reason)) => self.failed(&transfer, reason),
            Err(Failed::Ours(reason)) => {
                self.failed(&transfer, reason);
                if let Some(offer) = offered.into_inner() {
                    let told = tokio::time::timeout(WITHDRAW_TIMEOUT, self.withdraw(peer, offer));
                    let _ = self.stop.run_until_cancelled(told).await;
                }
            }
        }
    }

    /// Tells the peer that the file will not come. One that cannot be told throws away what it has after some days.
    async fn withdraw(&self, peer: PeerId, offer: Offer) -> Result<(), Stop> {
        let mut stream = self.stream_to(peer, FILES).await?;
        let offer = Offer { withdrawn: true, ..offer };
        wire::write(&mut stream, &offer, MAX_FRAME_BYTES).await?;
        wire::read::<Answer>(&mut stream, MAX_FRAME_BYTES).await?;
        Ok(())
    }

    /// Tries until the file is there, is refused, or nothing has moved for too long.
    async fn deliver(
        &self,
        transfer: &Transfer,
        entry: &Entry,
        source: Source,
        since: Since,
        offered: &OnceLock<Offer>,
    ) -> Result<(), Failed> {
        let size = source.size();
        let (source, hash) = {
            let (_ends_with_this, over) = ends_with_this();
            with(source, move |source| source.hash(size, &over)).await
        };
        let sha256 = hash.map_err(|error| Failed::Ours(error.to_string()))?;
        let name = transfer.info().name;
        let offer = Offer { id: entry.id.clone(), name, size, sha256, withdrawn: false };
        let mut slot = Some(source);
        let mut furthest = 0;
        let mut pause = FIRST_PAUSE;
        let mut give_up = Instant::now() + GIVE_UP;
        let mut known = since == Since::Before;
        loop {
            transfer.set(TransferState::Connecting, None);
            let reason = match self.attempt(transfer, entry.peer, &offer, &mut slot, offered).await {
                Ok(()) => return Ok(()),
                Err(Stop::Never(reason)) => return Err(Failed::Theirs(reason)),
                Err(Stop::Withdrawn(reason)) => return Err(Failed::Ours(reason)),
                Err(Stop::Unknown(reason)) if !known => return Err(Failed::Theirs(reason)),
                Err(Stop::Unknown(reason) | Stop::Again(reason)) => reason,
            };
            known = true;
            let done = transfer.info().done;
            if done > furthest {
                furthest = done;
                pause = FIRST_PAUSE;
                give_up = Instant::now() + GIVE_UP;
            }
            if Instant::now() > give_up {
                return Err(Failed::Theirs(reason));
            }
            if slot.is_none() {
                // It was lost with a thread that read from it when the try ended.
                let path = entry.path.clone();
                let source = blocking(move || Source::open(&path)).await;
                let source = source.map_err(|error| Failed::Ours(error.to_string()))?;
                slot = Some(source);
            }
            tracing::debug!(peer = %entry.peer, reason, ?pause, "a file could not be sent; trying again");
            transfer.set(TransferState::Connecting, Some(reason));
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)) => {}
                () = transfer.peer_is_back.notified() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(
        &self,
        transfer: &Transfer,
        peer: PeerId,
        offer: &Offer,
        slot: &mut Option<Source>,
        offered: &OnceLock<Offer>,
    ) -> Result<(), Stop> {
        let mut stream = self.stream_to(peer, FILES).await?;
        // What was told of the connection that the stream is on.
        let _ = transfer.peer_is_back.notified().now_or_never();
        let _ = offered.set(offer.clone());
        wire::write(&mut stream, offer, MAX_FRAME_BYTES).await?;
        let (offset, prefix) = loop {
            let waiting = transfer.info().state == TransferState::Waiting;
            let patience = if waiting { 2 * ASK_FOR + ANSWER_TIMEOUT } else { ANSWER_TIMEOUT };
            let answer = wire::read::<Answer>(&mut stream, MAX_FRAME_BYTES);
            match tokio::time::timeout(patience, answer).await.map_err(silent)?? {
                // Once is enough to say; more would be an event each.
                Answer::Wait if waiting => {
                    return Err(Stop::Again("the peer answers what was not asked".to_owned()));
                }
                Answer::Wait => {
                    let info = transfer.set(TransferState::Waiting, None);
                    self.announce(Event::FileProgress(info));
                }
                Answer::Accept { offset, prefix } => break (offset, prefix),
                Answer::Refuse { reason } => return Err(reason.into()),
                Answer::Done => return Ok(()),
            }
        };
        if offset > offer.size {
            return Err(Stop::Again("the peer wants more than the file has".to_owned()));
        }
        let Some(source) = slot.take() else { return Err(Stop::Again("interrupted".to_owned())) };
        let (_ends_with_this, over) = ends_with_this();
        let (source, same) = with(source, move |source| {
            source.check_unchanged()?;
            let same = source.hash(offset, &over)? == prefix;
            source.seek(if same { offset } else { 0 })?;
            Ok::<_, SourceError>(same)
        })
        .await;
        let begin = Begin { offset: if same? { offset } else { 0 } };
        wire::write(&mut stream, &begin, MAX_FRAME_BYTES).await?;
        transfer.set(TransferState::Running, None);
        self.send_bytes(transfer, offer, begin.offset, stream, source, slot).await
    }

    async fn send_bytes(
        &self,
        transfer: &Transfer,
        offer: &Offer,
        offset: u64,
        stream: Stream,
        mut source: Source,
        slot: &mut Option<Source>,
    ) -> Result<(), Stop> {
        let (mut reader, mut writer) = stream.split();
        let verdict = wire::read::<Answer>(&mut reader, MAX_FRAME_BYTES);
        tokio::pin!(verdict);
        let judged = |verdict: Result<Answer, FrameError>| match verdict? {
            Answer::Done => Ok(()),
            Answer::Refuse { reason } => Err(reason.into()),
            _ => Err(Stop::Again("the peer answers what was not asked".to_owned())),
        };
        let mut block = vec![0; BLOCK];
        let mut done = offset;
        self.report(transfer, done);
        while done < offer.size {
            let left = offer.size - done;
            let read;
            (source, (block, read)) = with(source, move |source| {
                let read = source.read(&mut block, left);
                (block, read)
            })
            .await;
            let count = read?;
            let write = tokio::time::timeout(IDLE, writer.write_all(&block[..count]));
            let written = tokio::select! {
                biased;
                verdict = &mut verdict => {
                    *slot = Some(source);
                    return judged(verdict);
                }
                written = write => written,
            };
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    *slot = Some(source);
                    // It may have said why.
                    return match tokio::time::timeout(REFUSAL_TIMEOUT, verdict).await {
                        Ok(Ok(answer)) => judged(Ok(answer)),
                        _ => Err(Stop::Again(error.to_string())),
                    };
                }
                Err(_) => {
                    *slot = Some(source);
                    return Err(Stop::Again(format!("the peer took nothing for {} s", IDLE.as_secs())));
                }
            }
            done += count as u64;
            self.instruments.file_bytes_sent.add(count as u64, &[]);
            self.report(transfer, done);
        }
        *slot = Some(source);
        let confirmed = async {
            if let Err(error) = writer.flush().await {
                tracing::trace!(%error, "the end of a file was not flushed");
            }
            verdict.await
        };
        let verdict = tokio::time::timeout(CONFIRM_TIMEOUT, confirmed).await.map_err(silent)?;
        judged(verdict)
    }
}

/// Why a file was not sent.
enum Failed {
    /// The peer does not want it, or is not there.
    Theirs(String),
    /// Somebody here has cancelled it, or it is not what it was.
    Ours(String),
}

/// When somebody asked for a file to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Just now, and may have mistyped the peer.
    Now,
    /// Before the node was started.
    Before,
}

/// Tells a thread that nobody waits for it any more: the token is cancelled when the guard is dropped.
fn ends_with_this() -> (DropGuard, CancellationToken) {
    let over = CancellationToken::new();
    (over.clone().drop_guard(), over)
}

/// Runs something that blocks on a file that is sent.
async fn with<T: Send + 'static>(
    mut source: Source,
    work: impl FnOnce(&mut Source) -> T + Send + 'static,
) -> (Source, T) {
    blocking(move || {
        let done = work(&mut source);
        (source, done)
    })
    .await
}
