//! The file with the secrets that sign registration tokens, and how it is watched.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::token::{self, Claims, Secret, TokenError};
use super::wire::Register;

/// Most secrets in one file: the present one, and those before it whose tokens have not expired.
pub const MAX_SECRETS: usize = 8;
/// The largest file taken, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// How often the file is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why a file gives no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a file of secrets: one a line, at least one; empty lines are skipped, and what surrounds a secret is cut off. The first one signs.
///
/// # Errors
/// When it cannot be read, or one of them is too short.
pub fn read(path: &Path) -> Result<Vec<Secret>, SecretsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| SecretsError::Read { path: path.to_owned(), source })?;
    let content = |reason: String| SecretsError::Content { path: path.to_owned(), reason };
    let secrets = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(Secret::new)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(error.to_string()))?;
    match secrets.len() {
        0 => Err(content("there is no secret in it; `openssl rand -hex 32` makes one".to_owned())),
        1..=MAX_SECRETS => Ok(secrets),
        many => Err(content(format!("it has {many} secrets, one a line; at most {MAX_SECRETS} are taken"))),
    }
}

/// The secrets of a running server.
#[derive(Debug)]
pub struct Secrets {
    path: PathBuf,
    /// Of the file just before it was read first.
    stamp: Option<Stamp>,
    current: RwLock<Vec<Secret>>,
}

/// What changes when a file is replaced or written: modification time and size.
type Stamp = (SystemTime, u64);

impl Secrets {
    /// The secrets in the file at `path`.
    ///
    /// # Errors
    /// See [`read`].
    pub fn open(path: PathBuf) -> Result<Arc<Self>, SecretsError> {
        let stamp = stamp(&path);
        let current = RwLock::new(read(&path)?);
        Ok(Arc::new(Self { path, stamp, current }))
    }

    /// Whether `register` may be taken now; see [`token::check`].
    ///
    /// # Errors
    /// [`TokenError`] says why not.
    pub fn check(&self, register: &Register) -> Result<(), TokenError> {
        token::check(register, &self.current.read().unwrap_or_else(PoisonError::into_inner), now())
    }

    /// What `token` permits now, whoever brings it; see [`token::claims`].
    ///
    /// # Errors
    /// [`TokenError`] says why it permits nothing.
    pub fn claims(&self, token: Option<&str>) -> Result<Claims, TokenError> {
        token::claims(token, &self.current.read().unwrap_or_else(PoisonError::into_inner), now())
    }

    /// Reads the file again whenever it has changed, until `stop`. A bad one is told in the log once, and the present secrets stay.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.stamp;
        while stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_some() {
            let now = stamp(&self.path);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.path) {
                Ok(secrets) => {
                    tracing::info!(count = secrets.len(), "new token secrets in use");
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = secrets;
                }
                Err(error) => {
                    tracing::error!(%error, "the changed token secrets cannot be used; the old ones stay");
                }
            }
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_secret_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let count = |text: &str| {
            fs::write(file.path(), text).unwrap();
            read(file.path()).map(|secrets| secrets.len()).map_err(|error| error.to_string())
        };
        let (one, other) = ("a".repeat(32), "b".repeat(64));
        assert_eq!(count(&one), Ok(1));
        assert_eq!(count(&format!("\n  {one}\r\n\n{other}\n")), Ok(2));
        assert_eq!(count(&format!("{one}\n").repeat(MAX_SECRETS)), Ok(MAX_SECRETS));
        for (bad, why) in [
            (String::new(), "there is no secret"),
            ("\n \n".to_owned(), "there is no secret"),
            (format!("{other}\n{}", "a".repeat(31)), "at least 32 bytes"),
            (format!("{one}\n").repeat(MAX_SECRETS + 1), "at most 8"),
        ] {
            assert!(count(&bad).unwrap_err().contains(why), "{bad}");
        }
        let missing = read(Path::new("/no/secret")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /no/secret: "), "{missing}");
    }
}
