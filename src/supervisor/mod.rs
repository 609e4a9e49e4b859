//! The supervisor.
pub mod exit;
pub mod fleet;
pub mod lifecycle;
pub mod logs;
pub mod notify;
pub mod spawn;
pub mod state_dir;
