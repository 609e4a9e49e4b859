//! What the supervisor records itself: its processes, what was refused, and what it uses of the machine.
//!
//! All figures are observed at the moment they are asked for. A recorded gauge would keep its last value, and a
//! process that was removed would go on being shown.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;

use super::store::SharedStore;
use super::{catalogue, host};

/// Why there is no meter.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the supervisor's own metrics: {0}")]
pub struct MeterError(#[from] opentelemetry_sdk::error::OTelSdkError);

/// A registry, and a meter whose instruments it gathers. The provider must be kept as long as the meter is used.
///
/// # Errors
/// When the registry refuses the exporter.
pub fn supervisor_meter() -> Result<(Registry, SdkMeterProvider, Meter), MeterError> {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_counter_suffixes()
        .without_units()
        .without_target_info()
        .scope_info_enabled(false)
        .build()?;
    let provider = SdkMeterProvider::builder()
        .with_resource(Resource::builder_empty().build())
        .with_reader(exporter)
        .build();
    let meter = provider.meter("hippius");
    Ok((registry, provider, meter))
}

/// What is shown of one process.
#[derive(Debug, Clone)]
pub struct ProcessFigures {
    /// Its role, as in [`crate::topology::plan::Role::as_str`].
    pub role: String,
    /// Whether it is ready.
    pub up: Up,
    /// Restarts that nobody asked for.
    pub restarts: u64,
    /// When the running generation was started; `None` while none runs.
    pub start_time: Option<SystemTime>,
    /// Log lines that were not kept; read when somebody asks.
    pub dropped_lines: Arc<AtomicU64>,
}

/// Whether a process is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// It is ready.
    Yes,
    /// It is starting, stopping, stopped, waiting or failed.
    No,
}

/// The processes as the supervisor's metrics show them. The supervisor updates it at each change of state.
#[derive(Debug, Clone, Default)]
pub struct ProcessTable(Arc<Mutex<BTreeMap<String, Row>>>);

#[derive(Debug)]
struct Row {
    figures: ProcessFigures,
    /// `process` and `role`, made once.
    labels: [KeyValue; 2],
}

