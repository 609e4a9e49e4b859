//! TLS as a server speaks it, with the certificate that its files hold now.

use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Certificate, CertificateFiles, TlsError};

/// The configuration of a server. Handshakes take the certificate that is in use when they are made.
#[derive(Debug)]
pub struct Serving {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    first: Certificate,
}

/// The certificate of new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Serving {
    /// Reads the certificate. `protocols` are those that clients may ask for by name (ALPN); with none, what they ask for is ignored.
    ///
    /// # Errors
    /// When its files cannot be read or do not belong together.
    pub fn open(files: &CertificateFiles, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let first = files.load()?;
        let current = Arc::new(Current(RwLock::new(first.certified()?)));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { config: Arc::new(config), current, first })
    }

    /// Makes handshakes. It need not be asked for again when the certificate changes.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Takes over every new certificate that the files come to hold, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut renewals = std::pin::pin!(self.first.renewals());
        while let Some(Some(certificate)) = stop.run_until_cancelled(renewals.next()).await {
            match certificate.certified() {
                Ok(key) => *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key,
                Err(error) => {
                    tracing::error!(%error, "the changed certificate cannot be used; the old one stays")
                }
            }
        }
    }
}
