//! Processes that keep no deadline: never ready, deaf to SIGTERM, silent on the watchdog.

mod support;

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use support::{Network, wait_until};

fn topology(timing: &str) -> String {
    format!(
        r#"
name = "deadlines"
[ports]
signaling = 0
metrics = 0
[restart]
limit = 2
backoff = "1ms"
[[nodes]]
name = "calm"
[signaling]
timing = {{ {timing} }}
"#
    )
}

#[test]
fn a_process_that_never_becomes_ready_is_killed_and_after_the_limit_given_up() {
    let network = Network::scripted(
        &topology("start_timeout = \"300ms\""),
        "note('begins')\nif name == 'calm': serve()\nsleep()",
    );
    let server = network.wait_state("signaling", State::Failed);
    assert_eq!(server.restarts, 2);
    assert_eq!(server.last_exit.unwrap().signal.as_deref(), Some("SIGKILL"));
    let reason = server.reason.unwrap();
    assert!(reason.contains("not ready after 300ms"), "{reason}");
    assert_eq!(network.process("calm").generation, 1);
    network.down();
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
    let network = Network::scripted(
        &topology("stop_grace = \"300ms\""),
        "if name != 'calm': signal.signal(signal.SIGTERM, lambda *_: note('deaf'))\nserve()",
    );
    network.wait_state("signaling", State::Ready);
    assert_eq!(network.run_ok(&["stop", "signaling"]).trim(), "signaling stopped");
    let server = network.process("signaling");
    assert_eq!(server.last_exit.unwrap().signal.as_deref(), Some("SIGKILL"));
    assert_eq!(network.notes().len(), 1, "it was asked before it was killed: {:?}", network.notes());

    assert_eq!(network.run_ok(&["start", "signaling"]).trim(), "signaling ready");
    let mut network = network;
    assert!(network.run_ok(&["down"]).contains("everything has stopped"));
    assert_eq!(network.wait_exit().code(), Some(0));
    assert_eq!(network.notes().len(), 2, "asked again");
    assert_eq!(network.leftovers(), Vec::<i32>::new());
}

#[test]
fn a_frozen_role_is_killed_by_its_watchdog_and_comes_back() {
    let network = Network::up(&topology("watchdog = \"500ms\""));
    let frozen = network.process("signaling").pid.unwrap();
    network.signal(frozen, Signal::SIGSTOP);
    let server = network.wait_process("signaling", "is back", |process| {
        process.generation == 2 && process.state == State::Ready
    });
    assert!(!support::exists(frozen));
    let exit = server.last_exit.unwrap();
    assert_eq!(exit.signal.as_deref(), Some("SIGKILL"));
    assert_eq!(exit.message.as_deref(), Some("no sign of life on its watchdog for 500ms"));
    assert_eq!(network.process("calm").generation, 1);
    network.down();
}

#[test]
fn signs_of_life_keep_the_watchdog_quiet_and_their_end_wakes_it() {
    // Twenty signs over more than three times what the watchdog allows in silence, then none.
    let network = Network::scripted(
        &topology("watchdog = \"1s\""),
        r#"
if name == "calm": serve()
note("begins")
ready()
for _ in range(20):
    time.sleep(0.17)
    notify("WATCHDOG=1")
note("silent")
sleep()
"#,
    );
    network.wait_process("signaling", "was killed", |process| process.generation == 2);
    let words: Vec<String> = network.notes().into_iter().map(|note| note.word).collect();
    assert_eq!(words[..2], ["begins", "silent"], "killed only once it was silent");
    network.down();
}

#[test]
fn a_watchdog_of_zero_is_none() {
    let network = Network::scripted(
        &topology("watchdog = \"0s\""),
        "note(os.environ.get('WATCHDOG_USEC', 'none'))\nserve()",
    );
    network.wait_state("signaling", State::Ready);
    network.wait_state("calm", State::Ready);
    let asked = |name: &str| {
        network.notes().into_iter().find(|note| note.process == name).map(|note| note.word).unwrap()
    };
    assert_eq!(asked("signaling"), "none");
    assert_eq!(asked("calm"), "10000000", "the default, in microseconds");
    network.down();
}

#[test]
fn a_process_that_closes_its_output_is_still_watched() {
    let network = Network::scripted(
        &topology("stop_grace = \"5s\""),
        "ready()\nos.close(1)\nos.close(2)\nnote('closed')\nsleep()",
    );
    wait_until("both have closed it", || network.notes().len() == 2);
    let pid = network.wait_state("signaling", State::Ready).pid.unwrap();
    network.signal(pid, Signal::SIGKILL);
    network.wait_process("signaling", "is back", |process| process.generation == 2);
    network.down();
}
