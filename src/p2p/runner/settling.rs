//! When a message that has been judged is passed on.
//!
//! Gossipsub does not pass a message on to the neighbours that have sent it meanwhile. So it waits one turn of the
//! runtime: until what has arrived on the other connections has been read. On a machine with nothing else to do that is
//! some microseconds; on a busy one, where the same message waits in several sockets, it saves the copies that nobody
//! needs.

use std::future::Future;
use std::pin::Pin;

use libp2p::PeerId;
use libp2p::gossipsub::{MessageAcceptance, MessageId};

type Judged = (MessageId, PeerId, MessageAcceptance);

/// Judged messages that wait for the end of the turn. As many as can be read in one.
#[derive(Default)]
pub(super) struct Settling {
    judged: Vec<Judged>,
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Settling {
    /// What is to become of the message `id` that `from` has sent.
    pub(super) fn add(&mut self, id: MessageId, from: PeerId, acceptance: MessageAcceptance) {
        self.judged.push((id, from, acceptance));
        if self.turn.is_none() {
            self.turn = Some(Box::pin(tokio::task::yield_now()));
        }
    }

    /// Ends when there is something to pass on.
    pub(super) async fn turn(&mut self) {
        match &mut self.turn {
            Some(turn) => turn.await,
            None => std::future::pending().await,
        }
    }

    /// What is to be passed on now.
    pub(super) fn take(&mut self) -> Vec<Judged> {
        self.turn = None;
        std::mem::take(&mut self.judged)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_is_ready_elsewhere_comes_first() {
        let mut settling = Settling::default();
        settling.add(MessageId::from("a"), PeerId::random(), MessageAcceptance::Accept);
        settling.add(MessageId::from("b"), PeerId::random(), MessageAcceptance::Ignore);
        let read = Arc::new(AtomicBool::new(false));
        let connection = tokio::spawn({
            let read = read.clone();
            async move { read.store(true, Ordering::Relaxed) }
        });
        settling.turn().await;
        assert!(read.load(Ordering::Relaxed));
        assert_eq!(settling.take().len(), 2);
        connection.await.unwrap();
        assert!(futures::FutureExt::now_or_never(settling.turn()).is_none(), "nothing waits any more");
    }
}
