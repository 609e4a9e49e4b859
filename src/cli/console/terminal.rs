//! The console on a terminal: an editor with history and completion, events above the prompt.
//!
//! The editor sits in `read` on a thread of its own, and the printer, which may wait for the terminal, on another. The
//! task between them never waits for either.
//!
//! rustyline's own external printer is not used: with it, the editor waits for the terminal although characters
//! that came together with the last one are still in its buffer, so that a line typed ahead stays unseen until the next key.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};
use tokio::sync::mpsc;

use super::command::{self, COMMANDS};
use super::editing::Editing;
use super::events::Events;
use super::session::{Reply, Session};
use super::{ConsoleError, Outcome, files, render};
use crate::p2p::Event;

/// Lines waiting to be printed; when the terminal does not take them, messages are dropped and counted.
const PRINT_QUEUE: usize = 256;

type Known = Arc<Mutex<Names>>;
type Shown = Arc<Mutex<Editing>>;

pub(super) async fn run(socket: &Path) -> Result<Outcome, ConsoleError> {
    let mut session = Session::open(socket).await?;
    let mut events = Events::open(session.client()).await?;
    let known = Known::default();
    // Dropped on every way out: the editor may be left in the middle of a line, with the terminal in raw mode.
    let _mode = TerminalMode::save();
    let mut terminal = Terminal::open(known.clone())?;
    terminal.print(vec!["/help lists the commands; /quit leaves".to_owned()]);
    let earlier = session.earlier().await;
    events.skip(&earlier);
    terminal.print(earlier.iter().map(|message| render::earlier(message, true)).collect());
    lock(&known).nodes = session.node_names().await;
    loop {
        lock(&known).topics = session.topics().await;
        terminal.prompt(&session);
        let line = loop {
            tokio::select! {
                line = terminal.lines.recv() => break line,
                event = events.next() => {
                    let event = event?;
                    if let (Event::PeerJoinedTopic { topic, .. }, Ok(mut names)) = (&event, known.lock())
                        && names.topics.len() < COMPLETED_TOPICS
                        && !names.topics.iter().any(|known| known == topic.as_str())
                    {
                        names.topics.push(topic.to_string());
                    }
                    terminal.print(render::event(&event, true).into_iter().collect());
                    terminal.progress(&event);
                }
            }
        };
        let Some(line) = line else { return Ok(Outcome { failed: 0 }) };
        let result = match command::parse(&line) {
            Ok(command) => session.execute(command).await,
            Err(error) => Err(render::harmless(&error.to_string())),
        };
        match result {
            Ok(Reply::Lines(lines)) => terminal.print(lines),
            Ok(Reply::Sending(info)) => terminal.print(vec![files::begun(&info)]),
            Ok(Reply::Quit) => return Ok(Outcome { failed: 0 }),
            Err(error) => terminal.print(vec![format!("error: {error}")]),
        }
    }
}

/// What completion offers.
#[derive(Default)]
struct Names {
    topics: Vec<String>,
    /// The network's other nodes, as their processes are called.
    nodes: Vec<String>,
}

/// Topics offered by completion; others' topics come on top of one's own.
const COMPLETED_TOPICS: usize = 128;

/// The two threads' ends.
struct Terminal {
    /// A prompt to read a line with.
    prompts: SyncSender<String>,
    lines: mpsc::Receiver<String>,
    printer: SyncSender<Print>,
    dropped: u64,
    /// How far each file on its way is.
    progress: BTreeMap<u64, String>,
}

/// What is shown above the prompt.
enum Print {
    Lines(String),
    /// One line, in place of the last of its kind.
    Status(String),
}

