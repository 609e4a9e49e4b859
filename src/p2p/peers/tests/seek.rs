//! Candidates and searches: whose word counts, what failures mean, and that nobody steers the searches.

use super::*;

fn dialled(world: &World) -> Vec<Vec<Multiaddr>> {
    let addresses = |action: &Action| if let Action::Dial(_, at) = action { Some(at.clone()) } else { None };
    world.actions.iter().filter_map(addresses).collect()
}

#[test]
fn bootnodes_are_not_counted_towards_low() {
    let ids = ids(10);
    let bootnodes = &ids[1..7];
    let mut world = World::new(ids[0], 2, 16, bootnodes);
    for peer in bootnodes {
        world.reach(*peer);
    }
    world.hear(ids[7], 2).hear(ids[8], 2);
    world.reach(ids[7]);
    assert!(world.on(Event::CanSearch).searched(), "six bootnodes and one peer are one peer");
    world.reach(ids[8]);
    assert!(world.hear(ids[9], 2).dials().is_empty(), "two are enough");
}

#[test]
fn a_peer_that_comes_back_on_another_port_is_dialled_there() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.on(Event::Heard(ids[1], address(2), Source::Itself)).reach(ids[1]).on(Event::Disconnected(ids[1]));
    // It dials us from where it is now, and goes again.
    world.dialled_us(ids[1]).on(Event::Heard(ids[1], address(3), Source::Itself));
    world.on(Event::Disconnected(ids[1])).sleep();
    assert_eq!(dialled(&world), [address(3)]);
}

#[test]
fn hearsay_never_replaces_what_a_peer_says_of_itself() {
    let ids = ids(2);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.on(Event::Heard(ids[1], address(2), Source::Itself)).reach(ids[1]);
    world.hear(ids[1], 3).on(Event::Disconnected(ids[1])).sleep();
    assert_eq!(dialled(&world), [address(2)]);
    world.on(Event::DialFailed(ids[1])).sleep();
    assert_eq!(dialled(&world), [address(3)], "but is tried when that has failed");
    world.on(Event::DialFailed(ids[1])).sleep();
    assert_eq!(dialled(&world), [address(2)]);
}

#[test]
fn a_dial_that_this_node_did_not_make_is_held_against_nobody() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 5, 16, &ids[2..]);
    world.hear(ids[1], 2).on(Event::DialPutOff(ids[2]));
    for _ in 0..20 {
        world.on(Event::DialPutOff(ids[1]));
        assert_eq!(world.dials(), [], "not again at once");
        while world.dials() != [ids[1]] {
            assert!(world.sleep() <= 2 * PUT_OFF);
            if world.dials() == [ids[2]] {
                world.on(Event::DialPutOff(ids[2]));
            }
        }
    }
    world.on(Event::DialFailed(ids[2]));
    assert!(world.wake().unwrap() - world.now <= BOOTNODE_BACKOFF, "the pauses of a bootnode have not grown");
}

#[test]
fn hearsay_of_a_dead_peer_does_not_keep_it_alive() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.reach(ids[2]).on(Event::Heard(ids[1], address(2), Source::Itself));
    let (mut dials, mut last) = (1, Duration::ZERO);
    world.on(Event::DialFailed(ids[1]));
    let begin = world.now;
    // Others tell of it all the time, each time of another place.
    for round in 0..2_000 {
        world.now += Duration::from_millis(100);
        world.hear(ids[1], 100 + round);
        if world.manager.candidates.len() == 0 || world.dials().is_empty() {
            continue;
        }
        dials += 1;
        last = world.now - begin;
        world.on(Event::DialFailed(ids[1]));
    }
    assert!(dials <= 5, "{dials} dials in 200 s");
    assert!(last < Duration::from_secs(100), "the pauses grow: {last:?}");
}

#[test]
fn failures_while_nobody_could_be_reached_are_forgiven() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 5, 16, &[]);
    world.on(Event::Heard(ids[1], address(2), Source::Itself));
    for _ in 0..4 {
        world.on(Event::DialFailed(ids[1])).sleep();
    }
    world.on(Event::DialFailed(ids[1]));
    assert!(world.dials().is_empty(), "a long pause");
    assert_eq!(world.dialled_us(ids[2]).dials(), [ids[1]], "the network is back");
}

#[test]
fn a_peer_that_comes_and_goes_does_not_steer_the_searches() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 6, 16, &[]);
    world.reach(ids[1]).on(Event::CanSearch);
    let mut searches = 0;
    for _ in 0..600 {
        world.now += Duration::from_millis(100);
        for event in
            [Event::Connected(ids[2], Direction::Inbound), Event::CanSearch, Event::Disconnected(ids[2])]
        {
            searches += u32::from(world.on(event).searched());
        }
    }
    let allowed = SEARCHES.burst + Duration::from_secs(60).div_duration_f64(SEARCHES.every) as u32;
    assert!(searches <= allowed, "{searches} searches in a minute");
}

#[test]
fn a_node_that_no_neighbour_takes_into_its_mesh_dials_others_a_few_at_most() {
    let ids = ids(20);
    let mut world = World::new(ids[0], 2, 16, &[]);
    for (port, peer) in (2..).zip(&ids[1..]) {
        world.hear(*peer, port);
    }
    for peer in &ids[1..3] {
        world.reach(*peer);
    }
    let mut left: HashSet<PeerId> = world.manager.dialing.clone();
    left.drain().for_each(|peer| {
        world.on(Event::DialFailed(peer));
    });
    let mut dialled = Vec::new();
    for _ in 0..LEFT_OUT_EXTRA + 3 {
        let more = world.on(Event::LeftOut(true)).dials();
        assert!(more.len() <= 1, "one at a time: {more:?}");
        assert!(world.on(Event::LeftOut(true)).dials().is_empty(), "the last one is still being dialled");
        for peer in more {
            world.reach(peer);
            dialled.push(peer);
        }
    }
    assert_eq!(dialled.len(), LEFT_OUT_EXTRA);
    world.on(Event::LeftOut(false)).on(Event::Disconnected(dialled[0]));
    assert!(world.dials().is_empty(), "with a mesh, `low` is enough again");
}

#[test]
fn a_bootnode_that_is_left_out_still_dials_nobody() {
    let ids = ids(3);
    let mut world = World::new(ids[0], 0, 16, &[]);
    world.dialled_us(ids[1]).hear(ids[2], 2);
    assert!(world.on(Event::LeftOut(true)).dials().is_empty());
}
