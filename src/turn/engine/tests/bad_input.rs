//! What no honest client sends.

use stun_types::attribute::{AttributeType, UnknownAttributes};
use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteVec, Method};
use turn_types::attribute::RequestedTransport;
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, SEND};

use super::world::*;
use crate::turn::TurnConfig;
use crate::turn::engine::{Client, Transport};
use crate::turn::figures::DropReason;

/// Nobody hears of these packets, and each is counted.
#[track_caller]
fn assert_malformed(packets: impl IntoIterator<Item = Vec<u8>>) {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.allocated(&mut world);
    let mut count = 0;
    for packet in packets {
        count += 1;
        assert!(world.packet(&ann.client, &packet).is_empty(), "{packet:x?}");
        assert_eq!(world.figures().dropped_for(DropReason::Malformed), count, "{packet:x?}");
    }
    assert!(count > 0 && world.net.to_peer.is_empty());
    world.check();
}

fn binding() -> Vec<u8> {
    Message::builder_request(BINDING, MessageWriteVec::new()).finish()
}

#[test]
fn packets_that_are_neither_stun_nor_channel_data() {
    assert_malformed([
        vec![],
        vec![4],
        vec![0x3f; 100],
        vec![0x80; 100],
        vec![0xff; 1_500],
        b"\x16\x03\x01hello".to_vec(),
    ]);
}

/// Bad input: lying lengths and misalignment.
#[test]
fn lengths_that_lie() {
    let whole = {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        raw(&mut request, 0x8022, b"software");
        request.finish()
    };
    let mut packets: Vec<Vec<u8>> = (1..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    for length in (0..=u16::MAX).filter(|length| *length != 12).step_by(7).chain([0, 11, 13, u16::MAX]) {
        let mut lying = whole.clone();
        lying[2..4].copy_from_slice(&length.to_be_bytes());
        packets.push(lying);
    }
    for length in (9..=u16::MAX).step_by(11).chain([u16::MAX]) {
        let mut lying = whole.clone();
        lying[22..24].copy_from_slice(&length.to_be_bytes());
        packets.push(lying);
    }
    packets.push([whole.clone(), vec![0; 4]].concat());
    let mut cookie = whole;
    cookie[5] ^= 1;
    packets.push(cookie);
    assert_malformed(packets);
}

#[test]
fn channel_data_that_is_shorter_than_it_says() {
    let whole = channel_data(0x4000, b"data");
    let cuts = (1..whole.len()).map(|cut| whole[..cut].to_vec()).collect::<Vec<_>>();
    assert_malformed(cuts.into_iter().chain([vec![0x40, 0, 0xff, 0xff, 1]]));
}

#[test]
fn answers_and_unknown_indications() {
    let mut packets = Vec::new();
    for kind in [0x0101_u16, 0x0111, 0x0103, 0x0113, 0x0013, 0x0017, 0x0018] {
        let mut packet = binding();
        packet[..2].copy_from_slice(&kind.to_be_bytes());
        packets.push(packet);
    }
    assert_malformed(packets);
}

#[test]
fn send_indications_without_what_they_need() {
    let send = |attributes: &[(u16, &[u8])]| {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        attributes.iter().for_each(|(kind, value)| raw(&mut message, *kind, value));
        message.finish()
    };
    let peer: &[u8] = &[0, 1, 1, 2, 3, 4, 5, 6];
    assert_malformed([
        send(&[]),
        send(&[(0x0012, peer)]),
        send(&[(0x0013, b"data")]),
        send(&[(0x0012, &[]), (0x0013, b"data")]),
        send(&[(0x0012, &peer[..7]), (0x0013, b"data")]),
        send(&[(0x0012, &[0, 3, 1, 2, 3, 4, 5, 6]), (0x0013, b"data")]),
        send(&[(0x0012, &[0, 2, 1, 2, 3, 4, 5, 6]), (0x0013, b"data")]),
        // Must be understood, and is not.
        send(&[(0x0012, peer), (0x0013, b"data"), (0x7f00, b"")]),
    ]);
}

#[test]
fn a_binding_indication_is_kept_silent_about() {
    let mut world = World::new();
    let packet = Message::builder_indication(BINDING, MessageWriteVec::new()).finish();
    assert!(world.packet(&client("192.0.2.1:4000"), &packet).is_empty());
    assert_eq!(world.figures().dropped_for(DropReason::Malformed), 0);
}

#[test]
fn methods_of_others_are_bad_requests() {
    let mut world = World::new();
    // Connect and ConnectionBind (RFC 6062) among them.
    for method in [0x000a, 0x000b, 0x0002, 0x0006, 0x0007, 0x00ff, 0x0000] {
        let request = Message::builder_request(Method::new(method), MessageWriteVec::new()).finish();
        assert_eq!(world.ask(&client("192.0.2.1:4000"), &request).code(), Some(400), "{method:#x}");
    }
}

/// Bad input: an unknown attribute that must be understood: 420 with the list; 1,000 attributes.
#[test]
fn unknown_attributes_are_listed() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    raw(&mut request, 0x7abc, b"x");
    raw(&mut request, 0x8abc, b"may be ignored");
    raw(&mut request, 0x001e, &[0; 32]);
    raw(&mut request, 0x7abc, b"again");
    let request = ann.sign(request, &[&RequestedTransport::new(17)]);
    let answer = world.ask(&ann.client, &request);
    assert_eq!(answer.code(), Some(420));
    let unknown = answer.get::<UnknownAttributes>().unwrap();
    assert!(unknown.has_attribute(AttributeType::new(0x7abc)));
    assert!(unknown.has_attribute(AttributeType::new(0x001e)), "USERHASH is not offered");
    assert!(!unknown.has_attribute(AttributeType::new(0x8abc)));

    let mut many = Message::builder_request(BINDING, MessageWriteVec::new());
    (0..1_000).for_each(|n| raw(&mut many, 0x7000 + n, b""));
    let answer = world.ask(&ann.client, &many.finish());
    assert_eq!(answer.code(), Some(420));
    assert!(answer.0.len() < 200, "the list is bounded");

    let mut many = Message::builder_request(BINDING, MessageWriteVec::new());
    (0..1_000).for_each(|n| raw(&mut many, 0x9000 + n, b""));
    assert_eq!(world.ask(&ann.client, &many.finish()).code(), None, "nobody need understand these");

    let mut endless = Message::builder_request(BINDING, MessageWriteVec::new());
    (0..3_000).for_each(|n| raw(&mut endless, 0x9000 + n, b""));
    assert!(world.packet(&ann.client, &endless.finish()).is_empty(), "that long is no request");
}

