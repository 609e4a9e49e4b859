//! The embedded STUN and TURN server (RFC 8489, RFC 8656): a relay for those whom no direct path connects.
//!
//! ```text
//!   UDP, TCP, TLS ──► io ──packets──► engine ──► io ──► relay sockets ──► peers
//!                 sockets, threads    pure: no clock, socket or task
//! ```
//!
//! [`engine`] decides, [`filter`] says whom may be reached, [`credentials`] are those for browsers, [`figures`] tell what is relayed,
//! `io` has the sockets, [`server`] is the whole. Knows nothing of roles, processes or topologies.

pub mod cidr;
pub mod config;
pub mod coturn;
pub mod credentials;
pub mod endings;
pub mod engine;
pub mod figures;
pub mod filter;
mod frame;
pub mod ice;
mod integrity;
mod io;
mod nonce;
mod ports;
pub mod probe;
mod quota;
pub mod secret;
pub mod server;
mod strangers;
pub mod url;

pub use config::TurnConfig;
pub use figures::TurnFigures;
pub use server::TurnServer;
