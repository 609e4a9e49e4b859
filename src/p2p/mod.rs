//! The libp2p node.
pub mod config;
