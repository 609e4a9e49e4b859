//! Kademlia that looks but never dials.
//!
//! libp2p's Kademlia dials every peer its queries come across, up to 20 per query; a hundred nodes that start together on
//! one machine then keep it busy for a long while. Here a query asks the peers that are connected and reports all the others as
//! hearsay; whom to dial, and when, is the connection manager's decision. A search in a network of any size thus costs
//! one request per connected peer and no connection.
//!
//! A node tells others only of peers that it is connected to: in its routing table as in its answers to who is on a topic.
//! So nobody is sent to a peer that has gone, and there is nothing to be published, renewed or withdrawn. For other programs it
//! keeps, in bounded number, who provides other things; values it keeps none.

mod members;
mod provided;

use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::kad;
use libp2p::kad::store::RecordStore;
use libp2p::swarm::{
    ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

use super::pass_on::pass_on;
use super::topics::Topic;
use crate::telemetry::catalogue;
use crate::telemetry::instruments::P2pInstruments;
use members::Members;

/// The network's own Kademlia, apart from the public one.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/hippius/kad/1.0.0");
/// A query that has not ended by then is given up.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the scout found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A peer that is not connected, and where it is said to be.
    Peer(PeerId, Vec<Multiaddr>),
    /// Peers that are said to be on a topic; where those are that are not connected comes as `Peer`.
    Members(Topic, Vec<PeerId>),
    /// A search is over: for this peer, or for a random one.
    Ended(PeerId),
    /// A peer wanted something stored for which there is no place: a value, or one provider too many.
    RecordRefused,
}

type Inner = kad::Behaviour<Members>;

/// See the module's comment.
pub(crate) struct Scout {
    inner: Inner,
    queries: Counter<u64>,
    took: Histogram<f64>,
}

/// The values of the label `result` of `p2p_kademlia_queries`.
const QUERY_RESULTS: [&str; 3] = ["started", "succeeded", "failed"];

impl Scout {
    /// A scout that answers others' queries too: client mode would leave the others' tables empty on a network without
    /// confirmed external addresses.
    pub(crate) fn new(local: PeerId, instruments: &P2pInstruments) -> Self {
        let mut config = kad::Config::new(PROTOCOL);
        config
            .set_query_timeout(QUERY_TIMEOUT)
            .set_periodic_bootstrap_interval(None)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_record_filtering(kad::StoreInserts::FilterBoth)
            .set_kbucket_inserts(kad::BucketInserts::Manual)
            .set_caching(kad::Caching::Disabled);
        let mut inner = Inner::with_config(local, Members::default(), config);
        inner.set_mode(Some(kad::Mode::Server));
        let queries = instruments.kademlia_queries.clone();
        catalogue::P2P_KADEMLIA_QUERIES.start_at_zero(&queries, QUERY_RESULTS);
        Self { inner, queries, took: instruments.kademlia_query_time.clone() }
    }

    /// Puts the addresses of a connected peer into the routing table that others are answered from.
    ///
    /// The last word counts: addresses of before, where the peer may be found no more, are forgotten.
    pub(crate) fn add(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.inner.remove_peer(&peer);
        for address in addresses {
            self.inner.add_address(&peer, address.clone());
        }
        self.inner.store_mut().located(peer, addresses);
    }

