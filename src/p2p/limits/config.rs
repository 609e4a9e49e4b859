//! What a node admits at most, as its configuration says it.

use serde::{Deserialize, Serialize};

use super::NodeRole;

/// The `limits` table of a node. What is refused for one of them is counted in `p2p_refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that are being made to us at once. Each costs a handshake of some 30 KB and a millisecond, for a stranger
    /// who may never finish it. Default 64; a bootnode, which takes the start of a whole swarm, 512.
    pub pending_inbound: u32,
    /// Of these, those from one address. Default 16 (bootnode 128): a quarter, so that who never finishes a handshake fills only
    /// its own part.
    pub pending_per_address: u32,
    /// Connections that we are making at once. Default 24: the manager dials at most [`MAX_DIALS`](crate::p2p::peers::MAX_DIALS),
    /// the rest is for `connect` commands.
    pub pending_outbound: u32,
    /// Connections, all together. Default twice `high_peers`, but not less than 16: new ones live for a while before the node trims. The first of
    /// a swarm that starts together would otherwise hold thirty and more for a moment, and keep the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_connections: Option<u32>,
    /// Connections with one peer. Default 2: one, and a second for the moment when both sides dialled each other.
    pub connections_per_peer: u32,
    /// Inbound connections from one IP address; an IPv6 address stands for its /64. Default 32 (bootnode 256): a household or an
    /// office behind one address, not one who fills all places under many names.
    pub connections_per_address: u32,
    /// Whether the limits by address hold for loopback addresses, too. Default no: a whole swarm may live on this machine.
    pub count_loopback: bool,
    /// Substreams that a peer may have open on one connection. Default 128: each protocol holds one or two, and Kademlia opens one
    /// per request. Each may fill 256 KiB here before it is read.
    pub streams: u32,
    /// Of these, those whose protocol is not agreed on yet. Default 32; further ones wait.
    pub negotiating_streams: u32,
    /// Bytes that the process may hold in memory before it lets no more strangers in. Default 1 GiB. 0: no limit.
    pub memory: u64,
    /// Bytes of one topic message, encoded. Default 132,096: the longest text when every character is written as two bytes.
    pub message_size: u32,
    /// Topics that one peer may subscribe to, and most subscriptions in one request. Default 128: each costs memory here.
    pub subscriptions: u32,
}

impl Limits {
    /// The defaults of a node or bootnode.
    #[must_use]
    pub const fn of(role: NodeRole) -> Self {
        let (pending_inbound, pending_per_address, connections_per_address) = match role {
            NodeRole::Node => (64, 16, 32),
            NodeRole::Bootnode => (512, 128, 256),
        };
        Self {
            pending_inbound,
            pending_per_address,
            pending_outbound: 24,
            total_connections: None,
            connections_per_peer: 2,
            connections_per_address,
            count_loopback: false,
            streams: 128,
            negotiating_streams: 32,
            memory: 1 << 30,
            message_size: crate::p2p::topics::MAX_ENCODED_BYTES as u32,
            subscriptions: 128,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(NodeRole::Node)
    }
}
