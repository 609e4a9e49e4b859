//! The connections of one server: how many there are, and which of them waits for a request.
//!
//! When all seats are taken, a newcomer gets that of the connection that has been idle for longest: whoever only holds
//! connections, or sends the head of a request byte by byte, keeps nobody out. Connections with a request under way keep
//! their seats. Example with 64 seats: a stranger holds 100 silent connections; 36 of them are closed, and a client that comes
//! then and asks at once costs the stranger one more.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The seats of one server.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
    /// Connections that were closed because all seats were taken.
    refused: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Numbers both connections and the moments at which they became idle.
    next: u64,
    seats: HashMap<u64, Place>,
    /// Those that wait for a request, by the moment since when.
    idle: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Place {
    idle_since: Option<u64>,
    close: CancellationToken,
}

/// One connection's seat; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
}

/// A request under way, up to the end of its reply; the connection is idle again when it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(most: usize, refused: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), refused })
    }

    /// A seat for a new connection, which ends when `close` is cancelled. `None` if all others are busy.
    pub(super) fn take(self: &Arc<Self>, close: CancellationToken) -> Option<Arc<Seat>> {
        let mut taken = self.lock();
        if taken.seats.len() >= self.most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let (_, oldest) = taken.idle.pop_first()?;
            if let Some(place) = taken.seats.remove(&oldest) {
                place.close.cancel();
            }
        }
        let number = taken.tick();
        taken.seats.insert(number, Place { idle_since: Some(number), close });
        taken.idle.insert(number, number);
        drop(taken);
        Some(Arc::new(Seat { seats: self.clone(), number }))
    }

    /// Whether the next newcomer costs somebody a seat.
    pub(super) fn are_full(&self) -> bool {
        self.lock().seats.len() >= self.most
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn set_idle(&mut self, number: u64, idle: Option<u64>) {
        let Some(place) = self.seats.get_mut(&number) else { return };
        if let Some(since) = std::mem::replace(&mut place.idle_since, idle) {
            self.idle.remove(&since);
        }
        self.idle.extend(idle.map(|since| (since, number)));
    }
}

impl Seat {
    /// A request has come.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.seats.lock().set_idle(self.number, None);
        Busy(self.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.set_idle(self.number, None);
        taken.seats.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.0.seats.lock();
        let now = taken.tick();
        taken.set_idle(self.0.number, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(most: usize) -> (Arc<Seats>, Arc<AtomicU64>) {
        let refused = Arc::new(AtomicU64::new(0));
        (Seats::new(most, refused.clone()), refused)
    }

    #[test]
    fn a_newcomer_gets_the_seat_that_was_idle_for_longest() {
        let (seats, refused) = seats(3);
        let tokens: Vec<CancellationToken> = (0..5).map(|_| CancellationToken::new()).collect();
        let closed = || tokens.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        let held: Vec<_> = (0..3).map(|n| seats.take(tokens[n].clone()).unwrap()).collect();
        // The first one asks twice: after that it is the youngest.
        let first = held[0].busy();
        drop(first);
        let third = held[2].busy();
        let fourth = seats.take(tokens[3].clone()).unwrap();
        assert_eq!(closed(), [false, true, false, false, false]);
        let fifth = seats.take(tokens[4].clone()).unwrap();
        assert_eq!(closed(), [true, true, false, false, false]);
        assert_eq!(refused.load(Ordering::Relaxed), 2);

        let _all = [fourth.busy(), fifth.busy()];
        assert!(seats.take(CancellationToken::new()).is_none(), "all are busy");
        drop(third);
        assert!(seats.take(CancellationToken::new()).is_some());
        assert_eq!(refused.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_connection_that_ends_leaves_nothing() {
        let (seats, refused) = seats(1);
        for _ in 0..3 {
            let seat = seats.take(CancellationToken::new()).unwrap();
            let busy = seat.busy();
            drop(seat);
            assert!(seats.are_full());
            drop(busy);
            assert!(!seats.are_full());
        }
        let taken = seats.lock();
        assert!(taken.seats.is_empty() && taken.idle.is_empty());
        assert_eq!(refused.load(Ordering::Relaxed), 0);
    }
}
