//! Roles.
pub mod config;
