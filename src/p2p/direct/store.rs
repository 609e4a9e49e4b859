//! Received files and those that are arriving. Everything here blocks and belongs on a blocking thread.
//!
//! What arrives is written to `transfers/in`, and moved to `received` at the end, when it is whole and safe on the disk: never over
//! another file, and never out of the folder. A file that is there stands for somebody's consent, too: whoever comes back to send the
//! rest is not asked about again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use libp2p::PeerId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, renameat2};
use sha2::{Digest, Sha256};

use super::names;
use super::source::BLOCK;
use super::wire::{Hash, Reason, hex};

/// The folder of received files, in the node's own.
pub const RECEIVED: &str = "received";
/// Files that are arriving.
const ARRIVING: &str = "transfers/in";
/// Files that are counted at most; with more in the folder nothing is taken. To count more would take too long.
const MAX_FILES: usize = 10_000;
/// The least that a file takes of a disk: an empty one is not for nothing.
const LEAST_BYTES: u64 = 4096;
/// A part of a file that nobody has added to for so long is thrown away.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Files of the same name that are told apart by a number.
const MAX_NUMBER: u32 = 9_999;

/// What a part of a file is known by: who sends it, and all that was said of it when somebody consented.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(String);

impl Key {
    /// `name` is the one that is shown and stored.
    pub(super) fn new(peer: PeerId, hash: &Hash, size: u64, name: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(peer.to_bytes());
        hasher.update(hash);
        hasher.update(size.to_be_bytes());
        hasher.update(name);
        Self(hex::encode(&hasher.finalize()[..16]))
    }
}

/// Whether there is room for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Fits,
    /// Not beside those that are on their way; one of them may yet fail.
    Later,
    /// Not beside those that are here.
    Full,
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub(super) struct Store {
    received: PathBuf,
    arriving: PathBuf,
}

/// Why a file is not taken, or not kept.
pub(super) fn reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Reason::DiskFull
        }
        _ => Reason::Failed,
    }
}

impl Store {
    pub(super) fn new(folder: &Path) -> Self {
        Self { received: folder.join(RECEIVED), arriving: folder.join(ARRIVING) }
    }

    fn part_path(&self, key: &Key) -> PathBuf {
        self.arriving.join(format!("{}.part", key.0))
    }

    /// Whether a part of the file is here.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.part_path(key).symlink_metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// Whether `size` bytes more fit under `max_total`, of which `promised` are on their way. Parts that nobody is sending at the
    /// moment make room if that helps, those that have waited longest first; `busy` are the others.
    pub(super) fn make_room(
        &self,
        key: &Key,
        size: u64,
        promised: u64,
        busy: &[Key],
        max_total: u64,
    ) -> Result<Room, io::Error> {
        let kept = list(&self.received)?;
        let used: u64 = kept.iter().map(Listed::cost).sum();
        let with_it = used.saturating_add(size.max(LEAST_BYTES));
        if with_it > max_total || kept.len() >= MAX_FILES {
            return Ok(Room::Full);
        }
        let with_all = with_it.saturating_add(promised);
        if with_all > max_total || kept.len() + busy.len() >= MAX_FILES {
            return Ok(Room::Later);
        }
        let mut idle = list(&self.arriving)?;
        let other = |file: &Listed| {
            let is = |key: &Key| file.path == self.part_path(key);
            !is(key) && !busy.iter().any(is)
        };
        idle.retain(other);
        idle.sort_by_key(|file| std::cmp::Reverse(file.modified));
        let now = SystemTime::now();
        let forgotten = |file: &Listed| now.duration_since(file.modified).is_ok_and(|age| age > KEPT);
        let over = |idle: &[Listed]| {
            let total = idle.iter().map(Listed::cost).fold(with_all, u64::saturating_add);
            total > max_total || kept.len() + busy.len() + idle.len() >= MAX_FILES
        };
        while over(&idle) || idle.last().is_some_and(forgotten) {
            remove(idle.pop())?;
        }
        Ok(Room::Fits)
    }

