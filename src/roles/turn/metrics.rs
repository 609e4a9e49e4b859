//! The figures of a TURN server as metrics; none of them names a user.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::Figures;
use crate::telemetry::catalogue::{self, Metric};
use crate::turn::endings::Endings;
use crate::turn::figures::TurnFigures;

/// Figures, and when they were read.
type Moment = (Instant, Arc<TurnFigures>);

/// One export asks for each metric by itself; they shall say the same.
const SAME_MOMENT: Duration = Duration::from_millis(200);

/// Registers the metrics, which are read from `figures` at each export. `endings` and `failures` are the bandwidth log's.
pub(super) fn observe(meter: &Meter, figures: Figures, endings: Endings, failures: Arc<AtomicU64>) {
    let known: Mutex<Option<Moment>> = Mutex::default();
    let read = move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, figures)) if at.elapsed() < SAME_MOMENT => figures.clone(),
            _ => known.insert((Instant::now(), Arc::new(figures()))).1.clone(),
        }
    };
    let read: Arc<dyn Fn() -> Arc<TurnFigures> + Send + Sync> = Arc::new(read);

    let gauge = |metric: &Metric, of: fn(&TurnFigures) -> u64| {
        let read = read.clone();
        // A float holds every whole number below 2^53.
        let observed = metric.observed_gauge(meter);
        let _ = observed.with_callback(move |observer| observer.observe(of(&read()) as f64, &[])).build();
    };
    gauge(&catalogue::TURN_ALLOCATIONS, |figures| figures.allocations);
    gauge(&catalogue::TURN_CONNECTIONS, |figures| figures.connections);

    let counter = |metric: &Metric, of: fn(&TurnFigures) -> u64| {
        let read = read.clone();
        let observed = metric.observed_counter(meter);
        let _ = observed.with_callback(move |observer| observer.observe(of(&read()), &[])).build();
    };
    counter(&catalogue::TURN_ALLOCATED, |figures| figures.allocated);
    counter(&catalogue::TURN_BYTES_SENT, |figures| figures.traffic.sent_bytes);
    counter(&catalogue::TURN_BYTES_RECEIVED, |figures| figures.traffic.received_bytes);
    counter(&catalogue::TURN_PACKETS_SENT, |figures| figures.traffic.sent_packets);
    counter(&catalogue::TURN_PACKETS_RECEIVED, |figures| figures.traffic.received_packets);
    counter(&catalogue::TURN_BINDINGS, |figures| figures.bindings);
    counter(&catalogue::TURN_UNREACHABLE, |figures| figures.unreachable);
    counter(&catalogue::TURN_AUTH_FAILURES, |figures| figures.auth_failures);

    let dropped = read.clone();
    let _ = catalogue::TURN_DROPPED
        .observed_counter(meter)
        .with_callback(move |observer| {
            for (reason, count) in &dropped().dropped {
                observer.observe(*count, &[KeyValue::new("reason", reason.as_str())]);
            }
        })
        .build();
    let refused = read;
    let _ = catalogue::TURN_REFUSED
        .observed_counter(meter)
        .with_callback(move |observer| {
            for (code, count) in &refused().refused {
                observer.observe(*count, &[KeyValue::new("code", i64::from(*code))]);
            }
        })
        .build();
    let _ = catalogue::TURN_LOG_FAILURES
        .observed_counter(meter)
        .with_callback(move |observer| observer.observe(failures.load(Ordering::Relaxed), &[]))
        .build();
    let _ = catalogue::TURN_LOG_MISSED
        .observed_counter(meter)
        .with_callback(move |observer| observer.observe(endings.missed(), &[]))
        .build();
}
