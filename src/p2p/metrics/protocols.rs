//! Bytes by protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::p2p::transport::Flow;
use crate::telemetry::catalogue;

/// The protocols with a name in the metrics, by how their ids begin; the last stands for all others, so that strangers cannot make
/// up labels.
const PROTOCOLS: [(&str, &str); 10] = [
    ("/meshsub/", "gossipsub"),
    ("/hippius/kad/", "kademlia"),
    ("/ipfs/id/", "identify"),
    ("/ipfs/ping/", "ping"),
    ("/libp2p/circuit/relay/", "relay"),
    ("/libp2p/dcutr", "dcutr"),
    ("/libp2p/autonat/", "autonat"),
    ("/hippius/msg/", "message"),
    ("/hippius/file/", "file"),
    ("", "other"),
];

/// One of the protocols that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol(u8);

impl Protocol {
    /// None of those with a name.
    pub(crate) const OTHER: Self = Self(PROTOCOLS.len() as u8 - 1);

    /// The protocol with this id.
    pub(crate) fn named(id: &[u8]) -> Self {
        let place = PROTOCOLS.iter().position(|(begin, _)| id.starts_with(begin.as_bytes()));
        // The last one begins every id, and there are few.
        place.and_then(|place| u8::try_from(place).ok()).map_or(Self::OTHER, Self)
    }

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        PROTOCOLS.get(usize::from(self.0)).map_or("other", |(_, label)| label)
    }
}

/// Bytes of all peers, in total and by protocol, read at each collection: a counter that is recorded into costs a look-up each time.
#[derive(Debug, Default)]
pub(crate) struct ProtocolBytes {
    total: Pair,
    by_protocol: [Pair; PROTOCOLS.len()],
}

#[derive(Debug, Default)]
struct Pair {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Pair {
    fn of(&self, flow: Flow) -> &AtomicU64 {
        match flow {
            Flow::Sent => &self.sent,
            Flow::Received => &self.received,
        }
    }
}

impl ProtocolBytes {
    /// Counts bytes, whatever they are for.
    pub(crate) fn add(&self, flow: Flow, bytes: u64) {
        self.total.of(flow).fetch_add(bytes, Relaxed);
    }

    /// Says what bytes that are counted already were for.
    pub(crate) fn assign(&self, protocol: Protocol, flow: Flow, bytes: u64) {
        if let Some(pair) = self.by_protocol.get(usize::from(protocol.0)) {
            pair.of(flow).fetch_add(bytes, Relaxed);
        }
    }

    pub(super) fn observe(self: &Arc<Self>, meter: &Meter) {
        let total = |metric: &catalogue::Metric, flow: Flow| {
            let bytes = self.clone();
            metric
                .observed_counter(meter)
                .with_callback(move |observer| observer.observe(bytes.total.of(flow).load(Relaxed), &[]))
                .build()
        };
        total(&catalogue::P2P_BYTES_SENT, Flow::Sent);
        total(&catalogue::P2P_BYTES_RECEIVED, Flow::Received);
        let labels: [_; PROTOCOLS.len()] = std::array::from_fn(|place| {
            let protocol = Protocol(place as u8).as_str();
            [("sent", Flow::Sent), ("received", Flow::Received)].map(|(direction, flow)| {
                (flow, [KeyValue::new("protocol", protocol), KeyValue::new("direction", direction)])
            })
        });
        let bytes = self.clone();
        catalogue::P2P_PROTOCOL_BYTES
            .observed_counter(meter)
            .with_callback(move |observer| {
                for (pair, labels) in bytes.by_protocol.iter().zip(&labels) {
                    for (flow, labels) in labels {
                        observer.observe(pair.of(*flow).load(Relaxed), labels);
                    }
                }
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_of_a_node_has_its_name() {
        for (id, label) in [
            ("/meshsub/1.2.0", "gossipsub"),
            ("/hippius/kad/1.0.0", "kademlia"),
            ("/ipfs/id/push/1.0.0", "identify"),
            ("/libp2p/circuit/relay/0.2.0/stop", "relay"),
            ("/libp2p/autonat/2/dial-request", "autonat"),
            ("/ipfs/kad/1.0.0", "other"),
            ("", "other"),
        ] {
            assert_eq!(Protocol::named(id.as_bytes()).as_str(), label, "{id}");
        }
        assert_eq!(Protocol::OTHER.as_str(), "other");
    }
}
