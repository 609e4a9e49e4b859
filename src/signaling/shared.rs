//! What all sessions of a server share: the hub behind a lock, and the queue of each client.
//!
//! A decision takes microseconds and waits for nothing, so a lock serves it with less delay than a task of its own
//! would. What it decides is put into the queues before the lock is given back: every client hears of events in
//! the order in which they happened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use opentelemetry::KeyValue;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::config::SignalingConfig;
use super::hub::{Action, ClientId, Counts, Event, Hub, HubLimits, Route};
use super::names::Id;
use super::refusal;
use super::relayed::Relayed;
use super::secrets::Secrets;
use super::wire::{ClientMessage, CloseReason, ErrorCode, ErrorReply, ServerMessage};
use crate::telemetry::catalogue;
use crate::telemetry::instruments::SignalingInstruments;
use crate::token_bucket::Rate;
use crate::turn::ice;

/// What waits to be written to one client.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Utf8Bytes),
    Close(CloseReason),
}

/// The sessions' end of a client's queue.
#[derive(Debug)]
struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    cut: Arc<Cut>,
    /// The name that the client has reached us by.
    host: Option<String>,
}

/// Tells a session that its client is cut off. Whenever it does, there is also something in the queue, or the queue is closed.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is: AtomicBool,
    told: Notify,
}

impl Cut {
    fn off(&self) {
        self.is.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Whether it is so.
    pub(super) fn is_off(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }

    /// Waits until it is; for one who waits.
    pub(super) async fn wait(&self) {
        while !self.is_off() {
            self.told.notified().await;
        }
    }
}

/// The writer's end of a client's queue.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) client: ClientId,
    pub(super) queue: mpsc::Receiver<Outgoing>,
    /// Told once the queue has overflowed.
    pub(super) cut: Arc<Cut>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// Says that a text taken from the queue needs no more room.
    pub(super) fn taken(&self, text: &Utf8Bytes) {
        self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SignalingConfig,
    /// Who has signed the tokens; `None`: everybody may register.
    secrets: Option<Arc<Secrets>>,
    pub(super) instruments: SignalingInstruments,
    /// Ends what a session waits for, once a shutdown has taken too long.
    pub(super) kill: CancellationToken,
    state: Mutex<State>,
    /// Told when the hub's next deadline has moved forward.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    hub: Hub,
    outboxes: HashMap<ClientId, Outbox>,
    active: u64,
    next_client: u64,
    draining: Option<CloseReason>,
    counted: Counts,
}

/// How full a queue may be for one more.
#[derive(Debug, Clone, Copy)]
enum Share {
    /// Half: what other clients send must not crowd out what the server has to say.
    Half,
    Whole,
}

impl Shared {
    pub(super) fn new(
        config: SignalingConfig,
        secrets: Option<Arc<Secrets>>,
        instruments: SignalingInstruments,
        kill: CancellationToken,
    ) -> Arc<Self> {
        let max_clients = config.max_clients as usize;
        let limits = HubLimits {
            room_peers: config.max_room_peers as usize,
            members: max_clients.saturating_mul(2),
            register_timeout: config.register_timeout,
            resume_grace: config.resume_grace,
            joins: Rate::per_second(config.join_burst, config.joins_per_second),
        };
        let state = State {
            hub: Hub::new(limits, rand::make_rng()),
            outboxes: HashMap::new(),
            active: 0,
            next_client: 0,
            draining: None,
            counted: Counts::default(),
        };
        record_webrtc(&instruments, Counts::default());
        catalogue::WS_REFUSED.start_at_zero(&instruments.refused, refusal::all());
        instruments.active_connections.record(0, &[]);
        Arc::new(Self { config, secrets, instruments, kill, state: Mutex::new(state), sooner: Notify::new() })
    }

