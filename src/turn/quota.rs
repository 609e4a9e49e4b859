//! How many of something there may be: in all, of one user, from one address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Counts what there is in all and for each key, up to limits.
#[derive(Debug)]
struct Tally<K> {
    limit: u32,
    counts: HashMap<K, u32>,
}

impl<K: Hash + Eq> Tally<K> {
    fn new(limit: u32) -> Self {
        Self { limit, counts: HashMap::new() }
    }

    fn has_place(&self, key: &K) -> bool {
        self.counts.get(key).copied().unwrap_or(0) < self.limit
    }

    fn add(&mut self, key: K) {
        *self.counts.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(count) = self.counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(key);
            }
        }
    }
}

/// Places for allocations, shared by all threads of a server.
#[derive(Debug)]
pub(super) struct Quotas(Mutex<Places>);

#[derive(Debug)]
struct Places {
    limit: u32,
    taken: u32,
    users: Tally<String>,
    addresses: Tally<IpAddr>,
}

impl Quotas {
    /// Up to `limit` in all, of one user, and from one address.
    pub(super) fn new(limit: u32, per_user: u32, per_address: u32) -> Self {
        let (users, addresses) = (Tally::new(per_user), Tally::new(per_address));
        Self(Mutex::new(Places { limit, taken: 0, users, addresses }))
    }

    /// Takes a place; `false` if there is none.
    #[must_use = "without a place there must be no allocation"]
    pub(super) fn take(&self, user: &str, address: IpAddr) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (user, address) = (user.to_owned(), block(address));
        let fits = places.taken < places.limit
            && places.users.has_place(&user)
            && places.addresses.has_place(&address);
        if fits {
            places.taken += 1;
            places.users.add(user);
            places.addresses.add(address);
        }
        fits
    }

    /// Gives a place back.
    pub(super) fn give_back(&self, user: &str, address: IpAddr) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.taken -= 1;
        places.users.remove(&user.to_owned());
        places.addresses.remove(&block(address));
    }

    /// How many places are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken
    }
}

/// Places for connections, shared by all listeners of a server.
#[derive(Debug)]
pub(super) struct ConnectionQuota {
    limit: u32,
    taken: Mutex<(u32, Tally<IpAddr>)>,
}

impl ConnectionQuota {
    /// Up to `limit` in all and `per_address` from one address.
    pub(super) fn new(limit: u32, per_address: u32) -> Self {
        Self { limit, taken: Mutex::new((0, Tally::new(per_address))) }
    }

    /// Takes a place; `false` if there is none.
    #[must_use = "without a place there must be no connection"]
    pub(super) fn take(&self, address: IpAddr) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = taken.0 < self.limit && taken.1.has_place(&block(address));
        if fits {
            taken.0 += 1;
            taken.1.add(block(address));
        }
        fits
    }

    /// Gives a place back.
    pub(super) fn give_back(&self, address: IpAddr) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 -= 1;
        taken.1.remove(&block(address));
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> u32 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
pub(super) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_refuses_and_a_place_given_back_is_free_again() {
        let quotas = Quotas::new(4, 3, 2);
        assert!(quotas.take("ann", ip("192.0.2.1")) && quotas.take("bob", ip("192.0.2.1")));
        assert!(!quotas.take("cid", ip("192.0.2.1")), "two of one address");
        assert!(quotas.take("ann", ip("2001:db8::1")) && quotas.take("ann", ip("2001:db8::2")));
        assert!(!quotas.take("ann", ip("192.0.2.9")), "three of one user");
        assert!(!quotas.take("dan", ip("192.0.2.9")), "four in all");
        quotas.give_back("bob", ip("192.0.2.1"));
        assert!(!quotas.take("dan", ip("2001:db8:0:0:9::")), "two of one /64");
        assert!(quotas.take("dan", ip("2001:db8:0:1::")));
        for (user, address) in
            [("ann", "192.0.2.1"), ("ann", "2001:db8::1"), ("ann", "2001:db8::2"), ("dan", "2001:db8:0:1::")]
        {
            quotas.give_back(user, ip(address));
        }
        let places = quotas.0.into_inner().unwrap();
        assert_eq!(places.taken, 0);
        assert!(places.users.counts.is_empty() && places.addresses.counts.is_empty(), "nothing is kept");
    }
}
