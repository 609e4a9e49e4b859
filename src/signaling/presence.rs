//! Who is in which room. Data only; when someone enters or leaves is the hub's decision.

use std::collections::{BTreeMap, HashMap};

use super::hub::ClientId;
use super::names::{Id, Name};
use super::wire::Peer;

/// One peer in one room.
#[derive(Debug)]
pub(super) struct Member {
    /// Its connection; `None` while it is away and its place is kept.
    pub(super) client: Option<ClientId>,
    pub(super) name: Name,
    /// Proves that a new connection is the same peer's.
    pub(super) resume: String,
    /// Numbers the absences, so that an old one's end does not end a newer one.
    pub(super) absence: u64,
}

/// All rooms that have someone in them.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: HashMap<Id, BTreeMap<Id, Member>>,
    members: usize,
}

impl Rooms {
    /// Members of all rooms together, those away included.
    pub(super) fn len(&self) -> usize {
        self.members
    }

    /// Members of one room, those away included.
    pub(super) fn size(&self, room: &Id) -> usize {
        self.rooms.get(room).map_or(0, BTreeMap::len)
    }

    pub(super) fn get(&self, room: &Id, peer: &Id) -> Option<&Member> {
        self.rooms.get(room)?.get(peer)
    }

    /// A member and its id, by what somebody calls it.
    pub(super) fn find(&self, room: &Id, peer: &str) -> Option<(&Id, &Member)> {
        self.rooms.get(room)?.get_key_value(peer)
    }

    pub(super) fn get_mut(&mut self, room: &Id, peer: &Id) -> Option<&mut Member> {
        self.rooms.get_mut(room)?.get_mut(peer)
    }

    pub(super) fn insert(&mut self, room: Id, peer: Id, member: Member) {
        if self.rooms.entry(room).or_default().insert(peer, member).is_none() {
            self.members += 1;
        }
    }

    /// Takes `peer` out; the last one out takes the room with it.
    pub(super) fn remove(&mut self, room: &Id, peer: &Id) -> Option<Member> {
        let members = self.rooms.get_mut(room)?;
        let member = members.remove(peer)?;
        if members.is_empty() {
            self.rooms.remove(room);
        }
        self.members -= 1;
        Some(member)
    }

    /// Everyone in `room` but `peer`, as they are shown to it.
    pub(super) fn others(&self, room: &Id, peer: &Id) -> Vec<Peer> {
        self.members_but(room, peer)
            .map(|(id, member)| Peer { peer_id: id.clone(), name: member.name.clone() })
            .collect()
    }

    /// The connections of everyone in `room` but `peer`.
    pub(super) fn audience(&self, room: &Id, peer: &Id) -> Vec<ClientId> {
        self.members_but(room, peer).filter_map(|(_, member)| member.client).collect()
    }

    fn members_but<'a>(&'a self, room: &Id, peer: &'a Id) -> impl Iterator<Item = (&'a Id, &'a Member)> {
        self.rooms.get(room).into_iter().flatten().filter(move |(id, _)| *id != peer)
    }
}
