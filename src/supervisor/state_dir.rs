//! The folder that holds a network's state, and the lock that makes sure that one supervisor works in it.
//!
//! ```text
//! data/
//!   supervisor/lock            held while a supervisor runs; its text says which
//!   supervisor/control.sock    the control API
//!   supervisor/*.notify        where each incarnation of a process reports readiness
//!   supervisor/plan.json       what it was asked to run
//!   <process>/config.toml      what the process was told, mode 0600
//!   <process>/admin.sock       the process's own API
//!   <process>/peer_id.key …    the process's own state
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The folder and log folder that commands use unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "data";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another supervisor works in it.
    #[error("{path} is in use by {holder}; stop that with `hippius down`, or give this one its own folder with --data-dir", path = .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it, in words.
        holder: String,
    },
    /// It cannot be created, read or written.
    #[error("cannot use the data folder {path}: {source}", path = .path.display())]
    Io {
        /// The file or folder that failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Paths below a data folder. Any command can have them; only a [`StateDir`] may write.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The paths below `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The supervisor's own folder.
    #[must_use]
    pub fn supervisor(&self) -> PathBuf {
        self.root.join("supervisor")
    }

    /// The control API's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.supervisor().join("control.sock")
    }

    /// The plan of the network that runs, or ran last, as JSON.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.root.join("supervisor/plan.json")
    }

    /// Whether a supervisor holds the folder.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        File::open(self.root.join("supervisor/lock"))
            .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
    }

    /// The folder of one process.
    #[must_use]
    pub fn process(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of log files: `logs` for the default data folder, inside the data folder for any other, so that
    /// networks with folders of their own never share a log.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        let named = self.root.components().filter(|part| !matches!(part, Component::CurDir));
        let is_default = named.eq(Path::new(DEFAULT_DATA_DIR).components());
        if is_default { PathBuf::from("logs") } else { self.root.join("logs") }
    }
}

/// A data folder that this process alone works in.
#[derive(Debug)]
pub struct StateDir {
    paths: Paths,
    _lock: Flock<File>,
}

impl StateDir {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn acquire(data_dir: &Path, topology: &str) -> Result<Self, StateError> {
        let paths = Paths::new(data_dir);
        let own = paths.root.join("supervisor");
        create_private(&own)?;
        let lock_path = own.join("lock");
        let failed = |source| StateError::Io { path: lock_path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another supervisor".to_owned(),
                    known => known.to_owned(),
                };
                return Err(StateError::InUse { path: paths.root, holder });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let text = format!("the supervisor of topology \"{topology}\" (pid {})\n", std::process::id());
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())
        };
        write(&mut lock).map_err(failed)?;
        remove_stale_sockets(&own);
        Ok(Self { paths, _lock: lock })
    }

    /// The paths below it.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// Removes what a supervisor that was killed could not; this one holds the lock.
fn remove_stale_sockets(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "notify") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a folder that only its owner can enter, with all folders above it.
///
/// # Errors
/// [`StateError::Io`] with the folder's path.
pub fn create_private(path: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StateError::Io { path: path.to_owned(), source })
}

/// Replaces a file's content in one step: a reader sees the old or the new one, never half. Mode 0600.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_is_the_same_however_it_is_written() {
        for same in ["data", "./data", "data/", "././data/."] {
            assert_eq!(Paths::new(Path::new(same)).logs(), Path::new("logs"), "{same}");
        }
        for other in ["data-2", "/data", "../data", "a/data", "data/a"] {
            assert_eq!(Paths::new(Path::new(other)).logs(), Path::new(other).join("logs"), "{other}");
        }
    }

    #[test]
    fn a_second_supervisor_is_told_who_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::acquire(dir.path(), "local").unwrap();
        let error = StateDir::acquire(dir.path(), "other").unwrap_err().to_string();
        assert!(error.contains("\"local\"") && error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        StateDir::acquire(dir.path(), "other").unwrap();
    }
}
