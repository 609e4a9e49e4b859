//! A file that arrives: judged, asked about, written, checked, and only then put where others see it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt};
use libp2p::PeerId;
use tokio_util::sync::CancellationToken;

use super::config::Accept;
use super::pieces::{PATIENCE, Piece, SLOW_PIECE, Turn, fill};
use super::source::BLOCK;
use super::store::{Key, Part, Room, reason};
use super::tied::Stream;
use super::transfer::{Decision, New, Transfer, TransferState, WITHDRAWN};
use super::wire::{self, Answer, Begin, FrameError, MAX_FRAME_BYTES, Offer, Reason};
use super::{Desk, Ending, Promise, blocking, names};
use crate::control::seats::Seat;
use crate::p2p::event::Event;
use crate::p2p::handle::Direction;
use crate::p2p::metrics::Refused;
use crate::p2p::topics::is_id;

/// For a peer that has opened a stream to say what it offers.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);
/// For somebody here to accept, and for a place to become free after that.
pub(super) const ASK_FOR: Duration = Duration::from_secs(600);
/// For the sender to compare what we have with its file: it reads all of that.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes a second that a sender reads at least of its own disk, while it compares.
const SLOWEST_DISK: f64 = 32.0 * 1024.0 * 1024.0;
/// How long a refused sender may go on before it has read the refusal.
const LINGER: Duration = Duration::from_secs(5);

/// How a file that was to arrive did not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not wanted, or not any more; the sender is told.
    Refuse(Reason),
    /// Others have its place. What is there stays for the sender's next try.
    Later,
    /// The sender went away, or is too slow. What is there stays as well.
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

/// A file that cannot be written.
fn unwritten(error: io::Error) -> Stop {
    tracing::warn!(%error, "a file cannot be received");
    Stop::Refuse(reason(&error))
}

/// What is to be done with an offer.
enum Judgement {
    Take,
    Ask,
    Have,
    Refuse(Reason),
}

/// An offer that has been read.
struct Offered {
    peer: PeerId,
    id: String,
    /// Made safe.
    name: String,
    size: u64,
    sha256: wire::Hash,
    key: Key,
}

impl Offered {
    fn new(peer: PeerId, Offer { id, name, size, sha256, .. }: Offer) -> Self {
        let name = names::safe(&name);
        let key = Key::new(peer, &sha256, size, &name);
        Self { peer, id, name, size, sha256, key }
    }

