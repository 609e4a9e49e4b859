//! Who a node is: its private key on disk, and the lock that keeps two processes from being the same node.
//!
//! `peer_id.key` holds the private key in libp2p's protobuf encoding (specs/peer-ids), written in base58. It is made
//! once, whole or not at all; a file that cannot be read as a key is an error and never replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::Keypair;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Name of the key file in a node's data folder.
pub const KEY_FILE: &str = "peer_id.key";
/// Name of the lock file in a node's data folder.
pub const LOCK_FILE: &str = "lock";
/// A file is written under its name and this first. A left-over of a crash is replaced: the lock is held by then.
const TEMPORARY: &str = ".tmp";
/// Longest key file that is looked at, in bytes; an RSA key of 8,192 bits takes under 7,000.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// Why a node's identity could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The data folder cannot be made.
    #[error("cannot create the data folder {path}: {source}; check the path and its permissions", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error(
        "{folder} is in use by {holder}: two processes cannot share one identity; stop the other one or choose another data folder",
        folder = .folder.display()
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Who holds the lock, as far as is known.
        holder: String,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {path}: {source}; the data folder must be writable", path = .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file is there but cannot be read.
    #[error("cannot read the node's key {path}: {source}; make it readable for this user", path = .path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file holds no key.
    #[error(
        "the node's key {path} is damaged: {reason}; restore it from a backup, or move it away to start with a new identity",
        path = .path.display()
    )]
    Damaged {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others may change the key file, and this process may not forbid it.
    #[error(
        "the node's key {path} can be changed by others (mode {mode:04o}), and this process may not change that: {source}; \
         make it read-only (chmod 0400, or `defaultMode: 0400` of a mounted secret)",
        path = .path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Why they could not be changed.
        source: io::Error,
    },
    /// A new key could not be stored; nothing of it is left behind.
    #[error("cannot store the node's new key {path}: {source}; the data folder needs free space and must be writable", path = .path.display())]
    Write {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A node's key pair together with the lock on its data folder, which is held for as long as this lives.
#[derive(Debug)]
pub struct Identity {
    keypair: Keypair,
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Identity {
    /// Locks `data_dir` and reads the key in it; makes folder and key where there are none.
    ///
    /// # Errors
    /// See [`IdentityError`]. A damaged key is never replaced.
    pub fn open(data_dir: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(data_dir)
            .map_err(|source| IdentityError::Folder { path: data_dir.to_owned(), source })?;
        let lock = lock(data_dir)?;
        let path = data_dir.join(KEY_FILE);
        let keypair = match read_key(&path)? {
            Some(keypair) => keypair,
            None => {
                let keypair = Keypair::generate_ed25519();
                encoded(&keypair)
                    .and_then(|text| write_secret(data_dir, &path, text.as_bytes()))
                    .map_err(|source| IdentityError::Write { path, source })?;
                keypair
            }
        };
        Ok(Self { keypair, folder: data_dir.to_owned(), _lock: lock })
    }

    /// The data folder, which belongs to this node alone.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The node's name in the network.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    /// The key pair itself.
    #[must_use]
    pub fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, IdentityError> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| IdentityError::Lock { path: path.clone(), source })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // The number only helps people; the lock is the lock. So a full disk does not matter here.
            let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let _ = file.take(32).read_to_string(&mut pid);
            let holder = match pid.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".to_owned(),
            };
            Err(IdentityError::InUse { folder: folder.to_owned(), holder })
        }
        Err((_, errno)) => Err(IdentityError::Lock { path, source: errno.into() }),
    }
}

fn read_key(path: &Path) -> Result<Option<Keypair>, IdentityError> {
    let unreadable = |source| IdentityError::Read { path: path.to_owned(), source };
    let damaged = |reason: &str| IdentityError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    // A dangling link is there and cannot be read; only a name that is not there at all means "no key yet".
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(_) => {}
    }
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(damaged("it is not a file"));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MAX_KEY_FILE_BYTES {
        return Err(damaged("it is far too large for a key"));
    }
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err(damaged("it is empty"));
    }
    let bytes =
        bs58::decode(text).into_vec().map_err(|error| damaged(&format!("it is not base58 ({error})")))?;
    let keypair = Keypair::from_protobuf_encoding(&bytes)
        .map_err(|error| damaged(&format!("it holds no libp2p private key ({error})")))?;
    protect(path, metadata.permissions().mode() & 0o7777, |private| fs::set_permissions(path, private))?;
    Ok(Some(keypair))
}

