//! The console on a terminal: an editor with history and completion, events above the prompt.
//!
//! The editor sits in `read` on a thread of its own, and so does the printer, which may wait for the editor. The
//! task between them never waits for either.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;

use super::command::{self, COMMANDS};
use super::events::Events;
use super::session::{Reply, Session};
use super::{ConsoleError, Outcome, render};
use crate::p2p::Event;

/// Lines waiting to be printed; when the terminal does not take them, messages are dropped and counted.
const PRINT_QUEUE: usize = 256;

type Topics = Arc<Mutex<Vec<String>>>;

pub(super) async fn run(socket: &Path) -> Result<Outcome, ConsoleError> {
    let mut session = Session::open(socket).await?;
    let mut events = Events::open(session.client()).await?;
    let topics = Topics::default();
    // Dropped on every way out: the editor may be left in the middle of a line, with the terminal in raw mode.
    let _mode = TerminalMode::save();
    let mut terminal = Terminal::open(topics.clone())?;
    terminal.print(vec!["/help lists the commands; /quit leaves".to_owned()]);
    loop {
        *topics.lock().unwrap_or_else(PoisonError::into_inner) = session.topics().await;
        terminal.prompt(&session);
        let line = loop {
            tokio::select! {
                line = terminal.lines.recv() => break line,
                event = events.next() => {
                    let event = event?;
                    if let (Event::PeerJoinedTopic { topic, .. }, Ok(mut topics)) = (&event, topics.lock())
                        && topics.len() < COMPLETED_TOPICS
                        && !topics.iter().any(|known| known == topic.as_str())
                    {
                        topics.push(topic.to_string());
                    }
                    terminal.print(render::event(&event, true).into_iter().collect());
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
            Ok(Reply::Quit) => return Ok(Outcome { failed: 0 }),
            Err(error) => terminal.print(vec![format!("error: {error}")]),
        }
    }
}

/// Topics offered by completion; others' topics come on top of one's own.
const COMPLETED_TOPICS: usize = 128;

/// The two threads' ends.
struct Terminal {
    /// A prompt to read a line with.
    prompts: SyncSender<String>,
    lines: mpsc::Receiver<String>,
    printer: SyncSender<String>,
    dropped: u64,
}

impl Terminal {
    fn open(topics: Topics) -> Result<Self, ConsoleError> {
        let failed = |error: ReadlineError| ConsoleError::Terminal(error.to_string());
        let mut editor: Editor<Completion, DefaultHistory> = Editor::new().map_err(failed)?;
        editor.set_helper(Some(Completion { topics }));
        let mut above = editor.create_external_printer().map_err(failed)?;
        let (prompts, prompt_requests) = sync_channel(1);
        let (line_sender, lines) = mpsc::channel(1);
        let (printer, to_print) = sync_channel::<String>(PRINT_QUEUE);
        thread::Builder::new()
            .name("console-editor".to_owned())
            .spawn(move || edit(&mut editor, &prompt_requests, &line_sender))?;
        thread::Builder::new().name("console-printer".to_owned()).spawn(move || {
            while let Ok(text) = to_print.recv() {
                if above.print(text).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { prompts, lines, printer, dropped: 0 })
    }

    /// Asks for the next line. One is asked for only after the one before has come, so there is always room.
    fn prompt(&self, session: &Session) {
        let topic = session.last_topic().map(|topic| render::harmless(topic.as_str())).unwrap_or_default();
        let _ = self.prompts.try_send(format!("{topic}> "));
    }

    fn print(&mut self, mut lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        if self.dropped > 0 {
            lines.insert(0, format!("({} messages could not be shown in time)", self.dropped));
        }
        match self.printer.try_send(lines.join("\n") + "\n") {
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
) {
    while let Ok(prompt) = prompts.recv() {
        let Ok(line) = editor.readline(&prompt) else { return };
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

/// Completes commands, and topics where a command takes one.
struct Completion {
    topics: Topics,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(complete(line.get(..position).unwrap_or(line), &topics))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

/// Where the word under the cursor begins, and what it may become.
fn complete(typed: &str, topics: &[String]) -> (usize, Vec<String>) {
    let Some((command, argument)) = typed.split_once(' ') else {
        let fits = COMMANDS.iter().filter(|(name, _, _)| name.starts_with(typed));
        let fits = fits
            .map(|(name, usage, _)| if usage.is_empty() { (*name).to_owned() } else { format!("{name} ") });
        return (0, fits.collect());
    };
    let takes_topic = matches!(command, "/join-topic" | "/leave-topic" | "/send");
    if !takes_topic || argument.contains(' ') {
        return (typed.len(), Vec::new());
    }
    let space = if command == "/send" { " " } else { "" };
    let fits = topics.iter().filter(|topic| topic.starts_with(argument));
    // A name that could touch the terminal is not offered.
    let fits = fits.filter(|topic| render::harmless(topic) == **topic).map(|topic| format!("{topic}{space}"));
    (command.len() + 1, fits.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_topics_are_completed() {
        let topics = ["lobby".to_owned(), "log".to_owned(), "x\u{202e}".to_owned()];
        assert_eq!(complete("/jo", &topics), (0, vec!["/join-topic ".to_owned()]));
        assert_eq!(complete("/p", &topics), (0, vec!["/peers".to_owned()]));
        assert_eq!(complete("/send lo", &topics), (6, vec!["lobby ".to_owned(), "log ".to_owned()]));
        assert_eq!(complete("/leave-topic x", &topics), (13, vec![]));
        assert_eq!(complete("/send lobby l", &topics).1, Vec::<String>::new());
        assert_eq!(complete("hello", &topics), (0, vec![]));
    }
}
