//! ICMP messages about packets that went to peers: who is told of them (RFC 8656, 11.5).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use stun_types::attribute::{AttributeStaticType, Nonce};
use stun_types::message::{Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};
use turn_types::attribute::{AdditionalAddressFamily, Data, Icmp, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, DATA, SEND};

use super::world::*;
use crate::turn::engine::{Client, Transport, Unreachable};
use crate::turn::figures::DropReason;
use crate::turn::{TurnConfig, TurnServer};

const PEER_V6: &str = "[2a00::99]:5000";

fn about(peer: &str, kind: u8, code: u8) -> Unreachable {
    Unreachable { peer: peer.parse().unwrap(), kind, code, mtu: 0 }
}

/// The network answers to a packet from `relay`: what clients are sent for it.
fn answers(world: &mut World, relay: SocketAddr, what: Unreachable) -> Vec<(Client, Vec<u8>)> {
    let key = world.net.open.iter().find(|(_, address)| **address == relay).map(|(key, _)| *key).unwrap();
    world.net.to_client.clear();
    let now = world.net.now;
    world.engine.on_unreachable(&mut world.net, key, what, now);
    std::mem::take(&mut world.net.to_client)
}

/// What a client is told: about whom, type, code and data.
fn told(bytes: &[u8]) -> (SocketAddr, u8, u8, u32) {
    let message = Message::from_bytes(bytes).unwrap();
    assert!(message.has_method(DATA) && message.has_class(MessageClass::Indication));
    assert!(!message.has_attribute(Data::TYPE), "there is no data");
    let icmp: Icmp = message.attribute().unwrap();
    let peer: XorPeerAddress = message.attribute().unwrap();
    (peer.addr(message.transaction_id()), icmp.icmp_type(), icmp.code(), icmp.data())
}

#[test]
fn a_client_is_told_that_a_peer_it_may_talk_with_cannot_be_reached() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let relay = ann.allocated(&mut world);
    assert!(answers(&mut world, relay, about(PEER, 3, 3)).is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::NoPermission), 1);
    ann.permit(&mut world, &[PEER]);
    let sent = answers(&mut world, relay, about(PEER, 3, 3));
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, told(&sent[0].1)), (ann.client, (PEER.parse().unwrap(), 3, 3, 0)));
    // Also where there is a channel: it carries nothing but data.
    ann.bind(&mut world, 0x4000, PEER);
    let sent = answers(&mut world, relay, about(PEER, 11, 0));
    assert_eq!(told(&sent[0].1), (PEER.parse().unwrap(), 11, 0, 0));
    assert!(answers(&mut world, relay, about("8.8.4.4:5000", 3, 3)).is_empty(), "another host's affair");
    let figures = world.figures();
    assert_eq!((figures.unreachable, figures.dropped_for(DropReason::NoPermission)), (2, 2));
    assert_eq!(figures.traffic.sent_packets, 0, "nothing was relayed");
    world.pass(301);
    assert!(answers(&mut world, relay, about(PEER, 3, 3)).is_empty(), "the permission is over");
}

#[test]
fn only_the_types_that_the_rfc_names_are_told_and_the_size_where_it_was_too_large() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let both = AdditionalAddressFamily::new(stun_types::AddressFamily::IPV6);
    let request = ann.request(ALLOCATE, &[&RequestedTransport::new(17), &both]);
    assert_eq!(world.ask(&ann.client, &request).code(), None);
    ann.permit(&mut world, &[PEER, PEER_V6]);
    for (peer, all) in [(PEER, [3, 11].as_slice()), (PEER_V6, &[1, 2, 3])] {
        let is_v6 = peer == PEER_V6;
        let relay = *world.net.open.values().find(|address| address.is_ipv6() == is_v6).unwrap();
        for kind in 0..=255 {
            let got = answers(&mut world, relay, about(peer, kind, 1));
            assert_eq!(got.len(), usize::from(all.contains(&kind)), "{peer} {kind}");
        }
        let large = if is_v6 { (2, 0) } else { (3, 4) };
        let what = Unreachable { mtu: 1_280, ..about(peer, large.0, large.1) };
        let got = answers(&mut world, relay, what);
        assert_eq!(told(&got[0].1), (peer.parse().unwrap(), large.0, large.1, 1_280));
        let what = Unreachable { mtu: 1_280, ..about(peer, 3, 1) };
        assert_eq!(told(&answers(&mut world, relay, what)[0].1).3, 0, "of no size");
    }
    assert_eq!(world.figures().dropped_for(DropReason::Icmp), 2 * 256 - 5);
}

