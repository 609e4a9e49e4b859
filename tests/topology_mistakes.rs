//! What is wrong in a topology file is found all at once, at its place, with a hint.

use std::path::Path;

use hippius::topology::{self, Look, Mistakes};
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    (name == "HOST").then(|| "127.0.0.1".to_owned())
}

fn mistakes(text: &str) -> Mistakes {
    topology::parse("x.toml", text, &env).expect_err("a mistake")
}

/// Asserts that `text` has one mistake, at `place` (line, column), under which stands `underlined`.
#[track_caller]
fn one(text: &str, place: (usize, usize), underlined: &str, message: &str, hint: &str) {
    let mistakes = mistakes(text);
    assert_eq!(mistakes.len(), 1, "{mistakes}");
    let mistake = mistakes.iter().next().expect("one");
    let position = mistake.position().expect("a place");
    assert_eq!((position.line, position.column), place, "{mistakes}");
    let (span, label) = mistake.labels().next().expect("a label");
    assert_eq!(&text[span], underlined, "{mistakes}");
    assert!(!label.is_empty());
    assert!(mistake.message().contains(message), "{mistakes}");
    assert!(mistake.hint().is_some_and(|help| help.contains(hint)), "{mistakes}");
    let drawn = mistakes.render(Look::Ascii);
    assert!(drawn.contains(&format!("[x.toml:{}:{}]", place.0, place.1)), "{drawn}");
    assert!(drawn.ends_with("1 mistake in x.toml"), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "{drawn}");
}

#[test]
fn unknown_key() {
    one("bnid = \"::1\"\n[web]\n", (1, 1), "bnid", "unknown key `bnid`", "did you mean `bind`?");
    one("[[nodes]]\nnmae = \"a\"\n", (2, 1), "nmae", "unknown key `nmae`", "did you mean `name`?");
    one("[web]\n[restart]\nxyz = 1\n", (3, 1), "xyz", "unknown key", "`policy`, `backoff`, `max_backoff`");
    one("[[nodes]]\nrestart = { polciy = 1 }\n", (2, 13), "polciy", "unknown key", "`policy`");
    one("[web]\n[webs.a]\nb = 1\n", (2, 2), "webs", "unknown key `webs`", "did you mean `web`?");
}

#[test]
fn wrong_type() {
    one(
        "[[nodes]]\ncount = \"3\"\n",
        (2, 9),
        "\"3\"",
        "`nodes.count` must be an integer",
        "without quotes: 3",
    );
    one("[[nodes]]\ncount = 1.5\n", (2, 9), "1.5", "not a float", "whole number");
    one("name = 5\n[web]\n", (1, 8), "5", "`name` must be a string, not an integer", "quotes");
    one("ports = 3000\n[web]\n", (1, 9), "3000", "`ports` must be a table", "[ports]");
    one("[nodes]\nname = \"a\"\n[web]", (1, 1), "[nodes]", "`nodes` must be a list", "[[nodes]]");
    one("[[ports]]\nweb = 1\n[web]\n", (1, 1), "[[ports]]", "`ports` must be a table", "single brackets");
    one("[[nodes]]\ntopics = \"lobby\"\n", (2, 10), "\"lobby\"", "must be a list", "square brackets");
    one("[[nodes]]\ntopics = [\"a\", 2]\n", (2, 16), "2", "must be a string", "quotes");
    one("[[nodes]]\nmdns = \"no\"\n", (2, 8), "\"no\"", "a boolean", "true or false");
    one("web = [1]\n", (1, 8), "1", "`web` must be a table", "{ … }");
    one("[web]\n[logs]\nmax_size = true", (3, 12), "true", "a size", "10 MiB");
}