    /// Forgets a peer that is connected no more, so that others are not sent to it.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.inner.remove_peer(&peer);
        self.inner.store_mut().gone(peer);
    }

    /// A connected peer is on `topic`, and whoever asks is told so. Returns `false` where too many entries are kept already.
    #[must_use]
    pub(crate) fn joined(&mut self, peer: PeerId, topic: &Topic) -> bool {
        self.inner.store_mut().joined(peer, topic)
    }

    /// It is on `topic` no more.
    pub(crate) fn left(&mut self, peer: PeerId, topic: &Topic) {
        self.inner.store_mut().left(peer, topic);
    }

    /// Asks the connected peers who is on `topic`.
    pub(crate) fn look_up(&mut self, topic: &Topic) {
        self.inner.get_providers(members::key(topic));
        self.count("started");
    }

    /// Asks the connected peers for those around a random key.
    pub(crate) fn search(&mut self) {
        self.inner.get_closest_peers(PeerId::random());
        self.count("started");
    }

    /// Asks the connected peers where `peer` is.
    pub(crate) fn find(&mut self, peer: PeerId) {
        self.inner.get_closest_peers(peer);
        self.count("started");
    }

    fn count(&self, result: &'static str) {
        self.queries.add(1, &[KeyValue::new("result", result)]);
    }

    /// Counts a query that has ended. One that nobody answered has failed.
    fn measure(&self, event: &kad::Event) {
        let kad::Event::OutboundQueryProgressed { result, stats, step, .. } = event else { return };
        if step.last && !matches!(result, kad::QueryResult::Bootstrap(_)) {
            self.count(if stats.num_successes() > 0 { "succeeded" } else { "failed" });
            self.took.record(stats.duration().unwrap_or_default().as_secs_f64(), &[]);
        }
    }

    /// Kademlia starts a bootstrap by itself whenever a small routing table grows; there is no setting against it. Its
    /// queries are ended as soon as they show.
    fn end_bootstraps(&mut self) {
        for mut query in self.inner.iter_queries_mut() {
            if matches!(query.info(), kad::QueryInfo::Bootstrap { .. }) {
                query.finish();
            }
        }
    }

    /// Tells Kademlia that the peer it wants is out of reach, and returns the addresses it would have dialled.
    fn decline(&mut self, peer: PeerId, connection_id: ConnectionId) -> Vec<Multiaddr> {
        let addresses = self
            .inner
            .handle_pending_outbound_connection(connection_id, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        self.inner.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: Some(peer),
            error: &DialError::Aborted,
            connection_id,
        }));
        addresses
    }
}

impl NetworkBehaviour for Scout {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Found;

    pass_on!(pending_inbound, established, swarm_event, handler_event);

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let polled = self.inner.poll(cx);
            self.end_bootstraps();
            if let Poll::Ready(ToSwarm::GenerateEvent(event)) = &polled {
                self.measure(event);
            }
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    let Some(peer) = opts.get_peer_id() else { continue };
                    let addresses = self.decline(peer, opts.connection_id());
                    if !addresses.is_empty() {
                        return Poll::Ready(ToSwarm::GenerateEvent(Found::Peer(peer, addresses)));
                    }
                }
                Poll::Ready(ToSwarm::GenerateEvent(kad::Event::InboundRequest {
                    request: kad::InboundRequest::AddProvider { record: Some(record) },
                })) if self.inner.store_mut().add_provider(record.clone()).is_ok() => {}
                Poll::Ready(ToSwarm::GenerateEvent(kad::Event::InboundRequest {
                    request: kad::InboundRequest::PutRecord { .. } | kad::InboundRequest::AddProvider { .. },
                })) => return Poll::Ready(ToSwarm::GenerateEvent(Found::RecordRefused)),
                Poll::Ready(ToSwarm::GenerateEvent(kad::Event::OutboundQueryProgressed {
                    result:
                        kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { key, providers })),
                    ..
                })) => {
                    if let Some(topic) = members::topic(&key)
                        && !providers.is_empty()
                    {
                        let members = providers.into_iter().collect();
                        return Poll::Ready(ToSwarm::GenerateEvent(Found::Members(topic, members)));
                    }
                }
                Poll::Ready(ToSwarm::GenerateEvent(kad::Event::OutboundQueryProgressed {
                    result: kad::QueryResult::GetClosestPeers(result),
                    step: kad::ProgressStep { last: true, .. },
                    ..
                })) => {
                    let key = match &result {
                        Ok(found) => &found.key,
                        Err(timeout) => timeout.key(),
                    };
                    if let Ok(peer) = PeerId::from_bytes(key) {
                        return Poll::Ready(ToSwarm::GenerateEvent(Found::Ended(peer)));
                    }
                }
                // What else Kademlia tells is either in the dials it asked for or of no use here.
                Poll::Ready(ToSwarm::GenerateEvent(_) | ToSwarm::NewExternalAddrOfPeer { .. }) => {}
                Poll::Ready(other) => return Poll::Ready(other.map_out(|_| unreachable_event())),
            }
        }
    }
}

/// `map_out` needs an event for a variant that the match above has taken already.
fn unreachable_event() -> Found {
    Found::RecordRefused
}
