//! A world without sockets, and clients that ask it for things.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stun_types::attribute::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, ErrorCode, Nonce,
    RawAttribute, Realm, Username,
};
use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec, Method};
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

use crate::turn::TurnConfig;
use crate::turn::engine::{Client, Engine, Opened, RelayKey, Sent, Shared, Transport, Wanted, Wire};
use crate::turn::figures::{Counters, TurnFigures};
use crate::turn::filter::PeerFilter;
use crate::turn::integrity::{Integrity, Key, PasswordAlgorithm};
use crate::turn::ports::{Ports, Reservations};

pub(super) const RELAY: &str = "198.41.0.4";
pub(super) const RELAY_V6: &str = "2a00::4";
pub(super) const PEER: &str = "8.8.8.8:5000";
/// The time of day at which every test begins.
pub(super) const START: u64 = 1_700_000_000;

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
    pub(super) net: FakeNet,
    begin: Instant,
}

/// Sockets that only remember.
pub(super) struct FakeNet {
    pub(super) ports: Ports,
    pub(super) reservations: Reservations<()>,
    pub(super) open: HashMap<RelayKey, SocketAddr>,
    pub(super) to_client: Vec<(Client, Vec<u8>)>,
    pub(super) to_peer: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// What becomes of whatever is sent.
    pub(super) fate: Sent,
    pub(super) now: Instant,
    tokens: u64,
}

impl Wire for FakeNet {
    fn to_client(&mut self, client: &Client, parts: [&[u8]; 3]) -> Sent {
        if self.fate == Sent::Yes {
            self.to_client.push((*client, parts.concat()));
        }
        self.fate
    }

    fn to_peer(&mut self, relay: RelayKey, peer: SocketAddr, payload: &[u8]) -> Sent {
        let from = self.open[&relay];
        if self.fate == Sent::Yes {
            self.to_peer.push((from, peer, payload.to_vec()));
        }
        self.fate
    }

    fn open(&mut self, wanted: Wanted) -> Option<Opened> {
        if wanted.reserve && !self.reservations.has_place() {
            return None;
        }
        let ip: IpAddr = if wanted.is_v6 { RELAY_V6 } else { RELAY }.parse().unwrap();
        let port = self.ports.claim(ip, 0, wanted.even, wanted.reserve)?;
        let address = SocketAddr::new(ip, port);
        assert!(self.open.insert(wanted.key, address).is_none(), "{:?} is opened twice", wanted.key);
        let token = wanted.reserve.then(|| {
            self.tokens += 1;
            self.reservations.keep(self.tokens, (), SocketAddr::new(ip, port + 1), self.now);
            self.tokens
        });
        Some(Opened { address, token })
    }

    fn open_reserved(&mut self, keys: [RelayKey; 2], token: u64) -> Option<SocketAddr> {
        let address = self.reservations.take(token, self.now)?.address;
        let key = keys[usize::from(address.is_ipv6())];
        assert!(self.open.insert(key, address).is_none(), "{key:?} is opened twice");
        Some(address)
    }

    fn close(&mut self, relay: RelayKey) {
        let address = self.open.remove(&relay).expect("what is closed was open");
        self.ports.release(address);
    }

    fn is_own_relay(&self, address: SocketAddr) -> bool {
        self.ports.is_taken(address)
    }
}

