//! The way in: a cloneable handle on a running node.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::address::AddressError;
use super::command::Command;
use super::event::{Event, EventStream};
use super::topics::{MAX_TEXT_BYTES, Topic, as_text};

/// Topics that one node may join.
pub const MAX_TOPICS: usize = 64;

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Gone;

/// Why a peer could not be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address is this node's own.
    #[error("{0} is this node itself")]
    Myself(Multiaddr),
    /// Not the address of a node that could be dialled.
    #[error(
        "\"{address}\" {reason}, so it cannot be dialled; good ones are /ip4/127.0.0.1/tcp/4002 or /dns4/example.org/udp/4002/quic-v1/p2p/PEER_ID"
    )]
    Unsupported {
        /// The address.
        address: Multiaddr,
        /// What is wrong with it.
        reason: AddressError,
    },
    /// The dial failed.
    #[error("cannot connect to {address}: {reason}")]
    Failed {
        /// What was dialled.
        address: Multiaddr,
        /// What went wrong.
        reason: String,
    },
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a topic could not be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// [`MAX_TOPICS`] are joined already.
    #[error("a node joins at most {MAX_TOPICS} topics; leave one first")]
    TooMany,
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a text could not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The node has not joined the topic: most often a slip in its name.
    #[error("topic {0} is not joined; join it first")]
    NotJoined(Topic),
    /// Over [`MAX_TEXT_BYTES`], or so full of control characters that its encoding is too long.
    #[error("the text is too long: at most {MAX_TEXT_BYTES} bytes go into one message")]
    TooLarge,
    /// Faster than the other nodes accept from one author.
    #[error("too many messages in a short time; the other nodes would drop this one")]
    TooFast,
    /// The queues to all peers are full.
    #[error("the peers do not take messages fast enough; try again later")]
    Busy,
    /// The node could not sign the message, or gossipsub refused it for a reason of its own.
    #[error("the message could not be published: {0}")]
    Failed(String),
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The message's id.
    pub id: String,
    /// How many peers it was handed to; they pass it on to others.
    pub peers: usize,
}

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name in the network.
    #[serde(with = "as_text")]
    pub peer_id: PeerId,
    /// Where it listens; each ends in `/p2p/<peer id>`.
    pub addresses: Vec<Multiaddr>,
    /// Peers with at least one connection.
    pub connected_peers: usize,
    /// The joined topics, in alphabetical order.
    pub topics: Vec<Topic>,
    /// What was refused since the start, by kind.
    pub refused: BTreeMap<String, u64>,
    /// Peers that are kept away just now, because they sent too much or rubbish.
    pub blocked: usize,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Who.
    #[serde(with = "as_text")]
    pub peer_id: PeerId,
    /// The address at its end of the connection.
    pub address: Multiaddr,
    /// Who opened the connection.
    pub direction: Direction,
    /// Connections with this peer: 1, or 2 for a moment after both sides dialled each other.
    pub connections: usize,
    /// Unix time in seconds.
    pub connected_since: u64,
    /// Last round trip, in milliseconds; `None` before the first ping came back.
    pub latency_ms: Option<f64>,
    /// What program the peer says it is.
    pub agent: Option<String>,
    /// Whether it is one of the configured bootnodes.
    pub bootnode: bool,
    /// The topics it has joined, in alphabetical order.
    pub topics: Vec<String>,
}

/// A handle on a running node. Clones reach the same node; when the last one is dropped, the node stops.
#[derive(Debug, Clone)]
pub struct Handle {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    events: broadcast::WeakSender<Event>,
}

impl Handle {
    pub(crate) fn new(
        peer_id: PeerId,
        commands: mpsc::Sender<Command>,
        events: broadcast::WeakSender<Event>,
    ) -> Self {
        Self { peer_id, commands, events }
    }

    /// The node's name in the network.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The node at a glance.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn status(&self) -> Result<Status, Gone> {
        self.ask(Command::Status).await
    }

    /// Where the node listens; each address ends in `/p2p/<peer id>`.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, Gone> {
        self.status().await.map(|status| status.addresses)
    }

    /// The connected peers, those connected longest first.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, Gone> {
        self.ask(Command::Peers).await
    }

    /// The joined topics, in alphabetical order.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn topics(&self) -> Result<Vec<Topic>, Gone> {
        self.status().await.map(|status| status.topics)
    }

    /// Connects to the peer at `address` and returns who it is. The connection manager will not trim this peer.
    ///
    /// # Errors
    /// [`ConnectError::Failed`] when nobody answers there within 10 s, or another peer than the address names.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ConnectError> {
        self.ask(|reply| Command::Connect(address, reply)).await?
    }

    /// Closes all connections with `peer` and does not dial it for a minute. Returns whether there were any.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn disconnect(&self, peer: PeerId) -> Result<bool, Gone> {
        self.ask(|reply| Command::Disconnect(peer, reply)).await
    }

    /// Joins `topic`: its messages arrive as events from now on. Returns whether it was not joined before.
    ///
    /// # Errors
    /// [`JoinError::TooMany`] above [`MAX_TOPICS`].
    pub async fn join(&self, topic: Topic) -> Result<bool, JoinError> {
        self.ask(|reply| Command::Join(topic, reply)).await?
    }

    /// Leaves `topic`. Returns whether it was joined.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn leave(&self, topic: Topic) -> Result<bool, Gone> {
        self.ask(|reply| Command::Leave(topic, reply)).await
    }

    /// Publishes `text` on a joined `topic`. Says how many peers it was handed to; 0 is not an error.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`] above 64 KiB; see [`PublishError`] for the rest.
    pub async fn publish(&self, topic: Topic, text: impl Into<String>) -> Result<Published, PublishError> {
        let text = text.into();
        self.ask(|reply| Command::Publish(topic, text, reply)).await?
    }

    /// All events from now on.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub fn subscribe_events(&self) -> Result<EventStream, Gone> {
        self.events.upgrade().map(|events| EventStream(events.subscribe())).ok_or(Gone)
    }

    /// Closes all connections and stops the node; returns once it has stopped.
    pub async fn shutdown(&self) {
        // A node that is gone already has shut down.
        let _ = self.ask(Command::Shutdown).await;
        self.commands.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
