//! Permissions, channels, and the data that goes through them.

use std::net::SocketAddr;

use stun_types::attribute::AttributeFromRaw;
use stun_types::message::Message;
use turn_types::attribute::{Data, DontFragment, XorPeerAddress};
use turn_types::message::DATA;

use super::world::*;
use crate::turn::TurnConfig;
use crate::turn::engine::{Client, Sent, Transport};
use crate::turn::figures::DropReason;

fn allocated(world: &mut World) -> (Asking, SocketAddr) {
    let ann = Asking::ann(world, "192.0.2.1:4000");
    let relay = ann.allocated(world);
    (ann, relay)
}

/// A Data indication: the peer and what it sent.
fn indication(bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = Message::from_bytes(bytes).unwrap();
    assert!(message.has_method(DATA) && message.has_class(stun_types::message::MessageClass::Indication));
    let peer: XorPeerAddress = message.attribute().unwrap();
    let data = message.raw_attribute(<Data as stun_types::attribute::AttributeStaticType>::TYPE).unwrap();
    let data = Data::from_raw_ref(&data).unwrap().data().to_vec();
    (peer.addr(message.transaction_id()), data)
}

#[test]
fn data_goes_both_ways_through_a_permission() {
    let mut world = World::new();
    let (ann, relay) = allocated(&mut world);
    assert_eq!(ann.permit(&mut world, &[PEER]).code(), None);
    for length in [0, 1, 2, 3, 4, 1_200] {
        let data = vec![7; length];
        // A permission is for an address; the port does not matter.
        for peer in [PEER, "8.8.8.8:1"] {
            assert_eq!(ann.send(&mut world, peer, &data), [(relay, peer.parse().unwrap(), data.clone())]);
            let back = world.peer_sends(relay, peer, &data);
            assert_eq!(back.len(), 1);
            assert_eq!(back[0].0, ann.client);
            assert_eq!(indication(&back[0].1), (peer.parse().unwrap(), data.clone()));
        }
    }
    let figures = world.figures();
    assert_eq!((figures.traffic.received_bytes, figures.traffic.received_packets), (2_420, 12));
    assert_eq!((figures.traffic.sent_bytes, figures.traffic.sent_packets), (2_420, 12));
    assert_eq!(figures.live[0].traffic, figures.traffic);
}

#[test]
fn data_goes_both_ways_through_a_channel() {
    let mut world = World::new();
    let (ann, relay) = allocated(&mut world);
    assert_eq!(ann.bind(&mut world, 0x4000, PEER).code(), None);
    for length in [0, 1, 2, 3, 4, 1_200] {
        let data = vec![7; length];
        assert_eq!(ann.send_on(&mut world, 0x4000, &data), [(relay, PEER.parse().unwrap(), data.clone())]);
        let back = world.peer_sends(relay, PEER, &data);
        assert_eq!(back, [(ann.client, channel_data(0x4000, &data))]);
        // Another port of the same host has no channel, but the permission that came with it.
        let back = world.peer_sends(relay, "8.8.8.8:1", &data);
        assert_eq!(indication(&back[0].1), ("8.8.8.8:1".parse().unwrap(), data));
    }
}

#[test]
fn in_a_stream_every_message_is_padded() {
    let mut world = World::new();
    let mut ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.client = Client { route: 9, transport: Transport::Tcp, ..ann.client };
    let relay = ann.allocated(&mut world);
    ann.bind(&mut world, 0x4000, PEER);
    for length in 0..9 {
        let back = world.peer_sends(relay, PEER, &vec![7; length]);
        assert_eq!(back[0].1.len(), 4 + length.next_multiple_of(4));
        let padded = [channel_data(0x4000, &vec![7; length]), vec![0; 3]].concat();
        assert_eq!(world.packet(&ann.client, &padded).len(), 0);
        assert_eq!(world.net.to_peer.pop().unwrap().2.len(), length, "padding is not relayed");
    }
}

