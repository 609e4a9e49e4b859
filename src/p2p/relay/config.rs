//! What a relay gives to others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `relay` table of a node: whether it passes on others' bytes, and how much of it.
///
/// Two hundred nodes on one host must find a place, so nothing is limited by address; what a single peer may take is limited by
/// its id, and what all take together by the totals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Whether this node is a relay. Default: a bootnode is, a node is not.
    pub enabled: bool,
    /// Peers that may have a place here, to be reached through this node. Each costs a kilobyte. Default 1,000, as many as a bootnode
    /// keeps connections.
    pub max_reservations: u32,
    /// How long a place is kept for a peer that does not ask for it again. Default one hour.
    #[serde(with = "humantime_serde")]
    pub reservation_duration: Duration,
    /// Connections passed on at once. Each costs two streams and some 20 KB of buffers. Default 2,048: 200 nodes that nobody can reach
    /// directly, with ten such neighbours each.
    pub max_circuits: u32,
    /// Those of one peer, above which it cannot open more; those that others opened to it count, too. Default 64: more than a node has
    /// connections.
    pub max_circuits_per_peer: u32,
    /// Bytes of one connection, both ways together; then it is cut. Default 64 MiB: talk, and a file or two.
    pub max_circuit_bytes: u64,
    /// Longest life of one connection. Default one hour: long enough not to disturb those whom nothing else connects.
    #[serde(with = "humantime_serde")]
    pub max_circuit_duration: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            max_reservations: 1_000,
            reservation_duration: Duration::from_secs(3_600),
            max_circuits: 2_048,
            max_circuits_per_peer: 64,
            max_circuit_bytes: 64 << 20,
            max_circuit_duration: Duration::from_secs(3_600),
        }
    }
}

impl RelayConfig {
    /// The defaults of a bootnode.
    #[must_use]
    pub fn of_bootnode() -> Self {
        Self { enabled: true, ..Self::default() }
    }
}
