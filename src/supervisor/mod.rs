//! Spawns every process of a plan, watches and restarts it, keeps its logs, and gathers the telemetry of all.
//!
//! ```text
//!  events: exits, notices, commands, time ──► fleet (pure) ──► orders: spawn, terminate, kill
//!                                               └─ lifecycle, one per process (pure)
//!  core    the loop that owns the children and carries out orders     start    opens everything first
//!  spawn   fork and exec      notify   readiness and watchdog         launch   what a child is told
//!  strays  what they leave behind       names    whom a command means
//!  logs    their output       sockets  handed down to them            api, handle, wire   the control API
//! ```

mod api;
mod core;
pub mod exit;
pub mod fleet;
pub mod handle;
pub mod launch;
pub mod lifecycle;
pub mod logs;
mod names;
pub mod notify;
pub mod sockets;
pub mod spawn;
pub mod start;
pub mod state_dir;
mod strays;
pub mod turn;
pub mod wire;
