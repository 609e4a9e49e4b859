//! Open connections, by the way they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::p2p::address::{Route, TransportKind};
use crate::p2p::handle::Direction;
use crate::telemetry::catalogue;

/// Transports, direct and relayed, both directions.
const KINDS: usize = TransportKind::ALL.len() * 4;

/// How many connections are open, of each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<[AtomicU64; KINDS]>);

/// An open connection; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    counts: Connections,
    kind: usize,
}

impl Connections {
    /// Counts a connection.
    pub(crate) fn open(&self, route: Route, direction: Direction) -> Open {
        let transport = TransportKind::ALL.iter().position(|kind| *kind == route.transport).unwrap_or(0);
        let kind =
            transport * 4 + usize::from(route.relayed) * 2 + usize::from(direction == Direction::Outbound);
        self.0[kind].fetch_add(1, Relaxed);
        Open { counts: self.clone(), kind }
    }

    pub(super) fn observe(&self, meter: &Meter) {
        let counts = self.clone();
        let labels: Vec<[KeyValue; 3]> = TransportKind::ALL
            .iter()
            .flat_map(|transport| {
                [(false, "inbound"), (false, "outbound"), (true, "inbound"), (true, "outbound")].map(
                    |(relayed, direction)| {
                        let route = Route { transport: *transport, relayed };
                        [
                            KeyValue::new("transport", transport.as_str()),
                            KeyValue::new("path", route.path()),
                            KeyValue::new("direction", direction),
                        ]
                    },
                )
            })
            .collect();
        catalogue::P2P_CONNECTIONS
            .observed_gauge(meter)
            .with_callback(move |observer| {
                for (count, labels) in counts.0.iter().zip(&labels) {
                    let count = count.load(Relaxed);
                    // Most kinds are none that a node ever has.
                    if count > 0 {
                        observer.observe(count as f64, labels);
                    }
                }
            })
            .build();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.0[self.kind].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_while_it_is_open_and_in_its_kind_only() {
        let counts = Connections::default();
        let of = |kind: usize| counts.0[kind].load(Relaxed);
        let direct = Route { transport: TransportKind::ALL[1], relayed: false };
        let relayed = Route { relayed: true, ..direct };
        let first = counts.open(direct, Direction::Outbound);
        let second = counts.open(relayed, Direction::Inbound);
        assert_eq!((of(5), of(6)), (1, 1));
        drop(first);
        assert_eq!((of(5), of(6)), (0, 1));
        drop(second);
        assert_eq!(counts.0.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 0);
    }
}
