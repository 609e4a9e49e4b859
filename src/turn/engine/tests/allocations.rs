//! Allocate and Refresh.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{AttributeType, AttributeWrite, RawAttribute, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteVec};
use turn_types::attribute::{
    AddressErrorCode, EvenPort, Lifetime, RequestedTransport, ReservationToken, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, REFRESH};

use super::world::*;
use crate::turn::config::{PortRange, TurnConfig};
use crate::turn::engine::{Client, Transport};

fn attribute(kind: u16, value: &[u8]) -> RawAttribute<'static> {
    RawAttribute::new(AttributeType::new(kind), value).into_owned()
}

fn family(number: u8) -> RawAttribute<'static> {
    attribute(0x0017, &[number, 0, 0, 0])
}

fn additional(number: u8) -> RawAttribute<'static> {
    attribute(0x8000, &[number, 0, 0, 0])
}

/// An Allocate for UDP with these attributes, from a new port of ann's host.
fn allocate(world: &mut World, port: u16, attributes: &[&dyn AttributeWrite]) -> Answer {
    let asking = Asking::ann(world, &format!("192.0.2.1:{port}"));
    let udp = RequestedTransport::new(17);
    let mut all: Vec<&dyn AttributeWrite> = vec![&udp];
    all.extend_from_slice(attributes);
    let request = asking.request(ALLOCATE, &all);
    world.ask(&asking.client, &request)
}

#[test]
fn a_binding_request_is_answered_with_the_clients_address() {
    let mut world = World::new();
    for address in ["192.0.2.1:4000", "[2001:db8::1]:4000"] {
        let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        let answer = world.ask(&client(address), &request);
        assert_eq!(answer.code(), None);
        let mapped = answer.get::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(answer.message().transaction_id()), address.parse::<SocketAddr>().unwrap());
    }
    assert_eq!(world.figures().bindings, 2);
}

#[test]
fn an_allocation_has_a_port_a_life_and_figures() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let answer = ann.allocate(&mut world);
    assert_eq!(answer.code(), None);
    let relay = answer.relay();
    assert_eq!(relay.ip(), RELAY.parse::<std::net::IpAddr>().unwrap());
    assert!(PortRange::default().min <= relay.port());
    assert_eq!(answer.lifetime(), 600);
    let mapped = answer.get::<XorMappedAddress>().unwrap();
    assert_eq!(mapped.addr(answer.message().transaction_id()), ann.client.address);
    let figures = world.figures();
    assert_eq!((figures.allocated, figures.live.len()), (1, 1));
    let live = &figures.live[0];
    assert_eq!((live.client, live.relay, live.transport), (ann.client.address, relay, "udp"));
    assert_eq!(live.since, world.wall());
    assert!(live.user.len() == 16 && !live.user.contains("ann"));
    world.check();

    world.pass(599);
    assert_eq!(world.engine.len(), 1);
    world.pass(1);
    assert_eq!(world.engine.len(), 0);
    assert!(world.net.open.is_empty() && world.net.ports.taken() == 0);
    world.check();
}

#[test]
fn a_life_is_what_was_asked_for_within_limits() {
    let mut world = World::new();
    for (port, asked, given) in
        [(1, 0, 600), (2, 599, 600), (3, 601, 601), (4, 3_600, 3_600), (5, u32::MAX, 3_600)]
    {
        let answer = allocate(&mut world, port, &[&Lifetime::new(asked)]);
        assert_eq!(answer.lifetime(), given, "{asked}");
    }
}

#[test]
fn a_refresh_prolongs_and_a_refresh_of_nothing_ends() {
    let mut world = World::new();
    let mut ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.allocated(&mut world);
    world.pass(500);
    assert_eq!(ann.refresh(&mut world, 900).lifetime(), 900);
    world.pass(899);
    assert_eq!(world.engine.len(), 1);
    ann.renew_by_438(&mut world);
    let answer = ann.refresh(&mut world, 0);
    assert_eq!((answer.code(), answer.lifetime()), (None, 0));
    assert_eq!(world.engine.len(), 0);
    assert_eq!(ann.refresh(&mut world, 600).code(), Some(437));
    world.check();
}

