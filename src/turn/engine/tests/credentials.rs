//! Who may ask for something.

use std::time::Duration;

use stun_types::attribute::{Nonce, PasswordAlgorithms, Realm, Username};
use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec};
use turn_types::attribute::RequestedTransport;
use turn_types::message::ALLOCATE;

use super::world::*;
use crate::turn::credentials::issue;
use crate::turn::integrity::{Integrity, PasswordAlgorithm};

impl Asking {
    /// Asks with the old nonce, and keeps that of the answer.
    pub(super) fn renew_by_438(&mut self, world: &mut World) {
        let answer = self.refresh(world, 600);
        assert_eq!(answer.code(), Some(438));
        self.nonce = answer.get::<Nonce>().unwrap().nonce().to_owned();
    }
}

#[test]
fn without_credentials_a_client_is_told_what_it_needs() {
    let mut world = World::new();
    let request = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let answer = world.ask(&client("192.0.2.1:4000"), &request);
    assert_eq!(answer.code(), Some(401));
    assert_eq!(answer.get::<Realm>().unwrap().realm(), "test.example");
    assert!(answer.get::<Nonce>().unwrap().nonce().starts_with("obMatJos2gAAA"));
    assert_eq!(answer.get::<PasswordAlgorithms>().unwrap().algorithms().len(), 2);
    assert_eq!(world.figures().auth_failures, 0, "that is how everybody begins");
}

#[test]
fn every_pair_of_algorithms_is_understood_and_answered_in_kind() {
    let mut world = World::new();
    let mut port = 4_000;
    for integrity in [Integrity::Sha1, Integrity::Sha256] {
        for algorithm in [None, Some(PasswordAlgorithm::Md5), Some(PasswordAlgorithm::Sha256)] {
            port += 1;
            let mut ann = Asking::ann(&mut world, &format!("192.0.2.1:{port}"));
            (ann.integrity, ann.algorithm) = (integrity, algorithm);
            let answer = ann.allocate(&mut world);
            assert_eq!(answer.code(), None, "{integrity:?} {algorithm:?}");
            let (found, offset) = crate::turn::integrity::find(&answer.message()).unwrap();
            assert_eq!(found, integrity);
            assert!(ann.key().protects(&answer.message(), offset));
        }
    }
}

#[test]
fn a_lower_algorithm_than_was_offered_is_not_slipped_in() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let with = |chosen: &[u8], repeated: &[u8]| {
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        raw(&mut request, 0x001d, chosen);
        raw(&mut request, 0x8002, repeated);
        ann.sign(request, &[&RequestedTransport::new(17)])
    };
    for (chosen, repeated) in [
        (&[0, 1, 0, 0][..], &[0, 1, 0, 0][..]),
        (&[0, 2, 0, 0], &[0, 1, 0, 0, 0, 2, 0, 0]),
        (&[0, 3, 0, 0], &[0, 2, 0, 0, 0, 1, 0, 0]),
        (&[0, 1, 0, 0], &[]),
    ] {
        let answer = world.ask(&ann.client, &with(chosen, repeated));
        assert_eq!(answer.code(), Some(400), "{chosen:?} {repeated:?}");
    }
}

#[test]
fn answers_to_known_users_are_protected_and_carry_a_fingerprint_if_the_request_did() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let mut request = ann.request(ALLOCATE, &[&RequestedTransport::new(6)]);
    crate::turn::integrity::add_fingerprint(&mut request);
    let answer = world.ask(&ann.client, &request);
    assert_eq!(answer.code(), Some(442));
    // The codec checks the fingerprint when it reads the message.
    assert!(answer.message().has_attribute(stun_types::attribute::AttributeType::new(0x8028)));
    let (_, offset) = crate::turn::integrity::find(&answer.message()).unwrap();
    assert!(ann.key().protects(&answer.message(), offset));
    request[30] ^= 1;
    assert!(world.packet(&ann.client, &request).is_empty(), "a wrong fingerprint is no STUN message");
}

#[test]
fn wrong_names_and_passwords_are_refused() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    for (name, password) in
        [("ann", "birch"), ("ann", ""), ("Ann", "apple"), ("", "apple"), ("cid", "apple"), ("bob", "apple")]
    {
        let wrong = Asking { name: name.to_owned(), password: password.to_owned(), ..ann.clone() };
        let answer = wrong.allocate(&mut world);
        assert_eq!(answer.code(), Some(401), "{name} {password}");
        assert!(answer.get::<Nonce>().is_some());
    }
    let mut request = ann.request(ALLOCATE, &[&RequestedTransport::new(17)]);
    let length = request.len();
    request[length - 1] ^= 1;
    assert_eq!(world.ask(&ann.client, &request).code(), Some(401));
    assert_eq!(world.figures().auth_failures, 7);
    assert!(world.engine.is_empty());
}