#[test]
fn bad_topics() {
    let node = |topics: &str| format!("[[nodes]]\ntopics = [{topics}]\n");
    for name in ["", "a b", "/lobby", "a\\n", &"x".repeat(65)] {
        let quoted = format!("\"{name}\"");
        one(&node(&quoted), (2, 11), &quoted, "is no good name of a topic", "a topic");
    }
    let names = |count: usize| (0..count).map(|n| format!("\"topic-{n}\"")).collect::<Vec<_>>().join(", ");
    let too_many = mistakes(&node(&names(65))).to_string();
    assert!(
        too_many.contains("x.toml:2:10: `nodes.topics` has 65 entries, must have from 0 to 64"),
        "{too_many}"
    );
    let longest = format!("\"{}\"", "x".repeat(64));
    for topics in [&names(64), &longest, "\"räume/küche-2\""] {
        assert!(topology::parse("x.toml", &node(topics), &env).is_ok(), "{topics}");
    }
}

#[test]
fn bad_duration() {
    one("[web]\n[restart]\nbackoff = \"5 bananas\"", (3, 11), "\"5 bananas\"", "no duration", "100ms");
    one("[web]\n[restart]\nbackoff = 5", (3, 11), "5", "`restart.backoff` must be a string", "\"5s\"");
    one("[web]\n[restart]\nwithin = \"100\"", (3, 10), "\"100\"", "no duration", "unit");
    one("[web]\n[timing]\nwatchdog = \"1ms\"", (3, 12), "\"1ms\"", "0s, or from 100ms", "100ms");
    let text = "[web]\n[restart]\nbackoff = \"1m\"\nmax_backoff = \"1s\"\n";
    one(text, (3, 11), "\"1m\"", "`backoff` is 1m, more than `max_backoff`", "at least");
    one(
        "[web.restart]\nbackoff = \"1m\"",
        (2, 11),
        "\"1m\"",
        "more than `max_backoff`, which is 30s",
        "default",
    );
}

#[test]
fn bad_multiaddr() {
    let listen = |address: &str| format!("[[nodes]]\nlisten = [\"{address}\"]\n");
    for (address, message) in [
        ("127.0.0.1:4002", "is no multiaddr"),
        ("/ip4/127.0.0.1/tcp/99999", "is no multiaddr"),
        ("/ip4/127.0.0.300/tcp/1", "is no multiaddr"),
        ("/ip4/127.0.0.1", "is of no transport"),
        ("/tcp/1", "does not begin with an IP address"),
        ("/ip4/127.0.0.1/tcp/1/tcp/2", "is of no transport"),
        ("/ip4/127.0.0.1/tcp/1/ws/ws", "goes on after its end"),
        ("/ip4/127.0.0.1/udp/1", "is of no transport"),
        ("/ip4/127.0.0.1/tcp/1/p2p-circuit", "does not end in /p2p/PEER_ID"),
        ("/dns4/example.org/tcp/1", "does not begin with an IP address"),
    ] {
        one(&listen(address), (2, 11), &format!("\"{address}\""), message, "/ip4/ADDRESS");
    }
    one(
        &listen("/ip4/127.0.0.1/tcp/4003/tls/ws"),
        (2, 11),
        "\"/ip4/127.0.0.1/tcp/4003/tls/ws\"",
        "needs a certificate",
        "tls = { certificate",
    );
    one(
        "[[nodes]]\ntls = { key = \"a\" }",
        (2, 7),
        "{ key = \"a\" }",
        "`tls` lacks `certificate`",
        "it takes both",
    );
    let certificate = "{ certificate = \"a\", key = \"b\" }";
    one(
        &format!("[signaling]\n[web]\ntls = {certificate}"),
        (3, 7),
        certificate,
        "pages of https cannot reach `signaling`, which has no `tls`",
        "give `signaling` a certificate, too",
    );
    one(
        "[web]\ntls = { key = \"a\" }",
        (2, 7),
        "{ key = \"a\" }",
        "`tls` lacks `certificate`",
        "it takes both",
    );
    one("[[nodes]]\nlisten = []", (2, 10), "[]", "has 0 entries", "at least one");
    let external = |address: &str| format!("[[nodes]]\nexternal = [\"{address}\"]\n");
    for (address, message) in [
        ("example.org:4002", "is no multiaddr"),
        ("/ip4/1.2.3.4", "is of no transport"),
        ("/ip4/1.2.3.4/tcp/0", "port 0"),
        (
            "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
            "has a peer id, which does not belong there",
        ),
    ] {
        one(&external(address), (2, 13), &format!("\"{address}\""), message, "how others dial it");
    }
    one(
        "[[nodes]]\ncount = 2\nexternal = [\"/ip4/1.2.3.4/tcp/1\"]\n",
        (3, 12),
        "[\"/ip4/1.2.3.4/tcp/1\"]",
        "2 processes cannot all be reached at one address",
        "a table of its own",
    );
    let bootnode = |address: &str| format!("[[nodes]]\nbootnodes = [\"{address}\"]\n");
    for (address, message) in [
        ("/ip4/1.2.3.4/tcp/1", "does not end in /p2p/PEER_ID"),
        ("/ip4/1.2.3.4/tcp/0/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", "port 0"),
        ("/ip4/1.2.3.4/tcp/1/p2p/nobody", "is no multiaddr"),
        ("Who?", "neither a name nor a multiaddr"),
        ("node-x!", "neither a name nor a multiaddr"),
    ] {
        one(&bootnode(address), (2, 14), &format!("\"{address}\""), message, "p2p/PEER_ID");
    }
}

