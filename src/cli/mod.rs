//! The command line.

pub mod check;
pub mod console;
pub mod init;
pub mod plan;
pub mod schema;

use std::io::Write;
use std::process::ExitCode;

/// Prints a result to standard output. A reader that has gone, like `head`, is no failure.
fn print_line(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
