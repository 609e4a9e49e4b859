//! What the network answers to a packet that went to a peer: that nobody listens there, that there is no way (RFC 8656, 11.5).

use std::net::SocketAddr;
use std::time::Instant;

use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec};
use turn_types::attribute::{Icmp, XorPeerAddress};
use turn_types::message::DATA;

use super::wire::{RelayKey, Sent, Wire};
use super::{Allocation, Engine};
use crate::token_bucket::Rate;
use crate::turn::figures::DropReason;
use crate::turn::filter::Standing;

/// How many a client is told of: as many at once as it may have peers under way that have just gone, and then a few a second. Each costs a
/// system call and a packet, and the next packet to a dead port brings the next one.
pub(super) const RATE: Rate = Rate::per_second(32, 8);

/// An ICMP message about a packet that was sent from a relay socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Where the packet was to go.
    pub peer: SocketAddr,
    /// The type, of ICMP for an IPv4 peer and of ICMPv6 for an IPv6 peer.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The largest packet that would have passed, where it was too large; otherwise 0.
    pub mtu: u32,
}

impl Unreachable {
    /// Whether clients are told of it: destination unreachable, time exceeded, and packet too big in IPv6.
    fn is_told(&self) -> bool {
        if self.peer.is_ipv4() { matches!(self.kind, 3 | 11) } else { matches!(self.kind, 1..=3) }
    }

    /// The field that RFC 8656, 18.13 calls error data.
    fn error_data(&self) -> u32 {
        let tells_size = if self.peer.is_ipv4() { (self.kind, self.code) == (3, 4) } else { self.kind == 2 };
        if tells_size { self.mtu } else { 0 }
    }
}

impl Engine {
    /// The network tells of a packet that went from a relay socket to a peer.
    pub fn on_unreachable<W: Wire>(
        &mut self,
        wire: &mut W,
        relay: RelayKey,
        what: Unreachable,
        now: Instant,
    ) {
        let slot = (relay.0 >> 1) as usize;
        let Some(allocation) = self.slots.get_mut(slot).and_then(Option::as_deref_mut) else {
            return self.counters.drop_one(DropReason::NoAllocation);
        };
        let (peer, relays) = (what.peer, &self.shared.filter.relays);
        // A relay address that is none any more: the client knows it by the address of the NAT in front of the server.
        let outside = relays.contains(&peer.ip()).then(|| self.shared.seen_from_outside(peer));
        let named = [Some(peer), outside].into_iter().flatten().find(|of| may_know(allocation, *of, now));
        let Some(peer) = named else { return self.counters.drop_one(DropReason::NoPermission) };
        if !what.is_told() || !allocation.unreachable.take(1, now) {
            return self.counters.drop_one(DropReason::Icmp);
        }
        let client = allocation.client;
        let mut message = Message::builder_indication(DATA, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, message.transaction_id());
        let icmp = Icmp::new(what.kind, what.code, what.error_data());
        if message.add_attribute(&peer).and_then(|()| message.add_attribute(&icmp)).is_err() {
            return self.count(Sent::No);
        }
        let sent = wire.to_client(&client, [&message.finish(), &[], &[]]);
        self.count(sent);
        if sent == Sent::Yes {
            self.counters.told_unreachable();
        }
    }
}

/// Whether the client has asked to talk with `peer`, and may.
fn may_know(allocation: &Allocation, peer: SocketAddr, now: Instant) -> bool {
    allocation.permission(peer.ip(), now).is_some_and(|standing| standing != Standing::Denied)
}
