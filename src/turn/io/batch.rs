//! Many datagrams with one system call.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg};

/// Datagrams received with one call.
pub(crate) const BATCH: usize = 32;
/// Room for one datagram, the largest there is. Not a power of two: the beginnings of the buffers would compete for the same lines
/// of the processor's cache.
const STRIDE: usize = 65_536 + 832;
/// Bytes of payload that wait for one call at most.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Buffers to receive into. Memory is touched only as far as datagrams are long.
pub(crate) struct Receiver {
    bytes: Vec<u8>,
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
    received: Vec<(SocketAddr, usize)>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; STRIDE * BATCH],
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what waits, `N` datagrams at most, and tells how many there were. 0 is also the answer to an error: the next call tells more.
    pub(crate) fn receive<const N: usize>(&mut self, socket: &UdpSocket, is_v6: bool) -> usize {
        self.received.clear();
        if is_v6 {
            fill::<N, _>(socket, &mut self.v6, &mut self.bytes, &mut self.received);
        } else {
            fill::<N, _>(socket, &mut self.v4, &mut self.bytes, &mut self.received);
        }
        self.received.len()
    }

    /// What was received last, each with its sender.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let of = |((from, length), bytes): (&(SocketAddr, usize), _)| -> (SocketAddr, &[u8]) {
            let bytes: &[u8] = bytes;
            (*from, &bytes[..*length])
        };
        self.received.iter().zip(self.bytes.chunks_exact(STRIDE)).map(of)
    }
}

fn fill<const N: usize, S: SockaddrLike + Copy + Into<SocketAddr>>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<S>,
    bytes: &mut [u8],
    received: &mut Vec<(SocketAddr, usize)>,
) {
    let mut chunks = bytes.chunks_exact_mut(STRIDE);
    let mut slices: [[IoSliceMut<'_>; 1]; N] =
        std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
    let flags = MsgFlags::MSG_DONTWAIT;
    if let Ok(messages) = recvmmsg(socket.as_raw_fd(), headers, &mut slices, flags, None) {
        received.extend(messages.filter_map(|message| Some((message.address?.into(), message.bytes))));
    }
}

/// Datagrams that wait to be sent from one socket with one call.
pub(crate) struct Sender {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    to: Addresses,
}

enum Addresses {
    V4(Vec<Option<SockaddrIn>>, MultiHeaders<SockaddrIn>),
    V6(Vec<Option<SockaddrIn6>>, MultiHeaders<SockaddrIn6>),
}

impl Addresses {
    fn len(&self) -> usize {
        match self {
            Addresses::V4(list, _) => list.len(),
            Addresses::V6(list, _) => list.len(),
        }
    }
}

/// How many waiting datagrams there may be.
const MAX_WAITING: usize = 64;

impl Sender {
    pub(crate) fn new(is_v6: bool) -> Self {
        let to = if is_v6 {
            Addresses::V6(Vec::with_capacity(MAX_WAITING), MultiHeaders::preallocate(MAX_WAITING, None))
        } else {
            Addresses::V4(Vec::with_capacity(MAX_WAITING), MultiHeaders::preallocate(MAX_WAITING, None))
        };
        Self { bytes: Vec::new(), ends: Vec::with_capacity(MAX_WAITING), to }
    }

    /// Adds a datagram; `false` when `to` is of the wrong family.
    pub(crate) fn add(&mut self, to: SocketAddr, parts: [&[u8]; 3]) -> bool {
        match (&mut self.to, to) {
            (Addresses::V4(list, _), SocketAddr::V4(to)) => list.push(Some(to.into())),
            (Addresses::V6(list, _), SocketAddr::V6(to)) => list.push(Some(to.into())),
            _ => return false,
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ends.push(self.bytes.len());
        true
    }

    /// Whether it is time to [send](Sender::send).
    pub(crate) fn is_full(&self) -> bool {
        self.to.len() >= MAX_WAITING || self.bytes.len() >= MAX_WAITING_BYTES
    }

    /// Sends all that waits, and tells how many the system did not take.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> usize {
        if self.ends.is_empty() {
            return 0;
        }
        let mut start = 0;
        let slices: Vec<[IoSlice<'_>; 1]> = self
            .ends
            .iter()
            .map(|&end| [IoSlice::new(&self.bytes[std::mem::replace(&mut start, end)..end])])
            .collect();
        let lost = match &mut self.to {
            Addresses::V4(list, headers) => send_all(socket, headers, &slices, list),
            Addresses::V6(list, headers) => send_all(socket, headers, &slices, list),
        };
        drop(slices);
        match &mut self.to {
            Addresses::V4(list, _) => list.clear(),
            Addresses::V6(list, _) => list.clear(),
        }
        self.ends.clear();
        self.bytes.clear();
        lost
    }
}

fn send_all<S: SockaddrLike + Copy>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<S>,
    slices: &[[IoSlice<'_>; 1]],
    to: &[Option<S>],
) -> usize {
    let (mut done, mut lost) = (0, 0);
    while done < slices.len() {
        let rest =
            sendmmsg(socket.as_raw_fd(), headers, &slices[done..], &to[done..], [], MsgFlags::MSG_DONTWAIT);
        match rest.map(Iterator::count) {
            Err(Errno::EINTR) => {}
            // The first of the rest cannot be sent; those behind it may.
            Err(_) | Ok(0) => (done, lost) = (done + 1, lost + 1),
            Ok(sent) => done += sent,
        }
    }
    lost
}
