//! The configuration of the web server.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tls::CertificateFiles;
use crate::turn::ice::IceSource;

/// The `[web]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Address to listen on where no socket is handed down. Default `127.0.0.1:3000`.
    pub listen: SocketAddr,
    /// Port of the signaling server; the page reaches it on the host name the page itself was loaded from.
    /// `None`: there is no signaling server and the page says so.
    pub signaling_port: Option<u16>,
    /// Whether the signaling server speaks TLS. A page of https takes it for granted. Default: no.
    pub signaling_tls: bool,
    /// The certificate with which it speaks TLS (`https`), in PEM files that are read again when they change. Default: none, plain `http`.
    pub tls: Option<CertificateFiles>,
    /// The file with the secrets that sign the signaling server's tokens: who asks for STUN and TURN servers must bring one, too. Default:
    /// none, everybody is told.
    pub token_secret_file: Option<PathBuf>,
    /// A folder whose files are served instead of the pages in the program. Default: none.
    pub pages: Option<PathBuf>,
    /// The STUN and TURN servers that pages are told of. Default: none.
    pub ice: Vec<IceSource>,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            signaling_port: Some(8001),
            signaling_tls: false,
            tls: None,
            token_secret_file: None,
            pages: None,
            ice: Vec::new(),
        }
    }
}
