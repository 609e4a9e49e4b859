//! However the supervisor ends, no process outlives it, and the next `up` works.

mod support;

use std::time::{Duration, Instant};

use hippius::supervisor::lifecycle::State;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{EVERY_ROLE, Network, wait_until};

const ROUNDS: u32 = 20;
/// The kernel kills the children with their supervisor, which takes milliseconds. A role that were only told so by its
/// lifeline might take four seconds to stop, and one that were told nothing would stay for ever.
const GONE_WITHIN: Duration = Duration::from_secs(3);

#[track_caller]
fn assert_all_follow(network: &Network, round: &str) {
    let deadline = Instant::now() + GONE_WITHIN;
    while !network.leftovers().is_empty() {
        assert!(Instant::now() < deadline, "{round}: {:?} outlived the supervisor", network.leftovers());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the supervisor as it stands.
fn kill_supervisor(network: &mut Network) {
    network.signal(network.supervisor().as_raw(), Signal::SIGKILL);
    let status = network.wait_exit();
    assert_eq!(status.code(), None, "it was killed, and had not ended before: {}", network.read("up.err"));
}

#[test]
fn no_process_outlives_a_supervisor_killed_at_a_random_moment() {
    let seed = rand::random::<u32>();
    let mut rng = SmallRng::seed_from_u64(seed.into());
    let mut network = Network::new(EVERY_ROLE);
    for round in 0..ROUNDS {
        network.spawn(&[]);
        let when = match round % 4 {
            // Some time after the start, in the middle of whatever goes on then.
            0 | 1 => {
                let moment = Duration::from_millis(rng.random_range(0..600));
                std::thread::sleep(moment);
                format!("after {moment:?}")
            }
            // As soon as there are some processes: the newest has just been forked.
            2 => {
                let count = rng.random_range(2..=6);
                wait_until("processes begin", || network.leftovers().len() >= count);
                format!("at process {count}")
            }
            _ => {
                network.wait_all_ready();
                "when all were ready".to_owned()
            }
        };
        kill_supervisor(&mut network);
        assert_all_follow(&network, &format!("round {round} of seed {seed}, {when}"));
    }
    network.spawn(&[]);
    network.wait_all_ready();
    network.down();
}

#[test]
fn processes_that_ignore_sigterm_and_their_lifeline_do_not_outlive_it_either() {
    let mut network = Network::scripted(EVERY_ROLE, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()");
    network.wait_all_ready();
    assert!(network.leftovers().len() >= 6);
    kill_supervisor(&mut network);
    assert_all_follow(&network, "deaf processes");
}

/// Two grandchildren: one in the process's group, one that has left the parent that forked it.
const WITH_GRANDCHILDREN: &str = r#"
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(f"pid={os.getpid()}")
    sleep()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        note(f"pid={os.getpid()}")
        sleep()
    os._exit(0)
os.waitpid(middle, 0)
while not os.path.exists("notes") or len(open("notes").read().splitlines()) < 2:
    time.sleep(0.01)
serve()
"#;
const ONE_SERVER: &str =
    "name = \"group\"\n[ports]\nsignaling = 0\nmetrics = 0\n[restart]\npolicy = \"never\"\n[signaling]\n";

fn grandchildren(network: &Network) -> Vec<i32> {
    let pids = network.notes().into_iter().map(|note| note.word.trim_start_matches("pid=").parse().unwrap());
    pids.collect()
}

#[test]
fn stopping_a_process_ends_its_whole_group() {
    let network = Network::scripted(ONE_SERVER, WITH_GRANDCHILDREN);
    network.wait_state("signaling", State::Ready);
    let pids = grandchildren(&network);
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| support::exists(*pid)));
    network.run_ok(&["stop", "signaling"]);
    wait_until("the group is gone", || !pids.iter().any(|pid| support::exists(*pid)));
    network.down();
}

#[test]
fn a_crash_takes_the_group_along() {
    let network = Network::scripted(ONE_SERVER, WITH_GRANDCHILDREN);
    let leader = network.wait_state("signaling", State::Ready).pid.unwrap();
    let pids = grandchildren(&network);
    network.signal(leader, Signal::SIGKILL);
    network.wait_state("signaling", State::Failed);
    wait_until("the group is gone", || !pids.iter().any(|pid| support::exists(*pid)));
    network.down();
}

/// A descendant that has left the group, the session and its parent, and one that has thrown away its environment as well.
const WITH_STRAYS: &str = r#"
def leave(then):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            then()
            os._exit(1)
        os._exit(0)
    os.wait()
def stay():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(f"stays={os.getpid()}")
    sleep()
def forget():
    note(f"forgets={os.getpid()}")
    os.execve("/bin/sleep", ["sleep", "1000"], {})
before = len(open("notes").read().splitlines()) if os.path.exists("notes") else 0
leave(stay)
leave(forget)
while not os.path.exists("notes") or len(open("notes").read().splitlines()) < before + 2:
    time.sleep(0.01)
serve()
"#;

#[test]
fn descendants_that_have_left_the_group_are_ended_with_their_role_or_at_last_with_the_network() {
    let network = Network::scripted(&ONE_SERVER.replace("never", "always"), WITH_STRAYS);
    let leader = network.wait_state("signaling", State::Ready).pid.unwrap();
    let noted = |what: &str| -> Vec<i32> {
        let notes = network.notes();
        notes
            .iter()
            .filter_map(|note| note.word.strip_prefix(what)?.strip_prefix('=')?.parse().ok())
            .collect()
    };
    let (stays, forgets) = (noted("stays")[0], noted("forgets")[0]);
    network.signal(leader, Signal::SIGKILL);
    network.wait_process("signaling", "is back", |process| {
        process.generation == 2 && process.state == State::Ready
    });
    wait_until("what the first one left is gone", || !support::exists(stays));
    let second = noted("stays")[1];
    assert!(support::exists(second), "the second's own are left alone while it lives");
    network.run_ok(&["stop", "signaling"]);
    wait_until("what the second one left is gone", || !support::exists(second));
    assert!(support::exists(forgets), "nobody can tell whose it is");
    network.down();
    assert!(!support::exists(forgets), "but it does not outlive the network");
}
