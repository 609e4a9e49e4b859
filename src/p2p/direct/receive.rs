//! A file that arrives: judged, asked about, written, checked, and only then put where others see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt, FutureExt};
use libp2p::PeerId;
use tokio::sync::OwnedSemaphorePermit;

use super::config::Accept;
use super::source::BLOCK;
use super::store::{Key, Part, reason};
use super::tied::Stream;
use super::transfer::{New, Transfer, TransferState};
use super::wire::{self, Answer, Begin, FrameError, MAX_FRAME_BYTES, Offer, Reason};
use super::{Desk, REMEMBERED, blocking, names};
use crate::p2p::event::Event;
use crate::p2p::handle::Direction;
use crate::p2p::metrics::Refused;

/// For a peer that has opened a stream to say what it offers.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);
/// For somebody here to accept, and for a place to become free after that.
pub(super) const ASK_FOR: Duration = Duration::from_secs(600);
/// For the sender to compare what we have with its file: it reads all of that.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence of a sender.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// A sender that needs longer than this for a quarter of a block holds a place that others could use.
const SLOWEST_PIECE: Duration = Duration::from_secs(60);
/// How long a refused sender may go on before it has read the refusal.
const LINGER: Duration = Duration::from_secs(5);

/// How a file that was to arrive did not.
enum Stop {
    /// It is not wanted, or not any more; the sender is told.
    Refuse(Reason),
    /// The sender went away, or is too slow. What is there stays for its next try.
    Broken(String),
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Stop::Broken(error.to_string()),
            FrameError::TooLong(_) | FrameError::Malformed => Stop::Refuse(Reason::Malformed),
        }
    }
}

/// What is to be done with an offer.
enum Judgement {
    Take,
    Ask,
    Have,
    Refuse(Reason),
}

/// The right to write to a part of a file; nobody else has it meanwhile.
struct Claim {
    desk: Arc<Desk>,
    key: Key,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.desk.shared().writing.remove(&self.key);
    }
}

