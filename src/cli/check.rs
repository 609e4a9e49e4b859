//! `hippius check`: every mistake of a topology at once.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output;
use super::window::Window;
use crate::control::printable::printable;
use crate::roles::logging;
use crate::topology::plan::Plan;
use crate::topology::{self, Look, Mistakes, environment};

/// Check a topology file and print every mistake in it.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The topology file.
    #[arg(value_name = "TOPOLOGY", default_value = "topology/local.toml")]
    pub topology: PathBuf,
}

/// Runs the command.
#[must_use]
pub fn run(args: CheckArgs) -> ExitCode {
    match load(&args.topology) {
        Ok(plan) => {
            let processes = plan.processes.len();
            let word = if processes == 1 { "process" } else { "processes" };
            let file = printable(&args.topology.display().to_string());
            output::print(&format!("{file} is good: {processes} {word}"))
        }
        Err(code) => code,
    }
}

/// Reads the topology at `path` and the files that it stands on; prints every mistake in any of them.
///
/// # Errors
/// The exit code, once the mistakes are printed.
pub fn load(path: &Path) -> Result<Plan, ExitCode> {
    let mistakes = match topology::load_with_files(path, &environment::of_process) {
        Ok(topology) => return Ok(topology.plan()),
        Err(mistakes) => mistakes,
    };
    for mistakes in &mistakes {
        report(mistakes);
    }
    Err(ExitCode::FAILURE)
}

/// Prints `mistakes` to standard error, drawn as the terminal allows.
pub fn report(mistakes: &Mistakes) {
    let terminal = std::io::stderr().is_terminal();
    let look = look(terminal, !logging::colour(terminal));
    output::complain(&match Window::of(std::io::stderr()) {
        Some(window) => mistakes.render_within(look, window.columns),
        None => mistakes.render(look),
    });
}

fn look(is_terminal: bool, no_color: bool) -> Look {
    match (is_terminal, no_color) {
        (false, _) => Look::Ascii,
        (true, true) => Look::Plain,
        (true, false) => Look::Color,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        assert_eq!(look(true, false), Look::Color);
        assert_eq!(look(true, true), Look::Plain);
        assert_eq!(look(false, false), Look::Ascii);
        assert_eq!(look(false, true), Look::Ascii);
    }
}
