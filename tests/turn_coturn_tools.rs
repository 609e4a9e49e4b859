//! The relay against somebody else's clients: `turnutils_uclient`, `turnutils_peer` and `turnutils_stunclient` of Debian's package
//! coturn.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hippius::tls::CertificateFiles;
use hippius::turn::figures::DropReason;
use hippius::turn::{TurnConfig, TurnServer};
use tempfile::TempDir;

/// Longest time for one run of a tool; they take some five seconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// Clients of one run, and messages that each sends.
const CLIENTS: u64 = 3;
const MESSAGES: u64 = 10;

/// A relay on the loopback interface, and a peer that sends everything back.
struct Bench {
    runtime: tokio::runtime::Runtime,
    server: Option<TurnServer>,
    peer: Child,
    peer_address: SocketAddr,
    _folder: TempDir,
}

fn certificate(folder: &Path) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    fs::write(&files.key, made.key_pair.serialize_pem()).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    files
}

impl Bench {
    fn start(ip: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let any = SocketAddr::new(ip.parse().unwrap(), 0);
        let config = TurnConfig {
            listen: vec![any],
            tls_listen: vec![any],
            tls: Some(certificate(folder.path())),
            secret: Some("north".into()),
            users: [("user".to_owned(), "password".into())].into(),
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            // The tool's clients are one user, and make more than one allocation each.
            max_per_user: 1_000,
            workers: 2,
            ..TurnConfig::default()
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async { TurnServer::bind(&config) }).unwrap();
        // A port that was free a moment ago; the tool cannot choose one by itself.
        let peer_address = UdpSocket::bind(any).unwrap().local_addr().unwrap();
        let peer = Command::new("turnutils_peer")
            .args(["-L", ip, "-p", &peer_address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnutils_peer is installed (Debian's package coturn)");
        let bench = Self { runtime, server: Some(server), peer, peer_address, _folder: folder };
        bench.wait_for_peer(any);
        bench
    }

    fn server(&self) -> &TurnServer {
        self.server.as_ref().unwrap()
    }

    /// Waits until the peer answers.
    fn wait_for_peer(&self, any: SocketAddr) {
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let sent = socket.send_to(&[7; 100], self.peer_address);
            if sent.is_ok() && socket.recv(&mut [0; 200]).is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "the peer does not answer");
        }
    }

    /// Runs a tool against the relay, and gives what it prints.
    fn run(&self, tool: &str, port: u16, arguments: &[&str]) -> String {
        let output = Command::new("timeout")
            .arg(DEADLINE.as_secs().to_string())
            .arg(tool)
            .args(["-p", &port.to_string()])
            .args(arguments)
            .arg(self.peer_address.ip().to_string())
            .stdin(Stdio::null())
            .output()
            .expect("coturn's tools are installed (Debian's package coturn)");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Runs clients that send to the peer, and checks that everything came back, and that the relay has counted it.
    #[track_caller]
    fn echo(&self, port: u16, arguments: &[&str]) {
        let peer_port = self.peer_address.port().to_string();
        let ip = self.peer_address.ip().to_string();
        let to_peer = ["-e", &ip, "-r", &peer_port];
        self.transfer(port, &[&to_peer, arguments].concat());
    }

    #[track_caller]
    fn transfer(&self, port: u16, arguments: &[&str]) {
        let before = self.server().snapshot().traffic;
        let (clients, messages) = (CLIENTS.to_string(), MESSAGES.to_string());
        let load = ["-m", &clients, "-n", &messages, "-l", "200", "-c"];
        let said = self.run("turnutils_uclient", port, &[&load, arguments].concat());
        let all = CLIENTS * MESSAGES;
        assert!(
            said.contains(&format!("tot_send_msgs={all}, tot_recv_msgs={all}"))
                && said.contains("Total lost packets 0 "),
            "{arguments:?}: {said}"
        );
        let after = self.server().snapshot().traffic;
        let (there, back) =
            (after.received_packets - before.received_packets, after.sent_packets - before.sent_packets);
        assert!(there >= all && back >= all, "{there} packets there and {back} back for {all}");
        assert!(after.received_bytes - before.received_bytes >= 200 * all);
    }

    fn end(mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.shutdown());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.peer.kill();
        let _ = self.peer.wait();
    }
}

const USER: [&str; 5] = ["-X", "-u", "user", "-w", "password"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&USER[..], more].concat()
}

#[test]
fn a_stun_client_learns_its_address() {
    let bench = Bench::start("127.0.0.1");
    let said = bench.run("turnutils_stunclient", bench.server().local_addresses().udp[0].port(), &[]);
    assert!(said.contains("UDP reflexive addr: 127.0.0.1:"), "{said}");
    assert!(bench.server().snapshot().bindings >= 1);
    bench.end();
}

