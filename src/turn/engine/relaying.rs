//! The fast path: data from clients to peers and back.

use std::net::SocketAddr;
use std::time::Instant;

use stun_types::attribute::{AttributeFromRaw, AttributeStaticType, AttributeWriteExt, RawAttribute};
use stun_types::message::{Message, MessageHeader, TransactionId};
use turn_types::attribute::XorPeerAddress;
use turn_types::channel::ChannelData;

use super::attributes::{self, has_form};
use super::wire::{Client, RelayKey, Sent, Transport, Wire};
use super::{Engine, MAX_REQUEST_BYTES, family, key};
use crate::turn::figures::DropReason;
use crate::turn::filter::Standing;

/// Channels that clients may bind. RFC 8656 ends at 0x4FFF; clients of RFC 5766, coturn's among them, choose up to 0x7FFF.
pub(super) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const BINDING_INDICATION: u16 = 0x0011;
const DATA: u16 = 0x0013;

/// The size of a packet that every path of today carries whole. Linux sets "don't fragment" on all that fits the path and fragments
/// the rest; what is not to be fragmented therefore must not be larger than this.
const WHOLE_PACKET: usize = 1_500;

/// The most that a Data indication puts in front of the payload: header, an IPv6 peer, the head of DATA.
const MAX_HEAD: usize = MessageHeader::LENGTH + 24 + 4;

impl Engine {
    /// Channel data of a client (RFC 8656, 12.6).
    pub(super) fn on_channel_data<W: Wire>(
        &mut self,
        wire: &mut W,
        client: &Client,
        packet: &[u8],
        now: Instant,
    ) {
        // What stands behind the data is padding, however long.
        let Ok(data) = ChannelData::parse(packet) else {
            return self.counters.drop_one(DropReason::Malformed);
        };
        let Some((slot, allocation)) = self.allocation(client) else {
            return self.counters.drop_one(DropReason::NoAllocation);
        };
        match allocation.channel(data.id(), now) {
            Some(channel) => {
                self.send_on(wire, slot, channel.peer, channel.standing, data.data(), false, now);
            }
            None => self.counters.drop_one(DropReason::NoChannel),
        }
    }

    /// A STUN message of a client.
    pub(super) fn on_message<W: Wire>(&mut self, wire: &mut W, client: &Client, packet: &[u8], now: Instant) {
        if !has_form(packet) {
            return self.counters.drop_one(DropReason::Malformed);
        }
        match u16::from_be_bytes([packet[0], packet[1]]) {
            SEND_INDICATION => self.on_send(wire, client, packet, now),
            // A client that keeps its way through a NAT open.
            BINDING_INDICATION => {}
            kind if kind & 0x0110 == 0 && packet.len() <= MAX_REQUEST_BYTES => {
                match Message::from_bytes(packet) {
                    Ok(message) => self.on_request(wire, client, &message, now),
                    Err(_) => self.counters.drop_one(DropReason::Malformed),
                }
            }
            _ => self.counters.drop_one(DropReason::Malformed),
        }
    }

    /// A Send indication (RFC 8656, 11.2).
    fn on_send<W: Wire>(&mut self, wire: &mut W, client: &Client, packet: &[u8], now: Instant) {
        let sending = attributes::sending(packet).and_then(|sending| {
            let transaction = transaction(packet)?;
            let peer = RawAttribute::new(XorPeerAddress::TYPE, sending.peer);
            let peer = XorPeerAddress::from_raw_ref(&peer).ok()?.addr(transaction);
            Some((peer, sending))
        });
        let Some((peer, sending)) = sending else {
            return self.counters.drop_one(DropReason::Malformed);
        };
        let Some((slot, allocation)) = self.allocation(client) else {
            return self.counters.drop_one(DropReason::NoAllocation);
        };
        match allocation.permission(peer.ip(), now) {
            Some(standing) => self.send_on(wire, slot, peer, standing, sending.data, sending.whole, now),
            None => self.counters.drop_one(DropReason::NoPermission),
        }
    }

    /// Sends data on to a peer whom the client may talk with.
    #[allow(clippy::too_many_arguments, reason = "the parts of one packet on the fast path")]
    fn send_on<W: Wire>(
        &mut self,
        wire: &mut W,
        slot: u32,
        peer: SocketAddr,
        standing: Standing,
        data: &[u8],
        whole: bool,
        now: Instant,
    ) {
        let Some(target) = self.target(wire, peer, standing) else {
            return self.counters.drop_one(DropReason::Forbidden);
        };
        let headers = if peer.is_ipv4() { 28 } else { 48 };
        if whole && data.len() + headers > WHOLE_PACKET {
            return self.counters.drop_one(DropReason::TooLarge);
        }
        if !self.within_rate(slot, 0, data.len(), now) {
            return self.counters.drop_one(DropReason::OverRate);
        }
        let sent = wire.to_peer(key(slot, family(peer.ip())), target, data);
        self.count(sent);
        if sent == Sent::Yes {
            self.counters.traffic.received(data.len());
            if let Some(allocation) = &self.slots[slot as usize] {
                allocation.figures.traffic.received(data.len());
            }
        }
    }

