//! Reads instruments back, by name and attributes.

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;

/// A meter whose instruments can be read.
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_counter_suffixes()
            .build()
            .unwrap();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self { registry, provider }
    }

    pub fn meter(&self) -> Meter {
        self.provider.meter("test")
    }

    /// The sum of all series of `name` with all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let Some(family) = families.iter().find(|family| family.name() == name) else { return 0.0 };
        family
            .get_metric()
            .iter()
            .filter(|metric| {
                labels.iter().all(|(name, value)| {
                    metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
                })
            })
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }
}
