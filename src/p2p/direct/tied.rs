//! A stream that ends with its connection, whichever side closes it.
//!
//! A reader or writer that waits when this node itself closes the connection is not woken by yamux, and would wait until its own
//! patience is over. What has arrived before is read nevertheless: the end counts only where there is nothing else to do.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{FusedFuture, Shared};
use futures::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// A stream of a connection.
pub(crate) type Stream = Tied<libp2p::Stream>;

/// See the module's comment. `end` is ready once the connection is closed.
#[derive(Debug)]
pub(crate) struct Tied<S> {
    inner: S,
    end: Shared<oneshot::Receiver<()>>,
}

impl<S> Tied<S> {
    pub(super) fn new(inner: S, end: Shared<oneshot::Receiver<()>>) -> Self {
        Self { inner, end }
    }

    /// What is to be told of something that `polled` so.
    fn or_end<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() && (self.end.is_terminated() || Pin::new(&mut self.end).poll(cx).is_ready()) {
            let closed = io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was closed");
            return Poll::Ready(Err(closed));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.or_end(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buffer);
        self.or_end(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.or_end(cx, polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_close(cx);
        self.or_end(cx, polled)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures::io::Cursor;
    use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, poll};

    use super::*;

    /// Neither gives nor takes anything, and wakes nobody.
    pub(crate) struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_end_and_nobody_waits_after_it() {
        let (connection, end) = oneshot::channel();
        let end = end.shared();
        let (mut reading, mut writing) = (Tied::new(Stuck, end.clone()), Tied::new(Stuck, end));
        let mut byte = [0];
        let mut read = Box::pin(reading.read(&mut byte));
        assert!(poll!(read.as_mut()).is_pending());
        let written = tokio::spawn(async move { writing.write_all(b"x").await });
        tokio::task::yield_now().await;
        drop(connection);
        let written = written.await.unwrap();
        for result in [read.await.map(drop), written, reading.flush().await, reading.close().await] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_after_the_end() {
        let (connection, end) = oneshot::channel();
        drop(connection);
        let mut stream = Tied::new(Cursor::new(b"last words"), end.shared());
        let mut words = String::new();
        stream.read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "last words");
    }
}
