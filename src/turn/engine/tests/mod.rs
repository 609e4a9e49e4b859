//! The engine's rules, one behaviour a test, without sockets or waiting.

mod allocations;
mod bad_input;
mod credentials;
mod random;
mod relaying;
mod unreachable;
mod world;
