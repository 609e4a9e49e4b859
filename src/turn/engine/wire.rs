//! What the engine asks of the world around it.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// How a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Each datagram one message.
    Udp,
    /// A stream of messages.
    Tcp,
    /// The same, encrypted.
    Tls,
}

impl Transport {
    /// Its name in figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// Whom a message came from and by which way: the 5-tuple of RFC 8656, 3.2.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// The way: a listening UDP socket, or a single connection. No two connections of a server's life have the same.
    pub route: u64,
    /// The client's address.
    pub address: SocketAddr,
    /// The server's address that the client has used.
    pub local: IpAddr,
    /// What the way is made of.
    pub transport: Transport,
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.route == other.route && self.address == other.address
    }
}

impl Eq for Client {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write for each part; the derived hash of an address makes six.
        let port = u64::from(self.address.port());
        match self.address.ip() {
            IpAddr::V4(v4) => {
                state.write_u64(u64::from(v4.to_bits()) << 16 | port);
            }
            IpAddr::V6(v6) => {
                state.write_u128(v6.to_bits());
                state.write_u64(port);
            }
        }
        state.write_u64(self.route);
    }
}

/// Names a relay socket. The engine chooses it; it is free for another one as soon as the socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayKey(pub u32);

/// A relay socket that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What it will be called.
    pub key: RelayKey,
    /// IPv6 rather than IPv4.
    pub is_v6: bool,
    /// The server's address that the client has used; a relay address like it is preferred.
    pub near: IpAddr,
    /// With an even port.
    pub even: bool,
    /// And with the next port kept for a later request.
    pub reserve: bool,
}

/// A relay socket that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Where it is bound.
    pub address: SocketAddr,
    /// By what the next port can be asked for.
    pub token: Option<u64>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It went out, or waits to.
    Yes,
    /// The queue of this client is full.
    QueueFull,
    /// It is larger than any packet may be.
    TooLarge,
    /// The operating system refused it.
    No,
}

/// The world: sockets and ports.
///
/// The engine calls these while it handles an event, so that the payload of a packet need not be copied for it.
pub trait Wire {
    /// Sends a message to a client: the parts one after the other.
    fn to_client(&mut self, client: &Client, parts: [&[u8]; 3]) -> Sent;
    /// Sends `payload` to `peer` from a relay socket.
    fn to_peer(&mut self, relay: RelayKey, peer: SocketAddr, payload: &[u8]) -> Sent;
    /// Opens a relay socket. `None` when there is no port for it.
    fn open(&mut self, wanted: Wanted) -> Option<Opened>;
    /// Opens the one whose port was kept under `token`; it will be called by the first key if it is IPv4, otherwise by the second. `None`
    /// when there is none.
    fn open_reserved(&mut self, keys: [RelayKey; 2], token: u64) -> Option<SocketAddr>;
    /// Closes a relay socket and gives its port back.
    fn close(&mut self, relay: RelayKey);
    /// Whether this is an address that the server has given out.
    fn is_own_relay(&self, address: SocketAddr) -> bool;
}
