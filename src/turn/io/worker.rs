//! One thread that relays: it waits for packets, shows them to its engine, and sends what that decides.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc;

use super::batch::{BATCH, Receiver, Sender};
use super::{errors, sockets};
use crate::turn::engine::{Client, Engine, Opened, RelayKey, Sent, Transport, Wanted, Wire};
use crate::turn::figures::{Counters, DropReason};
use crate::turn::ports::{Ports, Reservations};

/// How often the engine is asked to forget what has expired.
const TICK: Duration = Duration::from_secs(1);
/// Sockets that are served between two looks at the clock.
const MAX_EVENTS: usize = 128;
/// Datagrams taken from a relay socket in one turn: a busy peer must not keep the others waiting.
const RELAY_BATCH: usize = 8;
/// ICMP messages taken from a relay socket in one turn.
const MAX_ERRORS: usize = 8;
/// Batches taken from a listening socket in one turn.
const LISTENER_BATCHES: usize = 4;
/// Commands taken in one turn.
const MAX_COMMANDS: usize = 512;
/// Commands of connections that may wait for a worker; then the connections wait, and with them, by TCP, their clients.
const COMMAND_QUEUE: usize = 1_024;
/// Messages that may wait for one connection, besides the limit of bytes.
const CONNECTION_QUEUE: usize = 1_024;
/// Ports tried for one allocation when others than ours are taken by other programs.
const PORT_TRIES: usize = 64;

/// What sockets are called in epoll: relay sockets by their keys, which have 32 bits.
const LISTENERS: u64 = 1 << 32;
const WAKE: u64 = 1 << 33;

/// What connections tell a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// There is a new one.
    Opened(Client, Connection),
    /// A message came.
    Message(Client, Vec<u8>),
    /// It has ended.
    Closed(Client),
}

/// The worker's end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    queue: mpsc::Sender<Vec<u8>>,
    state: Arc<ConnectionState>,
    limit: usize,
}

/// What both ends of a connection know.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// Bytes that wait to be written.
    pub(crate) waiting: AtomicUsize,
    /// Whether its client has an allocation.
    pub(crate) has_allocation: AtomicBool,
}

impl Connection {
    /// A connection of which `limit` bytes may wait, and the end of its queue.
    pub(crate) fn new(limit: usize) -> (Self, mpsc::Receiver<Vec<u8>>, Arc<ConnectionState>) {
        let (queue, messages) = mpsc::channel(CONNECTION_QUEUE);
        let state = Arc::new(ConnectionState::default());
        (Self { queue, state: Arc::clone(&state), limit }, messages, state)
    }

    fn send(&self, parts: [&[u8]; 3]) -> Sent {
        let message = parts.concat();
        let length = message.len();
        // Only this thread adds, so the limit is kept.
        if self.state.waiting.load(Ordering::Relaxed) + length > self.limit {
            return Sent::QueueFull;
        }
        self.state.waiting.fetch_add(length, Ordering::Relaxed);
        match self.queue.try_send(message) {
            Ok(()) => Sent::Yes,
            Err(error) => {
                self.state.waiting.fetch_sub(length, Ordering::Relaxed);
                match error {
                    mpsc::error::TrySendError::Full(_) => Sent::QueueFull,
                    mpsc::error::TrySendError::Closed(_) => Sent::No,
                }
            }
        }
    }
}

/// How others reach a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct Signal {
    wake: EventFd,
    is_awake: AtomicBool,
    stop: AtomicBool,
}

impl Signal {
    fn ring(&self) {
        if !self.is_awake.swap(true, Ordering::AcqRel) {
            // Only a counter at its end could refuse that, and then the worker is awake.
            let _ = self.wake.write(1);
        }
    }
}

impl WorkerHandle {
    /// Hands a command over, waiting while too many wait; `false` when the worker has ended.
    pub(crate) async fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).await.is_ok();
        self.signal.ring();
        sent
    }

    /// Makes the worker end after what it is doing now.
    pub(crate) fn stop(&self) {
        self.signal.stop.store(true, Ordering::Release);
        self.signal.ring();
    }
}