    fn begin(&self, state: TransferState) -> New<'_> {
        let (direction, name) = (Direction::Inbound, self.name.clone());
        New { peer: self.peer, direction, offer: &self.id, name, size: self.size, state }
    }
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
    /// Looks after a stream on which a peer offers a file. Its `seat` is idle before the offer and after the last answer.
    pub(super) async fn receive_file(
        self: &Arc<Self>,
        peer: PeerId,
        mut stream: Stream,
        seat: &Arc<Seat<PeerId>>,
    ) {
        let read = wire::read::<Offer>(&mut stream, MAX_FRAME_BYTES);
        let answer = match tokio::time::timeout(OFFER_TIMEOUT, read).await {
            Ok(Ok(offer)) if is_id(&offer.id) && offer.withdrawn => {
                let _busy = seat.busy();
                self.forget(Offered::new(peer, offer)).await
            }
            Ok(Ok(offer)) if is_id(&offer.id) => {
                let _busy = seat.busy();
                match self.judge(&Offered::new(peer, offer), &mut stream).await {
                    Ok(()) => Answer::Done,
                    Err(Some(reason)) => Answer::Refuse { reason },
                    Err(None) => return,
                }
            }
            Ok(Ok(_) | Err(FrameError::TooLong(_) | FrameError::Malformed)) => {
                Answer::Refuse { reason: Reason::Malformed }
            }
            Ok(Err(FrameError::Io(_))) | Err(_) => return self.refusals.add(Refused::File, 1),
        };
        if answer != Answer::Done {
            self.refusals.add(Refused::File, 1);
        }
        let written = wire::write(&mut stream, &answer, MAX_FRAME_BYTES);
        if matches!(tokio::time::timeout(LINGER, written).await, Ok(Ok(()))) {
            linger(&mut stream).await;
        }
    }

    /// Takes what is offered, if it is wanted. An error is the reason for the sender, or none where it has gone.
    async fn judge(self: &Arc<Self>, offered: &Offered, stream: &mut Stream) -> Result<(), Option<Reason>> {
        let (store, key) = (self.store.clone(), offered.key.clone());
        let begun = blocking(move || store.has(&key)).await;
        let asked = match self.judge_offer(offered, begun) {
            Judgement::Take => None,
            Judgement::Ask => Some(self.ask_about(offered, stream).await?),
            Judgement::Have => return Ok(()),
            Judgement::Refuse(reason) => {
                // The configuration has changed since it began.
                if begun && matches!(reason, Reason::NotAllowed | Reason::TooLarge) {
                    self.clone().throw_away(offered.key.clone()).await;
                }
                return Err(Some(reason));
            }
        };
        self.take_file(offered, stream, asked).await
    }

    /// The sender offers it no more: what has arrived is of no use.
    async fn forget(self: &Arc<Self>, offered: Offered) -> Answer {
        let (interrupted, arriving) = {
            let mut shared = self.shared();
            if !shared.offers.admit(offered.peer, 1, Instant::now()) {
                return Answer::Refuse { reason: Reason::Busy };
            }
            let transfers = &shared.transfers;
            (transfers.interrupted(offered.peer, &offered.id), transfers.arriving(offered.peer, &offered.id))
        };
        if let Some((transfer, _)) = interrupted {
            self.failed(&transfer, WITHDRAWN);
        }
        if let Some(transfer) = arriving {
            // It removes its part itself.
            transfer.withdraw();
        }
        self.clone().throw_away(offered.key).await;
        Answer::Done
    }

    fn judge_offer(&self, offered: &Offered, begun: bool) -> Judgement {
        let mut shared = self.shared();
        if !shared.offers.admit(offered.peer, 1, Instant::now()) {
            return Judgement::Refuse(Reason::Busy);
        }
        match shared.ending(offered.peer, &offered.id, &offered.key) {
            Some(Ending::Received(_)) => return Judgement::Have,
            Some(Ending::Unwanted) => return Judgement::Refuse(Reason::Declined),
            None => {}
        }
        let ask = match &self.config.accept {
            Accept::Always => false,
            Accept::From(peers) if peers.contains(&offered.peer) => false,
            Accept::Never | Accept::From(_) => return Judgement::Refuse(Reason::NotAllowed),
            Accept::Ask => !begun,
        };
        if offered.size > self.config.max_file {
            return Judgement::Refuse(Reason::TooLarge);
        }
        if ask { Judgement::Ask } else { Judgement::Take }
    }

    /// Asks whoever listens here.
    async fn ask_about(
        &self,
        offered: &Offered,
        stream: &mut Stream,
    ) -> Result<Arc<Transfer>, Option<Reason>> {
        let new = offered.begin(TransferState::Offered);
        let transfer = self.shared().transfers.add(new, Instant::now()).ok_or(Some(Reason::Busy))?;
        self.announce(Event::FileOffered(transfer.info()));
        let gone = ("the sender has gone", None);
        let mut nothing = [0];
        let answered = async {
            if wire::write(stream, &Answer::Wait, MAX_FRAME_BYTES).await.is_ok() {
                // It has nothing to say now: this is its end.
                let _ = stream.read(&mut nothing).await;
            }
        };
        let (why, reason) = tokio::select! {
            decision = transfer.decision() => match decision {
                Decision::Accepted => {
                    transfer.set(TransferState::Waiting, None);
                    return Ok(transfer);
                }
                Decision::Refused => ("refused", Some(Reason::Declined)),
                Decision::GaveWay => ("others wait, too; it comes back when the sender tries again", Some(Reason::Busy)),
            },
            () = transfer.cancel.cancelled() => (transfer.cancelled(), Some(Reason::Declined)),
            () = tokio::time::sleep(ASK_FOR) => ("nobody has accepted it in time", Some(Reason::Declined)),
            () = answered => gone,
        };
        if reason == Some(Reason::Declined) {
            self.shared().remember(offered.peer, &offered.id, Ending::Unwanted);
        }
        self.failed(&transfer, why);
        Err(reason)
    }

    async fn take_file(
        self: &Arc<Self>,
        offered: &Offered,
        stream: &mut Stream,
        asked: Option<Arc<Transfer>>,
    ) -> Result<(), Option<Reason>> {
        let give_way = CancellationToken::new();
        // What somebody has just accepted waits for a place; everybody else is told to come back.
        let place = match &asked {
            Some(_) => None,
            None => {
                let place = self.arriving.take(offered.peer, give_way.clone()).seat();
                Some(place.ok_or(Some(Reason::Busy))?)
            }
        };
        let known = asked.or_else(|| self.go_on(offered));
        let (claim, part) = match (self.claim(offered).await, &known) {
            (Ok(claimed), _) => claimed,
            (Err(Reason::Busy), Some(transfer)) => {
                let (store, key) = (self.store.clone(), offered.key.clone());
                if let Err(error) = blocking(move || store.consent(&key)).await {
                    tracing::warn!(%error, "that a file is wanted could not be written down");
                }
                self.interrupt(transfer, offered, Reason::Busy.here());
                return Err(Some(Reason::Busy));
            }
            (Err(reason), known) => {
                if let Some(transfer) = known {
                    self.failed(transfer, reason.here());
                }
                if reason != Reason::Busy {
                    self.clone().throw_away(offered.key.clone()).await;
                }
                return Err(Some(reason));
            }
        };
        let new = offered.begin(TransferState::Running);
        let begun = known.or_else(|| self.shared().transfers.add(new, Instant::now()));
        let transfer = begun.ok_or(Some(Reason::Busy))?;
        let taken = tokio::select! {
            biased;
            () = transfer.cancel.cancelled() => Err(Stop::Refuse(Reason::Declined)),
            taken = self.take_bytes(offered, stream, &transfer, part, place, &give_way) => taken,
        };
        match taken {
            Ok(saved_as) => {
                transfer.saved_as(saved_as);
                let info = transfer.set(TransferState::Done, None);
                self.instruments.files_received.add(1, &[]);
                self.shared().remember(offered.peer, &offered.id, Ending::Received(offered.key.clone()));
                drop(claim);
                tracing::info!(peer = %info.peer, name = info.saved_as, bytes = info.size, "file received");
                self.announce(Event::FileReceived(info));
                Ok(())
            }
            Err(Stop::Later) => {
                drop(claim);
                self.interrupt(&transfer, offered, "others have its place");
                Err(Some(Reason::Busy))
            }
            Err(Stop::Broken(why)) => {
                drop(claim);
                self.interrupt(&transfer, offered, &why);
                Err(None)
            }
            Err(Stop::Refuse(reason)) => {
                // Where a block was being written the part is on that thread; its file is found by its name.
                let (store, key) = (self.store.clone(), offered.key.clone());
                blocking(move || store.remove(&key)).await;
                drop(claim);
                if transfer.cancel.is_cancelled() {
                    self.shared().remember(offered.peer, &offered.id, Ending::Unwanted);
                    self.failed(&transfer, transfer.cancelled());
                } else {
                    self.failed(&transfer, reason.here());
                }
                Err(Some(reason))
            }
        }
    }

    /// The transfer that was interrupted, if the same file is offered again.
    fn go_on(&self, offered: &Offered) -> Option<Arc<Transfer>> {
        let (transfer, part) = self.shared().transfers.interrupted(offered.peer, &offered.id)?;
        (part == offered.key).then(|| {
            transfer.set(TransferState::Waiting, None);
            transfer
        })
    }

    fn interrupt(&self, transfer: &Transfer, offered: &Offered, why: &str) {
        transfer.keep(offered.key.clone());
        self.failed(transfer, format!("interrupted: {why}; it goes on when the sender tries again"));
    }

    /// The right to write to a part of a file, and room for all of it.
    async fn claim(self: &Arc<Self>, offered: &Offered) -> Result<(Claim, Part), Reason> {
        let _alone = self.counting.lock().await;
        let (size, max_total) = (offered.size, self.config.max_total);
        let (claim, busy, promised) = {
            let mut shared = self.shared();
            let busy: Vec<Key> = shared.writing.keys().cloned().collect();
            let sum = |sum: u64, promise: &Promise| sum.saturating_add(promise.size);
            let promised = shared.writing.values().fold(0, sum);
            let own = shared.writing.values().filter(|promise| promise.peer == offered.peer).fold(0, sum);
            if busy.contains(&offered.key) || (own > 0 && own.saturating_add(size) > max_total / 2) {
                return Err(Reason::Busy);
            }
            shared.writing.insert(offered.key.clone(), Promise { peer: offered.peer, size });
            (Claim { desk: self.clone(), key: offered.key.clone() }, busy, promised)
        };
        let (store, key) = (self.store.clone(), offered.key.clone());
        let opened = blocking(move || match store.make_room(&key, size, promised, &busy, max_total)? {
            Room::Fits => store.open(&key, size).map(Ok),
            Room::Later => Ok(Err(Reason::Busy)),
            Room::Full => Ok(Err(Reason::NoRoom)),
        });
        match opened.await {
            Ok(Ok(part)) => Ok((claim, part)),
            Ok(Err(full)) => {
                if full == Reason::Busy {
                    // Whoever sends slowly must not keep room from others for as long as it likes.
                    self.arriving.give_up_one();
                }
                Err(full)
            }
            Err(error) => {
                tracing::warn!(%error, "no file can be received");
                Err(reason(&error))
            }
        }
    }

    /// Takes a part off the disk, unless somebody writes to it.
    pub(super) async fn throw_away(self: Arc<Self>, key: Key) {
        let _alone = self.counting.lock().await;
        if !self.shared().writing.contains_key(&key) {
            let store = self.store.clone();
            blocking(move || store.remove(&key)).await;
        }
    }

    async fn take_bytes(
        &self,
        offered: &Offered,
        stream: &mut Stream,
        transfer: &Transfer,
        mut part: Part,
        place: Option<Arc<Seat<PeerId>>>,
        give_way: &CancellationToken,
    ) -> Result<String, Stop> {
        let place = match place {
            Some(place) => place,
            None => {
                let free = self.arriving.wait(offered.peer, give_way.clone());
                tokio::time::timeout(ASK_FOR, free).await.map_err(|_| Stop::Later)?
            }
        };
        let mut turn = Turn::new(&place, give_way);
        // A newcomer has nothing to lose yet. Whoever has sent something before reads that again.
        let reading = Duration::from_secs_f64(part.length() as f64 / SLOWEST_DISK);
        if part.length() > 0 {
            turn.goes_on();
        }
        let begin = turn.wait(reading, agree(stream, &part)).await?;
        match begin.offset {
            same if same == part.length() => {}
            0 => part.restart().map_err(unwritten)?,
            _ => return Err(Stop::Refuse(Reason::Malformed)),
        }
        transfer.set(TransferState::Running, None);
        self.report(transfer, part.length());
        let mut block = vec![0; BLOCK];
        while part.length() < offered.size {
            let left = usize::try_from(offered.size - part.length()).unwrap_or(usize::MAX);
            let wanted = left.min(BLOCK);
            let taken = turn.taken(SLOW_PIECE);
            let Piece { count, end } = fill(stream, &mut block[..wanted], PATIENCE, taken).await;
            turn.goes_on();
            // Nothing ends this before it is written: the next try begins where it ends.
            let written;
            (part, block, written) = blocking(move || {
                let written = part.append(&block[..count]);
                (part, block, written)
            })
            .await;
            written.map_err(unwritten)?;
            self.instruments.file_bytes_received.add(count as u64, &[]);
            self.report(transfer, part.length());
            if let Some(end) = end {
                return Err(end);
            }
        }
        if part.hash() != offered.sha256 {
            return Err(Stop::Refuse(Reason::Damaged));
        }
        let (store, name, stop) = (self.store.clone(), offered.name.clone(), self.stop.clone());
        let placed = blocking(move || {
            part.sync()?;
            // Told to nobody, it would come once more after the restart.
            if stop.is_cancelled() { Ok(None) } else { store.place(&part, &name).map(Some) }
        });
        placed.await.map_err(unwritten)?.ok_or(Stop::Later)
    }
}

/// Agrees with the sender on where it begins.
async fn agree(stream: &mut Stream, part: &Part) -> Result<Begin, Stop> {
    let accept = Answer::Accept { offset: part.length(), prefix: part.hash() };
    wire::write(stream, &accept, MAX_FRAME_BYTES).await?;
    let begin = wire::read::<Begin>(stream, MAX_FRAME_BYTES);
    let late = |_| Stop::Broken("the sender does not begin".to_owned());
    Ok(tokio::time::timeout(BEGIN_TIMEOUT, begin).await.map_err(late)??)
}