/// Bad input: Send and channel data without permission.
#[test]
fn without_permission_nothing_passes() {
    let mut world = World::new();
    let stranger = Asking::ann(&mut world, "192.0.2.9:4000");
    assert!(stranger.send(&mut world, PEER, b"data").is_empty());
    assert!(stranger.send_on(&mut world, 0x4000, b"data").is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::NoAllocation), 2);
    let (ann, relay) = allocated(&mut world);
    assert!(ann.send(&mut world, PEER, b"data").is_empty());
    assert!(world.peer_sends(relay, PEER, b"data").is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::NoPermission), 2);
    assert!(ann.send_on(&mut world, 0x4000, b"data").is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::NoChannel), 1);
    ann.permit(&mut world, &[PEER]);
    assert!(ann.send(&mut world, "8.8.4.4:5000", b"data").is_empty(), "another host");
    assert!(world.peer_sends(relay, "8.8.4.4:5000", b"data").is_empty());
    assert_eq!(world.figures().traffic, Default::default());
}

#[test]
fn permissions_last_five_minutes_and_channels_ten() {
    let mut world = World::new();
    let (ann, relay) = allocated(&mut world);
    assert_eq!(ann.refresh(&mut world, 3_600).code(), None);
    ann.permit(&mut world, &["8.8.4.4:1"]);
    ann.bind(&mut world, 0x4000, PEER);
    world.pass(299);
    assert_eq!(ann.send(&mut world, "8.8.4.4:1", b"data").len(), 1);
    assert_eq!(world.peer_sends(relay, PEER, b"data").len(), 1);
    world.pass(1);
    assert!(ann.send(&mut world, "8.8.4.4:1", b"data").is_empty());
    assert!(world.peer_sends(relay, PEER, b"data").is_empty(), "the channel's permission has ended");
    assert_eq!(ann.send_on(&mut world, 0x4000, b"data").len(), 1, "the channel has not");
    assert_eq!(ann.bind(&mut world, 0x4000, PEER).code(), None);
    assert_eq!(world.peer_sends(relay, PEER, b"data").len(), 1);
    world.pass(300);
    assert_eq!(ann.send_on(&mut world, 0x4000, b"data").len(), 1, "bound again, it lasts again");
    world.pass(300);
    assert!(ann.send_on(&mut world, 0x4000, b"data").is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::NoChannel), 1);
}

/// Bad input: channel numbers out of range or rebound (400).
#[test]
fn a_channel_is_one_number_for_one_peer() {
    let mut world = World::new();
    let (ann, _) = allocated(&mut world);
    for number in [0, 1, 0x3fff, 0x8000, 0xfffe, 0xffff] {
        assert_eq!(ann.bind(&mut world, number, PEER).code(), Some(400), "{number:#x}");
    }
    assert_eq!(ann.bind(&mut world, 0x4000, PEER).code(), None);
    assert_eq!(ann.bind(&mut world, 0x4000, PEER).code(), None, "again");
    assert_eq!(ann.bind(&mut world, 0x4000, "8.8.8.8:5001").code(), Some(400));
    assert_eq!(ann.bind(&mut world, 0x4001, PEER).code(), Some(400));
    assert_eq!(ann.bind(&mut world, 0x7fff, "8.8.8.8:5001").code(), None);
    assert_eq!(ann.bind(&mut world, 0x4002, "8.8.8.8:0").code(), Some(400));
    let expired = 601;
    assert_eq!(ann.refresh(&mut world, 3_600).code(), None);
    let mut ann = ann;
    world.pass(expired);
    ann.renew_by_438(&mut world);
    assert_eq!(ann.bind(&mut world, 0x4000, "8.8.8.8:5001").code(), None, "free again");
}

