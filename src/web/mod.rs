//! The web server.
pub mod config;
