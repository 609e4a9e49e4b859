//! `hippius start`, `stop` and `restart`: of a process, of a group, of several, and of what does not exist.

mod support;

use hippius::supervisor::lifecycle::State;
use hippius::supervisor::wire::ProcessStatus;
use support::{EVERY_ROLE, Network, exists, text};

fn states(network: &Network) -> Vec<(String, State, u64)> {
    let each = |process: ProcessStatus| (process.name, process.state, process.generation);
    network.status().processes.into_iter().map(each).collect()
}

fn expected(of: [(State, u64); 5]) -> Vec<(String, State, u64)> {
    let names = ["bootnode", "signaling", "node-0", "node-1", "web"];
    names
        .into_iter()
        .zip(of)
        .map(|(name, (state, generation))| (name.to_owned(), state, generation))
        .collect()
}

#[test]
fn the_named_ones_change_and_the_others_run_on() {
    use State::{Ready, Stopped};
    let network = Network::up(EVERY_ROLE);
    let pid = network.process("node-0").pid.unwrap();

    let out = network.run_ok(&["stop", "node-0"]);
    assert_eq!(out, "node-0 stopped\n");
    assert!(!exists(pid), "it is gone when the command returns");
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Stopped, 1), (Ready, 1), (Ready, 1)]));
    // Again: it is stopped, so that is fine.
    network.run_ok(&["stop", "node-0"]);

    let out = network.run_ok(&["start", "node-0"]);
    assert_eq!(out, "node-0 ready\n");
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Ready, 2), (Ready, 1), (Ready, 1)]));
    // What runs is not started again.
    network.run_ok(&["start", "node-0"]);
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Ready, 2), (Ready, 1), (Ready, 1)]));

    let out = network.run_ok(&["restart", "node", "web"]);
    for name in ["node-0", "node-1", "web"] {
        assert!(out.contains(&format!("{name} ready\n")), "{out}");
    }
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Ready, 3), (Ready, 2), (Ready, 2)]));

    network.run_ok(&["stop", "node"]);
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Stopped, 3), (Stopped, 2), (Ready, 2)]));
    network.run_ok(&["start", "node"]);
    assert_eq!(states(&network), expected([(Ready, 1), (Ready, 1), (Ready, 4), (Ready, 3), (Ready, 2)]));
    assert!(
        network.status().processes.iter().all(|process| process.restarts == 0),
        "all of it was asked for"
    );
    network.down();
}

#[test]
fn restart_starts_what_was_stopped() {
    let network = Network::up(EVERY_ROLE);
    network.run_ok(&["stop", "signaling"]);
    network.run_ok(&["restart", "signaling"]);
    assert_eq!(network.process("signaling").state, State::Ready);
}

#[test]
fn an_unknown_name_is_an_error_and_nothing_is_done() {
    let network = Network::up(EVERY_ROLE);
    for verb in ["start", "stop", "restart"] {
        for name in ["nobody", "node-2", "../data", "no de", "web/stop", "", "%2e", "wéb"] {
            let output = network.run(&[verb, name]);
            assert_eq!(output.status.code(), Some(1), "{verb} {name:?}: {}", text(&output.stderr));
            let errors = text(&output.stderr);
            assert!(errors.starts_with("error: ") && errors.contains(name), "{verb} {name:?}: {errors}");
            assert!(errors.contains("no process or group"), "{verb} {name:?}: {errors}");
        }
        // One slip among names that are right.
        let output = network.run(&[verb, "web", "ndoe", "signaling", "nobody"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), "", "{verb}: nothing is done");
        let errors = text(&output.stderr);
        assert_eq!(errors.lines().count(), 2, "every wrong name at once: {errors}");
        assert!(
            errors.contains("ndoe; did you mean node?")
                && errors.contains("named nobody (there are: bootnode,"),
            "{errors}"
        );
    }
    network.assert_unharmed();
    assert_eq!(network.run(&["stop"]).status.code(), Some(2), "no name at all is wrong usage");
    let output = network.run(&["logs", "node_1"]);
    let errors = text(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("did you mean node-1?"), "{errors}");
}

#[test]
fn more_names_than_the_supervisor_serves_at_once_are_all_acted_on() {
    let network = Network::up(EVERY_ROLE);
    let arguments: Vec<&str> = std::iter::once("stop").chain(std::iter::repeat_n("web", 200)).collect();
    assert_eq!(network.run_ok(&arguments), "web stopped\n".repeat(200));
}
