//! Who may say that a process is ready, and what becomes of what it says.

mod support;

use hippius::supervisor::lifecycle::State;
use support::{Network, wait_until};

const TOPOLOGY: &str = r#"
name = "readiness"
[ports]
web = 0
signaling = 0
metrics = 0
[restart]
policy = "never"
[signaling]
[web]
signaling = "signaling"
"#;

#[test]
fn only_the_process_itself_can_say_that_it_is_ready() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
if name == "signaling":
    child = os.fork()
    if child == 0:
        ready()
        os._exit(0)
    os.waitpid(child, 0)
    # A word of its own, which comes after the child's: once it is known the child's has been read, too.
    notify("X_HIPPIUS_ADDRESS=after-the-child")
    while not os.path.exists("go"):
        time.sleep(0.01)
serve()
"#,
    );
    let server =
        network.wait_process("signaling", "was heard", |process| process.addresses == ["after-the-child"]);
    assert_eq!(server.state, State::Starting, "its child is not the process");
    assert_eq!(network.process("web").state, State::Pending);
    std::fs::write(network.dir().join("go"), "").unwrap();
    network.wait_state("signaling", State::Ready);
    network.wait_state("web", State::Ready);
    network.down();
}

#[test]
fn readiness_is_logged_once_however_often_it_is_said() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
if name == "web":
    serve()
for _ in range(100):
    ready()
notify("X_HIPPIUS_ADDRESS=done")
serve()
"#,
    );
    network.wait_process("signaling", "was heard", |process| process.addresses == ["done"]);
    network.wait_state("web", State::Ready);
    let log = network.read("logs/supervisor.log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let said = lines.filter(|line| line["message"] == "ready" && line["process"] == "signaling").count();
    assert_eq!(said, 1, "{log}");
    network.down();
}

#[test]
fn words_said_right_before_the_end_are_heard() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
if name == "web":
    serve()
notify("READY=1\nX_HIPPIUS_PEER_ID=somebody")
notify("STATUS=out of paper")
os._exit(9)
"#,
    );
    let server = network.wait_state("signaling", State::Failed);
    assert_eq!(server.reason.as_deref(), Some("exited with code 9: out of paper"));
    assert_eq!(server.peer_id.as_deref(), Some("somebody"));
    network.wait_state("web", State::Ready);
    network.down();
}

#[test]
fn rubbish_on_the_notify_socket_is_passed_over() {
    let network = Network::scripted(
        TOPOLOGY,
        r#"
import random
generator = random.Random(1)
for n in range(500):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    place = os.environ["NOTIFY_SOCKET"]
    place = "\0" + place[1:] if place.startswith("@") else place
    s.sendto(generator.randbytes(generator.randrange(20000)), place)
    s.close()
notify("READY=maybe")
notify("X_HIPPIUS_ADDRESS=" + "a" * 100 + "\x1b[2J")
notify("STATUS=\x1b[2Jstill here")
note("done")
while not os.path.exists("go"):
    time.sleep(0.01)
serve()
"#,
    );
    wait_until("all was said", || network.notes().iter().any(|note| note.process == "signaling"));
    let server = network.wait_process("signaling", "was heard", |process| {
        process.addresses.first().is_some_and(|address| address.starts_with("aaa"))
    });
    assert_eq!(server.state, State::Starting);
    assert!(!server.addresses[0].contains('\x1b'), "it goes to terminals");
    std::fs::write(network.dir().join("go"), "").unwrap();
    network.wait_state("web", State::Ready);
    assert_eq!(network.process("signaling").generation, 1);
    network.down();
}
