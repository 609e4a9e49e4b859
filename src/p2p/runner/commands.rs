//! Commands of the handles.

use std::time::Instant;

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use opentelemetry::KeyValue;
use tokio::sync::oneshot;

use super::{Connecting, Runner, connections, dials};
use crate::p2p::command::Command;
use crate::p2p::event::GivenUp;
use crate::p2p::handle::{ConnectError, JoinError, MAX_TOPICS, Status};
use crate::p2p::topics::Topic;
use crate::p2p::{address, peers};

impl Runner {
    /// Carries out a command. Whoever asked may have gone; then nobody wants the answer.
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Command::Peers(reply) => {
                let _ = reply.send(self.peer_infos());
            }
            Command::Connect(address, reply) => self.connect(address, reply),
            Command::Disconnect(peer, reply) => {
                let connected = self.swarm.disconnect_peer_id(peer).is_ok();
                self.inbox.push_back(peers::Event::Unwanted(peer));
                let _ = reply.send(connected);
            }
            Command::Join(topic, reply) => {
                let _ = reply.send(self.join(topic));
            }
            Command::Leave(topic, reply) => {
                let joined = self.topics.remove(&topic);
                if joined {
                    self.swarm.behaviour_mut().gossip.leave(&topic);
                    self.memory.history.forget(&topic);
                    self.give_up(&topic, GivenUp::Left);
                    self.inbox.push_back(peers::Event::Left(topic));
                }
                let _ = reply.send(joined);
            }
            Command::Publish(topic, text, reply) => {
                let _ = reply.send(self.publish(topic, text));
            }
            Command::Topics(reply) => {
                let _ = reply.send(self.topic_infos());
            }
            Command::PastMessages(topic, limit, reply) => {
                let _ = reply.send(self.past_messages(&topic, limit));
            }
            Command::Block(peer, time, reply) => self.block(peer, time, reply),
            Command::Unblock(peer, reply) => self.unblock(peer, reply),
            Command::Blocked(reply) => {
                let _ = reply.send(self.blocked());
            }
            Command::Find(peer, reply) => self.find(peer, reply),
            Command::Open(peer, protocol, reply) => self.open(peer, protocol, reply),
            Command::Shutdown(reply) => drop(reply),
        }
    }

    fn status(&self) -> Status {
        let addresses = self.listening_addresses();
        Status {
            peer_id: *self.swarm.local_peer_id(),
            external: self.external_addresses(&addresses),
            addresses,
            connected_peers: self.peers.len(),
            topics: self.topics.iter().cloned().collect(),
            refused: self.refusals.counts(),
            blocked: self.swarm.behaviour().gossip.blocklist(|list| list.count(Instant::now())),
        }
    }

    fn join(&mut self, topic: Topic) -> Result<bool, JoinError> {
        if self.topics.contains(&topic) {
            return Ok(false);
        }
        if self.topics.len() >= MAX_TOPICS {
            return Err(JoinError::TooMany);
        }
        // Telling the peers may fail for a full queue; the topic is joined nevertheless and they are told later.
        let _ = self.swarm.behaviour_mut().gossip.join(&topic);
        let members = self.swarm.behaviour().gossip.subscribers(&topic);
        self.inbox.push_back(peers::Event::Joined(topic.clone(), members));
        self.topics.insert(topic);
        Ok(true)
    }

    fn connect(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PeerId, ConnectError>>) {
        let named = match address::parse_dial(&address) {
            Ok(named) => named,
            Err(reason) => {
                let _ = reply.send(Err(ConnectError::Unsupported { address, reason }));
                return;
            }
        };
        if let Some(peer) = named {
            if peer == *self.swarm.local_peer_id() {
                let _ = reply.send(Err(ConnectError::Myself(address)));
                return;
            }
            if self.peers.contains_key(&peer) {
                self.inbox.push_back(peers::Event::Wanted(peer));
                let _ = reply.send(Ok(peer));
                return;
            }
        }
        let options = match named {
            // The manager may be dialling the peer, but at another address: both may go on.
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Disconnected)
                .addresses(vec![address.clone()])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build(),
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.connecting.insert(id, Connecting { address, reply });
            }
            Err(error) => {
                self.instruments.dials.add(1, &[KeyValue::new("result", dials::result(&error))]);
                let reason = connections::describe(&error);
                let _ = reply.send(Err(match error {
                    // The swarm leaves out the addresses that it listens on itself, and nothing else.
                    DialError::NoAddresses => ConnectError::Myself(address),
                    _ => ConnectError::Failed { address, reason },
                }));
            }
        }
    }
}
