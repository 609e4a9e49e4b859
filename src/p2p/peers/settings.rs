//! The marks and times of the connection manager, each with its reason.

use std::time::Duration;

use libp2p::PeerId;

use crate::p2p::config::NodeConfig;
use crate::p2p::limits::NodeRole;

/// What a manager aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub local: PeerId,
    /// Below this many peers it dials and searches.
    pub low: usize,
    /// Above this many it closes some.
    pub high: usize,
}

impl Settings {
    /// The marks of `config`. A bootnode looks for nobody: all others come to it.
    #[must_use]
    pub fn new(local: PeerId, role: NodeRole, config: &NodeConfig) -> Self {
        let (low, high) = (config.low_peers as usize, config.high_peers as usize);
        match role {
            NodeRole::Bootnode => Self { local, low: 0, high },
            NodeRole::Node => Self { local, low, high: high.max(low) },
        }
    }
}

/// Dials to candidates under way at once. With few, a swarm that starts together fills up in small steps and the
/// connections made by others count before more are dialled.
pub const MAX_DIALS: usize = 3;
/// Pause after a bootnode was lost or not reached the first time; doubles.
pub(super) const BOOTNODE_BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause between two dials of a bootnode.
pub(super) const BOOTNODE_MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A connection with a bootnode that lasted this long starts the pauses anew.
pub(super) const BOOTNODE_STABLE: Duration = Duration::from_secs(10);
/// Pause between the first two searches; doubles. The first answers of a network that is just starting are short.
pub(super) const SEARCH_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two searches: the price of a network smaller than `low` is one small query per peer in this time.
pub(super) const SEARCH_MAX: Duration = Duration::from_secs(30);
/// Shortest time between two searches, whatever happens.
pub(super) const SEARCH_GAP: Duration = Duration::from_millis(50);
/// How long the peer with the greater id leaves the first dial to the other: a loopback or LAN dial is done by then.
pub(super) const YIELD: Duration = Duration::from_millis(120);
/// A connection younger than this is not trimmed, so that a newcomer can learn of others through it.
pub(super) const TRIM_GRACE: Duration = Duration::from_secs(10);
/// A peer that went away is left alone this long: it may have had its reasons.
pub(super) const REJOIN_PAUSE: Duration = Duration::from_secs(5);
/// A peer that the user closed is left alone this long.
pub(super) const UNWANTED_PAUSE: Duration = Duration::from_secs(60);
