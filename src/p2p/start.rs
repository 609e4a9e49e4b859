//! From configuration to a running node: every listener bound, every topic joined, then the runner's task.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{self, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, TransportError, relay};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt};
use opentelemetry::metrics::Meter;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use super::address::{self, AddressError, Listen, Socket, TransportKind};
use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::boxed::Boxed;
use super::command::COMMAND_QUEUE;
use super::config::NodeConfig;
use super::direct::{self, Desk};
use super::event::EVENT_QUEUE;
use super::handle::{Handle, MAX_TOPICS};
use super::identity::Identity;
use super::limits::{MAX_AUTHORS, NodeRole, RateLimiter, author_rate};
use super::metrics::Traffic;
use super::nat;
use super::peers::{Manager, Settings};
use super::relay::{Places, Wish};
use super::runner::{Memory, Parts, Reach, Runner};
use super::topics::{Topic, TopicError};
use super::transport::{self, CertificateError, WebRtcCertificate};
use crate::telemetry::instruments::P2pInstruments;
use crate::tls::TlsError;

/// A listener that has no address by then never will.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no protocol has anything to do is closed after this time. Gossipsub keeps a stream open for good, so
/// this meets only peers that do not speak it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What can be listened on.
const LISTEN_FORMS: &str = "possible are /ip4/ADDRESS or /ip6/ADDRESS with /tcp/PORT, /tcp/PORT/ws, /tcp/PORT/tls/ws, /udp/PORT/quic-v1 or /udp/PORT/webrtc-direct behind it, and /p2p-circuit";

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing to listen on.
    #[error("`listen` is empty: a node needs at least one address, e.g. /ip4/127.0.0.1/tcp/0")]
    NoAddress,
    /// Not an address to listen on.
    #[error("cannot listen on {address}: the address {reason}; {LISTEN_FORMS}")]
    Unsupported {
        /// The address.
        address: Multiaddr,
        /// What is wrong with it.
        reason: AddressError,
    },
    /// Secure WebSocket without a certificate.
    #[error("cannot listen on {0}: secure WebSocket needs a certificate; name its files in `tls`")]
    NoCertificate(Multiaddr),
    /// The certificate for WebRTC cannot be had.
    #[error("cannot listen on WebRTC: {0}")]
    WebRtc(#[from] CertificateError),
    /// A certificate for secure WebSocket, or an authority that is to be trusted, cannot be read.
    #[error("secure WebSocket: {0}")]
    Tls(#[from] TlsError),
    /// The port is taken.
    #[error(
        "cannot listen on {0}: another program uses this port; stop it or choose another port (0: any free one)"
    )]
    InUse(Multiaddr),
    /// The system refuses the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system said.
        source: io::Error,
    },
    /// A bootnode's address does not say who it is.
    #[error("bootnode {0} must end in /p2p/<peer id>, or anybody could answer there")]
    Bootnode(Multiaddr),
    /// An external address that nobody could dial.
    #[error(
        "the external address {address} {reason}, so nobody could dial it; good ones are /ip4/203.0.113.7/tcp/4002 or /dns4/node.example.org/udp/4002/quic-v1"
    )]
    External {
        /// The address.
        address: Multiaddr,
        /// What is wrong with it.
        reason: AddressError,
    },
    /// A topic's name is not valid.
    #[error("topic {name:?} cannot be joined: {source}")]
    Topic {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: TopicError,
    },
    /// Too many topics.
    #[error("{0} topics are configured; a node joins at most {MAX_TOPICS}")]
    TooManyTopics(usize),
    /// The marks contradict each other.
    #[error("`high_peers` ({high}) must not be below `low_peers` ({low}), and not 0")]
    Marks {
        /// `low_peers`.
        low: u32,
        /// `high_peers`.
        high: u32,
    },
    /// A protocol cannot be set up with this key.
    #[error("the node's protocols cannot be set up: {0}")]
    Setup(String),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The way to talk to it; see [`Handle`]. When the last clone is dropped, the node stops.
    pub handle: Handle,
    /// The node's task; ends when the node stops.
    pub task: JoinHandle<()>,
}

