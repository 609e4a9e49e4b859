//! What a node measures: totals, what it refused, and per-peer series that vanish with their peer.
//!
//! A counter that is recorded into can never forget a series, so the per-peer figures are observed: at each
//! collection they are read from a table that holds only the peers which are connected.

mod connections;
mod gossip;
mod protocols;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use opentelemetry::metrics::{AsyncInstrument, Counter, Meter};
use opentelemetry::{KeyValue, Value};

use super::transport::Flow;
use crate::telemetry::catalogue;
use crate::telemetry::instruments::{MAX_PEER_SERIES, P2pInstruments};
pub(crate) use connections::{Connections, Open};
pub(crate) use gossip::GossipFigures;
pub(crate) use protocols::{Protocol, ProtocolBytes};

/// What a node refuses; the value of the label `what` of `p2p_refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// A connection above a limit: in all, with one peer, or not yet established.
    Connection,
    /// One too many from an address.
    Address,
    /// One while the process holds more memory than it should.
    ProcessMemory,
    /// One from a peer that is kept away.
    Blocked,
    /// A substream above the limit of its connection.
    Stream,
    /// An inbound connection whose handshake failed.
    Handshake,
    /// A message not of the form it should be, too large, or under another's name.
    Message,
    /// A message above its author's or neighbour's rate.
    Rate,
    /// A message for which the caches have no room.
    Memory,
    /// A peer's subscription: to a topic without a valid name, or one too many.
    Subscription,
    /// A record or provider that a peer wanted stored.
    Record,
    /// Messages that a slow peer could not take in time.
    SlowPeer,
    /// A place at this relay.
    Reservation,
    /// A relayed connection.
    Circuit,
    /// A relayed connection that was cut for its bytes.
    CircuitBytes,
    /// A relayed connection that was cut for its age.
    CircuitTime,
    /// A dial that a client of AutoNAT wanted.
    DialBack,
    /// A dial to get through a NAT that a peer wanted.
    HolePunch,
    /// Names on the local network.
    LocalName,
    /// A private message, for its form, its size or its sender's rate.
    PrivateMessage,
    /// A file, for whatever reason.
    File,
}

impl Refused {
    const ALL: [Refused; 21] = [
        Refused::Connection,
        Refused::Address,
        Refused::ProcessMemory,
        Refused::Blocked,
        Refused::Stream,
        Refused::Handshake,
        Refused::Message,
        Refused::Rate,
        Refused::Memory,
        Refused::Subscription,
        Refused::Record,
        Refused::SlowPeer,
        Refused::Reservation,
        Refused::Circuit,
        Refused::CircuitBytes,
        Refused::CircuitTime,
        Refused::DialBack,
        Refused::HolePunch,
        Refused::LocalName,
        Refused::PrivateMessage,
        Refused::File,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Refused::Connection => "connection",
            Refused::Address => "address",
            Refused::ProcessMemory => "process_memory",
            Refused::Blocked => "blocked",
            Refused::Stream => "stream",
            Refused::Handshake => "handshake",
            Refused::Message => "message",
            Refused::Rate => "rate",
            Refused::Memory => "memory",
            Refused::Subscription => "subscription",
            Refused::Record => "record",
            Refused::SlowPeer => "slow_peer",
            Refused::Reservation => "reservation",
            Refused::Circuit => "circuit",
            Refused::CircuitBytes => "circuit_bytes",
            Refused::CircuitTime => "circuit_time",
            Refused::DialBack => "dial_back",
            Refused::HolePunch => "hole_punch",
            Refused::LocalName => "local_name",
            Refused::PrivateMessage => "private_message",
            Refused::File => "file",
        }
    }
}

/// Counts refusals for the metrics and for the status.
#[derive(Debug)]
pub(crate) struct Refusals {
    counter: Counter<u64>,
    counts: [AtomicU64; Refused::ALL.len()],
}

impl Refusals {
    pub(crate) fn new(counter: Counter<u64>) -> Arc<Self> {
        catalogue::P2P_REFUSED.start_at_zero(&counter, Refused::ALL.map(Refused::as_str));
        Arc::new(Self { counter, counts: Default::default() })
    }

