//! Places that strangers take: so many by one address, so many in all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// How many places each address and all together hold.
#[derive(Debug)]
pub struct Places {
    per_address: u32,
    total: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_address: HashMap<IpAddr, u32>,
    total: u32,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The address holds as many as it may.
    Address,
    /// All together do.
    Server,
}

impl Places {
    /// An empty table.
    #[must_use]
    pub fn new(per_address: u32, total: u32) -> Arc<Self> {
        Arc::new(Self { per_address, total, open: Mutex::default() })
    }

    /// Takes one more place for `address`, until it is dropped.
    ///
    /// # Errors
    /// [`Full`] says which limit is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let address = subject(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total {
            return Err(Full::Server);
        }
        if open.by_address.get(&address).copied().unwrap_or(0) >= self.per_address {
            return Err(Full::Address);
        }
        *open.by_address.entry(address).or_insert(0) += 1;
        open.total += 1;
        Ok(Place { table: self.clone(), address })
    }
}

/// One place that is taken.
#[derive(Debug)]
pub struct Place {
    table: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.table.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(held) = open.by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Whom an address stands for: an IPv6 host has a whole /64 to choose from.
#[must_use]
pub fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_share_and_give_it_back() {
        let table = Places::new(2, 3);
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let held = [table.admit(one).unwrap(), table.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap()];
        assert_eq!(table.admit(one).unwrap_err(), Full::Address);
        let other = table.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(table.admit("2001:db8::2".parse().unwrap()).unwrap_err(), Full::Server);
        drop(held);
        let same_network = table.admit("2001:db8::2".parse().unwrap()).unwrap();
        assert_eq!(table.admit("2001:db8::3".parse().unwrap()).unwrap_err(), Full::Address);
        drop((other, same_network));
        assert!(table.open.lock().unwrap().by_address.is_empty());
    }
}
