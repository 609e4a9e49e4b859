//! `hippius plan`: what a topology would start, in order.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::topology::{self, PlanTable, environment};

/// Print what a topology would start, in order.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// The topology file.
    #[arg(value_name = "TOPOLOGY", default_value = "topology/local.toml")]
    pub topology: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: PlanArgs) -> ExitCode {
    let topology = match topology::load(&args.topology, &environment::of_process) {
        Ok(topology) => topology,
        Err(mistakes) => {
            super::check::report(&mistakes);
            return ExitCode::FAILURE;
        }
    };
    let table = PlanTable::new(&topology.plan());
    if !args.json {
        return super::print_line(&table.to_string());
    }
    match serde_json::to_string_pretty(&table) {
        Ok(json) => super::print_line(&json),
        Err(error) => {
            eprintln!("error: the plan cannot be written as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}