    /// Opens the part of a file, and makes it if there is none.
    pub(super) fn open(&self, key: &Key, size: u64) -> io::Result<Part> {
        make_folder(&self.arriving)?;
        let path = self.part_path(key);
        let file = open_part(&path)?;
        let mut part = Part { file, path, hasher: Sha256::new(), length: 0 };
        if part.file.metadata()?.len() > size {
            part.restart()?;
        }
        part.hash_again()?;
        Ok(part)
    }

    /// Writes down that somebody wants the file, of which nothing may be here.
    pub(super) fn consent(&self, key: &Key) -> io::Result<()> {
        make_folder(&self.arriving)?;
        open_part(&self.part_path(key)).map(drop)
    }

    /// Takes a part off the disk.
    pub(super) fn remove(&self, key: &Key) {
        // Best effort: what stays is counted, and makes room for the next that needs it.
        let _ = fs::remove_file(self.part_path(key));
    }

    /// Puts a whole file, which is safe on the disk, where it belongs, under `name` or the next free one like it, and says which.
    pub(super) fn place(&self, part: &Part, name: &str) -> io::Result<String> {
        make_folder(&self.received)?;
        for number in 0..=MAX_NUMBER {
            let name = names::numbered(name, number);
            match rename_new(&part.path, &self.received.join(name.as_ref())) {
                Ok(()) => {
                    // The name, too, must be there after a power cut. A file system that cannot do this has done its best.
                    let _ = File::open(&self.received).and_then(|folder| folder.sync_all());
                    return Ok(name.into_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// A part of a file, open for writing at its end.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    /// Of everything up to `length`.
    hasher: Sha256,
    length: u64,
}

impl Part {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The hash of what is there.
    pub(super) fn hash(&self) -> Hash {
        self.hasher.clone().finalize().into()
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Waits until it is safe on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn hash_again(&mut self) -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        self.file.seek(SeekFrom::Start(0))?;
        loop {
            match self.file.read(&mut block)? {
                0 => return Ok(()),
                count => {
                    self.hasher.update(&block[..count]);
                    self.length += count as u64;
                }
            }
        }
    }
}

struct Listed {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Listed {
    fn cost(&self) -> u64 {
        self.bytes.max(LEAST_BYTES)
    }
}

/// The files of a folder; of one that is not there, none.
fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries.take(MAX_FILES + 1) {
        let entry = entry?;
        // Somebody may move files away at any moment.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(Listed { path: entry.path(), bytes: metadata.len(), modified });
        }
    }
    Ok(files)
}

fn remove(file: Option<Listed>) -> io::Result<()> {
    match file.map(|file| fs::remove_file(file.path)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a part, and makes it if there is none.
fn open_part(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Renames, but never over something that is there.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let cwd = nix::fcntl::AT_FDCWD;
    match renameat2(cwd, from, cwd, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems do not know the flag; a second name, too, is given to nothing that has it already.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        (folder, store)
    }

    fn key(number: u8) -> Key {
        Key::new(PeerId::from_bytes(&[0, 1, 7]).unwrap(), &[number; 32], 1, "a")
    }

    fn put(store: &Store, number: u8, bytes: usize) {
        store.open(&key(number), u64::MAX).unwrap().append(&vec![number; bytes]).unwrap();
    }

    #[test]
    fn a_part_is_found_again_with_the_hash_of_what_is_there() {
        let (_folder, store) = store();
        assert!(!store.has(&key(1)));
        put(&store, 1, 100_000);
        assert!(store.has(&key(1)));
        let part = store.open(&key(1), 100_000).unwrap();
        assert_eq!(part.length(), 100_000);
        let expected: Hash = Sha256::digest(vec![1; 100_000]).into();
        assert_eq!(part.hash(), expected);
        let mut shorter = store.open(&key(1), 99_999).unwrap();
        assert_eq!(shorter.length(), 0, "more than the whole file is no part of it");
        shorter.append(b"x").unwrap();
        let expected: Hash = Sha256::digest(b"x").into();
        assert_eq!(shorter.hash(), expected);
    }

    #[test]
    fn nothing_is_overwritten() {
        let (folder, store) = store();
        let received = folder.path().join(RECEIVED);
        fs::create_dir(&received).unwrap();
        fs::write(received.join("a.txt"), "mine").unwrap();
        fs::create_dir(received.join("a (1).txt")).unwrap();
        std::os::unix::fs::symlink("/nowhere", received.join("a (2).txt")).unwrap();
        for expected in ["a (3).txt", "a (4).txt"] {
            put(&store, 1, 3);
            let part = store.open(&key(1), 3).unwrap();
            assert_eq!(store.place(&part, "a.txt").unwrap(), expected);
            assert_eq!(fs::read(received.join(expected)).unwrap(), [1; 3]);
            assert!(!store.has(&key(1)));
        }
        assert_eq!(fs::read_to_string(received.join("a.txt")).unwrap(), "mine");
    }

    #[test]
    fn a_part_belongs_to_one_peer_and_all_that_it_said() {
        let [one, other] = [PeerId::random(), PeerId::random()];
        let key = Key::new(one, &[1; 32], 10, "a");
        assert_eq!(key, Key::new(one, &[1; 32], 10, "a"));
        for wrong in [
            Key::new(other, &[1; 32], 10, "a"),
            Key::new(one, &[2; 32], 10, "a"),
            Key::new(one, &[1; 32], 11, "a"),
            Key::new(one, &[1; 32], 10, "b"),
        ] {
            assert_ne!(key, wrong);
        }
    }

    #[test]
    fn the_folder_has_a_limit_and_idle_parts_make_room() {
        let (folder, store) = store();
        let room =
            |size, promised, busy: &[Key]| store.make_room(&key(9), size, promised, busy, 100_000).unwrap();
        assert_eq!(room(100_000, 0, &[]), Room::Fits);
        assert_eq!(room(100_001, 0, &[]), Room::Full);
        assert_eq!(room(60_000, 60_000, &[]), Room::Later, "what is on its way may yet fail");
        fs::create_dir(folder.path().join(RECEIVED)).unwrap();
        fs::write(folder.path().join(RECEIVED).join("kept"), vec![0; 50_000]).unwrap();
        assert_eq!((room(50_000, 0, &[]), room(50_001, 0, &[])), (Room::Fits, Room::Full));
        put(&store, 1, 20_000);
        put(&store, 2, 20_000);
        assert_eq!(room(10_000, 0, &[]), Room::Fits);
        assert_eq!((room(40_000, 20_000, &[key(2)]), room(50_001, 0, &[])), (Room::Later, Room::Full));
        assert!(store.has(&key(1)) && store.has(&key(2)), "nothing is thrown away for what does not fit");
        assert_eq!(room(30_000, 20_000, &[key(2)]), Room::Fits);
        assert!(store.has(&key(2)) && !store.has(&key(1)), "one that is under way stays");
        assert_eq!(room(50_000, 0, &[]), Room::Fits);
        assert!(!store.has(&key(2)));
    }

    #[test]
    fn the_folder_has_so_many_files_and_no_more() {
        let (folder, store) = store();
        let received = folder.path().join(RECEIVED);
        fs::create_dir(&received).unwrap();
        for number in 1..MAX_FILES {
            fs::write(received.join(number.to_string()), "").unwrap();
        }
        put(&store, 1, 1);
        let room = |busy: &[Key]| store.make_room(&key(9), 1, 1, busy, u64::MAX).unwrap();
        assert_eq!(room(&[key(1)]), Room::Later);
        assert!(store.has(&key(1)));
        assert_eq!(room(&[]), Room::Fits);
        assert!(!store.has(&key(1)), "an idle part makes room");
        fs::write(received.join("last"), "").unwrap();
        assert_eq!(room(&[]), Room::Full);
    }

    #[test]
    fn empty_files_are_not_for_nothing() {
        let (folder, store) = store();
        fs::create_dir(folder.path().join(RECEIVED)).unwrap();
        for number in 0..4 {
            fs::write(folder.path().join(RECEIVED).join(number.to_string()), "").unwrap();
        }
        assert_eq!(store.make_room(&key(1), 0, 0, &[], 5 * LEAST_BYTES).unwrap(), Room::Fits);
        assert_eq!(store.make_room(&key(1), 0, 0, &[], 5 * LEAST_BYTES - 1).unwrap(), Room::Full);
    }
}