pub(super) fn config() -> TurnConfig {
    TurnConfig {
        realm: "test.example".to_owned(),
        secret: Some("north".into()),
        users: [("ann".to_owned(), "apple".into()), ("bob".to_owned(), "birch".into())].into(),
        ..TurnConfig::default()
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: TurnConfig) -> Self {
        let relays: Vec<IpAddr> = vec![RELAY.parse().unwrap(), RELAY_V6.parse().unwrap()];
        let all: Vec<IpAddr> = relays.iter().copied().chain(config.external_address).collect();
        let filter = PeerFilter {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            own: all.clone(),
            relays: all,
            services: vec!["198.41.0.4:3478".parse().unwrap(), "127.0.0.1:3478".parse().unwrap()],
        };
        let begin = Instant::now();
        let ports = Ports::new(config.ports, &relays);
        let shared = Arc::new(Shared::new(config, filter, [[1; 32], [2; 32]], begin));
        let counters = Arc::new(Counters::default());
        let wall = UNIX_EPOCH + Duration::from_secs(START);
        let engine = Engine::new(Arc::clone(&shared), Arc::clone(&counters), begin, wall);
        let net = FakeNet {
            ports,
            reservations: Reservations::default(),
            open: HashMap::new(),
            to_client: Vec::new(),
            to_peer: Vec::new(),
            fate: Sent::Yes,
            now: begin,
            tokens: 0,
        };
        Self { engine, shared, counters, net, begin }
    }

    pub(super) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START) + self.net.now.duration_since(self.begin)
    }

    /// Lets time pass, second by second as far as anything can expire.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.net.now += Duration::from_secs(1);
            self.tick();
        }
    }

    pub(super) fn tick(&mut self) {
        let (now, wall) = (self.net.now, self.wall());
        self.engine.on_tick(&mut self.net, now, wall);
        for reserved in self.net.reservations.expired(now) {
            self.net.ports.release(reserved.address);
        }
    }

    /// A client's packet, and what the same client is sent for it.
    pub(super) fn packet(&mut self, client: &Client, packet: &[u8]) -> Vec<Vec<u8>> {
        self.net.to_client.clear();
        let now = self.net.now;
        self.engine.on_packet(&mut self.net, client, packet, now);
        self.net.to_client.drain(..).filter(|(to, _)| to == client).map(|(_, bytes)| bytes).collect()
    }

    /// A client's request, which gets one answer.
    pub(super) fn ask(&mut self, client: &Client, request: &[u8]) -> Answer {
        let mut answers = self.packet(client, request);
        assert_eq!(answers.len(), 1, "a request gets one answer");
        Answer(answers.remove(0))
    }

    /// A peer's packet to a relay address.
    pub(super) fn peer_sends(
        &mut self,
        relay: SocketAddr,
        from: &str,
        data: &[u8],
    ) -> Vec<(Client, Vec<u8>)> {
        let key = self.net.open.iter().find(|(_, address)| **address == relay).map(|(key, _)| *key);
        self.net.to_client.clear();
        let now = self.net.now;
        let key = key.expect("a relay address that is open");
        self.engine.on_relay_packet(&mut self.net, key, from.parse().unwrap(), data, now);
        std::mem::take(&mut self.net.to_client)
    }

    pub(super) fn figures(&self) -> TurnFigures {
        let mut figures = TurnFigures { live: self.shared.registry.list(), ..TurnFigures::default() };
        self.counters.add_to(&mut figures);
        figures
    }

    /// What must be true at any time.
    pub(super) fn check(&self) {
        let live = self.engine.len();
        assert_eq!(self.shared.quotas.taken() as usize, live, "places taken");
        assert_eq!(self.figures().live.len(), live, "allocations told of");
        assert!(self.net.open.len() >= live && self.net.open.len() <= 2 * live, "relay sockets");
        for address in self.net.open.values() {
            assert!(self.net.ports.is_taken(*address), "the port of an open socket is taken");
        }
    }
}

/// A client of the world that knows its credentials.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) password: String,
    pub(super) nonce: String,
    pub(super) integrity: Integrity,
    pub(super) algorithm: Option<PasswordAlgorithm>,
}

pub(super) fn client(address: &str) -> Client {
    Client {
        route: 0,
        address: address.parse().unwrap(),
        local: RELAY.parse().unwrap(),
        transport: Transport::Udp,
    }
}

impl Asking {
    /// Ann, who has been given a nonce.
    pub(super) fn ann(world: &mut World, address: &str) -> Self {
        Self::named(world, address, "ann", "apple")
    }

    pub(super) fn named(world: &mut World, address: &str, name: &str, password: &str) -> Self {
        let mut asking = Self::unknown(client(address), name, password);
        asking.renew(world);
        asking
    }

    /// Who has not been given a nonce yet.
    pub(super) fn unknown(client: Client, name: &str, password: &str) -> Self {
        Self {
            client,
            name: name.to_owned(),
            password: password.to_owned(),
            nonce: String::new(),
            integrity: Integrity::Sha1,
            algorithm: None,
        }
    }

    /// Asks without credentials, and keeps the nonce of the answer.
    pub(super) fn renew(&mut self, world: &mut World) {
        let request = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
        let answer = world.ask(&self.client, &request);
        assert_eq!(answer.code(), Some(401));
        self.nonce = answer.get::<Nonce>().unwrap().nonce().to_owned();
    }

    pub(super) fn key(&self) -> Key {
        let algorithm = self.algorithm.unwrap_or(PasswordAlgorithm::Md5);
        Key::long_term(self.integrity, algorithm, &self.name, "test.example", &self.password)
    }

    /// A request with these attributes and the credentials.
    pub(super) fn request(&self, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        self.sign(Message::builder_request(method, MessageWriteVec::new()), attributes)
    }

