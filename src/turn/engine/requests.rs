//! Requests and their answers (RFC 8656, 7 to 10 and 12).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stun_types::AddressFamily;
use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, PasswordAlgorithmValue, PasswordAlgorithms, RawAttribute, Realm,
    UnknownAttributes, XorMappedAddress,
};
use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteExt, MessageWriteVec};
use turn_types::attribute::{
    AddressErrorCode, ChannelNumber, EvenPort, Lifetime, RequestedTransport, ReservationToken,
    XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use super::allocation::{Allocation, ChannelError};
use super::attributes::{Attributes, Unreadable, read};
use super::authentication::User;
use super::relaying::CHANNELS;
use super::wire::{Client, Opened, Transport, Wanted, Wire};
use super::{Engine, buckets, family, key, unreachable};
use crate::token_bucket::TokenBucket;
use crate::turn::credentials;
use crate::turn::figures::{DropReason, LiveAllocation};
use crate::turn::filter::Standing;
use crate::turn::integrity;

/// The only thing that is relayed (RFC 8656, 18.8): UDP. TCP (RFC 6062) is not.
const UDP: u8 = 17;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: u16,
    /// Tell the client how to authenticate itself.
    challenge: bool,
    unknown: Vec<AttributeType>,
    /// The client has shown a nonce that was sent to its address, so that it is there.
    of_proven: bool,
}

impl Refusal {
    pub(super) fn new(code: u16) -> Self {
        Self { code, challenge: false, unknown: Vec::new(), of_proven: false }
    }

    pub(super) fn challenge(code: u16) -> Self {
        Self { challenge: true, ..Self::new(code) }
    }

    pub(super) fn of_proven(self) -> Self {
        Self { of_proven: true, ..self }
    }
}

impl From<Unreadable> for Refusal {
    fn from(_: Unreadable) -> Self {
        Self::new(400)
    }
}

type Answer = Result<MessageWriteVec, Refusal>;

impl Engine {
    /// A request of a client; it gets one answer, or none where a stranger has had enough.
    pub(super) fn on_request<W: Wire>(
        &mut self,
        wire: &mut W,
        client: &Client,
        message: &Message<'_>,
        now: Instant,
    ) {
        if let Some(answer) = self.answers.to(client, message.as_bytes(), now) {
            let sent = wire.to_client(client, [answer, &[], &[]]);
            return self.count(sent);
        }
        let attributes = Attributes::of(message);
        let mut user = None;
        let answer = self.answer(wire, client, message, &attributes, &mut user, now);
        let is_proven = user.is_some()
            || client.transport != Transport::Udp
            || answer.as_ref().is_err_and(|refusal| refusal.of_proven);
        if let (false, Some(strangers)) = (is_proven, &self.shared.strangers)
            && !strangers.take(client.address.ip(), now)
        {
            return self.counters.drop_one(DropReason::Stranger);
        }
        if message.method() == BINDING && answer.is_ok() {
            self.counters.bindings.fetch_add(1, Ordering::Relaxed);
        }
        let answer = answer.unwrap_or_else(|refusal| self.refuse(client, message, &refusal, now));
        let mut answer = answer.finish();
        if let Some(user) = &user {
            user.key.protect(&mut answer);
        }
        if attributes.has_fingerprint {
            integrity::add_fingerprint(&mut answer);
        }
        if user.is_some() {
            self.answers.remember(client, message.as_bytes(), &answer, now);
        }
        let sent = wire.to_client(client, [&answer, &[], &[]]);
        self.count(sent);
    }

    fn answer<W: Wire>(
        &mut self,
        wire: &mut W,
        client: &Client,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        user: &mut Option<User>,
        now: Instant,
    ) -> Answer {
        let method = message.method();
        if method == BINDING {
            known(attributes)?;
            let mut answer = success(message);
            put(&mut answer, &XorMappedAddress::new(client.address, message.transaction_id()));
            return Ok(answer);
        }
        if ![ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND].contains(&method) {
            return Err(Refusal::new(400));
        }
        let user = user.insert(self.authenticate(client, message, attributes, now)?);
        known(attributes)?;
        if method == ALLOCATE {
            return self.allocate(wire, client, message, attributes, user, now);
        }
        let Some((slot, allocation)) = self.allocation(client) else { return Err(Refusal::new(437)) };
        if *allocation.username != *user.name {
            return Err(Refusal::new(441));
        }
        if method == REFRESH {
            self.refresh(wire, slot, message, attributes, now)
        } else if method == CREATE_PERMISSION {
            self.create_permission(client, message, attributes, now)
        } else {
            self.bind_channel(client, message, attributes, now)
        }
    }

