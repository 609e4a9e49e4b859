//! Signaling and pages over TLS: real handshakes, renewed certificates, and those who never finish a handshake.

mod support;
mod support_signaling;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hippius::signaling::SignalingConfig;
use hippius::telemetry::instruments::{TlsInstruments, WebInstruments};
use hippius::tls::secured::MAX_HANDSHAKES_PER_ADDRESS;
use hippius::tls::{CertificateFiles, certificates};
use hippius::web::{WebConfig, WebServer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use support::{Network, wait_until};
use support_signaling::client::{Bench, DEADLINE};
use support_signaling::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Writes a certificate for `localhost`, in place of one that may be there.
fn write_certificate(folder: &Path) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    files
}

/// A connection to a server that has the certificate in the file `trusted`.
async fn secure(address: SocketAddr, trusted: &Path) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(trusted).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    timeout(DEADLINE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A client over TLS that has registered.
async fn join(bench: &Bench, trusted: &Path, id: &str) -> io::Result<Socket> {
    let stream = secure(bench.server.local_addr(), trusted).await?;
    let (mut socket, _) = client_async("wss://localhost/signal", stream).await.map_err(io::Error::other)?;
    say(&mut socket, json!({"type": "Register", "payload": {"peer_id": id}})).await;
    assert_eq!(hear(&mut socket).await["type"], "Registered");
    Ok(socket)
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    let message = timeout(DEADLINE, socket.next()).await.expect("in time").expect("open").unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn bench(files: &CertificateFiles) -> Bench {
    Bench::new(SignalingConfig { tls: Some(files.clone()), ..SignalingConfig::default() }).await
}

#[tokio::test]
async fn clients_meet_over_tls_and_go_on_when_the_certificate_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_certificate(folder.path());
    let old = folder.path().join("old.pem");
    fs::copy(&files.certificate, &old).unwrap();
    let bench = bench(&files).await;
    let mut a = join(&bench, &old, "a").await.unwrap();

    write_certificate(folder.path());
    let until = Instant::now() + DEADLINE;
    let mut b = loop {
        match join(&bench, &files.certificate, "b").await {
            Ok(socket) => break socket,
            Err(error) => assert!(Instant::now() < until, "the new certificate is not used: {error}"),
        }
    };
    assert!(join(&bench, &old, "c").await.is_err(), "the old one is not used any more");
    assert_eq!(hear(&mut a).await["type"], "PeerJoined");
    let sdp = "x".repeat(60_000);
    say(&mut a, json!({"type": "Offer", "payload": {"to": "b", "sdp": sdp}})).await;
    assert_eq!(hear(&mut b).await["payload"]["sdp"], sdp);

    // Half a renewal: the good pair stays in use.
    let good = folder.path().join("good.pem");
    fs::copy(&files.certificate, &good).unwrap();
    fs::write(&files.key, "no key").unwrap();
    join(&bench, &good, "d").await.unwrap();
    bench.server.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_off_counted_and_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_certificate(folder.path());
    let bench = bench(&files).await;
    let refused = |reason: &'static str, times: f64| {
        bench.until(reason, move |m| m.sum("tls_refused", &[("reason", reason)]) == times)
    };
    // What is no TLS.
    for text in ["", "\x16\x03\x01\u{ff}\u{ff}", "\0\0\0\0\0\0\0\0"] {
        let mut stream = bench.tcp().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the server lets go");
    }
    refused("failed", 3.0).await;
    // A WebSocket client that was given the wrong scheme is told so, and so is who only looks.
    let error = client_async("ws://localhost/signal", bench.tcp().await).await.unwrap_err().to_string();
    assert!(error.contains("400"), "{error}");
    let answer = in_the_clear(bench.server.local_addr(), "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    // Its first lines, and then nothing: cut off like every other handshake that does not end.
    let mut dawdler = bench.tcp().await;
    dawdler.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let read = timeout(DEADLINE, dawdler.read(&mut [0; 1])).await.expect("it is cut off");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    refused("timeout", 1.0).await;
    refused("plain", 2.0).await;

    let mut a = join(&bench, &files.certificate, "a").await.unwrap();
    let mut b = join(&bench, &files.certificate, "b").await.unwrap();
    assert_eq!(hear(&mut a).await["type"], "PeerJoined");
    // As many half-open handshakes as one address may have: silent ones, and some that stop after their first bytes.
    let mut idle = Vec::new();
    for number in 0..MAX_HANDSHAKES_PER_ADDRESS {
        let mut stream = bench.tcp().await;
        if number % 2 == 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        idle.push(stream);
    }
    let mut one_more = bench.tcp().await;
    let read = timeout(DEADLINE, one_more.read(&mut [0; 1])).await.expect("it is refused");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    refused("limit", 1.0).await;
    // Those who are in notice nothing.
    say(&mut a, json!({"type": "Offer", "payload": {"to": "b", "sdp": "fine"}})).await;
    assert_eq!(hear(&mut b).await["payload"]["sdp"], "fine");
    refused("timeout", 1.0 + f64::from(MAX_HANDSHAKES_PER_ADDRESS)).await;
    for mut stream in idle {
        let read = timeout(DEADLINE, stream.read(&mut [0; 1])).await.expect("it was cut off");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    join(&bench, &files.certificate, "c").await.unwrap();
}

/// What a web server with the certificate in the file `trusted` answers.
async fn get(address: SocketAddr, trusted: &Path, path: &str) -> String {
    let mut stream = secure(address, trusted).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// What a server answers to a request without TLS.
async fn in_the_clear(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = address.port();
    let text = format!("{request} HTTP/1.1\r\nhost: localhost:{host}\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("the server lets go").unwrap();
    answer
}

#[test]
fn a_topology_brings_certificates_tokens_and_pages_to_its_servers() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_certificate(folder.path());
    let (pages, tokens) = (folder.path().join("pages"), folder.path().join("tokens"));
    fs::create_dir(&pages).unwrap();
    fs::write(pages.join("index.html"), "a page of my own").unwrap();
    fs::write(&tokens, "0123456789abcdef".repeat(4)).unwrap();
    let tls = format!("tls = {{ certificate = {:?}, key = {:?} }}", files.certificate, files.key);
    let network = Network::up(&format!(
        "[ports]\nweb = 0\nsignaling = 0\nmetrics = 0\n[signaling]\n{tls}\ntoken_secret_file = {tokens:?}\n\
         joins_per_second = 3\njoin_burst = 7\n\
         [web]\n{tls}\npages = {pages:?}\n"
    ));
    wait_until("the URLs are printed", || network.read("up.out").contains("Ctrl-C stops everything"));
    let status = network.status();
    let address = |name: &str, scheme: &str| -> SocketAddr {
        let process = status.processes.iter().find(|process| process.name == name).unwrap();
        let rest = process.addresses[0].strip_prefix(scheme).unwrap_or_else(|| panic!("{process:?}"));
        rest.split('/').next().unwrap().parse().unwrap()
    };
    let (web, signaling) = (address("web", "https://"), address("signaling", "wss://"));
    let config: toml::Table = toml::from_str(&network.read("data/signaling/config.toml")).unwrap();
    assert_eq!(config["signaling"]["joins_per_second"].as_integer(), Some(3));
    assert_eq!(config["signaling"]["join_burst"].as_integer(), Some(7));
    let out = network.read("up.out");
    assert!(out.contains(&format!("https://localhost:{}", web.port())), "{out}");
    assert!(out.contains(&format!("wss://localhost:{}/signal", signaling.port())), "{out}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(get(web, &files.certificate, "/").await.ends_with("a page of my own"));
        let config = get(web, &files.certificate, "/config.json").await;
        let expected =
            format!(r#"{{"signaling":{{"port":{},"path":"/signal","secure":true}}}}"#, signaling.port());
        assert!(config.ends_with(&expected), "{config}");
        let refused = get(web, &files.certificate, "/ice").await;
        assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("token_required"), "{refused}");
        let stream = secure(signaling, &files.certificate).await.unwrap();
        let (mut socket, _) = client_async("wss://localhost/signal", stream).await.unwrap();
        say(&mut socket, json!({"type": "Register", "payload": {"peer_id": "a"}})).await;
        assert_eq!(hear(&mut socket).await["payload"]["code"], "token_required");
    });
}

#[tokio::test]
async fn pages_come_over_https_and_send_their_visitors_to_wss() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_certificate(folder.path());
    let metrics = Metrics::new();
    let config = WebConfig { tls: Some(files.clone()), signaling_port: Some(18001), ..WebConfig::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, tls) = (WebInstruments::new(&metrics.meter()), TlsInstruments::new(&metrics.meter()));
    let web = WebServer::start(listener, config, own, tls).unwrap();
    let ask = async |path: &str| get(web.local_addr(), &files.certificate, path).await;
    let page = ask("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("</html>"), "{page}");
    assert!(page.contains("connect-src 'self' wss://localhost:18001;"), "{page}");
    assert!(
        ask("/config.json").await.ends_with(r#"{"signaling":{"port":18001,"path":"/signal","secure":true}}"#)
    );
    // In the clear there is nothing but the way to the page.
    let answer = in_the_clear(web.local_addr(), "GET /style.css?x=1").await;
    let url = format!("https://localhost:{}/style.css?x=1", web.local_addr().port());
    assert!(
        answer.starts_with("HTTP/1.1 308 ") && answer.contains(&format!("location: {url}\r\n")),
        "{answer}"
    );
    assert!(answer.ends_with(&format!("\r\n\r\nthis port speaks TLS: {url}\n")), "{answer}");
    let answer = in_the_clear(web.local_addr(), "POST /").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    // Counted when the connection is over, a moment after its answer.
    let until = Instant::now() + DEADLINE;
    while metrics.sum("tls_refused", &[("reason", "plain")]) != 2.0 {
        assert!(Instant::now() < until, "two are counted");
        tokio::task::yield_now().await;
    }
    web.shutdown(Duration::from_secs(2)).await;
}
