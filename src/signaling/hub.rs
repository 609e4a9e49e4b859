//! The hub: every decision of the signaling server, without clock, socket or task.
//!
//! Events go in with the time they happen at; actions come out in the order they are to be carried out.
//! The rules: *a client says who it is before anything else, and once; an id is held by one connection; who
//! proves that it held the id takes it over, and nobody else notices; peers meet in their room only; a
//! sender's name is what it registered; the clients of one address join only so often.* Tokens have been checked before.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::joins::Joins;
use super::names::Id;
use super::presence::{Member, Rooms};
use super::reports::Reports;
use super::wire::{
    Candidate, ClientMessage, CloseReason, ConnectionState, DEFAULT_ROOM, Description, ErrorCode, ErrorReply,
    Peer, Pong, Register, Registered, Report, ServerMessage,
};

pub use super::reports::Counts;
use crate::token_bucket::Rate;

/// Numbers the connections of one server; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What the hub bounds.
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// Peers in one room, those away included.
    pub room_peers: usize,
    /// Peers in all rooms together; the longest away make place for new ones.
    pub members: usize,
    /// Time from a connection to its `Register`.
    pub register_timeout: Duration,
    /// How long a place is kept for a peer whose connection broke.
    pub resume_grace: Duration,
    /// How often clients of one address may join, so that others are told.
    pub joins: Rate,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A connection was made.
    Connected {
        /// Its number.
        client: ClientId,
        /// Whom it counts for, see [`places::subject`](crate::control::places::subject); `None` if for nobody.
        address: Option<IpAddr>,
    },
    /// A message came that could be read.
    Message {
        /// From whom.
        client: ClientId,
        /// What it says.
        message: ClientMessage,
    },
    /// The connection is no more.
    Closed {
        /// Whose.
        client: ClientId,
        /// How it ended.
        departure: Departure,
    },
    /// It is [`Hub::next_wake`] or later.
    Tick,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// With close code 1000, or for what the client did: no place is kept.
    Clean,
    /// In any other way; a reload or a change of network may bring it back.
    Lost,
}

/// What is to be done.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Answer a client.
    Send {
        /// Whom.
        client: ClientId,
        /// With what.
        message: ServerMessage,
    },
    /// Pass on what one client sends another. If the receiver's queue is too full, the sender is told so.
    Relay {
        /// Who sent it.
        from: ClientId,
        /// Who gets it.
        to: ClientId,
        /// The receiver's id, for the sender's error.
        peer: Id,
        /// What it gets.
        message: ServerMessage,
    },
    /// Tell several clients the same.
    Announce {
        /// Whom.
        to: Vec<ClientId>,
        /// What.
        message: ServerMessage,
    },
    /// Close a connection. The hub has forgotten it already.
    Close {
        /// Whose.
        client: ClientId,
        /// Why.
        reason: CloseReason,
    },
}

/// The way of a message from one peer to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The receiver's connection.
    pub target: ClientId,
    /// The sender's registered id.
    pub from: Id,
    /// The receiver's.
    pub to: Id,
}

/// Where a connected client is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seat {
    /// It has not said who it is.
    Waiting { address: Option<IpAddr> },
    /// It is this peer in this room.
    At { room: Id, peer: Id },
}

/// The hub; see the module.
#[derive(Debug)]
pub struct Hub {
    limits: HubLimits,
    clients: HashMap<ClientId, Seat>,
    rooms: Rooms,
    reports: Reports,
    joins: Joins,
    /// When who must have registered. All wait equally long, so the order of arrival is that of the deadlines.
    registering: VecDeque<(Instant, ClientId)>,
    /// When whose place is given up: room, peer, number of the absence. In order for the same reason.
    away: VecDeque<(Instant, Id, Id, u64)>,
    absences: u64,
    default_room: Id,
    rng: StdRng,
}

impl Hub {
    /// An empty hub. `rng` makes the resume tokens: seeded by the system, but in a test that repeats itself.
    ///
    /// # Panics
    /// Never: the default room's name is a valid id, as a test shows.
    #[must_use]
    pub fn new(limits: HubLimits, rng: StdRng) -> Self {
        Self {
            limits,
            clients: HashMap::new(),
            rooms: Rooms::default(),
            reports: Reports::default(),
            joins: Joins::new(limits.joins),
            registering: VecDeque::new(),
            away: VecDeque::new(),
            absences: 0,
            default_room: Id::parse(DEFAULT_ROOM).expect("the default room's name is valid"),
            rng,
        }
    }

