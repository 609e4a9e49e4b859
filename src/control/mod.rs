//! HTTP between processes: a bounded server and a small client, over unix sockets and TCP.
//!
//! Used by the supervisor's control API, by every role's admin socket and, for TCP, by the metrics, web and
//! signaling servers. Knows nothing of what is served. Beside them what every end of such a line needs: text of others made
//! fit to be shown, and a word for who mistyped a name.

pub mod client;
pub mod host;
pub mod http;
pub mod nearest;
pub mod percent;
pub mod places;
pub mod printable;
pub(crate) mod seats;
pub mod socket;
