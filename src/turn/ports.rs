//! Which ports of the relay addresses are given out, and those kept for a next request (EVEN-PORT with a reservation).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::PortRange;

/// How long a reserved port waits for who wants it (RFC 8656, 7.2: at least 30 s).
const RESERVATION: Duration = Duration::from_secs(30);
/// How many may wait at once.
const MAX_RESERVED: usize = 256;

/// The ports given out, as bits that any thread may read at any time.
#[derive(Debug)]
pub(super) struct Ports {
    range: PortRange,
    addresses: Vec<(IpAddr, Box<[AtomicU64]>)>,
}

impl Ports {
    /// All free.
    pub(super) fn new(range: PortRange, addresses: &[IpAddr]) -> Self {
        let free = || (0..1024).map(|_| AtomicU64::new(0)).collect();
        Self { range, addresses: addresses.iter().map(|address| (*address, free())).collect() }
    }

    /// Takes a free port of `address`: the first one from `start` on, the range thought of as a ring; with `even` an even one, with `pair`
    /// together with the one above. `None` when there is none.
    pub(super) fn claim(&self, address: IpAddr, start: u16, even: bool, pair: bool) -> Option<u16> {
        let bits = self.bits(address)?;
        let (min, max) = (u32::from(self.range.min), u32::from(self.range.max));
        let count = max - min + 1;
        let from = u32::from(start) % count;
        (0..count).map(|step| min + (from + step) % count).find_map(|port| {
            let fits = !(even && port % 2 == 1 || pair && port + 1 > max);
            let port = port as u16;
            if !fits || !take(bits, port) {
                None
            } else if pair && !take(bits, port + 1) {
                give_back(bits, port);
                None
            } else {
                Some(port)
            }
        })
    }

    /// Gives a port back.
    pub(super) fn release(&self, address: SocketAddr) {
        if let Some(bits) = self.bits(address.ip()) {
            give_back(bits, address.port());
        }
    }

    /// Whether this port is given out.
    pub(super) fn is_taken(&self, address: SocketAddr) -> bool {
        let word = |bits: &[AtomicU64]| bits[usize::from(address.port()) / 64].load(Ordering::Relaxed);
        self.bits(address.ip()).is_some_and(|bits| word(bits) & mask(address.port()) != 0)
    }

    /// How many ports are given out.
    pub(super) fn taken(&self) -> u32 {
        let words = self.addresses.iter().flat_map(|(_, bits)| bits);
        words.map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    fn bits(&self, address: IpAddr) -> Option<&[AtomicU64]> {
        self.addresses.iter().find(|(of, _)| *of == address).map(|(_, bits)| &**bits)
    }
}

const fn mask(port: u16) -> u64 {
    1 << (port % 64)
}

fn take(bits: &[AtomicU64], port: u16) -> bool {
    bits[usize::from(port) / 64].fetch_or(mask(port), Ordering::Relaxed) & mask(port) == 0
}

fn give_back(bits: &[AtomicU64], port: u16) {
    bits[usize::from(port) / 64].fetch_and(!mask(port), Ordering::Relaxed);
}

/// Ports that wait for the second request of a pair, each with its open socket `S`.
#[derive(Debug)]
pub(super) struct Reservations<S> {
    waiting: Mutex<HashMap<u64, Reserved<S>>>,
}

/// A port that waits.
#[derive(Debug)]
pub(super) struct Reserved<S> {
    /// Its socket.
    pub(super) socket: S,
    /// Where that is bound.
    pub(super) address: SocketAddr,
    until: Instant,
}

impl<S> Default for Reservations<S> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<S> Reservations<S> {
    /// Whether one more fits.
    pub(super) fn has_place(&self) -> bool {
        self.locked().len() < MAX_RESERVED
    }

    /// Keeps a port under `token` for half a minute.
    pub(super) fn keep(&self, token: u64, socket: S, address: SocketAddr, now: Instant) {
        self.locked().insert(token, Reserved { socket, address, until: now + RESERVATION });
    }

    /// The port under `token`, if it still waits.
    pub(super) fn take(&self, token: u64, now: Instant) -> Option<Reserved<S>> {
        let mut waiting = self.locked();
        if waiting.get(&token)?.until < now { None } else { waiting.remove(&token) }
    }

    /// Those that have waited in vain.
    pub(super) fn expired(&self, now: Instant) -> Vec<Reserved<S>> {
        let mut waiting = self.locked();
        if waiting.is_empty() {
            return Vec::new();
        }
        waiting.extract_if(|_, reserved| reserved.until < now).map(|(_, reserved)| reserved).collect()
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Reserved<S>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(min: u16, max: u16) -> (Ports, IpAddr) {
        let address = "127.0.0.1".parse().unwrap();
        (Ports::new(PortRange { min, max }, &[address]), address)
    }

    #[test]
    fn each_port_is_given_out_once_and_again_when_given_back() {
        let (ports, address) = ports(100, 109);
        let mut given: Vec<u16> =
            (0..10).map(|n| ports.claim(address, n * 7, false, false).unwrap()).collect();
        assert_eq!(ports.claim(address, 3, false, false), None);
        assert_eq!(ports.taken(), 10);
        given.sort_unstable();
        assert_eq!(given, (100..110).collect::<Vec<_>>());
        ports.release(SocketAddr::new(address, 104));
        assert!(
            !ports.is_taken(SocketAddr::new(address, 104)) && ports.is_taken(SocketAddr::new(address, 105))
        );
        assert_eq!(ports.claim(address, 9, false, false), Some(104));
        assert_eq!(ports.claim("127.0.0.2".parse().unwrap(), 9, false, false), None, "no relay address");
    }

    #[test]
    fn a_pair_is_an_even_port_and_the_next() {
        let (ports, address) = ports(101, 106);
        assert_eq!(ports.claim(address, 0, true, true), Some(102));
        assert_eq!(ports.claim(address, 0, true, true), Some(104));
        assert_eq!(ports.claim(address, 0, true, true), None, "107 is out of range");
        assert_eq!(ports.claim(address, 0, true, false), Some(106));
        assert_eq!(ports.claim(address, 0, true, false), None);
        assert_eq!(ports.claim(address, 0, false, false), Some(101));
        assert_eq!(ports.taken(), 6);
    }

    #[test]
    fn the_whole_range_can_be_given_out() {
        let (ports, address) = ports(1, u16::MAX);
        for start in 0..u16::MAX {
            assert!(ports.claim(address, start, false, false).is_some());
        }
        assert_eq!(ports.claim(address, 0, false, false), None);
    }

    #[test]
    fn a_reservation_waits_half_a_minute_and_is_taken_once() {
        let reservations = Reservations::default();
        let now = Instant::now();
        let address = "127.0.0.1:101".parse().unwrap();
        reservations.keep(1, "one", address, now);
        reservations.keep(2, "two", address, now + Duration::from_secs(10));
        assert!(reservations.expired(now + Duration::from_secs(30)).is_empty());
        assert!(reservations.take(1, now + Duration::from_secs(31)).is_none(), "too late");
        let expired = reservations.expired(now + Duration::from_secs(31));
        assert_eq!(expired.iter().map(|reserved| reserved.socket).collect::<Vec<_>>(), ["one"]);
        assert_eq!(reservations.take(2, now).map(|reserved| reserved.socket), Some("two"));
        assert!(reservations.take(2, now).is_none() && reservations.is_empty());
        for token in 0..MAX_RESERVED as u64 {
            assert!(reservations.has_place());
            reservations.keep(token, "more", address, now);
        }
        assert!(!reservations.has_place());
    }
}
