//! Certificates for TLS, from files that may change while a server runs, and [`secured`] listeners.

mod plain;
pub mod secured;
pub mod serving;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::Stream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// The largest file taken: a chain of a dozen certificates has some 20 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How often the files are looked at. Certificates are renewed days before they end.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// A certificate chain and its private key, which belong together.
#[derive(Debug)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// Where it comes from.
    files: CertificateFiles,
    /// Of the files just before they were read: whatever comes later is a change.
    stamp: Stamp,
}

/// What changes when one of the two files is replaced or written: modification time and size, through links.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// Why files give no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
        /// What was found.
        reason: String,
    },
    /// Both are fine and do not fit.
    #[error("the key {} does not belong to the certificate {}: {reason}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set TLS up: {0}")]
    Library(String),
}

impl Certificate {
    /// The pair as a server uses it.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider);
        certified.map(Arc::new).map_err(|error| TlsError::Mismatch {
            certificate: self.files.certificate.clone(),
            key: self.files.key.clone(),
            reason: error.to_string(),
        })
    }

    /// The certificates that replace this one, each when the files have changed since they were read and hold a good pair. A bad pair is told in
    /// the log once, and the present one stays.
    pub fn renewals(&self) -> impl Stream<Item = Certificate> + Send + 'static {
        futures::stream::unfold((self.files.clone(), self.stamp), |(files, mut seen)| async move {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let now = files.stamp();
                if now == seen {
                    continue;
                }
                seen = now;
                match files.load() {
                    Ok(certificate) => {
                        tracing::info!(certificate = %files.certificate.display(), "new certificate in use");
                        return Some((certificate, (files, seen)));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the changed certificate cannot be used; the old one stays")
                    }
                }
            }
        })
    }
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read or understood, or they do not belong together.
    pub fn load(&self) -> Result<Certificate, TlsError> {
        let stamp = self.stamp();
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| content(&self.key, "private key", error.to_string()))?;
        let certificate = Certificate { chain, key, files: self.clone(), stamp };
        certificate.certified()?;
        Ok(certificate)
    }

    fn stamp(&self) -> Stamp {
        let of = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [of(&self.certificate), of(&self.key)]
    }
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// When it cannot be read, or holds none, or something that only looks like one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(path, "certificate", error.to_string()))?;
    if found.is_empty() {
        Err(content(path, "certificate", "there is none in it".to_owned()))
    } else {
        Ok(found)
    }
}

fn content(path: &Path, what: &'static str, reason: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), what, reason }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut content))
        .map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn files_that_change_right_after_they_were_read_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        // Of another length each time, which tells them apart where the clock of the disk does not.
        let write = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
            fs::write(&files.certificate, made.cert.pem()).unwrap();
            made.cert.der().clone()
        };
        write("localhost");
        let first = files.load().unwrap();
        let other = write("another-name.localhost");
        let mut renewals = std::pin::pin!(first.renewals());
        let next = tokio::time::timeout(15 * CHECK_INTERVAL, renewals.next());
        assert_eq!(next.await.expect("the change is noticed").unwrap().chain, [other]);
        let last = write("yet-another-name.example.localhost");
        let next = tokio::time::timeout(15 * CHECK_INTERVAL, renewals.next());
        assert_eq!(next.await.expect("the next one, too").unwrap().chain, [last]);
    }
}
