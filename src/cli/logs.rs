//! `hippius logs`: the logs of processes, merged by time. Works on a network that has ended, too.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use super::{DataDir, client, output};
use crate::control::client::{Client, ClientError};
use crate::control::{nearest, percent, printable};
use crate::roles::logging;
use crate::supervisor::logs::format::{self, Paint};
use crate::supervisor::logs::read::{self, History};
use crate::supervisor::logs::{LogLine, SUPERVISOR};
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::{LogEntry, MAX_LOG_LINES};

/// Print the logs of processes, merged by time.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArgs {
    /// Names of processes or groups; all of them by default. `supervisor` is the supervisor itself.
    #[arg(value_name = "PROCESS")]
    processes: Vec<String>,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    lines: usize,
    /// Print the lines as they are in the files: JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Runs the command.
pub async fn run(args: LogsArgs) -> ExitCode {
    let paths = Paths::new(&args.data.data_dir);
    let client = Client::new(&paths.control_socket());
    let mut target = format!("/v1/logs?n={}", args.lines.min(MAX_LOG_LINES));
    for name in &args.processes {
        target.push_str("&process=");
        target.push_str(&percent::encode(name));
    }
    if args.follow {
        target.push_str("&follow=1");
    }
    let mut printer = Printer::new(args.json);
    match client.lines(&target).await {
        Ok(_) if args.lines > MAX_LOG_LINES => {
            let logs = paths.logs();
            output::fail(format_args!(
                "a network that runs tells at most its last {MAX_LOG_LINES} lines; all there are is in {}",
                logs.display()
            ))
        }
        Ok(mut lines) => loop {
            match lines.next().await {
                Ok(Some(line)) => {
                    let Ok(entry) = serde_json::from_str::<LogEntry>(&line) else { continue };
                    let line = LogLine { process: entry.process.into(), json: entry.line.into() };
                    if let Err(error) = printer.print(&line) {
                        return output::unprinted(&error);
                    }
                }
                Ok(None) => return ExitCode::SUCCESS,
                // The supervisor has ended, in whatever way: there is no more to follow.
                Err(ClientError::Http(_)) if args.follow => return ExitCode::SUCCESS,
                Err(error) => return client::fail(&error, &args.data.data_dir),
            }
        },
        Err(ClientError::NotRunning(_)) => from_files(&args, &paths, &mut printer),
        Err(error) => client::fail(&error, &args.data.data_dir),
    }
}

/// What a network that has ended left behind.
fn from_files(args: &LogsArgs, paths: &Paths, printer: &mut Printer) -> ExitCode {
    let dir = paths.logs();
    let known = match read::processes(&dir) {
        Ok(known) if !known.is_empty() => known,
        _ => {
            let (root, up) = (paths.root().display(), paths.command("up"));
            return output::fail(format_args!(
                "no network runs in {root}, and there are no logs of an earlier one; start one with {up}"
            ));
        }
    };
    let mut wanted = Vec::new();
    for name in &args.processes {
        let of_group = |process: &&String| {
            let rest = process.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
            **process == *name || rest.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let before = wanted.len();
        wanted.extend(known.iter().filter(of_group).cloned());
        if wanted.len() == before {
            let hint = printable::printable(&nearest::hint(name, known.iter().map(String::as_str)));
            let (dir, known) = (dir.display(), printable::printable(&known.join(", ")));
            return output::fail(format_args!(
                "there is no log of {name} in {dir}{hint} (there are: {known})"
            ));
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        wanted = known;
    }
    let unreadable = |error| output::fail(format_args!("cannot read the logs in {}: {error}", dir.display()));
    let mut lines = match History::open(&dir, &wanted).and_then(|history| history.last(args.lines)) {
        Ok(lines) => lines,
        Err(error) => return unreadable(error),
    };
    loop {
        match lines.next() {
            Ok(None) => break,
            Ok(Some(line)) => {
                if let Err(error) = printer.print(&line) {
                    return output::unprinted(&error);
                }
            }
            Err(error) => return unreadable(error),
        }
    }
    if args.follow {
        let root = paths.root().display();
        output::complain(&format!("no network runs in {root}: this is all there is to come"));
    }
    ExitCode::SUCCESS
}

/// Prints lines, names aligned.
struct Printer {
    paint: Paint,
    json: bool,
    terminal: bool,
    width: usize,
}

impl Printer {
    fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let paint = if logging::colour(terminal) { Paint::Colour } else { Paint::Plain };
        Self { paint, json, terminal, width: SUPERVISOR.len() }
    }

    fn print(&mut self, line: &LogLine) -> io::Result<()> {
        self.width = self.width.max(line.process.len());
        if self.json && self.terminal {
            // Some control characters need no escape in JSON, but a terminal obeys them.
            writeln!(io::stdout(), "{}", printable::printable_json(&line.json))
        } else if self.json {
            writeln!(io::stdout(), "{}", line.json)
        } else {
            writeln!(io::stdout(), "{}", format::line(line, self.width, self.paint))
        }
    }
}
