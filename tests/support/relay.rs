//! A network with a relay, and coturn's own tools as its clients (Debian's package `coturn`).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::figures::figure;
use super::{DEADLINE, Network, text, wait_until};

/// A relay for tests on this machine alone.
pub const LOOPBACK: &str = "allow = [\"127.0.0.0/8\"]\n";

pub fn topology(turn: &str) -> String {
    format!("[ports]\nweb = 0\nsignaling = 0\nmetrics = 0\nturn = 0\n[signaling]\n[web]\n[turn]\n{turn}")
}

/// A running network with a relay, whose traffic is written down often.
pub fn up(turn: &str) -> Network {
    let mut network = Network::new(&topology(turn));
    write(&network, "config/turn_config.json", r#"{"monitoring": {"interval_ms": 100}}"#);
    network.spawn(&[]);
    network.wait_all_ready();
    network
}

pub fn write(network: &Network, path: &str, text: &str) {
    let path = network.dir().join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    fs::write(path, text).expect("writable");
}

/// The head and the JSON of `GET /ice`.
pub fn ice(network: &Network) -> (String, Value) {
    let url = network.process("web").addresses[0].replace("http://", "");
    let mut stream = TcpStream::connect(&url).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    // By a name, as a browser does.
    let port = url.rsplit(':').next().expect("a port");
    write!(stream, "GET /ice HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n")
        .expect("writable");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("readable");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), serde_json::from_str(body).expect("JSON"))
}

pub fn port_of(network: &Network) -> u16 {
    let process = network.process("turn");
    let address = process.addresses[0].strip_prefix("turn:127.0.0.1:").expect("a TURN address");
    address.parse().expect("a port")
}

/// Coturn's peer, which sends everything back.
pub struct Echo {
    child: Child,
    pub port: u16,
}

impl Echo {
    pub fn start() -> Self {
        let port =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let child = Command::new("turnutils_peer")
            .args(["-L", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package coturn is installed");
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        probe.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        wait_until("the peer answers", || {
            let _ = probe.send_to(b"hello", ("127.0.0.1", port));
            probe.recv(&mut [0; 16]).is_ok()
        });
        Self { child, port }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const MESSAGES: u64 = 200;
pub const LENGTH: u64 = 500;

/// Sends messages through the relay to the peer and back, with the credentials that a browser would be given.
pub fn exchange(network: &Network, echo: &Echo, more: &[&str]) -> Output {
    let (_, told) = ice(network);
    let turn = &told["iceServers"][1];
    let (user, password) =
        (turn["username"].as_str().expect("a name"), turn["credential"].as_str().expect("one"));
    Command::new("turnutils_uclient")
        .args([
            "-e",
            "127.0.0.1",
            "-r",
            &echo.port.to_string(),
            "-p",
            &port_of(network).to_string(),
            "-X",
            "-c",
        ])
        .args(["-n", &MESSAGES.to_string(), "-l", &LENGTH.to_string(), "-z", "5", "-u", user, "-w", password])
        .args(more)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .expect("the package coturn is installed")
}

#[track_caller]
pub fn assert_exchanged(output: &Output) {
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains(&format!("tot_recv_msgs={MESSAGES}")), "{said}");
}

pub fn counted(network: &Network, name: &str) -> f64 {
    figure(&network.metrics(), name, &[("process", "turn")]).unwrap_or(-1.0)
}

/// The newest line of the bandwidth log about all.
pub fn total(network: &Network) -> Option<Value> {
    let log = network.read("logs/turn_bandwidth.log");
    let line = log.lines().rev().find(|line| line.contains("\"type\":\"total\""))?;
    Some(serde_json::from_str(line).expect("JSON"))
}
