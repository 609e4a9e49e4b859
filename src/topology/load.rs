//! Reads a topology file, and turns its text into a [`Topology`].

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Lookup;
use super::mistake::{Mistake, Mistakes};
use super::model::Topology;
use super::raw::RawTopology;
use super::reader::{FromToml, Reader, shown};
use super::turn_named::{self, Named};
use super::validate::{servers, validate};

/// Largest topology file in bytes: as many processes as are allowed, written out one by one, need half of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads and validates the topology file at `path`; `lookup` answers for the environment
/// (see [`environment::of_process`](super::environment::of_process)).
///
/// # Errors
/// Every mistake in the file, or why it could not be read.
pub fn load(path: &Path, lookup: Lookup<'_>) -> Result<Topology, Mistakes> {
    let (name, text) = text_of(path)?;
    parse(&name, &text, lookup)
}

/// As [`load`]; and the TURN files that the topology names must be there and of use, too.
///
/// # Errors
/// Every mistake in the topology; where there is none, every mistake in those files and each that is missing.
pub fn load_with_files(path: &Path, lookup: Lookup<'_>) -> Result<Topology, Vec<Mistakes>> {
    let (name, text) = text_of(path).map_err(|mistakes| vec![mistakes])?;
    let (topology, named) = understand(&name, &text, lookup).map_err(|mistakes| vec![mistakes])?;
    let mistakes = turn_named::mistakes(&named, &name, &text);
    if mistakes.is_empty() { Ok(topology) } else { Err(mistakes) }
}

/// The name of the file at `path`, and what it says.
fn text_of(path: &Path) -> Result<(String, String), Mistakes> {
    let bytes = read(path).map_err(|mistake| Mistakes::of_file(path, mistake))?;
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let mistake = Mistake::new(
                at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
                "the file is not UTF-8",
                "not UTF-8",
            )
            .help("save it as UTF-8 text");
            Err(Mistakes::new(&name, &text, vec![mistake]))
        }
    }
}

/// Validates the topology in `text`; `file` is the name that mistakes go by.
///
/// # Errors
/// Every mistake in the text.
pub fn parse(file: &str, text: &str, lookup: Lookup<'_>) -> Result<Topology, Mistakes> {
    understand(file, text, lookup).map(|(topology, _)| topology)
}

/// The topology in `text`, and the TURN files that it names.
fn understand(file: &str, text: &str, lookup: Lookup<'_>) -> Result<(Topology, Vec<Named>), Mistakes> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = first_of_each_line(&errors, text);
    if !broken.is_empty() {
        // What was recovered of broken text may be anything; more complaints about it would mislead.
        return Err(Mistakes::new(file, text, broken));
    }
    let mut mistakes: Vec<Mistake> = errors.iter().map(|error| duplicate(error, text)).collect();
    let root = Spanned::new(0..0, DeValue::Table(table.into_inner()));
    let mut reader = Reader::new(text, lookup);
    let raw = RawTopology::from_toml(&root, &mut reader).unwrap_or_default();
    mistakes.extend(reader.into_mistakes());
    match validate(&raw, &mut mistakes) {
        Some(topology) if mistakes.is_empty() => Ok((topology, turn_named::named(servers(&raw.turn)))),
        _ => Err(Mistakes::new(file, text, mistakes)),
    }
}

/// Whether `error` is a key given twice: the text around it is sound, and the first value was kept.
fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().starts_with("duplicate key")
}

fn duplicate(error: &toml::de::Error, text: &str) -> Mistake {
    let span = place(error, text);
    let key = shown(text.get(span.clone()).unwrap_or_default().trim());
    Mistake::new(span, format!("`{key}` is given twice"), "again here")
        .help("keep one of them; [[name]] with double brackets starts another entry of a list")
}

/// The mistakes of TOML itself; those behind another one of the same line mostly follow from it.
fn first_of_each_line(errors: &[toml::de::Error], text: &str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut read_to = 0;
    for error in errors.iter().filter(|error| !is_duplicate(error)) {
        let span = place(error, text);
        let start = span.start.min(text.len());
        let same_line = !mistakes.is_empty()
            && text.as_bytes().get(read_to..start).is_none_or(|between| !between.contains(&b'\n'));
        if same_line {
            continue;
        }
        read_to = start;
        mistakes.push(
            Mistake::new(span, format!("broken TOML: {}", error.message()), "here").help(
                "keys are written as: name = \"text\", count = 3, listen = [\"…\"]; tables as [ports] or [[nodes]]",
            ),
        );
    }
    mistakes
}

fn place(error: &toml::de::Error, text: &str) -> Range<usize> {
    error.span().unwrap_or(text.len()..text.len())
}

fn read(path: &Path) -> Result<Vec<u8>, Mistake> {
    let shown = path.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Mistake::of_file(format!("there is no file {shown}"))
            .help(format!("`hippius init {shown}` writes a starter topology")),
        io::ErrorKind::PermissionDenied => Mistake::of_file(format!("{shown} may not be read: {error}"))
            .help(format!("see who owns it: ls -l {shown}")),
        io::ErrorKind::NotADirectory => Mistake::of_file(format!("there is no file {shown}: {error}"))
            .help("a part of this path is a file, not a directory"),
        _ => {
            Mistake::of_file(format!("{shown} cannot be read: {error}")).help("give the path of a TOML file")
        }
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Mistake::of_file(format!("{shown} is a directory"))
            .help("give the path of a TOML file, e.g. one inside it"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Mistake::of_file(format!("{shown} is larger than {MAX_FILE_BYTES} bytes"))
            .help("is it a topology? use `count` for groups of equal nodes"));
    }
    Ok(bytes)
}
