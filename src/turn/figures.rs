//! What a relay has done so far: counters that its threads write, and the figures that others read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::endings::Endings;

/// The figures of one moment. Counters never fall while the server lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnFigures {
    /// Allocations that live now.
    pub allocations: u64,
    /// Allocations that were ever made.
    pub allocated: u64,
    /// TCP and TLS connections that are open now.
    pub connections: u64,
    /// What was relayed, of all allocations that ever were.
    pub traffic: Traffic,
    /// STUN binding requests that were answered.
    pub bindings: u64,
    /// ICMP messages about packets to peers that clients were told of.
    pub unreachable: u64,
    /// Packets that were thrown away, by reason, in the order of [`DropReason::ALL`].
    pub dropped: Vec<(DropReason, u64)>,
    /// Requests that were answered with an error, by its code, in the order of [`REFUSALS`].
    pub refused: Vec<(u16, u64)>,
    /// Of the requests answered with 401, those that did name a user: a wrong password, an unknown name, expired credentials.
    /// A first request without credentials, which every client begins with, is none of them.
    pub auth_failures: u64,
    /// Each allocation that lives now.
    pub live: Vec<AllocationFigures>,
}

impl TurnFigures {
    /// How many packets were thrown away for `reason`.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count)
    }

    /// How many requests were answered with the error `code`.
    #[must_use]
    pub fn refused_with(&self, code: u16) -> u64 {
        self.refused.iter().find(|(of, _)| *of == code).map_or(0, |(_, count)| *count)
    }
}

/// Payload that was relayed: without headers of STUN, UDP or below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that clients sent and that went on to peers.
    pub received_bytes: u64,
    /// Packets of the same.
    pub received_packets: u64,
    /// Bytes that peers sent and that went on to clients.
    pub sent_bytes: u64,
    /// Packets of the same.
    pub sent_packets: u64,
}

/// One allocation that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationFigures {
    /// A number that no other allocation of this server's life has.
    pub id: u64,
    /// Stands for the user without naming him: 16 hexadecimal digits, the same for all allocations of a user while the server lives,
    /// and others after its restart.
    pub user: String,
    /// Where the client is, as the server sees it.
    pub client: SocketAddr,
    /// How the client came: `udp`, `tcp` or `tls`.
    pub transport: &'static str,
    /// The address that peers see.
    pub relay: SocketAddr,
    /// When it was made.
    pub since: SystemTime,
    /// What it has relayed.
    pub traffic: Traffic,
}

/// Why a packet was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It was no STUN message and no channel data: lying lengths, a wrong checksum, rubbish.
    Malformed,
    /// It came from a client that has no allocation.
    NoAllocation,
    /// It was for a peer, or from one, that the client has not asked to talk with.
    NoPermission,
    /// It was for a channel that is not bound.
    NoChannel,
    /// It was for an address that may not be relayed to.
    Forbidden,
    /// It was above the limit of bytes a second.
    OverRate,
    /// It was too large to be sent on, or was not to be fragmented and would have been.
    TooLarge,
    /// It was a request from an address that has not proven to be where it says it is, and was answered as often as it may be.
    Stranger,
    /// It was an ICMP message of a type that clients are not told of, or one too many.
    Icmp,
    /// The client's connection takes less than comes in.
    QueueFull,
    /// The operating system did not take it.
    NotSent,
    /// A connection beyond what one address or all together may have.
    TooManyConnections,
    /// A connection that was too slow with a message, or silent.
    TooSlow,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 13] = [
        DropReason::Malformed,
        DropReason::NoAllocation,
        DropReason::NoPermission,
        DropReason::NoChannel,
        DropReason::Forbidden,
        DropReason::OverRate,
        DropReason::TooLarge,
        DropReason::Stranger,
        DropReason::Icmp,
        DropReason::QueueFull,
        DropReason::NotSent,
        DropReason::TooManyConnections,
        DropReason::TooSlow,
    ];

    /// The reason as the label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::Malformed => "malformed",
            DropReason::NoAllocation => "no_allocation",
            DropReason::NoPermission => "no_permission",
            DropReason::NoChannel => "no_channel",
            DropReason::Forbidden => "forbidden",
            DropReason::OverRate => "over_rate",
            DropReason::TooLarge => "too_large",
            DropReason::Stranger => "stranger",
            DropReason::Icmp => "icmp",
            DropReason::QueueFull => "queue_full",
            DropReason::NotSent => "not_sent",
            DropReason::TooManyConnections => "too_many_connections",
            DropReason::TooSlow => "too_slow",
        }
    }
}