    pub(super) fn sign(&self, mut request: MessageWriteVec, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        for attribute in attributes {
            request.add_attribute(*attribute).unwrap();
        }
        request.add_attribute(&Username::new(&self.name).unwrap()).unwrap();
        request.add_attribute(&Realm::new("test.example").unwrap()).unwrap();
        request.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
        if let Some(algorithm) = self.algorithm {
            let number = if algorithm == PasswordAlgorithm::Md5 { 1 } else { 2 };
            raw(&mut request, 0x001d, &[0, number, 0, 0]);
            raw(&mut request, 0x8002, &[0, 2, 0, 0, 0, 1, 0, 0]);
        }
        let mut request = request.finish();
        self.key().protect(&mut request);
        request
    }

    pub(super) fn allocate(&self, world: &mut World) -> Answer {
        let request = self.request(ALLOCATE, &[&RequestedTransport::new(17)]);
        world.ask(&self.client, &request)
    }

    pub(super) fn allocated(&self, world: &mut World) -> SocketAddr {
        let answer = self.allocate(world);
        assert_eq!(answer.code(), None, "an allocation is made");
        answer.relay()
    }

    pub(super) fn refresh(&self, world: &mut World, seconds: u32) -> Answer {
        world.ask(&self.client, &self.request(REFRESH, &[&Lifetime::new(seconds)]))
    }

    pub(super) fn permit(&self, world: &mut World, peers: &[&str]) -> Answer {
        let request = Message::builder_request(CREATE_PERMISSION, MessageWriteVec::new());
        let transaction = request.transaction_id();
        let peers: Vec<_> =
            peers.iter().map(|peer| XorPeerAddress::new(peer.parse().unwrap(), transaction)).collect();
        let attributes: Vec<&dyn AttributeWrite> = peers.iter().map(|peer| peer as _).collect();
        let request = self.sign(request, &attributes);
        world.ask(&self.client, &request)
    }

    pub(super) fn bind(&self, world: &mut World, number: u16, peer: &str) -> Answer {
        let request = Message::builder_request(CHANNEL_BIND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer.parse().unwrap(), request.transaction_id());
        let number =
            RawAttribute::new(ChannelNumber::TYPE, &[(number >> 8) as u8, number as u8, 0, 0]).into_owned();
        let request = self.sign(request, &[&number, &peer]);
        world.ask(&self.client, &request)
    }

    /// Sends data to a peer with a Send indication; what goes out to peers.
    pub(super) fn send(
        &self,
        world: &mut World,
        peer: &str,
        data: &[u8],
    ) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.send_with(world, peer, data, &[])
    }

    pub(super) fn send_with(
        &self,
        world: &mut World,
        peer: &str,
        data: &[u8],
        more: &[&dyn AttributeWrite],
    ) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer.parse().unwrap(), message.transaction_id());
        message.add_attribute(&peer).unwrap();
        message.add_attribute(&Data::new(data)).unwrap();
        more.iter().for_each(|attribute| message.add_attribute(*attribute).unwrap());
        world.net.to_peer.clear();
        assert!(world.packet(&self.client, &message.finish()).is_empty(), "an indication is not answered");
        std::mem::take(&mut world.net.to_peer)
    }

    pub(super) fn send_on(
        &self,
        world: &mut World,
        channel: u16,
        data: &[u8],
    ) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        world.net.to_peer.clear();
        assert!(world.packet(&self.client, &channel_data(channel, data)).is_empty());
        std::mem::take(&mut world.net.to_peer)
    }
}

pub(super) fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = channel.to_be_bytes().to_vec();
    packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
    packet.extend_from_slice(data);
    packet
}

pub(super) fn raw(message: &mut MessageWriteVec, kind: u16, value: &[u8]) {
    message.add_attribute(&RawAttribute::new(AttributeType::new(kind), value)).unwrap();
}

/// An answer, to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).expect("an answer that can be read")
    }

    /// The code of an error; `None` for success.
    pub(super) fn code(&self) -> Option<u16> {
        self.get::<ErrorCode>().map(|error| error.code())
    }

    pub(super) fn get<A: AttributeStaticType + for<'a> AttributeFromRaw<'a>>(&self) -> Option<A> {
        let message = self.message();
        let raw = message.raw_attribute(A::TYPE)?;
        Some(A::from_raw_ref(&raw).unwrap_or_else(|error| panic!("{}: {error}", raw.get_type())))
    }

    pub(super) fn relay(&self) -> SocketAddr {
        self.get::<XorRelayedAddress>().expect("a relayed address").addr(self.message().transaction_id())
    }

    pub(super) fn lifetime(&self) -> u32 {
        self.get::<Lifetime>().expect("a lifetime").seconds()
    }
}
