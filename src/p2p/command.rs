//! What a [`Handle`](super::Handle) can ask of the runner; each with the place its answer goes.

use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::handle::{ConnectError, JoinError, PeerInfo, PublishError, Published, Status};
use super::topics::Topic;

/// Commands waiting for the runner; a caller waits when it is full.
pub(crate) const COMMAND_QUEUE: usize = 64;

/// One request.
#[derive(Debug)]
pub enum Command {
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
    /// See [`Handle::shutdown`](super::Handle::shutdown).
    Shutdown(oneshot::Sender<()>),
}
