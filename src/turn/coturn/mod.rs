//! Debian's coturn, seen from outside: the file that configures it, and what its log tells. Pure; who runs it is a role.

pub mod config;
pub mod log;
