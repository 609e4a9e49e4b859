//! What a child process does: one file per role, and the runtime that all share.
//!
//! A role is started as `hippius <role> --config FILE`, by the supervisor, systemd, a container or a person.

pub mod admin;
pub mod collector;
pub mod config;
pub mod logging;
pub mod node;
pub mod node_admin;
pub mod notify;
pub mod runtime;
pub mod signaling;
pub mod turn;
pub mod web;
