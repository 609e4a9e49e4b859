//! The JSON Schema of the topology file, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;

use super::raw::RawTopology;

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<RawTopology>();
    schema.insert("title".to_owned(), "hippius topology".into());
    schema
}

/// The schema as indented JSON text that ends in a newline.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", schema().as_value())
}