#[test]
fn permissions_and_channels_are_bounded() {
    let mut world = World::with(TurnConfig { max_permissions: 3, max_channels: 2, ..config() });
    let (ann, _) = allocated(&mut world);
    assert_eq!(ann.permit(&mut world, &["8.0.0.1:1", "8.0.0.2:1"]).code(), None);
    assert_eq!(ann.permit(&mut world, &["8.0.0.3:1", "8.0.0.4:1"]).code(), Some(508));
    assert!(ann.send(&mut world, "8.0.0.3:1", b"data").is_empty(), "all or nothing");
    assert_eq!(ann.permit(&mut world, &["8.0.0.1:1", "8.0.0.3:1"]).code(), None);
    assert_eq!(ann.bind(&mut world, 0x4000, "8.0.0.4:1").code(), Some(508));
    assert_eq!(ann.bind(&mut world, 0x4000, "8.0.0.1:1").code(), None);
    assert_eq!(ann.bind(&mut world, 0x4001, "8.0.0.1:2").code(), None);
    assert_eq!(ann.bind(&mut world, 0x4002, "8.0.0.1:3").code(), Some(508));
    world.pass(301);
    assert_eq!(ann.permit(&mut world, &["8.0.0.5:1", "8.0.0.6:1", "8.0.0.7:1"]).code(), None);
    let many: Vec<String> = (0..65).map(|n| format!("8.1.0.{n}:1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ann.permit(&mut world, &many).code(), Some(400), "more than one request may name");
}

#[test]
fn forbidden_peers_are_refused() {
    let mut world = World::new();
    let (ann, _) = allocated(&mut world);
    for peer in [
        "127.0.0.1:80",
        "10.0.0.1:80",
        "169.254.169.254:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
    ] {
        assert_eq!(ann.permit(&mut world, &[peer]).code(), Some(403), "{peer}");
        assert_eq!(ann.permit(&mut world, &[PEER, peer]).code(), Some(403), "{peer}");
        assert_eq!(ann.bind(&mut world, 0x4000, peer).code(), Some(403), "{peer}");
        assert!(ann.send(&mut world, peer, b"data").is_empty());
    }
    assert!(ann.send(&mut world, PEER, b"data").is_empty(), "all or nothing");
    for peer in ["[::1]:80", "[2606:4700::1111]:80", "[::ffff:8.8.8.8]:80"] {
        assert_eq!(ann.permit(&mut world, &[peer]).code(), Some(443), "the allocation is of IPv4: {peer}");
    }
    assert_eq!(world.figures().refused_with(403), 18);
}

#[test]
fn two_clients_meet_at_their_relay_addresses_and_nothing_else_of_the_host_is_reached() {
    let mut world = World::new();
    let (ann, ann_relay) = allocated(&mut world);
    let bob = Asking::named(&mut world, "192.0.2.2:4000", "bob", "birch");
    let bob_relay = bob.allocated(&mut world);
    assert_eq!(ann.permit(&mut world, &[&bob_relay.to_string()]).code(), None);
    assert_eq!(bob.permit(&mut world, &[&ann_relay.to_string()]).code(), None);
    let sent = ann.send(&mut world, &bob_relay.to_string(), b"hello");
    assert_eq!(sent, [(ann_relay, bob_relay, b"hello".to_vec())]);
    let back = world.peer_sends(bob_relay, &ann_relay.to_string(), b"hello");
    assert_eq!(indication(&back[0].1), (ann_relay, b"hello".to_vec()));
    for port in [22, 3478, 65_000] {
        assert!(ann.send(&mut world, &format!("{RELAY}:{port}"), b"hello").is_empty(), "{port}");
        assert!(world.peer_sends(bob_relay, &format!("{RELAY}:{port}"), b"hello").is_empty(), "{port}");
    }
    assert_eq!(world.figures().dropped_for(DropReason::Forbidden), 3);
    assert_eq!(ann.bind(&mut world, 0x4000, &format!("{RELAY}:3478")).code(), Some(403));
}

#[test]
fn an_allowed_host_is_reached_on_every_port_but_the_relays_own() {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let mut world = World::with(TurnConfig { allow, ..config() });
    let (ann, relay) = allocated(&mut world);
    assert_eq!(ann.permit(&mut world, &["127.0.0.1:80"]).code(), None);
    assert_eq!(ann.send(&mut world, "127.0.0.1:80", b"data").len(), 1);
    assert_eq!(world.peer_sends(relay, "127.0.0.1:80", b"data").len(), 1);
    assert!(ann.send(&mut world, "127.0.0.1:3478", b"data").is_empty());
    assert_eq!(ann.bind(&mut world, 0x4000, "127.0.0.1:3478").code(), Some(403));
}

#[test]
fn behind_a_nat_clients_meet_without_leaving_the_host() {
    let outside = "198.41.0.200";
    let mut world = World::with(TurnConfig { external_address: Some(outside.parse().unwrap()), ..config() });
    let (ann, ann_seen) = allocated(&mut world);
    let bob = Asking::named(&mut world, "192.0.2.2:4000", "bob", "birch");
    let bob_seen = bob.allocated(&mut world);
    ann.permit(&mut world, &[&bob_seen.to_string()]);
    bob.bind(&mut world, 0x4000, &ann_seen.to_string());
    let sent = ann.send(&mut world, &bob_seen.to_string(), b"hello");
    let inside = |seen: SocketAddr| SocketAddr::new(RELAY.parse().unwrap(), seen.port());
    assert_eq!(sent, [(inside(ann_seen), inside(bob_seen), b"hello".to_vec())]);
    let back = world.peer_sends(inside(bob_seen), &inside(ann_seen).to_string(), b"hello");
    assert_eq!(back, [(bob.client, channel_data(0x4000, b"hello"))]);
    assert!(ann.send(&mut world, &format!("{outside}:22"), b"hello").is_empty());
}

#[test]
fn what_is_not_to_be_fragmented_and_would_be_is_dropped() {
    let mut world = World::new();
    let (ann, _) = allocated(&mut world);
    ann.permit(&mut world, &[PEER]);
    let whole = DontFragment::new();
    assert_eq!(ann.send_with(&mut world, PEER, &[7; 1_472], &[&whole]).len(), 1);
    assert!(ann.send_with(&mut world, PEER, &[7; 1_473], &[&whole]).is_empty());
    assert_eq!(ann.send(&mut world, PEER, &[7; 9_000]).len(), 1);
    assert_eq!(world.figures().dropped_for(DropReason::TooLarge), 1);
}

#[test]
fn what_cannot_be_sent_is_counted_and_is_no_traffic() {
    let mut world = World::new();
    let (ann, relay) = allocated(&mut world);
    ann.permit(&mut world, &[PEER]);
    for (fate, reason) in [
        (Sent::QueueFull, DropReason::QueueFull),
        (Sent::TooLarge, DropReason::TooLarge),
        (Sent::No, DropReason::NotSent),
    ] {
        world.net.fate = fate;
        ann.send(&mut world, PEER, b"data");
        world.peer_sends(relay, PEER, b"data");
        assert_eq!(world.figures().dropped_for(reason), 2, "{reason:?}");
    }
    assert_eq!(world.figures().traffic, Default::default());
}

/// Bad input: peers that flood a relay port.
#[test]
fn a_flood_is_cut_to_the_rate() {
    let mut world = World::with(TurnConfig { bytes_per_second: 100_000, ..config() });
    let (ann, relay) = allocated(&mut world);
    ann.permit(&mut world, &[PEER]);
    let mut passed = 0;
    for _ in 0..10 {
        for _ in 0..1_000 {
            passed += world.peer_sends(relay, PEER, &[7; 1_000]).len();
        }
        world.pass(1);
    }
    assert!((900..=1_100).contains(&passed), "{passed}: a burst of one second and nine more");
    let figures = world.figures();
    assert_eq!(figures.dropped_for(DropReason::OverRate), 10_000 - passed as u64);
    assert_eq!(figures.traffic.sent_packets, passed as u64);
    assert_eq!(ann.send(&mut world, PEER, b"data").len(), 1, "the other way has a rate of its own");
}

#[test]
fn all_together_have_a_rate() {
    let mut world = World::with(TurnConfig { total_bytes_per_second: 100_000, ..config() });
    let (ann, _) = allocated(&mut world);
    let bob = Asking::named(&mut world, "192.0.2.2:4000", "bob", "birch");
    bob.allocated(&mut world);
    let mut passed = 0;
    for asking in [&ann, &bob] {
        asking.permit(&mut world, &[PEER]);
        passed += (0..150).map(|_| asking.send(&mut world, PEER, &[7; 1_000]).len()).sum::<usize>();
    }
    assert_eq!(passed, 100);
}
