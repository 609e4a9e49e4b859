//! Tests of the hub: each rule by itself, then all of them under random orders of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::signaling::names::Name;

const LIMITS: HubLimits = HubLimits {
    room_peers: 4,
    members: 12,
    register_timeout: Duration::from_secs(10),
    resume_grace: Duration::from_secs(3),
    joins: Rate::per_second(3, 1),
};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

/// A hub with a clock of its own.
struct Bench {
    hub: Hub,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { hub: Hub::new(LIMITS, StdRng::seed_from_u64(1)), now: Instant::now() }
    }

    fn connect(&mut self, client: u64) -> Vec<Action> {
        self.connect_from(client, None)
    }

    fn connect_from(&mut self, client: u64, address: Option<IpAddr>) -> Vec<Action> {
        self.hub.on_event(Event::Connected { client: ClientId(client), address }, self.now)
    }

    fn send(&mut self, client: u64, message: ClientMessage) -> Vec<Action> {
        self.hub.on_event(Event::Message { client: ClientId(client), message }, self.now)
    }

    fn close(&mut self, client: u64, departure: Departure) -> Vec<Action> {
        self.hub.on_event(Event::Closed { client: ClientId(client), departure }, self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.hub.on_event(Event::Tick, self.now)
    }

    /// Connects and registers; returns the resume token.
    fn join(&mut self, client: u64, peer: &str) -> String {
        assert!(self.connect(client).is_empty());
        resume_of(&self.send(client, register(peer, None, None)))
    }
}

fn register(peer: &str, room: Option<&str>, resume: Option<&str>) -> ClientMessage {
    ClientMessage::Register(Register {
        peer_id: id(peer),
        token: None,
        resume: resume.map(str::to_owned),
        room: room.map(id),
        name: Name::default(),
    })
}

fn offer(from: Option<&str>, to: &str) -> ClientMessage {
    ClientMessage::Offer(Description { from: from.map(id), to: id(to), sdp: "v=0".to_owned() })
}

fn report(to: &str, state: ConnectionState) -> ClientMessage {
    ClientMessage::Report(Report {
        to: id(to),
        state,
        connection_type: Some(crate::signaling::wire::ConnectionType::Direct),
        bytes_sent: None,
        bytes_received: None,
        rtt: None,
    })
}

fn resume_of(actions: &[Action]) -> String {
    let registered = actions.iter().find_map(|action| match action {
        Action::Send { message: ServerMessage::Registered(r), .. } => Some(r.resume.clone()),
        _ => None,
    });
    registered.unwrap_or_else(|| panic!("not registered: {actions:?}"))
}

fn error_of(actions: &[Action]) -> ErrorCode {
    match actions {
        [Action::Send { message: ServerMessage::Error(error), .. }] => error.code,
        other => panic!("expected one error: {other:?}"),
    }
}

fn announced(actions: &[Action]) -> Vec<(Vec<u64>, &'static str, String)> {
    let event = |action: &Action| match action {
        Action::Announce { to, message } => {
            let (kind, peer) = match message {
                ServerMessage::PeerJoined(peer) => ("joined", peer),
                ServerMessage::PeerLeft(peer) => ("left", peer),
                other => panic!("announced: {other:?}"),
            };
            Some((to.iter().map(|c| c.0).collect(), kind, peer.peer_id.to_string()))
        }
        _ => None,
    };
    actions.iter().filter_map(event).collect()
}

