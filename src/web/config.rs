//! The configuration of the web server.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The `[web]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Address to listen on where no socket is handed down. Default `127.0.0.1:3000`.
    pub listen: SocketAddr,
    /// Port of the signaling server; the page reaches it on the host name the page itself was loaded from.
    /// `None`: there is no signaling server and the page says so.
    pub signaling_port: Option<u16>,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 3000)), signaling_port: Some(8001) }
    }
}