    pub(crate) fn add(&self, what: Refused, count: u64) {
        self.counts[what as usize].fetch_add(count, Relaxed);
        self.counter.add(count, &[KeyValue::new("what", what.as_str())]);
    }

    /// All counts that are not zero.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let count = |what: Refused| (what.as_str().to_owned(), self.counts[what as usize].load(Relaxed));
        Refused::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }
}

/// The traffic with one peer while it is connected. Shared by its connections' streams.
#[derive(Debug)]
pub(crate) struct PeerTraffic {
    label: KeyValue,
    all: Arc<ProtocolBytes>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    /// Unix time in milliseconds; 0 until the connection is established.
    connected_since_ms: AtomicU64,
    /// 0 until the first ping has come back.
    latency_us: AtomicU64,
    relayed: AtomicBool,
}

impl PeerTraffic {
    /// Counts bytes of a substream.
    pub(crate) fn add(&self, flow: Flow, bytes: u64) {
        match flow {
            Flow::Sent => &self.bytes_sent,
            Flow::Received => &self.bytes_received,
        }
        .fetch_add(bytes, Relaxed);
        self.all.add(flow, bytes);
    }

    /// Says what bytes that are counted already were for.
    pub(crate) fn assign(&self, protocol: Protocol, flow: Flow, bytes: u64) {
        self.all.assign(protocol, flow, bytes);
    }

    /// Bytes sent and received.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_sent.load(Relaxed), self.bytes_received.load(Relaxed))
    }

    /// Whether all connections with the peer run through a relay.
    pub(crate) fn set_relayed(&self, relayed: bool) {
        self.relayed.store(relayed, Relaxed);
    }

    pub(crate) fn message_sent(&self) {
        self.messages_sent.fetch_add(1, Relaxed);
    }

    pub(crate) fn message_received(&self) {
        self.messages_received.fetch_add(1, Relaxed);
    }

    pub(crate) fn connected(&self, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.connected_since_ms.store(since.as_millis() as u64, Relaxed);
    }

    pub(crate) fn latency(&self, round_trip: Duration) {
        self.latency_us.store(round_trip.as_micros() as u64, Relaxed);
    }
}

/// The traffic of all peers that have a connection.
#[derive(Debug, Clone)]
pub struct Traffic {
    all: Arc<ProtocolBytes>,
    connections: Connections,
    gossip: GossipFigures,
    refusals: Arc<Refusals>,
    peers: Arc<Mutex<HashMap<PeerId, Weak<PeerTraffic>>>>,
}

/// Below this many entries the table is not swept of peers that left; above, whenever it would have to grow.
const SWEEP_SLACK: usize = 64;

impl Traffic {
    /// An empty table, observed by instruments on `meter`.
    #[must_use]
    pub fn new(meter: &Meter, instruments: &P2pInstruments) -> Self {
        let traffic = Self {
            all: Arc::default(),
            connections: Connections::default(),
            gossip: GossipFigures::new(meter),
            refusals: Refusals::new(instruments.refused.clone()),
            peers: Arc::default(),
        };
        traffic.all.observe(meter);
        traffic.connections.observe(meter);
        traffic.observe(meter);
        traffic
    }

