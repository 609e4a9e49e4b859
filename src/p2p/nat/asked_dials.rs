//! Dials that a behaviour makes because a peer has asked for them: those, and no others, are looked at before they are made.

use std::collections::HashSet;

use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm};

/// A dial that a peer asked for and does not get.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the peer may not have this address dialled")]
struct NotForYou;

/// Those under way. There are not more of them than there may be pending connections.
#[derive(Debug, Default)]
pub(super) struct AskedDials(HashSet<ConnectionId>);

impl AskedDials {
    /// A peer has asked for this one.
    pub(super) fn begin(&mut self, id: ConnectionId) {
        self.0.insert(id);
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.0.contains(&id)
    }

    /// The answer to a peer that may not have it.
    pub(super) fn deny() -> ConnectionDenied {
        ConnectionDenied::new(NotForYou)
    }

    /// Forgets those that have come to an end. Says whether one of them has become a connection.
    pub(super) fn on_swarm_event(&mut self, event: &FromSwarm) -> bool {
        match event {
            FromSwarm::ConnectionEstablished(made) => self.0.remove(&made.connection_id),
            FromSwarm::DialFailure(failure) => {
                self.0.remove(&failure.connection_id);
                false
            }
            _ => false,
        }
    }
}
