//! A stream multiplexer that counts the bytes of its substreams, by peer and by protocol: what protocols read and write, without the
//! framing and encryption below. It also bounds how many substreams a peer may have open.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::negotiation::{Flow, Negotiation, Opener};
use crate::p2p::metrics::{PeerTraffic, Protocol, Refusals, Refused};

/// Substreams that wait while too many others have no protocol yet: each may hold 256 KiB that nobody reads. What an honest peer opens at once fits
/// into those and these.
const MAX_WAITING: usize = 16;
/// Substreams refused in a row before others get their turn.
const REFUSED_AT_ONCE: usize = 32;

/// Counts what goes over `inner`.
pub(crate) struct Metered<M: StreamMuxer> {
    inner: M,
    traffic: Arc<PeerTraffic>,
    /// Substreams that the peer has opened and that are not closed.
    inbound: Arc<AtomicUsize>,
    /// How many of them there may be.
    max_inbound: usize,
    /// Where those above are counted.
    refusals: Arc<Refusals>,
    /// Those that the swarm has not taken yet, at most [`MAX_WAITING`].
    waiting: VecDeque<MeteredStream<M::Substream>>,
    /// Whether the swarm has asked for one since the last turn.
    asked: bool,
}

impl<M: StreamMuxer + Unpin> Metered<M> {
    pub(crate) fn new(
        inner: M,
        traffic: Arc<PeerTraffic>,
        max_inbound: usize,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            inner,
            traffic,
            inbound: Arc::default(),
            max_inbound,
            refusals,
            waiting: VecDeque::new(),
            asked: false,
        }
    }

    /// The next substream that the peer opens and that has a place.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<MeteredStream<M::Substream>, M::Error>> {
        for _ in 0..REFUSED_AT_ONCE {
            let inner = match Pin::new(&mut self.inner).poll_inbound(cx) {
                Poll::Ready(Ok(inner)) => inner,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            if self.inbound.load(Relaxed) < self.max_inbound {
                self.inbound.fetch_add(1, Relaxed);
                let place = Some(self.inbound.clone());
                return Poll::Ready(Ok(MeteredStream::new(
                    inner,
                    self.traffic.clone(),
                    Opener::Remote,
                    place,
                )));
            }
            // Dropped, which resets it.
            self.refusals.add(Refused::Stream, 1);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A substream of a [`Metered`] connection.
pub(crate) struct MeteredStream<S> {
    inner: S,
    traffic: Arc<PeerTraffic>,
    purpose: Purpose,
    /// The place that it takes, if the peer opened it.
    place: Option<Arc<AtomicUsize>>,
}

/// What a substream's bytes are for.
enum Purpose {
    /// Not known yet; boxed, since most substreams soon are past it.
    Open(Box<Undecided>),
    Known(Protocol),
}

struct Undecided {
    negotiation: Negotiation,
    sent: u64,
    received: u64,
}

impl<S> MeteredStream<S> {
    fn new(inner: S, traffic: Arc<PeerTraffic>, opener: Opener, place: Option<Arc<AtomicUsize>>) -> Self {
        let undecided = Undecided { negotiation: Negotiation::new(opener), sent: 0, received: 0 };
        Self { inner, traffic, purpose: Purpose::Open(Box::new(undecided)), place }
    }

    fn count(&mut self, flow: Flow, bytes: &[u8]) {
        let count = bytes.len() as u64;
        self.traffic.add(flow, count);
        match &mut self.purpose {
            Purpose::Known(protocol) => self.traffic.assign(*protocol, flow, count),
            Purpose::Open(undecided) => {
                match flow {
                    Flow::Sent => undecided.sent += count,
                    Flow::Received => undecided.received += count,
                }
                if let Some(protocol) = undecided.negotiation.read(flow, bytes) {
                    self.decide(protocol);
                }
            }
        }
    }

    fn decide(&mut self, protocol: Protocol) {
        if let Purpose::Open(undecided) = &self.purpose {
            self.traffic.assign(protocol, Flow::Sent, undecided.sent);
            self.traffic.assign(protocol, Flow::Received, undecided.received);
            self.purpose = Purpose::Known(protocol);
        }
    }
}

impl<S> Drop for MeteredStream<S> {
    fn drop(&mut self) {
        let guess = match &self.purpose {
            Purpose::Open(undecided) => undecided.negotiation.guess(),
            Purpose::Known(protocol) => *protocol,
        };
        self.decide(guess);
        if let Some(inbound) = &self.place {
            inbound.fetch_sub(1, Relaxed);
        }
    }
}

impl<M> StreamMuxer for Metered<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = MeteredStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.asked = true;
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        self.take_in(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let traffic = self.traffic.clone();
        Pin::new(&mut self.inner)
            .poll_outbound(cx)
            .map_ok(|inner| MeteredStream::new(inner, traffic, Opener::Local, None))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        if !mem::replace(&mut self.asked, false) {
            // The swarm takes none while too many have no protocol yet; those above the limit are to be refused nevertheless.
            let mut refused = 0;
            while let Poll::Ready(stream) = self.take_in(cx)? {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back(stream);
                    continue;
                }
                self.refusals.add(Refused::Stream, 1);
                refused += 1;
                if refused >= REFUSED_AT_ONCE {
                    cx.waker().wake_by_ref();
                    break;
                }
            }
        }
        Pin::new(&mut self.inner).poll(cx)
    }
}

// The vectored calls are left to their defaults, which use the first buffer: nothing above this one has any other.

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Poll::Ready(Ok(count)) = read {
            self.count(Flow::Received, buffer.get(..count).unwrap_or_default());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buffer);
        if let Poll::Ready(Ok(count)) = written {
            self.count(Flow::Sent, buffer.get(..count).unwrap_or_default());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
