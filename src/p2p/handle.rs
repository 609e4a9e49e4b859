//! The way in: a cloneable handle on a running node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::address::AddressError;
use super::blocklist::{BlockedBy, MAX_BY_HAND};
use super::command::Command;
use super::direct::transfer::TransferInfo;
use super::direct::{DecideError, Desk, MessageError, SendFileError};
use super::event::{Event, EventStream};
use super::topics::{MAX_TEXT_BYTES, Message, Topic, as_text};
use super::waiting::{MAX_WAITING, MAX_WAITING_BYTES};

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
    /// Nobody is there, and no more can wait for somebody.
    #[error(
        "no connected peer is on {0}, and {MAX_WAITING} messages or {MAX_WAITING_BYTES} bytes wait there already; try again later"
    )]
    NobodyThere(Topic),
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
    /// Nobody was there: it waits a moment for somebody; an event tells what becomes of it.
    #[serde(default)]
    pub waiting: bool,
}

/// One joined topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Which.
    pub topic: Topic,
    /// The connected peers that have joined it.
    pub subscribers: Vec<String>,
    /// Those of them that every message is passed on to at once; the others ask for what they missed.
    pub mesh: Vec<String>,
    /// Messages of this node that wait for a subscriber.
    pub waiting: usize,
    /// Messages kept for those who look in later.
    pub messages: usize,
}

/// A peer that is kept away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedPeer {
    /// Who.
    #[serde(with = "as_text")]
    pub peer_id: PeerId,
    /// Who keeps it away.
    pub by: BlockedBy,
    /// For how much longer; `None`: for good.
    pub seconds_left: Option<u64>,
}

/// Why a peer could not be blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It is this node.
    #[error("that is this node itself")]
    Myself,
    /// [`MAX_BY_HAND`] are blocked already.
    #[error("{MAX_BY_HAND} peers are blocked already; unblock one first")]
    Full,
    /// See [`Gone`].
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name in the network.
    #[serde(with = "as_text")]
    pub peer_id: PeerId,
    /// Where it listens; each ends in `/p2p/<peer id>`.
    pub addresses: Vec<Multiaddr>,
    /// Where else others reach it: addresses of the configuration, and those that were confirmed from outside.
    #[serde(default)]
    pub external: Vec<Multiaddr>,
    /// Peers with at least one connection.
    pub connected_peers: usize,
    /// The joined topics, in alphabetical order.
    pub topics: Vec<Topic>,
    /// What was refused since the start, by kind.
    pub refused: BTreeMap<String, u64>,
    /// Peers that are kept away just now, by the user or because they sent too much or rubbish.
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

/// Whether a connection is direct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// From peer to peer.
    Direct,
    /// Through a relay.
    Relayed,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Who.
    #[serde(with = "as_text")]
    pub peer_id: PeerId,
    /// The address at its end of the connection.
    pub address: Multiaddr,
    /// What carries the connection, as in the metrics: `tcp`, `ws`, `wss`, `quic`, `webrtc`; for a relayed one, what carries it to
    /// the relay.
    pub transport: Option<String>,
    /// Whether a relay passes its bytes on.
    pub path: Path,
    /// Who opened the connection.
    pub direction: Direction,
    /// Bytes that protocols have sent to it since it is connected.
    pub bytes_sent: u64,
    /// … and received from it.
    pub bytes_received: u64,
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
    addresses: watch::Receiver<Vec<Multiaddr>>,
    desk: Arc<Desk>,
}

impl Handle {
    pub(crate) fn new(
        peer_id: PeerId,
        commands: mpsc::Sender<Command>,
        events: broadcast::WeakSender<Event>,
        addresses: watch::Receiver<Vec<Multiaddr>>,
        desk: Arc<Desk>,
    ) -> Self {
        Self { peer_id, commands, events, addresses, desk }
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

    /// Where the node can be reached, as it changes: where it listens, its places at relays, and then where else others reach it. Its
    /// sender is gone once the node has stopped.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.addresses.clone()
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

    /// Publishes `text` on a joined `topic`. Says how many peers it was handed to; with none, it waits for somebody for
    /// [`PATIENCE`](super::waiting::PATIENCE), and an event tells what became of it.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`] above 64 KiB; see [`PublishError`] for the rest.
    pub async fn publish(&self, topic: Topic, text: impl Into<String>) -> Result<Published, PublishError> {
        let text = text.into();
        self.ask(|reply| Command::Publish(topic, text, reply)).await?
    }

    /// The joined topics with their subscribers and mesh, in alphabetical order.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn topic_infos(&self) -> Result<Vec<TopicInfo>, Gone> {
        self.ask(Command::Topics).await
    }

    /// The last messages of a joined topic, at most `limit`, oldest first; `None` where it is not joined.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn past_messages(&self, topic: Topic, limit: usize) -> Result<Option<Vec<Arc<Message>>>, Gone> {
        self.ask(|reply| Command::PastMessages(topic, limit, reply)).await
    }

    /// Disconnects `peer` and keeps it away for `time`, or for good, across restarts too. Returns whether the latter could be
    /// written down.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub async fn block(&self, peer: PeerId, time: Option<Duration>) -> Result<bool, BlockError> {
        self.ask(|reply| Command::Block(peer, time, reply)).await?
    }

    /// Lets `peer` in again. Returns whether it was kept away.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn unblock(&self, peer: PeerId) -> Result<bool, Gone> {
        self.ask(|reply| Command::Unblock(peer, reply)).await
    }

    /// Who is kept away, by the user or by the node itself.
    ///
    /// # Errors
    /// [`Gone`] once the node has stopped.
    pub async fn blocked(&self) -> Result<Vec<BlockedPeer>, Gone> {
        self.ask(Command::Blocked).await
    }

    /// Sends `text` to `peer` alone, who is connected if need be, and waits until it has confirmed it. Gives the message's id.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn send_message(&self, peer: PeerId, text: impl Into<String>) -> Result<String, MessageError> {
        self.desk.send_message(peer, text.into()).await
    }

    /// Begins to send a regular file to `peer`; what becomes of it comes as events.
    ///
    /// # Errors
    /// See [`SendFileError`].
    pub async fn send_file(
        &self,
        peer: PeerId,
        path: impl Into<PathBuf>,
    ) -> Result<TransferInfo, SendFileError> {
        self.desk.send_file(peer, path.into()).await
    }

    /// The files that are on their way in both directions, and the last that have ended.
    #[must_use]
    pub fn transfers(&self) -> Vec<TransferInfo> {
        self.desk.transfers()
    }

    /// Accepts or refuses a file that a peer offers.
    ///
    /// # Errors
    /// See [`DecideError`].
    pub fn decide_file(&self, id: u64, accept: bool) -> Result<TransferInfo, DecideError> {
        self.desk.decide(id, accept)
    }

    /// Ends a file's transfer, in either direction.
    ///
    /// # Errors
    /// See [`DecideError`].
    pub fn cancel_file(&self, id: u64) -> Result<TransferInfo, DecideError> {
        self.desk.cancel(id)
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
