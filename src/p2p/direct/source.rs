//! A file that is sent. Everything here blocks and belongs on a blocking thread.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::wire::Hash;

/// Bytes that are read, hashed, sent or written at once.
pub(super) const BLOCK: usize = 64 * 1024;

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system does not let us read it.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{path} is {what}, not a file; only regular files can be sent", path = .path.display())]
    NotAFile {
        /// What it was said to be.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Written to since it was opened.
    #[error("{path} has changed while it was being sent", path = .0.display())]
    Changed(PathBuf),
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens the file at `path`. Looks first: only to open a device may do something, and to open a pipe may wait for ever.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read { path: path.to_owned(), source };
        check(path, &fs::metadata(path).map_err(unreadable)?)?;
        let file = OpenOptions::new()
            .read(true)
            // It may have been replaced since by something that blocks.
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path)
            .map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        check(path, &metadata)?;
        Ok(Self { file, path: path.to_owned(), size: metadata.len(), modified: metadata.modified().ok() })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the first `length` bytes. Ends early, with an error, when `stop` is cancelled.
    pub(super) fn hash(&mut self, length: u64, stop: &CancellationToken) -> Result<Hash, SourceError> {
        let path = self.path.clone();
        self.seek(0)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; BLOCK];
        let mut left = length;
        while left > 0 && !stop.is_cancelled() {
            let count = self.read(&mut block, left)?;
            hasher.update(&block[..count]);
            left -= count as u64;
        }
        if left > 0 {
            return Err(SourceError::Read { path, source: io::ErrorKind::Interrupted.into() });
        }
        Ok(hasher.finalize().into())
    }

    pub(super) fn seek(&mut self, offset: u64) -> Result<(), SourceError> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map(|_| ()).map_err(|source| SourceError::Read { path: self.path.clone(), source })
    }

    /// Reads the next part of the `left` bytes that are still wanted.
    pub(super) fn read(&mut self, block: &mut [u8], left: u64) -> Result<usize, SourceError> {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        match self.file.read(&mut block[..wanted]) {
            Ok(0) => Err(SourceError::Changed(self.path.clone())),
            Ok(count) => Ok(count),
            Err(source) => Err(SourceError::Read { path: self.path.clone(), source }),
        }
    }

    /// Whether nobody has written to the file since it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        let unreadable = |source| SourceError::Read { path: self.path.clone(), source };
        let metadata = self.file.metadata().map_err(unreadable)?;
        if metadata.len() == self.size && metadata.modified().ok() == self.modified {
            Ok(())
        } else {
            Err(SourceError::Changed(self.path.clone()))
        }
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), SourceError> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(SourceError::NotAFile { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, word) in [
            (folder.path(), "a folder"),
            (fifo.as_path(), "a pipe"),
            (socket.as_path(), "a socket"),
            (Path::new("/dev/null"), "a device"),
            (Path::new("/dev/zero"), "a device"),
            (&folder.path().join("nothing"), "cannot read"),
        ] {
            let error = Source::open(path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert!(Source::open(&link).unwrap_err().to_string().contains("a device"));
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"hello").unwrap();
        let mut source = Source::open(&path).unwrap();
        let stop = CancellationToken::new();
        let expected: Hash = Sha256::digest(b"hello").into();
        assert_eq!(source.hash(5, &stop).unwrap(), expected);
        assert!(source.check_unchanged().is_ok());
        fs::write(&path, b"hell").unwrap();
        assert!(matches!(source.check_unchanged(), Err(SourceError::Changed(_))));
        assert!(matches!(source.hash(5, &stop), Err(SourceError::Changed(_))));
        stop.cancel();
        assert!(matches!(source.hash(4, &stop), Err(SourceError::Read { .. })));
    }
}
