//! The sockets of the relay, and the loops that carry out what the engine decides.
//!
//! ```text
//!   UDP ─────────────┐
//!   relay sockets ───┤ worker: one thread, one epoll, one engine; packets are received and sent in batches
//!   TCP, TLS ─ task ─┘ commands; answers through a bounded queue for each connection
//! ```
//!
//! Each worker has its own engine with its own part of the clients: the kernel spreads the datagrams of a listening address over the
//! workers' sockets by their source, so that a client always meets the same one. Connections are spread by their number.

pub(super) mod batch;
mod errors;
pub(super) mod sockets;
pub(super) mod stream;
pub(super) mod worker;
