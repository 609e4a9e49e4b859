//! What a multiaddr says: by which transport a peer is reached, directly or through a relay, and which forms a node can listen on or dial.

pub(crate) mod choice;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// What carries the bytes of a connection. For a relayed one: what carries them to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportKind {
    /// TCP with noise and yamux.
    Tcp,
    /// QUIC, which has encryption and streams of its own.
    Quic,
    /// WebSocket with noise and yamux.
    WebSocket,
    /// The same inside TLS.
    SecureWebSocket,
    /// WebRTC's data channels, without signaling: the certificate's hash stands in the address.
    WebRtc,
}

impl TransportKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Quic, Self::WebSocket, Self::SecureWebSocket, Self::WebRtc];

    /// The kind as a label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::WebRtc => "webrtc",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a connection runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// What carries it.
    pub transport: TransportKind,
    /// Whether a relay passes its bytes on.
    pub relayed: bool,
}

impl Route {
    /// The route that `address` describes, whichever way it is used; `None` for transports that this node does not have.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        let relayed = address.iter().any(|part| part == Protocol::P2pCircuit);
        let mut transport = None;
        let mut tls = false;
        for part in address {
            transport = match part {
                Protocol::P2pCircuit => break,
                Protocol::Tcp(_) => Some(TransportKind::Tcp),
                Protocol::QuicV1 => Some(TransportKind::Quic),
                Protocol::WebRTCDirect => Some(TransportKind::WebRtc),
                Protocol::Ws(_) if tls => Some(TransportKind::SecureWebSocket),
                Protocol::Ws(_) => Some(TransportKind::WebSocket),
                Protocol::Wss(_) => Some(TransportKind::SecureWebSocket),
                Protocol::Tls => {
                    tls = true;
                    transport
                }
                _ => transport,
            };
        }
        transport.map(|transport| Self { transport, relayed })
    }

    /// `direct` or `relayed`, as a label of a metric.
    #[must_use]
    pub fn path(self) -> &'static str {
        if self.relayed { "relayed" } else { "direct" }
    }
}

/// A socket of the system: TCP and UDP have ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// For TCP and WebSocket.
    Tcp(SocketAddr),
    /// For QUIC and WebRTC.
    Udp(SocketAddr),
}

impl Socket {
    /// Its address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address,
        }
    }
}

/// A multiaddr to listen on, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// A socket of this host.
    Socket(Socket, TransportKind),
    /// A place at a relay: peers reach this node through it. Without a relay in the address any connected one will do.
    Relay,
}

/// What is wrong with a multiaddr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Does not begin with an IP address.
    #[error("does not begin with an IP address")]
    NoIp,
    /// Does not begin with an IP address or a name.
    #[error("does not begin with an IP address or a DNS name")]
    NoHost,
    /// No transport, or one that this node does not have.
    #[error("is of no transport that a node has")]
    NoTransport,
    /// A peer id where none belongs.
    #[error("has a peer id, which does not belong there")]
    PeerId,
    /// Does not say who is there.
    #[error("does not end in /p2p/PEER_ID")]
    NoPeerId,
    /// Port 0 to dial.
    #[error("has port 0, which nobody can dial")]
    PortZero,
    /// Something behind what should be the end.
    #[error("goes on after its end")]
    Trailing,
    /// A WebRTC address to dial without the hash of the certificate.
    #[error("lacks the certificate's hash: …/webrtc-direct/certhash/HASH")]
    NoCertificateHash,
}

/// Understands an address to listen on: `/ip4/…` or `/ip6/…` with `/tcp/PORT`, `/tcp/PORT/ws`, `/tcp/PORT/tls/ws`,
/// `/udp/PORT/quic-v1` or `/udp/PORT/webrtc-direct`; `/p2p-circuit`; or a relay's full address with `/p2p-circuit` behind it.
///
/// # Errors
/// What keeps a node from listening there.
pub fn parse_listen(address: &Multiaddr) -> Result<Listen, AddressError> {
    let mut parts = address.iter().peekable();
    if parts.peek() == Some(&Protocol::P2pCircuit) {
        parts.next();
        return if parts.next().is_none() { Ok(Listen::Relay) } else { Err(AddressError::Trailing) };
    }
    if let Some(relay) = strip_circuit(address) {
        return parse_dial(&relay).and_then(|peer| peer.map(|_| Listen::Relay).ok_or(AddressError::NoPeerId));
    }
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Err(AddressError::NoIp),
    };
    let (socket, kind) = match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), after) => {
            let kind = match after {
                None => TransportKind::Tcp,
                Some(Protocol::P2p(_)) => return Err(AddressError::PeerId),
                Some(Protocol::Ws(_)) => TransportKind::WebSocket,
                Some(Protocol::Wss(_)) => TransportKind::SecureWebSocket,
                Some(Protocol::Tls) if matches!(parts.next(), Some(Protocol::Ws(_))) => {
                    TransportKind::SecureWebSocket
                }
                Some(_) => return Err(AddressError::NoTransport),
            };
            (Socket::Tcp(SocketAddr::new(ip, port)), kind)
        }
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => {
            (Socket::Udp(SocketAddr::new(ip, port)), TransportKind::Quic)
        }
        (Some(Protocol::Udp(port)), Some(Protocol::WebRTCDirect)) => {
            (Socket::Udp(SocketAddr::new(ip, port)), TransportKind::WebRtc)
        }
        _ => return Err(AddressError::NoTransport),
    };
    match parts.next() {
        None => Ok(Listen::Socket(socket, kind)),
        Some(Protocol::P2p(_)) => Err(AddressError::PeerId),
        Some(_) => Err(AddressError::Trailing),
    }
}

