//! Random bytes, random mutations, random orders of events: nothing panics, and what must be true stays true.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use stun_types::message::{Message, MessageWriteVec};
use turn_types::attribute::{EvenPort, Lifetime, RequestedTransport, ReservationToken};
use turn_types::message::{ALLOCATE, REFRESH};

use super::world::*;
use crate::turn::TurnConfig;
use crate::turn::config::PortRange;
use crate::turn::engine::Client;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_are_survived(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut world = World::new();
        world.packet(&client("192.0.2.1:4000"), &packet);
        prop_assert!(world.engine.is_empty());
        world.check();
    }

    /// Past the first bytes, which most random packets fail at.
    #[test]
    fn any_attributes_are_survived(
        method in prop::sample::select(vec![1_u16, 3, 4, 6, 8, 9, 0x16, 0x11]),
        attributes in proptest::collection::vec(
            (prop::sample::select(vec![
                1_u16, 6, 8, 9, 0xc, 0xd, 0x12, 0x13, 0x14, 0x15, 0x17, 0x18, 0x19, 0x1a, 0x1c, 0x1d, 0x1e, 0x22, 0x8000,
                0x8002, 0x8022, 0x8028, 0x7777,
            ]), proptest::collection::vec(any::<u8>(), 0..40)),
            0..12,
        ),
    ) {
        let mut packet = method.to_be_bytes().to_vec();
        packet.extend_from_slice(&[0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        for (kind, value) in attributes {
            packet.extend_from_slice(&kind.to_be_bytes());
            packet.extend_from_slice(&(value.len() as u16).to_be_bytes());
            packet.extend_from_slice(&value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        let length = packet.len() as u16 - 20;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let mut world = World::new();
        let answers = world.packet(&client("192.0.2.1:4000"), &packet);
        prop_assert!(answers.len() <= 1);
        for answer in answers {
            Answer(answer).message();
        }
        world.check();
    }
}

/// What a random client does.
fn act(world: &mut World, asking: &mut Asking, random: &mut SmallRng, tokens: &mut Vec<u64>) {
    const PEERS: [&str; 8] = [
        "8.8.8.8:1",
        "8.8.8.8:2",
        "8.8.4.4:1",
        "10.0.0.1:1",
        "198.41.0.4:50000",
        "198.41.0.4:3478",
        "[2a00::9]:1",
        "[2a00::4]:50001",
    ];
    let peer = PEERS[random.random_range(0..PEERS.len())];
    let data = vec![7; random.random_range(0..40)];
    match random.random_range(0..12) {
        0 | 1 => {
            let udp = RequestedTransport::new(17);
            let even = EvenPort::new(random.random());
            let token = ReservationToken::new(tokens.pop().unwrap_or(0));
            let family = stun_types::attribute::RawAttribute::new(
                stun_types::attribute::AttributeType::new(if random.random() { 0x0017 } else { 0x8000 }),
                &[2, 0, 0, 0],
            );
            let request = match random.random_range(0..4) {
                0 => asking.request(ALLOCATE, &[&udp]),
                1 => asking.request(ALLOCATE, &[&udp, &even]),
                2 => asking.request(ALLOCATE, &[&udp, &token]),
                _ => asking.request(ALLOCATE, &[&udp, &family]),
            };
            let answer = world.ask(&asking.client, &request);
            tokens.extend(answer.get::<ReservationToken>().map(|token| token.token()));
            assert_eq!(world.ask(&asking.client, &request), answer, "a repeat");
        }
        2 => {
            let seconds = [0, 600, 3_600][random.random_range(0..3)];
            let request = asking.request(REFRESH, &[&Lifetime::new(seconds)]);
            world.ask(&asking.client, &request);
        }
        3 => drop(asking.permit(world, &[peer])),
        4 => drop(asking.bind(world, 0x4000 + random.random_range(0..4), peer)),
        5 => drop(asking.send(world, peer, &data)),
        6 => drop(asking.send_on(world, 0x4000 + random.random_range(0..4), &data)),
        7 | 8 => {
            let open: Vec<SocketAddr> = world.net.open.values().copied().collect();
            if !open.is_empty() {
                let relay = open[random.random_range(0..open.len())];
                world.peer_sends(relay, peer, &data);
            }
        }
        9 => world.engine.on_closed(&mut world.net, &asking.client),
        10 => {
            // A valid request, changed in places.
            let mut request = asking.request(ALLOCATE, &[&RequestedTransport::new(17)]);
            for _ in 0..random.random_range(1..4) {
                let place = random.random_range(0..request.len());
                request[place] = random.random();
            }
            request.truncate(request.len() - random.random_range(0..3) * 4);
            world.packet(&asking.client, &request);
        }
        _ => {
            world.net.now += Duration::from_secs(random.random_range(0..200));
            world.tick();
            let request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
            let answer = world.ask(&asking.client, &stun_types::message::MessageWrite::finish(request));
            asking.nonce = answer.get::<stun_types::attribute::Nonce>().unwrap().nonce().to_owned();
        }
    }
}

#[test]
fn any_order_of_events_keeps_the_books_in_order() {
    for seed in 0..12 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::with(TurnConfig {
            max_allocations: 10,
            max_per_user: 7,
            max_per_address: 3,
            max_permissions: 4,
            max_channels: 3,
            bytes_per_second: if seed % 2 == 0 { 0 } else { 50 },
            ports: PortRange { min: 50_000, max: 50_000 + 4 * seed as u16 },
            ..config()
        });
        let mut clients: Vec<Asking> = (0..16)
            .map(|n| {
                let (name, password) = if n % 3 == 0 { ("bob", "birch") } else { ("ann", "apple") };
                let mut asking = Asking::named(&mut world, &format!("192.0.2.{}:{n}", n / 3), name, password);
                asking.client = Client { route: n % 2, ..asking.client };
                asking
            })
            .collect();
        let mut tokens = Vec::new();
        for _ in 0..10_000 {
            let index = random.random_range(0..clients.len());
            act(&mut world, &mut clients[index], &mut random, &mut tokens);
            world.check();
        }
        for client in &clients {
            world.engine.on_closed(&mut world.net, &client.client);
        }
        world.pass(60);
        world.check();
        assert!(world.engine.is_idle() && world.net.open.is_empty());
        assert_eq!(world.net.ports.taken(), 0, "every port is back");
    }
}
