//! Messages between consoles of different nodes of one network.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use support::{DEADLINE, Network, text, wait_until};

const TOPOLOGY: &str = r#"
name = "messages"
[ports]
web = 0
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 3
topics = ["lobby"]
[web]
"#;

/// A console that stays open, as a script from another program.
struct Console {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Console {
    fn open(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut console = Self { input: child.stdin.take(), child, lines };
        // The answer comes after the console listens for messages.
        console.say("/topics");
        assert!(console.next().starts_with("lobby "));
        console
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line")
    }

    /// Ends the input; the console must succeed. Gives what it still printed.
    #[track_caller]
    fn close(mut self) -> Vec<String> {
        drop(self.input.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.lines.iter().collect()
    }
}

/// Runs a script in a console: exit code, standard output, standard error.
fn script(network: &Network, node: &str, lines: &str) -> (Option<i32>, String, String) {
    let mut console = network.command(&["console", node]);
    let mut child =
        console.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A console that ends at once, or at /quit, does not read it all.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Waits until every node sees both others on the topic.
fn wait_meshed(network: &Network) {
    wait_until("every node sees both others on lobby", || {
        ["node-0", "node-1", "node-2"].iter().all(|node| {
            script(network, node, "/topics\n").1.lines().any(|line| line.starts_with("lobby  2 peers"))
        })
    });
}

#[test]
fn what_one_console_sends_arrives_at_the_others_each_time() {
    let network = Network::up(TOPOLOGY);
    wait_meshed(&network);
    let one = Console::open(network.command(&["console", "node-1"]));
    let two = Console::open(network.command(&["console", "node-2"]));
    let sender = network.process("node-0").peer_id.unwrap();
    // The same text twice is two messages.
    let (code, out, errors) =
        script(&network, "node-0", "/send lobby \"hello\"\n/send lobby \"hello\"\n/send lobby bare words\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("sent to lobby: ")).count(), 3, "{out}");
    for console in [one, two] {
        let mut seen = [console.next(), console.next(), console.next()];
        seen.sort_unstable();
        let line = |text: &str| format!("[lobby] {sender}: {text}");
        assert_eq!(seen, [line("bare words"), line("hello"), line("hello")]);
        assert_eq!(console.close(), [""; 0], "each arrives once");
    }
    network.down();
}

#[test]
fn topics_are_opened_joined_and_left() {
    let network = Network::up(TOPOLOGY);
    wait_meshed(&network);
    let (code, out, errors) = script(
        &network,
        "node-0",
        "/create-topic news\n/topics\n/leave-topic lobby\n/topics\n/join-topic lobby\n/quit\n/no-such-command\n",
    );
    assert_eq!((code, errors.as_str()), (Some(0), ""), "nothing after /quit is read: {out}");
    assert!(out.starts_with("created and joined news\n"), "{out}");
    assert!(out.contains("left lobby\nnews  0 peers\njoined lobby\n"), "{out}");

    // Whoever joins gets what is sent from then on.
    let mut reader = Console::open(network.command(&["console", "node-1"]));
    reader.say("/join-topic news");
    assert_eq!(reader.next(), "joined news");
    wait_until("node-0 sees a reader of news", || {
        script(&network, "node-0", "/topics\n").1.lines().any(|line| line.starts_with("news  1 peer"))
    });
    let (code, out, _) = script(&network, "node-0", "/send news \"first\"\n");
    assert_eq!(code, Some(0), "{out}");
    assert!(reader.next().ends_with(": first"));
    reader.close();
    network.down();
}

#[test]
fn what_was_written_too_early_arrives_and_a_console_that_comes_later_sees_it() {
    let network = Network::up(TOPOLOGY);
    let (code, out, errors) = script(&network, "node-0", "/create-topic news\n/send news \"too early\"\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "created and joined news\nno connected peer is on news yet; the message waits 10 s for one\n"
    );
    assert_eq!(script(&network, "node-1", "/join-topic news\n").0, Some(0));
    let line = format!("(earlier) [news] {}: too early", network.process("node-0").peer_id.unwrap());
    // Each console attaches anew, when the message has long arrived.
    wait_until("a later console shows the message", || {
        script(&network, "node-1", "").1.lines().any(|shown| shown == line)
    });
    let (code, out, _) = script(&network, "node-1", "/history news\n/topics\n");
    assert_eq!(code, Some(0));
    assert!(out.starts_with(&format!("{line}\n{line}\n")), "at attaching, and as the answer: {out}");
    network.down();
}

#[test]
fn peers_are_listed_with_address_and_direction() {
    let network = Network::up(TOPOLOGY);
    wait_meshed(&network);
    let (code, out, _) = script(&network, "node-0", "/peers\n");
    assert_eq!(code, Some(0));
    for name in ["bootnode", "node-1", "node-2"] {
        let id = network.process(name).peer_id.unwrap();
        let line =
            out.lines().find(|line| line.starts_with(&id)).unwrap_or_else(|| panic!("{name} in:\n{out}"));
        assert!(line.contains("/ip4/127.0.0.1/tcp/"), "{line}");
        assert!(line.contains("inbound") || line.contains("outbound"), "{line}");
        assert!(
            line.contains("  tcp direct  ") && line.contains("  sent ") && line.contains("  received "),
            "{line}"
        );
        assert_eq!(line.contains(" bootnode"), name == "bootnode", "{line}");
        assert!(line.starts_with(&format!("{id}  {name}  ")), "{line}");
    }
    let (_, help, _) = script(&network, "node-0", "/help\n");
    for command in [
        "/create-topic",
        "/join-topic",
        "/leave-topic",
        "/send",
        "/topics",
        "/peers",
        "/history",
        "/connect",
        "/disconnect",
        "/block",
        "/unblock",
        "/blocked",
        "/help",
        "/quit",
    ] {
        assert!(help.lines().any(|line| line.starts_with(command)), "{command} in:\n{help}");
    }
    network.down();
}

#[test]
fn a_private_message_may_name_the_process_that_it_is_for() {
    let network = Network::up(TOPOLOGY);
    let id = network.process("node-1").peer_id.expect("a peer id");
    let end = &id[id.len() - 10..];
    let delivered = format!("delivered to {id}");
    for peer in ["node-1", end, &id] {
        // The end of an id is known of connected peers only; the first message connects.
        let (code, out, errors) = script(&network, "node-0", &format!("/msg {peer} \"hi\"\n"));
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{peer}");
        assert!(out.lines().any(|line| line == delivered), "{peer}: {out}");
    }
    let (code, _, errors) = script(&network, "node-0", "/msg node-9 hi\n/msg web hi\n");
    assert_eq!((code, errors.lines().count()), (Some(1), 2), "{errors}");
    assert!(errors.lines().next().is_some_and(|line| line.ends_with("did you mean node-0?")), "{errors}");
    network.down();
}

#[test]
fn a_node_of_the_network_is_kept_away_by_the_name_of_its_process() {
    let network = Network::up(TOPOLOGY);
    let id = network.process("node-1").peer_id.expect("a peer id");
    let (code, out, errors) = script(&network, "node-0", "/block node-1 10m\n/blocked\n/unblock node-1\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("blocked {id} for 10m\n{id}  by hand  ")), "{out}");
    assert!(out.ends_with(&format!("{id} is let in again\n")), "{out}");
    network.down();
}

#[test]
fn what_cannot_be_done_is_said_with_its_line_and_the_script_goes_on() {
    let network = Network::up(TOPOLOGY);
    let lines = [
        "/msg 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp \"hi\"",
        "/send-file 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp /nowhere/README.md",
        "/sned lobby \"hello\"",
        "/send nowhere \"hello\"",
        "/send lobby \"no end",
        "/connect nowhere",
        "/join-topic",
        "# a comment",
        "",
        "/topics",
    ];
    let (code, out, errors) = script(&network, "node-0", &lines.join("\n"));
    assert_eq!(code, Some(1));
    assert!(out.starts_with("lobby "), "the last one is answered: {out}");
    let errors: Vec<&str> = errors.lines().collect();
    assert_eq!(errors.len(), 7, "{errors:?}");
    for (number, words) in [
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "cannot read",
        "did you mean /send?",
        "nowhere",
        "quote",
        "not a multiaddr",
        "usage: /join-topic NAME",
    ]
    .iter()
    .enumerate()
    {
        let start = format!("error: line {}: ", number + 1);
        assert!(errors[number].starts_with(&start) && errors[number].contains(words), "{}", errors[number]);
    }
    network.assert_unharmed();
    network.down();
}

#[test]
fn a_console_to_what_is_no_node_is_an_error() {
    let network = Network::up(TOPOLOGY);
    for name in ["nobody", "web", "supervisor", "node", "..", "../data/node-0", "", "node-0/..", "/etc"] {
        let (code, out, errors) = script(&network, name, "/peers\n");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{name:?}: {errors}");
    }
    let (_, _, errors) = script(&network, "nobody", "");
    assert!(errors.contains("the nodes are: bootnode, node-0"), "it says what there is: {errors}");
    // A node that is stopped, too, and one that stops under a console.
    let console = Console::open(network.command(&["console", "node-2"]));
    network.run_ok(&["stop", "node-2"]);
    let mut child = console.child;
    let status = support::wait_for("the console ends with its node", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert_eq!(script(&network, "node-2", "/peers\n").0, Some(1));
    network.down();
}
