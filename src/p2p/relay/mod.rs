//! Circuit relay v2: passing bytes on for peers that cannot reach each other, and asking others to do so.
//!
//! [`Server`] is what a bootnode does, within the limits of [`RelayConfig`]; [`Places`] decides, without clock or socket, at which
//! relays a node keeps a place of its own.

mod config;
mod places;
mod server;

pub use config::RelayConfig;
pub(crate) use places::{Action, Event, Places, Wish};
pub(crate) use server::Server;

/// The protocol that a peer speaks if it is a relay.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::relay::HOP_PROTOCOL_NAME;
