//! How many streams of strangers are looked after at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;

/// Streams of all peers together. Each has a task and a buffer of up to 64 KiB.
pub(super) const MAX_STREAMS: usize = 64;
/// Streams of one peer: a few files and a few messages at the same time.
pub(super) const MAX_STREAMS_PER_PEER: usize = 16;

/// Counts the streams that are under way.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<PeerId, usize>>);

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    peer: PeerId,
}

impl Places {
    /// A place for a stream of `peer`, if there is one.
    pub(super) fn take(self: &Arc<Self>, peer: PeerId) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = taken.values().sum();
        let own = taken.get(&peer).copied().unwrap_or(0);
        if total >= MAX_STREAMS || own >= MAX_STREAMS_PER_PEER {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Place { places: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_places_for_others_and_gives_its_own_back() {
        let places = Arc::new(Places::default());
        let greedy = PeerId::random();
        let taken: Vec<Place> = std::iter::from_fn(|| places.take(greedy)).collect();
        assert_eq!(taken.len(), MAX_STREAMS_PER_PEER);
        let others: Vec<Place> = std::iter::from_fn(|| places.take(PeerId::random())).collect();
        assert_eq!(taken.len() + others.len(), MAX_STREAMS);
        drop(others);
        assert!(places.take(greedy).is_none());
        drop(taken);
        assert!(places.take(greedy).is_some());
        assert!(places.0.lock().unwrap().is_empty());
    }
}