/// Reads what a peer still sends, until it has understood. Dropped at once, the stream would take the last answer with it.
pub(super) async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let drain = async {
        let mut rest = vec![0; 4096];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl Desk {
    /// Looks after a stream on which a peer offers a file.
    pub(super) async fn receive_file(self: &Arc<Self>, peer: PeerId, mut stream: Stream) {
        let read = wire::read::<Offer>(&mut stream, MAX_FRAME_BYTES);
        let offer = match tokio::time::timeout(OFFER_TIMEOUT, read).await {
            Ok(Ok(offer)) if wire::is_id(&offer.id) => offer,
            Ok(Ok(_) | Err(FrameError::TooLong(_) | FrameError::Malformed)) => {
                return self.refuse(&mut stream, Reason::Malformed).await;
            }
            Ok(Err(FrameError::Io(_))) | Err(_) => return self.refusals.add(Refused::File, 1),
        };
        let key = Key::new(peer, &offer.sha256);
        let (store, known) = (self.store.clone(), key.clone());
        let begun = blocking(move || store.has(&known)).await;
        let transfer = match self.judge_offer(peer, &offer, begun) {
            Judgement::Take => None,
            Judgement::Have => {
                let _ = wire::write(&mut stream, &Answer::Done, MAX_FRAME_BYTES).await;
                return linger(&mut stream).await;
            }
            Judgement::Refuse(reason) => return self.refuse(&mut stream, reason).await,
            Judgement::Ask => match self.ask_about(peer, &offer, &mut stream).await {
                Ok(transfer) => Some(transfer),
                Err(Some(reason)) => return self.refuse(&mut stream, reason).await,
                Err(None) => return,
            },
        };
        self.take_file(peer, &offer, key, &mut stream, transfer).await;
    }

    fn judge_offer(&self, peer: PeerId, offer: &Offer, begun: bool) -> Judgement {
        let mut shared = self.shared();
        if !shared.offers.admit(peer, 1, Instant::now()) {
            return Judgement::Refuse(Reason::Busy);
        }
        if shared.finished.iter().any(|(from, id)| *from == peer && *id == offer.id) {
            return Judgement::Have;
        }
        let ask = match &self.config.accept {
            Accept::Always => false,
            Accept::From(peers) if peers.contains(&peer) => false,
            Accept::Never | Accept::From(_) => return Judgement::Refuse(Reason::NotAllowed),
            Accept::Ask => !begun,
        };
        if offer.size > self.config.max_file {
            return Judgement::Refuse(Reason::TooLarge);
        }
        if ask { Judgement::Ask } else { Judgement::Take }
    }

    async fn refuse(&self, stream: &mut Stream, reason: Reason) {
        self.refusals.add(Refused::File, 1);
        let answer = Answer::Refuse { reason };
        let written = wire::write(stream, &answer, MAX_FRAME_BYTES);
        if matches!(tokio::time::timeout(LINGER, written).await, Ok(Ok(()))) {
            linger(stream).await;
        }
    }

    fn begin(&self, peer: PeerId, offer: &Offer, state: TransferState) -> Option<Arc<Transfer>> {
        let name = names::safe(&offer.name);
        let new =
            New { peer, direction: Direction::Inbound, offer: &offer.id, name, size: offer.size, state };
        self.shared().transfers.add(new, &self.stop)
    }

    /// Asks whoever listens here. An error is the reason for the sender, or none where it has gone.
    async fn ask_about(
        &self,
        peer: PeerId,
        offer: &Offer,
        stream: &mut Stream,
    ) -> Result<Arc<Transfer>, Option<Reason>> {
        let transfer = self.begin(peer, offer, TransferState::Offered).ok_or(Some(Reason::Busy))?;
        self.announce(Event::FileOffered(transfer.info()));
        if wire::write(stream, &Answer::Wait, MAX_FRAME_BYTES).await.is_err() {
            self.failed(&transfer, "the sender has gone".to_owned());
            return Err(None);
        }
        let mut nothing = [0];
        let reason = tokio::select! {
            accepted = transfer.decision() => {
                if accepted {
                    transfer.set(TransferState::Waiting, None);
                    return Ok(transfer);
                }
                "refused"
            }
            () = tokio::time::sleep(ASK_FOR) => "nobody has accepted it in time",
            () = transfer.cancel.cancelled() => "cancelled",
            // It has nothing to say now: this is its end.
            _ = stream.read(&mut nothing) => {
                self.failed(&transfer, "the sender has gone".to_owned());
                return Err(None);
            }
        };
        self.failed(&transfer, reason.to_owned());
        Err(Some(Reason::Declined))
    }

    async fn take_file(
        self: &Arc<Self>,
        peer: PeerId,
        offer: &Offer,
        key: Key,
        stream: &mut Stream,
        asked: Option<Arc<Transfer>>,
    ) {
        let place = match &asked {
            Some(_) => None,
            None => match self.arriving.clone().try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return self.refuse(stream, Reason::Busy).await,
            },
        };
        let (claim, part) = match self.claim(key, offer.size).await {
            Ok(claimed) => claimed,
            Err(reason) => {
                if let Some(transfer) = &asked {
                    self.failed(transfer, reason.to_string());
                }
                return self.refuse(stream, reason).await;
            }
        };
        let transfer = asked.or_else(|| {
            let interrupted = self.shared().transfers.interrupted(peer, &offer.id);
            interrupted.or_else(|| self.begin(peer, offer, TransferState::Running))
        });
        let Some(transfer) = transfer else { return self.refuse(stream, Reason::Busy).await };
        let cancelled = transfer.cancel.clone();
        let outcome = tokio::select! {
            outcome = self.take_bytes(offer, stream, &transfer, part, place) => outcome,
            () = cancelled.cancelled() => Err(Stop::Refuse(Reason::Declined)),
        };
        match outcome {
            Ok(saved_as) => {
                transfer.saved_as(saved_as);
                let info = transfer.set(TransferState::Done, None);
                self.instruments.files_received.add(1, &[]);
                self.remember(peer, &offer.id);
                drop(claim);
                tracing::info!(%peer, name = info.saved_as, bytes = info.size, "file received");
                self.announce(Event::FileReceived(info));
                if wire::write(stream, &Answer::Done, MAX_FRAME_BYTES).await.is_ok() {
                    linger(stream).await;
                }
            }
            Err(Stop::Broken(why)) => {
                drop(claim);
                self.failed(&transfer, format!("interrupted: {why}; it goes on when the sender tries again"));
            }
            Err(Stop::Refuse(reason)) => {
                // Where a block was being written the part is on that thread; its file is found by its name.
                let (store, key) = (self.store.clone(), claim.key.clone());
                blocking(move || store.remove(&key)).await;
                drop(claim);
                let words =
                    if cancelled.is_cancelled() { "cancelled".to_owned() } else { reason.to_string() };
                self.failed(&transfer, words);
                self.refuse(stream, reason).await;
            }
        }
    }

    /// The right to write to a part of a file, and room for all of it.
    async fn claim(self: &Arc<Self>, key: Key, size: u64) -> Result<(Claim, Part), Reason> {
        let _alone = self.counting.lock().await;
        let (busy, promised) = self.busy();
        if busy.contains(&key) {
            return Err(Reason::Busy);
        }
        self.shared().writing.insert(key.clone(), size);
        let claim = Claim { desk: self.clone(), key: key.clone() };
        let (store, max_total) = (self.store.clone(), self.config.max_total);
        let opened = blocking(move || {
            if store.make_room(&key, size, promised, &busy, max_total)? {
                store.open(&key, size).map(Some)
            } else {
                Ok(None)
            }
        });
        match opened.await {
            Ok(Some(part)) => Ok((claim, part)),
            Ok(None) => Err(Reason::NoRoom),
            Err(error) => {
                tracing::warn!(%error, "no file can be received");
                Err(reason(&error))
            }
        }
    }

    async fn take_bytes(
        &self,
        offer: &Offer,
        stream: &mut Stream,
        transfer: &Transfer,
        mut part: Part,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<String, Stop> {
        let _place = match place {
            Some(place) => place,
            None => {
                let free = self.arriving.clone().acquire_owned();
                let free = tokio::time::timeout(ASK_FOR, free).await;
                free.ok().and_then(Result::ok).ok_or(Stop::Refuse(Reason::Busy))?
            }
        };
        let offset = part.length();
        let accept = Answer::Accept { offset, prefix: part.hash() };
        wire::write(stream, &accept, MAX_FRAME_BYTES).await?;
        let begin = wire::read::<Begin>(stream, MAX_FRAME_BYTES);
        let late = |_| Stop::Broken("the sender does not begin".to_owned());
        let begin = tokio::time::timeout(BEGIN_TIMEOUT, begin).await.map_err(late)??;
        match begin.offset {
            same if same == offset => {}
            0 => part.restart().map_err(|error| Stop::Refuse(reason(&error)))?,
            _ => return Err(Stop::Refuse(Reason::Malformed)),
        }
        transfer.set(TransferState::Running, None);
        self.report(transfer, part.length());
        let mut block = vec![0; BLOCK];
        while part.length() < offer.size {
            let left = usize::try_from(offer.size - part.length()).unwrap_or(usize::MAX);
            let wanted = left.min(BLOCK);
            let count = fill(stream, &mut block[..wanted]).await?;
            let written;
            (part, block, written) = blocking(move || {
                let written = part.append(&block[..count]);
                (part, block, written)
            })
            .await;
            written.map_err(|error| Stop::Refuse(reason(&error)))?;
            self.instruments.file_bytes_received.add(count as u64, &[]);
            self.report(transfer, part.length());
        }
        if part.hash() != offer.sha256 {
            return Err(Stop::Refuse(Reason::Damaged));
        }
        let (store, name) = (self.store.clone(), transfer.info().name);
        let placed = blocking(move || store.place(&part, &name)).await;
        placed.map_err(|error| Stop::Refuse(reason(&error)))
    }

    fn remember(&self, peer: PeerId, id: &str) {
        let mut shared = self.shared();
        if shared.finished.len() >= REMEMBERED {
            shared.finished.pop_front();
        }
        shared.finished.push_back((peer, id.to_owned()));
    }
}

/// Reads into `block` what comes. Larger pieces are cheaper to write, so it waits for some; but nothing that has come is lost when the
/// sender goes.
async fn fill(stream: &mut Stream, block: &mut [u8]) -> Result<usize, Stop> {
    let begun = Instant::now();
    let mut count = 0;
    while count < block.len().div_ceil(4) {
        if begun.elapsed() > SLOWEST_PIECE {
            return Err(Stop::Broken("the sender is too slow".to_owned()));
        }
        let why = match tokio::time::timeout(IDLE, stream.read(&mut block[count..])).await {
            Ok(Ok(more @ 1..)) => {
                count += more;
                continue;
            }
            // What was read stays; the next look at the stream ends like this one.
            _ if count > 0 => break,
            Ok(Ok(_)) => "the sender has stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing came for {} s", IDLE.as_secs()),
        };
        return Err(Stop::Broken(why));
    }
    while count < block.len() {
        match stream.read(&mut block[count..]).now_or_never() {
            Some(Ok(more @ 1..)) => count += more,
            _ => break,
        }
    }
    Ok(count)
}
