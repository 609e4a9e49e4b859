//! Printing for people, from commands that may wait for whoever reads. A network's supervisor prints through
//! [`super::screen`] instead.

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::signal::unix::SignalKind;

/// Prints a line to standard output. A reader that has gone, like `head`, is no concern of the command's.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line to standard error, with as little concern for who reads it.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The same with `error: ` in front; the code that goes with it.
pub fn fail(error: impl std::fmt::Display) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::FAILURE
}

/// The exit code of a program that a signal has ended, as shells give it.
pub fn ended_by(signal: SignalKind) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX))
}

/// Prints a command's result to standard output.
///
/// # Errors
/// What the system says, e.g. that the reader has gone: whoever prints more should stop.
pub fn result(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// The exit code of a command that could not print its result. A reader that has gone, like `head`, has seen enough.
pub fn unprinted(error: &io::Error) -> ExitCode {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => fail(format_args!("cannot write to standard output: {error}")),
    }
}

/// Prints a command's result; the exit code says whether that went well.
pub fn print(text: &str) -> ExitCode {
    result(text).map_or_else(|error| unprinted(&error), |()| ExitCode::SUCCESS)
}
