//! Topics with fewer neighbours than wanted: lookups, dials, and the room they get.

use super::*;

fn looked_up(world: &World) -> usize {
    world.actions.iter().filter(|action| matches!(action, Action::LookUp(_))).count()
}

/// A node with `low` peers that are on no topic, connected and in the topic 0.
fn joined(ids: &[PeerId], low: usize, high: usize) -> World {
    let mut world = World::new(ids[0], low, high, &[]);
    for peer in &ids[1..=low] {
        world.reach(*peer);
    }
    world.now += SETTLE.1;
    world.on(Event::Joined(topic(0), Vec::new()));
    world
}

/// Sleeps until there is somebody to dial; lookups meanwhile name `members` again.
fn rest(world: &mut World, members: &[PeerId]) -> Duration {
    let begin = world.now;
    while world.dials().is_empty() {
        if looked_up(world) > 0 {
            world.on(Event::Members(topic(0), members.to_vec()));
        } else {
            world.sleep();
        }
    }
    world.now - begin
}

#[test]
fn members_of_a_topic_are_looked_up_and_dialled_though_there_are_peers_enough() {
    let ids = ids(20);
    let mut world = joined(&ids, 6, 16);
    assert_eq!(looked_up(&world), 1, "at once");
    world.on(Event::Members(topic(0), ids[7..].to_vec()));
    assert!(world.dials().is_empty(), "where they are is not known yet");
    for peer in &ids[7..] {
        world.hear(*peer, 2);
    }
    // One was dialled as soon as it was heard of; more at a time from now on.
    let mut dialled: Vec<PeerId> =
        ids[7..].iter().copied().filter(|peer| world.manager.dialing.contains(peer)).collect();
    assert_eq!(dialled.len(), 1);
    let mut members = 0;
    while let Some(peer) = dialled.pop() {
        dialled.extend(world.reach(peer).dials());
        assert!(world.manager.dialing.len() <= MAX_DIALS);
        members += 1;
        if dialled.is_empty() && members < TOPIC_PEERS {
            let waited = rest(&mut world, &ids[7..]);
            assert!(waited <= MEMBERS_PAUSE, "{waited:?}");
            dialled.extend(world.dials());
        }
    }
    assert_eq!(members, TOPIC_PEERS, "though none of them has said that it is on the topic");
    for peer in ids[7..].iter().filter(|peer| world.manager.stays(**peer)).copied().collect::<Vec<_>>() {
        assert!(world.on(Event::Subscribed(peer, topic(0))).dials().is_empty());
    }
    assert_eq!(world.on(Event::CanSearch).actions, [], "enough is enough");
}

#[test]
fn peers_that_are_dialled_anyway_are_members_first_and_may_turn_out_to_be_enough() {
    let ids = ids(40);
    let mut world = World::new(ids[0], 6, 16, &[]);
    world.on(Event::Joined(topic(0), Vec::new()));
    world.on(Event::Members(topic(0), ids[30..].to_vec()));
    // All are heard of before any may be dialled.
    for peer in &ids[1..] {
        world.manager.heard(*peer, address(2), Source::Hearsay, world.now);
    }
    let mut dialled = world.on(Event::Wake).dials();
    let mut reached = 0;
    while let Some(peer) = dialled.pop() {
        assert!(ids[30..].contains(&peer));
        reached += 1;
        dialled.extend(world.reach(peer).dials());
    }
    assert_eq!(reached, 6);
    world.now += SETTLE.0;
    assert!(world.on(Event::Wake).dials().is_empty(), "none has said yet which topics it is on");
    // A flood of peers that say nothing does not hold up the dials for ever.
    let mut waited = SETTLE.0;
    for peer in ids[1..30].iter().cycle() {
        let events = [
            Event::Members(topic(0), ids[30..].to_vec()),
            Event::Connected(*peer, Direction::Inbound),
            Event::Disconnected(*peer),
        ];
        if events.into_iter().any(|event| !world.on(event).dials().is_empty()) {
            break;
        }
        waited += Duration::from_millis(100);
        world.now += Duration::from_millis(100);
        assert!(waited <= SETTLE.1 + LOOKUP_FIRST, "{waited:?}");
    }
}

#[test]
fn whoever_is_said_to_be_on_a_topic_but_does_not_say_so_is_replaced() {
    let ids = ids(20);
    let mut world = joined(&ids, 6, 16);
    world.on(Event::Members(topic(0), ids[7..14].to_vec()));
    for peer in &ids[7..13] {
        world.dialled_us(*peer);
    }
    assert!(world.hear(ids[13], 2).dials().is_empty(), "six will do");
    for peer in &ids[7..12] {
        world.on(Event::Subscribed(*peer, topic(0)));
    }
    let waited = rest(&mut world, &ids[13..14]);
    assert!(waited <= SUBSCRIBE_GRACE + MEMBERS_PAUSE, "{waited:?}");
    assert_eq!(world.dials(), [ids[13]]);
}

#[test]
fn nobody_is_dialled_for_a_topic_that_was_left_or_that_has_enough_members() {
    let ids = ids(20);
    let mut world = joined(&ids, 6, 16);
    for peer in &ids[1..=6] {
        world.on(Event::Subscribed(*peer, topic(0)));
    }
    world.on(Event::Members(topic(0), ids[7..].to_vec()));
    assert!(world.hear(ids[8], 2).dials().is_empty());
    world.on(Event::Joined(topic(1), Vec::new())).on(Event::Members(topic(1), vec![ids[9]]));
    world.on(Event::Left(topic(1)));
    assert!(world.hear(ids[9], 2).dials().is_empty());
    assert_eq!(world.on(Event::Wake).actions, []);
}

