//! The certificate for WebRTC, kept on disk: its hash is a part of the node's address, which must survive a restart.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use libp2p_webrtc::tokio::Certificate;

use crate::p2p::identity::write_secret;

/// The file, in the node's folder.
const FILE: &str = "webrtc.pem";
/// The largest file taken; a certificate with its key has some 1 KB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A certificate and its private key.
#[derive(Debug, Clone)]
pub struct WebRtcCertificate(Certificate);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} is damaged: {reason}; restore it from a backup, or move it away and the node's WebRTC address becomes another one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No new one can be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WebRtcCertificate {
    /// Reads the certificate in `folder`, or makes one when there is none.
    ///
    /// # Errors
    /// See [`CertificateError`]; a damaged file is left as it is.
    pub fn open(folder: &Path) -> Result<Self, CertificateError> {
        let path = folder.join(FILE);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(folder, path),
            Err(source) => Err(CertificateError::Read { path, source }),
            Ok(_) => Self::read(path),
        }
    }

    fn read(path: PathBuf) -> Result<Self, CertificateError> {
        let mut text = String::new();
        let read = fs::metadata(&path).and_then(|metadata| {
            if metadata.is_file() {
                File::open(&path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)
            } else {
                Err(io::Error::other("it is not a file"))
            }
        });
        match read {
            Ok(_) => match Certificate::from_pem(&text) {
                Ok(certificate) => Ok(Self(certificate)),
                Err(error) => Err(CertificateError::Damaged { path, reason: error.to_string() }),
            },
            Err(source) => Err(CertificateError::Read { path, source }),
        }
    }

    fn make(folder: &Path, path: PathBuf) -> Result<Self, CertificateError> {
        let made = Certificate::generate(&mut rand::rng()).map_err(|error| CertificateError::Write {
            path: path.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        match write_secret(folder, &path, made.serialize_pem().as_bytes()) {
            Ok(()) => Ok(Self(made)),
            Err(source) => Err(CertificateError::Write { path, source }),
        }
    }

    /// The certificate as the transport takes it.
    pub(super) fn into_inner(self) -> Certificate {
        // DTLS asks for the process's cryptography at the first handshake, and panics when nobody has chosen between the two that
        // are linked in. That somebody has chosen already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = WebRtcCertificate::open(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = WebRtcCertificate::open(folder.path()).unwrap();
        assert_eq!(first.0.fingerprint(), again.0.fingerprint());
    }

    #[test]
    fn a_damaged_certificate_is_an_error_and_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for content in
            ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            fs::write(&path, content).unwrap();
            let error = WebRtcCertificate::open(folder.path()).unwrap_err();
            assert!(matches!(error, CertificateError::Damaged { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(WebRtcCertificate::open(folder.path()), Err(CertificateError::Read { .. })));
    }
}
