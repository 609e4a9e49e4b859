//! The peers that this node has met, kept on disk, so that a restart finds the network even without a bootnode. Pure, but for the
//! form of the file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::address::choice::{self, MAX_ADDRESSES};
use super::topics::as_text;

/// The file's name in the node's data folder.
pub const FILE: &str = "peers.json";
/// Peers remembered, those met last: half as many as there are candidates to dial, which leaves room for fresh ones.
const MAX_KNOWN: usize = 64;
/// From the first news to the first write: a start meets its first peers in this time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause between two writes, which quadruples: a node that is killed early finds most of its peers in the file, and one that
/// runs for long hardly ever writes.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// One peer in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(with = "as_text")]
    peer_id: PeerId,
    /// Where it can be dialled, best first.
    addresses: Vec<Multiaddr>,
    /// When it was met last, in seconds since 1970.
    met: u64,
}

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Content {
    peers: Vec<Known>,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct KnownPeers {
    peers: HashMap<PeerId, Known>,
    write_at: Option<Instant>,
    /// From news to the next write.
    pause: Duration,
}

impl KnownPeers {
    /// The peers of the last run. What cannot be dialled is left out: the file may be of another hand.
    pub(crate) fn of_last_run(content: Content) -> Self {
        let mut known = Self { peers: HashMap::new(), write_at: None, pause: FIRST_PAUSE };
        for mut peer in content.peers {
            peer.addresses =
                peer.addresses.iter().filter_map(|at| choice::dialable(at, peer.peer_id)).collect();
            peer.addresses.truncate(MAX_ADDRESSES);
            if !peer.addresses.is_empty() {
                known.peers.insert(peer.peer_id, peer);
            }
        }
        known.forget_oldest();
        known
    }

    /// Where everybody is said to be.
    pub(crate) fn addresses(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.peers.values().map(|known| (known.peer_id, known.addresses.clone())).collect()
    }

    /// A peer has told where it is, at `now`, which others call `unix`.
    pub(crate) fn met(&mut self, peer_id: PeerId, addresses: &[Multiaddr], unix: u64, now: Instant) {
        let addresses: Vec<Multiaddr> = addresses.iter().take(MAX_ADDRESSES).cloned().collect();
        if addresses.is_empty() {
            return;
        }
        let new = Known { peer_id, addresses, met: unix };
        let same = self.peers.get(&peer_id).is_some_and(|old| old.addresses == new.addresses);
        self.peers.insert(peer_id, new);
        self.forget_oldest();
        if !same && self.write_at.is_none() {
            self.write_at = Some(now + self.pause);
            self.pause = (self.pause * 4).min(MAX_PAUSE);
        }
    }

    fn forget_oldest(&mut self) {
        while self.peers.len() > MAX_KNOWN {
            let oldest = self.peers.values().min_by_key(|known| (known.met, known.peer_id));
            let Some(oldest) = oldest.map(|known| known.peer_id) else { return };
            self.peers.remove(&oldest);
        }
    }

    /// When the file should be written next; `None`: nothing is new.
    pub(crate) fn write_at(&self) -> Option<Instant> {
        self.write_at
    }

    /// What to write now.
    pub(crate) fn write(&mut self) -> Content {
        self.write_at = None;
        let mut peers: Vec<Known> = self.peers.values().cloned().collect();
        peers.sort_unstable_by_key(|known| (u64::MAX - known.met, known.peer_id));
        Content { peers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Vec<Multiaddr> {
        vec![format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()]
    }

    #[test]
    fn who_was_met_last_is_remembered_through_the_file() {
        let (mut known, now) = (KnownPeers::of_last_run(Content::default()), Instant::now());
        let peers: Vec<PeerId> = (0..MAX_KNOWN + 10).map(|_| PeerId::random()).collect();
        for (index, peer) in peers.iter().enumerate() {
            known.met(*peer, &at(index + 1), index as u64, now);
        }
        let text = serde_json::to_string(&known.write()).unwrap();
        let again = KnownPeers::of_last_run(serde_json::from_str(&text).unwrap()).addresses();
        assert_eq!(again.len(), MAX_KNOWN);
        assert!(again.contains(&(peers[10], at(11))) && !again.iter().any(|(peer, _)| *peer == peers[9]));
    }

    #[test]
    fn only_news_is_written_and_that_ever_more_rarely() {
        let (mut known, start, peer) =
            (KnownPeers::of_last_run(Content::default()), Instant::now(), PeerId::random());
        assert_eq!(known.write_at(), None);
        known.met(peer, &at(1), 1, start);
        known.met(PeerId::random(), &at(2), 1, start + FIRST_PAUSE / 2);
        assert_eq!(known.write_at(), Some(start + FIRST_PAUSE));
        let _ = known.write();
        known.met(peer, &at(1), 2, start);
        assert_eq!(known.write_at(), None, "the same place");
        for (port, pause) in [(3, FIRST_PAUSE * 4), (4, FIRST_PAUSE * 16), (5, MAX_PAUSE), (6, MAX_PAUSE)] {
            known.met(peer, &at(port), 2, start);
            assert_eq!(known.write_at(), Some(start + pause));
            let _ = known.write();
        }
    }

    #[test]
    fn a_file_of_another_hand_brings_in_nothing_that_cannot_be_dialled() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let wild: Vec<String> = (0..50)
            .map(|index| format!("\"/ip4/10.0.0.1/tcp/{}\"", index * 7))
            .chain(["\"/memory/1\"".to_owned(), format!("\"/ip4/10.0.0.1/tcp/5/p2p/{other}\"")])
            .collect();
        let text = format!(
            r#"{{"peers": [{{"peer_id": "{peer}", "addresses": [{}], "met": 1, "more": 2}},
                          {{"peer_id": "{other}", "addresses": ["/memory/1"], "met": 1}}]}}"#,
            wild.join(",")
        );
        let known = KnownPeers::of_last_run(serde_json::from_str(&text).unwrap()).addresses();
        assert_eq!(known.len(), 1);
        assert_eq!(
            (known[0].0, known[0].1.len(), known[0].1[0].clone()),
            (peer, MAX_ADDRESSES, at(7)[0].clone())
        );
    }
}
