//! Peers that somebody here wants to reach: dialled where they are known to be, and looked for where they are not.

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;

use super::{Runner, connections};
use crate::p2p::direct::ReachError;
use crate::p2p::direct::streams::{FILES, OpenReply};
use crate::p2p::{peers, transport};

/// Peers that are looked for at once, and callers that wait for each.
const MAX_FINDING: usize = 32;

type Reply = oneshot::Sender<Result<(), ReachError>>;

/// A peer that is being looked for. Callers wait as long as they like; when all have gone, so has this.
pub(super) struct Finding {
    replies: Vec<Reply>,
    /// Whether the network was asked.
    asked: bool,
    dialing: bool,
    /// Why the last dial failed.
    failed: Option<String>,
}

impl Runner {
    pub(super) fn find(&mut self, peer: PeerId, reply: Reply) {
        if peer == *self.swarm.local_peer_id() {
            let _ = reply.send(Err(ReachError::Myself));
            return;
        }
        if self.peers.contains_key(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        self.finding.retain(|_, finding| {
            finding.replies.retain(|reply| !reply.is_closed());
            !finding.replies.is_empty()
        });
        let room = self.finding.len() < MAX_FINDING;
        match self.finding.get_mut(&peer) {
            Some(finding) if finding.replies.len() < MAX_FINDING => finding.replies.push(reply),
            None if room => {
                let finding = Finding { replies: vec![reply], asked: false, dialing: false, failed: None };
                self.finding.insert(peer, finding);
                let known = self.manager.addresses_of(peer);
                if known.is_empty() { self.look_for(peer) } else { self.dial_found(peer, known) }
            }
            _ => {
                let _ = reply.send(Err(ReachError::Busy));
            }
        }
    }

    fn look_for(&mut self, peer: PeerId) {
        if let Some(finding) = self.finding.get_mut(&peer) {
            finding.asked = true;
            self.swarm.behaviour_mut().scout.find(peer);
        }
    }

    fn dial_found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(finding) = self.finding.get_mut(&peer) else { return };
        finding.dialing = true;
        let schedule = transport::schedule(addresses);
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(schedule.iter().map(|(address, _)| address.clone()).collect())
            .allocate_new_port()
            .build();
        match self.pace.during(schedule, || self.swarm.dial(options)) {
            // It is being dialled already: the end of that is the end of this.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.not_found(peer, connections::describe(&error)),
        }
    }

    /// A peer is connected.
    pub(super) fn found(&mut self, peer: PeerId) {
        for reply in self.finding.remove(&peer).into_iter().flat_map(|finding| finding.replies) {
            let _ = reply.send(Ok(()));
        }
    }

    /// A dial has failed. What was known of the peer may be out of date: now the network is asked.
    pub(super) fn not_found(&mut self, peer: PeerId, reason: String) {
        let Some(finding) = self.finding.get_mut(&peer) else { return };
        finding.dialing = false;
        finding.failed = Some(reason);
        if finding.asked { self.give_up_finding(peer) } else { self.look_for(peer) }
    }

    /// Somebody says where a peer is.
    pub(super) fn heard_where(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let waits = self.finding.get(&peer).is_some_and(|finding| finding.asked && !finding.dialing);
        if waits && !addresses.is_empty() {
            self.dial_found(peer, addresses.to_vec());
        }
    }

    /// Everybody was asked for a peer.
    pub(super) fn on_search_ended(&mut self, peer: PeerId) {
        if self.finding.get(&peer).is_some_and(|finding| finding.asked && !finding.dialing) {
            self.give_up_finding(peer);
        }
    }

    fn give_up_finding(&mut self, peer: PeerId) {
        let Some(finding) = self.finding.remove(&peer) else { return };
        let error = match finding.failed {
            Some(reason) => ReachError::Unreachable { peer, reason },
            None => ReachError::Unknown(peer),
        };
        for reply in finding.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }

    pub(super) fn open(&mut self, peer: PeerId, protocol: StreamProtocol, reply: OpenReply) {
        if protocol == FILES {
            // A file takes longer than the time that a new connection is safe from being closed for one too many.
            self.inbox.push_back(peers::Event::Wanted(peer));
        }
        self.swarm.behaviour_mut().direct.open(peer, protocol, reply);
    }
}
