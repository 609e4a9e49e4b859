//! The relay's decisions: a packet, who sent it and the time go in; what must be sent, opened and closed comes out.
//!
//! ```text
//!   client ──► on_packet ──┬─ request ──► requests   (who may, what is granted)
//!                          └─ data ─────► relaying ──► Wire::to_peer
//!   peer ────► on_relay_packet ─────────► relaying ──► Wire::to_client
//!   network ─► on_unreachable ──────► unreachable ──► Wire::to_client
//! ```
//!
//! No clock, socket or task: all of the world is behind the trait [`Wire`]. One engine serves one thread's part of the clients; what all
//! threads share (quotas, nonces, the list of what lives) is in [`Shared`].

mod allocation;
mod answers;
mod attributes;
mod authentication;
mod relaying;
mod requests;
#[cfg(test)]
mod tests;
mod unreachable;
mod wire;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use ring::hmac;

use self::allocation::Allocation;
use self::answers::Answers;
pub use self::unreachable::Unreachable;
pub use self::wire::{Client, Opened, RelayKey, Sent, Transport, Wanted, Wire};
use super::TurnConfig;
use super::figures::{Counters, DropReason, Registry};
use super::filter::PeerFilter;
use super::nonce::Nonces;
use super::quota::Quotas;
use super::strangers::Strangers;
use crate::token_bucket::{Rate, TokenBucket};

/// The longest request read. Real ones have some 200 bytes.
const MAX_REQUEST_BYTES: usize = 8_192;

/// What all engines of a server share.
#[derive(Debug)]
pub struct Shared {
    config: TurnConfig,
    filter: PeerFilter,
    /// Whether there are relay addresses: IPv4, IPv6.
    families: [bool; 2],
    nonces: Nonces,
    labels: hmac::Key,
    start: Instant,
    pub(super) quotas: Quotas,
    pub(super) registry: Registry,
    strangers: Option<Strangers>,
    total_rates: Option<Mutex<[TokenBucket; 2]>>,
}

impl Shared {
    /// For a server that begins at `now`; `random` bytes are the keys of its nonces and labels.
    #[must_use]
    pub fn new(config: TurnConfig, filter: PeerFilter, random: [[u8; 32]; 2], now: Instant) -> Self {
        let has = |is_v6| filter.relays.iter().any(|address| address.is_ipv6() == is_v6);
        let nonce_seconds = u32::try_from(config.nonce_lifetime.as_secs()).unwrap_or(u32::MAX);
        Self {
            families: [has(false), has(true)],
            nonces: Nonces::new(random[0], nonce_seconds.max(1)),
            labels: hmac::Key::new(hmac::HMAC_SHA256, &random[1]),
            start: now,
            quotas: Quotas::new(config.max_allocations, config.max_per_user, config.max_per_address),
            registry: Registry::default(),
            strangers: Strangers::new(config.stranger_answers_per_second, now),
            total_rates: buckets(config.total_bytes_per_second, now).map(Mutex::new),
            config,
            filter,
        }
    }

    /// Seconds since the start, which nonces are made of.
    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    /// Stands for a user in figures.
    fn label(&self, user: &str) -> String {
        let hash = hmac::sign(&self.labels, user.as_bytes());
        hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The address that the world sees instead of a relay's.
    fn seen_from_outside(&self, relay: SocketAddr) -> SocketAddr {
        match self.config.external_address {
            Some(external) if external.is_ipv4() == relay.is_ipv4() => {
                SocketAddr::new(external, relay.port())
            }
            _ => relay,
        }
    }
}

/// Two buckets of `bytes` a second, or none for 0: one for each way.
fn buckets(bytes: u64, now: Instant) -> Option<[TokenBucket; 2]> {
    // A burst of one packet must fit, or nothing would ever pass.
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let rate = Rate::per_second(bytes.max(65_536), bytes);
    (bytes > 0).then(|| [TokenBucket::full(rate, now); 2])
}

/// The allocations of one thread's clients.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    by_client: HashMap<Client, u32>,
    slots: Vec<Option<Box<Allocation>>>,
    free: Vec<u32>,
    answers: Answers,
    /// A moment on both clocks: the steady one for all that lasts, the other for the expiry of credentials.
    clocks: (Instant, SystemTime),
    /// Of Data indications, which nobody answers.
    next_transaction: u128,
}

impl Engine {
    /// Without any allocation, at a moment by both clocks.
    pub(super) fn new(shared: Arc<Shared>, counters: Arc<Counters>, now: Instant, wall: SystemTime) -> Self {
        Self {
            shared,
            counters,
            by_client: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            answers: Answers::default(),
            clocks: (now, wall),
            next_transaction: 1,
        }
    }

    /// A message of a client: one datagram, or one message of a stream.
    pub fn on_packet<W: Wire>(&mut self, wire: &mut W, client: &Client, packet: &[u8], now: Instant) {
        match packet.first() {
            Some(0x40..=0x7f) => self.on_channel_data(wire, client, packet, now),
            Some(0..=3) => self.on_message(wire, client, packet, now),
            _ => self.counters.drop_one(DropReason::Malformed),
        }
    }

    /// Removes what has expired. To be called about once a second while [`Engine::is_idle`] is false, with the time by both clocks.
    pub fn on_tick<W: Wire>(&mut self, wire: &mut W, now: Instant, wall: SystemTime) {
        self.clocks = (now, wall);
        self.answers.forget_old(now);
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|allocation| allocation.expires <= now) {
                self.delete(wire, slot as u32);
            }
        }
    }

    /// A client's connection has ended; with it its allocation does.
    pub fn on_closed<W: Wire>(&mut self, wire: &mut W, client: &Client) {
        if let Some(slot) = self.by_client.get(client) {
            self.delete(wire, *slot);
        }
    }

    /// Ends all allocations.
    pub fn close<W: Wire>(&mut self, wire: &mut W) {
        for slot in 0..self.slots.len() {
            self.delete(wire, slot as u32);
        }
    }

    /// Whether nothing will ever expire.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.by_client.is_empty() && self.answers.is_empty()
    }

    /// How many allocations live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether no allocation lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// Whether this client has an allocation.
    #[must_use]
    pub fn has_allocation(&self, client: &Client) -> bool {
        self.by_client.contains_key(client)
    }

    fn allocation(&mut self, client: &Client) -> Option<(u32, &mut Allocation)> {
        let slot = *self.by_client.get(client)?;
        let allocation = self.slots.get_mut(slot as usize)?.as_deref_mut()?;
        Some((slot, allocation))
    }

    fn delete<W: Wire>(&mut self, wire: &mut W, slot: u32) {
        let Some(allocation) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.by_client.remove(&allocation.client);
        self.free.push(slot);
        for family in [0, 1] {
            if allocation.relays[family].is_some() {
                wire.close(key(slot, family));
            }
        }
        let user = super::credentials::name_of(&allocation.username);
        self.shared.quotas.give_back(user, allocation.client.address.ip());
        self.shared.registry.leave(allocation.figures.id);
    }

    /// The time of day that goes with `now`.
    fn wall(&self, now: Instant) -> SystemTime {
        self.clocks.1 + now.saturating_duration_since(self.clocks.0)
    }
}

/// The name of an allocation's relay socket for a family: 0 for IPv4, 1 for IPv6.
fn key(slot: u32, family: usize) -> RelayKey {
    RelayKey(slot << 1 | family as u32)
}

/// 0 for an IPv4 address, 1 for an IPv6 address.
fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}
