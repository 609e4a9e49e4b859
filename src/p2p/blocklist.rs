//! Who is kept away: those that misbehaved, for a while, and those that the user named, for as long as said. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

/// For how long a neighbour that misbehaved is kept away.
pub(crate) const BLOCK: Duration = Duration::from_secs(5 * 60);
/// Of those, how many at once. A new name costs a stranger nothing, so more of them would keep away nobody but the honest.
pub(crate) const MAX_MISBEHAVED: usize = 1_024;
/// Peers that the user may keep away at once. These make room for nobody.
pub const MAX_BY_HAND: usize = 1_024;

/// Who keeps a peer away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockedBy {
    /// The user.
    User,
    /// The node itself: the peer has sent too much or rubbish.
    Node,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    by: BlockedBy,
    /// `None`: for good.
    until: Option<Instant>,
}

impl Block {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// As many peers as may be blocked by hand are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Blocklist(HashMap<PeerId, Block>);

impl Blocklist {
    /// Keeps a peer away that misbehaved. Of too many, the one whose block ends first is let in again.
    pub(crate) fn misbehaved(&mut self, peer: PeerId, now: Instant) {
        if self.contains(peer, now) {
            return;
        }
        if self.count_by(BlockedBy::Node) >= MAX_MISBEHAVED {
            self.0.retain(|_, block| block.holds(now));
        }
        if self.count_by(BlockedBy::Node) >= MAX_MISBEHAVED {
            let by_node = self.0.iter().filter(|(_, block)| block.by == BlockedBy::Node);
            let soonest = by_node.min_by_key(|(_, block)| block.until).map(|(peer, _)| *peer);
            soonest.map(|peer| self.0.remove(&peer));
        }
        self.0.insert(peer, Block { by: BlockedBy::Node, until: Some(now + BLOCK) });
    }

    /// Keeps a peer away as the user says: for `time`, or for good. Replaces what was said before.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn by_hand(&mut self, peer: PeerId, time: Option<Duration>, now: Instant) -> Result<(), Full> {
        // A time past the end of the clock is for good.
        let until = time.and_then(|time| now.checked_add(time));
        self.0.retain(|_, block| block.holds(now));
        let known = self.0.get(&peer).is_some_and(|block| block.by == BlockedBy::User);
        if !known && self.count_by(BlockedBy::User) >= MAX_BY_HAND {
            return Err(Full);
        }
        self.0.insert(peer, Block { by: BlockedBy::User, until });
        Ok(())
    }

    /// Lets a peer in again, whoever kept it away. Returns whether somebody did.
    pub(crate) fn unblock(&mut self, peer: PeerId, now: Instant) -> bool {
        self.0.remove(&peer).is_some_and(|block| block.holds(now))
    }

    /// Whether `peer` is kept away.
    pub(crate) fn contains(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(block) = self.0.get(&peer) else { return false };
        let holds = block.holds(now);
        if !holds {
            self.0.remove(&peer);
        }
        holds
    }

    /// How many are.
    pub(crate) fn count(&self, now: Instant) -> usize {
        self.0.values().filter(|block| block.holds(now)).count()
    }

    /// All that are, with who did it and for how much longer (`None`: for good); in order of their ids.
    pub(crate) fn list(&self, now: Instant) -> Vec<(PeerId, BlockedBy, Option<Duration>)> {
        let holding = self.0.iter().filter(|(_, block)| block.holds(now));
        let left = |block: &Block| block.until.map(|until| until.saturating_duration_since(now));
        let mut list: Vec<_> = holding.map(|(peer, block)| (*peer, block.by, left(block))).collect();
        list.sort_unstable_by_key(|(peer, ..)| *peer);
        list
    }

    fn count_by(&self, by: BlockedBy) -> usize {
        self.0.values().filter(|block| block.by == by).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_when_it_should_and_one_without_an_end_does_not() {
        let (mut list, now) = (Blocklist::default(), Instant::now());
        let [misbehaved, hour, good] = [PeerId::random(), PeerId::random(), PeerId::random()];
        list.misbehaved(misbehaved, now);
        list.by_hand(hour, Some(Duration::from_secs(3600)), now).unwrap();
        list.by_hand(good, None, now).unwrap();
        assert_eq!((list.count(now), list.list(now).len()), (3, 3));
        assert!(!list.contains(misbehaved, now + BLOCK) && list.contains(hour, now + BLOCK));
        let later = now + Duration::from_secs(3600);
        assert!(!list.contains(hour, later) && list.contains(good, later));
        assert_eq!(list.list(later), [(good, BlockedBy::User, None)]);
        assert!(list.unblock(good, later) && !list.unblock(good, later) && !list.contains(good, later));
    }

    #[test]
    fn the_users_word_counts_more_than_the_nodes() {
        let (mut list, now, peer) = (Blocklist::default(), Instant::now(), PeerId::random());
        list.misbehaved(peer, now);
        list.by_hand(peer, None, now).unwrap();
        list.misbehaved(peer, now);
        assert_eq!(list.list(now), [(peer, BlockedBy::User, None)]);
        assert!(list.contains(peer, now + BLOCK * 100));
        assert!(
            list.by_hand(peer, Some(Duration::MAX), now).is_ok() && list.contains(peer, now + BLOCK * 100)
        );
    }

    #[test]
    fn both_kinds_are_bounded_and_strangers_displace_only_strangers() {
        let (mut list, mut now) = (Blocklist::default(), Instant::now());
        let chosen: Vec<PeerId> = (0..MAX_BY_HAND).map(|_| PeerId::random()).collect();
        for peer in &chosen {
            list.by_hand(*peer, Some(Duration::from_secs(1000)), now).unwrap();
        }
        assert_eq!(list.by_hand(PeerId::random(), None, now), Err(Full));
        assert_eq!(list.by_hand(chosen[0], None, now), Ok(()), "it is one of them already");
        let strangers: Vec<PeerId> = (0..MAX_MISBEHAVED + 10).map(|_| PeerId::random()).collect();
        for peer in &strangers {
            now += Duration::from_millis(1);
            list.misbehaved(*peer, now);
            assert!(list.contains(*peer, now));
        }
        assert_eq!(list.count(now), MAX_BY_HAND + MAX_MISBEHAVED);
        assert!(!list.contains(strangers[9], now) && list.contains(strangers[10], now));
        assert!(chosen.iter().all(|peer| list.contains(*peer, now)));
        now += Duration::from_secs(1000);
        assert_eq!(list.by_hand(PeerId::random(), None, now), Ok(()), "blocks that are over make room");
    }
}
