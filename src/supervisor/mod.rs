//! The supervisor.
pub mod exit;
pub mod fleet;
pub mod lifecycle;
pub mod notify;
pub mod spawn;