/// Bad input: a second allocation on a 5-tuple; a repeat of the same transaction gets the same answer.
#[test]
fn a_client_has_one_allocation_and_repeats_are_answered_alike() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let request = ann.request(ALLOCATE, &[&RequestedTransport::new(17)]);
    let first = world.ask(&ann.client, &request);
    assert_eq!(first.code(), None);
    world.pass(3);
    assert_eq!(world.ask(&ann.client, &request), first, "repeated");
    assert_eq!(ann.allocate(&mut world).code(), Some(437));
    assert_eq!(world.engine.len(), 1);

    let ending = ann.request(REFRESH, &[&Lifetime::new(0)]);
    let ended = world.ask(&ann.client, &ending);
    assert_eq!(ended.code(), None);
    assert_eq!(world.ask(&ann.client, &ending), ended, "repeated, although there is nothing left to end");
    world.pass(41);
    assert_eq!(world.ask(&ann.client, &ending).code(), Some(437), "too late to be a repeat");
    // From another port it is another 5-tuple, and the nonce is not good there.
    assert_eq!(world.ask(&client("192.0.2.1:4001"), &request).code(), Some(438));
    world.check();
}

#[test]
fn the_same_transaction_with_another_request_is_no_repeat() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.allocated(&mut world);
    let one = ann.request(REFRESH, &[&Lifetime::new(1_000)]);
    let transaction = Message::from_bytes(&one).unwrap().transaction_id();
    assert_eq!(world.ask(&ann.client, &one).lifetime(), 1_000);
    let other =
        Message::builder(Message::from_bytes(&one).unwrap().get_type(), transaction, MessageWriteVec::new());
    let other = ann.sign(other, &[&Lifetime::new(2_000)]);
    assert_eq!(world.ask(&ann.client, &other).lifetime(), 2_000);
}

/// Bad input: the wrong transport; TCP (RFC 6062) is not relayed.
#[test]
fn only_udp_is_relayed() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    for (protocol, code) in [(6, 442), (1, 442), (0, 442)] {
        let request = ann.request(ALLOCATE, &[&RequestedTransport::new(protocol)]);
        assert_eq!(world.ask(&ann.client, &request).code(), Some(code));
    }
    assert_eq!(world.ask(&ann.client, &ann.request(ALLOCATE, &[])).code(), Some(400));
    let short = attribute(0x0019, &[17]);
    assert_eq!(world.ask(&ann.client, &ann.request(ALLOCATE, &[&short])).code(), Some(400));
    world.check();
}

#[test]
fn families_are_served_as_far_as_there_are_addresses() {
    let mut world = World::new();
    assert!(allocate(&mut world, 1, &[&family(1)]).relay().is_ipv4());
    assert!(allocate(&mut world, 2, &[&family(2)]).relay().is_ipv6());
    assert_eq!(allocate(&mut world, 3, &[&family(3)]).code(), Some(440));
    assert_eq!(allocate(&mut world, 4, &[&attribute(0x0017, &[1])]).code(), Some(400));
    assert_eq!(allocate(&mut world, 5, &[&family(1), &additional(2)]).code(), Some(400));
    assert_eq!(allocate(&mut world, 6, &[&additional(1)]).code(), Some(400));
    let both = allocate(&mut world, 7, &[&additional(2)]);
    let transaction = both.message().transaction_id();
    let second: XorRelayedAddress = both.message().nth_attribute(1).unwrap();
    assert!(both.relay().is_ipv4() && second.addr(transaction).is_ipv6());
    world.check();
}

#[test]
fn a_second_family_that_cannot_be_had_is_told() {
    let range = PortRange { min: 50_000, max: 50_000 };
    let mut world = World::with(TurnConfig { ports: range, ..config() });
    assert!(allocate(&mut world, 1, &[&family(2)]).relay().is_ipv6(), "the only port of IPv6");
    let answer = allocate(&mut world, 2, &[&additional(2)]);
    assert!(answer.relay().is_ipv4());
    let error = answer.get::<AddressErrorCode>().unwrap();
    assert_eq!(error.error().code(), 508);
    assert_eq!(error.family().to_string(), "IPV6");
    world.check();
}

#[test]
fn one_of_two_families_can_be_given_back() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let request = ann.request(ALLOCATE, &[&RequestedTransport::new(17), &additional(2)]);
    let relay = world.ask(&ann.client, &request).relay();
    let refresh = ann.request(REFRESH, &[&Lifetime::new(0), &family(2)]);
    assert_eq!(world.ask(&ann.client, &refresh).code(), None);
    assert_eq!(world.net.open.values().copied().collect::<Vec<SocketAddr>>(), [relay]);
    let refresh = ann.request(REFRESH, &[&Lifetime::new(600), &family(2)]);
    assert_eq!(world.ask(&ann.client, &refresh).code(), Some(443), "there is no such family any more");
    world.check();
    let refresh = ann.request(REFRESH, &[&Lifetime::new(0), &family(1)]);
    assert_eq!(world.ask(&ann.client, &refresh).code(), None);
    assert!(world.engine.is_empty() && world.net.open.is_empty());
}