#[test]
fn a_topic_joined_among_neighbours_that_are_on_it_needs_nobody() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 6, 16, &[]);
    for peer in &ids[1..=6] {
        world.reach(*peer);
    }
    world.on(Event::Joined(topic(0), ids[1..=6].to_vec()));
    assert_eq!(world.actions, []);
    world.on(Event::Unsubscribed(ids[1], topic(0)));
    assert!(world.sleep() <= LOOKUP_FIRST.mul_f64(1.25), "but one fewer is too few");
    assert_eq!(looked_up(&world), 1);
}

#[test]
fn a_topic_without_others_is_looked_up_ever_more_rarely() {
    let ids = ids(8);
    let mut world = joined(&ids, 6, 16);
    let begin = world.now;
    let mut lookups = 1;
    while world.now - begin < Duration::from_secs(3_600) {
        world.sleep();
        lookups += looked_up(&world);
    }
    assert!((15..=30).contains(&lookups), "{lookups} in an hour");
    world.dialled_us(ids[7]).on(Event::CanSearch);
    assert!(world.sleep() <= LOOKUP_FIRST, "somebody new to ask");
    assert_eq!(looked_up(&world), 1);
}

#[test]
fn without_anybody_to_ask_there_is_nothing_to_wait_for() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 1, 16, &[]);
    assert_eq!(world.on(Event::Joined(topic(0), Vec::new())).actions, []);
    assert_eq!(looked_up(world.reach(ids[1]).on(Event::CanSearch)), 1);
    world.on(Event::Disconnected(ids[1]));
    assert_eq!(world.actions, []);
}

#[test]
fn a_peer_that_comes_and_goes_does_not_steer_the_lookups() {
    let ids = ids(8);
    let mut world = joined(&ids, 6, 16);
    let mut lookups = 0;
    for _ in 0..6_000 {
        world.now += Duration::from_millis(100);
        for event in [
            Event::Connected(ids[7], Direction::Inbound),
            Event::Subscribed(ids[7], topic(0)),
            Event::CanSearch,
            Event::Disconnected(ids[7]),
        ] {
            lookups += looked_up(world.on(event));
        }
    }
    let allowed = LOOKUPS.burst as usize + Duration::from_secs(600).div_duration_f64(LOOKUPS.every) as usize;
    assert!(lookups <= allowed, "{lookups} lookups in ten minutes");
}

/// Three members of a topic and many others, in a node with few places: the members get theirs and keep them.
#[test]
fn members_take_the_places_of_peers_that_nobody_needs() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 2, 3, &[]);
    world.on(Event::Joined(topic(0), Vec::new()));
    for peer in &ids[1..=3] {
        world.dialled_us(*peer);
    }
    world.on(Event::Members(topic(0), vec![ids[6], ids[7]]));
    world.hear(ids[6], 2).hear(ids[7], 2);
    for peer in [ids[6], ids[7]] {
        world.reach(peer).on(Event::Subscribed(peer, topic(0)));
    }
    world.now += TRIM_GRACE;
    world.on(Event::Wake);
    let closed = world.closed();
    assert_eq!(closed.len(), 2);
    assert!(!closed.contains(&ids[6]) && !closed.contains(&ids[7]));
}

#[test]
fn more_topics_than_places_share_them_and_come_to_rest() {
    const HIGH: usize = 8;
    let ids = ids(41);
    let mut world = World::new(ids[0], 2, HIGH, &[]);
    for index in 0..4 {
        world.on(Event::Joined(topic(index), Vec::new()));
    }
    let topic_of = |peer: PeerId| topic(ids.iter().position(|id| *id == peer).unwrap());
    world.reach(ids[40]).on(Event::CanSearch);
    let mut connected = vec![ids[40]];
    let (mut dials, mut late_dials) = (0, 0);
    // Ten minutes in which every lookup names ten members of each topic, and every dial succeeds.
    let begin = world.now;
    while world.now - begin < Duration::from_secs(600) {
        let mut queue = std::mem::take(&mut world.actions);
        while let Some(action) = queue.pop() {
            match action {
                Action::LookUp(topic) => {
                    let members: Vec<PeerId> =
                        ids[1..40].iter().filter(|peer| topic_of(**peer) == topic).copied().collect();
                    queue.append(&mut world.on(Event::Members(topic, members.clone())).actions);
                    for peer in members {
                        queue.append(&mut world.hear(peer, 2).actions);
                    }
                }
                Action::Dial(peer, _) => {
                    dials += 1;
                    late_dials += u32::from(world.now - begin > Duration::from_secs(300));
                    connected.push(peer);
                    queue.append(&mut world.reach(peer).actions);
                    queue.append(&mut world.on(Event::Subscribed(peer, topic_of(peer))).actions);
                }
                Action::Close(peer) => {
                    connected.retain(|other| *other != peer);
                    queue.append(&mut world.on(Event::Disconnected(peer)).actions);
                }
                Action::Search | Action::WakeAt(_) => {}
            }
            assert!(world.manager.count_peers() <= HIGH + MAX_DIALS);
        }
        world.on(Event::Wake);
        if world.actions.iter().all(|action| matches!(action, Action::WakeAt(_))) {
            world.sleep();
        }
    }
    let members = |index| connected.iter().filter(|peer| topic_of(**peer) == topic(index)).count();
    assert!((0..4).all(|index| members(index) >= 1), "{:?}", (0..4).map(members).collect::<Vec<_>>());
    assert!(connected.len() <= HIGH);
    assert!(dials < 40 && late_dials == 0, "{dials} dials, {late_dials} of them late");
}
