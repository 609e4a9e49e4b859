//! The client in a real browser, against servers in this process, in a network namespace with nothing but loopback.
//!
//! Needs root, Node 20, Chromium and `npm ci` in `tests/browser`. The tests themselves are
//! `tests/browser/*.test.mjs`; `BROWSER_TEST=pattern` runs only those whose name matches, `SCREENSHOTS=folder` keeps
//! pictures, and `VERBOSE=1` shows the pages' consoles.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hippius::control::http::{self, Limits};
use hippius::signaling::{SignalingConfig, SignalingServer};
use hippius::telemetry::instruments::{SignalingInstruments, WebInstruments};
use hippius::web::{WebConfig, WebServer};
use hyper::StatusCode;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

mod support_signaling;

use support_signaling::metrics::Metrics;

/// Set in the copy of this test that runs inside the namespace.
const INSIDE: &str = "HIPPIUS_BROWSER_TEST_INSIDE";

const NAME: &str = "browsers_find_each_other_talk_and_mend";

#[test]
fn browsers_find_each_other_talk_and_mend() {
    if std::env::var_os(INSIDE).is_none() {
        return in_a_namespace();
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8) is installed");
    assert!(up.success(), "loopback could not be switched on");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(drive());
}

/// Runs this test again, alone with a loopback interface.
fn in_a_namespace() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").exists(),
        "the browser test needs its modules: run `npm ci` in tests/browser"
    );
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) is installed");
    assert!(
        status.success(),
        "the browser test failed, or this user may not make a network namespace (run as root)"
    );
}

/// The signaling server, which the test stops and starts.
struct Signaling {
    server: Option<SignalingServer>,
    address: SocketAddr,
    metrics: Metrics,
}

impl Signaling {
    async fn start(&mut self) {
        if self.server.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.address = listener.local_addr().unwrap();
            let instruments = SignalingInstruments::new(&self.metrics.meter());
            self.server = Some(SignalingServer::start(listener, SignalingConfig::default(), instruments));
        }
    }
}

async fn drive() {
    let mut signaling =
        Signaling { server: None, address: "127.0.0.1:0".parse().unwrap(), metrics: Metrics::new() };
    signaling.start().await;
    let port = signaling.address.port();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let meter = SdkMeterProvider::builder().build().meter("test");
    let config = WebConfig { signaling_port: Some(port), ..WebConfig::default() };
    let web = WebServer::start(listener, config, WebInstruments::new(&meter));

    let signaling = Arc::new(Mutex::new(signaling));
    let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control_address = control.local_addr().unwrap();
    let _control = http::serve(control, Limits::default(), move |request, _| {
        let signaling = Arc::clone(&signaling);
        async move {
            let mut signaling = signaling.lock().await;
            match request.uri().path() {
                "/stop" => {
                    if let Some(server) = signaling.server.take() {
                        server.shutdown(Duration::from_secs(2)).await;
                    }
                }
                "/start" => signaling.start().await,
                _ => {
                    let direct = signaling.metrics.sum("webrtc_connections", &[("type", "direct")]);
                    return http::json(StatusCode::OK, &serde_json::json!({ "direct": direct }));
                }
            }
            http::text(StatusCode::OK, "done")
        }
    });

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let mut tests: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    tests.sort();
    let mut node = Command::new("node");
    node.arg("--test")
        .args(std::env::var("BROWSER_TEST").map(|only| format!("--test-name-pattern={only}")))
        .args(tests)
        .current_dir(&folder)
        .env("WEB_URL", format!("http://{}", web.local_addr()))
        .env("CONTROL_URL", format!("http://{control_address}"))
        .stdin(Stdio::null());
    // Every test in there has a time limit of its own.
    let status =
        tokio::task::spawn_blocking(move || node.status()).await.unwrap().expect("node is installed");
    assert!(status.success(), "the browser test failed; see its report above");
}
