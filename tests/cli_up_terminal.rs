//! `hippius up` in a terminal: a live display that ends with everything ready, the table, coloured logs, Ctrl-C.

mod support;

use support::terminal::Terminal;
use support::{EVERY_ROLE, Network, wait_until};
use unicode_width::UnicodeWidthStr;

#[test]
fn the_display_ends_with_all_ready_and_the_table_and_ctrl_c_stops_everything() {
    let network = Network::new(EVERY_ROLE);
    let mut command = network.command(&["up", "topology.toml"]);
    command.env_remove("NO_COLOR");
    let mut terminal = Terminal::run(&command);
    terminal.wait_text("all 5 processes ready in");
    let screen = terminal.plain();
    for line in ["✔ bootnode", "✔ node", "✔ signaling", "✔ web"] {
        assert!(screen.contains(line), "{line} is on the screen:\n{screen}");
    }
    assert!(screen.contains("2/2 ready in"), "a group counts its processes:\n{screen}");
    for word in ["process", "role", "pid", "state", "address", "peer id", "node-0", "node-1", "/metrics"] {
        assert!(screen.contains(word), "{word} is on the screen:\n{screen}");
    }
    network.run_ok(&["restart", "web"]);
    wait_until("logs have a coloured prefix", || {
        terminal.raw().lines().any(|line| line.starts_with("\x1b[") && line.contains("mweb"))
    });

    terminal.type_in("\x03");
    assert_eq!(terminal.wait_exit().code(), Some(0));
    terminal.wait_text("everything has stopped");
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn what_cannot_be_started_is_marked_and_the_rest_of_a_large_group_is_folded() {
    let topology = "name = \"x\"\n[ports]\nmetrics = 0\n[restart]\npolicy = \"never\"\n[[bootnodes]]\n[[nodes]]\ncount = 12\n";
    let network = Network::new(topology);
    let script = network.script("if name == 'node-9': sys.exit(3)\nserve()");
    let mut command = network.command(&["up", "topology.toml", "--role-program"]);
    let mut terminal = Terminal::run_in(command.arg(script), 80, 40);
    terminal.wait_text("node-9 is failed");
    let screen = terminal.plain();
    for line in
        ["✔ bootnode", "✘ node", "11/12 node-9 failed", "node-0 … node-11  node      11 ready, 1 failed"]
    {
        assert!(screen.contains(line), "{line} is on the screen:\n{screen}");
    }
    let row = screen.lines().find(|line| line.starts_with("  node-9 ")).expect("it has a line of its own");
    assert!(row.contains("failed") && row.width() <= 80, "{row:?}");
    terminal.type_in("\x03");
    assert_eq!(terminal.wait_exit().code(), Some(0));
}

#[test]
fn no_color_is_obeyed_in_a_terminal() {
    let network = Network::new(EVERY_ROLE);
    let mut terminal = Terminal::run(&network.command(&["up", "topology.toml"]));
    terminal.wait_text("all 5 processes ready in");
    network.run_ok(&["restart", "web"]);
    let after_table = |screen: &str| {
        let (_, after) = screen.split_once("Ctrl-C stops everything").expect("the table");
        after.to_owned()
    };
    wait_until("logs are printed", || after_table(&terminal.plain()).contains("web "));
    terminal.type_in("\x03");
    assert_eq!(terminal.wait_exit().code(), Some(0));
    terminal.wait_text("everything has stopped");
    let raw = terminal.raw();
    // The display may move the cursor; it must not set colours (SGR: ESC [ numbers m).
    let coloured = raw.split("\x1b[").skip(1).find(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        let (numbers, letter) = rest.split_at(end.unwrap_or(rest.len()));
        letter.starts_with('m')
            && numbers.split(';').any(|number| matches!(number.parse(), Ok(30..=38 | 90..=97)))
    });
    assert_eq!(coloured, None, "no colours:\n{raw:?}");
    assert!(!after_table(&raw).contains("\x1b["), "log lines are plain:\n{raw:?}");
}

#[test]
fn a_closed_terminal_stops_the_network_in_its_foreground() {
    let network = Network::new(EVERY_ROLE);
    let mut terminal = Terminal::run(&network.command(&["up", "topology.toml"]));
    terminal.wait_text("all 5 processes ready in");
    terminal.close();
    terminal.wait_exit();
    wait_until("no process is left", || network.leftovers().is_empty());
}

#[test]
fn a_terminal_that_takes_no_output_does_not_hold_up_the_network() {
    let network = Network::new(EVERY_ROLE);
    let mut terminal = Terminal::run(&network.command(&["up", "topology.toml"]));
    // Ctrl-S: whoever prints waits from now on.
    terminal.type_in("\x13");
    wait_until("all are ready", || network.try_status().is_some_and(|status| status.all_ready()));
    network.run_ok(&["restart", "node", "web"]);
    network.run_ok(&["down"]);
    assert_eq!(terminal.wait_exit().code(), Some(0));
    assert!(!terminal.plain().contains("everything has stopped"), "the terminal was held");
    wait_until("no process is left", || network.leftovers().is_empty());
}
