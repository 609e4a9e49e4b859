//! Small JSON files in a node's data folder that it can do without: written whole or not at all, never in the loop's way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::identity::write_secret;

/// Longest file that is read; what is written here is far below it.
const MAX_BYTES: u64 = 1024 * 1024;

/// One such file, mode 0600.
#[derive(Debug, Clone)]
pub(crate) struct KeptFile {
    path: PathBuf,
    /// The number of the next content, and of the latest that is written: one that is late must not replace a newer one.
    next: u64,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    number: u64,
    /// The user knows already that it cannot be written.
    failed: bool,
}

impl KeptFile {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(name), next: 0, written: Arc::default() }
    }

    /// What is in it; nothing if there is none. One that cannot be understood is moved aside with a warning: the node starts.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        let path = self.path.display();
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%path, %error, "the file cannot be read; the node goes on without it");
                return None;
            }
        };
        let reason = match serde_json::from_slice(&content) {
            Ok(value) if content.len() as u64 <= MAX_BYTES => return Some(value),
            Ok(_) => "it is far too large".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut aside = self.path.clone().into_os_string();
        aside.push(".damaged");
        let aside = PathBuf::from(aside);
        let moved = fs::rename(&self.path, &aside).is_ok();
        let aside = if moved { aside.display().to_string() } else { "nowhere".to_owned() };
        tracing::warn!(%path, reason, moved_to = aside, "the file is damaged; the node goes on without it");
        None
    }

    /// Writes it, on a thread that may wait for the disk; says whether that went well. A failure is a warning, once until it goes
    /// well again.
    pub(crate) fn write<T: Serialize>(&mut self, content: &T) -> JoinHandle<bool> {
        self.next += 1;
        let (number, path, written) = (self.next, self.path.clone(), self.written.clone());
        let encoded = serde_json::to_vec_pretty(content).map_err(io::Error::other);
        tokio::task::spawn_blocking(move || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.number > number {
                return true;
            }
            let folder = path.parent().unwrap_or(Path::new("."));
            let result = encoded.and_then(|content| write_secret(folder, &path, &content));
            if let Err(error) = &result
                && !written.failed
            {
                let path = path.display();
                tracing::warn!(%path, %error, "the file cannot be written; what is in it may be old at the next start");
            }
            written.failed = result.is_err();
            if result.is_ok() {
                written.number = number;
            }
            result.is_ok()
        })
    }
}

/// Whatever lies there is not waited for, such as a pipe.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let mut content = Vec::new();
    File::take(file, MAX_BYTES + 1).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_again_and_belongs_to_the_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = KeptFile::new(folder.path(), "x.json");
        assert_eq!(file.read::<Vec<u32>>(), None);
        let writes: Vec<_> = (0..20_u32).map(|number| file.write(&vec![number])).collect();
        for write in writes {
            assert!(write.await.unwrap());
        }
        assert_eq!(file.read::<Vec<u32>>(), Some(vec![19]), "the last, in whatever order they were written");
        let path = folder.path().join("x.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn a_damaged_file_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeptFile::new(folder.path(), "x.json");
        let (path, aside) = (folder.path().join("x.json"), folder.path().join("x.json.damaged"));
        let large = format!("[{}]", "1,".repeat(MAX_BYTES as usize));
        for damaged in ["", "[1", "{}", "\u{0}\u{0}", large.as_str()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(file.read::<Vec<u32>>(), None);
            assert_eq!(fs::read_to_string(&aside).unwrap(), damaged);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_or_read_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("x.json")).unwrap();
        let mut file = KeptFile::new(folder.path(), "x.json");
        assert_eq!(file.read::<Vec<u32>>(), None);
        assert!(!file.write(&vec![1]).await.unwrap());
        fs::remove_dir(folder.path().join("x.json")).unwrap();
        assert!(file.write(&vec![2]).await.unwrap());
    }
}
