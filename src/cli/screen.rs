//! What the supervisor prints, on a thread of its own: a terminal that takes nothing (Ctrl-S, a connection that is dead) or a
//! reader that has gone may hold up this thread, never the network.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::progress::{Progress, REDRAW};
use crate::supervisor::logs::format::{self, Paint};
use crate::supervisor::logs::{LogLine, lagged};
use crate::supervisor::wire::Status;

/// Log lines that may wait for a slow terminal before some are left out (they are in the files).
const MAX_LINES: usize = 4096;
/// How long what is left may take to be printed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A handle to the thread that prints.
#[derive(Clone)]
pub struct Screen(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Only the latest is of interest.
    status: Option<Arc<Status>>,
    items: VecDeque<Item>,
    lines: usize,
    lost: u64,
}

enum Item {
    EndOfProgress,
    /// For standard output.
    Say(String),
    /// For standard error.
    Complain(String),
    Line(LogLine),
    /// All before it is printed.
    Mark(oneshot::Sender<()>),
}

enum Work {
    Show(Arc<Status>),
    Item(Item),
    Redraw,
}

impl Screen {
    /// Starts the thread. `paint` is for log lines.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn open(progress: Progress, paint: Paint) -> io::Result<Self> {
        let screen = Self(Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new() }));
        let shared = screen.0.clone();
        std::thread::Builder::new().name("print".to_owned()).spawn(move || shared.print(progress, paint))?;
        Ok(screen)
    }

    /// Brings the progress display up to date.
    pub fn show(&self, status: Arc<Status>) {
        self.0.lock().status = Some(status);
        self.0.filled.notify_one();
    }

    /// The progress display is left as it is and the cursor below it.
    pub fn end_progress(&self) {
        self.push(Item::EndOfProgress);
    }

    /// Prints to standard output.
    pub fn say(&self, text: impl Into<String>) {
        self.push(Item::Say(text.into()));
    }

    /// Prints to standard error.
    pub fn complain(&self, text: impl Into<String>) {
        self.push(Item::Complain(text.into()));
    }

    /// Prints a line of a log, unless too many wait already; how many were left out is told later.
    pub fn line(&self, line: LogLine) {
        let mut queue = self.0.lock();
        if queue.lines >= MAX_LINES {
            queue.lost += 1;
            return;
        }
        queue.lines += 1;
        queue.items.push_back(Item::Line(line));
        if queue.lost > 0 {
            // There is room again: say what is missing.
            let missing = lagged(std::mem::take(&mut queue.lost));
            queue.lines += 1;
            queue.items.push_back(Item::Line(missing));
        }
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Lines that were lost before they came here.
    pub fn lost(&self, count: u64) {
        self.0.lock().lost += count;
    }

    /// Waits until everything so far is printed, but not for ever.
    pub async fn flush(&self) {
        let (mark, printed) = oneshot::channel();
        self.push(Item::Mark(mark));
        let _ = tokio::time::timeout(LAST_WORDS, printed).await;
    }

    fn push(&self, item: Item) {
        self.0.lock().items.push_back(item);
        self.0.filled.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next. The lock is not held while it is done.
    fn next(&self, moving: bool) -> Work {
        let mut queue = self.lock();
        loop {
            if let Some(status) = queue.status.take() {
                return Work::Show(status);
            }
            if let Some(item) = queue.items.pop_front() {
                if matches!(item, Item::Line(_)) {
                    queue.lines -= 1;
                }
                return Work::Item(item);
            }
            if !moving {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (waited, timeout) =
                self.filled.wait_timeout(queue, REDRAW).unwrap_or_else(PoisonError::into_inner);
            queue = waited;
            if timeout.timed_out() {
                return Work::Redraw;
            }
        }
    }

    /// Prints for as long as the process lives. Who reads may have gone: that must not end anything.
    fn print(&self, mut progress: Progress, paint: Paint) {
        let mut width = 0;
        loop {
            match self.next(progress.moves()) {
                Work::Show(status) => progress.show(&status),
                Work::Redraw => progress.redraw(),
                Work::Item(Item::EndOfProgress) => progress.finish(),
                Work::Item(Item::Say(text)) => {
                    let _ = writeln!(io::stdout(), "{text}");
                }
                Work::Item(Item::Complain(text)) => {
                    let _ = writeln!(io::stderr(), "{text}");
                }
                Work::Item(Item::Line(line)) => {
                    width = width.max(line.process.len());
                    let _ = writeln!(io::stdout(), "{}", format::line(&line, width, paint));
                }
                Work::Item(Item::Mark(printed)) => {
                    let _ = printed.send(());
                }
            }
        }
    }
}