impl ProcessTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `figures` for the process `name` from now on.
    pub fn set(&self, name: &str, figures: ProcessFigures) {
        let labels = identity(name, &figures.role);
        self.rows().insert(name.to_owned(), Row { figures, labels });
    }

    /// Shows nothing of `name` any more.
    pub fn remove(&self, name: &str) {
        self.rows().remove(name);
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Labels of a series that no receiver labels.
#[must_use]
pub fn identity(process: &str, role: &str) -> [KeyValue; 2] {
    [KeyValue::new("process", process.to_owned()), KeyValue::new("role", role.to_owned())]
}

/// The supervisor's instruments. They live as long as the meter's provider; this type only says they are set up.
#[derive(Debug)]
#[must_use = "without the provider alive the instruments show nothing"]
pub struct SupervisorInstruments(());

impl SupervisorInstruments {
    /// Registers everything on `meter`: the rows of `table`, the refusals of `store`, the connections that
    /// each server of `refused` did not take, and the machine's use by this process as `process="supervisor"`.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new(
        meter: &Meter,
        table: &ProcessTable,
        store: &SharedStore,
        refused: Vec<(&'static str, Arc<AtomicU64>)>,
        data_dir: &Path,
    ) -> io::Result<Self> {
        observe_processes(meter, table);
        let own = identity("supervisor", "supervisor");
        observe_refusals(meter, store, &own);
        host::observe_as(meter, data_dir, &own)?;
        let _ = catalogue::HIPPIUS_CONNECTIONS_REFUSED
            .observed_counter(meter)
            .with_callback(move |observer| {
                for (server, count) in &refused {
                    let [process, role] = own.clone();
                    let labels = [process, role, KeyValue::new("server", *server)];
                    observer.observe(count.load(Ordering::Relaxed), &labels);
                }
            })
            .build();
        Ok(Self(()))
    }
}

/// Registers `hippius_telemetry_refused_total` with all its reasons, as `own`.
pub(super) fn observe_refusals(meter: &Meter, store: &SharedStore, own: &[KeyValue; 2]) {
    let (store, own) = (store.clone(), own.clone());
    let _ = catalogue::HIPPIUS_TELEMETRY_REFUSED
        .observed_counter(meter)
        .with_callback(move |observer| {
            let refused = store.lock().refused();
            // Every reason from the start: a rate over a counter misses the step that made it appear.
            for reason in super::refusal::Reason::ALL {
                let [process, role] = own.clone();
                observer
                    .observe(refused.get(reason), &[process, role, KeyValue::new("reason", reason.as_str())]);
            }
        })
        .build();
}

fn observe_processes(meter: &Meter, table: &ProcessTable) {
    let gauge = |metric: &catalogue::Metric, value: fn(&Row) -> Option<f64>| {
        let table = table.clone();
        let _ = metric
            .observed_gauge(meter)
            .with_callback(move |observer| {
                for row in table.rows().values() {
                    if let Some(value) = value(row) {
                        observer.observe(value, &row.labels);
                    }
                }
            })
            .build();
    };
    let counter = |metric: &catalogue::Metric, value: fn(&Row) -> u64| {
        let table = table.clone();
        let _ = metric
            .observed_counter(meter)
            .with_callback(move |observer| {
                for row in table.rows().values() {
                    observer.observe(value(row), &row.labels);
                }
            })
            .build();
    };
    gauge(&catalogue::HIPPIUS_PROCESS_UP, |row| Some(if row.figures.up == Up::Yes { 1.0 } else { 0.0 }));
    gauge(&catalogue::HIPPIUS_PROCESS_START_TIME, |row| {
        Some(row.figures.start_time?.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
    });
    counter(&catalogue::HIPPIUS_PROCESS_RESTARTS, |row| row.figures.restarts);
    counter(&catalogue::HIPPIUS_LOG_LINES_DROPPED, |row| row.figures.dropped_lines.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::super::exposition;
    use super::super::refusal::Reason;
    use super::*;

    fn figures(up: Up) -> ProcessFigures {
        ProcessFigures {
            role: "node".to_owned(),
            up,
            restarts: 2,
            start_time: Some(UNIX_EPOCH + std::time::Duration::from_secs(1_000)),
            dropped_lines: Arc::new(AtomicU64::new(5)),
        }
    }

    #[test]
    fn a_removed_process_leaves_no_series() {
        let (registry, _provider, meter) = supervisor_meter().unwrap();
        let (table, store) = (ProcessTable::new(), SharedStore::default());
        let refused = vec![("control", Arc::new(AtomicU64::new(7)))];
        let _instruments =
            SupervisorInstruments::new(&meter, &table, &store, refused, Path::new("/")).unwrap();
        store.lock().refuse(Reason::Malformed);
        table.set("node-0", figures(Up::Yes));
        table.set("node-0", ProcessFigures { start_time: None, ..figures(Up::No) });
        table.set("node-1", figures(Up::Yes));

        let text = exposition::render(&registry);
        for line in [
            "hippius_process_up{process=\"node-0\",role=\"node\"} 0",
            "hippius_process_up{process=\"node-1\",role=\"node\"} 1",
            "hippius_process_restarts_total{process=\"node-0\",role=\"node\"} 2",
            "hippius_log_lines_dropped_total{process=\"node-0\",role=\"node\"} 5",
            "hippius_process_start_time_seconds{process=\"node-1\",role=\"node\"} 1000",
            "hippius_telemetry_refused_total{process=\"supervisor\",reason=\"malformed\",role=\"supervisor\"} 1",
            "hippius_connections_refused_total{process=\"supervisor\",role=\"supervisor\",server=\"control\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("hippius_process_start_time_seconds{process=\"node-0\""));
        assert!(text.contains("system_thread_count{process=\"supervisor\",role=\"supervisor\"}"));

        table.remove("node-0");
        assert!(!exposition::render(&registry).contains("node-0"));
    }
}