/// The codes of errors that requests are answered with.
pub const REFUSALS: [u16; 12] = [400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 508];

/// The counters of one thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) allocated: AtomicU64,
    pub(super) bindings: AtomicU64,
    pub(super) auth_failures: AtomicU64,
    unreachable: AtomicU64,
    pub(super) traffic: TrafficCounters,
    dropped: [AtomicU64; DropReason::ALL.len()],
    refused: [AtomicU64; REFUSALS.len()],
}

impl Counters {
    pub(super) fn drop_one(&self, reason: DropReason) {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn told_unreachable(&self) {
        self.unreachable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, code: u16) {
        if let Some(index) = REFUSALS.iter().position(|of| *of == code) {
            self.refused[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what was counted here to `figures`.
    pub(super) fn add_to(&self, figures: &mut TurnFigures) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figures.allocated += of(&self.allocated);
        figures.bindings += of(&self.bindings);
        figures.auth_failures += of(&self.auth_failures);
        figures.unreachable += of(&self.unreachable);
        let traffic = self.traffic.load();
        figures.traffic.received_bytes += traffic.received_bytes;
        figures.traffic.received_packets += traffic.received_packets;
        figures.traffic.sent_bytes += traffic.sent_bytes;
        figures.traffic.sent_packets += traffic.sent_packets;
        if figures.dropped.is_empty() {
            figures.dropped = DropReason::ALL.map(|reason| (reason, 0)).to_vec();
            figures.refused = REFUSALS.map(|code| (code, 0)).to_vec();
        }
        for (sum, counter) in figures.dropped.iter_mut().zip(&self.dropped) {
            sum.1 += of(counter);
        }
        for (sum, counter) in figures.refused.iter_mut().zip(&self.refused) {
            sum.1 += of(counter);
        }
    }
}

/// Payload relayed, counted by the one thread that relays it.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    received_bytes: AtomicU64,
    received_packets: AtomicU64,
    sent_bytes: AtomicU64,
    sent_packets: AtomicU64,
}

/// Adds without the price of an atomic addition: a counter has one writer.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl TrafficCounters {
    /// A packet of a client went on to a peer.
    pub(super) fn received(&self, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
        add(&self.received_packets, 1);
    }

    /// A packet of a peer went on to a client.
    pub(super) fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
        add(&self.sent_packets, 1);
    }

    pub(super) fn load(&self) -> Traffic {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            received_bytes: of(&self.received_bytes),
            received_packets: of(&self.received_packets),
            sent_bytes: of(&self.sent_bytes),
            sent_packets: of(&self.sent_packets),
        }
    }
}

/// What is told of an allocation while it lives.
#[derive(Debug)]
pub(super) struct LiveAllocation {
    pub(super) id: u64,
    pub(super) user: String,
    pub(super) client: SocketAddr,
    pub(super) transport: &'static str,
    pub(super) relay: SocketAddr,
    pub(super) since: SystemTime,
    pub(super) traffic: TrafficCounters,
}

impl LiveAllocation {
    /// As it is now.
    fn figures(&self) -> AllocationFigures {
        AllocationFigures {
            id: self.id,
            user: self.user.clone(),
            client: self.client,
            transport: self.transport,
            relay: self.relay,
            since: self.since,
            traffic: self.traffic.load(),
        }
    }
}

/// The allocations that live, of all threads, and those that have ended.
#[derive(Debug, Default)]
pub(super) struct Registry {
    next: AtomicU64,
    live: Mutex<HashMap<u64, Arc<LiveAllocation>>>,
    pub(super) endings: Endings,
}

impl Registry {
    /// A number for a new allocation.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter(&self, allocation: Arc<LiveAllocation>) {
        self.locked().insert(allocation.id, allocation);
    }

    pub(super) fn leave(&self, id: u64) {
        let gone = self.locked().remove(&id);
        if let Some(gone) = gone {
            self.endings.add(gone.figures());
        }
    }

    /// Each allocation that lives, the oldest first.
    pub(super) fn list(&self) -> Vec<AllocationFigures> {
        let live: Vec<_> = self.locked().values().cloned().collect();
        let mut list: Vec<_> = live.iter().map(|of| of.figures()).collect();
        list.sort_unstable_by_key(|figures| figures.id);
        list
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<LiveAllocation>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