#[test]
fn bad_port_and_address() {
    one("[web]\n[ports]\nweb = 65536", (3, 7), "65536", "must be from 0 to 65535", "whole number");
    one("[web]\nport = -1", (2, 8), "-1", "must be from 0 to 65535", "whole number");
    one("[web]\nport = 99999999999999999999", (2, 8), "99999999999999999999", "65535", "whole number");
    one("bind = \"127.0.0.1:80\"\n[web]", (1, 8), "\"127.0.0.1:80\"", "no IP address", "without a port");
    one("bind = \"example.org\"\n[web]", (1, 8), "\"example.org\"", "no IP address", "localhost");
}

#[test]
fn bad_and_duplicate_names() {
    for name in ["", "Node", "-a", "a_b", "a b", "é", "../x"] {
        let text = format!("[[nodes]]\nname = \"{name}\"");
        one(&text, (2, 8), &format!("\"{name}\""), "no good name", "lower-case");
    }
    one("[[nodes]]\nname = \"logs\"", (2, 8), "\"logs\"", "reserved", "`supervisor`");
    let text = "[[nodes]]\nname = \"a\"\n[[bootnodes]]\nname = \"a\"\n";
    one(text, (2, 8), "\"a\"", "the name `a` is used twice", "another `name`");
    one("[[nodes]]\n[[nodes]]\n", (2, 1), "[[nodes]]", "`node` is used twice", "another `name`");
    let text = "[[nodes]]\nname = \"n\"\ncount = 2\n[[nodes]]\nname = \"n-1\"\n";
    one(text, (5, 8), "\"n-1\"", "`n-1` is used twice", "another `name`");
    let both = mistakes(text);
    let labels: Vec<_> =
        both.iter().flat_map(|mistake| mistake.labels()).map(|(span, _)| &text[span]).collect();
    assert_eq!(labels, ["\"n-1\"", "\"n\""]);
}

#[test]
fn unknown_bootnode_and_signaling_server() {
    let text = "[[bootnodes]]\nname = \"alpha\"\n[[nodes]]\nbootnodes = [\"alhpa\"]\n";
    one(text, (4, 14), "\"alhpa\"", "unknown bootnode `alhpa`", "did you mean `alpha`?");
    one("[[nodes]]\nbootnodes = [\"b\"]", (2, 14), "\"b\"", "unknown bootnode", "no bootnodes");
    let text = "[[nodes]]\nname = \"a\"\n[[nodes]]\nname = \"b\"\nbootnodes = [\"a\"]\n";
    one(text, (5, 14), "\"a\"", "`a` is no bootnode", "[[bootnodes]]");
    let text = "[[bootnodes]]\ncount = 2\n[[nodes]]\nbootnodes = [\"bootnode-2\"]\n";
    one(text, (4, 14), "\"bootnode-2\"", "unknown bootnode `bootnode-2`", "`bootnode`");
    one("[web]\nsignaling = \"s\"", (2, 13), "\"s\"", "unknown signaling server `s`", "add [signaling]");
    let text = "[signaling]\n[web]\nsignaling = \"signalling\"\n";
    one(text, (3, 13), "\"signalling\"", "unknown signaling server", "did you mean `signaling`?");
}

