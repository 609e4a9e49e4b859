//! Files on their way, in both directions: what is known of each, and how many there may be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::p2p::handle::Direction;
use crate::p2p::topics::as_text;

/// Files that are being sent at once. Each keeps a file open and a block in memory.
pub const MAX_SENDING: usize = 16;
/// Offers that wait for somebody's answer …
pub const MAX_OFFERED: usize = 16;
/// … and those of one peer among them.
pub const MAX_OFFERED_PER_PEER: usize = 4;
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

/// One transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The offer's id, the same for each try.
    offer: String,
    info: Mutex<TransferInfo>,
    done: AtomicU64,
    reported: Mutex<Option<Instant>>,
    /// Whether somebody has accepted or refused.
    decision: watch::Sender<Option<bool>>,
    /// Ends it.
    pub(super) cancel: CancellationToken,
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

    /// Accepts or refuses an offer; `false` if there is nothing to decide.
    pub(super) fn decide(&self, accept: bool) -> bool {
        lock(&self.info).state == TransferState::Offered
            && self
                .decision
                .send_if_modified(|decision| decision.is_none() && decision.replace(accept).is_none())
    }

    /// What somebody has decided.
    pub(super) async fn decision(&self) -> bool {
        let mut decisions = self.decision.subscribe();
        let decided = decisions.wait_for(Option::is_some).await;
        decided.ok().and_then(|decision| *decision).unwrap_or(false)
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
    pub(super) fn add(&mut self, new: New<'_>, parent: &CancellationToken) -> Option<Arc<Transfer>> {
        let New { peer, direction, offer, name, size, state } = new;
        let mut alike = 0;
        let mut of_peer = 0;
        for info in self.entries.values().map(|transfer| transfer.info()) {
            let same = match direction {
                Direction::Outbound => !info.state.is_over(),
                Direction::Inbound => info.state == TransferState::Offered,
            };
            if info.direction == direction && same {
                alike += 1;
                of_peer += usize::from(info.peer == peer);
            }
        }
        let full = match (direction, state) {
            (Direction::Outbound, _) => alike >= MAX_SENDING,
            (Direction::Inbound, TransferState::Offered) => {
                alike >= MAX_OFFERED || of_peer >= MAX_OFFERED_PER_PEER
            }
            // Those under way have places of their own.
            (Direction::Inbound, _) => false,
        };
        if full {
            return None;
        }
        self.forget_ended();
        self.last += 1;
        let id = self.last;
        let info =
            TransferInfo { id, peer, direction, name, size, done: 0, state, reason: None, saved_as: None };
        let transfer = Arc::new(Transfer {
            offer: offer.to_owned(),
            info: Mutex::new(info),
            done: AtomicU64::new(0),
            reported: Mutex::new(None),
            decision: watch::Sender::new(None),
            cancel: parent.child_token(),
            peer_is_back: Notify::new(),
        });
        self.entries.insert(id, transfer.clone());
        Some(transfer)
    }

    fn forget_ended(&mut self) {
        let over = |(id, transfer): (&u64, &Arc<Transfer>)| transfer.info().state.is_over().then_some(*id);
        let ended: Vec<u64> = self.entries.iter().filter_map(over).collect();
        for id in ended.iter().rev().skip(MAX_ENDED - 1) {
            self.entries.remove(id);
        }
    }

    /// The transfer that an offer of this peer began before it was interrupted.
    pub(super) fn interrupted(&self, peer: PeerId, offer: &str) -> Option<Arc<Transfer>> {
        let is = |transfer: &&Arc<Transfer>| {
            let info = transfer.info();
            transfer.offer == offer
                && (info.peer, info.direction) == (peer, Direction::Inbound)
                && info.state == TransferState::Failed
        };
        self.entries.values().rev().find(is).cloned()
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
        table.add(new, &CancellationToken::new())
    }

    #[test]
    fn nobody_can_fill_the_table() {
        let mut table = Table::default();
        let greedy = PeerId::random();
        let offered = |table: &mut Table, peer| add(table, peer, Direction::Inbound, TransferState::Offered);
        let own = std::iter::from_fn(|| offered(&mut table, greedy)).count();
        assert_eq!(own, MAX_OFFERED_PER_PEER);
        let all = own + std::iter::from_fn(|| offered(&mut table, PeerId::random())).count();
        assert_eq!(all, MAX_OFFERED);
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

    #[tokio::test]
    async fn an_offer_is_decided_once() {
        let mut table = Table::default();
        let offer = add(&mut table, PeerId::random(), Direction::Inbound, TransferState::Offered).unwrap();
        assert!(offer.decide(true));
        assert!(!offer.decide(false), "decided already");
        assert!(offer.decision().await);
        let running = add(&mut table, PeerId::random(), Direction::Inbound, TransferState::Running).unwrap();
        assert!(!running.decide(true));
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