#[test]
fn a_client_is_told_of_so_many_in_a_second_whatever_comes() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let relay = ann.allocated(&mut world);
    ann.permit(&mut world, &[PEER]);
    let flood = |world: &mut World| -> usize {
        (0..1_000).map(|_| answers(world, relay, about(PEER, 3, 3)).len()).sum()
    };
    assert_eq!(flood(&mut world), 32);
    assert_eq!(world.figures().dropped_for(DropReason::Icmp), 968);
    world.pass(1);
    assert_eq!(flood(&mut world), 8);
    assert_eq!(world.figures().unreachable, 40);
}

/// A client of a real relay.
struct Real {
    socket: UdpSocket,
    asking: Asking,
}

impl Real {
    fn ask(&self, request: &[u8]) -> Answer {
        self.socket.send(request).unwrap();
        Answer(self.hear())
    }

    fn hear(&self) -> Vec<u8> {
        let mut bytes = [0; 2_048];
        let length = self.socket.recv(&mut bytes).expect("an answer in time");
        bytes[..length].to_vec()
    }

    /// A message that names a peer.
    fn about(&self, mut message: MessageWriteVec, peer: SocketAddr, data: Option<&[u8]>) -> Vec<u8> {
        let address = XorPeerAddress::new(peer, message.transaction_id());
        match data {
            None => self.asking.sign(message, &[&address]),
            Some(data) => {
                message.add_attribute(&address).unwrap();
                message.add_attribute(&Data::new(data)).unwrap();
                message.finish()
            }
        }
    }
}

/// Over real sockets: a peer goes, and the client is told, as often as it sends; another peer has all that was sent meanwhile.
async fn a_peer_goes(loopback: &str) {
    let at: SocketAddr = format!("{loopback}:0").parse().unwrap();
    let config = TurnConfig {
        listen: vec![at],
        allow: vec![format!("{}/{}", at.ip(), if at.is_ipv4() { 32 } else { 128 }).parse().unwrap()],
        ..config()
    };
    let server = TurnServer::bind(&config).unwrap();
    let address = server.local_addresses().udp[0];
    let clients = tokio::task::spawn_blocking(move || {
        let patient = |socket: &UdpSocket| socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let socket = UdpSocket::bind(at).unwrap();
        socket.connect(address).unwrap();
        patient(&socket);
        let client = Client {
            route: 0,
            address: socket.local_addr().unwrap(),
            local: at.ip(),
            transport: Transport::Udp,
        };
        let asking = Asking::unknown(client, "ann", "apple");
        let mut real = Real { socket, asking };
        let first = real.ask(&Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish());
        real.asking.nonce = first.get::<Nonce>().unwrap().nonce().to_owned();
        let family = turn_types::attribute::RequestedAddressFamily::new(if at.is_ipv4() {
            stun_types::AddressFamily::IPV4
        } else {
            stun_types::AddressFamily::IPV6
        });
        let request = real.asking.request(ALLOCATE, &[&RequestedTransport::new(17), &family]);
        assert_eq!(real.ask(&request).code(), None);

        let (stays, goes) = (UdpSocket::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
        patient(&stays);
        let (here, gone) = (stays.local_addr().unwrap(), goes.local_addr().unwrap());
        let permission = Message::builder_request(CREATE_PERMISSION, MessageWriteVec::new());
        assert_eq!(real.ask(&real.about(permission, here, None)).code(), None);
        drop(goes);
        let send = |peer, data: &[u8]| {
            let message = Message::builder_indication(SEND, MessageWriteVec::new());
            real.socket.send(&real.about(message, peer, Some(data))).unwrap();
        };
        let expected = if at.is_ipv4() { (3, 3) } else { (1, 4) };
        for number in 0..10_u8 {
            send(gone, b"is anybody there?");
            send(here, &[number]);
            let (peer, kind, code, data) = told(&real.hear());
            assert_eq!((peer, (kind, code), data), (gone, expected, 0));
            let mut got = [0; 10];
            let (length, relay) = stays.recv_from(&mut got).expect("nothing is lost");
            assert_eq!(got[..length], [number]);
            // And back.
            stays.send_to(b"yes", relay).unwrap();
            let back = Answer(real.hear());
            assert_eq!(back.get::<XorPeerAddress>().unwrap().addr(back.message().transaction_id()), here);
        }
    });
    clients.await.unwrap();
    let figures = server.shutdown().await;
    assert_eq!((figures.unreachable, figures.dropped_for(DropReason::NotSent)), (10, 0));
    // All were sent on.
    assert_eq!((figures.traffic.received_packets, figures.traffic.sent_packets), (20, 10));
}

#[tokio::test]
async fn a_peer_that_has_gone_is_told_over_ipv4() {
    a_peer_goes("127.0.0.1").await;
}

#[tokio::test]
async fn a_peer_that_has_gone_is_told_over_ipv6() {
    a_peer_goes("[::1]").await;
}
