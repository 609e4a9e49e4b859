//! What somebody should know who reads the log, told once: a bootnode that is not reached, no place at a relay.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::DialError;

use super::connections::describe;
use super::dials;

/// Dials in vain after which a bootnode that does not answer is told of: it is 2 to 4 s then. Less than that it may be about to start.
const VAIN_DIALS: u32 = 4;
/// Time without a place at a relay after which that is told.
const PLACELESS: Duration = Duration::from_secs(10);

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Dials in vain, of each bootnode that is not connected, and whether that was told.
    vain: HashMap<PeerId, (u32, bool)>,
    /// Since when it has been without a place, unless that was told.
    placeless: Placeless,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Placeless {
    /// It has one, or wants none.
    #[default]
    No,
    Since(Instant),
    Told,
}

impl Complaints {
    /// A dial of a bootnode has failed. Says whether that is to be told.
    pub(super) fn failed(&mut self, bootnode: PeerId, error: &DialError) -> bool {
        let (vain, told) = self.vain.entry(bootnode).or_default();
        *vain = vain.saturating_add(1);
        // Whoever answers under another name will go on doing so; and where nothing answers at all, ten seconds have gone by.
        let sure = matches!(dials::result(error), "wrong_peer" | "timeout");
        let tell = !*told && (sure || *vain >= VAIN_DIALS);
        *told |= tell;
        if tell {
            tracing::warn!(%bootnode, reason = describe(error), "the bootnode is not reached; it will be dialled again");
        }
        tell
    }

    /// A bootnode is connected.
    pub(super) fn reached(&mut self, bootnode: PeerId) {
        self.vain.remove(&bootnode);
    }

    /// Looks at how many places at relays there are where some are wanted. Says whether their absence was told.
    pub(super) fn places(&mut self, held: usize, now: Instant) -> bool {
        match self.placeless {
            _ if held > 0 => self.placeless = Placeless::No,
            Placeless::No => self.placeless = Placeless::Since(now),
            Placeless::Since(since) if now >= since + PLACELESS => {
                self.placeless = Placeless::Told;
                tracing::warn!(
                    "no relay gives this node a place, so nobody reaches it through one; it goes on asking"
                );
                return true;
            }
            Placeless::Since(_) | Placeless::Told => {}
        }
        false
    }

    /// When to look again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self.placeless {
            Placeless::Since(since) => Some(since + PLACELESS),
            Placeless::No | Placeless::Told => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootnode_that_is_not_reached_is_told_of_once() {
        let (mut complaints, bootnode) = (Complaints::default(), PeerId::random());
        let told = |complaints: &mut Complaints, error: &DialError, dials: usize| {
            (0..dials).map(|_| complaints.failed(bootnode, error)).collect::<Vec<_>>()
        };
        let deaf = DialError::Aborted;
        assert_eq!(told(&mut complaints, &deaf, 6), [false, false, false, true, false, false]);
        complaints.reached(bootnode);
        assert_eq!(told(&mut complaints, &deaf, 4), [false, false, false, true]);
        complaints.reached(bootnode);
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let wrong = DialError::WrongPeerId { obtained: PeerId::random(), address };
        assert_eq!(told(&mut complaints, &wrong, 6), [true, false, false, false, false, false]);
    }

    #[test]
    fn the_want_of_a_relay_is_told_once_and_after_a_while() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        assert!(!complaints.places(0, start));
        assert_eq!(complaints.wake_at(), Some(start + PLACELESS));
        assert!(!complaints.places(0, start + PLACELESS / 2));
        assert!(complaints.places(0, start + PLACELESS));
        assert!(!complaints.places(0, start + 2 * PLACELESS));
        assert_eq!(complaints.wake_at(), None);
        assert!(!complaints.places(1, start + 3 * PLACELESS));
        assert!(!complaints.places(0, start + 4 * PLACELESS));
        assert!(complaints.places(0, start + 5 * PLACELESS), "it had one, and lost it");
    }
}
