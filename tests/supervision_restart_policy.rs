//! What follows when a process ends that nobody asked to end: restart policies, the immediate first restart, growing
//! delays, and the limit of a crash loop.

mod support;

use hippius::supervisor::lifecycle::State;
use hippius::supervisor::wire::ProcessStatus;
use support::Network;

fn topology(restart: &str) -> String {
    format!(
        r#"
name = "policies"
[ports]
web = 0
signaling = 0
metrics = 0
[restart]
{restart}
[[nodes]]
name = "calm"
[signaling]
"#
    )
}

/// The node serves; the signaling server becomes ready and exits as its file `code` says, once for each line of it.
const EXITS: &str = r#"
note("begins")
if name == "calm":
    serve()
try:
    lines = open("code").read().split()
except FileNotFoundError:
    lines = []
open("code.tmp", "w").write("\n".join(lines[1:]))
os.rename("code.tmp", "code")
ready()
if lines:
    sys.exit(int(lines[0]))
sleep()
"#;

/// Runs the server through the exit codes `codes`, until it is in `state` for good.
fn exits_with(restart: &str, codes: &str, state: State, generation: u64) -> (Network, ProcessStatus) {
    let mut network = Network::new(&topology(restart));
    std::fs::write(network.dir().join("code"), codes).unwrap();
    network.play(EXITS, &[]);
    let server = network.wait_process("signaling", "has settled", |process| {
        process.state == state && process.generation == generation
    });
    network.wait_state("calm", State::Ready);
    assert_eq!(network.process("calm").generation, 1, "the others run on");
    (network, server)
}

#[test]
fn always_restarts_after_success_and_after_failure() {
    let (network, server) = exits_with(r#"policy = "always""#, "0\n1\n", State::Ready, 3);
    assert_eq!(server.restarts, 2);
    assert_eq!(server.last_exit.unwrap().code, Some(1));
    network.down();
}

#[test]
fn on_failure_restarts_after_failure_and_not_after_success() {
    let (network, server) = exits_with(r#"policy = "on-failure""#, "1\n0\n", State::Stopped, 2);
    assert_eq!(server.restarts, 1);
    assert_eq!(server.last_exit.unwrap().code, Some(0));
    network.down();
}

#[test]
fn never_leaves_a_success_stopped_and_a_failure_failed() {
    let (network, server) = exits_with(r#"policy = "never""#, "0\n", State::Stopped, 1);
    assert_eq!(server.restarts, 0);
    network.down();

    let (network, server) = exits_with(r#"policy = "never""#, "1\n", State::Failed, 1);
    assert_eq!(server.restarts, 0);
    assert_eq!(server.reason.as_deref(), Some("exited with code 1"));
    assert_eq!(network.run_ok(&["start", "signaling"]).trim(), "signaling ready");
    network.down();
}

#[test]
fn a_crash_loop_ends_in_failed_and_start_begins_anew() {
    let restart = "limit = 3\nwithin = \"1h\"\nbackoff = \"1ms\"";
    let (network, server) = exits_with(restart, &"7\n".repeat(6), State::Failed, 4);
    assert_eq!(server.restarts, 3, "as many as the limit");
    let reason = server.reason.unwrap();
    assert!(reason.starts_with("crash loop: 3 restarts in 1h"), "{reason}");
    assert!(reason.contains("exited with code 7"), "{reason}");
    let table = network.run_ok(&["status"]);
    assert!(table.contains("failed") && table.contains("crash loop"), "{table}");

    // Two more exits are left: within a fresh budget they are restarted, and then it stays.
    network.run_ok(&["start", "signaling"]);
    let server = network.wait_process("signaling", "has come through", |process| {
        process.state == State::Ready && process.generation == 7
    });
    assert_eq!(server.restarts, 5);
    assert_eq!(server.reason, None);
    network.down();
}

#[test]
fn the_first_restart_is_immediate_and_the_following_wait_longer_and_longer() {
    const BACKOFF_MS: u64 = 200;
    let (network, _) = exits_with(
        &format!("backoff = \"{BACKOFF_MS}ms\"\nmax_backoff = \"400ms\""),
        &"1\n".repeat(4),
        State::Ready,
        5,
    );
    let begins: Vec<u64> = network
        .notes()
        .iter()
        .filter(|note| note.process == "signaling")
        .map(|note| note.nanoseconds / 1_000_000)
        .collect();
    let gaps: Vec<u64> = begins.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Only lower bounds: a busy machine may take longer. Less a quarter at most for jitter.
    let least = [0, BACKOFF_MS, 2 * BACKOFF_MS, 2 * BACKOFF_MS].map(|full| full * 3 / 4);
    assert_eq!(gaps.len(), least.len());
    for (gap, least) in gaps.iter().zip(least) {
        assert!(*gap >= least, "{gaps:?} ms between starts");
    }
    network.down();
}

#[test]
fn after_a_first_crash_no_delay_is_waited_for() {
    // A delayed restart would come an hour later.
    let (network, server) = exits_with("backoff = \"1h\"\nmax_backoff = \"1h\"", "1\n", State::Ready, 2);
    assert_eq!(server.restarts, 1);
    network.down();
}

#[test]
fn a_process_in_backoff_says_so_and_an_explicit_start_does_not_wait() {
    let (network, server) = exits_with("backoff = \"1h\"\nmax_backoff = \"1h\"", "1\n1\n", State::Backoff, 2);
    assert_eq!(server.pid, None);
    assert_eq!(server.reason.as_deref(), Some("exited with code 1"));
    assert_eq!(network.run_ok(&["start", "signaling"]).trim(), "signaling ready");
    network.down();
}

#[test]
fn a_program_that_does_not_exist_is_a_failed_start_with_its_reason() {
    let mut network = Network::new(&topology("limit = 2\nbackoff = \"1ms\""));
    network.spawn(&["--role-program", "/no/such/program"]);
    let server = network.wait_state("signaling", State::Failed);
    let reason = server.reason.unwrap();
    assert!(reason.contains("/no/such/program") && reason.contains("No such file"), "{reason}");
    assert_eq!(server.pid, None);
    network.down();
}
