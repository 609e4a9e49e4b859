//! Roles.
pub mod config;
pub mod node_admin;
