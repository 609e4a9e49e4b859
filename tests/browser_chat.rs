//! The client in a real browser, against servers in this process, in a network namespace with nothing but loopback.
//!
//! Needs root or user namespaces, Node 20, Chromium and `npm ci` in `tests/browser`. The tests themselves are
//! `tests/browser/*.test.mjs`; `support/browser.rs` says how to run some of them.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hippius::control::http::{self, Limits};
use hippius::control::percent;
use hippius::signaling::{SignalingConfig, SignalingServer};
use hippius::telemetry::instruments::{SignalingInstruments, TlsInstruments, WebInstruments};
use hippius::tls::CertificateFiles;
use hippius::turn::ice::IceSource;
use hippius::web::{WebConfig, WebServer};
use hyper::StatusCode;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

#[path = "support/browser.rs"]
mod browser;
#[path = "support/namespace.rs"]
mod namespace;
mod support_signaling;

use support_signaling::metrics::Metrics;

const NAME: &str = "browsers_find_each_other_talk_and_mend";

#[test]
fn browsers_find_each_other_talk_and_mend() {
    let folder = browser::scripts();
    if namespace::inside(NAME) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(drive(&folder));
    }
}

/// The signaling server, which the test stops and starts.
struct Signaling {
    server: Option<SignalingServer>,
    address: SocketAddr,
    config: SignalingConfig,
    metrics: Metrics,
}

impl Signaling {
    async fn start(&mut self) {
        if self.server.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.address = listener.local_addr().unwrap();
            let instruments = SignalingInstruments::new(&self.metrics.meter());
            let tls = TlsInstruments::new(&self.metrics.meter());
            self.server =
                Some(SignalingServer::start(listener, self.config.clone(), instruments, tls).unwrap());
        }
    }
}

/// Another pair of servers, which speak TLS.
async fn start_secure(folder: &Path, address: SocketAddr) -> (SignalingServer, WebServer) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    let meter = SdkMeterProvider::builder().build().meter("test");
    let tls = TlsInstruments::new(&meter);
    let listener = TcpListener::bind(address).await.unwrap();
    let config = SignalingConfig { tls: Some(files.clone()), ..SignalingConfig::default() };
    let signaling =
        SignalingServer::start(listener, config, SignalingInstruments::new(&meter), tls.clone()).unwrap();
    let config = WebConfig {
        signaling_port: Some(signaling.local_addr().port()),
        signaling_tls: true,
        tls: Some(files),
        ..WebConfig::default()
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let web = WebServer::start(listener, config, WebInstruments::new(&meter), tls).unwrap();
    (signaling, web)
}

async fn drive(folder: &Path) {
    // Both address families on one port: the namespace has nothing but loopback.
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut signaling = Signaling {
        server: None,
        address: everywhere,
        config: SignalingConfig::default(),
        metrics: Metrics::new(),
    };
    signaling.start().await;
    let port = signaling.address.port();
    let listener = TcpListener::bind(everywhere).await.unwrap();
    let meter = SdkMeterProvider::builder().build().meter("test");
    let config = WebConfig { signaling_port: Some(port), ..WebConfig::default() };
    let web =
        WebServer::start(listener, config, WebInstruments::new(&meter), TlsInstruments::new(&meter)).unwrap();

    // Pages beside a signaling server that asks for tokens, once the test has started it so.
    let certificates = tempfile::tempdir().unwrap();
    let token_file = certificates.path().join("tokens");
    std::fs::write(&token_file, "fedcba9876543210".repeat(4)).unwrap();
    let relay =
        IceSource { secret: Some("north".to_owned()), ..IceSource::open(vec!["turn:{host}:9".to_owned()]) };
    let config = WebConfig {
        signaling_port: Some(port),
        token_secret_file: Some(token_file.clone()),
        ice: vec![relay],
        ..WebConfig::default()
    };
    let listener = TcpListener::bind(everywhere).await.unwrap();
    let invited =
        WebServer::start(listener, config, WebInstruments::new(&meter), TlsInstruments::new(&meter)).unwrap();

    let secure = start_secure(certificates.path(), everywhere).await;

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
                // With other limits: `/start?max_room_peers=2`; without a query, the defaults.
                "/start" => {
                    let query = request.uri().query().unwrap_or_default();
                    let wanted = percent::decode(query).unwrap().replace('&', "\n");
                    signaling.config = toml::from_str(&wanted).unwrap();
                    signaling.start().await;
                }
                _ => {
                    let direct = signaling.metrics.sum("webrtc_connections", &[("type", "direct")]);
                    return http::json(StatusCode::OK, &serde_json::json!({ "direct": direct }));
                }
            }
            http::text(StatusCode::OK, "done")
        }
    });

    let mut tests: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    tests.sort();
    // One file after the other: they stop and start the same server.
    let mut node = browser::node(tests);
    node.current_dir(folder)
        .env("WEB_URL", format!("http://127.0.0.1:{}", web.local_addr().port()))
        .env("SECURE_WEB_URL", format!("https://127.0.0.1:{}", secure.1.local_addr().port()))
        .env("INVITED_WEB_URL", format!("http://127.0.0.1:{}", invited.local_addr().port()))
        .env("TOKEN_FILE", token_file)
        .env("CONTROL_URL", format!("http://{control_address}"));
    tokio::task::spawn_blocking(move || browser::passes(&mut node)).await.unwrap();
}
