//! `hippius plan`: what a topology would start, in order; against a running network, the difference.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::columns::cut;
use super::output;
use super::window::Window;
use crate::supervisor::state_dir::Paths;
use crate::topology::PlanTable;
use crate::topology::diff::PlanDiff;
use crate::topology::plan::Plan;

/// Print what a topology would start, in order.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// The topology file.
    #[arg(value_name = "TOPOLOGY", default_value = "topology/local.toml")]
    pub topology: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the network is looked for that the plan is compared with.
    #[command(flatten)]
    pub data: super::DataDir,
}

/// Runs the command.
#[must_use]
pub fn run(args: PlanArgs) -> ExitCode {
    let plan = match super::check::load(&args.topology) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    match running(&args.data.data_dir) {
        None => print(&PlanTable::new(&plan), args.json),
        Some(Ok(running)) => print(&PlanDiff::between(&running, &plan), args.json),
        Some(Err(error)) => {
            output::fail(format_args!("cannot read the plan of the network that runs: {error}"))
        }
    }
}

/// The plan of the network that runs in `data_dir`, if one does.
fn running(data_dir: &Path) -> Option<Result<Plan, String>> {
    let paths = Paths::new(data_dir);
    if !paths.is_in_use() {
        return None;
    }
    let text = match std::fs::read(paths.plan()) {
        Ok(text) => text,
        Err(error) => return Some(Err(format!("{}: {error}", paths.plan().display()))),
    };
    Some(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", paths.plan().display())))
}

fn print<T: Display + Serialize>(value: &T, json: bool) -> ExitCode {
    if !json {
        let text = value.to_string();
        return match Window::of_stdout() {
            Some(window) => {
                let lines: Vec<String> = text.lines().map(|line| cut(line, window.columns)).collect();
                output::print(&lines.join("\n"))
            }
            None => output::print(&text),
        };
    }
    match serde_json::to_string_pretty(value) {
        Ok(json) => output::print(&json),
        Err(error) => output::fail(format_args!("the plan cannot be written as JSON: {error}")),
    }
}
