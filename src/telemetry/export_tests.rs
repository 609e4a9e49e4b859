use std::io::Read;
use std::net::TcpListener;
use std::time::Instant;

use super::*;

fn settings(endpoint: String) -> ExportSettings {
    ExportSettings {
        endpoint,
        token: Some("s3cret".to_owned()),
        interval: Duration::from_secs(3600),
        process: "node-0".to_owned(),
        role: "node".to_owned(),
    }
}

#[test]
fn shutdown_does_not_hang_on_a_receiver_that_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let (exporter, meter) = Exporter::start(settings(endpoint)).unwrap();
    meter.u64_gauge("x").build().record(1, &[]);
    let begin = Instant::now();
    exporter.shutdown();
    assert!(begin.elapsed() < SHUTDOWN_TIMEOUT + Duration::from_millis(400), "{:?}", begin.elapsed());
    // It did try.
    let (mut stream, _) = listener.accept().unwrap();
    let mut start = [0; 4];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"POST");
}

#[test]
fn a_receiver_that_is_gone_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    drop(listener);
    let (exporter, meter) = Exporter::start(settings(endpoint)).unwrap();
    meter.u64_gauge("x").build().record(1, &[]);
    let begin = Instant::now();
    drop(exporter);
    assert!(begin.elapsed() < SHUTDOWN_TIMEOUT);
}

#[test]
fn only_a_change_of_health_is_reported() {
    let client = PushClient::new("http://127.0.0.1:1/", None).unwrap();
    let state = Mutex::new(State { client, body: Vec::new(), health: Health::Unknown });
    let push = Push { endpoint: "http://127.0.0.1:1/".to_owned(), state };
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut health = Health::Unknown;
        let results = [Ok(()), Err(PushError::NoHttp), Err(PushError::Refused(401)), Ok(()), Ok(())];
        for result in &results {
            health = push.report(health, result);
        }
    });
    let lines = log.0.lock().unwrap().clone();
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("not received") && lines.contains("received again"), "{lines}");
}

#[test]
fn the_token_is_not_shown() {
    assert!(!format!("{:?}", settings("http://h/".to_owned())).contains("s3cret"));
}

#[test]
fn a_silent_meter_can_be_used() {
    silent_meter().u64_counter("x").build().add(1, &[]);
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> tracing_subscriber::fmt::MakeWriter<'w> for Log {
    type Writer = Self;
    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[test]
fn the_order_of_points_is_that_of_their_labels_whatever_the_sdk_gives() {
    use opentelemetry_proto::tonic::common::v1::{AnyValue as Label, KeyValue};
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, ResourceMetrics, ScopeMetrics, Sum};

    let label = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(Label { value: Some(AnyValue::StringValue(value.to_owned())) }),
        ..Default::default()
    };
    let request = |swap: bool| {
        let mut labels =
            [vec![label("a", "2"), label("b", "1")], vec![label("a", "1"), label("b", "2")], vec![]];
        if swap {
            labels.reverse();
            labels.iter_mut().for_each(|labels| labels.reverse());
        }
        let data_points: Vec<_> =
            labels.map(|attributes| NumberDataPoint { attributes, ..Default::default() }).into();
        let sum = Data::Sum(Sum { data_points: data_points.clone(), ..Default::default() });
        let metrics = [sum, Data::Gauge(Gauge { data_points })]
            .map(|data| Metric { data: Some(data), ..Default::default() })
            .into();
        let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    };
    let (mut one, mut other) = (request(false), request(true));
    assert_ne!(one, other);
    sort(&mut one);
    sort(&mut other);
    assert_eq!(one, other);
}
