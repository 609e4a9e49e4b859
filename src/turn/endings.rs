//! Allocations that have ended, kept until somebody has written down what they carried in all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::figures::AllocationFigures;

/// Ended allocations that are kept at most; each takes some 200 bytes. Whoever takes them is called when half of them are there, so that
/// only who cannot write them down for long misses any.
pub const MAX_ENDINGS: usize = 16_384;

/// The last figures of allocations, from the engine to whoever writes them down. A clone is the same.
///
/// Nothing is kept until somebody [listens](Endings::listen).
#[derive(Debug, Clone, Default)]
pub struct Endings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    crowded: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    is_heard: bool,
    list: Vec<AllocationFigures>,
    missed: u64,
}

impl Endings {
    /// From here on they are kept.
    pub fn listen(&self) {
        self.locked().is_heard = true;
    }

    /// One has ended; these are its last figures.
    pub(crate) fn add(&self, last: AllocationFigures) {
        let mut waiting = self.locked();
        if !waiting.is_heard {
            return;
        }
        if waiting.list.len() >= MAX_ENDINGS {
            waiting.missed += 1;
            return;
        }
        waiting.list.push(last);
        if waiting.list.len() == MAX_ENDINGS / 2 {
            self.0.crowded.notify_one();
        }
    }

    /// Takes those that wait, in the order in which they ended.
    #[must_use = "they are told once"]
    pub fn take(&self) -> Vec<AllocationFigures> {
        std::mem::take(&mut self.locked().list)
    }

    /// How many there was no place for, so that nobody will ever be told of them.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.locked().missed
    }

    /// Returns when half of the places are taken.
    pub async fn crowded(&self) {
        self.0.crowded.notified().await;
    }

    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use futures::FutureExt;

    use super::*;
    use crate::turn::figures::Traffic;

    fn figures(id: u64) -> AllocationFigures {
        AllocationFigures {
            id,
            user: String::new(),
            client: "192.0.2.7:40000".parse().unwrap(),
            transport: "udp",
            relay: "203.0.113.7:50000".parse().unwrap(),
            since: UNIX_EPOCH,
            traffic: Traffic::default(),
        }
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let endings = Endings::default();
        endings.add(figures(1));
        endings.listen();
        endings.add(figures(2));
        endings.add(figures(3));
        let ids: Vec<u64> = endings.take().into_iter().map(|of| of.id).collect();
        assert_eq!(ids, [2, 3]);
        assert!(endings.take().is_empty() && endings.missed() == 0);
    }

    #[test]
    fn there_is_a_call_in_time_and_beyond_the_places_only_a_count() {
        let endings = Endings::default();
        endings.listen();
        (1..MAX_ENDINGS as u64 / 2).for_each(|id| endings.add(figures(id)));
        assert_eq!(endings.crowded().now_or_never(), None);
        (0..MAX_ENDINGS as u64).for_each(|id| endings.add(figures(id)));
        assert_eq!(endings.crowded().now_or_never(), Some(()));
        assert_eq!(endings.missed(), MAX_ENDINGS as u64 / 2 - 1);
        assert_eq!(endings.take().len(), MAX_ENDINGS);
        endings.add(figures(0));
        assert_eq!((endings.take().len(), endings.missed()), (1, MAX_ENDINGS as u64 / 2 - 1));
    }
}