#[test]
fn a_newcomer_sees_who_is_there_and_they_see_it() {
    let mut bench = Bench::new();
    bench.join(1, "a");
    assert!(bench.connect(2).is_empty());
    let actions = bench.send(2, register("b", None, None));
    let Action::Send { client: ClientId(2), message: ServerMessage::Registered(registered) } = &actions[0]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(registered.peers.iter().map(|p| p.peer_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(announced(&actions), [(vec![1], "joined", "b".to_owned())]);
    assert_eq!(announced(&bench.close(2, Departure::Clean)), [(vec![1], "left", "b".to_owned())]);
}

#[test]
fn messages_go_to_their_target_with_the_registered_sender() {
    let mut bench = Bench::new();
    bench.join(1, "a");
    bench.join(2, "b");
    for from in [None, Some("a")] {
        let [
            Action::Relay {
                from: ClientId(1), to: ClientId(2), message: ServerMessage::Offer(offer), ..
            },
        ] = &bench.send(1, offer(from, "b"))[..]
        else {
            panic!("not relayed")
        };
        assert_eq!(offer.from, Some(id("a")));
    }
    assert_eq!(error_of(&bench.send(1, offer(Some("b"), "b"))), ErrorCode::FromMismatch);
    assert_eq!(error_of(&bench.send(1, offer(None, "nobody"))), ErrorCode::UnknownPeer);
    assert_eq!(error_of(&bench.send(1, offer(None, "a"))), ErrorCode::UnknownPeer);
}

#[test]
fn rooms_do_not_see_each_other() {
    let mut bench = Bench::new();
    bench.join(1, "a");
    assert!(bench.connect(2).is_empty());
    let actions = bench.send(2, register("b", Some("elsewhere"), None));
    assert!(announced(&actions).iter().all(|(to, ..)| to.is_empty()));
    assert_eq!(error_of(&bench.send(2, offer(None, "a"))), ErrorCode::UnknownPeer);
    assert!(bench.connect(3).is_empty());
    resume_of(&bench.send(3, register("a", Some("elsewhere"), None)));
}

#[test]
fn registering_comes_first_and_once() {
    let mut bench = Bench::new();
    assert!(bench.connect(1).is_empty());
    assert_eq!(error_of(&bench.send(1, offer(None, "b"))), ErrorCode::NotRegistered);
    assert_eq!(error_of(&bench.send(1, report("b", ConnectionState::New))), ErrorCode::NotRegistered);
    resume_of(&bench.send(1, register("a", None, None)));
    assert_eq!(error_of(&bench.send(1, register("other", None, None))), ErrorCode::AlreadyRegistered);
}

#[test]
fn one_address_joins_only_so_often_and_a_resume_is_no_join() {
    let mut bench = Bench::new();
    bench.join(1, "watcher");
    let mut tokens = Vec::new();
    for client in 2..=4 {
        assert!(bench.connect_from(client, Some(ADDRESS)).is_empty());
        tokens.push(resume_of(&bench.send(client, register("a", Some("attic"), None))));
        assert!(announced(&bench.close(client, Departure::Clean)).iter().all(|(to, ..)| to.is_empty()));
    }
    assert!(bench.connect_from(5, Some(ADDRESS)).is_empty());
    assert_eq!(error_of(&bench.send(5, register("a", None, None))), ErrorCode::TooManyJoins);
    // Another address joins, and so does this one when a second has passed.
    assert!(bench.connect_from(6, Some(IpAddr::from([192, 0, 2, 2]))).is_empty());
    let token = resume_of(&bench.send(6, register("b", None, None)));
    bench.now += Duration::from_secs(1);
    let actions = bench.send(5, register("a", None, None));
    assert_eq!(announced(&actions), [(vec![6, 1], "joined", "a".to_owned())]);
    // Whoever takes up their place again tells nobody anything, unless the name is a new one.
    assert!(bench.connect_from(7, Some(ADDRESS)).is_empty());
    assert_eq!(resume_of(&bench.send(7, register("b", None, Some(&token)))), token);
    assert!(bench.connect_from(8, Some(ADDRESS)).is_empty());
    let ClientMessage::Register(mut renamed) = register("b", None, Some(&token)) else { unreachable!() };
    renamed.name = Name::parse("B").unwrap();
    let refused = bench.send(8, ClientMessage::Register(renamed));
    assert_eq!(error_of(&refused), ErrorCode::TooManyJoins);
}

#[test]
fn who_never_registers_is_closed_after_the_time_limit_and_not_before() {
    let mut bench = Bench::new();
    assert!(bench.connect(1).is_empty());
    bench.join(2, "b");
    assert!(bench.pass(LIMITS.register_timeout - Duration::from_millis(1)).is_empty());
    let expected = Action::Close { client: ClientId(1), reason: CloseReason::RegisterTimeout };
    assert_eq!(bench.pass(Duration::from_millis(1)), [expected]);
    assert!(bench.send(1, register("late", None, None)).is_empty());
    assert_eq!(bench.hub.next_wake(), None);
}

#[test]
fn an_id_in_use_is_given_up_for_its_token_only() {
    let mut bench = Bench::new();
    let token = bench.join(1, "a");
    bench.join(2, "b");
    assert!(bench.connect(3).is_empty());
    assert_eq!(error_of(&bench.send(3, register("a", None, None))), ErrorCode::IdTaken);
    assert_eq!(error_of(&bench.send(3, register("a", None, Some("guess")))), ErrorCode::IdTaken);
    let actions = bench.send(3, register("a", None, Some(&token)));
    assert_eq!(actions[0], Action::Close { client: ClientId(1), reason: CloseReason::Replaced });
    assert_eq!(resume_of(&actions), token);
    assert!(announced(&actions).is_empty(), "nobody notices");
    assert!(bench.close(1, Departure::Lost).is_empty(), "the old socket's end changes nothing");
    assert!(bench.send(1, offer(None, "b")).is_empty());
    assert!(matches!(bench.send(2, offer(None, "a"))[..], [Action::Relay { to: ClientId(3), .. }]));
}

#[test]
fn a_reload_is_no_event_for_the_others() {
    let mut bench = Bench::new();
    let token = bench.join(1, "a");
    bench.join(2, "b");
    assert!(bench.close(1, Departure::Lost).is_empty());
    assert_eq!(error_of(&bench.send(2, offer(None, "a"))), ErrorCode::UnknownPeer);
    assert!(bench.pass(LIMITS.resume_grace / 2).is_empty());
    assert!(bench.connect(3).is_empty());
    assert!(announced(&bench.send(3, register("a", None, Some(&token)))).is_empty());
    assert!(bench.pass(LIMITS.resume_grace).is_empty(), "the first absence is over");
    assert!(bench.close(3, Departure::Lost).is_empty());
    assert_eq!(announced(&bench.pass(LIMITS.resume_grace)), [(vec![2], "left", "a".to_owned())]);
}

#[test]
fn a_new_name_at_a_resume_is_one_event() {
    let mut bench = Bench::new();
    let token = bench.join(1, "a");
    bench.join(2, "b");
    assert!(bench.connect(3).is_empty());
    let ClientMessage::Register(mut renamed) = register("a", None, Some(&token)) else { unreachable!() };
    renamed.name = Name::parse("Ada").unwrap();
    let actions = bench.send(3, ClientMessage::Register(renamed));
    assert_eq!(announced(&actions), [(vec![2], "joined", "a".to_owned())]);
}

#[test]
fn a_full_room_takes_nobody_but_a_resume() {
    let mut bench = Bench::new();
    let token = bench.join(1, "a");
    for (client, peer) in [(2, "b"), (3, "c"), (4, "d")] {
        bench.join(client, peer);
    }
    assert!(bench.connect(5).is_empty());
    assert_eq!(error_of(&bench.send(5, register("e", None, None))), ErrorCode::RoomFull);
    resume_of(&bench.send(5, register("a", None, Some(&token))));
}

#[test]
fn places_of_the_longest_away_are_given_to_newcomers() {
    let mut bench = Bench::new();
    for n in 0..LIMITS.members as u64 {
        assert!(bench.connect(n).is_empty());
        resume_of(&bench.send(n, register(&format!("p{n}"), Some(&format!("room{}", n / 4)), None)));
        assert!(bench.close(n, Departure::Lost).is_empty());
    }
    assert!(bench.connect(100).is_empty());
    resume_of(&bench.send(100, register("new", None, None)));
    assert_eq!(bench.hub.rooms.len(), LIMITS.members);
    assert!(bench.hub.rooms.get(&id("room0"), &id("p0")).is_none());
    assert!(bench.hub.rooms.get(&id("room0"), &id("p1")).is_some());
}

#[test]
fn reports_are_counted_while_both_are_there() {
    let mut bench = Bench::new();
    bench.join(1, "a");
    bench.join(2, "b");
    assert!(bench.send(1, report("b", ConnectionState::Connected)).is_empty());
    assert!(bench.send(2, report("a", ConnectionState::Connected)).is_empty());
    assert_eq!(bench.hub.webrtc().direct, 1);
    assert_eq!(error_of(&bench.send(1, report("ghost", ConnectionState::Connected))), ErrorCode::UnknownPeer);
    let _ = bench.close(2, Departure::Clean);
    assert_eq!(bench.hub.webrtc(), Counts::default());
}

#[test]
fn clients_that_come_and_go_leave_nothing() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        assert!(bench.connect(n).is_empty());
        assert!(bench.close(n, Departure::Lost).is_empty());
        assert!(bench.hub.registering.len() <= 66);
    }
}