/// Takes from others what they may do with the key. A file that is not ours, or is mounted read-only, stays as it is: whoever put it
/// there decides who may read it, and is warned; but a key that others may write may be anybody's by the next start.
fn protect(
    path: &Path,
    mode: u32,
    set_mode: impl FnOnce(fs::Permissions) -> io::Result<()>,
) -> Result<(), IdentityError> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = path.display();
    match set_mode(fs::Permissions::from_mode(0o600)) {
        Ok(()) => tracing::warn!(path = %shown, "the node's key was open to others; its mode is 0600 now"),
        Err(source) if mode & 0o022 != 0 => {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode, source });
        }
        Err(error) => tracing::warn!(
            path = %shown, mode = format_args!("{mode:04o}"), %error,
            "the node's key can be read by others, and this process may not change that; mode 0400 would keep it secret"
        ),
    }
    Ok(())
}

fn encoded(keypair: &Keypair) -> io::Result<String> {
    let bytes = keypair.to_protobuf_encoding().map_err(io::Error::other)?;
    Ok(bs58::encode(bytes).into_string() + "\n")
}

/// Writes a secret beside its place, forces it to disk and moves it there, so that it exists whole or not at all. Mode 0600.
pub(crate) fn write_secret(folder: &Path, path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(secret)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(content: &[u8]) -> IdentityError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::write(&path, content).unwrap();
        let error = Identity::open(dir.path()).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), content, "the file is left as it is");
        error
    }

    #[test]
    fn the_key_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data/node-0");
        let first = Identity::open(&folder).unwrap().peer_id();
        let mode = fs::metadata(folder.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Identity::open(&folder).unwrap().peer_id(), first);
        assert!(!folder.join("peer_id.key.tmp").exists());
    }

    #[test]
    fn a_damaged_key_is_an_error_that_names_the_file_and_leaves_it() {
        let truncated = {
            let key = Keypair::generate_ed25519().to_protobuf_encoding().unwrap();
            bs58::encode(&key[..key.len() - 7]).into_string()
        };
        for content in
            [b"".as_slice(), b"\n", b"not base58: 0OIl", b"3yZe7d", &[0xff; 80], truncated.as_bytes()]
        {
            let error = damaged(content);
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(KEY_FILE), "{error}");
        }
        assert!(matches!(damaged(&vec![b'1'; 20_000]), IdentityError::Damaged { .. }));
    }

    #[test]
    fn a_key_that_is_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let name = Identity::open(dir.path()).unwrap().peer_id();
        let path = dir.path().join(KEY_FILE);
        for (before, after) in [(0o644, 0o600), (0o666, 0o600), (0o440, 0o600), (0o400, 0o400)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            assert_eq!(Identity::open(dir.path()).unwrap().peer_id(), name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, after, "{before:o}");
        }
    }

    #[test]
    fn a_mode_that_cannot_be_changed_is_accepted_unless_others_may_write() {
        let path = Path::new("/data/node/peer_id.key");
        let read_only = |_| Err(Errno::EROFS.into());
        for mode in [0o400, 0o600, 0o440, 0o444, 0o644] {
            assert!(protect(path, mode, read_only).is_ok(), "{mode:o}");
        }
        for mode in [0o620, 0o602, 0o666, 0o777] {
            let error = protect(path, mode, read_only).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("mode {mode:04o}")) && text.contains("chmod 0400"), "{text}");
        }
    }

    #[test]
    fn a_dangling_link_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join(KEY_FILE)).unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Read { .. })));
    }

    #[test]
    fn the_second_user_of_a_folder_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path()).unwrap();
        let error = Identity::open(dir.path()).unwrap_err();
        let expected = format!("process {}", std::process::id());
        assert!(matches!(&error, IdentityError::InUse { holder, .. } if *holder == expected), "{error}");
        drop(first);
        Identity::open(dir.path()).unwrap();
    }

    #[test]
    fn a_key_that_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // A folder in the way of the temporary file stands for any write that fails; removing it fails too.
        let blocker = dir.path().join("peer_id.key.tmp");
        fs::create_dir(&blocker).unwrap();
        fs::write(blocker.join("file"), "").unwrap();
        let error = Identity::open(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Write { .. }), "{error}");
        assert!(!dir.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_path_that_cannot_be_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Identity::open(&file.join("node")).unwrap_err();
        assert!(matches!(error, IdentityError::Folder { .. }), "{error}");
    }
}