/// Starts a node as `identity`; returns once every listener is bound. Runs on any tokio runtime, a current-thread one too.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub async fn start(
    config: NodeConfig,
    identity: Identity,
    role: NodeRole,
    instruments: P2pInstruments,
    meter: &Meter,
) -> Result<Node, StartError> {
    if config.high_peers < config.low_peers.max(1) {
        return Err(StartError::Marks { low: config.low_peers, high: config.high_peers });
    }
    let listens = listens(&config)?;
    let topics = topics(&config.topics)?;
    let relayed = listens.iter().filter(|(_, listen)| *listen == Listen::Relay).map(|(address, _)| address);
    let wish = Wish::of(relayed);
    let mut bootnodes = bootnodes(&config.bootnodes)?;
    for (relay, address) in &wish.named {
        // It is kept connected like a bootnode.
        if !bootnodes.iter().any(|(known, _)| known == relay) {
            bootnodes.push((*relay, vec![address.clone()]));
        }
    }
    check_external(&config.external)?;
    let traffic = Traffic::new(meter, &instruments);
    let refusals = traffic.refusals().clone();
    let local = identity.peer_id();
    let (relay_transport, relay_client) = relay::client::new(local);
    let reach = behaviour::Reach {
        relay_client,
        asks: nat::is_question(listens.iter().map(|(_, listen)| listen)),
        instruments: &instruments,
    };
    let mut behaviour =
        Behaviour::new(identity.keypair(), role, &config, &traffic, reach).map_err(StartError::Setup)?;
    for topic in &topics {
        behaviour.gossip.join(topic).map_err(|error| StartError::Setup(error.to_string()))?;
    }
    let memory = Memory::open(identity.folder(), role);
    behaviour.gossip.blocklist(|blocklist| memory.restore_blocks(blocklist));
    // What only some transports need is not looked at without them.
    let listens_on = |wanted: TransportKind| {
        listens.iter().any(|(_, listen)| matches!(listen, Listen::Socket(_, kind) if *kind == wanted))
    };
    let (webrtc, secure) = (listens_on(TransportKind::WebRtc), listens_on(TransportKind::SecureWebSocket));
    let (transport, pace) = transport::build(transport::Parts {
        keypair: identity.keypair(),
        traffic: traffic.clone(),
        streams: config.limits.streams as usize,
        tls: config.tls.clone().filter(|_| secure),
        trusted: &config.trusted,
        webrtc: if webrtc { Some(WebRtcCertificate::open(identity.folder())?) } else { None },
        relay: relay_transport,
    })
    .map_err(|error| match error.downcast::<TlsError>() {
        Ok(certificate) => StartError::Tls(certificate),
        Err(other) => StartError::Setup(other.to_string()),
    })?;
    let mut swarm = Swarm::new(
        transport,
        Boxed::new(behaviour),
        local,
        swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(config.limits.negotiating_streams as usize),
    );
    let early = listen(&mut swarm, &listens).await?;
    let announces = config.relay.enabled && config.external.is_empty();
    let told: Vec<Multiaddr> =
        if announces { nat::worth_telling(swarm.listeners()) } else { config.external.clone() };
    for address in told {
        swarm.add_external_address(address);
    }
    let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
    let (events, _) = broadcast::channel(EVENT_QUEUE);
    let desk = Desk::new(direct::Parts {
        local,
        config: config.files.clone(),
        folder: identity.folder(),
        commands: commands.downgrade(),
        events: events.downgrade(),
        instruments: instruments.clone(),
        refusals: refusals.clone(),
    });
    desk.resume();
    let (addresses, moved) = watch::channel(Vec::new());
    let handle = Handle::new(local, commands, events.downgrade(), moved, desk.clone());
    let settings = Settings::new(local, role, &config);
    let runner = Runner::new(Parts {
        swarm,
        pace,
        manager: Manager::new(settings, bootnodes, rand::random(), Instant::now()),
        early,
        reach: Reach::new(Places::new(wish, rand::random()), announces),
        commands: receiver,
        events,
        addresses,
        topics,
        instruments,
        refusals,
        traffic,
        desk,
        authors: RateLimiter::new(author_rate(&config), MAX_AUTHORS),
        memory,
        identity,
    });
    Ok(Node { handle, task: tokio::spawn(runner.run()) })
}

fn topics(names: &[String]) -> Result<BTreeSet<Topic>, StartError> {
    let topics = names
        .iter()
        .map(|name| name.parse().map_err(|source| StartError::Topic { name: name.clone(), source }))
        .collect::<Result<BTreeSet<Topic>, _>>()?;
    if topics.len() > MAX_TOPICS { Err(StartError::TooManyTopics(topics.len())) } else { Ok(topics) }
}

