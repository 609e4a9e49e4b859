//! What a [`Handle`](super::Handle) can ask of the runner; each with the place its answer goes.

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;

use super::direct::ReachError;
use super::direct::streams::OpenReply;
use super::handle::{
    BlockError, BlockedPeer, ConnectError, JoinError, PeerInfo, PublishError, Published, Status, TopicInfo,
};
use super::topics::{Message, Topic};

/// Commands waiting for the runner; a caller waits when it is full.
pub(crate) const COMMAND_QUEUE: usize = 64;

/// One request.
#[derive(Debug)]
pub(crate) enum Command {
    /// See [`Handle::status`](super::Handle::status).
    Status(oneshot::Sender<Status>),
    /// See [`Handle::peers`](super::Handle::peers).
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    /// See [`Handle::connect`](super::Handle::connect).
    Connect(Multiaddr, oneshot::Sender<Result<PeerId, ConnectError>>),
    /// See [`Handle::disconnect`](super::Handle::disconnect).
    Disconnect(PeerId, oneshot::Sender<bool>),
    /// See [`Handle::join`](super::Handle::join).
    Join(Topic, oneshot::Sender<Result<bool, JoinError>>),
    /// See [`Handle::leave`](super::Handle::leave).
    Leave(Topic, oneshot::Sender<bool>),
    /// See [`Handle::publish`](super::Handle::publish).
    Publish(Topic, String, oneshot::Sender<Result<Published, PublishError>>),
    /// See [`Handle::topic_infos`](super::Handle::topic_infos).
    Topics(oneshot::Sender<Vec<TopicInfo>>),
    /// See [`Handle::past_messages`](super::Handle::past_messages).
    PastMessages(Topic, usize, oneshot::Sender<Option<Vec<Arc<Message>>>>),
    /// See [`Handle::block`](super::Handle::block).
    Block(PeerId, Option<Duration>, oneshot::Sender<Result<bool, BlockError>>),
    /// See [`Handle::unblock`](super::Handle::unblock).
    Unblock(PeerId, oneshot::Sender<bool>),
    /// See [`Handle::blocked`](super::Handle::blocked).
    Blocked(oneshot::Sender<Vec<BlockedPeer>>),
    /// Connects a peer, wherever it is.
    Find(PeerId, oneshot::Sender<Result<(), ReachError>>),
    /// Opens a stream to a connected peer; without a connection there is no answer.
    Open(PeerId, StreamProtocol, OpenReply),
    /// See [`Handle::shutdown`](super::Handle::shutdown).
    Shutdown(oneshot::Sender<()>),
}
