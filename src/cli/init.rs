//! `hippius init`: a commented topology to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::control::printable::printable;

/// What is written: the topology that the documentation uses.
const STARTER: &str = include_str!("../../topology/local.toml");

/// The command in [`STARTER`] that starts it where it is in the repository.
const START: &str = "hippius up topology/local.toml";

/// The line of [`STARTER`] that names a schema file, and what stands there in a file somewhere else.
const SCHEMA_LINE: &str = "#:schema ./topology.schema.json";
const SCHEMA_HINT: &str = "# For completion in an editor: hippius schema > topology.schema.json beside this file, and \
                           this line first:\n# #:schema ./topology.schema.json";

/// Write a commented starter topology. Never overwrites a file.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Where to write it.
    #[arg(value_name = "FILE", default_value = "topology/local.toml")]
    pub file: PathBuf,
}

/// Why no starter topology was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a file of that name.
    #[error("{path} is there already and was left as it is; give another path: hippius init FILE", path = .0.display())]
    Exists(PathBuf),
    /// What should be its folder is something else.
    #[error("cannot write {file}: {folder} is a file, not a folder", file = .file.display(), folder = .folder.display())]
    NoFolder {
        /// The file.
        file: PathBuf,
        /// What is no folder.
        folder: PathBuf,
    },
    /// The folder or the file could not be written.
    #[error("cannot write {path}: {source}; give another path: hippius init FILE", path = .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the command.
#[must_use]
pub fn run(args: InitArgs) -> ExitCode {
    match write_starter(&args.file) {
        Ok(()) => {
            let file = args.file.display();
            super::output::print(&format!("wrote {file}\nstart it with: hippius up {file}"))
        }
        Err(error) => super::output::fail(error),
    }
}

/// Writes the starter topology to `file`, with its folder if that is missing.
///
/// # Errors
/// [`InitError::Exists`] if there is anything at `file`; see [`InitError`].
pub fn write_starter(file: &Path) -> Result<(), InitError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Io { path, source }
    };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                InitError::NoFolder { file: file.to_owned(), folder: folder.to_owned() }
            }
            _ => failed(folder)(source),
        })?;
    }
    let mut out =
        OpenOptions::new().write(true).create_new(true).open(file).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => InitError::Exists(file.to_owned()),
            _ => failed(file)(source),
        })?;
    out.write_all(starter(file).as_bytes()).map_err(failed(file))
}

/// The text of the starter topology that is written to `file`.
#[must_use]
pub fn starter(file: &Path) -> String {
    // In a comment: a line end in the name must not end it.
    let start = format!("hippius up {}", printable(&file.display().to_string()));
    STARTER.replace(SCHEMA_LINE, SCHEMA_HINT).replace(START, &start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    #[test]
    fn the_starter_is_a_good_topology_that_says_how_to_start_it() {
        for name in ["my.toml", "a\nweb = 1\n.toml"] {
            let text = starter(Path::new(name));
            assert!(text.starts_with(SCHEMA_HINT), "the schema line is replaced:\n{text}");
            topology::parse("starter", &text, &|_| None).expect("a topology");
        }
        let text = starter(Path::new("my.toml"));
        assert!(text.contains("hippius up my.toml") && !text.contains("local.toml"), "{text}");
    }

    #[test]
    fn writes_with_its_folder_and_never_over_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a/b/new.toml");
        write_starter(&file).expect("written");
        assert_eq!(fs::read_to_string(&file).expect("readable"), starter(&file));
        fs::write(&file, "mine").expect("writable");
        assert!(matches!(write_starter(&file), Err(InitError::Exists(path)) if path == file));
        assert_eq!(fs::read_to_string(&file).expect("readable"), "mine");
        let below = file.join("c.toml");
        assert!(matches!(write_starter(&below), Err(InitError::NoFolder { folder, .. }) if folder == file));
        assert!(matches!(write_starter(Path::new("/proc/none/c.toml")), Err(InitError::Io { .. })));
    }
}
