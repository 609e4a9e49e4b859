//! `hippius check`, `plan`, `schema` and `init` as programs: exit codes, and what goes to which stream.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::terminal::Terminal;
use support::{EVERY_ROLE, Network, text};

/// Four mistakes on four lines.
const WRONG: &str = r#"name = "wrong"
bind = "not an address"
[ports]
web = 70000
[[nodes]]
count = 0
topisc = ["lobby"]
"#;

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology");
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    files
}

#[test]
fn every_shipped_topology_is_good() {
    let network = Network::new("");
    // It is named by one of them, from the folder that the network is started in.
    let turn = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/turn_config.json");
    fs::create_dir(network.dir().join("config")).unwrap();
    fs::copy(turn, network.dir().join("config/turn_config.json")).unwrap();
    for file in shipped() {
        let output = network.run(&["check", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(" is good: "), "{}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn all_mistakes_are_printed_at_once_with_their_places() {
    let network = Network::new(WRONG);
    for command in ["check", "plan", "up"] {
        let output = network.run(&[command, "topology.toml"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert_eq!(text(&output.stdout), "", "{command}: mistakes go to standard error");
        let errors = text(&output.stderr);
        for place in ["topology.toml:2:8", "topology.toml:4:7", "topology.toml:6:9", "topology.toml:7:1"] {
            assert!(errors.contains(place), "{command}: {place} in:\n{errors}");
        }
        assert!(errors.contains("topics"), "the nearest key is the hint:\n{errors}");
        assert!(!errors.contains('\x1b'), "no colours where it is no terminal:\n{errors}");
    }
    assert!(!network.data().exists(), "nothing is started and nothing written");
}

#[test]
fn plan_is_what_up_starts_in_its_order() {
    let mut network = Network::new(EVERY_ROLE);
    let plan = network.run_ok(&["plan", "topology.toml"]);
    let json: serde_json::Value =
        serde_json::from_str(&network.run_ok(&["plan", "topology.toml", "--json"])).expect("JSON");
    assert!(json.is_object() || json.is_array());
    network.spawn(&[]);
    network.wait_all_ready();
    let mut rest = plan.as_str();
    for process in network.status().processes {
        let at = rest.find(&process.name).unwrap_or_else(|| panic!("{} in order in:\n{plan}", process.name));
        rest = &rest[at + process.name.len()..];
    }
    // Against what runs, the plan is the difference.
    assert!(network.run_ok(&["plan", "topology.toml"]).contains("no changes"));
    network.down();
}

#[test]
fn schema_is_json_on_standard_output() {
    let network = Network::new("");
    let schema: serde_json::Value = serde_json::from_str(&network.run_ok(&["schema"])).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|url| url.contains("json-schema.org")), "{schema}");
    for key in ["name", "bind", "ports", "restart", "bootnodes", "nodes", "signaling", "web"] {
        assert!(schema["properties"].get(key).is_some(), "{key} is described");
    }
}

#[test]
fn init_writes_a_good_topology_and_never_overwrites() {
    let network = Network::new("");
    network.run_ok(&["init", "new/first.toml"]);
    network.run_ok(&["check", "new/first.toml"]);
    fs::write(network.dir().join("new/first.toml"), "mine").unwrap();
    for file in ["new/first.toml", "new", "topology.toml"] {
        let output = network.run(&["init", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert_eq!(text(&output.stdout), "", "{file}");
        assert!(text(&output.stderr).starts_with(&format!("error: {file} is there already")), "{file}");
    }
    assert_eq!(network.read("new/first.toml"), "mine");
    // Without a name it is the file that the other commands look for.
    network.run_ok(&["init"]);
    network.run_ok(&["check"]);
    assert!(network.dir().join("topology/local.toml").is_file());
}

#[test]
fn the_starter_says_how_to_start_it_under_its_own_name() {
    let network = Network::new("");
    network.run_ok(&["init", "my.toml"]);
    assert!(network.read("my.toml").contains("hippius up my.toml"), "{}", network.read("my.toml"));
    let output = network.run(&["init", "my.toml/below.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("my.toml is a file, not a folder"), "{}", text(&output.stderr));
}

/// Clears the screen, sets the window's title, turns the direction of writing; as text, as a key, in a comment, in a name.
const HOSTILE: &str =
    "name = \"a\u{9b}2J\u{202e}\" # \u{202e}\r\n\"\u{9b}31m\" = 1\r\n[[nodes]]\nname = \"\u{2066}\"\n";

#[test]
fn a_hostile_file_cannot_touch_the_terminal() {
    let broken = format!("{HOSTILE}\u{1b}[2J\u{1b}]0;title\u{7} = \r\u{8}1\n");
    for (content, place) in [(HOSTILE, "\u{1b}x.toml:1:8"), (&broken, "\u{1b}x.toml:5:2")] {
        let network = Network::new("");
        fs::write(network.dir().join("\u{1b}x.toml"), content).unwrap();
        for command in ["check", "plan", "up"] {
            let output = network.run(&[command, "\u{1b}x.toml"]);
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{errors}");
            let harmful = |character: char| {
                (character.is_control() && character != '\n')
                    || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}')
            };
            assert!(!errors.contains(harmful), "{errors:?}");
            let place = place.replace('\u{1b}', "\\u{1b}");
            assert!(errors.contains(&place), "the place is that of the file: {place} in\n{errors}");
        }
        let mut terminal = Terminal::run(&network.command(&["check", "\u{1b}x.toml"]));
        assert_eq!(terminal.wait_exit().code(), Some(1));
        terminal.wait_text("in \\u{1b}x.toml");
        assert!(!terminal.raw().contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}']), "{:?}", terminal.raw());
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let network = Network::new("");
    let mut command = network.command(&["schema"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_usage_exits_2_and_prints_to_standard_error() {
    let network = Network::new(EVERY_ROLE);
    let wrong: [&[&str]; 13] = [
        &[],
        &["upp"],
        &["up", "--no-such-flag"],
        &["up", "a.toml", "b.toml"],
        &["up", "--timeout", "soon"],
        &["up", "--timeout", "500000000000y"],
        &["up", "-d", "--background"],
        &["status", "extra"],
        &["restart"],
        &["console"],
        &["logs", "-n", "-1"],
        &["check", "--json"],
        &["--mode", "everything"],
    ];
    for arguments in wrong {
        let output = network.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        let errors = text(&output.stderr);
        assert!(errors.contains("Usage: hippius") || errors.contains("--help"), "{arguments:?}: {errors}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}: nothing on standard output");
    }
    assert!(!network.data().exists());
}

#[test]
fn help_and_version_go_to_standard_output() {
    let network = Network::new("");
    assert!(network.run_ok(&["--version"]).starts_with("hippius "));
    let help = network.run_ok(&["--help"]);
    for command in ["up", "down", "status", "logs", "start", "stop", "restart", "check", "plan", "console"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in:\n{help}");
        let own = network.run_ok(&[command, "--help"]);
        assert!(own.contains("Usage: hippius"), "{own}");
    }
}
