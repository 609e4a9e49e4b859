//! Every direct dependency has a line in `docs/dependencies.md`, with a reason and a licence, and every line a dependency.

use std::collections::BTreeSet;

const MANIFEST: &str = include_str!("../Cargo.toml");
const PAGE: &str = include_str!("../docs/dependencies.md");

/// The rows of the tables below a heading, each a list of cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading));
    let lines = section.unwrap_or_else(|| panic!("no section {heading:?}")).lines();
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

fn declared(table: &str) -> BTreeSet<String> {
    let manifest: toml::Table = MANIFEST.parse().expect("Cargo.toml is TOML");
    let table = manifest[table].as_table().expect("a table");
    table.keys().cloned().collect()
}

#[track_caller]
fn assert_documented(table: &str, heading: &str) {
    let rows = rows(heading);
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(documented.len(), rows.len(), "a crate is listed twice under {heading:?}");
    assert_eq!(documented, declared(table), "[{table}] of Cargo.toml and {heading:?} differ");
    for row in rows {
        assert_eq!(row.len(), 4, "a cell is missing or too many: {row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "an empty cell: {row:?}");
        assert!(
            row[3].contains("MIT") || row[3].contains("Apache-2.0"),
            "no licence that fits ours: {row:?}"
        );
    }
}

#[test]
fn every_dependency_is_explained() {
    assert_documented("dependencies", "In the program");
}

#[test]
fn every_dependency_of_the_tests_is_explained() {
    assert_documented("dev-dependencies", "In tests and benchmarks only");
}