    /// Takes in a new connection, which counts for `address`.
    pub(super) fn connect(&self, address: Option<IpAddr>) -> Inbox {
        let (sender, queue) = mpsc::channel(self.config.queue_messages.max(2) as usize);
        let (bytes, cut): (Arc<AtomicUsize>, Arc<Cut>) = Default::default();
        let outbox = Outbox { queue: sender, bytes: Arc::clone(&bytes), cut: Arc::clone(&cut), host: None };
        let mut state = self.lock();
        let client = ClientId(state.next_client);
        state.next_client += 1;
        state.active += 1;
        self.instruments.active_connections.record(state.active, &[]);
        self.instruments.total_connections.add(1, &[]);
        if let Some(reason) = state.draining {
            // The queue is new and has room.
            let _ = outbox.queue.try_send(Outgoing::Close(reason));
        }
        state.outboxes.insert(client, outbox);
        self.decide(&mut state, Event::Connected { client, address });
        Inbox { client, queue, cut, bytes }
    }

    /// Remembers the name that a client has reached us by: TURN servers of this machine are told to it by the same.
    pub(super) fn came_by(&self, client: ClientId, host: Option<String>) {
        if let Some(outbox) = self.lock().outboxes.get_mut(&client) {
            outbox.host = host;
        }
    }

    /// The other end of [`Shared::connect`]: the connection's task is about to end.
    pub(super) fn disconnect(&self, event: Event, client: ClientId) {
        let mut state = self.lock();
        state.outboxes.remove(&client);
        state.active -= 1;
        self.instruments.active_connections.record(state.active, &[]);
        self.decide(&mut state, event);
    }

    /// Passes a text on as it is, if it is for another client, or says why it is not passed on. `false`: somebody has to read it.
    pub(super) fn pass_on(&self, client: ClientId, text: &str) -> bool {
        let Some(relayed) = Relayed::read(text) else { return false };
        let mut state = self.lock();
        if let Some(Route { target, from, to }) = state.hub.route(client, relayed.from, relayed.to) {
            self.relay(&mut state, (client, target), to, relayed.encode(&from).into());
            return true;
        }
        // It goes nowhere, so what is in it does not matter any more. The hub says the same, as nothing happens in between.
        let Some(message) = relayed.without_body() else { return false };
        self.decide(&mut state, Event::Message { client, message });
        true
    }

    /// Takes a message in, if it needs no token or has a good one.
    pub(super) fn receive(&self, client: ClientId, message: ClientMessage) {
        if let (Some(secrets), ClientMessage::Register(register)) = (&self.secrets, &message)
            && let Err(error) = secrets.check(register)
        {
            return self.refuse(client, error.reply());
        }
        self.apply(Event::Message { client, message });
    }

    /// Lets the hub decide and carries out what it says.
    pub(super) fn apply(&self, event: Event) {
        self.decide(&mut self.lock(), event);
    }

    /// Tells a client that what it sent was refused.
    pub(super) fn refuse(&self, client: ClientId, error: ErrorReply) {
        self.send(&mut self.lock(), client, &ServerMessage::Error(error));
    }

