//! The WebRTC connections that clients report, counted once each by type of path.
//!
//! A connection has two ends and may be reported by both. It counts as what the worse of the two says: a
//! connection relayed for one end is relayed.

use std::collections::{HashMap, HashSet};

use super::names::Id;
use super::wire::ConnectionType;

/// Most connections one client may have counted at once. A browser slows down long before.
pub(super) const MAX_REPORTS_PER_CLIENT: usize = 64;

/// A room and two peers in it, the smaller id first.
type Pair = (Id, Id, Id);

/// Reported connections by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Host to host.
    pub direct: u64,
    /// Through addresses learnt from STUN.
    pub stun: u64,
    /// Relayed.
    pub turn: u64,
}

impl Counts {
    fn of(&mut self, kind: ConnectionType) -> &mut u64 {
        match kind {
            ConnectionType::Direct => &mut self.direct,
            ConnectionType::Stun => &mut self.stun,
            ConnectionType::Turn => &mut self.turn,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// What the smaller and the greater id say of their connection.
    pairs: HashMap<Pair, [Option<ConnectionType>; 2]>,
    /// With whom a peer is in a pair.
    partners: HashMap<(Id, Id), HashSet<Id>>,
    counts: Counts,
}

/// The client has as many connections counted as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Reports {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes note that `from` has a connection with `to`, or with `None` that it has none.
    pub(super) fn set(
        &mut self,
        room: &Id,
        from: &Id,
        to: &Id,
        kind: Option<ConnectionType>,
    ) -> Result<(), TooMany> {
        let (pair, end) = pair(room, from, to);
        let before = self.pairs.get(&pair).copied().unwrap_or_default();
        if kind.is_some() && before[end].is_none() && self.reported_by(room, from) >= MAX_REPORTS_PER_CLIENT {
            return Err(TooMany);
        }
        let mut after = before;
        after[end] = kind;
        self.recount(before, after);
        if after == [None, None] {
            self.pairs.remove(&pair);
            self.part(room, from, to);
            self.part(room, to, from);
        } else {
            self.pairs.insert(pair, after);
            self.partners.entry((room.clone(), from.clone())).or_default().insert(to.clone());
            self.partners.entry((room.clone(), to.clone())).or_default().insert(from.clone());
        }
        Ok(())
    }

    /// Drops everything about a peer that left.
    pub(super) fn forget(&mut self, room: &Id, peer: &Id) {
        for other in self.partners.remove(&(room.clone(), peer.clone())).unwrap_or_default() {
            if let Some(before) = self.pairs.remove(&pair(room, peer, &other).0) {
                self.recount(before, [None, None]);
            }
            self.part(room, &other, peer);
        }
    }

    fn reported_by(&self, room: &Id, peer: &Id) -> usize {
        let Some(partners) = self.partners.get(&(room.clone(), peer.clone())) else { return 0 };
        partners
            .iter()
            .filter(|other| {
                let (pair, end) = pair(room, peer, other);
                self.pairs.get(&pair).is_some_and(|ends| ends[end].is_some())
            })
            .count()
    }

    fn part(&mut self, room: &Id, peer: &Id, other: &Id) {
        let key = (room.clone(), peer.clone());
        if let Some(partners) = self.partners.get_mut(&key) {
            partners.remove(other);
            if partners.is_empty() {
                self.partners.remove(&key);
            }
        }
    }

    fn recount(&mut self, before: [Option<ConnectionType>; 2], after: [Option<ConnectionType>; 2]) {
        // `None` orders before every type, so the maximum of both ends is the worse one that is known.
        if let Some(kind) = before[0].max(before[1]) {
            *self.counts.of(kind) -= 1;
        }
        if let Some(kind) = after[0].max(after[1]) {
            *self.counts.of(kind) += 1;
        }
    }
}

/// The pair's key, and which of its two ends `from` is.
fn pair(room: &Id, from: &Id, to: &Id) -> (Pair, usize) {
    if from < to {
        ((room.clone(), from.clone(), to.clone()), 0)
    } else {
        ((room.clone(), to.clone(), from.clone()), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    #[test]
    fn a_connection_reported_by_both_ends_counts_once_as_the_worse() {
        let (room, a, b) = (id("r"), id("a"), id("b"));
        let mut reports = Reports::default();
        reports.set(&room, &a, &b, Some(ConnectionType::Direct)).unwrap();
        assert_eq!(reports.counts(), Counts { direct: 1, stun: 0, turn: 0 });
        reports.set(&room, &b, &a, Some(ConnectionType::Turn)).unwrap();
        assert_eq!(reports.counts(), Counts { direct: 0, stun: 0, turn: 1 });
        reports.set(&room, &b, &a, None).unwrap();
        assert_eq!(reports.counts(), Counts { direct: 1, stun: 0, turn: 0 });
        reports.forget(&room, &b);
        assert_eq!(reports.counts(), Counts::default());
        assert!(reports.pairs.is_empty() && reports.partners.is_empty());
    }

    #[test]
    fn a_client_has_at_most_its_share_counted_whatever_others_say_of_it() {
        let (room, a) = (id("r"), id("m"));
        let mut reports = Reports::default();
        for n in 0..100 {
            reports.set(&room, &id(&format!("x{n}")), &a, Some(ConnectionType::Stun)).unwrap();
        }
        for n in 0..MAX_REPORTS_PER_CLIENT {
            reports.set(&room, &a, &id(&format!("p{n}")), Some(ConnectionType::Direct)).unwrap();
        }
        assert_eq!(reports.set(&room, &a, &id("one-more"), Some(ConnectionType::Direct)), Err(TooMany));
        reports.set(&room, &a, &id("p0"), None).unwrap();
        reports.set(&room, &a, &id("one-more"), Some(ConnectionType::Direct)).unwrap();
        reports.forget(&room, &a);
        assert_eq!(reports.counts(), Counts::default());
    }
}