#[test]
fn over_udp_by_channels_and_by_send() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    bench.echo(port, &USER);
    bench.echo(port, &with(&["-s"]));
    bench.echo(port, &with(&["-s", "-g"]));
    bench.echo(port, &with(&["-D", "-G"]));
    let figures = bench.server().snapshot();
    let lost = |reason| figures.dropped_for(reason);
    assert_eq!(lost(DropReason::Malformed) + lost(DropReason::Forbidden) + lost(DropReason::TooLarge), 0);
    bench.end();
}

/// Hundreds of clients behind one address, all at once: what bounds strangers has room for them.
#[test]
fn by_hundreds_from_one_address() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    let peer_port = bench.peer_address.port().to_string();
    let load = ["-m", "300", "-n", "5", "-l", "200", "-c", "-e", "127.0.0.1", "-r", &peer_port];
    let said = bench.run("turnutils_uclient", port, &with(&load));
    assert!(said.contains("tot_send_msgs=1500, tot_recv_msgs=1500"), "{said}");
    let figures = bench.server().snapshot();
    assert!(figures.refused_with(401) >= 300, "{figures:?}");
    assert_eq!(figures.dropped_for(DropReason::Stranger), 0);
    bench.end();
}

#[test]
fn over_tcp_by_channels_and_by_send() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().tcp[0].port();
    bench.echo(port, &with(&["-t"]));
    bench.echo(port, &with(&["-t", "-s"]));
    bench.end();
}

#[test]
fn over_tls_by_channels_and_by_send() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().tls[0].port();
    bench.echo(port, &with(&["-t", "-S"]));
    bench.echo(port, &with(&["-t", "-S", "-s"]));
    bench.end();
}

#[test]
fn from_relay_to_relay() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    // Two by two, so that their number must be even: the tool sees to that.
    let said = bench.run("turnutils_uclient", port, &with(&["-y", "-m", "4", "-n", "10", "-l", "200", "-c"]));
    assert!(said.contains("tot_send_msgs=40, tot_recv_msgs=40"), "{said}");
    let said = bench.run(
        "turnutils_uclient",
        port,
        &with(&["-y", "-s", "-t", "-m", "4", "-n", "10", "-l", "200", "-c"]),
    );
    assert!(said.contains("tot_send_msgs=40, tot_recv_msgs=40"), "{said}");
    bench.end();
}

/// As RTP and RTCP have it: an even port, and the next one by its token (EVEN-PORT, RESERVATION-TOKEN).
#[test]
fn in_pairs_of_ports() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    let peer_port = bench.peer_address.port().to_string();
    let pairs = ["-m", "2", "-n", "10", "-l", "200", "-e", "127.0.0.1", "-r", &peer_port];
    let said = bench.run("turnutils_uclient", port, &with(&pairs));
    assert!(said.contains("Total lost packets 0 "), "{said}");
    let figures = bench.server().snapshot();
    assert!(figures.allocated >= 3 && figures.refused_with(508) == 0, "{figures:?}");
    bench.end();
}

#[test]
fn with_time_limited_credentials() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    bench.echo(port, &["-X", "-u", "eve", "-W", "north"]);
    let said = bench.run(
        "turnutils_uclient",
        port,
        &["-X", "-u", "eve", "-W", "south", "-n", "1", "-c", "-e", "127.0.0.1"],
    );
    assert!(said.contains("Cannot complete Allocation"), "{said}");
    assert!(bench.server().snapshot().auth_failures >= 1);
    bench.end();
}

#[test]
fn over_ipv6() {
    let bench = Bench::start("::1");
    let addresses = bench.server().local_addresses().clone();
    bench.echo(addresses.udp[0].port(), &["-x", "-u", "user", "-w", "password"]);
    bench.echo(addresses.tcp[0].port(), &["-x", "-t", "-s", "-u", "user", "-w", "password"]);
    bench.end();
}

/// RFC 6062 is refused with 442, and the tool's tests of bad requests leave the relay as it was.
#[test]
fn what_is_not_offered_or_wrong_is_refused_and_others_are_served() {
    let bench = Bench::start("127.0.0.1");
    let port = bench.server().local_addresses().udp[0].port();
    let said = bench.run("turnutils_uclient", port, &with(&["-T", "-n", "1", "-e", "127.0.0.1"]));
    assert!(said.contains("442"), "{said}");
    let peer_port = bench.peer_address.port().to_string();
    for bad in ["-N", "-R"] {
        bench.run(
            "turnutils_uclient",
            port,
            &with(&[bad, "-n", "2", "-c", "-e", "127.0.0.1", "-r", &peer_port]),
        );
    }
    let figures = bench.server().snapshot();
    assert!(figures.refused_with(442) >= 1 && figures.refused_with(400) >= 1, "{figures:?}");
    bench.echo(port, &USER);
    bench.end();
}
