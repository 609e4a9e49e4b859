//! Who is closed above the upper mark, and who never is.

use super::*;

#[test]
fn too_many_peers_are_trimmed_but_not_young_wanted_or_boot_nodes() {
    let ids = ids(8);
    let mut world = World::new(ids[0], 1, 2, &ids[1..2]);
    world.on(Event::Wanted(ids[2]));
    for peer in &ids[1..] {
        world.dialled_us(*peer);
    }
    assert!(world.closed().is_empty(), "all are young");
    assert_eq!(world.sleep(), TRIM_GRACE);
    let closed = world.closed();
    assert_eq!(closed.len(), 4, "two stay, and the bootnode");
    assert!(!closed.contains(&ids[1]) && !closed.contains(&ids[2]));
    assert_eq!(world.on(Event::Wake).actions, [], "nobody is closed twice");
}

#[test]
fn a_flood_of_strangers_does_not_push_out_the_peers_we_chose() {
    let ids = ids(60);
    let mut world = World::new(ids[0], 6, 16, &[]);
    let (chosen, strangers) = ids[1..].split_at(8);
    for peer in chosen {
        world.reach(*peer);
    }
    for peer in strangers {
        world.dialled_us(*peer);
    }
    world.sleep();
    let closed = world.closed();
    assert_eq!(closed.len(), 8 + strangers.len() - 16);
    assert!(!closed.iter().any(|peer| chosen.contains(peer)), "strangers go first");
}

#[test]
fn of_our_own_dials_the_low_mark_stays() {
    let ids = ids(30);
    let mut world = World::new(ids[0], 6, 8, &[]);
    for peer in &ids[1..] {
        world.reach(*peer);
    }
    world.sleep();
    assert_eq!(world.closed().len(), 29 - 8, "outbound ones go when there are no others");
    let mut world = World::new(ids[0], 6, 8, &[]);
    for (index, peer) in ids[1..].iter().enumerate() {
        if index < 6 {
            world.reach(*peer)
        } else {
            world.dialled_us(*peer)
        };
    }
    // The user wants all who dialled us: nobody can be closed but the six.
    for peer in &ids[7..] {
        world.on(Event::Wanted(*peer));
    }
    world.now += TRIM_GRACE;
    assert!(world.on(Event::Wake).closed().is_empty());
}

#[test]
fn the_connection_that_stays_of_two_decides_who_dialled() {
    let ids = ids(4);
    let mut world = World::new(ids[0], 1, 2, &[]);
    for peer in &ids[1..] {
        world.dialled_us(*peer);
    }
    // The first was dialled by both sides, and ours stayed.
    world.reach(ids[1]);
    world.now += TRIM_GRACE;
    let closed = world.on(Event::Wake).closed();
    assert!(closed.len() == 1 && closed[0] != ids[1], "{closed:?}");
}

proptest! {
    /// Whatever the topics and marks: trimming leaves `high` and the bootnodes, and with room for all members of a topic, all of them.
    #[test]
    fn trimming_keeps_what_topics_need(
        low in 0..8_usize,
        room in 0..12_usize,
        peers in proptest::collection::vec((any::<bool>(), 0..16_u8), 1..60),
    ) {
        let high = (low + room).max(1);
        let ids = ids(peers.len() + 1);
        let mut world = World::new(ids[0], low, high, &[]);
        for index in 0..4 {
            world.on(Event::Joined(topic(index), Vec::new()));
        }
        let mut members = [0; 4];
        let mut outbound = 0;
        for ((dialled, topics), peer) in peers.iter().zip(&ids[1..]) {
            if *dialled { world.reach(*peer) } else { world.dialled_us(*peer) };
            outbound += usize::from(*dialled);
            for (index, members) in members.iter_mut().enumerate() {
                if topics & (1 << index) != 0 {
                    world.on(Event::Subscribed(*peer, topic(index)));
                    *members += 1;
                }
            }
        }
        world.now += TRIM_GRACE;
        let closed = world.on(Event::Wake).closed();
        prop_assert_eq!(closed.len(), peers.len().saturating_sub(high));
        let mut left = [0; 4];
        for ((dialled, topics), peer) in peers.iter().zip(&ids[1..]) {
            if closed.contains(peer) {
                outbound -= usize::from(*dialled);
            } else {
                (0..4).for_each(|index| left[index] += usize::from(topics & (1 << index) != 0));
            }
        }
        let dialled = peers.iter().filter(|(dialled, _)| *dialled).count();
        prop_assert!(outbound >= low.min(dialled));
        // With room for six members of each of the four topics beside the outbound ones, no topic loses any it needs.
        if high >= low + 4 * TOPIC_PEERS {
            for index in 0..4 {
                prop_assert!(left[index] >= members[index].min(TOPIC_PEERS));
            }
        } else {
            // Otherwise all are cut alike: none goes without while another has more than two above it.
            let scarcest = (0..4).filter(|index| members[*index] > left[*index]).map(|index| left[index]).min();
            prop_assert!(scarcest.is_none_or(|scarcest| scarcest * 4 + 4 + low >= high.min(4 * TOPIC_PEERS) || scarcest > 0 || high <= low + 4));
        }
    }
}
