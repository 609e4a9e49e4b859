//! Whether others can reach this node, and where: AutoNAT v2, asked ([`Probes`]) and answered ([`DialBacks`]).
//!
//! A node on loopback alone needs neither: whoever can reach it is on the same machine.

mod dial_backs;
mod probes;

pub(crate) use dial_backs::DialBacks;
pub(crate) use probes::Probes;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::address::Listen;

/// A connection that was made for nothing but to see whether it can be made. It is the first to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
}

/// Whether it is a question from where a node that listens on these can be reached.
pub(crate) fn is_question<'a>(listens: impl IntoIterator<Item = &'a Listen>) -> bool {
    listens.into_iter().any(|listen| match listen {
        Listen::Socket(socket, _) => !socket.address().ip().is_loopback(),
        Listen::Relay => true,
    })
}
