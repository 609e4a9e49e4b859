//! What the network answers to packets that were sent: the error queue of a UDP socket (`ip(7)`, `IP_RECVERR`).

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

use crate::turn::engine::Unreachable;

/// Has the system keep ICMP messages for `socket`. Where it does not, peers that are gone are just silent.
pub(crate) fn keep(socket: &UdpSocket, is_v6: bool) {
    let _ = if is_v6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    };
}

/// Takes what waits in the error queue, `limit` of them at most, and hands over each that came as ICMP. What the system itself has to say
/// about a packet (it is too large) was the answer to sending it.
pub(crate) fn take(socket: &UdpSocket, limit: usize, mut to: impl FnMut(Unreachable)) {
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    for _ in 0..limit {
        // The packet itself would stand here; whom it was for is known without it.
        let mut nothing: [IoSliceMut<'_>; 0] = [];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut nothing, Some(&mut control), flags) {
            Ok(told) => {
                if let Some(unreachable) = unreachable(&told) {
                    to(unreachable);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn unreachable(told: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Unreachable> {
    let address = told.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    let peer = v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))?;
    let error = told.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) if error.ee_origin == libc::SO_EE_ORIGIN_ICMP => {
            Some(error)
        }
        ControlMessageOwned::Ipv6RecvErr(error, _) if error.ee_origin == libc::SO_EE_ORIGIN_ICMP6 => {
            Some(error)
        }
        _ => None,
    })?;
    Some(Unreachable { peer, kind: error.ee_type, code: error.ee_code, mtu: error.ee_info })
}
