//! Files on their way, in both directions: what is known of each, and how many there may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::store::Key;
use crate::p2p::handle::Direction;
use crate::p2p::topics::as_text;

/// Files that are being sent at once. Each keeps a file open and a block in memory.
pub const MAX_SENDING: usize = 16;
/// Offers that wait for somebody's answer …
pub const MAX_OFFERED: usize = 16;
/// … and those of one peer among them.
pub const MAX_OFFERED_PER_PEER: usize = 4;
/// An offer that has waited for so long makes room for one of somebody else who offers less; before, only where that is fair.
const SHOWN_FOR: Duration = Duration::from_secs(60);
/// Ended transfers that are still listed.
const MAX_ENDED: usize = 32;
/// Time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Its hash is being computed.
    Preparing,
    /// The peer is being looked for, or connected, or tried again.
    Connecting,
    /// The peer asks somebody, or waits for a place.
    Waiting,
    /// Somebody here is asked: accept or refuse.
    Offered,
    /// Bytes flow.
    Running,
    /// Whole, and confirmed.
    Done,
    /// Given up.
    Failed,
}

impl TransferState {
    fn is_over(self) -> bool {
        matches!(self, TransferState::Done | TransferState::Failed)
    }
}

/// What is told of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferInfo {
    /// Its number on this node, until it restarts.
    pub id: u64,
    /// The other side.
    #[serde(with = "as_text")]
    pub peer: PeerId,
    /// `inbound` is received, `outbound` sent.
    pub direction: Direction,
    /// The file's name: as it is called in the folder it comes from, or made safe for the one it goes to.
    pub name: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes sent or received so far, those of earlier tries included.
    pub done: u64,
    /// Where it stands.
    pub state: TransferState,
    /// Why it failed, or what holds it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a received file is called in the folder of received files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_as: Option<String>,
}

/// Why a file does not arrive that its sender has cancelled, or cannot read any more.
pub(super) const WITHDRAWN: &str = "the sender offers it no more";

/// What becomes of an offer that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Accepted,
    Refused,
    /// Others wait, too.
    GaveWay,
}

/// One transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The offer's id, the same for each try.
    pub(super) offer: String,
    begun: Instant,
    info: Mutex<TransferInfo>,
    done: AtomicU64,
    reported: Mutex<Option<Instant>>,
    /// The part of a file that is kept for the sender's next try.
    part: Mutex<Option<Key>>,
    decision: watch::Sender<Option<Decision>>,
    /// Somebody ends it. That the node stops is no such end.
    pub(super) cancel: CancellationToken,
    /// … and it was the sender.
    withdrawn: AtomicBool,
    /// Tells the sender not to wait for its next try.
    pub(super) peer_is_back: Notify,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transfer {
    pub(super) fn info(&self) -> TransferInfo {
        TransferInfo { done: self.done.load(Relaxed), ..lock(&self.info).clone() }
    }

    /// Where it stands now, and why; gives what is to be told of it.
    pub(super) fn set(&self, state: TransferState, reason: Option<String>) -> TransferInfo {
        {
            let mut info = lock(&self.info);
            (info.state, info.reason) = (state, reason);
        }
        self.info()
    }

    pub(super) fn saved_as(&self, name: String) {
        lock(&self.info).saved_as = Some(name);
    }

    /// So many bytes are there; gives what is to be told, if it is time to tell it.
    pub(super) fn progress(&self, done: u64, now: Instant) -> Option<TransferInfo> {
        self.done.store(done, Relaxed);
        let mut reported = lock(&self.reported);
        if reported.is_some_and(|last| now < last + REPORT_EVERY) {
            return None;
        }
        *reported = Some(now);
        Some(self.info())
    }

    /// It has broken off, and the sender may go on with what is in `part`.
    pub(super) fn keep(&self, part: Key) {
        *lock(&self.part) = Some(part);
    }

    /// What is kept of it, from now on by somebody else.
    pub(super) fn take_part(&self) -> Option<Key> {
        lock(&self.part).take()
    }

    /// The sender offers it no more.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Relaxed);
        self.cancel.cancel();
    }

    /// Who has ended it, in words.
    pub(super) fn cancelled(&self) -> &'static str {
        if self.withdrawn.load(Relaxed) { WITHDRAWN } else { "cancelled" }
    }

    /// Whether nobody has decided yet.
    fn is_offered(&self) -> bool {
        lock(&self.info).state == TransferState::Offered && self.decision.borrow().is_none()
    }

    /// Decides on an offer; `false` if there is nothing to decide.
    pub(super) fn decide(&self, decided: Decision) -> bool {
        lock(&self.info).state == TransferState::Offered
            && self
                .decision
                .send_if_modified(|decision| decision.is_none() && decision.replace(decided).is_none())
    }

    /// What has been decided.
    pub(super) async fn decision(&self) -> Decision {
        let mut decisions = self.decision.subscribe();
        let decided = decisions.wait_for(Option::is_some).await;
        decided.ok().and_then(|decision| *decision).unwrap_or(Decision::Refused)
    }
}

