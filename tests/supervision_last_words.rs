//! What processes print while they end is kept, although the supervisor ends right after them.

mod support;

use support::{EVERY_ROLE, Network, wait_until};

/// Nearly as much as a pipe holds: all of it may still stand there when the process is gone.
const WORDS: usize = 2_300;
const SCRIPT: &str = r#"
def stop(*_):
    os.write(1, b"".join(b"last word %d of very many\n" % n for n in range(2300)))
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
serve()
"#;
/// What ends last is the likeliest to be cut off, and chance has a part in it.
const ROUNDS: usize = 8;

#[test]
fn last_words_of_all_processes_are_kept() {
    for _ in 0..ROUNDS {
        let network = Network::new(EVERY_ROLE);
        let program = network.script(SCRIPT);
        network.run_ok(&["up", "topology.toml", "-d", "--role-program", program.to_str().unwrap()]);
        let names: Vec<String> = network.status().processes.into_iter().map(|process| process.name).collect();
        assert_eq!(names.len(), 5);
        network.run_ok(&["down"]);
        wait_until("nobody is left", || network.leftovers().is_empty());
        for name in names {
            let log = network.read(&format!("logs/{name}.log"));
            assert_eq!(log.lines().count(), WORDS, "{name}");
            for (number, line) in log.lines().enumerate() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["message"], format!("last word {number} of very many"), "{name}");
            }
        }
    }
}

#[test]
fn somebody_who_left_the_group_with_the_output_open_does_not_hold_up_the_end() {
    let mut network = Network::scripted(
        EVERY_ROLE,
        r#"
if name == "web" and os.fork() == 0:
    os.setsid()
    note(str(os.getpid()))
    time.sleep(3600)
serve()
"#,
    );
    network.wait_all_ready();
    wait_until("it has left", || network.notes().len() == 1);
    let stray: i32 = network.notes()[0].word.parse().unwrap();
    network.run_ok(&["down"]);
    assert_eq!(network.wait_exit().code(), Some(0));
    if support::exists(stray) {
        network.signal(stray, nix::sys::signal::Signal::SIGKILL);
    }
}
