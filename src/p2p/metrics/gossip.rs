//! What gossipsub does: the size of each mesh, and messages that came more than once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::telemetry::catalogue;

/// Figures that gossipsub's owner keeps and that are read at each collection. As many topics as a node joins.
#[derive(Debug, Clone, Default)]
pub(crate) struct GossipFigures(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    duplicates: AtomicU64,
    mesh: Mutex<BTreeMap<String, usize>>,
}

impl GossipFigures {
    /// No figures yet, observed by instruments on `meter`.
    pub(crate) fn new(meter: &Meter) -> Self {
        let figures = Self::default();
        let read = figures.0.clone();
        catalogue::P2P_MESSAGES_DUPLICATE
            .observed_counter(meter)
            .with_callback(move |observer| observer.observe(read.duplicates.load(Relaxed), &[]))
            .build();
        let read = figures.0.clone();
        catalogue::P2P_MESH_PEERS
            .observed_gauge(meter)
            .with_callback(move |observer| {
                let mesh = read.mesh.lock().unwrap_or_else(PoisonError::into_inner);
                for (topic, peers) in mesh.iter() {
                    observer.observe(*peers as f64, &[KeyValue::new("topic", topic.clone())]);
                }
            })
            .build();
        figures
    }

    /// How many messages came again, since the start.
    pub(crate) fn set_duplicates(&self, count: u64) {
        self.0.duplicates.store(count, Relaxed);
    }

    /// How many peers are in the mesh of each joined topic.
    pub(crate) fn set_mesh<'a>(&self, sizes: impl Iterator<Item = (&'a str, usize)>) {
        let mut mesh = self.0.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, peers) in sizes {
            match mesh.get_mut(topic) {
                Some(known) => *known = peers,
                None => {
                    mesh.insert(topic.to_owned(), peers);
                }
            }
        }
    }

    /// A topic was left.
    pub(crate) fn left(&self, topic: &str) {
        self.0.mesh.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }
}
