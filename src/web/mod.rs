//! The web server: the pages of the browser client, embedded in the binary or in a folder, and what they need to know.
//!
//! [`pages`] are those in the binary, [`site`] is the table of everything that can be fetched, [`encoding`] says who gets it compressed, [`headers`] what every answer says to protect
//! the visitor, [`server`] listens. Knows nothing of signaling but where it is.

pub mod config;
pub mod encoding;
pub mod headers;
pub mod ice;
pub mod pages;
pub mod server;
pub mod site;

pub use config::WebConfig;
pub use server::WebServer;
