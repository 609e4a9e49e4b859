//! `docs/metrics.md` and the catalogue say the same, in both directions.

use std::collections::BTreeMap;

use hippius::telemetry::catalogue;
use hippius::telemetry::refusal::Reason;
use hippius::telemetry::store::{Limits, PUSHES};

const PAGE: &str = include_str!("../docs/metrics.md");

/// Rows of the page's tables whose first cell is a name in backquotes.
fn rows() -> impl Iterator<Item = Vec<String>> {
    PAGE.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let documented: BTreeMap<String, [String; 4]> = rows()
        .filter(|cells| cells.len() == 5)
        .map(|cells| {
            let [name, rest @ ..] = <[String; 5]>::try_from(cells).unwrap();
            (name, rest)
        })
        .collect();
    let mut declared = BTreeMap::new();
    for metric in catalogue::ALL {
        let labels = metric.labels.join(", ");
        let row =
            |kind: &str, meaning: String| [kind.to_owned(), labels.clone(), metric.unit.to_owned(), meaning];
        declared.insert(metric.exposed_name(), row(metric.kind.as_str(), metric.help.to_owned()));
        if let Some(twin) = metric.twin() {
            declared
                .insert(twin.to_owned(), row("untyped", format!("The same as {}.", metric.exposed_name())));
        }
    }
    for (name, row) in &declared {
        assert_eq!(documented.get(name), Some(row), "{name} in docs/metrics.md");
    }
    for name in documented.keys() {
        assert!(declared.contains_key(name), "docs/metrics.md describes {name}, which does not exist");
    }
}

#[test]
fn every_reason_of_a_refusal_is_documented() {
    let documented: Vec<String> =
        rows().filter(|cells| cells.len() == 2).map(|mut cells| cells.swap_remove(0)).collect();
    let declared: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(documented, declared);
}

#[test]
fn documented_bounds_are_those_of_the_code() {
    let limits = Limits::default();
    for sentence in [
        format!("at most {} series", limits.series),
        format!("at most {} labels", limits.labels),
        format!("at most {} bytes", limits.text_bytes),
        format!("{} at once and {} a second", PUSHES.burst, PUSHES.tokens),
        format!("at most {} bytes", hippius::telemetry::receiver::MAX_PUSH_BYTES),
        format!("{} peers", hippius::telemetry::instruments::MAX_PEER_SERIES),
    ] {
        assert!(PAGE.contains(&sentence), "docs/metrics.md does not say {sentence:?}");
    }
}