#[test]
fn bootnodes_in_a_circle() {
    let text = "[[bootnodes]]\nname = \"a\"\nbootnodes = [\"b\"]\n[[bootnodes]]\nname = \"b\"\nbootnodes = [\"a\"]\n";
    one(text, (6, 14), "\"a\"", "a → b → a", "remove one");
    one(
        "[[bootnodes]]\nbootnodes = [\"bootnode\"]",
        (2, 14),
        "\"bootnode\"",
        "bootnode → bootnode",
        "remove",
    );
    let text = "[[bootnodes]]\nname = \"a\"\ncount = 2\nbootnodes = [\"a-0\"]";
    one(text, (4, 14), "\"a-0\"", "a → a", "remove");
}

#[test]
fn two_entries_on_one_port() {
    let text = "[ports]\nweb = 3000\nsignaling = 3000\n[web]\n[signaling]\n";
    one(text, (2, 7), "3000", "claimed twice: by `signaling` and by `web`", "another port, or 0");
    let both = mistakes(text);
    let labels: Vec<_> =
        both.iter().flat_map(|mistake| mistake.labels()).map(|(_, label)| label.to_owned()).collect();
    assert_eq!(labels, ["`web` on 127.0.0.1:3000", "`signaling` on 127.0.0.1:3000"]);
    let text = "[[bootnodes]]\nlisten = [\"/ip4/0.0.0.0/tcp/9091\"]";
    one(text, (2, 11), "\"/ip4/0.0.0.0/tcp/9091\"", "by metrics (its default)", "another port");
    one("[[signaling]]\n[[signaling]]\nname = \"b\"", (2, 1), "[[signaling]]", "port 8001", "another port");
    let text = "[[nodes]]\nlisten = [\"/ip4/127.0.0.1/tcp/7\", \"/ip4/127.0.0.1/tcp/7\"]";
    one(text, (2, 35), "\"/ip4/127.0.0.1/tcp/7\"", "claimed twice by `node`", "another port");
    let text = "[[nodes]]\ncount = 2\nlisten = [\"/ip4/127.0.0.1/tcp/7\"]";
    one(text, (3, 11), "\"/ip4/127.0.0.1/tcp/7\"", "2 processes cannot all", "\"/ip4/127.0.0.1/tcp/0\"");
    // A port that nothing listens on is nobody's.
    topology::parse("x", "[ports]\nweb = 9091\n[signaling]", &env).expect("a topology");
}

#[test]
fn counts_out_of_bounds() {
    one("[[nodes]]\ncount = 0", (2, 9), "0", "`nodes.count` is 0", "from 1 to 1000");
    one("[[nodes]]\ncount = 100000", (2, 9), "100000", "`nodes.count` is 100000", "from 1 to 1000");
    let text = "[[nodes]]\ncount = 1000\n[[nodes]]\nname = \"b\"\ncount = 1000\n[[nodes]]\nname = \"c\"\ncount = 5\n";
    one(text, (8, 9), "5", "2005 processes are too many", "smaller");
    one("[web]\n[restart]\nlimit = 0", (3, 9), "0", "from 1 to 1000000", "whole number");
    one("[web]\n[logs]\nmax_size = 5", (3, 12), "5", "must be from 1024", "10 MiB");
    one("[web]\n[logs]\nmax_size = \"ten\"", (3, 12), "\"ten\"", "no size", "10 MiB");
    let text = "[[nodes]]\nconnections = { low = 9, high = 8 }";
    one(text, (2, 23), "9", "`low` is 9, more than `high`, which is 8", "at most");
    one("[[bootnodes]]\ncount = 101\n[[nodes]]", (3, 1), "[[nodes]]", "101 bootnodes", "name some");
}

