//! The role `signaling`: the WebSocket hub through which browsers find each other.

use std::time::Duration;

use super::runtime::{Context, Facts, RoleError, Started, tcp_listener};
use crate::signaling::{PATH, SignalingConfig, SignalingServer};
use crate::telemetry::instruments::SignalingInstruments;

/// Time for clients to take leave when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a signaling server.
///
/// # Errors
/// When its address cannot be listened on.
pub async fn start(context: Context, config: SignalingConfig) -> Result<Started, RoleError> {
    let listener = tcp_listener(context.listener, config.listen).await?;
    let server = SignalingServer::start(listener, config, SignalingInstruments::new(&context.meter));
    Ok(Started {
        facts: Facts { peer_id: None, addresses: vec![format!("ws://{}{PATH}", server.local_addr())] },
        admin: None,
        beside: None,
        stop: Box::pin(server.shutdown(DRAIN)),
    })
}
