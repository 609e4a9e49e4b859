//! The marks and times of the connection manager, each with its reason.

use std::time::Duration;

use libp2p::PeerId;

use crate::p2p::config::NodeConfig;
use crate::p2p::limits::NodeRole;
use crate::token_bucket::Rate;

/// What a manager aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub local: PeerId,
    /// Below this many peers it dials and searches.
    pub low: usize,
    /// Above this many it closes some.
    pub high: usize,
    /// Connected peers wanted on each joined topic.
    pub topic_peers: usize,
}

impl Settings {
    /// The marks of `config`. A bootnode looks for nobody: all others come to it.
    #[must_use]
    pub fn new(local: PeerId, role: NodeRole, config: &NodeConfig) -> Self {
        let (low, high) = (config.low_peers as usize, config.high_peers as usize);
        match role {
            NodeRole::Bootnode => Self { local, low: 0, high, topic_peers: 0 },
            NodeRole::Node => Self { local, low, high: high.max(low), topic_peers: TOPIC_PEERS },
        }
    }
}

/// Neighbours wanted on each topic: as many as gossipsub puts into its mesh.
pub(super) const TOPIC_PEERS: usize = 6;
/// Peers above `low` that a node looks for, one after the other, while no neighbour takes it into its mesh. In a swarm that starts together those
/// that came first are known to everybody, and their meshes full: a newcomer that knows no others would wait until they are trimmed.
pub(super) const LEFT_OUT_EXTRA: usize = 4;
/// Peers remembered of each topic that are said to be on it.
pub(super) const MAX_SAID: usize = 32;
/// Pause between two dials, or handfuls of dials, for topics: by then others may have dialled us for the same topic.
pub(super) const MEMBERS_PAUSE: Duration = Duration::from_secs(1);
/// Shortest and longest time from having `low` peers to the first dial above that for a topic. Most of those peers may be on it,
/// and are about to say so: within the longest, everybody is waited for who has just come. A swarm that starts together would
/// otherwise end up with a third more connections than it needs.
pub(super) const SETTLE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// How long a peer may take to say which topics it is on: one that is said to be on a topic counts as a member so long.
pub(super) const SUBSCRIBE_GRACE: Duration = Duration::from_secs(5);
/// Dials to candidates under way at once. With few, a swarm that starts together fills up in small steps and the
/// connections made by others count before more are dialled.
pub const MAX_DIALS: usize = 3;
/// Pause after a bootnode was lost or not reached the first time; doubles.
pub(super) const BOOTNODE_BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause between two dials of a bootnode.
pub(super) const BOOTNODE_MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Pause after a dial that was not made because of this node's own limits.
pub(super) const PUT_OFF: Duration = Duration::from_secs(1);
/// A connection that lasted this long starts the pauses anew when it is lost: those of dials to a bootnode, those of
/// searches for any peer.
pub(super) const STABLE: Duration = Duration::from_secs(10);
/// Pause between the first two searches; doubles. The first answers of a network that is just starting are short.
pub(super) const SEARCH_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two searches: the price of a network smaller than `low` is one small query per peer in this time.
pub(super) const SEARCH_MAX: Duration = Duration::from_secs(30);
/// Shortest time between two searches, whatever happens.
pub(super) const SEARCH_GAP: Duration = Duration::from_millis(50);
/// Searches that may follow each other as fast as the pauses allow, and the time in which one more may: whoever makes a
/// node search by coming and going gets no more than these.
pub(super) const SEARCHES: Rate = Rate::one_each(20, Duration::from_secs(3));
/// Pause between the first two lookups of a topic; doubles.
pub(super) const LOOKUP_FIRST: Duration = Duration::from_millis(500);
/// Longest pause between two lookups of a topic. Rare, since of two members the one that comes later finds the other; the
/// price of a topic with fewer members than wanted is one small query per peer in this time.
pub(super) const LOOKUP_MAX: Duration = Duration::from_secs(300);
/// Lookups of all topics together, as [`SEARCHES`]: at first one of each topic that a node may join.
pub(super) const LOOKUPS: Rate = Rate::one_each(64, Duration::from_secs(3));
/// How long the peer with the greater id leaves the first dial to the other: a loopback or LAN dial is done by then.
pub(super) const YIELD: Duration = Duration::from_millis(120);
/// A connection younger than this is not trimmed, so that a newcomer can learn of others through it.
pub(super) const TRIM_GRACE: Duration = Duration::from_secs(10);
/// A peer that went away is left alone this long: it may have had its reasons.
pub(super) const REJOIN_PAUSE: Duration = Duration::from_secs(5);
/// A peer that the user closed is left alone this long.
pub(super) const UNWANTED_PAUSE: Duration = Duration::from_secs(60);