    /// Where refusals are counted.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// What gossipsub's owner keeps up to date.
    pub(crate) fn gossip(&self) -> &GossipFigures {
        &self.gossip
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The counters of `peer`: those of its other connection, or new ones.
    pub(crate) fn of(&self, peer: PeerId) -> Arc<PeerTraffic> {
        let mut peers = self.lock();
        if let Some(known) = peers.get(&peer).and_then(Weak::upgrade) {
            return known;
        }
        if peers.len() >= peers.capacity().max(SWEEP_SLACK) {
            peers.retain(|_, traffic| traffic.strong_count() > 0);
        }
        let new = Arc::new(PeerTraffic {
            label: KeyValue::new("peer", peer.to_base58()),
            all: self.all.clone(),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            connected_since_ms: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            relayed: AtomicBool::new(false),
        });
        peers.insert(peer, Arc::downgrade(&new));
        new
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Weak<PeerTraffic>>> {
        // Counters have no state that a panic could leave half done.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers with series of their own: those connected longest, at most [`MAX_PEER_SERIES`].
    fn shown(&self) -> Vec<Arc<PeerTraffic>> {
        let mut peers = self.lock();
        peers.retain(|_, traffic| traffic.strong_count() > 0);
        let mut shown: Vec<_> = peers
            .values()
            .filter_map(Weak::upgrade)
            .filter(|traffic| traffic.connected_since_ms.load(Relaxed) > 0)
            .collect();
        drop(peers);
        shown.sort_by_key(|traffic| traffic.connected_since_ms.load(Relaxed));
        shown.truncate(MAX_PEER_SERIES);
        shown
    }

    fn observe(&self, meter: &Meter) {
        let counter = |metric: &catalogue::Metric, read: fn(&PeerTraffic) -> u64| {
            let traffic = self.clone();
            metric
                .observed_counter(meter)
                .with_callback(move |observer| {
                    for peer in traffic.shown() {
                        observer.observe(read(&peer), std::slice::from_ref(&peer.label));
                    }
                })
                .build()
        };
        counter(&catalogue::P2P_PEER_BYTES_SENT, |peer| peer.bytes_sent.load(Relaxed));
        counter(&catalogue::P2P_PEER_BYTES_RECEIVED, |peer| peer.bytes_received.load(Relaxed));
        counter(&catalogue::P2P_PEER_MESSAGES_SENT, |peer| peer.messages_sent.load(Relaxed));
        counter(&catalogue::P2P_PEER_MESSAGES_RECEIVED, |peer| peer.messages_received.load(Relaxed));
        self.observe_gauges(meter);
    }

    fn observe_gauges(&self, meter: &Meter) {
        let latency = |observer: &dyn AsyncInstrument<f64>, peer: &PeerTraffic| {
            let micros = peer.latency_us.load(Relaxed);
            if micros > 0 {
                observer.observe(micros as f64 / 1e6, std::slice::from_ref(&peer.label));
            }
        };
        let traffic = self.clone();
        catalogue::P2P_PEER_LATENCY
            .observed_gauge(meter)
            .with_callback(move |observer| {
                for peer in traffic.shown() {
                    latency(observer, &peer);
                }
            })
            .build();
        let traffic = self.clone();
        catalogue::P2P_PEER_CONNECTED_SINCE
            .observed_gauge(meter)
            .with_callback(move |observer| {
                for peer in traffic.shown() {
                    let since = peer.connected_since_ms.load(Relaxed) as f64 / 1e3;
                    let path = if peer.relayed.load(Relaxed) { "relayed" } else { "direct" };
                    let kind = KeyValue::new("connection_type", Value::from(path));
                    observer.observe(since, &[peer.label.clone(), kind]);
                }
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        let meter = opentelemetry::global::meter("test");
        Traffic::new(&meter, &P2pInstruments::new(&meter))
    }

    #[test]
    fn a_peer_is_shown_while_it_is_connected() {
        let traffic = traffic();
        let peer = PeerId::random();
        let first = traffic.of(peer);
        assert!(traffic.shown().is_empty(), "not yet established");
        first.connected(SystemTime::now());
        first.add(Flow::Sent, 5);
        traffic.of(peer).add(Flow::Sent, 2);
        assert_eq!(traffic.shown()[0].bytes_sent.load(Relaxed), 7);
        drop(first);
        assert!(traffic.shown().is_empty());
        assert!(traffic.lock().is_empty());
    }

    #[test]
    fn series_are_bounded_and_a_free_place_is_taken() {
        let traffic = traffic();
        let start = SystemTime::now();
        let mut peers: Vec<_> = (0..MAX_PEER_SERIES + 5)
            .map(|index| {
                let peer = traffic.of(PeerId::random());
                peer.connected(start + Duration::from_millis(index as u64));
                peer
            })
            .collect();
        assert_eq!(traffic.shown().len(), MAX_PEER_SERIES);
        let next = Arc::as_ptr(&peers[MAX_PEER_SERIES]);
        peers.remove(0);
        assert!(traffic.shown().iter().any(|peer| Arc::as_ptr(peer) == next));
    }

    #[test]
    fn peers_that_left_do_not_stay_in_memory() {
        let traffic = traffic();
        for _ in 0..10_000 {
            drop(traffic.of(PeerId::random()));
        }
        assert!(traffic.lock().len() < 1_000);
    }
}