/// What all workers share, besides what their engines do.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) ports: Ports,
    pub(crate) reservations: Reservations<UdpSocket>,
    /// Where relay sockets are opened.
    pub(crate) relay_addresses: Vec<IpAddr>,
}

/// A worker that is ready to run on a thread of its own.
pub(crate) struct Worker {
    engine: Engine,
    epoll: Epoll,
    listeners: Vec<UdpSocket>,
    resources: Arc<Resources>,
    counters: Arc<Counters>,
    commands: mpsc::Receiver<Command>,
    signal: Arc<Signal>,
}

/// One that runs; it has buffers that do not leave their thread.
struct Running {
    engine: Engine,
    net: Net,
    receiver: Receiver,
    commands: mpsc::Receiver<Command>,
    signal: Arc<Signal>,
}

/// The sockets, as the engine sees them.
struct Net {
    epoll: Epoll,
    listeners: Vec<Listener>,
    relays: Vec<Option<UdpSocket>>,
    connections: HashMap<u64, (Connection, Client)>,
    resources: Arc<Resources>,
    counters: Arc<Counters>,
    now: Instant,
}

struct Listener {
    socket: UdpSocket,
    local: SocketAddr,
    sender: Sender,
}

impl Worker {
    /// A worker that serves datagrams on `listeners`, with the handle for connections.
    pub(crate) fn new(
        engine: Engine,
        listeners: Vec<UdpSocket>,
        resources: Arc<Resources>,
        counters: Arc<Counters>,
    ) -> std::io::Result<(Self, WorkerHandle)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        for (index, socket) in listeners.iter().enumerate() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, LISTENERS | index as u64))?;
        }
        let (commands_in, commands) = mpsc::channel(COMMAND_QUEUE);
        let signal =
            Arc::new(Signal { wake, is_awake: AtomicBool::new(false), stop: AtomicBool::new(false) });
        let handle = WorkerHandle { commands: commands_in, signal: Arc::clone(&signal) };
        Ok((Self { engine, epoll, listeners, resources, counters, commands, signal }, handle))
    }

    /// Relays until it is told to stop.
    ///
    /// # Errors
    /// When the sockets cannot be asked for their addresses.
    pub(crate) fn run(self) -> std::io::Result<()> {
        let listeners = self.listeners.into_iter().map(Listener::new).collect::<std::io::Result<_>>()?;
        let net = Net {
            epoll: self.epoll,
            listeners,
            relays: Vec::new(),
            connections: HashMap::new(),
            resources: self.resources,
            counters: self.counters,
            now: Instant::now(),
        };
        let (engine, commands, signal) = (self.engine, self.commands, self.signal);
        Running { engine, net, receiver: Receiver::new(), commands, signal }.run();
        Ok(())
    }
}

impl Listener {
    fn new(socket: UdpSocket) -> std::io::Result<Self> {
        let local = socket.local_addr()?;
        Ok(Self { socket, local, sender: Sender::new(local.is_ipv6()) })
    }
}