#[test]
fn attributes_with_wrong_values_are_bad_requests() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    for (kind, value) in [
        (0x0019_u16, &[17, 0, 0][..]),
        (0x0019, &[17, 0, 0, 0, 0]),
        (0x000d, &[1, 2]),
        (0x000d, &[]),
        (0x0018, &[]),
        (0x0018, &[0x80, 0]),
        (0x0022, &[1, 2, 3]),
        (0x0017, &[]),
        (0x8000, &[2]),
    ] {
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        raw(&mut request, kind, value);
        let request = ann.sign(request, &[&RequestedTransport::new(17)]);
        assert_eq!(world.ask(&ann.client, &request).code(), Some(400), "{kind:#x} {value:x?}");
    }
    ann.allocated(&mut world);
    for peer in [&[][..], &[0, 1], &[0, 1, 1, 2, 3, 4, 5], &[0, 9, 1, 2, 3, 4, 5, 6], &[0; 40]] {
        let mut request = Message::builder_request(CREATE_PERMISSION, MessageWriteVec::new());
        raw(&mut request, 0x0012, peer);
        let request = ann.sign(request, &[]);
        assert_eq!(world.ask(&ann.client, &request).code(), Some(400), "{peer:x?}");
    }
    let none = ann.request(CREATE_PERMISSION, &[]);
    assert_eq!(world.ask(&ann.client, &none).code(), Some(400));
    world.check();
}

#[test]
fn a_user_name_that_is_no_text_is_a_bad_request() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    raw(&mut request, 0x0006, &[0xff, 0xfe, 0xfd]);
    let request = ann.sign(request, &[&RequestedTransport::new(17)]);
    assert_eq!(world.ask(&ann.client, &request).code(), Some(400));
}

