//! `engine = "external"`: servers elsewhere. There is nothing to run, but somebody should say when they do not answer.

use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::roles::runtime::{Context, Facts, RoleError, Started};
use crate::turn::probe;
use crate::turn::url::ServerUrl;

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
    Ok(Started {
        facts: Facts { peer_id: None, addresses: urls.to_vec() },
        admin: None,
        beside: Some(Box::pin(watch(servers, context.stop.clone()))),
        stop: Box::pin(async {}),
    })
}

async fn watch(servers: Vec<ServerUrl>, stop: CancellationToken) {
    let mut answered: Vec<Option<bool>> = vec![None; servers.len()];
    let mut ticks = tokio::time::interval(INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // All at once: one that is silent keeps the others waiting no longer than itself.
        let asked = join_all(servers.iter().map(|server| probe::server(server, PATIENCE)));
        let Some(results) = stop.run_until_cancelled(asked).await else { return };
        for ((server, result), known) in servers.iter().zip(results).zip(&mut answered) {
            let Some(result) = result else {
                if known.replace(false).is_none() {
                    tracing::info!("{server} is not watched: it is reached by DTLS");
                }
                continue;
            };
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
