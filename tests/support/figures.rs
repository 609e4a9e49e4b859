//! Figures out of the Prometheus text format.

use std::collections::BTreeMap;

/// One sample of `/metrics`.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// A label's value; empty without it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All samples of a page.
#[track_caller]
pub fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect()
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("a closing brace")),
        None => (series, ""),
    };
    // No value in these tests holds a quote or a comma.
    let labels = labels
        .split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').expect("a label");
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect();
    Sample { name: name.to_owned(), labels, value: value.parse().expect("a number") }
}

/// The sum of a metric's samples whose labels include `labels`; `None` where there is no such sample.
#[track_caller]
pub fn figure(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let matching: Vec<f64> = samples(page)
        .into_iter()
        .filter(|sample| sample.name == name)
        .filter(|sample| labels.iter().all(|(label, value)| sample.label(label) == *value))
        .map(|sample| sample.value)
        .collect();
    (!matching.is_empty()).then(|| matching.iter().sum())
}
