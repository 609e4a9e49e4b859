//! The role `signaling`: the WebSocket hub through which browsers find each other.

use std::time::Duration;

use super::runtime::{Context, Facts, RoleError, Started, tcp_listener};
use crate::signaling::{PATH, SignalingConfig, SignalingServer};
use crate::telemetry::instruments::{SignalingInstruments, TlsInstruments};

/// Time for clients to take leave when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a signaling server.
///
/// # Errors
/// When its address cannot be listened on, or the files of its configuration cannot be used.
pub async fn start(context: Context, config: SignalingConfig) -> Result<Started, RoleError> {
    let listener = tcp_listener(context.listener, config.listen).await?;
    let scheme = if config.tls.is_some() { "wss" } else { "ws" };
    let (own, tls) = (SignalingInstruments::new(&context.meter), TlsInstruments::new(&context.meter));
    let server = SignalingServer::start(listener, config, own, tls).map_err(RoleError::fatal)?;
    Ok(Started {
        facts: Facts { peer_id: None, addresses: vec![format!("{scheme}://{}{PATH}", server.local_addr())] },
        admin: None,
        beside: None,
        stop: Box::pin(server.shutdown(DRAIN)),
    })
}
