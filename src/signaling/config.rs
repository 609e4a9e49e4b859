//! The configuration of a signaling server.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The `[signaling]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalingConfig {
    /// Address to listen on where no socket is handed down. Default `127.0.0.1:8001`.
    pub listen: SocketAddr,
    /// How many clients are served at once; one more is refused. Default 10,000.
    pub max_clients: u32,
}

impl Default for SignalingConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8001)), max_clients: 10_000 }
    }
}
