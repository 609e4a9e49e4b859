//! `engine = "external"`: servers elsewhere. There is nothing to run, but somebody should say when they do not answer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::roles::runtime::{Context, Facts, RoleError, Started};
use crate::turn::probe;
use crate::turn::url::{Scheme, ServerUrl, Transport};

/// Between two questions to each server.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches the servers at `urls`. It is ready at once: whether they answer is not up to it.
pub(super) fn start(context: &Context, urls: &[String]) -> Result<Started, RoleError> {
    let parsed: Result<Vec<ServerUrl>, _> =
        urls.iter().map(|url| url.parse().map_err(|error| format!("\"{url}\" is no URL: {error}"))).collect();
    let servers = parsed.map_err(RoleError::fatal)?;
    if servers.is_empty() {
        return Err(RoleError::fatal(
            "no external server is named; write its URLs into config/turn_config.json (docs/TURN_SERVER_SETUP.md)",
        ));
    }
    // A question by UDP is enough to know that a server is there; those that speak TLS alone are not asked.
    let asked: Vec<ServerUrl> = servers
        .into_iter()
        .filter(|url| url.transport == Transport::Udp && url.scheme != Scheme::Turns)
        .collect();
    Ok(Started {
        facts: Facts { peer_id: None, addresses: urls.to_vec() },
        admin: None,
        beside: Some(Box::pin(watch(asked, context.stop.clone()))),
        stop: Box::pin(async {}),
    })
}

async fn watch(servers: Vec<ServerUrl>, stop: CancellationToken) {
    let mut answered: Vec<Option<bool>> = vec![None; servers.len()];
    let mut ticks = tokio::time::interval(INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for (server, known) in servers.iter().zip(&mut answered) {
            let Some(result) = stop.run_until_cancelled(ask(server)).await else { return };
            match (&result, *known) {
                (Ok(()), Some(true)) | (Err(_), Some(false)) => {}
                (Ok(()), _) => tracing::info!("{server} answers"),
                (Err(error), _) => {
                    tracing::warn!(
                        "{server} does not answer: {error}; browsers that need it will not connect"
                    );
                }
            }
            *known = Some(result.is_ok());
        }
    }
}

async fn ask(server: &ServerUrl) -> std::io::Result<()> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await?.next();
    let address = found.ok_or_else(|| std::io::Error::other("its name leads nowhere"))?;
    probe::binding(address, PATIENCE).await.map(drop)
}