#[test]
fn a_request_with_half_of_its_credentials_is_bad() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    for missing in 0..3 {
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        if missing != 0 {
            request.add_attribute(&Username::new("ann").unwrap()).unwrap();
        }
        if missing != 1 {
            request.add_attribute(&Realm::new("test.example").unwrap()).unwrap();
        }
        if missing != 2 {
            request.add_attribute(&Nonce::new(&ann.nonce).unwrap()).unwrap();
        }
        let mut request = request.finish();
        ann.key().protect(&mut request);
        assert_eq!(world.ask(&ann.client, &request).code(), Some(400), "{missing}");
    }
}

/// Bad input: an old or forged nonce (438), for which nothing is kept.
#[test]
fn old_and_forged_nonces_are_answered_with_a_new_one() {
    let mut world = World::new();
    let mut ann = Asking::ann(&mut world, "192.0.2.1:4000");
    let good = ann.nonce.clone();
    for forged in
        ["", "x", "obMatJos2gAAA", &good[..good.len() - 1], &format!("{good}A"), &good.replace('A', "B")]
    {
        ann.nonce = forged.to_owned();
        let answer = ann.allocate(&mut world);
        assert_eq!(answer.code(), Some(438), "{forged}");
        ann.nonce = answer.get::<Nonce>().unwrap().nonce().to_owned();
    }
    ann.nonce = good;
    ann.allocated(&mut world);
    world.pass(601);
    ann.renew_by_438(&mut world);
    assert_eq!(world.figures().refused_with(438), 7);
    assert!(world.engine.is_empty());
    world.pass(41);
    assert!(world.engine.is_idle(), "nothing is remembered of them");
}

/// Bad input: an expired user name.
#[test]
fn time_limited_credentials_end_and_an_allocation_goes_on() {
    let mut world = World::new();
    let issued = issue("north", "eve", Duration::from_secs(30), world.wall());
    let eve = Asking::named(&mut world, "192.0.2.1:4000", &issued.username, &issued.password);
    eve.allocated(&mut world);
    let mut late = Asking::named(&mut world, "192.0.2.1:4001", &issued.username, &issued.password);
    world.pass(31);
    assert_eq!(late.allocate(&mut world).code(), Some(401));
    assert_eq!(eve.refresh(&mut world, 600).code(), None, "what was made in time goes on");
    assert_eq!(eve.permit(&mut world, &[PEER]).code(), None);
    // And only that: not for another name on the same way.
    late.client = eve.client;
    late.nonce = eve.nonce.clone();
    late.name = format!("{}:mallory", START + 10);
    late.password = crate::turn::credentials::password_of("north", &late.name);
    assert_eq!(late.refresh(&mut world, 600).code(), Some(401));
    let wrong = issue("south", "eve", Duration::from_secs(300), world.wall());
    let wrong = Asking::named(&mut world, "192.0.2.1:4002", &wrong.username, &wrong.password);
    assert_eq!(wrong.allocate(&mut world).code(), Some(401));
}

/// Bad input: another user's credentials on a 5-tuple (441).
#[test]
fn another_user_cannot_touch_an_allocation() {
    let mut world = World::new();
    let ann = Asking::ann(&mut world, "192.0.2.1:4000");
    ann.allocated(&mut world);
    let bob = Asking { name: "bob".to_owned(), password: "birch".to_owned(), ..ann.clone() };
    assert_eq!(bob.refresh(&mut world, 0).code(), Some(441));
    assert_eq!(bob.permit(&mut world, &[PEER]).code(), Some(441));
    assert_eq!(bob.bind(&mut world, 0x4000, PEER).code(), Some(441));
    assert_eq!(bob.allocate(&mut world).code(), Some(437));
    assert_eq!(world.engine.len(), 1);
    assert_eq!(world.figures().refused_with(441), 3);
}

#[test]
fn without_a_secret_time_limited_names_are_unknown() {
    let mut world = World::with(crate::turn::TurnConfig { secret: None, ..config() });
    let issued = issue("", "eve", Duration::from_secs(30), world.wall());
    let eve = Asking::named(&mut world, "192.0.2.1:4000", &issued.username, &issued.password);
    assert_eq!(eve.allocate(&mut world).code(), Some(401));
}
