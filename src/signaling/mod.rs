//! The WebRTC signaling server.
pub mod config;
