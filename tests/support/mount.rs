//! Small file systems for tests: full ones, read-only ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, unmounted again at the end.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// `None` where mounting is not permitted.
    pub fn new(path: &Path) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("left out: mounting needs root");
            return None;
        }
        fs::create_dir_all(path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"], path);
        if !mounted {
            eprintln!("left out: mounting is not permitted here");
        }
        mounted.then(|| Self(path.to_owned()))
    }

    /// Nobody can write any more. Fails while a file is open for writing.
    pub fn read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], &self.0));
    }

    /// And again.
    pub fn read_write(&self) {
        assert!(mount(&["-o", "remount,rw"], &self.0));
    }

    /// Takes all space that is left.
    pub fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    Command::new("mount").args(arguments).arg(path).status().is_ok_and(|status| status.success())
}
