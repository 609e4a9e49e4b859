//! One log file that is rotated by size: `node.log`, then `node.log.1`, the older the higher.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::topology::plan::LogPolicy;

/// A file that is opened at the first line, and again after a failure.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    policy: LogPolicy,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    bytes: u64,
}

impl LogFile {
    /// The file at `path`; nothing is opened yet.
    #[must_use]
    pub fn new(path: PathBuf, policy: LogPolicy) -> Self {
        Self { path, policy, open: None }
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// What the system says; a part of a line that was written before the failure is taken back.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.look();
        let full = self.open()?.bytes > 0
            && self.open()?.bytes.saturating_add(lines.len() as u64) > self.policy.max_bytes;
        if full {
            self.rotate()?;
        }
        let open = self.open()?;
        match open.file.write_all(lines) {
            Ok(()) => {
                open.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A torn line must not stay; if even that fails, the file is opened anew next time.
                let _ = open.file.set_len(open.bytes);
                self.open = None;
                Err(error)
            }
        }
    }

    /// Sees whether the path still leads to the open file. Whoever rotates logs by himself, as logrotate does, renames it, removes it or
    /// empties it: lines belong into what stands there now. One system call for each write, which is what a look at the file alone would cost.
    fn look(&mut self) {
        let Some(open) = &mut self.open else { return };
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == open.id => open.bytes = open.bytes.min(there.len()),
            Ok(_) => self.open = None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open = None,
            // The way to it is barred, for now perhaps: what is open can still be written.
            Err(_) => {}
        }
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let file = unwaiting(OpenOptions::new().create(true).read(true).append(true), &self.path)?;
                let found = file.metadata()?;
                let (id, mut bytes) = ((found.dev(), found.ino()), found.len());
                if bytes > 0 {
                    let mut last = [0];
                    file.read_exact_at(&mut last, bytes - 1)?;
                    // An earlier supervisor was killed within a line: ours must not be glued to it.
                    if last != *b"\n" {
                        (&file).write_all(b"\n")?;
                        bytes += 1;
                    }
                }
                Open { file, id, bytes }
            }
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.policy.keep == 0 {
            return unless_gone(fs::remove_file(&self.path));
        }
        for age in (1..self.policy.keep).rev() {
            unless_gone(fs::rename(rotated(&self.path, age), rotated(&self.path, age + 1)))?;
        }
        unless_gone(fs::rename(&self.path, rotated(&self.path, 1)))
    }
}

/// Opens a file of which nothing that is done to it waits: somebody may have put a pipe there.
pub(super) fn unwaiting(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    how.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// A file that was never there, or that somebody removed, needs no rotation.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The name of a rotated file; `age` counts from 1, the newest.
#[must_use]
pub fn rotated(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rotated_and_no_more_are_kept_than_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut file = LogFile::new(path.clone(), LogPolicy { max_bytes: 10, keep: 2 });
        for line in ["111111\n", "222222\n", "333333\n", "444444\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "444444\n");
        assert_eq!(fs::read_to_string(rotated(&path, 1)).unwrap(), "333333\n");
        assert_eq!(fs::read_to_string(rotated(&path, 2)).unwrap(), "222222\n");
        assert!(!rotated(&path, 3).exists());
    }

    #[test]
    fn a_file_goes_on_where_an_earlier_run_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let policy = LogPolicy { max_bytes: 10, keep: 1 };
        LogFile::new(path.clone(), policy).append(b"111111\n").unwrap();
        LogFile::new(path.clone(), policy).append(b"222222\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "222222\n");
        assert_eq!(fs::read_to_string(rotated(&path, 1)).unwrap(), "111111\n");
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut file = LogFile::new(path, LogPolicy { max_bytes: 1 << 30, keep: 1 });
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(file.append(&[b'\n'; 1 << 20])));
        let result = result.recv_timeout(std::time::Duration::from_secs(10)).expect("no wait for a reader");
        assert!(result.is_err(), "nobody reads it");
    }

    #[test]
    fn a_file_that_somebody_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        for keep in [0, 2] {
            let mut file = LogFile::new(path.clone(), LogPolicy { max_bytes: 10, keep });
            file.append(b"1\n").unwrap();
            fs::remove_file(&path).unwrap();
            file.append(b"222222\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "222222\n");
            file.append(b"333333\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "333333\n", "the size is counted anew, too");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_somebody_renamed_is_made_anew_and_one_put_in_its_place_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("node.log"), dir.path().join("node.log-20260101"));
        let mut file = LogFile::new(path.clone(), LogPolicy { max_bytes: 1_000, keep: 1 });
        file.append(b"1\n").unwrap();
        fs::rename(&path, &aside).unwrap();
        file.append(b"2\n").unwrap();
        fs::rename(&path, dir.path().join("older")).unwrap();
        fs::write(&path, "").unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "1\n");
        assert_eq!(fs::read_to_string(dir.path().join("older")).unwrap(), "2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn a_file_that_somebody_emptied_is_not_taken_for_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut file = LogFile::new(path.clone(), LogPolicy { max_bytes: 10, keep: 1 });
        file.append(b"11111111\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        file.append(b"22222222\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "22222222\n");
        assert!(!rotated(&path, 1).exists());
    }

    #[test]
    fn the_half_line_of_an_earlier_run_swallows_no_line_of_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        fs::write(&path, "{\"whole\":1}\n{\"half").unwrap();
        for line in ["first\n", "second\n"] {
            LogFile::new(path.clone(), LogPolicy { max_bytes: 1000, keep: 1 })
                .append(line.as_bytes())
                .unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"whole\":1}\n{\"half\nfirst\nsecond\n");
    }
}
