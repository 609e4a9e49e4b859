//! The metric store as a server of its own, for networks without a supervisor: the `collector` role.
//!
//! There nobody tells when a process ends, so gauges of one that has been silent for a while are not shown.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use opentelemetry::metrics::Meter;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::store::{SharedStore, Store, StoreSettings};
use super::supervisor::{self, MeterError};
use super::token::{Token, TokenError};
use super::{exposition, host, receiver};
use crate::control::http::{self, Limits, Server};

/// Gauges of a client that has not pushed for this long are not shown: five times the longest usual interval.
const STALE_AFTER: Duration = Duration::from_secs(50);

/// The `[collector]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// Address to listen on where no socket is handed down. Default `127.0.0.1:9091`.
    pub listen: SocketAddr,
    /// The processes that may push.
    pub clients: Vec<ClientConfig>,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9091)), clients: Vec::new() }
    }
}

/// One process that may push.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Its name in metrics.
    pub process: String,
    /// Its role in metrics.
    pub role: String,
    /// Its token: 64 hexadecimal digits, e.g. of `openssl rand -hex 32`.
    pub token: String,
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("process", &self.process)
            .field("role", &self.role)
            .field("token", &"(secret)")
            .finish()
    }
}

/// Why a collector cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address as `listen`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The socket that was handed down cannot be used.
    #[error("the socket that was handed down cannot be used: {0}")]
    HandedDown(io::Error),
    /// A client's token has the wrong form.
    #[error("the token of collector client {process:?}: {source}")]
    Token {
        /// The client.
        process: String,
        /// What a token is.
        source: TokenError,
    },
    /// Two clients have one name or one token, or a name is missing.
    #[error("collector client {0:?}: every client needs a name and a token that no other has")]
    Client(String),
    /// The collector's own metrics cannot be set up.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The registry refused the store.
    #[error("cannot set up the metrics page: {0}")]
    Registry(#[from] prometheus::Error),
    /// `/proc` cannot be read.
    #[error("cannot read this process's own figures: {0}")]
    Host(io::Error),
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    server: Server,
    meter: Meter,
    /// Keeps the collector's own instruments alive.
    _provider: SdkMeterProvider,
}

impl Collector {
    /// Listens on `handed_down`, or else on the configured address. The collector's own figures are shown as those of
    /// `process`; `data_dir` names the file system whose use is told.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(
        config: &CollectorConfig,
        handed_down: Option<std::net::TcpListener>,
        process: &str,
        data_dir: &Path,
    ) -> Result<Self, BindError> {
        let store = SharedStore::new(store(config)?);
        let listener = match handed_down {
            Some(listener) => listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener))
                .map_err(BindError::HandedDown)?,
            None => TcpListener::bind(config.listen)
                .await
                .map_err(|source| BindError::Listen { address: config.listen, source })?,
        };
        let address = listener.local_addr().map_err(BindError::HandedDown)?;
        let (registry, provider, meter) = supervisor::supervisor_meter()?;
        let own = supervisor::identity(process, "collector");
        supervisor::observe_refusals(&meter, &store, &own);
        host::observe_as(&meter, data_dir, &own).map_err(BindError::Host)?;
        exposition::register(&registry, store.clone())?;
        let server = http::serve(listener, Limits::default(), receiver::handler(store, registry));
        Ok(Self { address, server, meter, _provider: provider })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The meter of the collector's own instruments.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Takes no more requests and lets those under way finish for `grace`.
    pub async fn shutdown(self, grace: Duration) {
        self.server.shutdown(grace).await;
    }
}

fn store(config: &CollectorConfig) -> Result<Store, BindError> {
    let mut store = Store::new(StoreSettings { stale_after: Some(STALE_AFTER), ..StoreSettings::default() });
    let (mut names, mut tokens) = (HashSet::new(), HashSet::new());
    for client in &config.clients {
        let token: Token = client
            .token
            .parse()
            .map_err(|source| BindError::Token { process: client.process.clone(), source })?;
        let named = !client.process.is_empty() && !client.role.is_empty();
        if !named || !names.insert(&client.process) || !tokens.insert(token.to_hex()) {
            return Err(BindError::Client(client.process.clone()));
        }
        store.register(&token, &client.process, &client.role, 1);
    }
    Ok(store)
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
