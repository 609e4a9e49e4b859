//! The folder that holds a network's state, and the lock that makes sure that one supervisor works in it.
//!
//! ```text
//! data/
//!   supervisor/lock            held while a supervisor runs; its text says which. See [`Lock`]
//!   supervisor/control.sock    the control API
//!   supervisor/*.notify        where each incarnation of a process reports readiness
//!   supervisor/plan.json       what it was asked to run
//!   <process>/config.toml      what the process was told, mode 0600
//!   <process>/admin.sock       the process's own API
//!   <process>/peer_id.key …    the process's own state
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use crate::control::printable::printable;

/// The folder and log folder that commands use unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "data";

/// Most that is read of what the lock file says of its holder.
const MAX_HOLDER_BYTES: u64 = 1024;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another supervisor works in it.
    #[error("{path} is in use by {holder}; stop that with {down}, or give this one its own folder with --data-dir", path = .path.display(), down = Paths::new(.path).command("down"))]
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

    /// A command for the network in this folder, as it is to be typed.
    #[must_use]
    pub fn command(&self, command: &str) -> String {
        let shown = printable(&self.root.display().to_string());
        if self.root == Path::new(DEFAULT_DATA_DIR) {
            format!("`hippius {command}`")
        } else if shown.contains(|c: char| c.is_whitespace() || "'\"\\$`*?;&|<>()[]{}!#~".contains(c)) {
            format!("`hippius {command} --data-dir '{}'`", shown.replace('\'', r"'\''"))
        } else {
            format!("`hippius {command} --data-dir {shown}`")
        }
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

    /// Whether a supervisor holds the folder. Only looks: it never keeps one from starting.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        File::open(self.lock()).is_ok_and(|file| Lock::Held.is_taken(&file))
    }

    /// Waits until no supervisor holds the folder any more. Blocks the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait_until_free(&self) -> io::Result<()> {
        Ok(Lock::Awaited.wait(&File::open(self.lock())?, libc::F_RDLCK)?)
    }

    fn lock(&self) -> PathBuf {
        self.supervisor().join("lock")
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
    /// Its locks go with it.
    _lock: File,
}

/// The locks of a running supervisor: bytes of its lock file (open file description locks, `F_OFD_SETLK(2const)`).
///
/// They are two because whoever waits for the end must take what is waited for, if only for a moment, and a supervisor that is
/// being started must not mistake that for another supervisor.
#[derive(Debug, Clone, Copy)]
enum Lock {
    /// Only ever taken by a supervisor; others ask who has it.
    Held,
    /// Taken by a supervisor, too, and for a moment by whoever has waited for its end.
    Awaited,
}

impl Lock {
    fn byte(self, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self as libc::off_t,
            l_len: 1,
            l_pid: 0,
        }
    }

    /// Takes it for as long as `file` is open, if nobody has it.
    fn take(self, file: &File) -> Result<(), Errno> {
        fcntl(file, FcntlArg::F_OFD_SETLK(&self.byte(libc::F_WRLCK))).map(drop)
    }

    /// Takes it as soon as nobody has it.
    fn wait(self, file: &File, kind: libc::c_int) -> Result<(), Errno> {
        loop {
            match fcntl(file, FcntlArg::F_OFD_SETLKW(&self.byte(kind))) {
                Err(Errno::EINTR) => {}
                result => return result.map(drop),
            }
        }
    }

    fn is_taken(self, file: &File) -> bool {
        let mut answer = self.byte(libc::F_RDLCK);
        let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer));
        asked.is_ok() && answer.l_type != libc::F_UNLCK as libc::c_short
    }
}

impl StateDir {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn acquire(data_dir: &Path, topology: &str) -> Result<Self, StateError> {
        let paths = Paths::new(data_dir);
        let own = paths.supervisor();
        create_private(&own)?;
        let lock_path = paths.lock();
        let failed = |source| StateError::Io { path: lock_path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed)?;
        match Lock::Held.take(&file) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let mut holder = String::new();
                let _ = (&file).take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another supervisor".to_owned(),
                    known => printable(known),
                };
                return Err(StateError::InUse { path: paths.root, holder });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        Lock::Awaited.wait(&file, libc::F_WRLCK).map_err(|errno| failed(errno.into()))?;
        let text = format!("the supervisor of topology \"{topology}\" (pid {})\n", std::process::id());
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())
        };
        write(&mut file).map_err(failed)?;
        remove_stale_sockets(&own);
        Ok(Self { paths, _lock: file })
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

/// Replaces a file's content in one step: a reader sees the old or the new one, never half. Mode 0600, also where something
/// lies in the way: it is removed, and neither followed nor waited for.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Writes a file that nobody reads before this has returned, over the one that was written so before: a tenth of the time
/// that [`write_private`] takes, which is what is done where it is not there or is anything else than a private file.
///
/// # Errors
/// What the system says; the file may hold half of the content then.
pub fn overwrite_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let Ok(mut file) = OpenOptions::new().write(true).custom_flags(flags).open(path) else {
        return write_private(path, content);
    };
    let metadata = file.metadata()?;
    let private = metadata.is_file() && metadata.mode() & 0o777 == 0o600 && metadata.nlink() == 1;
    if !private {
        return write_private(path, content);
    }
    file.write_all(content)?;
    // Most often it is as long as before, and cutting a file is what takes long.
    if metadata.len() > content.len() as u64 { file.set_len(content.len() as u64) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_lies_in_the_way_of_a_private_file_is_neither_followed_nor_waited_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, temporary) = (dir.path().join("config.toml"), dir.path().join("config.tmp"));
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &temporary).unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        nix::unistd::mkfifo(&temporary, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (written, done) = (path.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || done.0.send(write_private(&written, b"secret")));
        done.1.recv_timeout(std::time::Duration::from_secs(10)).expect("no wait for a reader").unwrap();
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
    }

    #[test]
    fn a_private_file_is_written_over_and_nothing_else_is() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("config.toml"), dir.path().join("elsewhere"));
        for content in ["a secret", "another secret", "short", ""] {
            overwrite_private(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let in_the_way: [&dyn Fn(); 4] = [
            &|| std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
            &|| fs::hard_link(&elsewhere, &path).unwrap(),
            &|| fs::copy(&elsewhere, &path).map(drop).unwrap(),
            &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        ];
        fs::write(&elsewhere, "mine").unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o644)).unwrap();
        for put in in_the_way {
            fs::remove_file(&path).unwrap();
            put();
            overwrite_private(&path, b"secret").unwrap();
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
            let now = fs::symlink_metadata(&path).unwrap();
            assert!(now.is_file() && now.permissions().mode() & 0o777 == 0o600);
            assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        }
    }

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
        assert!(Paths::new(dir.path()).is_in_use());
        drop(first);
        assert!(!Paths::new(dir.path()).is_in_use());
        StateDir::acquire(dir.path(), "other").unwrap();
    }

    #[test]
    fn who_looks_or_waits_keeps_no_supervisor_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::acquire(dir.path(), "local").unwrap());
        let (paths, over) = (Paths::new(dir.path()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // The answer changes all the time.
                        let _ = paths.is_in_use();
                    }
                });
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        paths.wait_until_free().unwrap();
                    }
                });
            }
            let failed = (0..500).filter_map(|_| StateDir::acquire(dir.path(), "local").err()).next();
            over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn the_end_of_a_supervisor_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::acquire(dir.path(), "local").unwrap();
        let paths = Paths::new(dir.path());
        let waiter = std::thread::spawn(move || paths.wait_until_free().map(|()| paths.is_in_use()));
        drop(held);
        assert!(!waiter.join().unwrap().unwrap());
    }
}
