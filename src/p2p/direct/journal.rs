//! The files that a node is sending, written down so that it goes on with them when it is started again. Blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::store::make_folder;
use super::transfer::MAX_SENDING;
use crate::p2p::topics::{as_text, is_id};

/// Where they are written down, in the node's folder: a file for each.
pub(super) const FOLDER: &str = "transfers/out";
/// Longest entry that is read: a path of 4,096 bytes that are all escaped, and room for the rest.
const MAX_BYTES: u64 = 32 * 1024;

/// A file that is being sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The offer's id.
    pub(super) id: String,
    #[serde(with = "as_text")]
    pub(super) peer: PeerId,
    pub(super) path: PathBuf,
}

fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// Writes `entry` down.
pub(super) fn write(folder: &Path, entry: &Entry) -> io::Result<()> {
    make_folder(folder)?;
    let json = serde_json::to_vec(entry)?;
    let temporary = folder.join(format!("{}.tmp", entry.id));
    fs::write(&temporary, json)?;
    fs::rename(temporary, path(folder, &entry.id))
}

/// Strikes an entry off.
pub(super) fn remove(folder: &Path, id: &str) {
    if let Err(error) = fs::remove_file(path(folder, id))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a file that was sent may be sent again after a restart");
    }
}

/// All entries. What is none is thrown away: a half-written one of a crash, or more than there can be.
pub(super) fn load(folder: &Path) -> Vec<Entry> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut entries = Vec::new();
    for file in files.flatten() {
        let read = || -> Option<Entry> {
            if file.metadata().ok()?.len() > MAX_BYTES {
                return None;
            }
            let entry: Entry = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
            (is_id(&entry.id) && path(folder, &entry.id) == file.path()).then_some(entry)
        };
        match read().filter(|_| entries.len() < MAX_SENDING) {
            Some(entry) => entries.push(entry),
            None => {
                let _ = fs::remove_file(file.path());
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_rubbish_goes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        assert_eq!(load(&folder), []);
        let entry = Entry { id: "ab-1".into(), peer: PeerId::random(), path: "/tmp/ä b".into() };
        write(&folder, &entry).unwrap();
        fs::write(folder.join("x.json"), "{").unwrap();
        fs::write(folder.join("y.tmp"), "").unwrap();
        fs::write(folder.join("z.json"), serde_json::to_vec(&entry).unwrap()).unwrap();
        assert_eq!(load(&folder), std::slice::from_ref(&entry));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        remove(&folder, &entry.id);
        remove(&folder, &entry.id);
        assert_eq!(load(&folder), []);
    }
}
