//! Who is let in: connections by address, and none while memory is short.
//!
//! These limits hold before a stranger has said who it is; how many there may be in all and with one peer is for
//! [`Connections`](super::Connections) to count.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::Limits;
use crate::p2p::metrics::Refused;

/// A reading of the memory in use is good for so long.
const MEMORY_READING: Duration = Duration::from_millis(250);

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAdmitted(pub(crate) Refused);

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Refused::ProcessMemory => "the node holds as much memory as it may",
            _ => "there are too many connections from this address",
        })
    }
}

impl std::error::Error for NotAdmitted {}

/// Connections of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    pending: u32,
    established: u32,
}

/// See the module's comment.
pub(crate) struct Admission {
    limits: Limits,
    /// As many as there are connections, which are bounded elsewhere.
    places: HashMap<IpAddr, Places>,
    pending: HashMap<ConnectionId, IpAddr>,
    established: HashMap<ConnectionId, IpAddr>,
    memory: Option<(Instant, u64)>,
    read_memory: fn() -> u64,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: HashMap::new(),
            pending: HashMap::new(),
            established: HashMap::new(),
            memory: None,
            read_memory: resident_bytes,
        }
    }

    fn is_short_of_memory(&mut self, now: Instant) -> bool {
        if self.limits.memory == 0 {
            return false;
        }
        let bytes = match self.memory {
            Some((at, bytes)) if now.saturating_duration_since(at) < MEMORY_READING => bytes,
            _ => {
                let bytes = (self.read_memory)();
                self.memory = Some((now, bytes));
                bytes
            }
        };
        bytes > self.limits.memory
    }

    /// A stranger at `remote` wants to connect.
    fn knock(&mut self, id: ConnectionId, remote: &Multiaddr, now: Instant) -> Result<(), NotAdmitted> {
        if self.is_short_of_memory(now) {
            return Err(NotAdmitted(Refused::ProcessMemory));
        }
        let Some(address) = self.counted(remote) else { return Ok(()) };
        let places = self.places.get(&address).copied().unwrap_or_default();
        if places.pending >= self.limits.pending_per_address
            || places.pending + places.established >= self.limits.connections_per_address
        {
            return Err(NotAdmitted(Refused::Address));
        }
        self.places.entry(address).or_default().pending += 1;
        self.pending.insert(id, address);
        Ok(())
    }

    /// The handshake is done.
    fn enter(&mut self, id: ConnectionId) {
        if let Some(address) = self.pending.remove(&id) {
            let places = self.places.entry(address).or_default();
            places.pending = places.pending.saturating_sub(1);
            places.established += 1;
            self.established.insert(id, address);
        }
    }

    /// The connection is closed, or did not come about.
    fn leave(&mut self, id: ConnectionId) {
        let pending = self.pending.remove(&id);
        let established = self.established.remove(&id);
        for address in [pending, established].into_iter().flatten() {
            if let Some(places) = self.places.get_mut(&address) {
                let count = if pending.is_some() { &mut places.pending } else { &mut places.established };
                *count = count.saturating_sub(1);
                if places.pending + places.established == 0 {
                    self.places.remove(&address);
                }
            }
        }
    }

    /// The address that a connection counts for. Those through a relay are bounded by what the relay gives.
    fn counted(&self, remote: &Multiaddr) -> Option<IpAddr> {
        let ip = match remote.iter().next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
            _ => return None,
        };
        let relayed = remote.iter().any(|part| part == Protocol::P2pCircuit);
        if relayed || (ip.is_loopback() && !self.limits.count_loopback) {
            return None;
        }
        Some(match ip {
            IpAddr::V4(_) => ip,
            // Whoever has one IPv6 address has 2^64 of them.
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

/// Memory that the process holds, in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let read = || -> Option<u64> {
        let text = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        Some(pages * u64::try_from(page).ok()?)
    };
    read().unwrap_or(0)
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knock(id, remote, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(id);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ListenFailure(failure) => self.leave(failure.connection_id),
            FromSwarm::ConnectionClosed(closed) => self.leave(closed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: Limits) -> Admission {
        Admission { read_memory: || 100, ..Admission::new(limits) }
    }

    fn limits() -> Limits {
        Limits { pending_per_address: 2, connections_per_address: 3, ..Limits::default() }
    }

    fn knock(admission: &mut Admission, id: usize, address: &str) -> Option<Refused> {
        let address: Multiaddr = address.parse().unwrap();
        let id = ConnectionId::new_unchecked(id);
        admission.knock(id, &address, Instant::now()).err().map(|NotAdmitted(what)| what)
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let mut admission = admission(limits());
        let near = "/ip4/10.0.0.1/tcp/1";
        assert_eq!(knock(&mut admission, 1, near), None);
        assert_eq!(knock(&mut admission, 2, near), None);
        assert_eq!(knock(&mut admission, 3, near), Some(Refused::Address), "two may be pending");
        assert_eq!(knock(&mut admission, 4, "/ip4/10.0.0.2/tcp/1"), None, "another address");
        admission.enter(ConnectionId::new_unchecked(1));
        admission.enter(ConnectionId::new_unchecked(2));
        assert_eq!(knock(&mut admission, 5, near), None);
        admission.enter(ConnectionId::new_unchecked(5));
        assert_eq!(knock(&mut admission, 6, near), Some(Refused::Address), "three may be established");
        admission.leave(ConnectionId::new_unchecked(6));
        admission.leave(ConnectionId::new_unchecked(1));
        assert_eq!(knock(&mut admission, 7, near), None);
        for id in [2, 4, 5, 7] {
            admission.leave(ConnectionId::new_unchecked(id));
        }
        assert!(admission.places.is_empty() && admission.pending.is_empty());
        assert!(admission.established.is_empty());
    }

    #[test]
    fn which_addresses_are_the_same() {
        let mut with_loopback = admission(Limits { count_loopback: true, ..limits() });
        for (id, address) in ["/ip6/2001:db8::1/udp/1/quic-v1", "/ip6/2001:db8::2/tcp/1"].iter().enumerate() {
            assert_eq!(knock(&mut with_loopback, id, address), None);
        }
        assert_eq!(knock(&mut with_loopback, 3, "/ip6/2001:db8::3/tcp/1"), Some(Refused::Address), "one /64");
        assert_eq!(knock(&mut with_loopback, 4, "/ip6/2001:db8:0:1::3/tcp/1"), None);
        let mut without = admission(limits());
        for id in 10..20 {
            let peer = PeerId::random();
            let relayed = format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit/p2p/{peer}");
            for (more, address) in
                [relayed.as_str(), "/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"].iter().enumerate()
            {
                assert_eq!(knock(&mut without, id * 10 + more, address), None, "{address}");
            }
        }
        assert_eq!(knock(&mut with_loopback, 5, "/ip4/127.0.0.1/tcp/1"), None);
        assert_eq!(knock(&mut with_loopback, 6, "/ip6/::ffff:127.0.0.1/tcp/1"), None);
        assert_eq!(knock(&mut with_loopback, 7, "/ip4/127.0.0.1/tcp/2"), Some(Refused::Address));
    }

    #[test]
    fn nobody_is_let_in_while_memory_is_short() {
        let anywhere = "/ip4/127.0.0.1/tcp/1";
        assert_eq!(knock(&mut admission(Limits { memory: 100, ..limits() }), 1, anywhere), None);
        let full = &mut admission(Limits { memory: 99, ..limits() });
        assert_eq!(knock(full, 1, anywhere), Some(Refused::ProcessMemory));
        assert_eq!(knock(&mut admission(Limits { memory: 0, ..limits() }), 1, anywhere), None);
        assert!(resident_bytes() > 1 << 20, "this process holds some memory");
    }
}
