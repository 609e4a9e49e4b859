//! The console as a script: lines in, plain lines out.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;

use super::command::{self, Command};
use super::events::Events;
use super::session::{Reply, Session};
use super::{ConsoleError, Outcome, files, render};
use crate::p2p::{Event, TransferInfo, TransferState};

/// Longest line of a script, in bytes; a text of 64 KiB with every byte escaped fits.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// A script's streams.
pub struct Script {
    /// Commands, one a line.
    pub commands: Box<dyn BufRead + Send>,
    /// Replies and incoming messages, one or more lines each.
    pub output: Box<dyn Write + Send>,
    /// Commands that failed, one line each: `error: line 3: …`.
    pub errors: Box<dyn Write + Send>,
}

/// Each command is answered before the next is read, so at the end of the input all answers are out.
pub(super) async fn run(socket: &Path, script: Script) -> Result<Outcome, ConsoleError> {
    let Script { commands, mut output, mut errors } = script;
    let mut session = Session::open(socket).await?;
    let mut events = Events::open(session.client()).await?;
    let earlier = session.earlier().await;
    events.skip(&earlier);
    print(&mut output, &earlier.iter().map(|message| render::earlier(message, false)).collect::<Vec<_>>())?;
    let mut lines = read_lines(commands)?;
    let mut failed = 0;
    let mut number = 0;
    loop {
        let line = tokio::select! {
            line = lines.recv() => match line {
                None => break,
                Some(line) => line?,
            },
            event = events.next() => {
                if let Some(line) = render::event(&event?, false) {
                    print(&mut output, &[line])?;
                }
                continue;
            }
        };
        number += 1;
        let result = match command::parse(&line) {
            // In a script, `#` begins a comment, not a text to send.
            Ok(Command::Say(text)) if text.starts_with('#') => Ok(Reply::Lines(Vec::new())),
            Ok(command) => session.execute(command).await,
            Err(error) => Err(render::harmless(&error.to_string())),
        };
        match result {
            Ok(Reply::Lines(lines)) => print(&mut output, &lines)?,
            Ok(Reply::Sending(info)) => {
                print(&mut output, &[files::begun(&info)])?;
                if let Err(error) = follow(&session, &mut events, &mut *output, info.id).await? {
                    failed += 1;
                    print(&mut errors, &[format!("error: line {number}: {error}")])?;
                }
            }
            Ok(Reply::Quit) => break,
            Err(error) => {
                failed += 1;
                print(&mut errors, &[format!("error: line {number}: {error}")])?;
            }
        }
    }
    Ok(Outcome { failed })
}

/// Waits for the end of a file that is being sent, so that the script can tell how it went.
async fn follow(
    session: &Session,
    events: &mut Events,
    output: &mut (dyn Write + Send),
    id: u64,
) -> Result<Result<(), String>, ConsoleError> {
    loop {
        let event = events.next().await?;
        let ended = match &event {
            Event::FileSent(info) | Event::FileFailed(info) if info.id == id => Some(info.clone()),
            // Its end may be among what was lost.
            Event::Lagged { .. } => {
                let files = session.transfers().await.unwrap_or_default();
                let over = |info: &TransferInfo| {
                    info.id == id && matches!(info.state, TransferState::Done | TransferState::Failed)
                };
                files.into_iter().find(over)
            }
            _ => None,
        };
        match ended {
            Some(info) if info.state == TransferState::Failed => return Ok(Err(files::failure(&info))),
            Some(info) => {
                let line = render::event(&Event::FileSent(info), false);
                print(output, &line.into_iter().collect::<Vec<_>>())?;
                return Ok(Ok(()));
            }
            None => print(output, &render::event(&event, false).into_iter().collect::<Vec<_>>())?,
        }
    }
}

fn print(output: &mut dyn Write, lines: &[String]) -> io::Result<()> {
    for line in lines {
        writeln!(output, "{line}")?;
    }
    output.flush()
}

/// Reads on a thread of its own, which may sit in `read` for ever: the process does not wait for it at its end.
fn read_lines(mut commands: Box<dyn BufRead + Send>) -> io::Result<mpsc::Receiver<io::Result<String>>> {
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new().name("console-input".to_owned()).spawn(move || {
        loop {
            let line = match read_line(&mut commands) {
                Ok(None) => return,
                Ok(Some(line)) => Ok(line),
                Err(error) => Err(error),
            };
            let last = line.is_err();
            if sender.blocking_send(line).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn read_line(commands: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = commands.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && read as u64 == MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 MiB"));
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_must_be_text() {
        let mut input: &[u8] = b"one\ntwo";
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("one\n"));
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("two"));
        assert_eq!(read_line(&mut input).unwrap(), None);
        assert!(read_line(&mut io::BufReader::new(io::repeat(b'x'))).is_err());
        let mut input: &[u8] = b"\xff\n";
        assert!(read_line(&mut input).is_err());
    }
}
