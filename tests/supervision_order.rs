//! Whoever depends on another starts after it is ready, is told where it is, and stops before it.

mod support;

use hippius::supervisor::lifecycle::State;
use support::scripted::Note;
use support::{Network, wait_until};

const TOPOLOGY: &str = r#"
name = "order"
[ports]
web = 0
signaling = 0
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 2
[signaling]
[web]
"#;

fn moment(notes: &[Note], process: &str, word: &str) -> u64 {
    let found = notes.iter().find(|note| note.process == process && note.word == word);
    found.unwrap_or_else(|| panic!("{process} noted no {word}: {notes:?}")).nanoseconds
}

#[test]
fn nodes_are_told_the_address_that_their_bootnode_was_given() {
    let mut network = Network::new(TOPOLOGY);
    network.spawn(&[]);
    let status = network.wait_all_ready();
    let bootnode = status.processes.iter().find(|process| process.name == "bootnode").unwrap();
    let [address] = bootnode.addresses.as_slice() else { panic!("{:?}", bootnode.addresses) };
    assert!(!address.contains("/tcp/0/"), "{address}");
    assert!(address.ends_with(bootnode.peer_id.as_deref().unwrap()), "{address}");
    for node in ["node-0", "node-1"] {
        let config: toml::Table = network.read(&format!("data/{node}/config.toml")).parse().unwrap();
        let told = config["node"]["bootnodes"].as_array().unwrap();
        assert_eq!(told, &[toml::Value::from(address.as_str())]);
    }
    network.down();
}

#[test]
fn nodes_wait_until_their_bootnode_is_ready() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
note("begins")
if name == "bootnode":
    while not os.path.exists("go"):
        time.sleep(0.01)
    note("ready")
    notify("READY=1\nX_HIPPIUS_ADDRESS=/ip4/127.0.0.1/tcp/4242")
    sleep()
serve()
"#,
    );
    network.wait_state("web", State::Ready);
    for node in ["node-0", "node-1"] {
        let node = network.process(node);
        assert_eq!((node.state, node.generation), (State::Pending, 0));
        assert_eq!(node.reason.as_deref(), Some("waits for bootnode"));
    }
    std::fs::write(network.dir().join("go"), "").unwrap();
    for node in ["node-0", "node-1"] {
        network.wait_state(node, State::Ready);
        assert!(network.read(&format!("data/{node}/config.toml")).contains("/ip4/127.0.0.1/tcp/4242"));
    }
    let notes = network.notes();
    for node in ["node-0", "node-1"] {
        assert!(moment(&notes, node, "begins") > moment(&notes, "bootnode", "ready"));
    }
    network.down();
}

#[test]
fn everything_stops_in_reverse_order() {
    // Each takes its time to end, so that one that did not wait for another would be seen.
    let mut network = Network::scripted(
        TOPOLOGY,
        r#"
def stop(*_):
    note("asked")
    time.sleep(0.1)
    note("ended")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
serve()
"#,
    );
    network.wait_all_ready();
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(0));
    let notes = network.notes();
    for node in ["node-0", "node-1"] {
        assert!(moment(&notes, "bootnode", "asked") > moment(&notes, node, "ended"), "{notes:?}");
    }
    assert!(moment(&notes, "signaling", "asked") > moment(&notes, "web", "ended"), "{notes:?}");
    assert_eq!(notes.len(), 10, "each was asked once and ended by itself");
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn a_crash_during_the_shutdown_starts_nothing_again() {
    // The bootnode dies while the nodes that need it are still stopping.
    let mut network = Network::scripted(
        TOPOLOGY,
        r#"
note("begins")
def stop(*_):
    note("asked")
    while not os.path.exists("go"):
        time.sleep(0.01)
    os._exit(0)
if role == "node":
    signal.signal(signal.SIGTERM, stop)
serve()
"#,
    );
    let status = network.wait_all_ready();
    let bootnode = status.processes.iter().find(|process| process.name == "bootnode").unwrap();
    network.signal(network.supervisor().as_raw(), nix::sys::signal::Signal::SIGTERM);
    wait_until("the nodes were asked", || {
        network.notes().iter().filter(|note| note.word == "asked").count() == 2
    });
    network.signal(bootnode.pid.unwrap(), nix::sys::signal::Signal::SIGKILL);
    network.wait_process("bootnode", "is gone", |process| process.pid != bootnode.pid);
    std::fs::write(network.dir().join("go"), "").unwrap();
    assert_eq!(network.wait_exit().code(), Some(0));
    let begins = network.notes().iter().filter(|note| note.word == "begins").count();
    assert_eq!(begins, 5, "{:?}", network.notes());
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}
