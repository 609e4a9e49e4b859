//! From a role's instruments to the receiver: OpenTelemetry's SDK, its periodic reader, and our own small client.
//!
//! The reader has a thread of its own and waits there for each export, so the client is plain blocking I/O: no
//! runtime, no second thread, one kept connection. (The exporter of `opentelemetry-otlp` would build a request with
//! a map of headers each time, retry on that same thread, and take headers from the environment.)

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use prost::Message;

pub use super::push::EndpointError;
use super::push::{PushClient, PushError};

/// Longest time that [`Exporter::shutdown`] waits for the last export.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Shortest interval; a shorter one would be refused by the receiver's rate limit anyway.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Where and how often to export.
#[derive(Clone)]
pub struct ExportSettings {
    /// URL that is posted to, e.g. `http://127.0.0.1:9091/v1/metrics`.
    pub endpoint: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Time between two exports; at least 100 ms.
    pub interval: Duration,
    /// The process's name. Told as resource attribute `service.instance.id`; our receiver goes by the token.
    pub process: String,
    /// The process's role. Told as resource attribute `service.name`.
    pub role: String,
}

impl std::fmt::Debug for ExportSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportSettings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(secret)"))
            .field("interval", &self.interval)
            .field("process", &self.process)
            .field("role", &self.role)
            .finish()
    }
}

/// A running export. Keep it as long as there is something to measure.
#[derive(Debug)]
pub struct Exporter {
    provider: Option<SdkMeterProvider>,
}

impl Exporter {
    /// Starts to export what is recorded on the returned meter. The first export is after one interval. A receiver
    /// that cannot be reached is no error: it is tried again at each interval.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn start(settings: ExportSettings) -> Result<(Self, Meter), EndpointError> {
        let client = PushClient::new(&settings.endpoint, settings.token.as_deref())?;
        let push = Push {
            endpoint: settings.endpoint,
            state: Mutex::new(State { client, body: Vec::new(), health: Health::Unknown }),
        };
        let reader = PeriodicReader::builder(push).with_interval(settings.interval.max(MIN_INTERVAL)).build();
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", settings.role),
                KeyValue::new("service.instance.id", settings.process),
            ])
            .build();
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        let meter = provider.meter("hippius");
        Ok((Self { provider: Some(provider) }, meter))
    }

    /// Exports once more and ends. Blocks for at most 500 ms, also when the receiver is gone or hangs.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(provider) = self.provider.take() else { return };
        let (done, finished) = mpsc::channel();
        // The SDK's shutdown waits for up to 5 s; a thread of its own can be left behind.
        let waiter = std::thread::Builder::new().name("telemetry-stop".to_owned()).spawn(move || {
            let _ = provider.shutdown();
            let _ = done.send(());
        });
        if waiter.is_ok() {
            let _ = finished.recv_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A meter that records nothing, for a process without a receiver.
#[must_use]
pub fn silent_meter() -> Meter {
    opentelemetry::metrics::NoopMeterProvider::new().meter("hippius")
}

struct Push {
    endpoint: String,
    state: Mutex<State>,
}

struct State {
    client: PushClient,
    body: Vec<u8>,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Good,
    Bad,
}

impl Push {
    fn send(&self, metrics: &ResourceMetrics) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { client, body, health } = &mut *state;
        body.clear();
        let mut request = ExportMetricsServiceRequest::from(metrics);
        sort(&mut request);
        if request.encode(body).is_err() {
            // A vector grows; only a fixed buffer can be too short.
            return;
        }
        let result = client.post(body);
        *health = self.report(*health, &result);
    }

    /// Logs a change of state, not each failure: there may be one every second.
    fn report(&self, before: Health, result: &Result<(), PushError>) -> Health {
        match result {
            Ok(()) => {
                if before == Health::Bad {
                    tracing::info!(endpoint = %self.endpoint, "telemetry is received again");
                }
                Health::Good
            }
            Err(error) => {
                if before != Health::Bad {
                    tracing::warn!(
                        endpoint = %self.endpoint, %error,
                        "telemetry is not received; it is sent again at every interval"
                    );
                }
                Health::Bad
            }
        }
    }
}

/// Puts the points of each metric in the order of their labels. The SDK's maps give them in a new order each time, and
/// the receiver is quick with a push that differs from the one before in its numbers only.
fn sort(request: &mut ExportMetricsServiceRequest) {
    let scopes = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        let points = match &mut metric.data {
            Some(Data::Gauge(gauge)) => &mut gauge.data_points,
            Some(Data::Sum(sum)) => &mut sum.data_points,
            _ => continue,
        };
        for point in &mut *points {
            point.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        }
        points.sort_by(|a, b| labels(a).cmp(labels(b)));
    }
}

/// What tells a point from the others of its metric; a value that is no string counts as none.
fn labels(point: &NumberDataPoint) -> impl Iterator<Item = (&str, Option<&str>)> {
    point.attributes.iter().map(|label| {
        let value = match label.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(AnyValue::StringValue(text)) => Some(text.as_str()),
            _ => None,
        };
        (label.key.as_str(), value)
    })
}

impl PushMetricExporter for Push {
    /// Always `Ok`: what went wrong has been logged, and the SDK would log it again each time.
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.send(metrics);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
