//! The WebRTC signaling server: who is in a room, and the offers, answers and candidates between them.
//!
//! ```text
//!  WebSocket ──► session ──event──► hub ──actions──► outboxes ──► sessions ──► WebSockets
//!                limits             pure: no clock, socket or task
//! ```
//!
//! [`wire`] is the protocol as types, [`hub`] decides, [`limits`] bounds what a client may do, [`origin`] says whose pages
//! may connect, [`token`] who may
//! register where that is asked for, `joins` how often, `session` is the task of one WebSocket, `relayed` is the quick way for what is only passed on, `shared` carries out what the hub decides, `door` bounds who is let in at all, [`server`] answers them. The
//! protocol is described in `docs/signaling.md`. Knows nothing of roles, processes or web pages.

pub mod config;
mod door;
pub mod hub;
mod joins;
pub mod limits;
pub mod names;
pub mod origin;
mod presence;
mod refusal;
mod relayed;
mod reports;
pub mod secrets;
pub mod server;
mod session;
mod shared;
pub mod token;
pub mod wire;

pub use config::SignalingConfig;
pub use server::SignalingServer;
pub use wire::PATH;