    fn refuse(
        &self,
        client: &Client,
        message: &Message<'_>,
        refusal: &Refusal,
        now: Instant,
    ) -> MessageWriteVec {
        self.counters.refuse(refusal.code);
        let mut answer = Message::builder_error(message, MessageWriteVec::with_capacity(256));
        if let Ok(error) = ErrorCode::new(refusal.code, reason(refusal.code)) {
            put(&mut answer, &error);
        }
        if !refusal.unknown.is_empty() {
            put(&mut answer, &UnknownAttributes::new(&refusal.unknown));
        }
        if refusal.challenge {
            let shared = &self.shared;
            let nonce = shared.nonces.make(client.address, shared.seconds(now));
            if let (Ok(realm), Ok(nonce)) = (Realm::new(&shared.config.realm), Nonce::new(&nonce)) {
                put(&mut answer, &realm);
                put(&mut answer, &nonce);
            }
            let offered = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
            put(&mut answer, &PasswordAlgorithms::new(&offered));
        }
        answer
    }

    /// RFC 8656, 7.2.
    fn allocate<W: Wire>(
        &mut self,
        wire: &mut W,
        client: &Client,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        user: &User,
        now: Instant,
    ) -> Answer {
        if self.by_client.contains_key(client) {
            return Err(Refusal::new(437));
        }
        let wish = Wish::of(attributes)?;
        if let Some(unserved) = wish.families.iter().position(|wanted| *wanted)
            && !self.shared.families[unserved]
            && !(wish.both && self.shared.families[1])
        {
            return Err(Refusal::new(440));
        }
        let (name, address) = (credentials::name_of(&user.name), client.address.ip());
        if !self.shared.quotas.take(name, address) {
            return Err(Refusal::new(486));
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let (relays, token) = self.open(wire, client, slot, &wish);
        let Some(relay) = relays.iter().flatten().next().copied() else {
            self.free.push(slot);
            self.shared.quotas.give_back(name, address);
            return Err(Refusal::new(508));
        };
        let lifetime = self.lifetime(wish.lifetime);
        let figures = Arc::new(LiveAllocation {
            id: self.shared.registry.number(),
            user: self.shared.label(name),
            client: client.address,
            transport: client.transport.as_str(),
            relay: self.shared.seen_from_outside(relay),
            since: self.wall(now),
            traffic: Default::default(),
        });
        self.shared.registry.enter(Arc::clone(&figures));
        self.counters.allocated.fetch_add(1, Ordering::Relaxed);
        let rates = buckets(self.shared.config.bytes_per_second, now).map(Box::new);
        let username = user.name.as_str().into();
        let told = TokenBucket::full(unreachable::RATE, now);
        let allocation = Allocation::new(*client, username, relays, now + lifetime, rates, told, figures);
        self.slots[slot as usize] = Some(Box::new(allocation));
        self.by_client.insert(*client, slot);

        let transaction = message.transaction_id();
        let mut answer = success(message);
        for relay in relays.into_iter().flatten() {
            put(&mut answer, &XorRelayedAddress::new(self.shared.seen_from_outside(relay), transaction));
        }
        if wish.both
            && let Some(missing) = relays.iter().position(Option::is_none)
        {
            let code = if self.shared.families[missing] { 508 } else { 440 };
            let missing = if missing == 0 { AddressFamily::IPV4 } else { AddressFamily::IPV6 };
            if let Ok(error) = ErrorCode::new(code, reason(code)) {
                put(&mut answer, &AddressErrorCode::new(missing, error));
            }
        }
        put(&mut answer, &seconds(lifetime));
        if let Some(token) = token {
            put(&mut answer, &ReservationToken::new(token));
        }
        put(&mut answer, &XorMappedAddress::new(client.address, transaction));
        Ok(answer)
    }

    /// Opens what a client wishes, as far as it can be had.
    fn open<W: Wire>(
        &mut self,
        wire: &mut W,
        client: &Client,
        slot: u32,
        wish: &Wish,
    ) -> ([Option<SocketAddr>; 2], Option<u64>) {
        let mut relays = [None, None];
        let mut token = None;
        if let Some(reserved) = wish.token {
            if let Some(address) = wire.open_reserved([key(slot, 0), key(slot, 1)], reserved) {
                relays[family(address.ip())] = Some(address);
            }
            return (relays, None);
        }
        for (family, relay) in relays.iter_mut().enumerate() {
            if wish.families[family] && self.shared.families[family] {
                let wanted = Wanted {
                    key: key(slot, family),
                    is_v6: family == 1,
                    near: client.local,
                    even: wish.even,
                    reserve: wish.reserve,
                };
                if let Some(Opened { address, token: kept }) = wire.open(wanted) {
                    (*relay, token) = (Some(address), token.or(kept));
                }
            }
        }
        (relays, token)
    }

    /// RFC 8656, 8.2.
    fn refresh<W: Wire>(
        &mut self,
        wire: &mut W,
        slot: u32,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Answer {
        let wanted = read::<Lifetime>(&attributes.lifetime)?.map(|lifetime| lifetime.seconds());
        let only = family_of(&attributes.requested_family)?;
        let lifetime = if wanted == Some(0) { Duration::ZERO } else { self.lifetime(wanted) };
        let Some(allocation) = self.slots.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return Err(Refusal::new(437));
        };
        if only.is_some_and(|family| allocation.relays[family].is_none()) {
            return Err(Refusal::new(443));
        }
        match only {
            _ if !lifetime.is_zero() => allocation.expires = now + lifetime,
            // One of two families is given back; the other stays.
            Some(family) if allocation.relays[1 - family].is_some() => {
                allocation.relays[family] = None;
                wire.close(key(slot, family));
            }
            _ => self.delete(wire, slot),
        }
        let mut answer = success(message);
        put(&mut answer, &seconds(lifetime));
        Ok(answer)
    }

    /// RFC 8656, 10.2.
    fn create_permission(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Answer {
        if attributes.peers.is_empty() || attributes.too_many_peers {
            return Err(Refusal::new(400));
        }
        let shared = Arc::clone(&self.shared);
        let Some((_, allocation)) = self.allocation(client) else { return Err(Refusal::new(437)) };
        let mut permitted: Vec<(IpAddr, Standing)> = Vec::with_capacity(attributes.peers.len());
        for peer in &attributes.peers {
            let peer = peer_of(peer, message)?;
            permitted.push((peer.ip(), permissible(&shared, allocation, peer)?));
        }
        let addresses: Vec<_> = permitted.iter().map(|(address, _)| *address).collect();
        if !allocation.has_place_for(&addresses, shared.config.max_permissions as usize, now) {
            return Err(Refusal::new(508));
        }
        for (address, standing) in permitted {
            allocation.permit(address, standing, now);
        }
        Ok(success(message))
    }

    /// RFC 8656, 12.2.
    fn bind_channel(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Answer {
        let number = read::<ChannelNumber>(&attributes.channel_number)?.map(|number| number.channel());
        let (Some(number), Some(peer)) = (number, attributes.peers.first()) else {
            return Err(Refusal::new(400));
        };
        let peer = peer_of(peer, message)?;
        if !CHANNELS.contains(&number) || peer.port() == 0 {
            return Err(Refusal::new(400));
        }
        let shared = Arc::clone(&self.shared);
        let Some((_, allocation)) = self.allocation(client) else { return Err(Refusal::new(437)) };
        let standing = permissible(&shared, allocation, peer)?;
        if shared.filter.is_service(peer) {
            return Err(Refusal::new(403));
        }
        let config = &shared.config;
        if !allocation.has_place_for(&[peer.ip()], config.max_permissions as usize, now) {
            return Err(Refusal::new(508));
        }
        match allocation.bind(number, peer, standing, config.max_channels as usize, now) {
            Ok(()) => {}
            Err(ChannelError::Bound) => return Err(Refusal::new(400)),
            Err(ChannelError::Full) => return Err(Refusal::new(508)),
        }
        allocation.permit(peer.ip(), standing, now);
        Ok(success(message))
    }

    /// The life that a client gets who asks for `wanted` seconds.
    fn lifetime(&self, wanted: Option<u32>) -> Duration {
        let config = &self.shared.config;
        let wanted = wanted.map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into()));
        wanted.min(config.max_lifetime).max(config.default_lifetime)
    }
}

/// What a client asks for with Allocate.
struct Wish {
    families: [bool; 2],
    /// Both families, and one will do.
    both: bool,
    even: bool,
    reserve: bool,
    token: Option<u64>,
    lifetime: Option<u32>,
}

impl Wish {
    fn of(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        match read::<RequestedTransport>(&attributes.requested_transport)? {
            None => return Err(Refusal::new(400)),
            Some(transport) if transport.protocol() != UDP => return Err(Refusal::new(442)),
            Some(_) => {}
        }
        let token = read::<ReservationToken>(&attributes.reservation_token)?.map(|token| token.token());
        let even = read::<EvenPort>(&attributes.even_port)?;
        let reserve = even.as_ref().is_some_and(EvenPort::requested);
        let (requested, additional) = (&attributes.requested_family, &attributes.additional_family);
        let contradicts = token.is_some() && (even.is_some() || requested.is_some() || additional.is_some())
            || additional.is_some() && (requested.is_some() || reserve);
        if contradicts {
            return Err(Refusal::new(400));
        }
        let family = family_of(requested)?.unwrap_or(0);
        // Only IPv6 can be additional to the default (RFC 8656, 7.2).
        let both = match family_of(additional) {
            Ok(Some(1)) => true,
            Ok(None) => false,
            _ => return Err(Refusal::new(400)),
        };
        let lifetime = read::<Lifetime>(&attributes.lifetime)?.map(|lifetime| lifetime.seconds());
        let families = [both || family == 0, both || family == 1];
        Ok(Self { families, both, even: even.is_some(), reserve, token, lifetime })
    }
}

/// The family that an attribute names: 0 for IPv4, 1 for IPv6.
fn family_of(attribute: &Option<RawAttribute<'_>>) -> Result<Option<usize>, Refusal> {
    match attribute.as_ref().map(|raw| &*raw.value) {
        None => Ok(None),
        Some([1, _, _, _]) => Ok(Some(0)),
        Some([2, _, _, _]) => Ok(Some(1)),
        Some([_, _, _, _]) => Err(Refusal::new(440)),
        Some(_) => Err(Refusal::new(400)),
    }
}

fn peer_of(attribute: &RawAttribute<'_>, message: &Message<'_>) -> Result<SocketAddr, Refusal> {
    use stun_types::attribute::AttributeFromRaw as _;
    let peer = XorPeerAddress::from_raw_ref(attribute).map_err(|_| Refusal::new(400))?;
    Ok(peer.addr(message.transaction_id()))
}

/// Whether the client of `allocation` may talk with `peer` at all.
fn permissible(
    shared: &super::Shared,
    allocation: &Allocation,
    peer: SocketAddr,
) -> Result<Standing, Refusal> {
    if allocation.relays[family(peer.ip())].is_none() {
        return Err(Refusal::new(443));
    }
    match shared.filter.judge(peer.ip()) {
        Standing::Denied => Err(Refusal::new(403)),
        standing => Ok(standing),
    }
}

/// Refuses what must be understood and is not, with the list.
fn known(attributes: &Attributes<'_>) -> Result<(), Refusal> {
    if attributes.unknown.is_empty() {
        Ok(())
    } else {
        Err(Refusal { unknown: attributes.unknown.clone(), ..Refusal::new(420) })
    }
}

fn success(message: &Message<'_>) -> MessageWriteVec {
    Message::builder_success(message, MessageWriteVec::with_capacity(160))
}

/// Adds an attribute. That fails only behind the integrity, which comes last here.
fn put(answer: &mut MessageWriteVec, attribute: &dyn stun_types::attribute::AttributeWrite) {
    let added = answer.add_attribute(attribute);
    debug_assert!(added.is_ok(), "{added:?}");
}

fn seconds(lifetime: Duration) -> Lifetime {
    Lifetime::new(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX))
}

/// What an error code means (RFC 8489, 14.8; RFC 8656, 19).
const fn reason(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthenticated",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        438 => "Stale Nonce",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport Protocol",
        443 => "Peer Address Family Mismatch",
        486 => "Allocation Quota Reached",
        508 => "Insufficient Capacity",
        _ => "Server Error",
    }
}
