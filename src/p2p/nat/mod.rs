//! Whether others can reach this node, and where: AutoNAT v2, asked ([`Probes`]) and answered ([`DialBacks`]).
//!
//! [`HolePunches`] are the way to a node that cannot be reached.
//!
//! A node on loopback alone needs none of it: whoever can reach it is on the same machine.

mod asked_dials;
mod dial_backs;
mod hole_punches;
mod probes;

pub(crate) use dial_backs::DialBacks;
pub(crate) use hole_punches::HolePunches;
pub(crate) use probes::Probes;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::address::{Listen, choice};

/// A connection that was made for nothing but to see whether it can be made. It is the first to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
}

/// Which of the addresses that a node listens on others are told as the way to it: those on loopback only where there are no others.
pub(crate) fn worth_telling<'a>(listening: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let (loopback, others): (Vec<_>, Vec<_>) = listening.cloned().partition(choice::is_loopback);
    if others.is_empty() { loopback } else { others }
}

/// Whether it is a question from where a node that listens on these can be reached.
pub(crate) fn is_question<'a>(listens: impl IntoIterator<Item = &'a Listen>) -> bool {
    listens.into_iter().any(|listen| match listen {
        Listen::Socket(socket, _) => !socket.address().ip().is_loopback(),
        Listen::Relay => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::address::parse_listen;

    #[test]
    fn only_what_others_can_use_is_told() {
        let all = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/10.0.0.1/tcp/1"]
            .map(|text| text.parse().unwrap());
        assert_eq!(worth_telling(all.iter()), all[2..]);
        assert_eq!(worth_telling(all[..2].iter()), all[..2]);
    }

    #[test]
    fn a_node_on_loopback_alone_asks_nobody_where_it_is() {
        let asks = |text: &str| is_question([&parse_listen(&text.parse().unwrap()).unwrap()]);
        assert!(!asks("/ip4/127.0.0.1/tcp/0"));
        assert!(!asks("/ip6/::1/udp/0/quic-v1"));
        assert!(asks("/ip4/0.0.0.0/tcp/0"));
        assert!(asks("/p2p-circuit"));
    }
}
