//! The role `turn`: a STUN and TURN server, by whichever engine.
//!
//! `embedded` relays in this process, `coturn` runs the program `turnserver` as a child, `external` watches servers elsewhere. What
//! they carry is shown in one way: [`metrics`], and the [`bandwidth`] log.

mod bandwidth;
pub mod config;
mod coturn;
mod external;
mod metrics;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use config::TurnRoleConfig;

use self::bandwidth::BandwidthLog;
use super::runtime::{Context, Facts, RoleError, Started};
use crate::topology::plan::TurnEngine;
use crate::turn::config::TurnConfig;
use crate::turn::endings::Endings;
use crate::turn::figures::TurnFigures;
use crate::turn::secret;
use crate::turn::server::{BindError, TurnServer};

/// Reads what an engine has done so far.
type Figures = Arc<dyn Fn() -> TurnFigures + Send + Sync>;

/// Time for the last lines of the bandwidth log when the role stops.
const LAST_LINES: Duration = Duration::from_secs(1);

/// An engine that runs.
struct Engine {
    addresses: Vec<String>,
    figures: Figures,
    endings: Endings,
    stop: BoxFuture<'static, ()>,
}

/// Starts the server.
///
/// # Errors
/// When its addresses cannot be listened on, its program is missing, or what it was told makes no sense.
pub async fn start(context: Context, mut config: TurnRoleConfig) -> Result<Started, RoleError> {
    if config.engine == TurnEngine::External {
        return external::start(&context, &config.urls);
    }
    let process = &context.process;
    if config.server.secret.is_none() && config.server.users.is_empty() {
        // Nobody was told a secret, so nobody can make credentials but who may read this process's folder.
        let secret = secret::read_or_make(&process.data_dir.join("secret")).map_err(RoleError::fatal)?;
        config.server.secret = Some(secret.into());
    }
    config.server.check().map_err(RoleError::fatal)?;
    let engine = match config.engine {
        TurnEngine::Coturn => coturn::start(&context, &config.server).await?,
        _ => embedded(&config.server)?,
    };
    let failures = Arc::new(AtomicU64::new(0));
    metrics::observe(&context.meter, engine.figures.clone(), engine.endings.clone(), failures.clone());
    let stop = CancellationToken::new();
    let Engine { addresses, figures, endings, stop: stop_engine } = engine;
    let log = BandwidthLog::new(process.name.clone(), config.bandwidth, figures, endings, failures);
    // Spawned, not `beside`: its last lines are written when the role stops.
    let log = tokio::spawn(log.run(stop.clone()));
    Ok(Started {
        facts: Facts { peer_id: None, addresses },
        admin: None,
        beside: None,
        stop: Box::pin(async move {
            // Its allocations end with it, and each has a last line.
            stop_engine.await;
            stop.cancel();
            let _ = tokio::time::timeout(LAST_LINES, log).await;
        }),
    })
}

fn embedded(config: &TurnConfig) -> Result<Engine, RoleError> {
    let server = TurnServer::bind(config).map_err(|error| match error {
        // Neither mends itself; a taken port or a lack of file descriptors may.
        BindError::Config(_) | BindError::Tls(_) => RoleError::fatal(error),
        BindError::Listen { .. } | BindError::System(_) => RoleError::passing(error),
    })?;
    let listens = server.local_addresses();
    let plain = listens.udp.iter().map(|address| format!("turn:{address}"));
    let secure = listens.tls.iter().map(|address| format!("turns:{address}"));
    let addresses = plain.chain(secure).collect();
    let endings = server.endings();
    // The figures are asked for until the very end; after the server's own they stay as they were.
    let shared = Arc::new(Mutex::new(Running { server: Some(server), last: TurnFigures::default() }));
    let reader = shared.clone();
    Ok(Engine {
        addresses,
        figures: Arc::new(move || locked(&reader).read()),
        endings,
        stop: Box::pin(async move {
            let server = {
                let mut running = locked(&shared);
                running.read();
                running.server.take()
            };
            if let Some(server) = server {
                let last = server.shutdown().await;
                locked(&shared).last = last;
            }
        }),
    })
}

/// The embedded server, as long as it runs, and what it said last.
struct Running {
    server: Option<TurnServer>,
    last: TurnFigures,
}

impl Running {
    fn read(&mut self) -> TurnFigures {
        if let Some(server) = &self.server {
            self.last = server.snapshot();
        }
        self.last.clone()
    }
}

fn locked(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
