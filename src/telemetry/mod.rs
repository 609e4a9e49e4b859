//! Measurements: what is measured, how it travels, and how it is shown.
//!
//! ```text
//!  a role process                               the supervisor, or the collector role
//!  ┌───────────────────────────┐                ┌──────────────────────────────────────────────┐
//!  │ instruments  host         │  OTLP/HTTP     │ receiver ─► ingest ─► snapshot ─► store      │
//!  │      └─► export ─► push ──┼── protobuf ───►│ supervisor, host (own figures) ─► registry   │
//!  └───────────────────────────┘  once a second │ exposition ─► text, stats ─► /metrics /stats │
//!                                               └──────────────────────────────────────────────┘
//! ```
//!
//! [`catalogue`] holds every name. [`store`] and [`snapshot`] are pure. Nothing in here knows what a process
//! does or how it is started.

pub mod catalogue;
pub mod collector;
pub mod export;
pub mod exposition;
mod families;
pub mod host;
mod ingest;
pub mod instruments;
mod naming;
mod points;
mod push;
pub mod receiver;
pub mod refusal;
pub mod snapshot;
pub mod stats;
pub mod store;
pub mod supervisor;
mod template;
mod text;
pub mod token;
mod wire;
