//! Unix sockets at paths of any length, readable by their owner only.
//!
//! A socket address holds at most 107 bytes of path (`unix(7)`). A longer path is reached through its folder:
//! `/proc/self/fd/<folder>/<name>` is short whatever the folder is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Longest path that fits a `sockaddr_un` with its closing zero byte.
const MAX_PATH_BYTES: usize = 107;

/// Binds a listener at `path` with mode 0600. A socket file that nobody listens on is replaced.
///
/// # Errors
/// `AddrInUse` when another process listens there; otherwise what the system says.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.symlink_metadata().is_ok() {
        if let Ok(stream) = connect(path).await {
            let holder = match stream.peer_cred().ok().and_then(|listener| listener.pid()) {
                Some(pid) => format!("process {pid}"),
                None => "another process".to_owned(),
            };
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{holder} listens on {}", path.display()),
            ));
        }
        fs::remove_file(path)?;
    }
    let short = ShortPath::new(path)?;
    let listener = UnixListener::bind(&short.path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the listener at `path`.
///
/// # Errors
/// `NotFound` without a socket file, `ConnectionRefused` when nobody listens any more.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(path)?;
    UnixStream::connect(&short.path).await
}

/// A path that fits a socket address, with the open folder it may go through.
struct ShortPath {
    path: PathBuf,
    /// Keeps `/proc/self/fd/N` alive.
    _folder: Option<File>,
}

impl ShortPath {
    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?,
            _ => File::open(".")?,
        };
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the socket's file name is too long: {}", path.display()),
            ));
        }
        Ok(Self { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("control.sock");
        let listener = bind(&path).await.unwrap();
        let (client, server) = tokio::join!(connect(&path), listener.accept());
        client.unwrap();
        server.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(bind(&path).await.unwrap());
        let _live = bind(&path).await.unwrap();
        let error = bind(&path).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
}