/// The bootnodes by peer: several addresses may be of one.
fn bootnodes(addresses: &[Multiaddr]) -> Result<Vec<(PeerId, Vec<Multiaddr>)>, StartError> {
    let mut bootnodes: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for address in addresses {
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            return Err(StartError::Bootnode(address.clone()));
        };
        match bootnodes.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, known)) => known.push(address.clone()),
            None => bootnodes.push((peer, vec![address.clone()])),
        }
    }
    Ok(bootnodes)
}

/// Whether others could dial what they are told.
fn check_external(addresses: &[Multiaddr]) -> Result<(), StartError> {
    for address in addresses {
        let peer = address::parse_dial(address)
            .map_err(|reason| StartError::External { address: address.clone(), reason })?;
        if peer.is_some() {
            return Err(StartError::External { address: address.clone(), reason: AddressError::PeerId });
        }
    }
    Ok(())
}

/// What to listen on, understood.
fn listens(config: &NodeConfig) -> Result<Vec<(Multiaddr, Listen)>, StartError> {
    if config.listen.is_empty() {
        return Err(StartError::NoAddress);
    }
    let understood = |address: &Multiaddr| match address::parse_listen(address) {
        Ok(Listen::Socket(_, TransportKind::SecureWebSocket)) if config.tls.is_none() => {
            Err(StartError::NoCertificate(address.clone()))
        }
        Ok(listen) => Ok((address.clone(), listen)),
        Err(reason) => Err(StartError::Unsupported { address: address.clone(), reason }),
    };
    config.listen.iter().map(understood).collect()
}

/// Listens on every socket; returns once all are bound, with what else happened meanwhile: a peer may be quick.
async fn listen(
    swarm: &mut Swarm<Boxed<Behaviour>>,
    listens: &[(Multiaddr, Listen)],
) -> Result<Vec<SwarmEvent<BehaviourEvent>>, StartError> {
    let mut early = Vec::new();
    let mut waiting: Vec<(ListenerId, Multiaddr)> = Vec::new();
    for (address, listen) in listens {
        let Listen::Socket(socket, kind) = listen else { continue };
        check_free(address, *socket)?;
        let id = swarm.listen_on(address.clone()).map_err(|error| match error {
            TransportError::MultiaddrNotSupported(address) => {
                StartError::Setup(format!("the {kind} transport does not take {address}"))
            }
            TransportError::Other(source) => listen_error(address.clone(), source),
        })?;
        waiting.push((id, address.clone()));
    }
    let bound = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    tracing::info!(%address, "listening");
                    waiting.retain(|(id, _)| *id != listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    if let Some((_, address)) = waiting.iter().find(|(id, _)| *id == listener_id) {
                        let source = reason.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into());
                        return Err(listen_error(address.clone(), source));
                    }
                }
                other => early.push(other),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(LISTEN_TIMEOUT, bound).await {
        Ok(result) => result.map(|()| early),
        Err(_) => {
            let address = waiting.into_iter().next().map_or_else(Multiaddr::empty, |(_, address)| address);
            Err(StartError::Listen { address, source: io::ErrorKind::TimedOut.into() })
        }
    }
}

fn listen_error(address: Multiaddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        StartError::InUse(address)
    } else {
        StartError::Listen { address, source }
    }
}

/// libp2p listens with `SO_REUSEPORT`, with which two nodes of one user can hold the same port and share its connections
/// between them, unnoticed. A socket without that option finds out first.
fn check_free(address: &Multiaddr, socket: Socket) -> Result<(), StartError> {
    let at = socket.address();
    if at.port() == 0 {
        return Ok(());
    }
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match socket {
        Socket::Tcp(_) => SockType::Stream,
        Socket::Udp(_) => SockType::Datagram,
    };
    let bind = || -> nix::Result<()> {
        let probe = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if matches!(socket, Socket::Tcp(_)) {
            // Connections of a node that has just ended do not count, only a listener does.
            setsockopt(&probe, sockopt::ReuseAddr, &true)?;
        }
        if at.is_ipv6() {
            // libp2p keeps the families apart: `/ip6/::` and `/ip4/0.0.0.0` may share a port.
            setsockopt(&probe, sockopt::Ipv6V6Only, &true)?;
        }
        socket::bind(probe.as_raw_fd(), &SockaddrStorage::from(at))
    };
    bind().map_err(|error| listen_error(address.clone(), error.into()))
}
