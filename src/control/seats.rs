//! Seats that strangers take: how many there are, and whose is given to the next who comes. A server's connections have such, and what a
//! node looks after for its peers.
//!
//! When all seats are taken, a newcomer gets one of those of whoever holds most: the one that has been idle for longest. Whoever only
//! holds seats, or sends the head of a request byte by byte, keeps nobody out, and pushes out nobody but itself. What is busy keeps its
//! seat; if all of those who hold most are, the idlest of all gives way. Example with 64 seats: a stranger opens 100 silent
//! connections; 36 of these are closed, and a client that comes then costs the stranger one more.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who takes a seat: an address, a peer.
pub(crate) trait Holder: Clone + Eq + Hash + Debug {}

impl<K: Clone + Eq + Hash + Debug> Holder for K {}

/// The seats of one server.
#[derive(Debug)]
pub(crate) struct Seats<K: Holder> {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken<K>>,
    /// A seat is free, or idle.
    to_be_had: Notify,
}

#[derive(Debug)]
struct Taken<K> {
    /// Numbers both seats and the moments at which they became idle.
    next: u64,
    seats: HashMap<u64, Place<K>>,
    /// Those that are idle, by the moment since when.
    idle: BTreeMap<u64, u64>,
    held: HashMap<K, usize>,
}

#[derive(Debug)]
struct Place<K> {
    holder: K,
    idle_since: Option<u64>,
    close: CancellationToken,
}

/// One seat; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Holder> {
    seats: Arc<Seats<K>>,
    number: u64,
}

/// A request under way, up to the end of its reply; the seat is idle again when it is dropped.
#[derive(Debug)]
pub(crate) struct Busy<K: Holder>(Arc<Seat<K>>);

/// What a newcomer gets.
#[must_use]
#[derive(Debug)]
pub(crate) enum Welcome<K: Holder> {
    /// A seat that was free.
    Free(Arc<Seat<K>>),
    /// That of somebody who has been told to leave.
    Instead(Arc<Seat<K>>),
    /// None: all others are busy, or the newcomer has its share.
    Full,
}

impl<K: Holder> Welcome<K> {
    pub(crate) fn was_free(&self) -> bool {
        matches!(self, Welcome::Free(_))
    }

    pub(crate) fn seat(self) -> Option<Arc<Seat<K>>> {
        match self {
            Welcome::Free(seat) | Welcome::Instead(seat) => Some(seat),
            Welcome::Full => None,
        }
    }
}

impl<K: Holder> Seats<K> {
    /// So many seats, of which one holder may have `most_of_one`.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        let taken = Taken { next: 0, seats: HashMap::new(), idle: BTreeMap::new(), held: HashMap::new() };
        Arc::new(Self { most, most_of_one, taken: Mutex::new(taken), to_be_had: Notify::new() })
    }

    /// A seat for `holder`, who leaves it when `close` is cancelled.
    pub(crate) fn take(self: &Arc<Self>, holder: K, close: CancellationToken) -> Welcome<K> {
        let mut taken = self.lock();
        if taken.held.get(&holder).is_some_and(|held| *held >= self.most_of_one) {
            return Welcome::Full;
        }
        let full = taken.seats.len() >= self.most;
        if full && !taken.give_up_one() {
            return Welcome::Full;
        }
        let number = taken.tick();
        *taken.held.entry(holder.clone()).or_insert(0) += 1;
        taken.seats.insert(number, Place { holder, idle_since: Some(number), close });
        taken.idle.insert(number, number);
        drop(taken);
        let seat = Arc::new(Seat { seats: self.clone(), number });
        if full { Welcome::Instead(seat) } else { Welcome::Free(seat) }
    }

    /// The same, as soon as there is one.
    pub(crate) async fn wait(self: &Arc<Self>, holder: K, close: CancellationToken) -> Arc<Seat<K>> {
        loop {
            let to_be_had = self.to_be_had.notified();
            if let Some(seat) = self.take(holder.clone(), close.clone()).seat() {
                return seat;
            }
            to_be_had.await;
        }
    }

    /// Takes a seat away as a newcomer would, if one is idle.
    pub(crate) fn give_up_one(&self) {
        let given_up = self.lock().give_up_one();
        if given_up {
            self.to_be_had.notify_waiters();
        }
    }

    /// Whether the next newcomer costs somebody a seat.
    pub(crate) fn are_full(&self) -> bool {
        self.lock().seats.len() >= self.most
    }

    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Holder> Taken<K> {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Closes what a newcomer costs its seat, if anything is idle.
    fn give_up_one(&mut self) -> bool {
        let given_up = self.to_give_up().and_then(|number| self.remove(number));
        given_up.map(|place| place.close.cancel()).is_some()
    }

    /// It is looked for only when a newcomer needs it.
    fn to_give_up(&self) -> Option<u64> {
        let most = self.held.values().max()?;
        let of_a_crowd = |number: &&u64| {
            self.seats.get(number).is_some_and(|place| self.held.get(&place.holder) == Some(most))
        };
        let mut idle = self.idle.values();
        idle.find(of_a_crowd).or_else(|| self.idle.values().next()).copied()
    }

    fn remove(&mut self, number: u64) -> Option<Place<K>> {
        self.set_idle(number, None);
        let place = self.seats.remove(&number)?;
        if let Some(held) = self.held.get_mut(&place.holder) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&place.holder);
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

impl<K: Holder> Seat<K> {
    /// A request has come.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy<K> {
        self.seats.lock().set_idle(self.number, None);
        Busy(self.clone())
    }
}

