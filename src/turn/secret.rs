//! The secret that a TURN server shares with those who give out credentials for it: a file of one line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest file in bytes, and the longest secret.
const MAX_BYTES: u64 = 4 * 1024;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing but white space.
    #[error("the secret in {path} is empty; write one: openssl rand -hex 32 > {path}", path = .0.display())]
    Empty(PathBuf),
    /// Not one line of text of a bearable length.
    #[error("the secret in {path} must be one line of at most {MAX_BYTES} bytes of text", path = .0.display())]
    NotALine(PathBuf),
    /// The file cannot be read or written.
    #[error("cannot use the file of a TURN server's secret, {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the secret at `path`.
///
/// # Errors
/// See [`SecretError`].
pub fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NotALine(path.to_owned()))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    if text.len() as u64 > MAX_BYTES || secret.contains(char::is_control) {
        return Err(SecretError::NotALine(path.to_owned()));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!("others may read the secret in {0}: chmod 600 {0}", path.display());
    }
    Ok(secret.to_owned())
}

/// Reads the secret at `path`; if there is none yet, makes one at random, which this user alone may read.
///
/// # Errors
/// See [`SecretError`].
pub fn read_or_make(path: &Path) -> Result<String, SecretError> {
    match read(path) {
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let secret: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole or not at all: written beside, then put in place unless somebody was faster.
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    let put = file
        .write_all(format!("{secret}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    match put {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secret = read_or_make(&path).unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(read_or_make(&path).unwrap(), secret);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_secret_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for bad in ["", " \n\t\n", "a\nb", &"x".repeat(5_000)] {
            fs::write(&path, bad).unwrap();
            let error = read_or_make(&path).expect_err(bad).to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::write(&path, " spaced out \n").unwrap();
        assert_eq!(read(&path).unwrap(), "spaced out");
    }
}
