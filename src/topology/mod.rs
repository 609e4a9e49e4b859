//! The topology: one TOML file that says which processes a network has.
//!
//! ```text
//! text ─ toml ─► values with places ─ raw ─► tables as written ─ validate ─► Topology ─ plan ─► Plan
//!                    reader, environment       scalar, address    names, bootnodes, ports
//! ```
//!
//! Every step goes on after a mistake, so that all of them come out together ([`Mistakes`]). Past reading
//! the file nothing here does I/O; the environment is handed in.

mod accept;
mod address;
mod bootnodes;
mod defaults;
pub mod diff;
mod drawable;
mod entries;
pub mod environment;
mod json;
mod load;
mod mistake;
mod model;
mod names;
pub mod plan;
mod ports;
mod print;
mod raw;
mod reader;
mod scalar;
mod schema;
mod short_form;
mod turn;
pub mod turn_file;
mod turn_named;
mod turn_values;
mod validate;

pub use load::{load, load_with_files, parse};
pub use mistake::{Look, Mistake, Mistakes, Position};
pub use model::Topology;
pub use print::PlanTable;
pub use schema::{schema, schema_text};
pub use short_form::{ShortForm, ShortNode};