/// Understands an address to dial: those of [`parse_listen`], also with a DNS name in the place of the IP address, WebRTC with its
/// `/certhash/…`, each with or without `/p2p/PEER_ID`; or a relay's with `/p2p-circuit/p2p/PEER_ID` behind it. Returns who should be there.
///
/// # Errors
/// What keeps a node from dialling it.
pub fn parse_dial(address: &Multiaddr) -> Result<Option<PeerId>, AddressError> {
    let mut parts = address.iter();
    let mut circuit = false;
    match parts.next() {
        Some(Protocol::Dnsaddr(_)) => {
            // A list of addresses, to be found in DNS: each may have any transport.
            return match (parts.next(), parts.next()) {
                (None, _) => Ok(None),
                (Some(Protocol::P2p(peer)), None) => Ok(Some(peer)),
                _ => Err(AddressError::Trailing),
            };
        }
        Some(
            Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_),
        ) => {}
        _ => return Err(AddressError::NoHost),
    }
    let port = match parts.next() {
        Some(Protocol::Tcp(port) | Protocol::Udp(port)) => port,
        _ => return Err(AddressError::NoTransport),
    };
    if port == 0 {
        return Err(AddressError::PortZero);
    }
    let Some(route) = Route::of(address) else { return Err(AddressError::NoTransport) };
    let mut peer = None;
    let mut certificate = false;
    for part in parts {
        match part {
            Protocol::Ws(_)
            | Protocol::Wss(_)
            | Protocol::Tls
            | Protocol::QuicV1
            | Protocol::WebRTCDirect
                if peer.is_none() && !circuit => {}
            Protocol::Certhash(_) if peer.is_none() && !circuit => certificate = true,
            Protocol::P2p(id) if peer.is_none() => peer = Some(id),
            Protocol::P2pCircuit if peer.is_some() && !circuit => {
                circuit = true;
                peer = None;
            }
            _ => return Err(AddressError::Trailing),
        }
    }
    if circuit && peer.is_none() {
        return Err(AddressError::NoPeerId);
    }
    if route.transport == TransportKind::WebRtc && !certificate {
        return Err(AddressError::NoCertificateHash);
    }
    Ok(peer)
}

/// The relay's address, when `address` is one with `/p2p-circuit` at its end.
fn strip_circuit(address: &Multiaddr) -> Option<Multiaddr> {
    let mut relay = address.clone();
    (relay.pop() == Some(Protocol::P2pCircuit)).then_some(relay)
}

/// `address` with `port` as its first port, TCP or UDP.
#[must_use]
pub fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    let mut done = false;
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(_) if !std::mem::replace(&mut done, true) => Protocol::Tcp(port),
            Protocol::Udp(_) if !std::mem::replace(&mut done, true) => Protocol::Udp(port),
            other => other,
        })
        .collect()
}

