//! The topology.
pub mod plan;
