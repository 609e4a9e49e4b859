//! The connections of one server: how many there are, and which of them waits for a request.
//!
//! When all seats are taken, a newcomer gets one of those of the address that holds most: that of its connection that has been idle for
//! longest. Whoever only holds connections, or sends the head of a request byte by byte, keeps nobody out, and pushes out nobody but
//! itself. Connections with a request under way keep their seats; if all of that address are, the idlest of all gives way. Example with
//! 64 seats: a stranger opens 100 silent connections; 36 of these are closed, and a client that comes then costs the stranger one more.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::places::subject;

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
    /// How many each address holds; all that come over a unix socket are one.
    held: HashMap<Option<IpAddr>, usize>,
}

#[derive(Debug)]
struct Place {
    address: Option<IpAddr>,
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

    /// A seat for a new connection from `address`, which ends when `close` is cancelled. `None` if all others are busy.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        close: CancellationToken,
    ) -> Option<Arc<Seat>> {
        let address = address.map(subject);
        let mut taken = self.lock();
        if taken.seats.len() >= self.most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let given_up = taken.to_give_up()?;
            if let Some(place) = taken.remove(given_up) {
                place.close.cancel();
            }
        }
        let number = taken.tick();
        taken.seats.insert(number, Place { address, idle_since: Some(number), close });
        taken.idle.insert(number, number);
        *taken.held.entry(address).or_insert(0) += 1;
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

    /// The connection that a newcomer costs its seat. It is looked for only when all seats are taken.
    fn to_give_up(&self) -> Option<u64> {
        let (crowd, _) = self.held.iter().max_by_key(|(_, held)| **held)?;
        let mut idle = self.idle.values();
        let of_the_crowd =
            idle.find(|number| self.seats.get(number).is_some_and(|place| place.address == *crowd));
        of_the_crowd.or_else(|| self.idle.values().next()).copied()
    }

    fn remove(&mut self, number: u64) -> Option<Place> {
        self.set_idle(number, None);
        let place = self.seats.remove(&number)?;
        if let Some(held) = self.held.get_mut(&place.address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&place.address);
            }
        }
        Some(place)
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
        self.seats.lock().remove(self.number);
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
        let held: Vec<_> = (0..3).map(|n| seats.take(None, tokens[n].clone()).unwrap()).collect();
        // The first one asks twice: after that it is the youngest.
        let first = held[0].busy();
        drop(first);
        let third = held[2].busy();
        let fourth = seats.take(None, tokens[3].clone()).unwrap();
        assert_eq!(closed(), [false, true, false, false, false]);
        let fifth = seats.take(None, tokens[4].clone()).unwrap();
        assert_eq!(closed(), [true, true, false, false, false]);
        assert_eq!(refused.load(Ordering::Relaxed), 2);

        let _all = [fourth.busy(), fifth.busy()];
        assert!(seats.take(None, CancellationToken::new()).is_none(), "all are busy");
        drop(third);
        assert!(seats.take(None, CancellationToken::new()).is_some());
        assert_eq!(refused.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_connection_that_ends_leaves_nothing() {
        let (seats, refused) = seats(1);
        for _ in 0..3 {
            let seat = seats.take(None, CancellationToken::new()).unwrap();
            let busy = seat.busy();
            drop(seat);
            assert!(seats.are_full());
            drop(busy);
            assert!(!seats.are_full());
        }
        let taken = seats.lock();
        assert!(taken.seats.is_empty() && taken.idle.is_empty() && taken.held.is_empty());
        assert_eq!(refused.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_crowd_pushes_out_only_itself() {
        let (seats, _) = seats(4);
        let [crowd, honest, other] =
            ["192.0.2.1", "2001:db8::1", "198.51.100.7"].map(|ip| Some(ip.parse().unwrap()));
        let quiet = CancellationToken::new();
        let first = seats.take(honest, quiet.clone()).unwrap();
        let held: Vec<_> = (0..3).map(|_| seats.take(crowd, CancellationToken::new()).unwrap()).collect();
        let more: Vec<_> = (0..20).map(|_| seats.take(crowd, CancellationToken::new()).unwrap()).collect();
        let newcomer = CancellationToken::new();
        let seat = seats.take(other, newcomer.clone()).unwrap();
        assert!(
            !quiet.is_cancelled() && !newcomer.is_cancelled(),
            "the idlest of all, but not one of the crowd"
        );
        assert_eq!(seats.lock().held[&crowd], 2);
        // Where all of the crowd are being answered, somebody else has to go.
        let busy: Vec<_> = more[18..].iter().map(Seat::busy).collect();
        assert!(seats.take(other, CancellationToken::new()).is_some());
        assert!(quiet.is_cancelled());
        drop((first, held, more, busy, seat));
        assert!(seats.lock().held.is_empty());
    }
}