/// A transfer that begins.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) peer: PeerId,
    pub(super) direction: Direction,
    pub(super) offer: &'a str,
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) state: TransferState,
}

/// All transfers of a node.
#[derive(Debug, Default)]
pub(super) struct Table {
    last: u64,
    entries: BTreeMap<u64, Arc<Transfer>>,
}

impl Table {
    /// A new transfer, unless there are too many of its kind.
    pub(super) fn add(&mut self, new: New<'_>, now: Instant) -> Option<Arc<Transfer>> {
        let New { peer, direction, offer, name, size, state } = new;
        match (direction, state) {
            (Direction::Outbound, _) => {
                let sending = |info: &TransferInfo| info.direction == direction && !info.state.is_over();
                if self.list().iter().filter(|info| sending(info)).count() >= MAX_SENDING {
                    return None;
                }
            }
            (Direction::Inbound, TransferState::Offered) => self.make_room_for_an_offer(peer, now)?,
            // Those under way have places of their own.
            (Direction::Inbound, _) => {}
        }
        self.forget_ended();
        // If it was offered before, that is over now.
        self.interrupted(peer, offer);
        self.last += 1;
        let id = self.last;
        let info =
            TransferInfo { id, peer, direction, name, size, done: 0, state, reason: None, saved_as: None };
        let transfer = Arc::new(Transfer {
            offer: offer.to_owned(),
            begun: now,
            info: Mutex::new(info),
            done: AtomicU64::new(0),
            reported: Mutex::new(None),
            part: Mutex::default(),
            decision: watch::Sender::new(None),
            cancel: CancellationToken::new(),
            withdrawn: AtomicBool::new(false),
            peer_is_back: Notify::new(),
        });
        self.entries.insert(id, transfer.clone());
        Some(transfer)
    }

    /// Where all places are taken, the offer that waits longest of whoever offers most gives way: at once to a peer that offers less
    /// even then, and after [`SHOWN_FOR`] to one that offers less. So neither a few names nor many keep others from being shown.
    fn make_room_for_an_offer(&self, peer: PeerId, now: Instant) -> Option<()> {
        let waiting: Vec<_> = self.entries.values().filter(|transfer| transfer.is_offered()).collect();
        let mut by_peer = HashMap::new();
        for transfer in &waiting {
            *by_peer.entry(transfer.info().peer).or_insert(0_usize) += 1;
        }
        let own = by_peer.get(&peer).copied().unwrap_or(0);
        if own >= MAX_OFFERED_PER_PEER {
            return None;
        }
        if waiting.len() < MAX_OFFERED {
            return Some(());
        }
        let most = by_peer.values().copied().max()?;
        let oldest = waiting.iter().find(|transfer| by_peer.get(&transfer.info().peer) == Some(&most))?;
        let fair = own + 1 < most || (own < most && now.duration_since(oldest.begun) >= SHOWN_FOR);
        (fair && oldest.decide(Decision::GaveWay)).then_some(())
    }

    fn forget_ended(&mut self) {
        let over = |(id, transfer): (&u64, &Arc<Transfer>)| transfer.info().state.is_over().then_some(*id);
        let ended: Vec<u64> = self.entries.iter().filter_map(over).collect();
        for id in ended.iter().rev().skip(MAX_ENDED - 1) {
            self.entries.remove(id);
        }
    }

    /// The transfer that an offer of this peer began before it was interrupted, and the part that was kept.
    pub(super) fn interrupted(&self, peer: PeerId, offer: &str) -> Option<(Arc<Transfer>, Key)> {
        let is = |transfer: &&Arc<Transfer>| transfer.offer == offer && lock(&transfer.info).peer == peer;
        let mut tries = self.entries.values().rev().filter(is);
        tries.find_map(|transfer| Some((transfer.clone(), transfer.take_part()?)))
    }

    /// What arrives or is offered under this id now.
    pub(super) fn arriving(&self, peer: PeerId, offer: &str) -> Option<Arc<Transfer>> {
        let is = |transfer: &&Arc<Transfer>| {
            let info = lock(&transfer.info);
            (transfer.offer == offer && info.peer == peer)
                && (info.direction == Direction::Inbound && !info.state.is_over())
        };
        self.entries.values().find(is).cloned()
    }