/// One step of a random run. Numbers choose among few clients, peers and rooms, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Connect,
    Register { client: usize, peer: u8, room: u8, resume: Option<usize>, name: u8 },
    Offer { client: usize, from: Option<u8>, to: u8 },
    Report { client: usize, to: u8, connected: Option<()> },
    Close { client: usize, departure: Departure },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let departure = prop_oneof![Just(Departure::Clean), Just(Departure::Lost)];
    prop_oneof![
        3 => Just(Step::Connect),
        5 => (0..6usize, 0..6u8, 0..3u8, proptest::option::of(0..6usize), 0..2u8)
            .prop_map(|(client, peer, room, resume, name)| Step::Register { client, peer, room, resume, name }),
        3 => (0..6usize, proptest::option::of(0..6u8), 0..6u8)
            .prop_map(|(client, from, to)| Step::Offer { client, from, to }),
        2 => (0..6usize, 0..6u8, proptest::option::of(Just(())))
            .prop_map(|(client, to, connected)| Step::Report { client, to, connected }),
        2 => (0..6usize, departure).prop_map(|(client, departure)| Step::Close { client, departure }),
        2 => (0..5_000u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What a well-behaved client believes, from nothing but what it was sent.
#[derive(Debug, Default)]
struct View {
    registered: Option<(Id, Id)>,
    peers: BTreeMap<Id, Name>,
}

/// All clients that are connected, and what each believes.
#[derive(Default)]
struct World {
    views: BTreeMap<ClientId, View>,
    /// Which room a client asked for last.
    asked: BTreeMap<ClientId, Id>,
    tokens: Vec<String>,
    next: u64,
}

impl World {
    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { client, message } => self.deliver(client, message),
                Action::Relay { from, to, peer, message } => {
                    let (_, sender) = self.views[&from].registered.clone().expect("the sender is registered");
                    let (_, receiver) =
                        self.views[&to].registered.clone().expect("the receiver is registered");
                    assert_eq!(receiver, peer);
                    assert_eq!(self.asked[&from], self.asked[&to], "only within a room");
                    let ServerMessage::Offer(offer) = message else { panic!("{message:?}") };
                    assert_eq!((offer.from, offer.to), (Some(sender), receiver));
                }
                Action::Announce { to, message } => {
                    for client in to {
                        self.deliver(client, message.clone());
                    }
                }
                Action::Close { client, .. } => {
                    self.views.remove(&client).expect("only a connected client is closed");
                }
            }
        }
    }

    fn deliver(&mut self, client: ClientId, message: ServerMessage) {
        let room = self.asked.get(&client).cloned();
        let view = self.views.get_mut(&client).expect("only connected clients are sent anything");
        match message {
            ServerMessage::Registered(registered) => {
                assert!(view.registered.is_none());
                view.registered = Some((room.expect("it asked"), registered.peer_id));
                view.peers = registered.peers.into_iter().map(|p| (p.peer_id, p.name)).collect();
                self.tokens.push(registered.resume);
            }
            ServerMessage::PeerJoined(peer) => {
                assert!(view.registered.is_some());
                let before = view.peers.insert(peer.peer_id, peer.name.clone());
                assert_ne!(before, Some(peer.name), "told what it knew");
            }
            ServerMessage::PeerLeft(peer) => {
                assert!(view.registered.is_some());
                assert!(view.peers.remove(&peer.peer_id).is_some(), "left without having been there");
            }
            ServerMessage::Error(_) => {}
            other => panic!("sent {other:?}"),
        }
    }

    fn pick(&self, index: usize) -> ClientId {
        self.views.keys().nth(index).copied().unwrap_or(ClientId(u64::MAX))
    }

    /// What every client believes is what is so.
    fn check(&self, hub: &Hub) {
        assert_eq!(hub.clients.len(), self.views.len());
        for (client, view) in &self.views {
            match (&view.registered, &hub.clients[client]) {
                (None, Seat::Waiting { .. }) => {}
                (Some((room, peer)), Seat::At { room: r, peer: p }) => {
                    assert_eq!((room, peer), (r, p));
                    let others: BTreeMap<_, _> =
                        hub.rooms.others(room, peer).into_iter().map(|p| (p.peer_id, p.name)).collect();
                    assert_eq!(view.peers, others);
                    assert_eq!(hub.rooms.get(room, peer).unwrap().client, Some(*client));
                }
                other => panic!("{client:?}: {other:?}"),
            }
        }
        let seats: BTreeSet<_> = self.views.values().filter_map(|view| view.registered.as_ref()).collect();
        let registered = self.views.values().filter(|view| view.registered.is_some()).count();
        assert_eq!(seats.len(), registered, "one connection per id");
        assert!(hub.rooms.len() <= LIMITS.members.max(registered));
        assert!(hub.registering.len() <= 2 * hub.clients.len() + 65);
        assert!(hub.away.len() <= 2 * hub.rooms.len() + 65);
        let counts = hub.webrtc();
        assert!(counts.direct <= (registered * registered) as u64 + 64);
    }
}

