//! The web server: the pages of the browser client, embedded in the binary, and what they need to know.
//!
//! [`pages`] is the table of everything that can be fetched, [`headers`] what every answer says to protect
//! the visitor, [`server`] listens. Knows nothing of signaling but where it is.

pub mod config;
pub mod headers;
pub mod pages;
pub mod server;

pub use config::WebConfig;
pub use server::WebServer;
