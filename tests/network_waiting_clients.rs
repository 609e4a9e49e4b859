//! While a server does not run, its clients wait at the socket that the supervisor holds, as many as the system lets.

mod support;

use std::fs;
use std::io::Write;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::wire::{Connection, Place};
use support::{Network, ONE_PROCESS, text, wait_until};

#[test]
fn hundreds_of_clients_wait_for_a_server_that_has_crashed_and_are_all_served() {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse::<usize>().unwrap();
    let clients = limit.min(500);
    let topology = format!("{ONE_PROCESS}[restart]\nbackoff = \"1h\"\nmax_backoff = \"1h\"\n");
    let mut network = Network::scripted(&topology, "sys.exit(1) if os.path.exists('broken') else real()");
    network.wait_all_ready();
    let web = network.process("web");
    let place = Place::of_url(&web.addresses[0]);
    fs::write(network.dir().join("broken"), "").unwrap();
    network.signal(web.pid.unwrap(), Signal::SIGKILL);
    network.wait_state("web", State::Backoff);
    // With nobody to accept, a client that finds the queue full would never get through.
    let waiting = std::thread::spawn(move || {
        let mut waiting: Vec<Connection> = (0..clients).map(|_| place.connect()).collect();
        for client in &mut waiting {
            client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        }
        waiting
    });
    wait_until("all clients wait in the queue", || waiting.is_finished());
    let mut waiting = waiting.join().unwrap();
    fs::remove_file(network.dir().join("broken")).unwrap();
    network.run_ok(&["start", "web"]);
    for client in &mut waiting {
        let reply = text(&client.rest());
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    assert_eq!(waiting.len(), clients);
    network.down();
}
