//! Many streams on one connection: yamux, with larger frames than libp2p's own way to it.
//!
//! That one leaves frames at 16 KiB. Each is encrypted and handed to the system by itself, and the peer reads, decrypts and sorts each by
//! itself. A frame that just fits into one message of noise costs a quarter of all that.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

/// The body of a frame. With its header of 12 bytes it fits into a message of noise, for which libp2p takes 64,511 bytes.
const FRAME_BYTES: usize = 63 * 1024 - 16;
/// Streams that the peer has opened and nobody has asked for yet; yamux itself has a peer wait when so many are not confirmed.
const MAX_ARRIVED: usize = 256;
/// Yamux wants 256 KiB for each stream within 1 GiB.
const MOST_STREAMS: usize = 4_096;

/// The upgrade of a secured connection.
#[derive(Debug, Clone)]
pub(super) struct Multiplexed(Config);

impl Multiplexed {
    /// With at most so many streams on a connection, whoever opened them; with more the connection is cut.
    pub(super) fn new(streams: usize) -> Self {
        let mut config = Config::default();
        config.set_max_num_streams(streams.min(MOST_STREAMS)).set_split_send_size(FRAME_BYTES);
        Self(config)
    }
}

impl UpgradeInfo for Multiplexed {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Multiplexed {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, channel: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(channel, self.0, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Multiplexed {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, channel: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(channel, self.0, Mode::Client)))
    }
}

/// A connection with its streams.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// What came while the connection was looked after for other reasons.
    arrived: VecDeque<Stream>,
    /// Who is waiting for the next.
    waiting: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(channel: C, config: Config, mode: Mode) -> Self {
        Self { connection: Connection::new(channel, config, mode), arrived: VecDeque::new(), waiting: None }
    }

    /// Reads and writes what there is; ready with a stream that the peer has opened.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let next = match self.arrived.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => self.advance(cx),
        };
        if next.is_pending() {
            self.waiting = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        match self.advance(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // One too many is dropped, which resets it.
            Poll::Ready(Ok(stream)) => {
                if self.arrived.len() < MAX_ARRIVED {
                    self.arrived.push_back(stream);
                    if let Some(waiting) = self.waiting.take() {
                        waiting.wake();
                    }
                }
            }
        }
        // There may be more; others get their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