#[test]
fn unset_variable() {
    let text = "[[nodes]]\nlisten = [\"/ip4/${HOST}/tcp/${PORT}\"]";
    one(text, (2, 29), "${PORT}", "`PORT` is not set", "${PORT:-value}");
    one("name = \"${A\"\n[web]", (1, 9), "${A", "without its closing", "${NAME}");
    one("name = \"${1}\"\n[web]", (1, 9), "${1}", "no name of a variable", "${NAME}");
    // Written with an escape, the place inside the string is not known: the whole of it is underlined.
    one("name = \"\\u0061${X}\"\n[web]", (1, 8), "\"\\u0061${X}\"", "`X` is not set", "${X:-value}");
}

#[test]
fn not_in_this_version() {
    one(
        "[web]\n[restart]\npolicy = \"sometimes\"",
        (3, 10),
        "\"sometimes\"",
        "unknown restart policy",
        "`always`",
    );
}

#[test]
fn turn_servers() {
    one(
        "[turn]\nengine = \"coturns\"",
        (2, 10),
        "\"coturns\"",
        "unknown engine \"coturns\"",
        "did you mean `coturn`?",
    );
    for (bad, what) in [
        ("10.0.0.0/33", "no network"),
        ("ten", "no network"),
        ("10.1.2.3/8", "no network"),
        ("/8", "no network"),
    ] {
        let text = format!("[turn]\nallow = [\"{bad}\"]");
        one(&text, (2, 10), &format!("\"{bad}\""), what, "10.0.0.0/8");
    }
    one("[turn]\nexternal_address = \"a.example\"", (2, 20), "\"a.example\"", "no IP address", "203.0.113.7");
    one("[turn]\nrealm = \"a b\"", (2, 9), "\"a b\"", "no realm", "127 characters");
    one("[turn]\nhost = \"turn:a.example\"", (2, 8), "\"turn:a.example\"", "no host name", "without scheme");
    one("[turn]\nsecret_file = \"\"", (2, 15), "\"\"", "no path of a file", "write it");
    one("[turn]\nsecret = \"north\"", (2, 1), "secret", "unknown key `secret`", "`secret_file`");
    one("[turn]\nrelay_ports = { min = 80 }", (2, 23), "80", "must be from 1024 to 65535", "whole number");
}

#[test]
fn what_an_engine_does_not_know() {
    one(
        "[turn]\nengine = \"external\"\nport = 3478",
        (3, 8),
        "3478",
        "`port` does not belong to engine = \"external\"",
        "config/turn_config.json",
    );
    one(
        "[turn]\nengine = \"coturn\"\nmax_per_address = 5",
        (3, 19),
        "5",
        "`max_per_address` does not belong to engine = \"coturn\"",
        "embedded",
    );
    one("[turn]\ntls_port = 5349", (2, 12), "5349", "`tls_port` without a certificate", "tls = {");
    one("[turn]\ntls = { key = \"k\" }", (2, 7), "{ key = \"k\" }", "`tls` lacks `certificate`", "both");
    let ranges = "[turn]\nrelay_ports = { min = 60000, max = 50000 }";
    one(ranges, (2, 15), "{ min = 60000, max = 50000 }", "`min` is 60000, more than `max`", "at most");
}