/// `address` without the peer id at its end.
#[must_use]
pub fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// The address's IP, if it begins with one.
#[must_use]
pub fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const HASH: &str = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";

    fn address(text: &str) -> Multiaddr {
        text.replace("PEER", PEER).replace("HASH", HASH).parse().unwrap()
    }

    #[test]
    fn listen_addresses_of_every_transport_are_understood() {
        let tcp = |port| Socket::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let udp = |port| Socket::Udp(SocketAddr::from(([127, 0, 0, 1], port)));
        for (text, expected) in [
            ("/ip4/127.0.0.1/tcp/5", Listen::Socket(tcp(5), TransportKind::Tcp)),
            ("/ip4/127.0.0.1/tcp/5/ws", Listen::Socket(tcp(5), TransportKind::WebSocket)),
            ("/ip4/127.0.0.1/tcp/5/tls/ws", Listen::Socket(tcp(5), TransportKind::SecureWebSocket)),
            ("/ip4/127.0.0.1/tcp/5/wss", Listen::Socket(tcp(5), TransportKind::SecureWebSocket)),
            ("/ip4/127.0.0.1/udp/0/quic-v1", Listen::Socket(udp(0), TransportKind::Quic)),
            ("/ip4/127.0.0.1/udp/9/webrtc-direct", Listen::Socket(udp(9), TransportKind::WebRtc)),
            ("/p2p-circuit", Listen::Relay),
            ("/ip4/127.0.0.1/udp/9/quic-v1/p2p/PEER/p2p-circuit", Listen::Relay),
        ] {
            assert_eq!(parse_listen(&address(text)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_listen_addresses_are_refused_with_the_reason() {
        for (text, expected) in [
            ("/dns4/localhost/tcp/5", AddressError::NoIp),
            ("/ip4/127.0.0.1", AddressError::NoTransport),
            ("/ip4/127.0.0.1/udp/5", AddressError::NoTransport),
            ("/ip4/127.0.0.1/udp/5/quic", AddressError::NoTransport),
            ("/ip4/127.0.0.1/tcp/5/tls", AddressError::NoTransport),
            ("/ip4/127.0.0.1/tcp/5/http", AddressError::NoTransport),
            ("/ip4/127.0.0.1/tcp/5/p2p/PEER", AddressError::PeerId),
            ("/ip4/127.0.0.1/tcp/5/ws/p2p/PEER", AddressError::PeerId),
            ("/ip4/127.0.0.1/tcp/5/ws/http", AddressError::Trailing),
            ("/p2p-circuit/p2p/PEER", AddressError::Trailing),
            ("/ip4/127.0.0.1/tcp/5/p2p-circuit", AddressError::NoPeerId),
        ] {
            assert_eq!(parse_listen(&address(text)), Err(expected), "{text}");
        }
    }

    #[test]
    fn addresses_to_dial_are_understood() {
        let peer = Some(PEER.parse().unwrap());
        for (text, expected) in [
            ("/ip4/10.0.0.1/tcp/5", Ok(None)),
            ("/ip6/::1/tcp/5/p2p/PEER", Ok(peer)),
            ("/dns4/localhost/tcp/5/tls/ws/p2p/PEER", Ok(peer)),
            ("/dnsaddr/example.org/p2p/PEER", Ok(peer)),
            ("/ip4/10.0.0.1/udp/5/quic-v1/p2p/PEER", Ok(peer)),
            ("/ip4/10.0.0.1/udp/5/webrtc-direct/certhash/HASH/p2p/PEER", Ok(peer)),
            ("/ip4/10.0.0.1/udp/5/webrtc-direct", Err(AddressError::NoCertificateHash)),
            ("/ip4/10.0.0.1/tcp/5/p2p/PEER/p2p-circuit/p2p/PEER", Ok(peer)),
            ("/ip4/10.0.0.1/tcp/5/p2p/PEER/p2p-circuit", Err(AddressError::NoPeerId)),
            ("/ip4/10.0.0.1/tcp/5/p2p-circuit/p2p/PEER", Err(AddressError::Trailing)),
            ("/ip4/10.0.0.1/tcp/0", Err(AddressError::PortZero)),
            ("/ip4/10.0.0.1/udp/5", Err(AddressError::NoTransport)),
            ("/p2p/PEER", Err(AddressError::NoHost)),
            ("/memory/5", Err(AddressError::NoHost)),
        ] {
            assert_eq!(parse_dial(&address(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_route_names_the_transport_to_the_first_hop() {
        for (text, transport, relayed) in [
            ("/ip4/10.0.0.1/tcp/5", TransportKind::Tcp, false),
            ("/ip4/10.0.0.1/tcp/5/ws", TransportKind::WebSocket, false),
            ("/ip4/10.0.0.1/tcp/5/tls/ws", TransportKind::SecureWebSocket, false),
            ("/ip4/10.0.0.1/udp/5/quic-v1/p2p/PEER/p2p-circuit", TransportKind::Quic, true),
            ("/ip4/10.0.0.1/udp/5/webrtc-direct/certhash/HASH", TransportKind::WebRtc, false),
        ] {
            assert_eq!(Route::of(&address(text)), Some(Route { transport, relayed }), "{text}");
        }
        assert_eq!(Route::of(&address("/memory/7")), None);
    }
}