impl Running {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let mut ticked = Instant::now();
        while !self.signal.stop.load(Ordering::Acquire) {
            let count = self.net.epoll.wait(&mut events, self.patience(ticked)).unwrap_or(0);
            self.net.now = Instant::now();
            if self.net.now.duration_since(ticked) >= TICK {
                ticked = self.net.now;
                self.tick();
            }
            for event in &events[..count] {
                match event.data() {
                    WAKE => self.obey(),
                    data if data & LISTENERS != 0 => self.serve((data & !LISTENERS) as usize),
                    data => {
                        let key = RelayKey(data as u32);
                        if event.events().contains(EpollFlags::EPOLLERR) {
                            self.hear(key);
                        }
                        self.relay(key);
                    }
                }
            }
            self.net.flush();
        }
        self.engine.close(&mut self.net);
    }

    /// How long to wait for the next packet: until the next tick, or for ever where nothing can expire.
    fn patience(&self, ticked: Instant) -> EpollTimeout {
        if self.engine.is_idle() && self.net.resources.reservations.is_empty() {
            return EpollTimeout::NONE;
        }
        let left = TICK.saturating_sub(ticked.elapsed());
        EpollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(1_000).saturating_add(1))
    }

    /// Comes before the packets of a turn, so that after a long silence credentials are judged by the time of day that is.
    fn tick(&mut self) {
        let now = self.net.now;
        self.engine.on_tick(&mut self.net, now, SystemTime::now());
        for reserved in self.net.resources.reservations.expired(now) {
            drop(reserved.socket);
            self.net.resources.ports.release(reserved.address);
        }
        for (connection, client) in self.net.connections.values() {
            let has = self.engine.has_allocation(client);
            connection.state.has_allocation.store(has, Ordering::Relaxed);
        }
        self.net.flush();
    }

    /// Takes datagrams of clients.
    fn serve(&mut self, index: usize) {
        for _ in 0..LISTENER_BATCHES {
            let listener = &self.net.listeners[index];
            let local = listener.local;
            let count = self.receiver.receive::<BATCH>(&listener.socket, local.is_ipv6());
            for (address, packet) in self.receiver.datagrams() {
                let client =
                    Client { route: index as u64, address, local: local.ip(), transport: Transport::Udp };
                let now = self.net.now;
                self.engine.on_packet(&mut self.net, &client, packet, now);
            }
            if count < BATCH {
                return;
            }
        }
    }

    /// Takes datagrams of peers.
    fn relay(&mut self, key: RelayKey) {
        // It may have been closed by a packet before this one in the same turn.
        let Some(Some(socket)) = self.net.relays.get(key.0 as usize) else { return };
        self.receiver.receive::<RELAY_BATCH>(socket, key.0 & 1 == 1);
        for (from, packet) in self.receiver.datagrams() {
            let now = self.net.now;
            self.engine.on_relay_packet(&mut self.net, key, from, packet, now);
        }
    }

    /// Takes what the network answers to packets for peers.
    fn hear(&mut self, key: RelayKey) {
        let Some(Some(socket)) = self.net.relays.get(key.0 as usize) else { return };
        let mut told = Vec::with_capacity(MAX_ERRORS);
        errors::take(socket, MAX_ERRORS, |unreachable| told.push(unreachable));
        for unreachable in told {
            let now = self.net.now;
            self.engine.on_unreachable(&mut self.net, key, unreachable, now);
        }
    }

    /// Takes what connections have to say.
    fn obey(&mut self) {
        let _ = self.signal.wake.read();
        // From here on who has something to say rings again. A swap, not a store: who has rung in vain must be heard below.
        self.signal.is_awake.swap(false, Ordering::AcqRel);
        for _ in 0..MAX_COMMANDS {
            let Ok(command) = self.commands.try_recv() else { return };
            match command {
                Command::Opened(client, connection) => {
                    self.net.connections.insert(client.route, (connection, client));
                }
                Command::Message(client, message) => {
                    let now = self.net.now;
                    self.engine.on_packet(&mut self.net, &client, &message, now);
                    if let Some((connection, _)) = self.net.connections.get(&client.route) {
                        let has = self.engine.has_allocation(&client);
                        connection.state.has_allocation.store(has, Ordering::Relaxed);
                    }
                }
                Command::Closed(client) => {
                    self.engine.on_closed(&mut self.net, &client);
                    self.net.connections.remove(&client.route);
                }
            }
        }
        self.signal.ring();
    }
}

impl Net {
    fn flush(&mut self) {
        for listener in &mut self.listeners {
            flush(listener, &self.counters);
        }
    }

    /// Has epoll tell of a relay socket.
    fn watch(&mut self, key: RelayKey, socket: UdpSocket) -> bool {
        let index = key.0 as usize;
        if self.relays.len() <= index {
            self.relays.resize_with(index + 1, || None);
        }
        let watched = self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(key.0))).is_ok();
        if watched {
            self.relays[index] = Some(socket);
        }
        watched
    }

    /// The address to open a relay socket on: the one that the client has used, or else the first of the family.
    fn relay_address(&self, wanted: &Wanted) -> Option<IpAddr> {
        let mut fitting = self.resources.relay_addresses.iter().filter(|of| of.is_ipv6() == wanted.is_v6);
        let first = fitting.clone().next();
        fitting.find(|of| **of == wanted.near).or(first).copied()
    }
}

