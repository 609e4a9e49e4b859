//! Telemetry.
pub mod instruments;
