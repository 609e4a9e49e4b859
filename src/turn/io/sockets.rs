//! Opening UDP sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::errors;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};

/// What a listening socket may hold while its worker is busy: some ten thousand packets. The system grants as much as it allows.
const LISTENER_BUFFER_BYTES: usize = 16 << 20;
/// The same for a relay socket, which serves one client.
const RELAY_BUFFER_BYTES: usize = 1 << 20;

/// A socket to serve clients on. With `shared`, several may listen on the same address, and the kernel spreads the clients over them.
pub(crate) fn listen(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    if shared && address.port() != 0 {
        // Sharing would also let us in beside another program that shares; without it we would be told.
        open(address, false, RELAY_BUFFER_BYTES)?;
    }
    open(address, shared, LISTENER_BUFFER_BYTES)
}

/// One more socket on an address that [`listen`] shares.
pub(crate) fn listen_beside(address: SocketAddr) -> io::Result<UdpSocket> {
    open(address, true, LISTENER_BUFFER_BYTES)
}

/// A socket for an allocation.
pub(crate) fn relay(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, false, RELAY_BUFFER_BYTES)?;
    errors::keep(&socket, address.is_ipv6());
    Ok(socket)
}

fn open(address: SocketAddr, shared: bool, buffer: usize) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Datagram, flags, None)?;
    if address.is_ipv6() {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if shared {
        socket::setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    // Beyond the system's limit where we may; up to it where we may not.
    if socket::setsockopt(&socket, sockopt::RcvBufForce, &buffer).is_err() {
        let _ = socket::setsockopt(&socket, sockopt::RcvBuf, &buffer);
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// The addresses of this host.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let of = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let mut found: Vec<IpAddr> =
        nix::ifaddrs::getifaddrs()?.filter_map(|interface| interface.address.as_ref().and_then(of)).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
