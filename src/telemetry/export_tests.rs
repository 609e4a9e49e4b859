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
