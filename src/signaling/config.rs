//! The configuration of a signaling server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::origin::AllowedOrigin;
use crate::tls::CertificateFiles;
use crate::turn::ice::IceSource;

/// The `[signaling]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalingConfig {
    /// Address to listen on where no socket is handed down. Default `127.0.0.1:8001`.
    pub listen: SocketAddr,
    /// Whose pages may connect besides those of the same host. Default: nobody else's.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// The certificate with which it speaks TLS (`wss`), in PEM files that are read again when they change. Default: none, plain `ws`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateFiles>,
    /// A file with the secrets, one a line, that sign the tokens without which nobody registers. Default: none, everybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret_file: Option<PathBuf>,
    /// How many clients are served at once; one more is refused. Default 10,000.
    pub max_clients: u32,
    /// How many clients one address may have, an IPv6 address standing for its /64. Default 256: an office
    /// behind one address fits, a single stranger does not fill the server.
    pub max_per_address: u32,
    /// How many peers one room holds. Default 1,000, because everyone hears of everyone in a room.
    pub max_room_peers: u32,
    /// Time from the connection to the request for the WebSocket, and from that to a `Register`. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub register_timeout: Duration,
    /// Time between two pings. Default 20 s, below the 30 s after which many NATs forget an idle flow.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A client silent for this long is gone. Default 45 s: two pings unanswered.
    #[serde(with = "humantime_serde")]
    pub silence_timeout: Duration,
    /// How long a peer that lost its connection keeps its place for a resume. Default 3 s, enough for a reload.
    #[serde(with = "humantime_serde")]
    pub resume_grace: Duration,
    /// Longest time one write to a client may take. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Messages a client may send, sustained. Default 50 a second.
    pub messages_per_second: u32,
    /// Messages a client may send at once. Default 300: a dozen new connections with their candidates.
    pub message_burst: u32,
    /// Bytes a client may send, sustained. Default 256 KiB a second.
    pub bytes_per_second: u32,
    /// Bytes a client may send at once. Default 1 MiB.
    pub byte_burst: u32,
    /// Clients of one address that may join rooms, so that those in them are told, sustained. Default 2 a second.
    pub joins_per_second: u32,
    /// The same at once. Default 300: all clients of an address come back after a restart of the server.
    pub join_burst: u32,
    /// Messages that may wait for one client. Default 2,048: everyone in a full room coming and going at once.
    pub queue_messages: u32,
    /// Bytes that may wait for one client. Default 1 MiB.
    pub queue_bytes: u32,
    /// The STUN and TURN servers that clients are told of when they register. Default: none.
    pub ice: Vec<IceSource>,
}

impl Default for SignalingConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            allowed_origins: Vec::new(),
            tls: None,
            token_secret_file: None,
            max_clients: 10_000,
            max_per_address: 256,
            max_room_peers: 1_000,
            register_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(45),
            resume_grace: Duration::from_secs(3),
            write_timeout: Duration::from_secs(10),
            messages_per_second: 50,
            message_burst: 300,
            bytes_per_second: 256 * 1024,
            byte_burst: 1024 * 1024,
            joins_per_second: 2,
            join_burst: 300,
            queue_messages: 2_048,
            queue_bytes: 1024 * 1024,
            ice: Vec::new(),
        }
    }
}