impl<K: Holder> Drop for Seat<K> {
    fn drop(&mut self) {
        self.seats.lock().remove(self.number);
        self.seats.to_be_had.notify_waiters();
    }
}

impl<K: Holder> Drop for Busy<K> {
    fn drop(&mut self) {
        let mut taken = self.0.seats.lock();
        let now = taken.tick();
        taken.set_idle(self.0.number, Some(now));
        drop(taken);
        self.0.seats.to_be_had.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> CancellationToken {
        CancellationToken::new()
    }

    #[test]
    fn a_newcomer_gets_the_seat_that_was_idle_for_longest() {
        let seats = Seats::new(3, 9);
        let tokens: Vec<CancellationToken> = (0..5).map(|_| token()).collect();
        let closed = || tokens.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        let take = |n: usize| seats.take("one", tokens[n].clone());
        let held: Vec<_> = (0..3).map(|n| take(n).seat().unwrap()).collect();
        // The first one asks twice: after that it is the youngest.
        let first = held[0].busy();
        drop(first);
        let third = held[2].busy();
        let Welcome::Instead(fourth) = take(3) else { panic!("none was free") };
        assert_eq!(closed(), [false, true, false, false, false]);
        let Welcome::Instead(fifth) = take(4) else { panic!("none was free") };
        assert_eq!(closed(), [true, true, false, false, false]);

        let _all = [fourth.busy(), fifth.busy()];
        assert!(matches!(seats.take("one", token()), Welcome::Full), "all are busy");
        drop(third);
        assert!(matches!(seats.take("one", token()), Welcome::Instead(_)));
    }

    #[test]
    fn a_connection_that_ends_leaves_nothing() {
        let seats = Seats::new(1, 1);
        for _ in 0..3 {
            let Welcome::Free(seat) = seats.take("one", token()) else { panic!("it is free") };
            let busy = seat.busy();
            drop(seat);
            assert!(seats.are_full());
            drop(busy);
            assert!(!seats.are_full());
        }
        let taken = seats.lock();
        assert!(taken.seats.is_empty() && taken.idle.is_empty() && taken.held.is_empty());
    }

    #[test]
    fn a_crowd_pushes_out_only_itself() {
        let seats = Seats::new(4, 9);
        let [crowd, honest, other] = ["crowd", "honest", "other"];
        let take = |who, close| seats.take(who, close).seat().unwrap();
        let quiet = token();
        let first = take(honest, quiet.clone());
        let held: Vec<_> = (0..3).map(|_| take(crowd, token())).collect();
        let more: Vec<_> = (0..20).map(|_| take(crowd, token())).collect();
        let newcomer = token();
        let seat = take(other, newcomer.clone());
        assert!(
            !quiet.is_cancelled() && !newcomer.is_cancelled(),
            "the idlest of all, but not one of the crowd"
        );
        assert_eq!(seats.lock().held[&crowd], 2);
        // Where all of the crowd are being answered, somebody else has to go.
        let busy: Vec<_> = more[18..].iter().map(Seat::busy).collect();
        let last = take(other, token());
        assert!(quiet.is_cancelled());
        drop((first, held, more, busy, seat, last));
        assert!(seats.lock().held.is_empty());
    }

    #[test]
    fn of_several_who_hold_as_many_the_idlest_gives_way() {
        let seats = Seats::new(4, 2);
        let tokens: Vec<CancellationToken> = (0..4).map(|_| token()).collect();
        let held: Vec<_> = ["b", "a", "a", "b"]
            .iter()
            .zip(&tokens)
            .map(|(who, token)| seats.take(who, token.clone()))
            .collect();
        assert!(matches!(seats.take(&"a", token()), Welcome::Full), "it has its share");
        let mut newcomers = Vec::new();
        for (expected, who) in ["c", "d", "e"].iter().enumerate() {
            newcomers.push(seats.take(who, token()));
            assert!(tokens[expected].is_cancelled() && !tokens[expected + 1].is_cancelled());
        }
        drop(held);
    }

    #[tokio::test]
    async fn whoever_waits_gets_a_seat_that_is_free_or_idle() {
        let seats = Seats::new(1, 1);
        let first = seats.take("first", token()).seat().unwrap();
        let busy = first.busy();
        let mut waiting = std::pin::pin!(seats.wait("second", token()));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(busy);
        let second = waiting.await;
        let busy = second.busy();
        drop(first);
        let mut waiting = std::pin::pin!(seats.wait("third", token()));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop((second, busy));
        let third_is_told = token();
        drop(waiting.await);
        let _third = seats.take("third", third_is_told.clone()).seat().unwrap();
        seats.give_up_one();
        assert!(third_is_told.is_cancelled() && !seats.are_full());
    }
}
