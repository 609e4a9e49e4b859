//! `hippius schema`: the JSON Schema of the topology file.

use std::process::ExitCode;

use crate::topology;

/// Print the JSON Schema of the topology file, for editors.
///
/// Save it beside your topologies and begin them with the line `#:schema ./topology.schema.json`.
#[derive(Debug, Clone, clap::Args)]
pub struct SchemaArgs {}

/// Runs the command.
#[must_use]
pub fn run(_: SchemaArgs) -> ExitCode {
    super::output::print(topology::schema_text().trim_end())
}