/// A million requests of strangers from as many places leave nothing behind; honest clients are served meanwhile.
#[test]
fn a_flood_of_strangers_leaves_nothing_behind() {
    let mut world = World::new();
    let request = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let mut forged = Asking::ann(&mut world, "192.0.2.1:4000");
    forged.nonce = "obMatJos2gAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    let forged = forged.request(ALLOCATE, &[&RequestedTransport::new(17)]);
    for n in 0..1_000_000_u32 {
        let [a, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
        let stranger = client(&format!("{a}.{b}.{c}.{d}:{}", n % 65_535 + 1));
        let answers = world.packet(&stranger, if n % 2 == 0 { &request } else { &forged });
        assert_eq!(answers.len(), 1);
        if n % 100_000 == 0 {
            let honest = Asking::ann(&mut world, &format!("192.0.2.{}:4000", n / 100_000));
            honest.allocated(&mut world);
        }
    }
    assert_eq!(world.engine.len(), 10);
    assert_eq!(world.engine.answers.len(), 10, "only those of known users are remembered");
    assert_eq!(world.engine.slots.len(), 10);
    world.check();
}

#[test]
fn answers_are_remembered_up_to_a_limit() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.allocated(&mut world);
    for _ in 0..10_000 {
        assert_eq!(ann.refresh(&mut world, 600).code(), None);
    }
    assert_eq!(world.engine.answers.len(), 8_192);
    world.pass(41);
    assert!(world.engine.answers.is_empty());
}

/// How many of `count` packets of `client` are answered.
fn answered(world: &mut World, client: &Client, packet: &[u8], count: usize) -> usize {
    (0..count).filter(|_| !world.packet(client, packet).is_empty()).count()
}

/// Bad input: forged senders, who would have the relay's answers hit somebody else.
#[test]
fn an_address_that_proves_nothing_is_answered_now_and_then() {
    let mut world = World::with(TurnConfig { stranger_answers_per_second: 1, ..config() });
    let allocate = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let mut forged = Asking::ann(&mut world, "203.0.113.1:4000");
    forged.nonce = "obMatJos2gAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    let foreign_nonce = forged.request(ALLOCATE, &[&RequestedTransport::new(17)]);
    let mut unreadable = Message::builder_request(BINDING, MessageWriteVec::new());
    raw(&mut unreadable, 0x7fff, b"what?");
    for (number, packet) in
        [allocate.clone(), foreign_nonce, binding(), unreadable.finish()].iter().enumerate()
    {
        let victim = client(&format!("192.0.2.{number}:4000"));
        assert_eq!(answered(&mut world, &victim, packet, 100), 20);
        let other_port = client(&format!("192.0.2.{number}:4001"));
        assert_eq!(answered(&mut world, &other_port, packet, 100), 0, "the same address");
        world.net.now += std::time::Duration::from_secs(3);
        assert_eq!(answered(&mut world, &victim, packet, 100), 3);
        assert_eq!(world.figures().dropped_for(DropReason::Stranger), (number as u64 + 1) * 277);
    }
    let figures = world.figures();
    assert_eq!(figures.bindings, 23, "only what was answered");
    assert_eq!([401, 438, 420].map(|code| figures.refused_with(code)), [23 + 1, 23, 23]);
    let stream = Client { transport: Transport::Tcp, ..client("192.0.2.0:4000") };
    assert_eq!(answered(&mut world, &stream, &allocate, 100), 100, "a connection cannot be forged");
    assert_eq!(answered(&mut world, &client("[2001:db8::1]:4000"), &allocate, 15), 15);
    assert_eq!(answered(&mut world, &client("[2001:db8::2]:4000"), &allocate, 15), 5, "the same /64");
}

#[test]
fn who_has_proven_to_be_there_is_served_while_others_forge_his_address() {
    let mut world = World::with(TurnConfig { stranger_answers_per_second: 1, ..config() });
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let mallory = Asking::named(&mut world, "192.0.2.1:5000", "mallory", "guess");
    let flooded = |world: &mut World| {
        answered(world, &client("192.0.2.1:4000"), &binding(), 100);
        assert_eq!(answered(world, &client("192.0.2.1:4000"), &binding(), 1), 0);
    };
    flooded(&mut world);
    ann.allocated(&mut world);
    assert_eq!(ann.permit(&mut world, &[PEER]).code(), None);
    assert_eq!(ann.send(&mut world, PEER, b"data").len(), 1);
    for _ in 0..50 {
        assert_eq!(mallory.allocate(&mut world).code(), Some(401));
    }
    // Her nonce gets old; with the new one she goes on.
    world.net.now += std::time::Duration::from_secs(601 - 300);
    world.tick();
    assert_eq!(ann.refresh(&mut world, 3_600).code(), None);
    world.net.now += std::time::Duration::from_secs(300);
    world.tick();
    flooded(&mut world);
    let stale = ann.refresh(&mut world, 600);
    assert_eq!(stale.code(), Some(438));
    let nonce = stale.get::<stun_types::attribute::Nonce>().unwrap().nonce().to_owned();
    let renewed = Asking { nonce, ..ann };
    assert_eq!(renewed.refresh(&mut world, 600).code(), None);
}
