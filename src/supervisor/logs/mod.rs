//! What the processes print: split into whole lines, kept as JSON lines in one rotated file per process, and handed live to
//! whoever follows.
//!
//! A line is never torn or doubled: the pipe is read to its end even after the process has been killed, and only whole lines
//! reach a file. A slow follower loses lines (and is told how many); the files lose none.

pub mod file;
pub mod format;
mod lines;
pub mod read;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use tokio_util::task::TaskTracker;

use crate::topology::plan::LogPolicy;
use file::LogFile;
use lines::{LineSplitter, to_json_line};

/// The name under which the supervisor itself logs.
pub const SUPERVISOR: &str = "supervisor";
/// Lines that a follower may lag behind before it loses some.
const LIVE_LINES: usize = 4096;
/// Bytes read from a pipe at once: the usual capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// One line of one process, as it stands in the file: a JSON object without its line end.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// The process that wrote it.
    pub process: Arc<str>,
    /// The JSON text.
    pub json: Arc<str>,
}

/// The log files of a network, and the lines as they come.
#[derive(Debug, Clone)]
pub struct Logs {
    dir: PathBuf,
    policy: LogPolicy,
    live: broadcast::Sender<LogLine>,
    /// One permit: searching history takes every file of a network and a processor.
    search: Arc<Semaphore>,
}

impl Logs {
    /// Opens the folder, creating it if need be.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn open(dir: &Path, policy: LogPolicy) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let live = broadcast::channel(LIVE_LINES).0;
        Ok(Self { dir: dir.to_owned(), policy, live, search: Arc::new(Semaphore::new(1)) })
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until nobody else searches the history; to be held while searching.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.search.acquire().await.ok()
    }

    /// All lines from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<LogLine> {
        self.live.subscribe()
    }

    /// The log of one process; its clones share the file.
    #[must_use]
    pub fn of(&self, process: &str) -> ProcessLog {
        ProcessLog {
            process: process.into(),
            file: Arc::new(Mutex::new(LogFile::new(self.dir.join(format!("{process}.log")), self.policy))),
            live: self.live.clone(),
            dropped: Arc::default(),
            trouble: Arc::default(),
            readers: TaskTracker::new(),
        }
    }
}

/// The log of one process.
#[derive(Debug, Clone)]
pub struct ProcessLog {
    process: Arc<str>,
    file: Arc<Mutex<LogFile>>,
    live: broadcast::Sender<LogLine>,
    dropped: Arc<AtomicU64>,
    /// Why the last line was dropped, if it was.
    trouble: Arc<Mutex<Option<String>>>,
    /// Reads what each incarnation prints.
    readers: TaskTracker,
}

impl ProcessLog {
    /// Lines that could not be written to the file (disk full, folder gone).
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// Why lines are not written to the file, as long as they are not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let dropped = self.dropped.load(Ordering::Relaxed);
        Some(format!("its log cannot be written ({dropped} lines lost): {trouble}"))
    }

    /// Reads what one incarnation prints until its end of the pipe is closed.
    pub fn collect(&self, mut pipe: pipe::Receiver) {
        let log = self.clone();
        self.readers.spawn(async move {
            let mut splitter = LineSplitter::default();
            let mut buffer = vec![0_u8; 4096];
            loop {
                match pipe.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let mut batch = Batch::default();
                        splitter.push(&buffer[..count], |line| batch.add(line));
                        log.write(batch);
                        // Most processes print little: only a busy one gets a large buffer.
                        if count == buffer.len() && count < READ_BYTES {
                            buffer.resize(READ_BYTES, 0);
                        }
                    }
                }
            }
            let mut batch = Batch::default();
            splitter.finish(|line| batch.add(line));
            log.write(batch);
        });
    }

    /// Waits until everything that was printed has been read. No process may be added then.
    pub async fn drained(&self) {
        self.readers.close();
        self.readers.wait().await;
    }

    /// Adds one line that the supervisor writes itself.
    pub fn line(&self, line: &[u8]) {
        let mut batch = Batch::default();
        batch.add(line);
        self.write(batch);
    }

    fn write(&self, batch: Batch) {
        if batch.lines.is_empty() {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = file.append(&batch.bytes).err().map(|error| error.to_string());
        drop(file);
        if trouble.is_some() {
            self.dropped.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
        }
        self.note(trouble);
        if self.live.receiver_count() > 0 {
            for json in batch.lines.iter().filter_map(|range| batch.bytes.get(range.clone())) {
                let json = String::from_utf8_lossy(json).into();
                // No receiver any more is no failure.
                let _ = self.live.send(LogLine { process: self.process.clone(), json });
            }
        }
    }
}

impl ProcessLog {
    /// Remembers whether the last write went well, and says so when that changes.
    fn note(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == trouble {
            return;
        }
        known.clone_from(&trouble);
        drop(known);
        // The supervisor's own lines come through here, too: it must not talk about itself while it talks.
        if *self.process == *SUPERVISOR {
            return;
        }
        match trouble {
            Some(trouble) => {
                tracing::warn!(
                    process = &*self.process,
                    "its log cannot be written, lines are lost: {trouble}"
                );
            }
            None => tracing::info!(process = &*self.process, "its log is written again"),
        }
    }
}

/// The lines of one read, ready for one write.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: Vec<std::ops::Range<usize>>,
}

impl Batch {
    fn add(&mut self, line: &[u8]) {
        let start = self.bytes.len();
        to_json_line(line, &mut self.bytes);
        self.lines.push(start..self.bytes.len());
        self.bytes.push(b'\n');
    }
}

/// Lets `tracing` write the supervisor's own lines into its log.
#[derive(Debug, Clone)]
pub struct TracingWriter(pub ProcessLog);

impl io::Write for TracingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line.strip_suffix(b"\n").unwrap_or(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Said to a reader that was too slow, in place of the lines that it missed.
#[must_use]
pub fn lagged(lost: u64) -> LogLine {
    let message = format!("{lost} lines came faster than they were read; they are in the log files");
    LogLine {
        process: SUPERVISOR.into(),
        json: serde_json::json!({"level": "WARN", "message": message}).to_string().into(),
    }
}
