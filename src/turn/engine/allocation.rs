//! One allocation: who has it, whom it may talk with, how long.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::Client;
use crate::token_bucket::TokenBucket;
use crate::turn::figures::LiveAllocation;
use crate::turn::filter::Standing;

/// Life of a permission (RFC 8656, 9).
pub(super) const PERMISSION: Duration = Duration::from_secs(300);
/// Life of a channel (RFC 8656, 12).
pub(super) const CHANNEL: Duration = Duration::from_secs(600);

/// One allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: Client,
    /// The whole user name; every further request must bear it (RFC 8656, 5).
    pub(super) username: Box<str>,
    /// The relay sockets: IPv4, IPv6.
    pub(super) relays: [Option<SocketAddr>; 2],
    pub(super) expires: Instant,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    /// Payload from the client, and from peers.
    pub(super) rates: Option<Box<[TokenBucket; 2]>>,
    /// What it is still told of packets that did not arrive.
    pub(super) unreachable: TokenBucket,
    pub(super) figures: Arc<LiveAllocation>,
}

/// A peer's address that the client talks with.
#[derive(Debug, Clone, Copy)]
struct Permission {
    address: IpAddr,
    standing: Standing,
    expires: Instant,
}

/// A number that stands for a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) standing: Standing,
    expires: Instant,
}

/// Why a channel cannot be bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChannelError {
    /// The number belongs to another peer, or the peer to another number.
    Bound,
    /// There is no place for one more.
    Full,
}

impl Allocation {
    #[allow(clippy::too_many_arguments, reason = "its parts, once")]
    pub(super) fn new(
        client: Client,
        username: Box<str>,
        relays: [Option<SocketAddr>; 2],
        expires: Instant,
        rates: Option<Box<[TokenBucket; 2]>>,
        unreachable: TokenBucket,
        figures: Arc<LiveAllocation>,
    ) -> Self {
        let (permissions, channels) = (Vec::new(), Vec::new());
        Self { client, username, relays, expires, permissions, channels, rates, unreachable, figures }
    }

    /// What may be sent to `address`, if the client has asked for that and it has not expired.
    pub(super) fn permission(&self, address: IpAddr, now: Instant) -> Option<Standing> {
        let found = self.permissions.iter().find(|of| of.address == address)?;
        (found.expires > now).then_some(found.standing)
    }

    /// Whether permissions for all of `addresses` have a place.
    pub(super) fn has_place_for(&mut self, addresses: &[IpAddr], limit: usize, now: Instant) -> bool {
        self.permissions.retain(|of| of.expires > now);
        let is_new = |address: &IpAddr| !self.permissions.iter().any(|of| of.address == *address);
        // An address named twice counts twice here; that errs on the safe side.
        self.permissions.len() + addresses.iter().filter(|address| is_new(address)).count() <= limit
    }

    /// Permits `address` for five minutes from `now`.
    pub(super) fn permit(&mut self, address: IpAddr, standing: Standing, now: Instant) {
        let expires = now + PERMISSION;
        match self.permissions.iter_mut().find(|of| of.address == address) {
            Some(permission) => *permission = Permission { address, standing, expires },
            None => self.permissions.push(Permission { address, standing, expires }),
        }
    }

    /// The channel of this number, if it is bound.
    pub(super) fn channel(&self, number: u16, now: Instant) -> Option<Channel> {
        self.channels.iter().find(|of| of.number == number && of.expires > now).copied()
    }

    /// The channel that stands for `peer`, if there is one.
    pub(super) fn channel_of(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        self.channels.iter().find(|of| of.peer == peer && of.expires > now).map(|of| of.number)
    }

    /// Binds a channel, or binds it again, for ten minutes from `now`.
    pub(super) fn bind(
        &mut self,
        number: u16,
        peer: SocketAddr,
        standing: Standing,
        limit: usize,
        now: Instant,
    ) -> Result<(), ChannelError> {
        self.channels.retain(|of| of.expires > now);
        let expires = now + CHANNEL;
        if let Some(channel) = self.channels.iter_mut().find(|of| of.number == number || of.peer == peer) {
            if channel.number != number || channel.peer != peer {
                return Err(ChannelError::Bound);
            }
            channel.expires = expires;
        } else if self.channels.len() >= limit {
            return Err(ChannelError::Full);
        } else {
            self.channels.push(Channel { number, peer, standing, expires });
        }
        Ok(())
    }
}