    /// Tells what is being sent to `peer` that it is connected.
    pub(super) fn connected(&self, peer: PeerId) {
        for transfer in self.entries.values() {
            let info = lock(&transfer.info);
            if (info.peer, info.direction) == (peer, Direction::Outbound) {
                transfer.peer_is_back.notify_one();
            }
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Transfer>> {
        self.entries.get(&id).cloned()
    }

    /// What is known of all, in the order in which they began.
    pub(super) fn list(&self) -> Vec<TransferInfo> {
        self.entries.values().map(|transfer| transfer.info()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        table: &mut Table,
        peer: PeerId,
        direction: Direction,
        state: TransferState,
    ) -> Option<Arc<Transfer>> {
        let new = New { peer, direction, offer: "1", name: "a".into(), size: 10, state };
        table.add(new, Instant::now())
    }

    #[test]
    fn nobody_can_fill_the_table() {
        let mut table = Table::default();
        let greedy = PeerId::random();
        let offered = |table: &mut Table, peer| add(table, peer, Direction::Inbound, TransferState::Offered);
        let own = std::iter::from_fn(|| offered(&mut table, greedy)).count();
        assert_eq!(own, MAX_OFFERED_PER_PEER);
        while offered(&mut table, PeerId::random()).is_some() {}
        assert_eq!(table.entries.values().filter(|offer| offer.is_offered()).count(), MAX_OFFERED);
        let sending = |table: &mut Table| add(table, greedy, Direction::Outbound, TransferState::Preparing);
        assert_eq!(std::iter::from_fn(|| sending(&mut table)).count(), MAX_SENDING);
        for info in table.list() {
            table.get(info.id).unwrap().set(TransferState::Failed, None);
        }
        for _ in 0..200 {
            sending(&mut table).unwrap().set(TransferState::Done, None);
        }
        assert_eq!(table.list().len(), MAX_ENDED);
        assert_eq!(table.list().last().unwrap().id, table.last);
    }

    #[test]
    fn a_few_names_do_not_keep_others_from_being_shown() {
        let mut table = Table::default();
        let start = Instant::now();
        let offer = |table: &mut Table, peer, now| {
            let (direction, state) = (Direction::Inbound, TransferState::Offered);
            table.add(New { peer, direction, offer: "1", name: "a".into(), size: 10, state }, now)
        };
        let waiting = |table: &Table, peer| {
            let is = |transfer: &&Arc<Transfer>| transfer.is_offered() && transfer.info().peer == peer;
            table.entries.values().filter(is).count()
        };
        let crowd: [PeerId; 4] = std::array::from_fn(|_| PeerId::random());
        for peer in crowd {
            while offer(&mut table, peer, start).is_some() {}
            assert_eq!(waiting(&table, peer), MAX_OFFERED_PER_PEER);
        }
        let honest = PeerId::random();
        assert!(offer(&mut table, honest, start).is_some());
        assert_eq!((waiting(&table, crowd[0]), waiting(&table, honest)), (3, 1));
        assert!(
            offer(&mut table, crowd[0], start).is_none(),
            "it would push out its like and be pushed out again"
        );
        // As many names as there are places, each with one offer: a minute is for reading them.
        let mut table = Table::default();
        let first = PeerId::random();
        assert!(offer(&mut table, first, start).is_some());
        while offer(&mut table, PeerId::random(), start + SHOWN_FOR / 2).is_some() {}
        let later = start + SHOWN_FOR;
        assert!(offer(&mut table, honest, later - Duration::from_millis(1)).is_none());
        assert!(offer(&mut table, honest, later).is_some());
        assert_eq!((waiting(&table, first), waiting(&table, honest)), (0, 1));
        assert!(offer(&mut table, first, later).is_none());
    }

    #[test]
    fn an_interrupted_transfer_is_found_once_and_by_its_offer() {
        let mut table = Table::default();
        let peer = PeerId::random();
        let broken = add(&mut table, peer, Direction::Inbound, TransferState::Running).unwrap();
        assert!(table.interrupted(peer, "1").is_none(), "nothing is kept of it");
        let key = Key::new(peer, &[1; 32], 10, "a");
        broken.keep(key.clone());
        assert!(table.interrupted(PeerId::random(), "1").is_none() && table.interrupted(peer, "2").is_none());
        assert_eq!(table.interrupted(peer, "1").unwrap().1, key);
        broken.keep(key);
        add(&mut table, peer, Direction::Inbound, TransferState::Offered).unwrap();
        assert!(table.interrupted(peer, "1").is_none(), "what is offered anew is another transfer");
    }

    #[tokio::test]
    async fn an_offer_is_decided_once() {
        let mut table = Table::default();
        let offer = add(&mut table, PeerId::random(), Direction::Inbound, TransferState::Offered).unwrap();
        assert!(offer.decide(Decision::Accepted));
        assert!(!offer.decide(Decision::Refused), "decided already");
        assert_eq!(offer.decision().await, Decision::Accepted);
        let running = add(&mut table, PeerId::random(), Direction::Inbound, TransferState::Running).unwrap();
        assert!(!running.decide(Decision::Accepted));
    }

    #[test]
    fn progress_is_told_twice_a_second() {
        let mut table = Table::default();
        let sent = add(&mut table, PeerId::random(), Direction::Outbound, TransferState::Running).unwrap();
        let start = Instant::now();
        let told = (1..=2_000).filter(|ms| sent.progress(*ms, start + Duration::from_millis(*ms)).is_some());
        assert_eq!(told.count(), 4);
        assert_eq!(sent.info().done, 2_000);
    }
}
