//! The libp2p node: identity, connections, topics.
//!
//! ```text
//!   Handle ──commands (bounded)──► Runner ── owns ──► Swarm ── Behaviour
//!     ▲                              │  │                        ├ connection limits
//!     └── events (bounded broadcast)─┘  │                        ├ scout: Kademlia that never dials
//!                                       ├ peers::Manager (pure)  ├ identify, ping
//!                                       ├ limits, topics (pure)  ├ gossip: gossipsub, and who is kept away
//!                                       └ Desk: messages, files  └ direct: their streams
//! ```
//!
//! One task owns the swarm; everybody else holds a [`Handle`]. Who is dialled and who is closed is decided by
//! [`peers::Manager`], which knows neither clock nor socket. This room knows nothing of roles, HTTP or the terminal.

pub mod address;
mod behaviour;
pub mod blocklist;
mod boxed;
pub mod command;
pub mod config;
pub mod direct;
pub mod event;
mod gossip;
pub mod handle;
pub mod history;
pub mod identity;
mod kept;
pub mod known;
pub mod limits;
mod mdns;
mod metrics;
mod nat;
mod neighbours;
mod pass_on;
pub mod peers;
pub mod relay;
mod reticent;
mod runner;
mod scout;
mod start;
pub mod topics;
pub mod transport;
pub mod waiting;

pub use blocklist::BlockedBy;
pub use config::NodeConfig;
pub use direct::transfer::{TransferInfo, TransferState};
pub use event::{Event, EventStream, GivenUp};
pub use handle::{
    BlockError, BlockedPeer, ConnectError, Gone, Handle, JoinError, PeerInfo, PublishError, Published,
    Status, TopicInfo,
};
pub use identity::{Identity, IdentityError};
pub use limits::NodeRole;
pub use start::{Node, StartError, start};
pub use topics::{Message, Topic, TopicError};