#[test]
fn an_even_port_with_the_next_one_kept() {
    let mut world = World::new();
    let answer = allocate(&mut world, 1, &[&EvenPort::new(true)]);
    let relay = answer.relay();
    assert_eq!(relay.port() % 2, 0);
    let token = answer.get::<ReservationToken>().unwrap();
    assert!(world.net.ports.is_taken(SocketAddr::new(relay.ip(), relay.port() + 1)));
    assert_eq!(allocate(&mut world, 2, &[&token, &EvenPort::new(false)]).code(), Some(400));
    assert_eq!(allocate(&mut world, 3, &[&token, &family(1)]).code(), Some(400));
    assert_eq!(allocate(&mut world, 4, &[&ReservationToken::new(99)]).code(), Some(508));
    let next = allocate(&mut world, 5, &[&token]).relay();
    assert_eq!(next, SocketAddr::new(relay.ip(), relay.port() + 1));
    assert_eq!(allocate(&mut world, 6, &[&token]).code(), Some(508), "a token is good once");
    assert_eq!(allocate(&mut world, 7, &[&EvenPort::new(false)]).relay().port() % 2, 0);

    // What nobody asks for is free again after half a minute.
    let before = world.net.ports.taken();
    let token = allocate(&mut world, 8, &[&EvenPort::new(true)]).get::<ReservationToken>().unwrap();
    assert_eq!(world.net.ports.taken(), before + 2);
    world.pass(31);
    assert_eq!(world.net.ports.taken(), before + 1);
    assert_eq!(allocate(&mut world, 9, &[&token]).code(), Some(508));
    world.check();
}

/// Bad input: quotas (486) and ports used up (508), with recovery.
#[test]
fn quotas_and_ports_run_out_and_come_back() {
    let mut world = World::with(TurnConfig {
        max_allocations: 4,
        max_per_user: 3,
        max_per_address: 2,
        ports: PortRange { min: 50_000, max: 50_002 },
        ..config()
    });
    let asking = |world: &mut World, address: &str, name: &str, password: &str| {
        Asking::named(world, address, name, password)
    };
    let first = asking(&mut world, "192.0.2.1:1", "ann", "apple");
    first.allocated(&mut world);
    asking(&mut world, "192.0.2.1:2", "bob", "birch").allocated(&mut world);
    let third = asking(&mut world, "192.0.2.1:3", "bob", "birch");
    assert_eq!(third.allocate(&mut world).code(), Some(486), "two from one address");
    asking(&mut world, "192.0.2.2:1", "ann", "apple").allocated(&mut world);
    let other = asking(&mut world, "192.0.2.3:1", "bob", "birch");
    assert_eq!(other.allocate(&mut world).code(), Some(508), "three ports");
    world.check();
    assert_eq!(first.refresh(&mut world, 0).code(), None);
    let back = other.allocated(&mut world);
    assert!((50_000..=50_002).contains(&back.port()));
    third.allocate(&mut world);
    world.check();
    let figures = world.figures();
    assert_eq!((figures.refused_with(486), figures.refused_with(508)), (1, 2));
}

#[test]
fn fresh_credentials_are_no_way_around_the_quota_of_a_user() {
    let mut world = World::with(TurnConfig { max_per_user: 2, ..config() });
    for (port, code) in [(1, None), (2, None), (3, Some(486))] {
        let issued =
            crate::turn::credentials::issue("north", "eve", Duration::from_secs(60 + port), world.wall());
        let eve = Asking::named(&mut world, &format!("192.0.2.{port}:1"), &issued.username, &issued.password);
        assert_eq!(eve.allocate(&mut world).code(), code);
    }
    let live = world.figures().live;
    assert_eq!(live[0].user, live[1].user, "one user, one label");
}

#[test]
fn a_connection_that_ends_takes_its_allocation_along() {
    let mut world = World::new();
    let mut ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.client = Client { route: 77, transport: Transport::Tcp, ..ann.client };
    ann.allocated(&mut world);
    let udp = Asking { client: Client { route: 0, ..ann.client }, ..ann.clone() };
    assert_eq!(udp.refresh(&mut world, 600).code(), Some(437), "another way is another 5-tuple");
    world.engine.on_closed(&mut world.net, &ann.client);
    assert!(world.engine.is_empty() && world.net.open.is_empty());
    world.check();
}

#[test]
fn behind_a_nat_clients_are_told_the_address_outside() {
    let outside = "198.41.0.200";
    let mut world = World::with(TurnConfig { external_address: Some(outside.parse().unwrap()), ..config() });
    let relay = allocate(&mut world, 1, &[]).relay();
    assert_eq!(relay.ip().to_string(), outside);
    assert!(world.net.open.values().all(|inside| inside.port() == relay.port() && inside.ip() != relay.ip()));
    assert!(allocate(&mut world, 2, &[&family(2)]).relay().ip().to_string() == RELAY_V6);
}
