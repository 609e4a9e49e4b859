//! The role `web`: serves the pages of the web client.

use std::time::Duration;

use super::runtime::{Context, Facts, RoleError, Started, tcp_listener};
use crate::telemetry::instruments::{WebInstruments, observe_refused_connections};
use crate::web::config::WebConfig;
use crate::web::server::WebServer;

/// Time for replies under way when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a web server.
///
/// # Errors
/// When its address cannot be listened on.
pub async fn start(context: Context, config: WebConfig) -> Result<Started, RoleError> {
    let listener = tcp_listener(context.listener, config.listen).await?;
    let server = WebServer::start(listener, config, WebInstruments::new(&context.meter));
    observe_refused_connections(&context.meter, server.refused_counter());
    Ok(Started {
        facts: Facts { peer_id: None, addresses: vec![format!("http://{}", server.local_addr())] },
        admin: None,
        beside: None,
        stop: Box::pin(server.shutdown(DRAIN)),
    })
}
