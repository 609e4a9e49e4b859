//! The bytes of a file as they come: in pieces, and not so slowly that others wait for nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt, FutureExt};
use libp2p::PeerId;
use tokio_util::sync::CancellationToken;

use super::receive::Stop;
use super::source::BLOCK;
use crate::control::seats::{Busy, Seat};

/// Longest silence of a sender.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// The least that is read at once, unless the sender has come to its end.
const PIECE: usize = BLOCK / 4;
/// A sender that needs longer than this for a piece holds a place that others could use.
const SLOWEST_PIECE: Duration = Duration::from_secs(60);
/// One that needs longer than this for a piece gives way when others do need its place.
pub(super) const SLOW_PIECE: Duration = Duration::from_secs(2);

/// The place of a file that is arriving. It is idle, so that others can have it, when the sender keeps it waiting.
pub(super) struct Turn<'a> {
    place: &'a Arc<Seat<PeerId>>,
    give_way: &'a CancellationToken,
    busy: Option<Busy<PeerId>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(place: &'a Arc<Seat<PeerId>>, give_way: &'a CancellationToken) -> Self {
        Self { place, give_way, busy: None }
    }

    /// The sender does not keep it waiting.
    pub(super) fn goes_on(&mut self) {
        self.busy.get_or_insert_with(|| self.place.busy());
    }

    /// Waits for the sender, who is late after `quick`. Ends when others have the place.
    pub(super) async fn wait<T>(
        &mut self,
        quick: Duration,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        // What has come is taken before anybody is late.
        tokio::select! {
            biased;
            done = work => done,
            () = self.taken(quick) => Err(Stop::Later),
        }
    }

    /// Ends when others have the place, which they can have once the sender is late, after `quick`.
    pub(super) async fn taken(&mut self, quick: Duration) {
        if tokio::time::timeout(quick, self.give_way.cancelled()).await.is_err() {
            self.busy = None;
            self.give_way.cancelled().await;
        }
    }
}

/// How long a sender is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For anything.
    silence: Duration,
    /// For a [`PIECE`].
    piece: Duration,
}

/// See [`IDLE`] and [`SLOWEST_PIECE`].
pub(super) const PATIENCE: Patience = Patience { silence: IDLE, piece: SLOWEST_PIECE };

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes.
    pub(super) count: usize,
    /// Why nothing will follow.
    pub(super) end: Option<Stop>,
}

/// Reads into `block` what comes. Larger pieces are cheaper to write, so it waits for some; but nothing that has come is lost when the
/// sender goes, or when others have its place, which is when `taken` ends.
pub(super) async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    block: &mut [u8],
    patience: Patience,
    taken: impl Future<Output = ()>,
) -> Piece {
    tokio::pin!(taken);
    let begun = Instant::now();
    let mut count = 0;
    while count < block.len().min(PIECE) {
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(patience.silence, stream.read(&mut block[count..])) => read,
            () = &mut taken => return Piece { count, end: Some(Stop::Later) },
        };
        let why = match read {
            Ok(Ok(more @ 1..)) => {
                count += more;
                if count >= block.len().min(PIECE) || begun.elapsed() < patience.piece {
                    continue;
                }
                "the sender is too slow".to_owned()
            }
            Ok(Ok(_)) => "the sender has stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing came for {} s", patience.silence.as_secs()),
        };
        return Piece { count, end: Some(Stop::Broken(why)) };
    }
    while count < block.len() {
        match stream.read(&mut block[count..]).now_or_never() {
            Some(Ok(more @ 1..)) => count += more,
            _ => break,
        }
    }
    Piece { count, end: None }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::super::tied::tests::Stuck;
    use super::*;
    use crate::control::seats::Seats;

    /// Gives a byte whenever it is asked.
    struct Drops;

    impl AsyncRead for Drops {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            buffer[0] = b'x';
            Poll::Ready(Ok(1))
        }
    }

    #[tokio::test]
    async fn a_sender_has_a_minute_for_sixteen_kibibytes_and_half_of_one_for_a_byte() {
        assert_eq!((PIECE, PATIENCE.piece), (16 * 1024, Duration::from_secs(60)));
        assert_eq!(PATIENCE.silence, Duration::from_secs(30));
        let mut block = vec![0; BLOCK];
        // However small the pieces are in which it comes.
        let all = fill(&mut Drops, &mut block, PATIENCE, pending()).await;
        assert!(all.count >= PIECE && all.end.is_none(), "{all:?}");
        let hasty = Patience { piece: Duration::ZERO, ..PATIENCE };
        let end = |why: &str| Some(Stop::Broken(why.to_owned()));
        // What has come is kept, and it is the end nevertheless: a byte now and then does not hold a place.
        assert_eq!(
            fill(&mut Drops, &mut block, hasty, pending()).await,
            Piece { count: 1, end: end("the sender is too slow") }
        );
        let silence = Patience { silence: Duration::ZERO, ..PATIENCE };
        let mut one_byte = (&b"x"[..]).chain(Stuck);
        assert_eq!(
            fill(&mut one_byte, &mut block, silence, pending()).await,
            Piece { count: 1, end: end("nothing came for 0 s") }
        );
        // The last piece is as long as it is, and so is what came before the end.
        assert_eq!(fill(&mut Drops, &mut [0; 7], PATIENCE, pending()).await, Piece { count: 7, end: None });
        let mut last = &b"words"[..];
        assert_eq!(
            fill(&mut last, &mut block, PATIENCE, pending()).await,
            Piece { count: 5, end: end("the sender has stopped") }
        );
        // Nor is it lost when others have its place.
        let mut slow = (&b"some"[..]).chain(Stuck);
        let left = fill(&mut slow, &mut block, PATIENCE, async {}).await;
        assert_eq!(left, Piece { count: 4, end: Some(Stop::Later) });
    }

    #[tokio::test]
    async fn a_place_that_others_need_is_left_at_once() {
        let give_way = CancellationToken::new();
        let places = Seats::new(1, 1);
        let place = places.take(PeerId::random(), give_way.clone()).seat().unwrap();
        let newcomer = || places.take(PeerId::random(), CancellationToken::new()).seat();
        let mut turn = Turn::new(&place, &give_way);
        // As long as it is not late, nobody gets its place.
        turn.goes_on();
        turn.wait(IDLE, async { Ok(()) }).await.unwrap();
        assert!(newcomer().is_none());
        let waiting = turn.wait(Duration::ZERO, pending::<Result<(), Stop>>());
        let takes_it = async {
            loop {
                if let Some(taken) = newcomer() {
                    return taken;
                }
                tokio::task::yield_now().await;
            }
        };
        let (waited, _taken) = futures::join!(waiting, takes_it);
        assert!(matches!(waited, Err(Stop::Later)), "{waited:?}");
    }
}