#[test]
fn ports_of_turn_servers_over_tcp_and_udp() {
    one(
        "[turn]\n[signaling]\nport = 3478",
        (3, 8),
        "3478",
        "port 3478 is claimed twice: by `turn` and by `signaling`",
        "0",
    );
    let quic = "[turn]\n[[nodes]]\nlisten = [\"/ip4/127.0.0.1/udp/3478/quic-v1\"]";
    one(quic, (3, 11), "\"/ip4/127.0.0.1/udp/3478/quic-v1\"", "claimed twice: by `turn` and by `node`", "0");
    // The port of TLS is one of TCP alone.
    let text = "[turn]\ntls = { certificate = \"c\", key = \"k\" }\n[[nodes]]\nlisten = [\"/ip4/127.0.0.1/udp/5349/quic-v1\"]";
    topology::parse("x.toml", text, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let said = mistakes("[[turn]]\n[[turn]]\nname = \"b\"");
    assert_eq!(said.len(), 2, "one over TCP, one over UDP: {said}");
    // Servers elsewhere take no port.
    topology::parse("x.toml", "[[turn]]\n[[turn]]\nname = \"b\"\nengine = \"external\"", &env).expect("good");
}

#[test]
fn broken_toml() {
    one("name = \"a\"\nweb = = 3\n[web]", (2, 7), "=", "broken TOML", "written as");
    one("[web]\n[ports]\nweb = 1\nweb = 2\n", (4, 1), "web", "`web` is given twice", "keep one");
    one("name = \"a\n[web]", (1, 10), "", "broken TOML: invalid basic string", "written as");
    let several = mistakes("[a\nb = = 3\n");
    assert_eq!(several.len(), 2, "one for each line: {several}");
    // A key given twice breaks nothing else, so the rest is told too.
    let more = mistakes("[web]\nport = 1\nport = 2\nprot = 3\n");
    assert_eq!(more.len(), 2, "{more}");
}

#[test]
fn nothing_to_start() {
    for text in ["", "name = \"a\"\n", "nodes = []\n"] {
        let mistakes = mistakes(text);
        assert_eq!(mistakes.to_string().lines().count(), 2, "{mistakes}");
        assert!(mistakes.to_string().contains("nothing to start"), "{mistakes}");
        assert!(mistakes.render(Look::Ascii).ends_with("1 mistake in x.toml"));
    }
}

#[test]
fn every_mistake_at_once_in_the_order_of_the_file() {
    let text = "bnid = 1\n[ports]\nweb = 70000\n[[nodes]]\ncount = 0\nbootnodes = [\"x\", \"/y\"]\n[[nodes]]\nname = 5\n";
    let mistakes = mistakes(text);
    let places: Vec<_> =
        mistakes.iter().filter_map(|mistake| mistake.position()).map(|at| (at.line, at.column)).collect();
    assert_eq!(places, [(1, 1), (3, 7), (5, 9), (6, 14), (6, 19), (8, 8)], "{mistakes}");
    assert_eq!(mistakes.count(), "6 mistakes in x.toml");
    assert!(mistakes.render(Look::Color).contains('\u{1b}'));
    assert!(mistakes.render(Look::Plain).ends_with("6 mistakes in x.toml"));
}

#[test]
fn one_mistake_does_not_bring_others_along() {
    // The bootnode's name is bad: that nodes name it is no second mistake; nor is its default name taken.
    one("[[bootnodes]]\nname = \"A\"\n[[nodes]]\nbootnodes = [\"a\"]", (2, 8), "\"A\"", "no good name", "");
    one("[[nodes]]\nname = \"A\"\n[[nodes]]\n", (2, 8), "\"A\"", "no good name", "");
    one("[[bootnodes]]\ncount = 0\n[[nodes]]\nbootnodes = [\"bootnode-0\"]", (2, 9), "0", "count", "");
    one("[ports]\nmetrics = -1\n[web]\nport = 9091", (2, 11), "-1", "ports.metrics", "");
    one("[web]\nsignaling = \"s\"\n[signaling]\nname = \"S\"", (4, 8), "\"S\"", "no good name", "");
}

#[test]
fn columns_count_characters() {
    one("\u{feff}bnid = 1\n[web]", (1, 1), "bnid", "unknown key", "`bind`");
    one("[web]\r\nprot = 1\r\n", (2, 1), "prot", "unknown key", "`port`");
    one("[[nodes]]\ntopics = [\"größe\", 5]", (2, 20), "5", "must be a string", "quotes");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let load = |path: &Path| topology::load(path, &env).expect_err("a mistake").to_string();

    let missing = dir.path().join("missing.toml");
    let said = load(&missing);
    assert!(said.contains("there is no file") && said.contains("hippius init"), "{said}");
    let said = load(dir.path());
    assert!(said.contains("is a directory"), "{said}");
    let file = dir.path().join("a.toml");
    std::fs::write(&file, b"name = \"a\"\nbind = \"\xff\"\n").expect("written");
    let said = load(&file);
    assert!(said.contains("a.toml:2:9: the file is not UTF-8"), "{said}");
    let said = load(&file.join("b.toml"));
    assert!(said.contains("there is no file"), "{said}");
    std::fs::write(&file, vec![b'#'; 5 * 1024 * 1024]).expect("written");
    let said = load(&file);
    assert!(said.contains("is larger than"), "{said}");
    for said in [said, load(&missing)] {
        assert!(said.ends_with(&"1 mistake in ".to_owned()) || said.contains("1 mistake in "), "{said}");
    }
}

#[test]
fn huge_nonsense_is_answered_soon_and_shortly() {
    let many = format!("nodes = [{}]\n", "1,".repeat(400_000));
    let long = format!("{} = 1\n[web]\n", "k".repeat(900_000));
    let chain: String = (0..2_000)
        .map(|number| format!("[[bootnodes]]\nname = \"b{number}\"\nbootnodes = [\"b{}\"]\n", number + 1))
        .collect();
    for (text, count) in [(many, 400_000), (long, 1), (chain, 1)] {
        let mistakes = mistakes(&text);
        assert_eq!(mistakes.len(), count);
        for report in [mistakes.render(Look::Plain), mistakes.to_string()] {
            assert!(report.len() < 100_000, "{} bytes", report.len());
            assert!(report.ends_with(&mistakes.count()));
        }
    }
}

#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret.toml");
    std::fs::write(&file, "[web]").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).expect("changed");
    match topology::load(&file, &env) {
        Err(mistakes) => assert!(mistakes.to_string().contains("may not be read"), "{mistakes}"),
        // The superuser reads everything.
        Ok(_) => assert!(std::fs::read(&file).is_ok()),
    }
}

