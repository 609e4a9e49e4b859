//! The web server as browsers and strangers meet it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use hippius::signaling::token::{Claims, Secret};
use hippius::telemetry::instruments::{TlsInstruments, WebInstruments};
use hippius::turn::ice::IceSource;
use hippius::web::{WebConfig, WebServer, pages};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Answer {
    status: u16,
    head: String,
    body: String,
    bytes: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim())
    }
}

async fn start(config: WebConfig) -> WebServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let meter = SdkMeterProvider::default().meter("test");
    WebServer::start(listener, config, WebInstruments::new(&meter), TlsInstruments::new(&meter)).unwrap()
}

/// Sends a request line and headers as they are; nothing tidies the path up.
async fn ask(address: SocketAddr, request: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nhost: localhost:3000\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), reading).await.unwrap().unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let bytes = answer.split_off(end + 4);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}

#[tokio::test]
async fn every_page_is_served_protected_and_as_what_it_is() {
    let server = start(WebConfig::default()).await;
    for page in pages::PAGES {
        let answer = ask(server.local_addr(), &format!("GET {}", page.path), "").await;
        assert_eq!(answer.status, 200, "{}", page.path);
        assert_eq!(answer.header("content-type"), Some(page.content_type));
        assert_eq!(answer.body.as_bytes(), page.bytes);
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
    }
    for request in ["GET /", "GET /nothing", "POST /", "GET /config.json", "HEAD /app.js"] {
        let answer = ask(server.local_addr(), request, "").await;
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{request}"));
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(policy.contains("connect-src 'self' ws://localhost:8001 wss://localhost:8001;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(answer.header("permissions-policy").unwrap().contains("microphone=()"));
    }
}

#[tokio::test]
async fn a_page_on_an_ipv6_address_may_connect_although_a_policy_cannot_name_it() {
    let server = start(WebConfig::default()).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: [::1]:3000\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connect-src 'self' ws: wss:;"), "{answer}");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let server = start(WebConfig::default()).await;
    let first = ask(server.local_addr(), "GET /app.js", "").await;
    let etag = first.header("etag").unwrap().to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let again = ask(server.local_addr(), "GET /app.js", &format!("if-none-match: {known}\r\n")).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(etag.as_str()));
        assert!(again.header("content-security-policy").is_some());
    }
    let other = ask(server.local_addr(), "GET /app.js", "if-none-match: \"x\"\r\n").await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn who_takes_gzip_gets_it_under_a_tag_of_its_own() {
    let server = start(WebConfig::default()).await;
    let plain = ask(server.local_addr(), "GET /app.js", "").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    let browser = "accept-encoding: gzip, deflate, br, zstd\r\n";
    let packed = ask(server.local_addr(), "GET /app.js", browser).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("accept-encoding"));
    assert!(packed.bytes.len() * 2 < plain.bytes.len(), "{} of {}", packed.bytes.len(), plain.bytes.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(&packed.bytes[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.bytes);
    let (own, other) = (packed.header("etag").unwrap(), plain.header("etag").unwrap());
    assert_ne!(own, other);
    let known = async |tag: &str| {
        let headers = format!("{browser}if-none-match: {tag}\r\n");
        ask(server.local_addr(), "GET /app.js", &headers).await.status
    };
    assert_eq!((known(own).await, known(other).await), (304, 200));
    let head = ask(server.local_addr(), "HEAD /app.js", browser).await;
    assert_eq!(head.header("content-length"), Some(packed.bytes.len().to_string().as_str()));
    let refuses = ask(server.local_addr(), "GET /app.js", "accept-encoding: gzip;q=0\r\n").await;
    assert_eq!(refuses.header("content-encoding"), None);
}

#[tokio::test]
async fn a_folder_replaces_the_pages_and_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("index.html", "first");
    let server = start(WebConfig { pages: Some(folder.path().to_owned()), ..WebConfig::default() }).await;
    let address = server.local_addr();
    let first = ask(address, "GET /", "").await;
    assert_eq!((first.status, first.body.as_str()), (200, "first"));
    assert!(first.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(ask(address, "GET /app.js", "").await.status, 404, "only the folder's files");
    assert!(ask(address, "GET /config.json", "").await.body.contains("signaling"), "but its own answers");

    write("index.html", "second, and longer");
    write("new file.txt", "new");
    let changed = async { while ask(address, "GET /new%20file.txt", "").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(30), changed).await.expect("the change is seen");
    let tag = format!("if-none-match: {}\r\n", first.header("etag").unwrap());
    let second = ask(address, "GET /", &tag).await;
    assert_eq!((second.status, second.body.as_str()), (200, "second, and longer"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let meter = SdkMeterProvider::default().meter("test");
    let nowhere = WebConfig { pages: Some("/no/pages".into()), ..WebConfig::default() };
    let instruments = (WebInstruments::new(&meter), TlsInstruments::new(&meter));
    let refused = WebServer::start(listener, nowhere, instruments.0, instruments.1).unwrap_err().to_string();
    assert!(refused.starts_with("pages: cannot read /no/pages"), "{refused}");
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn only_reading_is_possible() {
    let server = start(WebConfig::default()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let answer = ask(server.local_addr(), &format!("{method} /"), "content-length: 0\r\n").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head = ask(server.local_addr(), "HEAD /style.css", "").await;
    let style = pages::PAGES.iter().find(|page| page.path == "/style.css").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(style.bytes.len().to_string().as_str()));
}

#[tokio::test]
async fn no_path_leads_out_of_the_table() {
    let long = format!("/{}", "a/".repeat(4_000));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "mine").unwrap();
    std::fs::write(folder.path().join("app.js"), "mine").unwrap();
    let own = WebConfig { pages: Some(folder.path().to_owned()), ..WebConfig::default() };
    for config in [WebConfig::default(), own] {
        refuses_all_but_its_pages(config, &long).await;
    }
}

async fn refuses_all_but_its_pages(config: WebConfig, long: &str) {
    let server = start(config).await;
    for path in [
        "/../Cargo.toml",
        "/..%2fCargo.toml",
        "/%2e%2e/Cargo.toml",
        "/%2e%2e%2fsrc%2fmain.rs",
        "/./index.html",
        "//index.html",
        "/index.html/",
        "/web/index.html",
        "/etc/passwd",
        "/%00",
        "/app.js%00.html",
        "/..\\..\\Cargo.toml",
        "/%2e%2e%5cCargo.toml",
        "/%252e%252e/Cargo.toml",
        "/%c0%ae%c0%ae/Cargo.toml",
        "/..;/Cargo.toml",
        "/%",
        long,
    ] {
        let answer = ask(server.local_addr(), &format!("GET {path}"), "").await;
        assert!(matches!(answer.status, 404 | 400), "{path}: {}", answer.status);
        assert!(!answer.body.contains("hippius ="), "{path}");
    }
    assert_eq!(ask(server.local_addr(), "GET /?x=/../y", "").await.status, 200);
}

#[tokio::test]
async fn the_page_learns_where_signaling_is_and_which_servers_help() {
    let server = start(WebConfig { signaling_port: Some(18001), ..WebConfig::default() }).await;
    let config = ask(server.local_addr(), "GET /config.json", "").await;
    assert_eq!(config.body, r#"{"signaling":{"port":18001,"path":"/signal","secure":false}}"#);
    assert_eq!(config.header("cache-control"), Some("no-store"));
    let ice = ask(server.local_addr(), "GET /ice", "").await;
    assert_eq!(ice.body, r#"{"iceServers":[],"expires_at":null}"#);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(ask(server.local_addr(), &format!("GET {path}"), "").await.status, 200);
    }
    let secure = WebConfig { signaling_port: Some(18001), signaling_tls: true, ..WebConfig::default() };
    let secure = start(secure).await;
    let config = ask(secure.local_addr(), "GET /config.json", "").await;
    assert_eq!(config.body, r#"{"signaling":{"port":18001,"path":"/signal","secure":true}}"#);
    assert!(config.header("content-security-policy").unwrap().contains("'self' wss://localhost:18001;"));
    let alone = start(WebConfig { signaling_port: None, ..WebConfig::default() }).await;
    let config = ask(alone.local_addr(), "GET /config.json", "").await;
    assert_eq!(config.body, r#"{"signaling":null}"#);
}

/// A token signed with `secret` that expires at `exp`, and is for nobody in particular.
fn token(secret: &str, exp: u64) -> String {
    Secret::new(secret.as_bytes()).unwrap().sign(&Claims { exp, nbf: None, sub: None, room: None, aud: None })
}

#[tokio::test]
async fn where_signaling_asks_for_tokens_only_who_has_one_is_told_of_relays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let (secret, other) = ("s".repeat(32), "t".repeat(32));
    std::fs::write(&file, &secret).unwrap();
    let relay = IceSource {
        secret: Some("north".to_owned()),
        ..IceSource::open(vec!["turn:turn.example.org".to_owned()])
    };
    let config =
        WebConfig { token_secret_file: Some(file.clone()), ice: vec![relay], ..WebConfig::default() };
    let server = start(config).await;
    let ice = async |header: &str| ask(server.local_addr(), "GET /ice", header).await;
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let future = 4_000_000_000;
    for (header, code, challenge) in [
        (String::new(), "token_required", "Bearer"),
        ("authorization: Basic YTpi\r\n".to_owned(), "token_required", "Bearer"),
        (bearer("let-me.in"), "token_invalid", r#"Bearer error="invalid_token""#),
        (bearer(&"x".repeat(5_000)), "token_invalid", r#"Bearer error="invalid_token""#),
        (bearer(&token(&other, future)), "token_invalid", r#"Bearer error="invalid_token""#),
        (bearer(&token(&secret, 1_000)), "token_expired", r#"Bearer error="invalid_token""#),
    ] {
        let answer = ice(&header).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)), "{header}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], code, "{header}");
        assert!(!answer.body.contains("turn.example.org"), "{}", answer.body);
    }
    for header in
        [bearer(&token(&secret, future)), format!("Authorization: bearer {}\r\n", token(&secret, future))]
    {
        let answer = ice(&header).await;
        assert_eq!(answer.status, 200);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["iceServers"][0]["urls"][0], "turn:turn.example.org");
        assert!(body["iceServers"][0]["credential"].is_string());
    }
    // Who may see the pages is another question: without them nobody could bring a token.
    for path in ["/", "/config.json", "/healthz"] {
        assert_eq!(ask(server.local_addr(), &format!("GET {path}"), "").await.status, 200);
    }
    // A new secret is taken over while the server runs.
    std::fs::write(&file, format!("{other}\n")).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while ice(&bearer(&token(&other, future))).await.status != 200 {
        assert!(Instant::now() < until, "the new secret is not used");
    }
    assert_eq!(ice(&bearer(&token(&secret, future))).await.status, 401);

    let missing = WebConfig { token_secret_file: Some(folder.path().join("none")), ..WebConfig::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let meter = SdkMeterProvider::default().meter("test");
    let refused =
        WebServer::start(listener, missing, WebInstruments::new(&meter), TlsInstruments::new(&meter));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("token_secret_file: cannot read "), "{refused}");
}

#[tokio::test]
async fn a_shutdown_frees_the_port() {
    let server = start(WebConfig::default()).await;
    let address = server.local_addr();
    assert_eq!(ask(address, "GET /", "").await.status, 200);
    server.shutdown(Duration::from_secs(1)).await;
    let free = async {
        while TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.expect("the port is free again");
}
