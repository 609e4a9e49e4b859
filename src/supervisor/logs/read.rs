//! The last lines of log files, those of several processes merged by time. Works without a running supervisor.
//!
//! Reading has three steps, so that a supervisor that goes on writing can serve it: [`History::open`] fixes what belongs
//! to it and is quick; [`History::last`] goes backwards through the files to where the wanted lines begin; [`Lines`] gives
//! them one by one, the oldest first. None of them holds more than a block of each file in memory, however many lines
//! are wanted.

mod backwards;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::LogLine;
use super::file::{rotated, unwaiting};
use backwards::Backwards;

/// Bytes read at once from one file.
const BLOCK_BYTES: usize = 16 * 1024;
/// Longest line that is read in one piece. The supervisor cuts lines far below it, but the folder is open to everybody.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Names of all processes that have a log in `dir`, in order. Other files there, like `turn_bandwidth.log`, have an underscore in
/// their names, which no process has.
///
/// # Errors
/// When the folder cannot be read.
pub fn processes(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let name = entry.to_str().and_then(|name| name.strip_suffix(".log"));
        names.extend(name.filter(|name| !name.contains('_')).map(str::to_owned));
    }
    Ok(names.into_iter().collect())
}

/// The log files of some processes as they are at one moment: what is written, rotated or removed later changes nothing.
#[derive(Debug)]
pub struct History {
    logs: Vec<Log>,
}

/// The files of one process.
#[derive(Debug)]
struct Log {
    process: Arc<str>,
    /// Newest first, each with the length that counts.
    files: Vec<(File, u64)>,
}

impl History {
    /// Opens the files; reads nothing.
    ///
    /// # Errors
    /// When a file that exists cannot be opened.
    pub fn open(dir: &Path, processes: &[String]) -> io::Result<Self> {
        let logs = processes.iter().map(|process| Log::open(dir, process)).collect::<io::Result<_>>()?;
        Ok(Self { logs })
    }

    /// Finds the last `count` lines of all.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn last(self, count: usize) -> io::Result<Lines> {
        let mut readers: Vec<Backwards<'_>> =
            self.logs.iter().map(|log| Backwards::new(&log.files)).collect();
        // The newest line of each that was not taken yet; of lines of the same time, the last process's is the newest.
        let mut newest = BinaryHeap::new();
        let mut begins = vec![None; readers.len()];
        if count > 0 {
            for (which, reader) in readers.iter_mut().enumerate() {
                // A line without a time belongs to the one that was written after it, and the last one to now.
                newest
                    .extend(reader.previous()?.map(|line| (time(line).unwrap_or_else(|| "~".into()), which)));
            }
        }
        for _ in 0..count {
            let Some((at, which)) = newest.pop() else { break };
            let reader = &mut readers[which];
            begins[which] = Some(reader.position());
            newest.extend(reader.previous()?.map(|line| (time(line).unwrap_or(at), which)));
        }
        drop(readers);
        let logs = self.logs.into_iter().zip(begins);
        Lines::new(logs.filter_map(|(log, begin)| begin.map(|(file, offset)| log.forwards(file, offset))))
    }
}

impl Log {
    fn open(dir: &Path, process: &str) -> io::Result<Self> {
        let path = dir.join(format!("{process}.log"));
        let mut files = Vec::new();
        for age in 0.. {
            let path = if age == 0 { path.clone() } else { rotated(&path, age) };
            match unwaiting(OpenOptions::new().read(true), &path) {
                Ok(file) => {
                    let length = file.metadata()?.len();
                    files.push((file, length));
                }
                // The current file may have been removed, or rotated away a moment ago, and the older ones be there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && age == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { process: process.into(), files })
    }

    /// Reads from `offset` in the file of that number on; older files are closed.
    fn forwards(mut self, file: usize, offset: u64) -> Forwards {
        self.files.truncate(file + 1);
        Forwards { process: self.process, files: self.files, offset, current: None, line: String::new() }
    }
}

/// Lines, oldest first.
#[derive(Debug)]
pub struct Lines {
    logs: Vec<Forwards>,
    /// The next line's time of each; of lines of the same time, the first process's comes first.
    next: BinaryHeap<Reverse<(String, usize)>>,
}

impl Lines {
    fn new(logs: impl Iterator<Item = Forwards>) -> io::Result<Self> {
        let mut lines = Self { logs: logs.collect(), next: BinaryHeap::new() };
        for which in 0..lines.logs.len() {
            lines.advance(which, String::new())?;
        }
        Ok(lines)
    }

    /// The next line; `None` after the last one.
    ///
    /// # Errors
    /// When a file cannot be read.
    #[allow(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> io::Result<Option<LogLine>> {
        let Some(Reverse((at, which))) = self.next.pop() else { return Ok(None) };
        let log = &self.logs[which];
        let line = LogLine { process: log.process.clone(), json: log.line.as_str().into() };
        self.advance(which, at)?;
        Ok(Some(line))
    }

    /// Reads the next line of a log; one without a time belongs to the one before it.
    fn advance(&mut self, which: usize, before: String) -> io::Result<()> {
        let log = &mut self.logs[which];
        if log.advance()? {
            let time = time(log.line.as_bytes()).unwrap_or(before);
            self.next.push(Reverse((time, which)));
        }
        Ok(())
    }
}

/// One process's lines.
#[derive(Debug)]
struct Forwards {
    process: Arc<str>,
    /// Those not begun, newest first.
    files: Vec<(File, u64)>,
    /// Where to begin in the oldest of them.
    offset: u64,
    current: Option<BufReader<io::Take<File>>>,
    line: String,
}

impl Forwards {
    /// Puts the next line into `self.line`; false after the last one.
    fn advance(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        loop {
            let Some(reader) = &mut self.current else {
                let Some((mut file, length)) = self.files.pop() else { return Ok(false) };
                file.seek(SeekFrom::Start(self.offset))?;
                let rest = file.take(length.saturating_sub(self.offset));
                self.current = Some(BufReader::with_capacity(BLOCK_BYTES, rest));
                self.offset = 0;
                continue;
            };
            reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
            let whole = line.last() == Some(&b'\n');
            if whole || line.len() == MAX_LINE_BYTES {
                line.truncate(line.len() - usize::from(whole));
                self.line = match String::from_utf8(line) {
                    Ok(line) => line,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                };
                return Ok(true);
            }
            // The end; what stands without a line end is being written right now.
            line.clear();
            self.current = None;
        }
    }
}

/// The time of a line, if it has one.
fn time(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        timestamp: String,
    }
    serde_json::from_slice::<Line>(json).map(|line| line.timestamp).ok()
}

#[cfg(test)]
mod tests;
