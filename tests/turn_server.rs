//! The relay's sockets and connections: what the pure engine cannot show.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hippius::tls::CertificateFiles;
use hippius::turn::config::{ConfigError, PortRange};
use hippius::turn::figures::DropReason;
use hippius::turn::server::BindError;
use hippius::turn::{TurnConfig, TurnFigures, TurnServer};
use tempfile::TempDir;

/// Generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A binding request.
const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// An Allocate without credentials.
const ALLOCATE: [u8; 20] = [0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

struct Relay {
    runtime: tokio::runtime::Runtime,
    server: TurnServer,
}

fn config() -> TurnConfig {
    TurnConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        users: [("user".to_owned(), "password".into())].into(),
        ..TurnConfig::default()
    }
}

impl Relay {
    fn start(config: &TurnConfig) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async { TurnServer::bind(config) }).unwrap();
        Self { runtime, server }
    }

    fn udp(&self) -> SocketAddr {
        self.server.local_addresses().udp[0]
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.local_addresses().tcp[0]).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    #[track_caller]
    fn wait_until(&self, what: &str, condition: impl Fn(&TurnFigures) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let figures = self.server.snapshot();
            if condition(&figures) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {figures:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks over UDP whether anybody is served.
    #[track_caller]
    fn assert_serves(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            socket.send_to(&BINDING, self.udp()).unwrap();
            let mut answer = [0; 100];
            if socket.recv(&mut answer).is_ok_and(|length| length >= 32 && answer[..2] == [1, 1]) {
                return;
            }
            assert!(Instant::now() < deadline, "nobody is served");
        }
    }

    fn end(self) {
        self.runtime.block_on(self.server.shutdown());
    }
}

/// Reads until the other side closes; what came.
fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection is not closed: {error}"),
    }
    all
}

fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
    stream.read_exact(&mut body).unwrap();
    (u16::from_be_bytes([head[0], head[1]]), body)
}

