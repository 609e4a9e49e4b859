//! Which of the addresses that peers tell are worth remembering.

use std::net::IpAddr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::{ip, parse_dial, without_peer};

/// Addresses taken of one peer …
pub(crate) const MAX_ADDRESSES: usize = 8;
/// … and of one kind, as long as there are others: a machine with many interfaces has many of its own network, of which others
/// elsewhere can use none.
const MAX_OF_SCOPE: usize = 4;
/// Relayed ones among them: a relay tells all addresses that it has, of which one is enough to find it.
const MAX_RELAYED: usize = 2;
/// Place of the best relayed address: behind the best direct ones, and before the manager forgets the rest.
const RELAYED_AT: usize = 3;

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Machine,
    Network,
    World,
}

fn scope(ip: IpAddr) -> Scope {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match ip.is_loopback() {
        true => Scope::Machine,
        false if local => Scope::Network,
        false => Scope::World,
    }
}

/// Whether the address means the machine it is used on.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| scope(ip) == Scope::Machine)
}

/// The address without the peer's name, if this node can dial it: one with an IP address, and of `peer` if it names one.
pub(crate) fn dialable(address: &Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    let usable = match ip(address)? {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        // A link-local address is of use only with the name of an interface, which a multiaddr does not carry.
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    // A relayed address need not say whom it leads to, as long as it is clear who told it.
    let complete =
        if is_open_circuit(address) { address.clone().with(Protocol::P2p(peer)) } else { address.clone() };
    let named = parse_dial(&complete).ok()?;
    (usable && named.is_none_or(|named| named == peer)).then(|| without_peer(complete))
}

fn is_open_circuit(address: &Multiaddr) -> bool {
    address.iter().last() == Some(Protocol::P2pCircuit)
}

/// What a peer says of itself, best first: the address at which it was seen, then those of the same kind. Loopback addresses
/// are taken only of a peer that was itself seen there, since from elsewhere they mean another machine.
pub(crate) fn of_itself(addresses: &[Multiaddr], peer: PeerId, seen_at: &Multiaddr) -> Vec<Multiaddr> {
    let seen = ip(seen_at);
    let mut usable = usable(addresses, peer, is_loopback(seen_at));
    usable.sort_by_key(|address| {
        let at = ip(address);
        (at != seen, at.map(scope) != seen.map(scope))
    });
    pick(usable)
}

/// What others say of a peer. `near`: this node has neighbours on its own machine, so that loopback addresses may mean something.
pub(crate) fn of_hearsay(addresses: &[Multiaddr], peer: PeerId, near: bool) -> Vec<Multiaddr> {
    pick(usable(addresses, peer, near))
}

fn usable(addresses: &[Multiaddr], peer: PeerId, loopback: bool) -> Vec<Multiaddr> {
    let mut usable: Vec<Multiaddr> = Vec::new();
    for address in addresses.iter().filter_map(|address| dialable(address, peer)) {
        if (loopback || !is_loopback(&address)) && !usable.contains(&address) {
            usable.push(address);
        }
    }
    usable
}

fn pick(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut scopes = Vec::new();
    // Without the peer's name a relayed address ends in the circuit.
    let (relayed, direct): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_open_circuit);
    let (mut picked, rest): (Vec<_>, Vec<_>) = direct.into_iter().partition(|address| {
        let scope = ip(address).map(scope);
        scopes.push(scope);
        scopes.iter().filter(|other| **other == scope).count() <= MAX_OF_SCOPE
    });
    picked.extend(rest);
    let at = picked.len().min(RELAYED_AT);
    picked.splice(at..at, relayed.into_iter().take(MAX_RELAYED));
    picked.truncate(MAX_ADDRESSES);
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_that_can_be_dialled_are_taken_and_without_the_name() {
        let peer = PeerId::random();
        let named = format!("/ip4/10.0.0.1/tcp/4000/p2p/{peer}");
        let stranger = format!("/ip4/10.0.0.1/tcp/4001/p2p/{}", PeerId::random());
        let all = addresses(&[
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/udp/4001",
            "/ip4/10.0.0.1/tcp/4001/http",
            "/ip4/10.0.0.1/udp/4001/webrtc-direct",
            "/ip4/224.0.0.1/tcp/4001",
            "/ip6/fe80::1/tcp/4001",
            "/dns4/localhost/tcp/80",
            "/memory/5",
            &named,
            &stranger,
            "/ip4/10.0.0.1/tcp/4000",
        ]);
        let expected = addresses(&["/ip4/10.0.0.1/tcp/4000"]);
        assert_eq!(of_itself(&all, peer, &at("/ip4/10.0.0.1/tcp/50000")), expected);
        assert_eq!(of_hearsay(&all, peer, false), expected);
    }

    #[test]
    fn loopback_counts_among_neighbours_on_one_machine_only() {
        let peer = PeerId::random();
        let all = addresses(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/10.0.0.1/tcp/1"]);
        assert_eq!(of_itself(&all, peer, &at("/ip4/127.0.0.1/tcp/50000")), all);
        assert_eq!(of_itself(&all, peer, &at("/ip4/10.0.0.9/tcp/50000")), all[2..]);
        assert_eq!(of_hearsay(&all, peer, true), all);
        assert_eq!(of_hearsay(&all, peer, false), all[2..]);
    }

    #[test]
    fn where_a_peer_was_seen_comes_first_and_no_kind_of_address_crowds_out_the_others() {
        let peer = PeerId::random();
        let all = addresses(&[
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/172.17.0.1/tcp/1",
            "/ip4/172.18.0.1/tcp/1",
            "/ip4/172.19.0.1/tcp/1",
            "/ip4/172.20.0.1/tcp/1",
            "/ip4/172.21.0.1/tcp/1",
            "/ip4/172.22.0.1/tcp/1",
            "/ip4/192.168.0.7/tcp/1",
            "/ip6/2001:db8::7/tcp/1",
            "/ip4/203.0.113.7/tcp/1",
        ]);
        assert_eq!(
            of_itself(&all, peer, &at("/ip4/192.168.0.7/tcp/50000")),
            addresses(&[
                "/ip4/192.168.0.7/tcp/1",
                "/ip4/172.17.0.1/tcp/1",
                "/ip4/172.18.0.1/tcp/1",
                "/ip4/172.19.0.1/tcp/1",
                "/ip6/2001:db8::7/tcp/1",
                "/ip4/203.0.113.7/tcp/1",
                "/ip4/172.20.0.1/tcp/1",
                "/ip4/172.21.0.1/tcp/1",
            ])
        );
        assert_eq!(
            of_itself(&all, peer, &at("/ip4/203.0.113.7/tcp/50000"))[..2],
            addresses(&["/ip4/203.0.113.7/tcp/1", "/ip6/2001:db8::7/tcp/1"])
        );
        let many: Vec<Multiaddr> = (1..=50).map(|port| at(&format!("/ip4/10.0.0.1/tcp/{port}"))).collect();
        assert_eq!(of_hearsay(&many, peer, false), many[..MAX_ADDRESSES]);
    }

    #[test]
    fn a_relayed_address_or_two_are_kept_and_need_not_say_whom_they_lead_to() {
        let (peer, relay) = (PeerId::random(), PeerId::random());
        let circuit = |ip: &str| format!("/ip4/{ip}/tcp/4002/p2p/{relay}/p2p-circuit");
        let complete = format!("{}/p2p/{peer}", circuit("203.0.113.1"));
        let strangers = format!("{}/p2p/{}", circuit("203.0.113.1"), PeerId::random());
        let [open, third] = [circuit("203.0.113.2"), circuit("203.0.113.3")];
        let direct: Vec<String> = (1..=5).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        let mut told: Vec<&str> = vec![&complete, &strangers, &open, &third];
        told.extend(direct.iter().map(String::as_str));
        let expected =
            [&direct[0], &direct[1], &direct[2], &circuit("203.0.113.1"), &open, &direct[3], &direct[4]];
        let expected: Vec<&str> = expected.into_iter().map(String::as_str).collect();
        assert_eq!(of_hearsay(&addresses(&told), peer, false), addresses(&expected));
    }
}
