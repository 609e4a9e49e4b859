//! The role `web`: serves the pages of the web client.

use std::time::Duration;

use super::runtime::{Context, Facts, RoleError, Started, tcp_listener};
use crate::telemetry::instruments::{TlsInstruments, WebInstruments, observe_refused_connections};
use crate::web::config::WebConfig;
use crate::web::server::WebServer;

/// Time for replies under way when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a web server.
///
/// # Errors
/// When its address cannot be listened on, or the files of its configuration cannot be used.
pub async fn start(context: Context, config: WebConfig) -> Result<Started, RoleError> {
    let listener = tcp_listener(context.listener, config.listen).await?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let (own, tls) = (WebInstruments::new(&context.meter), TlsInstruments::new(&context.meter));
    let server = WebServer::start(listener, config, own, tls).map_err(RoleError::fatal)?;
    observe_refused_connections(&context.meter, server.refused_counter());
    Ok(Started {
        facts: Facts { peer_id: None, addresses: vec![format!("{scheme}://{}", server.local_addr())] },
        admin: None,
        beside: None,
        stop: Box::pin(server.shutdown(DRAIN)),
    })
}