#[test]
fn messages_of_a_stream_are_told_apart_however_they_are_cut() {
    let relay = Relay::start(&config());
    let mut stream = relay.connect();
    let three = [BINDING, ALLOCATE, BINDING].concat();
    for byte in &three {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(&three).unwrap();
    let kinds: Vec<u16> = (0..6).map(|_| answer(&mut stream).0).collect();
    assert_eq!(kinds, [0x0101, 0x0113, 0x0101, 0x0101, 0x0113, 0x0101]);
    assert_eq!(relay.server.snapshot().connections, 1);
    drop(stream);
    relay.wait_until("the connection has gone", |figures| figures.connections == 0);
    relay.end();
}

/// Bad input: bogus lengths over TCP.
#[test]
fn a_stream_that_is_no_turn_is_closed_at_once() {
    let relay = Relay::start(&config());
    let misaligned = [0, 1, 0, 7, 0x21, 0x12, 0xa4, 0x42];
    let no_cookie = [0, 1, 0, 8, 1, 2, 3, 4];
    for bogus in [&b"\x16\x03\x01\x02\x00"[..], &misaligned, &no_cookie, &[0xff; 100]] {
        let mut stream = relay.connect();
        stream.write_all(bogus).unwrap();
        assert!(read_to_end(stream).is_empty(), "{bogus:x?}");
    }
    let mut stream = relay.connect();
    stream.write_all(&BINDING).unwrap();
    assert_eq!(answer(&mut stream).0, 0x0101);
    stream.write_all(&[0xff; 4]).unwrap();
    assert!(read_to_end(stream).is_empty(), "what comes behind a message is looked at, too");
    assert_eq!(relay.server.snapshot().dropped_for(DropReason::Malformed), 5);
    relay.assert_serves();
    relay.end();
}

/// Bad input: TCP drip; a length that is never filled; a connection that says nothing.
#[test]
fn slow_connections_are_closed() {
    let quick = Duration::from_millis(300);
    let relay = Relay::start(&TurnConfig { message_timeout: quick, idle_timeout: quick, ..config() });
    let silent = relay.connect();
    let mut unfilled = relay.connect();
    unfilled.write_all(&[0x40, 0, 0xff, 0xff, 1, 2, 3]).unwrap();
    let mut drip = relay.connect();
    let dripping = std::thread::spawn(move || {
        // One byte at a time, always before patience is over; but the whole message takes longer.
        for byte in BINDING.iter().cycle() {
            if drip.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(quick / 4);
        }
    });
    assert!(read_to_end(silent).is_empty() && read_to_end(unfilled).is_empty());
    dripping.join().unwrap();
    let mut done = relay.connect();
    done.write_all(&BINDING).unwrap();
    assert_eq!(answer(&mut done).0, 0x0101);
    assert!(read_to_end(done).is_empty(), "without an allocation a connection does not stay");
    relay.wait_until("all are counted", |figures| {
        figures.dropped_for(DropReason::TooSlow) == 4 && figures.connections == 0
    });
    relay.end();
}

#[test]
fn connections_are_limited() {
    let relay = Relay::start(&TurnConfig { max_connections: 3, max_connections_per_address: 2, ..config() });
    let mut kept: Vec<TcpStream> = (0..2).map(|_| relay.connect()).collect();
    for stream in &mut kept {
        stream.write_all(&BINDING).unwrap();
        assert_eq!(answer(stream).0, 0x0101);
    }
    assert!(read_to_end(relay.connect()).is_empty());
    assert_eq!(relay.server.snapshot().dropped_for(DropReason::TooManyConnections), 1);
    kept.pop();
    relay.wait_until("a place is free", |figures| figures.connections == 1);
    let mut next = relay.connect();
    next.write_all(&BINDING).unwrap();
    assert_eq!(answer(&mut next).0, 0x0101);
    relay.end();
}

/// A client that asks and never reads costs what its queue may hold, and no more.
#[test]
fn a_client_that_does_not_read_loses_answers() {
    let relay = Relay::start(&TurnConfig { connection_queue_bytes: 10_000, ..config() });
    let mut stream = relay.connect();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let many = BINDING.repeat(1_000);
    let deadline = Instant::now() + DEADLINE;
    while relay.server.snapshot().dropped_for(DropReason::QueueFull) == 0 {
        assert!(Instant::now() < deadline, "the queue is never full");
        let _ = stream.write(&many);
    }
    relay.assert_serves();
    drop(stream);
    relay.wait_until("the connection has gone", |figures| figures.connections == 0);
    relay.end();
}

#[test]
fn several_workers_share_an_address_and_nobody_else_does() {
    let relay = Relay::start(&TurnConfig { workers: 3, ..config() });
    for _ in 0..20 {
        relay.assert_serves();
    }
    let taken = TurnConfig { listen: vec![relay.udp()], workers: 3, ..config() };
    let refused = relay.runtime.block_on(async { TurnServer::bind(&taken) });
    assert!(matches!(refused, Err(BindError::Listen { .. })), "{refused:?}");
    let address = relay.udp();
    relay.end();
    let _again = UdpSocket::bind(address).expect("the address is free after the end");
}

#[test]
fn datagrams_of_any_size_are_survived() {
    let relay = Relay::start(&config());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in (0..1_500).step_by(7).chain([9_000, 65_507]) {
        socket.send_to(&vec![0x40; length], relay.udp()).unwrap();
        socket.send_to(&vec![0; length], relay.udp()).unwrap();
    }
    relay.assert_serves();
    relay.wait_until("they are counted", |figures| {
        figures.dropped_for(DropReason::Malformed) + figures.dropped_for(DropReason::NoAllocation) > 200
    });
    relay.end();
}

#[test]
fn a_certificate_is_needed_for_tls_and_replaced_while_serving() {
    let folder = TempDir::new().unwrap();
    let files = CertificateFiles {
        certificate: folder.path().join("certificate.pem"),
        key: folder.path().join("key.pem"),
    };
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        made.cert.der().clone()
    };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let secured = TurnConfig { tls_listen: vec![any], tls: Some(files.clone()), ..config() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let missing = runtime.block_on(async { TurnServer::bind(&secured) });
    assert!(matches!(missing, Err(BindError::Tls(_))), "{missing:?}");
    let first = write();
    let relay = Relay::start(&secured);
    let address = relay.server.local_addresses().tls[0];
    assert_eq!(ask_over_tls(address, &[&first]), Some(0));
    let second = write();
    let deadline = Instant::now() + DEADLINE;
    while ask_over_tls(address, &[&first, &second]) != Some(1) {
        assert!(Instant::now() < deadline, "the old certificate is still in use");
        std::thread::sleep(Duration::from_millis(100));
    }
    relay.end();
}

/// Sends a binding request over TLS; which of the trusted certificates the server has.
fn ask_over_tls(
    address: SocketAddr,
    trusted: &[&rustls::pki_types::CertificateDer<'static>],
) -> Option<usize> {
    let mut roots = rustls::RootCertStore::empty();
    trusted.iter().for_each(|certificate| roots.add((*certificate).clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    tls.write_all(&BINDING).ok()?;
    let mut head = [0; 20];
    tls.read_exact(&mut head).ok()?;
    assert_eq!(head[..2], [1, 1]);
    let shown = connection.peer_certificates()?.first()?.clone();
    trusted.iter().position(|certificate| **certificate == shown)
}

/// Bad input in the configuration: each with its reason.
#[test]
fn a_wrong_configuration_is_refused() {
    let no_address: TurnConfig = TurnConfig { listen: Vec::new(), ..config() };
    let wrong = [
        (no_address, ConfigError::NothingToListenOn),
        (TurnConfig { secret: Some("".into()), ..config() }, ConfigError::EmptySecret),
        (TurnConfig { realm: String::new(), ..config() }, ConfigError::Realm),
        (TurnConfig { users: [("a".into(), "".into())].into(), ..config() }, ConfigError::User("a".into())),
        (
            TurnConfig { ports: PortRange { min: 9, max: 8 }, ..config() },
            ConfigError::Ports(PortRange { min: 9, max: 8 }),
        ),
        (TurnConfig { max_lifetime: Duration::from_secs(9), ..config() }, ConfigError::Lifetime),
        (TurnConfig { idle_timeout: Duration::ZERO, ..config() }, ConfigError::NoTime),
        (TurnConfig { tls_listen: config().listen, ..config() }, ConfigError::NoCertificate),
        (
            TurnConfig { relay_addresses: vec!["0.0.0.0".parse().unwrap()], ..config() },
            ConfigError::RelayAddress("0.0.0.0".parse().unwrap()),
        ),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (config, expected) in wrong {
        let refused = runtime.block_on(async { TurnServer::bind(&config) });
        assert!(matches!(&refused, Err(BindError::Config(error)) if *error == expected), "{refused:?}");
    }
    for text in ["allow = [\"10.0.0.0/33\"]", "deny = [\"10.0.0.1/8\"]", "deny = [\"host\"]", "port = 3478"] {
        assert!(toml::from_str::<TurnConfig>(text).is_err(), "{text}");
    }
    let shown = format!("{:?}", TurnConfig { secret: Some("hush".into()), ..config() });
    assert!(!shown.contains("hush") && !shown.contains("\"password\""), "{shown}");
    let text = toml::to_string(&TurnConfig { secret: Some("hush".into()), ..config() }).unwrap();
    assert_eq!(
        toml::from_str::<TurnConfig>(&text).unwrap().secret,
        Some("hush".into()),
        "it can be written down"
    );
}