/// Pieces that topologies are made of, so that random text gets past the parser often.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "[[nodes]]\n",
        "[[bootnodes]]\n",
        "[web]\n",
        "[[web]]\n",
        "[signaling]\n",
        "[restart]\n",
        "[ports]\n",
        "name = \"a\"\n",
        "name = \"b\"\n",
        "count = 3\n",
        "count = 0\n",
        "bootnodes = [\"a\", \"b-1\"]\n",
        "listen = [\"/ip4/127.0.0.1/tcp/1\"]\n",
        "listen = [\"/ip4/${HOST}/tcp/0\"]\n",
        "topics = [\"ü\", \"${X}\"]\n",
        "web = 1\n",
        "port = 1\n",
        "restart = { backoff = \"1h\" }\n",
        "connections = { low = 99 }\n",
        "signaling = \"a\"\n",
        "turn = 1\n",
        "x",
        "é",
        "\"",
        "[",
        "]",
        "=",
        "\n",
        "${",
        "\r\n",
        "\u{feff}",
        "\t",
    ];
    prop_oneof![3 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any text gives a topology or mistakes, each inside the text, and both can be shown.
    #[test]
    fn any_text_is_read_or_complained_about(text in prop::collection::vec(fragment(), 0..24)) {
        let text = text.concat();
        match topology::parse("x.toml", &text, &env) {
            Ok(topology) => prop_assert!(!topology.plan().processes.is_empty()),
            Err(mistakes) => {
                prop_assert!(mistakes.len() > 0);
                for mistake in mistakes.iter() {
                    for (span, _) in mistake.labels() {
                        prop_assert!(text.get(span).is_some());
                    }
                }
                for look in [Look::Color, Look::Plain, Look::Ascii] {
                    prop_assert!(mistakes.render(look).ends_with(&mistakes.count()));
                }
            }
        }
    }

    /// Whatever the environment holds becomes one name or one mistake, never another key.
    #[test]
    fn a_variable_is_only_ever_a_value(value in ".*") {
        let lookup = |name: &str| (name == "X").then(|| value.clone());
        let text = "[[nodes]]\nname = \"${X}\"\n";
        match topology::parse("x.toml", text, &lookup) {
            Ok(topology) => {
                let plan = topology.plan();
                prop_assert_eq!(plan.processes.len(), 1);
                prop_assert_eq!(&plan.processes[0].name, &value);
            }
            Err(mistakes) => {
                prop_assert_eq!(mistakes.len(), 1);
                prop_assert_eq!(mistakes.iter().next().and_then(|mistake| mistake.position()).map(|at| at.line), Some(2));
            }
        }
    }
}
