//! What tests of the signaling server share.
#![allow(dead_code)] // Each test binary uses a part.

pub mod client;
pub mod metrics;