    /// Where a packet for `peer` really goes; `None` if it may not.
    fn target<W: Wire>(&self, wire: &W, peer: SocketAddr, standing: Standing) -> Option<SocketAddr> {
        let Standing::Own { allowed } = standing else {
            return (standing == Standing::Open).then_some(peer);
        };
        let shared = &self.shared;
        if wire.is_own_relay(peer) {
            return Some(peer);
        }
        if shared.config.external_address == Some(peer.ip()) {
            // Seen from inside, the NAT in front of the server need not lead back here.
            let relays = shared.filter.relays.iter().map(|relay| SocketAddr::new(*relay, peer.port()));
            return relays.into_iter().find(|relay| wire.is_own_relay(*relay));
        }
        (allowed && !shared.filter.is_service(peer)).then_some(peer)
    }

    /// A packet that came from `from` to a relay socket (RFC 8656, 11.3 and 12.7).
    pub fn on_relay_packet<W: Wire>(
        &mut self,
        wire: &mut W,
        relay: RelayKey,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) {
        let slot = relay.0 >> 1;
        let Some(allocation) = self.slots.get(slot as usize).and_then(Option::as_deref) else {
            return self.counters.drop_one(DropReason::NoAllocation);
        };
        // Zones and flow labels are the receiver's affair.
        let mut peer = SocketAddr::new(from.ip(), from.port());
        let is_relay = wire.is_own_relay(peer);
        if is_relay {
            peer = self.shared.seen_from_outside(peer);
        }
        match allocation.permission(peer.ip(), now) {
            Some(Standing::Own { allowed: false }) if !is_relay => {
                return self.counters.drop_one(DropReason::NoPermission);
            }
            Some(_) => {}
            None => return self.counters.drop_one(DropReason::NoPermission),
        }
        let (client, channel) = (allocation.client, allocation.channel_of(peer, now));
        if !self.within_rate(slot, 1, data.len(), now) {
            return self.counters.drop_one(DropReason::OverRate);
        }
        let sent = match channel {
            Some(number) => {
                let [a, b] = number.to_be_bytes();
                let [c, d] = (data.len() as u16).to_be_bytes();
                // A datagram ends by itself; in a stream the next message begins at a multiple of four (RFC 8656, 12.5).
                let padding = if client.transport == Transport::Udp { &[] } else { padding(data.len()) };
                wire.to_client(&client, [&[a, b, c, d], data, padding])
            }
            None => self.indicate(wire, &client, peer, data),
        };
        self.count(sent);
        if sent == Sent::Yes {
            self.counters.traffic.sent(data.len());
            if let Some(allocation) = &self.slots[slot as usize] {
                allocation.figures.traffic.sent(data.len());
            }
        }
    }

    /// Sends a Data indication.
    fn indicate<W: Wire>(&mut self, wire: &mut W, client: &Client, peer: SocketAddr, data: &[u8]) -> Sent {
        let transaction = TransactionId::from(self.next_transaction);
        self.next_transaction += 1;
        let mut head = [0; MAX_HEAD];
        let peer_length = if peer.is_ipv4() { 12 } else { 24 };
        let length = MessageHeader::LENGTH + peer_length + 4;
        let body = peer_length + 4 + data.len().next_multiple_of(4);
        let (Ok(body), Ok(data_length)) = (u16::try_from(body), u16::try_from(data.len())) else {
            return Sent::TooLarge;
        };
        head[..2].copy_from_slice(&DATA_INDICATION.to_be_bytes());
        head[2..4].copy_from_slice(&body.to_be_bytes());
        // The magic cookie and 96 bits of transaction.
        let id = 0x2112_a442_u128 << 96 | u128::from(transaction);
        head[4..MessageHeader::LENGTH].copy_from_slice(&id.to_be_bytes());
        let address = XorPeerAddress::new(peer, transaction);
        if address.write_into(&mut head[MessageHeader::LENGTH..]).is_err() {
            return Sent::No;
        }
        head[length - 4..length - 2].copy_from_slice(&DATA.to_be_bytes());
        head[length - 2..length].copy_from_slice(&data_length.to_be_bytes());
        wire.to_client(client, [&head[..length], data, padding(data.len())])
    }

    /// Whether `bytes` more are within the limits of one allocation and of all: way 0 to peers, 1 to clients.
    fn within_rate(&mut self, slot: u32, way: usize, bytes: usize, now: Instant) -> bool {
        let shared = &self.shared;
        let Some(allocation) = self.slots[slot as usize].as_deref_mut() else { return false };
        if allocation.rates.is_none() && shared.total_rates.is_none() {
            return true;
        }
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX);
        let own = allocation.rates.as_mut().is_none_or(|rates| rates[way].holds(cost, now));
        let passes = own
            && shared.total_rates.as_ref().is_none_or(|rates| {
                rates.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[way].take(cost, now)
            });
        if let (true, Some(rates)) = (passes, allocation.rates.as_mut()) {
            let taken = rates[way].take(cost, now);
            debug_assert!(taken, "the bucket was asked before");
        }
        passes
    }

    /// Counts a packet that did not go out.
    pub(super) fn count(&self, sent: Sent) {
        match sent {
            Sent::Yes => {}
            Sent::QueueFull => self.counters.drop_one(DropReason::QueueFull),
            Sent::TooLarge => self.counters.drop_one(DropReason::TooLarge),
            Sent::No => self.counters.drop_one(DropReason::NotSent),
        }
    }
}

/// What fills `length` up to a multiple of four.
fn padding(length: usize) -> &'static [u8] {
    &[0; 3][..length.wrapping_neg() % 4]
}

fn transaction(packet: &[u8]) -> Option<TransactionId> {
    let id: [u8; 16] = packet.get(4..MessageHeader::LENGTH)?.try_into().ok()?;
    Some(TransactionId::from(u128::from_be_bytes(id) & ((1 << 96) - 1)))
}
