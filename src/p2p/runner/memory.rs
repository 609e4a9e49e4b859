//! What a node remembers: messages that wait and that were, peers it has met, peers it keeps away; the last two across restarts.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::p2p::blocklist::{BlockedBy, Blocklist};
use crate::p2p::history::History;
use crate::p2p::kept::KeptFile;
use crate::p2p::known::{self, KnownPeers};
use crate::p2p::limits::NodeRole;
use crate::p2p::topics::as_text;
use crate::p2p::waiting::Waiting;

/// Name of the file with the peers that the user keeps away.
const BLOCKED_FILE: &str = "blocked.json";

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
struct Blocked {
    #[serde(with = "as_text")]
    peer_id: PeerId,
    /// In seconds since 1970; `None`: for good.
    until: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlockedContent {
    blocked: Vec<Blocked>,
}

/// See the module's comment.
pub(crate) struct Memory {
    pub(super) waiting: Waiting,
    pub(super) history: History,
    known: KnownPeers,
    /// `None` for a bootnode, which looks for nobody.
    known_file: Option<KeptFile>,
    blocked_file: KeptFile,
}

impl Memory {
    /// Reads what the last run has left in `folder`.
    pub(crate) fn open(folder: &Path, role: NodeRole) -> Self {
        let known_file = (role == NodeRole::Node).then(|| KeptFile::new(folder, known::FILE));
        let content = known_file.as_ref().and_then(KeptFile::read).unwrap_or_default();
        Self {
            waiting: Waiting::default(),
            history: History::default(),
            known: KnownPeers::of_last_run(content),
            known_file,
            blocked_file: KeptFile::new(folder, BLOCKED_FILE),
        }
    }

    /// Keeps away whom the user kept away in the last run.
    pub(crate) fn restore_blocks(&self, blocklist: &mut Blocklist) {
        let Some(content) = self.blocked_file.read::<BlockedContent>() else { return };
        for Blocked { peer_id, until } in content.blocked {
            let left = until.map(|until| until.saturating_sub(unix()));
            if left != Some(0)
                && blocklist.by_hand(peer_id, left.map(Duration::from_secs), Instant::now()).is_err()
            {
                tracing::warn!("more peers are blocked than may be; the rest of them is let in");
                return;
            }
        }
    }

    /// Writes down whom the user keeps away; the answer says whether that went well.
    pub(super) fn write_blocks(&mut self, blocklist: &Blocklist) -> JoinHandle<bool> {
        let by_user = blocklist.list(Instant::now()).into_iter().filter(|(_, by, _)| *by == BlockedBy::User);
        let blocked = by_user.map(|(peer_id, _, left)| Blocked {
            peer_id,
            until: left.map(|left| unix().saturating_add(left.as_secs()).saturating_add(1)),
        });
        self.blocked_file.write(&BlockedContent { blocked: blocked.collect() })
    }

    /// Where the peers of the last run were.
    pub(crate) fn known_addresses(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.known.addresses()
    }

    /// A peer has told where it is.
    pub(super) fn met(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        if self.known_file.is_some() {
            self.known.met(peer, addresses, unix(), Instant::now());
        }
    }

    /// When something is to be done.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        [self.waiting.next_expiry(), self.known.write_at()].into_iter().flatten().min()
    }

    /// Writes down the peers if it is time, or, at the end, if there is anything new.
    pub(super) fn write_known(&mut self, now: Instant, at_the_end: bool) -> Option<JoinHandle<bool>> {
        let due = self.known.write_at().is_some_and(|at| at_the_end || at <= now);
        let file = self.known_file.as_mut().filter(|_| due)?;
        Some(file.write(&self.known.write()))
    }
}

/// Seconds since 1970.
fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