    /// Counts something refused that has no [`ErrorCode`].
    pub(super) fn count_refused(&self, reason: &'static str) {
        self.instruments.refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// Closes every connection, and from now on every new one, with `reason`.
    pub(super) fn close_all(&self, reason: CloseReason) {
        let mut state = self.lock();
        state.draining = Some(reason);
        for outbox in state.outboxes.values() {
            if outbox.queue.try_send(Outgoing::Close(reason)).is_err() {
                outbox.cut.off();
            }
        }
    }

    /// Wakes the hub whenever it asks to be, until `stop`.
    pub(super) async fn keep_time(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let wake = self.lock().hub.next_wake();
            let due = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.sooner.notified() => {}
                () = due => self.apply(Event::Tick),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, state: &mut State, event: Event) {
        let before = state.hub.next_wake();
        let actions = state.hub.on_event(event, Instant::now());
        for action in actions {
            self.perform(state, action);
        }
        let after = state.hub.next_wake();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
        let counts = state.hub.webrtc();
        if counts != state.counted {
            state.counted = counts;
            record_webrtc(&self.instruments, counts);
        }
    }

    fn perform(&self, state: &mut State, action: Action) {
        match action {
            Action::Send { client, mut message } => {
                if let ServerMessage::Registered(registered) = &mut message {
                    registered.ice_servers = self.ice_servers(state, client);
                }
                self.send(state, client, &message);
            }
            Action::Announce { to, message } => {
                let Some(text) = encode(&message) else { return };
                for client in to {
                    self.push(state, client, text.clone());
                }
            }
            Action::Relay { from, to, peer, message } => {
                let Some(text) = encode(&message) else { return };
                self.relay(state, (from, to), peer, text);
            }
            Action::Close { client, reason } => {
                if let Some(outbox) = state.outboxes.remove(&client)
                    && outbox.queue.try_send(Outgoing::Close(reason)).is_err()
                {
                    outbox.cut.off();
                }
            }
        }
    }

    /// The ICE servers for one client, with credentials of its own. The hub knows neither secrets nor clocks.
    fn ice_servers(&self, state: &State, client: ClientId) -> Vec<serde_json::Value> {
        let host = state.outboxes.get(&client).and_then(|outbox| outbox.host.as_deref());
        let told = ice::for_client(&self.config.ice, host, SystemTime::now());
        // Texts alone, which are always JSON.
        told.ice_servers.iter().filter_map(|server| serde_json::to_value(server).ok()).collect()
    }

    /// Queues what one client sends another, `peer`, or tells the sender that there is no room.
    fn relay(&self, state: &mut State, (from, to): (ClientId, ClientId), peer: Id, text: Utf8Bytes) {
        let taken = state.outboxes.get(&to).is_some_and(|outbox| {
            let fits = self.fits(outbox, &text, Share::Half);
            if fits {
                outbox.bytes.fetch_add(text.len(), Ordering::Relaxed);
            }
            // Half of its slots are free.
            fits && outbox.queue.try_send(Outgoing::Text(text)).is_ok()
        });
        if !taken {
            let message = format!("{peer} does not read fast enough; try again later");
            let error = ErrorReply { code: ErrorCode::PeerBusy, message, to: Some(peer) };
            self.send(state, from, &ServerMessage::Error(error));
        }
    }

    fn send(&self, state: &mut State, client: ClientId, message: &ServerMessage) {
        if let ServerMessage::Error(error) = message {
            self.count_refused(error.code.as_str());
        }
        if let Some(text) = encode(message) {
            self.push(state, client, text);
        }
    }

    /// Puts `text` into a client's queue; a client whose queue is full is cut off.
    fn push(&self, state: &mut State, client: ClientId, text: Utf8Bytes) {
        let Some(outbox) = state.outboxes.get(&client) else { return };
        let length = text.len();
        let fits = self.fits(outbox, &text, Share::Whole);
        outbox.bytes.fetch_add(length, Ordering::Relaxed);
        if !fits || outbox.queue.try_send(Outgoing::Text(text)).is_err() {
            outbox.cut.off();
            state.outboxes.remove(&client);
        }
    }

    fn fits(&self, outbox: &Outbox, text: &Utf8Bytes, share: Share) -> bool {
        let (bytes, slots) = match share {
            Share::Half => (self.config.queue_bytes / 2, outbox.queue.max_capacity() / 2),
            Share::Whole => (self.config.queue_bytes, 0),
        };
        let waiting = outbox.bytes.load(Ordering::Relaxed);
        // One message into an empty queue always fits, or a limit below its size would cut everyone off.
        (waiting == 0 || waiting + text.len() <= bytes as usize) && outbox.queue.capacity() > slots
    }
}

fn encode(message: &ServerMessage) -> Option<Utf8Bytes> {
    // Most of a message that is passed on, with the escapes of its line breaks; the rest fits beside it.
    let body = match message {
        ServerMessage::Offer(d) | ServerMessage::Answer(d) => d.sdp.len() + d.sdp.len() / 16,
        ServerMessage::IceCandidate(c) => c.candidate.len() * 5 / 4,
        ServerMessage::Registered(registered) => registered.peers.len() * 64,
        _ => 0,
    };
    let mut text = Vec::with_capacity(256 + body);
    match serde_json::to_writer(&mut text, message) {
        Ok(()) => Utf8Bytes::try_from(Bytes::from(text)).ok(),
        Err(error) => {
            tracing::error!(%error, "a message could not be encoded");
            None
        }
    }
}

fn record_webrtc(instruments: &SignalingInstruments, counts: Counts) {
    for (kind, count) in [("direct", counts.direct), ("stun", counts.stun), ("turn", counts.turn)] {
        instruments.webrtc_connections.record(count, &[KeyValue::new("type", kind)]);
    }
}
