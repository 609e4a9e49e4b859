//! The listening sockets of signaling and web live in the supervisor: however often a role dies, no client is refused, until
//! nobody will serve them any more.

mod support;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{DEADLINE, Network, http_get, text};

const TOPOLOGY: &str = r#"
name = "sockets"
[ports]
web = 0
signaling = 0
metrics = 0
[restart]
limit = 1000
max_backoff = "100ms"
[signaling]
[web]
"#;
const ROUNDS: u64 = 8;
const ROLES: [&str; 2] = ["signaling", "web"];

/// The address in whatever form the role reports it.
fn socket_address(reported: &str) -> SocketAddr {
    let rest = reported.split_once("://").map_or(reported, |(_, rest)| rest);
    rest.split('/').next().unwrap().parse().unwrap_or_else(|e| panic!("{e}: {reported}"))
}

/// Connects again and again, in a pace at which the clients of a second fit the queue of a socket.
fn connect_until(over: &AtomicBool, address: SocketAddr, connections: &AtomicU32) {
    while !over.load(Ordering::Relaxed) {
        let client = TcpStream::connect_timeout(&address, DEADLINE);
        client.unwrap_or_else(|error| panic!("a client of {address} was turned away: {error}"));
        connections.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the clients, also when an assertion fails: the scope they run in waits for them.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_client_is_refused_while_the_server_is_killed_again_and_again() {
    let network = Network::up(TOPOLOGY);
    let addresses = ROLES.map(|name| socket_address(&network.process(name).addresses[0]));
    let (over, connections) = (AtomicBool::new(false), [AtomicU32::new(0), AtomicU32::new(0)]);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for (address, count) in addresses.iter().zip(&connections) {
            scope.spawn(|| connect_until(&over, *address, count));
        }
        for round in 1..=ROUNDS {
            for name in ROLES {
                let pid = network.process(name).pid.expect("it is ready");
                network.signal(pid, Signal::SIGKILL);
            }
            for name in ROLES {
                network.wait_process(name, "is back", |process| {
                    process.generation == round + 1 && process.state == State::Ready
                });
            }
        }
        // Not a race that the clients never took part in.
        let before = connections.each_ref().map(|count| count.load(Ordering::Relaxed));
        support::wait_until("the clients go on", || {
            connections.iter().zip(before).all(|(count, before)| count.load(Ordering::Relaxed) > before + 10)
        });
    });
    for name in ROLES {
        let process = network.process(name);
        assert_eq!(process.restarts, ROUNDS);
        assert_eq!(
            socket_address(&process.addresses[0]),
            addresses[ROLES.iter().position(|r| *r == name).unwrap()]
        );
    }
    let page = http_get(&format!("http://{}/", addresses[1]));
    assert!(page.contains("<html") || page.contains("<!doctype html>"), "{page}");
    network.down();
}

/// The web server alone, with its own rules of restarting.
fn one_server(restart: &str) -> String {
    TOPOLOGY.replace("[web]", &format!("[web]\nrestart = {{ {restart} }}")).replace("[signaling]\n", "")
}

#[test]
fn a_client_that_comes_while_the_server_is_down_is_served_by_its_successor() {
    let topology = one_server("backoff = \"1h\", max_backoff = \"1h\"");
    let mut network = Network::scripted(&topology, "sys.exit(1) if os.path.exists('broken') else real()");
    network.wait_all_ready();
    let web = network.process("web");
    let address = socket_address(&web.addresses[0]);
    fs::write(network.dir().join("broken"), "").unwrap();
    network.signal(web.pid.unwrap(), Signal::SIGKILL);
    network.wait_state("web", State::Backoff);
    // Nobody serves: the client queues, and its request waits with it.
    let page = std::thread::scope(|scope| {
        let client = scope.spawn(|| http_get(&format!("http://{address}/")));
        fs::remove_file(network.dir().join("broken")).unwrap();
        assert_eq!(network.run_ok(&["start", "web"]).trim(), "web ready");
        client.join().unwrap()
    });
    assert!(page.contains("<html") || page.contains("<!doctype html>"), "{page}");
    network.down();
}

#[track_caller]
fn refuses(address: SocketAddr) {
    let error = TcpStream::connect_timeout(&address, DEADLINE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn after_a_stop_clients_are_refused_and_a_start_serves_on_the_same_port() {
    let network = Network::up(TOPOLOGY);
    let addresses = ROLES.map(|name| socket_address(&network.process(name).addresses[0]));
    for (name, address) in ROLES.into_iter().zip(addresses) {
        network.run_ok(&["stop", name]);
        refuses(address);
        network.run_ok(&["start", name]);
        assert_eq!(socket_address(&network.process(name).addresses[0]), address);
        TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    }
    network.down();
}

#[test]
fn a_server_that_has_failed_for_good_refuses_also_those_who_wait_already() {
    // The first one ends when it is told to; the next waits for its clients, of which it never takes one, and fails.
    let script = r#"
if os.path.exists("again"):
    ready()
    while not os.path.exists("fail"):
        time.sleep(0.01)
    notify("X_HIPPIUS_FATAL=1")
    sys.exit(1)
open("again", "w").close()
serve()
"#;
    let mut network = Network::scripted(&one_server("backoff = \"100ms\""), script);
    network.wait_all_ready();
    let web = network.process("web");
    let address = socket_address(&web.addresses[0]);
    network.signal(web.pid.unwrap(), Signal::SIGKILL);
    network.wait_process("web", "is back", |web| web.generation == 2 && web.state == State::Ready);
    let mut waiting = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    fs::write(network.dir().join("fail"), "").unwrap();
    network.wait_state("web", State::Failed);
    waiting.set_read_timeout(Some(DEADLINE)).unwrap();
    let end = waiting.read(&mut [0]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");
    refuses(address);
    network.down();
}

#[test]
fn a_port_that_another_program_takes_meanwhile_is_told_and_had_back() {
    let network = Network::up(&one_server("backoff = \"100ms\""));
    let address = socket_address(&network.process("web").addresses[0]);
    network.run_ok(&["stop", "web"]);
    let held = TcpListener::bind(address).unwrap();
    // It tries again and again, and says why it has to.
    let starting = network.command(&["start", "web"]).stdout(Stdio::piped()).spawn().unwrap();
    let web = network.wait_process("web", "cannot start", |web| web.reason.is_some());
    let reason = web.reason.unwrap();
    let holder = format!("port {} is held by", address.port());
    assert!(reason.contains(&holder) && reason.contains(&std::process::id().to_string()), "{reason}");
    drop(held);
    assert_eq!(text(&starting.wait_with_output().unwrap().stdout), "web ready\n");
    assert_eq!(socket_address(&network.process("web").addresses[0]), address);
    network.down();
}