fn run(hub: &mut Hub, world: &mut World, now: &mut Instant, step: Step) {
    let peer = |n: u8| format!("p{n}");
    let (client, message) = match step {
        Step::Connect => {
            if world.views.len() >= 6 {
                return;
            }
            let client = ClientId(world.next);
            world.next += 1;
            world.views.insert(client, View::default());
            return world.apply(hub.on_event(Event::Connected { client, address: None }, *now));
        }
        Step::Close { client, departure } => {
            let client = world.pick(client);
            world.views.remove(&client);
            return world.apply(hub.on_event(Event::Closed { client, departure }, *now));
        }
        Step::Pass { millis } => {
            *now += Duration::from_millis(millis);
            return world.apply(hub.on_event(Event::Tick, *now));
        }
        Step::Register { client, peer: p, room, resume, name } => {
            let client = world.pick(client);
            let room = format!("r{room}");
            let resume = resume.and_then(|back| world.tokens.iter().rev().nth(back)).cloned();
            let ClientMessage::Register(mut message) = register(&peer(p), Some(&room), resume.as_deref())
            else {
                unreachable!()
            };
            message.name = Name::parse(&format!("n{name}")).unwrap();
            if world.views.get(&client).is_some_and(|view| view.registered.is_none()) {
                world.asked.insert(client, id(&room));
            }
            (client, ClientMessage::Register(message))
        }
        Step::Offer { client, from, to } => (world.pick(client), offer(from.map(peer).as_deref(), &peer(to))),
        Step::Report { client, to, connected } => {
            let state = connected.map_or(ConnectionState::Closed, |()| ConnectionState::Connected);
            (world.pick(client), report(&peer(to), state))
        }
    };
    world.apply(hub.on_event(Event::Message { client, message }, *now));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn in_any_order_of_events_everyone_believes_what_is_so(steps in proptest::collection::vec(step(), 1..120)) {
        let mut hub = Hub::new(LIMITS, StdRng::seed_from_u64(7));
        let mut world = World::default();
        let mut now = Instant::now();
        for step in steps {
            run(&mut hub, &mut world, &mut now, step);
            world.check(&hub);
        }
        // Once all are gone and the time is over, nothing is left.
        for client in world.views.keys().copied().collect::<Vec<_>>() {
            world.views.remove(&client);
            world.apply(hub.on_event(Event::Closed { client, departure: Departure::Lost }, now));
        }
        now += LIMITS.register_timeout + LIMITS.resume_grace;
        world.apply(hub.on_event(Event::Tick, now));
        prop_assert_eq!(hub.rooms.len(), 0);
        prop_assert_eq!(hub.webrtc(), Counts::default());
        prop_assert_eq!(hub.next_wake(), None);
    }
}
