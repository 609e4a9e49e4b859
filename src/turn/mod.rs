//! The embedded STUN and TURN server (RFC 8489, RFC 8656): a relay for those whom no direct path connects.
//!
//! Knows nothing of roles, processes or topologies.

pub mod cidr;
pub mod config;
pub mod credentials;
pub mod figures;
pub mod server;

pub use config::TurnConfig;
pub use figures::TurnFigures;
pub use server::TurnServer;
