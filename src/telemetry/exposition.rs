//! The children's series and the process's own, gathered from one registry.

use std::time::Instant;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::catalogue::Kind;
use super::naming;
use super::snapshot::{Series, Value};
use super::store::{SharedStore, StoredFamily, View};
use super::text;

/// Adds the series of `store` to what `registry` gathers.
///
/// # Errors
/// When the registry already has a store.
pub fn register(registry: &Registry, store: SharedStore) -> Result<(), prometheus::Error> {
    registry.register(Box::new(StoreCollector::new(store)?))
}

/// All families of `registry`, sorted by name, with the untyped twins that documented queries use.
#[must_use]
pub fn gather(registry: &Registry) -> Vec<MetricFamily> {
    let mut families = registry.gather();
    let twins: Vec<MetricFamily> = families
        .iter()
        .filter_map(|family| naming::twin_of(family.name()).map(|twin| twin_family(family, twin)))
        .collect();
    families.extend(twins);
    families.sort_by(|a, b| a.name().cmp(b.name()));
    families
}

/// [`gather`] in the Prometheus text format.
#[must_use]
pub fn render(registry: &Registry) -> String {
    text::encode(&gather(registry))
}

fn twin_family(family: &MetricFamily, name: &str) -> MetricFamily {
    let metrics = family.get_metric().iter().map(|metric| {
        // The crate's own field for untyped values is deprecated; the encoder here reads the gauge's.
        let mut value = Gauge::default();
        value.set_value(number(family, metric));
        let mut twin = Metric::from_label(metric.get_label().to_vec());
        twin.set_gauge(value);
        twin
    });
    let mut twin = MetricFamily::default();
    twin.set_name(name.to_owned());
    twin.set_help(format!("{} The same as {}.", family.help(), family.name()));
    twin.set_field_type(MetricType::UNTYPED);
    twin.set_metric(metrics.collect());
    twin
}

/// The value of a counter, gauge or untyped metric.
pub(super) fn number(family: &MetricFamily, metric: &Metric) -> f64 {
    match family.get_field_type() {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE | MetricType::UNTYPED => metric.get_gauge().get_value(),
        MetricType::HISTOGRAM | MetricType::SUMMARY => 0.0,
    }
}

/// Shows a store to a registry.
struct StoreCollector {
    store: SharedStore,
    /// What it collects changes all the time; a registry tells collectors apart by what they describe, and one that
    /// describes nothing could not stand beside OpenTelemetry's, which does not either.
    desc: Desc,
}

impl StoreCollector {
    fn new(store: SharedStore) -> Result<Self, prometheus::Error> {
        let desc = Desc::new(
            "hippius_children".to_owned(),
            "Series that processes pushed.".to_owned(),
            vec!["process".to_owned(), "role".to_owned()],
            std::collections::HashMap::new(),
        )?;
        Ok(Self { store, desc })
    }
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let views = self.store.lock().views(Instant::now());
        let mut families = Vec::new();
        for view in &views {
            let shown = view.families.iter().filter(|family| view.gauges || family.info.kind != Kind::Gauge);
            families.extend(shown.map(|family| metric_family(view, family)));
        }
        families
    }
}

fn metric_family(view: &View, family: &StoredFamily) -> MetricFamily {
    let mut shown = MetricFamily::default();
    shown.set_name(family.info.name.clone());
    shown.set_help(family.info.help.clone());
    shown.set_field_type(match family.info.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    shown.set_metric(family.series.iter().map(|series| metric(view, family.info.kind, series)).collect());
    shown
}

fn metric(view: &View, kind: Kind, series: &Series) -> Metric {
    let mut labels = Vec::with_capacity(series.labels.len() + 2);
    labels.push(label("process", &view.process));
    labels.push(label("role", &view.role));
    labels.extend(series.labels.iter().map(|(name, value)| label(name, value)));
    let mut metric = Metric::from_label(labels);
    match &series.value {
        Value::Number(value) if kind == Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
        }
        Value::Number(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
        Value::Histogram(value) => {
            let mut histogram = Histogram::default();
            let buckets = value.buckets.iter().map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(*count);
                bucket
            });
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_sum(value.sum);
            histogram.set_sample_count(value.count);
            metric.set_histogram(histogram);
        }
    }
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
