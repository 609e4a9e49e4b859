//! Hippius runs a peer-to-peer network from one TOML file.
//!
//! ```text
//!                     topology/local.toml
//!                             │ parse → validate → plan               topology/
//!                             ▼
//!  hippius up ──────► ┌───────────────┐  unix socket, HTTP + JSON     cli/  control/
//!  hippius status ──► │  supervisor   │◄───────────────────────────►  supervisor/
//!                     │ one lifecycle │  OTLP from every child, 1 s
//!                     │  per process  │◄──────────────┐               telemetry/
//!                     └───────┬───────┘               │  ──► :9091/metrics, /stats
//!          spawn, notify, logs│                       │
//!        ┌──────────┬─────────┴───┬───────────┐       │
//!        ▼          ▼             ▼           ▼       │               roles/
//!    bootnode    node-0 …     signaling      web, turn ┘
//!    p2p/        p2p/         signaling/     web/, turn/
//! ```
//!
//! Arrows of dependency run one way:
//! `cli → {supervisor, roles} → {topology, p2p, signaling, turn, web} → {telemetry, control}`.
//! A domain module never imports a role, and nothing imports `cli`. `token_bucket` imports nothing and serves everybody; `tls`, beside the domains, serves
//! those that listen.
//!
//! Where correctness is hard (a process's life, the signaling hub, the metric store) the logic is a
//! plain struct without clock, socket or task; a thin loop around it owns the I/O.

pub mod cli;
pub mod control;
pub mod p2p;
pub mod roles;
pub mod signaling;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod token_bucket;
pub mod topology;
pub mod turn;
pub mod web;
