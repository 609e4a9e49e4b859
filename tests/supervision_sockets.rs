//! The listening sockets of signaling and web live in the supervisor: however often a role dies, no client is refused.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{DEADLINE, Network, http_get};

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

#[test]
fn a_client_that_comes_while_the_server_is_down_is_served_by_its_successor() {
    let network = Network::up(&TOPOLOGY.replace("[web]", "[web]\nrestart = { policy = \"never\" }"));
    let web = network.process("web");
    let address = socket_address(&web.addresses[0]);
    network.signal(web.pid.unwrap(), Signal::SIGKILL);
    network.wait_state("web", State::Failed);
    // Nobody serves: the client queues, and its request waits with it.
    let page = std::thread::scope(|scope| {
        let client = scope.spawn(|| http_get(&format!("http://{address}/")));
        assert_eq!(network.run_ok(&["start", "web"]).trim(), "web ready");
        client.join().unwrap()
    });
    assert!(page.contains("<html") || page.contains("<!doctype html>"), "{page}");
    network.down();
}