impl Terminal {
    fn open(known: Known) -> Result<Self, ConsoleError> {
        let failed = |error: ReadlineError| ConsoleError::Terminal(error.to_string());
        let mut editor: Editor<Completion, DefaultHistory> = Editor::new().map_err(failed)?;
        let shown = Shown::default();
        editor.set_helper(Some(Completion { known, shown: shown.clone() }));
        let (prompts, prompt_requests) = sync_channel(1);
        let (line_sender, lines) = mpsc::channel(1);
        let (printer, to_print) = sync_channel::<Print>(PRINT_QUEUE);
        let editing = shown.clone();
        thread::Builder::new()
            .name("console-editor".to_owned())
            .spawn(move || edit(&mut editor, &prompt_requests, &line_sender, &editing))?;
        thread::Builder::new().name("console-printer".to_owned()).spawn(move || {
            while let Ok(print) = to_print.recv() {
                // Held while writing: the line must not change between what is drawn and what is there.
                let mut shown = lock(&shown);
                let mut output = io::stdout().lock();
                let bytes = match print {
                    Print::Lines(text) => shown.above(&text),
                    Print::Status(text) => shown.status(&text),
                };
                if output.write_all(bytes.as_bytes()).and_then(|()| output.flush()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { prompts, lines, printer, dropped: 0, progress: BTreeMap::new() })
    }

    /// Asks for the next line. One is asked for only after the one before has come, so there is always room.
    fn prompt(&self, session: &Session) {
        let topic = session.last_topic().map(|topic| render::harmless(topic.as_str())).unwrap_or_default();
        let _ = self.prompts.try_send(format!("{topic}> "));
    }

    /// Shows how far the files on their way are, in one line.
    fn progress(&mut self, event: &Event) {
        match event {
            Event::FileProgress(info) => {
                self.progress.insert(info.id, files::progress(info));
                let line = self.progress.values().map(String::as_str).collect::<Vec<_>>().join("   ");
                // With so much to print that there is no room, nobody misses it.
                let _ = self.printer.try_send(Print::Status(line));
            }
            Event::FileSent(info) | Event::FileReceived(info) | Event::FileFailed(info) => {
                self.progress.remove(&info.id);
            }
            // The end of a file may be among what was lost.
            Event::Lagged { .. } => self.progress.clear(),
            _ => {}
        }
    }

    fn print(&mut self, mut lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        if self.dropped > 0 {
            lines.insert(0, format!("({} messages could not be shown in time)", self.dropped));
        }
        match self.printer.try_send(Print::Lines(lines.join("\n"))) {
            Err(TrySendError::Full(_)) => self.dropped += 1,
            _ => self.dropped = 0,
        }
    }
}

/// Reads lines as they are asked for, until the end of the input (Ctrl-D) or an interrupt (Ctrl-C).
fn edit(
    editor: &mut Editor<Completion, DefaultHistory>,
    prompts: &Receiver<String>,
    lines: &mpsc::Sender<String>,
    shown: &Shown,
) {
    while let Ok(prompt) = prompts.recv() {
        let columns = editor.dimensions().map_or(80, |(columns, _)| columns.into());
        lock(shown).begin(&prompt, columns);
        let line = editor.readline(&prompt);
        lock(shown).end();
        let Ok(line) = line else { return };
        // History in memory only: what was typed may be private.
        let _ = editor.add_history_entry(line.as_str());
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Puts the terminal back as it was.
struct TerminalMode(Option<Termios>);

impl TerminalMode {
    fn save() -> Self {
        Self(tcgetattr(io::stdin().as_fd()).ok())
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        if let Some(mode) = &self.0 {
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, mode);
        }
    }
}

/// Completes commands, and the names of topics and nodes where a command takes one; and tells the printer what the line looks like.
struct Completion {
    known: Known,
    shown: Shown,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Neither the names nor the line can be left half changed by a panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let names = lock(&self.known);
        Ok(complete(line.get(..position).unwrap_or(line), &names))
    }
}

/// Called after every edit.
impl Hinter for Completion {
    type Hint = String;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<String> {
        lock(&self.shown).change(line, position);
        None
    }
}

/// Called after every move of the cursor.
impl Highlighter for Completion {
    fn highlight_char(&self, line: &str, position: usize, _: CmdKind) -> bool {
        lock(&self.shown).change(line, position);
        false
    }
}

/// Called when the line is finished.
impl Validator for Completion {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        lock(&self.shown).end();
        Ok(ValidationResult::Valid(None))
    }
}

impl Helper for Completion {}

/// Where the word under the cursor begins, and what it may become.
fn complete(typed: &str, names: &Names) -> (usize, Vec<String>) {
    let Some((command, argument)) = typed.split_once(' ') else {
        let fits = COMMANDS.iter().filter(|(name, _, _)| name.starts_with(typed));
        let fits = fits
            .map(|(name, usage, _)| if usage.is_empty() { (*name).to_owned() } else { format!("{name} ") });
        return (0, fits.collect());
    };
    let known = match command {
        "/join-topic" | "/leave-topic" | "/send" | "/history" => names.topics.as_slice(),
        "/disconnect" | "/block" | "/unblock" | "/msg" | "/send-file" => names.nodes.as_slice(),
        _ => &[],
    };
    if argument.contains(' ') {
        return (typed.len(), Vec::new());
    }
    let space = if matches!(command, "/send" | "/msg" | "/send-file") { " " } else { "" };
    let fits = known.iter().filter(|name| name.starts_with(argument));
    // A name that could touch the terminal is not offered.
    let fits = fits.filter(|name| render::harmless(name) == **name).map(|name| format!("{name}{space}"));
    (command.len() + 1, fits.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_names_are_completed() {
        let topics = ["lobby", "log", "x\u{202e}"].map(str::to_owned).to_vec();
        let names = Names { topics, nodes: vec!["node-0".to_owned(), "log-keeper".to_owned()] };
        assert_eq!(complete("/jo", &names), (0, vec!["/join-topic ".to_owned()]));
        assert_eq!(complete("/p", &names), (0, vec!["/peers".to_owned()]));
        assert_eq!(complete("/send lo", &names), (6, vec!["lobby ".to_owned(), "log ".to_owned()]));
        assert_eq!(complete("/leave-topic x", &names), (13, vec![]));
        assert_eq!(complete("/send lobby l", &names).1, Vec::<String>::new());
        assert_eq!(complete("/block no", &names), (7, vec!["node-0".to_owned()]));
        assert_eq!(complete("/msg l", &names), (5, vec!["log-keeper ".to_owned()]));
        assert_eq!(complete("hello", &names), (0, vec![]));
    }
}