    /// Advances on `event` at `now`. Events of clients the hub has forgotten change nothing.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Connected { client, address } => {
                self.clients.insert(client, Seat::Waiting { address });
                self.registering.push_back((now + self.limits.register_timeout, client));
                self.drop_stale_deadlines();
            }
            Event::Message { client, message } => self.on_message(client, message, now, &mut actions),
            Event::Closed { client, departure } => {
                if let Some(Seat::At { room, peer }) = self.clients.remove(&client) {
                    self.on_departure(room, peer, departure, now, &mut actions);
                }
            }
            Event::Tick => self.on_tick(now, &mut actions),
        }
        actions
    }

    /// Where a message goes that `client` sends to `to`, saying that it is `from`. `None` if it goes nowhere: then [`Hub::on_event`] says why.
    #[must_use]
    pub fn route(&self, client: ClientId, from: Option<&str>, to: &str) -> Option<Route> {
        let Seat::At { room, peer } = self.clients.get(&client)? else { return None };
        if from.is_some_and(|from| from != peer.as_str()) {
            return None;
        }
        let (to, member) = self.rooms.find(room, to)?;
        let target = member.client.filter(|target| *target != client)?;
        Some(Route { target, from: peer.clone(), to: to.clone() })
    }

    /// When the next [`Event::Tick`] is due; it may turn out to have nothing to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let register = self.registering.front().map(|(at, _)| *at);
        let away = self.away.front().map(|(at, ..)| *at);
        register.into_iter().chain(away).min()
    }

    /// WebRTC connections as the clients report them.
    #[must_use]
    pub fn webrtc(&self) -> Counts {
        self.reports.counts()
    }

    fn on_message(
        &mut self,
        client: ClientId,
        message: ClientMessage,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let (room, peer) = match self.clients.get(&client) {
            None => return,
            Some(Seat::At { room, peer }) => (room, peer),
            Some(Seat::Waiting { address }) => {
                let from = (client, *address);
                return match message {
                    ClientMessage::Register(register) => self.register(from, register, now, actions),
                    _ => actions.push(refuse(client, ErrorCode::NotRegistered, "send Register first", None)),
                };
            }
        };
        actions.push(match message {
            ClientMessage::Register(_) => {
                let message = format!("this connection is registered as {peer}");
                refuse(client, ErrorCode::AlreadyRegistered, message, None)
            }
            ClientMessage::Offer(Description { from, to, sdp }) => {
                self.relay(client, peer, from, to, |from, to| {
                    ServerMessage::Offer(Description { from: Some(from), to, sdp })
                })
            }
            ClientMessage::Answer(Description { from, to, sdp }) => {
                self.relay(client, peer, from, to, |from, to| {
                    ServerMessage::Answer(Description { from: Some(from), to, sdp })
                })
            }
            ClientMessage::IceCandidate(Candidate { from, to, candidate }) => {
                self.relay(client, peer, from, to, |from, to| {
                    ServerMessage::IceCandidate(Candidate { from: Some(from), to, candidate })
                })
            }
            ClientMessage::Report(report) => {
                let (room, peer) = (room.clone(), peer.clone());
                return self.report(client, &room, &peer, report, actions);
            }
            ClientMessage::Ping(_) => Action::Send { client, message: ServerMessage::Pong(Pong {}) },
        });
    }

    fn register(
        &mut self,
        (client, address): (ClientId, Option<IpAddr>),
        register: Register,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Register { peer_id: peer, resume, room, name, token: _ } = register;
        let room = room.unwrap_or_else(|| self.default_room.clone());
        let announce;
        let token;
        if let Some(member) = self.rooms.get_mut(&room, &peer) {
            if !resume.is_some_and(|given| same_secret(&given, &member.resume)) {
                let message = format!("{peer} is in use; choose another id");
                return actions.push(refuse(client, ErrorCode::IdTaken, message, None));
            }
            announce = member.name != name;
            if announce && !may_join(&mut self.joins, address, now) {
                return actions.push(refuse(client, ErrorCode::TooManyJoins, TOO_MANY_JOINS, None));
            }
            token = member.resume.clone();
            member.name = name.clone();
            if let Some(old) = member.client.replace(client) {
                self.clients.remove(&old);
                actions.push(Action::Close { client: old, reason: CloseReason::Replaced });
            }
        } else {
            if self.rooms.size(&room) >= self.limits.room_peers {
                let message = format!("{room} holds {} peers and is full", self.limits.room_peers);
                return actions.push(refuse(client, ErrorCode::RoomFull, message, None));
            }
            if !may_join(&mut self.joins, address, now) {
                return actions.push(refuse(client, ErrorCode::TooManyJoins, TOO_MANY_JOINS, None));
            }
            if self.rooms.len() >= self.limits.members {
                self.end_longest_absence(actions);
            }
            announce = true;
            token = self.fresh_token();
            let member =
                Member { client: Some(client), name: name.clone(), resume: token.clone(), absence: 0 };
            self.rooms.insert(room.clone(), peer.clone(), member);
        }
        self.clients.insert(client, Seat::At { room: room.clone(), peer: peer.clone() });
        let registered = Registered {
            peer_id: peer.clone(),
            resume: token,
            peers: self.rooms.others(&room, &peer),
            ice_servers: Vec::new(),
        };
        actions.push(Action::Send { client, message: ServerMessage::Registered(registered) });
        if announce {
            let to = self.rooms.audience(&room, &peer);
            let message = ServerMessage::PeerJoined(Peer { peer_id: peer, name });
            actions.push(Action::Announce { to, message });
        }
    }

    /// Passes on what `peer` sends to `to`, or says why not.
    fn relay(
        &self,
        client: ClientId,
        peer: &Id,
        from: Option<Id>,
        to: Id,
        message: impl FnOnce(Id, Id) -> ServerMessage,
    ) -> Action {
        if from.as_ref().is_some_and(|from| from != peer) {
            let message = format!("from must be {peer}, the id this connection registered");
            return refuse(client, ErrorCode::FromMismatch, message, Some(to));
        }
        match self.route(client, from.as_ref().map(Id::as_str), to.as_str()) {
            Some(Route { target, from, to: peer }) => {
                Action::Relay { from: client, to: target, message: message(from, to), peer }
            }
            None => {
                let message = format!("{to} is not connected");
                refuse(client, ErrorCode::UnknownPeer, message, Some(to))
            }
        }
    }

    fn report(&mut self, client: ClientId, room: &Id, peer: &Id, report: Report, actions: &mut Vec<Action>) {
        let Report { to, state, connection_type, .. } = report;
        let connected = state == ConnectionState::Connected;
        if connected && connection_type.is_none() {
            let message = "a connected connection has a connection_type";
            return actions.push(refuse(client, ErrorCode::BadMessage, message, Some(to)));
        }
        if self.rooms.get(room, &to).is_none() || to == *peer {
            let message = format!("{to} is not in the room");
            return actions.push(refuse(client, ErrorCode::UnknownPeer, message, Some(to)));
        }
        let kind = connection_type.filter(|_| connected);
        if self.reports.set(room, peer, &to, kind).is_err() {
            let message = "this many connections are not counted for one client";
            actions.push(refuse(client, ErrorCode::TooManyReports, message, Some(to)));
        }
    }

    fn on_departure(
        &mut self,
        room: Id,
        peer: Id,
        departure: Departure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if departure == Departure::Clean || self.limits.resume_grace.is_zero() {
            return self.leave(&room, &peer, actions);
        }
        if let Some(member) = self.rooms.get_mut(&room, &peer) {
            self.absences += 1;
            member.client = None;
            member.absence = self.absences;
            self.away.push_back((now + self.limits.resume_grace, room, peer, self.absences));
            self.drop_stale_deadlines();
        }
    }

    fn leave(&mut self, room: &Id, peer: &Id, actions: &mut Vec<Action>) {
        let Some(member) = self.rooms.remove(room, peer) else { return };
        self.reports.forget(room, peer);
        let to = self.rooms.audience(room, peer);
        let message = ServerMessage::PeerLeft(Peer { peer_id: peer.clone(), name: member.name });
        actions.push(Action::Announce { to, message });
    }

    fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some((_, client)) = take_due(&mut self.registering, |(at, _)| *at <= now) {
            if matches!(self.clients.get(&client), Some(Seat::Waiting { .. })) {
                self.clients.remove(&client);
                actions.push(Action::Close { client, reason: CloseReason::RegisterTimeout });
            }
        }
        while let Some((_, room, peer, absence)) = take_due(&mut self.away, |(at, ..)| *at <= now) {
            if self.is_absent(&room, &peer, absence) {
                self.leave(&room, &peer, actions);
            }
        }
    }

    /// Gives up the place that was kept longest.
    fn end_longest_absence(&mut self, actions: &mut Vec<Action>) {
        while let Some((_, room, peer, absence)) = self.away.pop_front() {
            if self.is_absent(&room, &peer, absence) {
                return self.leave(&room, &peer, actions);
            }
        }
    }

    fn is_absent(&self, room: &Id, peer: &Id, absence: u64) -> bool {
        self.rooms.get(room, peer).is_some_and(|m| m.client.is_none() && m.absence == absence)
    }

    /// Deadlines outlive what they are for. Clients that come and go fast must not pile them up.
    fn drop_stale_deadlines(&mut self) {
        if self.registering.len() > 2 * self.clients.len() + 64 {
            let clients = &self.clients;
            self.registering.retain(|(_, client)| matches!(clients.get(client), Some(Seat::Waiting { .. })));
        }
        if self.away.len() > 2 * self.rooms.len() + 64 {
            let mut away = std::mem::take(&mut self.away);
            away.retain(|(_, room, peer, absence)| self.is_absent(room, peer, *absence));
            self.away = away;
        }
    }

    /// 128 random bits in hexadecimal.
    fn fresh_token(&mut self) -> String {
        format!("{:032x}", self.rng.random::<u128>())
    }
}

const TOO_MANY_JOINS: &str = "too many have joined from this address lately; try again in a moment";

fn may_join(joins: &mut Joins, address: Option<IpAddr>, now: Instant) -> bool {
    address.is_none_or(|address| joins.admit(address, now))
}

fn refuse(client: ClientId, code: ErrorCode, message: impl Into<String>, to: Option<Id>) -> Action {
    let message = ServerMessage::Error(ErrorReply { code, message: message.into(), to });
    Action::Send { client, message }
}

/// The first of `queue`, if it is due.
fn take_due<T>(queue: &mut VecDeque<T>, due: impl Fn(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(due) { queue.pop_front() } else { None }
}

/// Compares in a time that does not tell how much of the guess was right.
fn same_secret(given: &str, held: &str) -> bool {
    given.len() == held.len()
        && given.bytes().zip(held.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