fn flush(listener: &mut Listener, counters: &Counters) {
    for _ in 0..listener.sender.send(&listener.socket) {
        counters.drop_one(DropReason::NotSent);
    }
}

impl Wire for Net {
    fn to_client(&mut self, client: &Client, parts: [&[u8]; 3]) -> Sent {
        if client.transport != Transport::Udp {
            let connection = self.connections.get(&client.route);
            return connection.map_or(Sent::No, |(connection, _)| connection.send(parts));
        }
        let Some(listener) = self.listeners.get_mut(client.route as usize) else { return Sent::No };
        if parts.iter().map(|part| part.len()).sum::<usize>() > 65_507 {
            return Sent::TooLarge;
        }
        if !listener.sender.add(client.address, parts) {
            return Sent::No;
        }
        if listener.sender.is_full() {
            flush(listener, &self.counters);
        }
        Sent::Yes
    }

    fn to_peer(&mut self, relay: RelayKey, peer: SocketAddr, payload: &[u8]) -> Sent {
        let Some(Some(socket)) = self.relays.get(relay.0 as usize) else { return Sent::No };
        // What the network answered to an earlier packet, to whomever, is told once where the next would be sent.
        match socket.send_to(payload, peer).or_else(|_| socket.send_to(payload, peer)) {
            Ok(_) => Sent::Yes,
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => Sent::TooLarge,
            Err(_) => Sent::No,
        }
    }

    fn open(&mut self, wanted: Wanted) -> Option<Opened> {
        let resources = Arc::clone(&self.resources);
        if wanted.reserve && !resources.reservations.has_place() {
            return None;
        }
        let relay = self.relay_address(&wanted)?;
        let start = rand::random();
        let mut refused = Vec::new();
        let mut opened = None;
        // Ports that other programs hold stay claimed until one is found that they do not.
        while opened.is_none() && refused.len() < PORT_TRIES {
            let Some(port) = resources.ports.claim(relay, start, wanted.even, wanted.reserve) else { break };
            let claimed = std::iter::once(port).chain(wanted.reserve.then(|| port + 1));
            let claimed: Vec<_> = claimed.map(|port| SocketAddr::new(relay, port)).collect();
            let sockets: std::io::Result<Vec<_>> = claimed.iter().map(|at| sockets::relay(*at)).collect();
            match sockets {
                Ok(sockets) => opened = Some((claimed, sockets)),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => refused.extend(claimed),
                Err(error) => {
                    tracing::debug!(%error, %relay, "no relay socket can be opened");
                    refused.extend(claimed);
                    break;
                }
            }
        }
        refused.into_iter().for_each(|address| resources.ports.release(address));
        let (claimed, sockets) = opened?;
        let mut sockets = sockets.into_iter();
        let address = claimed[0];
        if !self.watch(wanted.key, sockets.next()?) {
            claimed.into_iter().for_each(|address| resources.ports.release(address));
            return None;
        }
        let token = sockets.next().map(|socket| {
            let token = rand::random();
            resources.reservations.keep(token, socket, claimed[1], self.now);
            token
        });
        Some(Opened { address, token })
    }

    fn open_reserved(&mut self, keys: [RelayKey; 2], token: u64) -> Option<SocketAddr> {
        let reserved = self.resources.reservations.take(token, self.now)?;
        let key = keys[usize::from(reserved.address.is_ipv6())];
        if self.watch(key, reserved.socket) {
            Some(reserved.address)
        } else {
            self.resources.ports.release(reserved.address);
            None
        }
    }

    fn close(&mut self, relay: RelayKey) {
        let Some(socket) = self.relays.get_mut(relay.0 as usize).and_then(Option::take) else { return };
        let address = socket.local_addr();
        // Closing takes it out of epoll; the port is free only then.
        drop(socket);
        if let Ok(address) = address {
            self.resources.ports.release(address);
        }
    }

    fn is_own_relay(&self, address: SocketAddr) -> bool {
        self.resources.ports.is_taken(address)
    }
}
