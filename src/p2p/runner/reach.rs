//! How others reach this node: places at relays, addresses to be told, direct connections in place of relayed ones, the local network.

use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, TransportError, dcutr, identify, upnp};
use opentelemetry::KeyValue;

use super::Runner;
use super::connections::Peer;
use crate::p2p::address::{Route, choice};
use crate::p2p::behaviour::BehaviourEvent;
use crate::p2p::nat::{self, Tried};
use crate::p2p::peers::Source;
use crate::p2p::relay::{self, Action, Event, Places};
use crate::p2p::{mdns, peers};

/// Every value of the label `result` of `p2p_hole_punches`.
pub(super) const PUNCH_RESULTS: [&str; 2] = ["ok", "failed"];

/// What the runner keeps of it.
pub(crate) struct Reach {
    pub(crate) places: Places,
    /// When the places want to be looked at.
    pub(super) wake: Option<Instant>,
    /// Whether what this node listens on is told to others as the way to it: a relay must tell where it is, and nobody has
    /// confirmed it from outside.
    pub(super) announces: bool,
}

impl Reach {
    pub(crate) fn new(places: Places, announces: bool) -> Self {
        Self { places, wake: None, announces }
    }
}

impl Runner {
    /// Tells the places what has happened and does what they say.
    pub(super) fn consult_places(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.reach.wake = None;
            for action in self.reach.places.on_event(event, Instant::now()) {
                match action {
                    Action::Reserve(relay, address) => {
                        if !self.reserve(relay, address) {
                            events.push(Event::Failed(relay));
                        }
                    }
                    Action::Keep(relay) => self.inbox.push_back(peers::Event::Wanted(relay)),
                    Action::WakeAt(at) => self.reach.wake = Some(at),
                }
            }
        }
        self.instruments.relays_held.record(self.reach.places.held() as u64, &[]);
        self.look_at_places(Instant::now());
    }

    /// Tells when there is no place at a relay for too long.
    pub(super) fn look_at_places(&mut self, now: Instant) {
        if self.reach.places.are_wanted() {
            self.complaints.places(self.reach.places.held(), now);
        }
    }

    /// Asks a connected relay for a place; the answer comes as an event of the listener.
    fn reserve(&mut self, relay: PeerId, address: Multiaddr) -> bool {
        let at = address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(at) {
            Ok(listener) => {
                self.reach.places.asked(relay, listener);
                true
            }
            Err(TransportError::MultiaddrNotSupported(address)) => {
                tracing::warn!(%address, "no place can be asked for there");
                false
            }
            Err(TransportError::Other(error)) => {
                tracing::warn!(%relay, %error, "no place can be asked for");
                false
            }
        }
    }

    /// A peer has said which protocols it speaks.
    pub(super) fn look_for_relay(&mut self, peer: PeerId, info: &identify::Info) {
        if !info.protocols.contains(&relay::PROTOCOL) {
            return;
        }
        let Some((address, outbound)) = self.peers.get(&peer).and_then(Peer::direct_address) else { return };
        let told = choice::of_itself(&info.listen_addrs, peer, &address);
        let direct = |address: &Multiaddr| Route::of(address).is_some_and(|route| !route.relayed);
        let dialled = outbound.then(|| choice::dialable(&address, peer)).flatten();
        let Some(address) = dialled.or_else(|| told.into_iter().find(direct)) else { return };
        let bootnode = self.manager.is_bootnode(peer);
        self.consult_places(Event::Relay { peer, address, bootnode });
    }

    pub(super) fn on_listening(&mut self, listener: ListenerId, address: Multiaddr) {
        if self.reach.places.is_place(listener) {
            tracing::info!(%address, "reachable through a relay");
            self.consult_places(Event::Held(listener));
        } else {
            tracing::info!(%address, "listening");
            if self.reach.announces && nat::worth_telling(self.swarm.listeners()).contains(&address) {
                self.swarm.add_external_address(address);
            }
        }
    }

    pub(super) fn on_listening_no_more(&mut self, address: &Multiaddr) {
        if self.reach.announces {
            self.swarm.remove_external_address(address);
        }
    }

    /// Whether the listener stood for a place at a relay.
    pub(super) fn on_place_closed(&mut self, listener: ListenerId, error: Option<&std::io::Error>) -> bool {
        let is_place = self.reach.places.is_place(listener);
        if is_place {
            let reason = error.map(|error| super::connections::innermost(error));
            tracing::debug!(reason, "a place at a relay was lost or refused");
            self.consult_places(Event::Closed(listener));
        }
        is_place
    }

    pub(super) fn on_reach_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::HolePunching(dcutr::Event { remote_peer_id: peer, result }) => {
                match &result {
                    Ok(_) => tracing::debug!(%peer, "a direct connection takes the place of the relayed one"),
                    Err(error) => tracing::debug!(%peer, %error, "no direct connection came about"),
                }
                let result = PUNCH_RESULTS[usize::from(result.is_err())];
                self.instruments.hole_punches.add(1, &[KeyValue::new("result", result)]);
            }
            BehaviourEvent::Probes(Tried { peer, connection })
            | BehaviourEvent::DialBacks(Tried { peer, connection }) => self.mark_tried(peer, connection),
            BehaviourEvent::LocalNetwork(mdns::Found(peer, told)) => {
                let addresses = choice::of_hearsay(&told, peer, false);
                tracing::debug!(%peer, ?addresses, "found on the local network");
                self.inbox.push_back(peers::Event::Heard(peer, addresses, Source::Hearsay));
            }
            BehaviourEvent::Upnp(event) => match event {
                upnp::Event::NewExternalAddr { external_addr, .. } => {
                    tracing::info!(address = %external_addr, "the router passes a port on");
                }
                upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                    tracing::warn!(address = %external_addr, "the router passes the port on no more");
                }
                upnp::Event::GatewayNotFound => tracing::warn!("no router with UPnP was found"),
                upnp::Event::NonRoutableGateway => {
                    tracing::warn!("the router has no public address itself; UPnP is of no use here");
                }
            },
            _ => {}
        }
    }

    /// Tells those who follow it where this node can be reached, if that has changed.
    pub(super) fn tell_addresses(&mut self) {
        let mut addresses = self.listening_addresses();
        addresses.extend(self.external_addresses(&addresses));
        self.addresses.send_if_modified(|told| {
            let changed = *told != addresses;
            *told = addresses;
            changed
        });
    }

    /// Where this node listens, places at relays included; each address ends in its id. Sorted: direct before relayed, then by transport.
    pub(super) fn listening_addresses(&self) -> Vec<Multiaddr> {
        let local = *self.swarm.local_peer_id();
        let mut addresses: Vec<Multiaddr> =
            self.swarm.listeners().filter_map(|address| address.clone().with_p2p(local).ok()).collect();
        addresses.sort_by_cached_key(|address| {
            let route = Route::of(address).map(|route| (route.relayed, route.transport));
            (route.is_none(), route, address.to_string())
        });
        addresses
    }

    /// Where others reach this node, except for `listening`, where it listens itself.
    pub(super) fn external_addresses(&self, listening: &[Multiaddr]) -> Vec<Multiaddr> {
        let local = *self.swarm.local_peer_id();
        let named = |address: &Multiaddr| address.clone().with_p2p(local).ok();
        let direct = |address: &Multiaddr| !address.iter().any(|part| part == Protocol::P2pCircuit);
        let mut addresses: Vec<Multiaddr> = self.swarm.external_addresses().filter_map(named).collect();
        addresses.retain(|address| direct(address) && !listening.contains(address));
        addresses.sort_unstable_by_key(ToString::to_string);
        addresses
    }

    fn mark_tried(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.mark_tried(connection);
        }
    }
}

/// The address at the other end; of a relayed inbound connection, the way back through the relay.
pub(super) fn address_of(endpoint: &ConnectedPoint, peer: PeerId) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            local_addr.clone().with(Protocol::P2p(peer))
        }
        _ => endpoint.get_remote_address().clone(),
    }
}
