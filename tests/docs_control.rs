//! Every example of `docs/control.md` works as it stands there, and every path and error of the program is in it.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::iter::Peekable;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::str::Lines;

use serde_json::Value;
use support::{Network, wait_for};

const PAGE: &str = include_str!("../docs/control.md");

/// The files that answer requests.
const SOURCES: [(&str, &str); 7] = [
    ("supervisor/api.rs", include_str!("../src/supervisor/api.rs")),
    ("roles/admin.rs", include_str!("../src/roles/admin.rs")),
    ("control/http.rs", include_str!("../src/control/http.rs")),
    ("roles/node_admin.rs", include_str!("../src/roles/node_admin.rs")),
    ("roles/node_admin/direct.rs", include_str!("../src/roles/node_admin/direct.rs")),
    ("roles/node_admin/query.rs", include_str!("../src/roles/node_admin/query.rs")),
    ("roles/node_admin/steering.rs", include_str!("../src/roles/node_admin/steering.rs")),
];

/// Members of a file's transfer that it has at some times only.
const OF_SOME_TRANSFERS: [&str; 2] = ["reason", "saved_as"];

/// What a source has before its own tests.
fn program(source: &str) -> &str {
    source.split("#[cfg(test)]").next().unwrap_or_default()
}

/// `topology/local.toml` with any free ports.
const TOPOLOGY: &str = r#"
name = "local"
[ports]
web = 0
signaling = 0
metrics = 0
[[bootnodes]]
name = "bootnode"
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
name = "node"
count = 3
topics = ["lobby"]
[signaling]
[web]
"#;

/// One `curl` line and what it is said to print.
#[derive(Debug, Default)]
struct Example {
    socket: String,
    method: String,
    target: String,
    body: String,
    reply: String,
}

impl Example {
    fn parse(command: &str, reply: String) -> Self {
        let mut example = Self { method: "GET".to_owned(), reply, ..Self::default() };
        let mut words = words(command).into_iter().skip(1);
        let mut next = || words.next();
        while let Some(word) = next() {
            let mut value = || next().unwrap_or_else(|| panic!("{word} lacks its value: {command}"));
            match word.as_str() {
                "--unix-socket" => example.socket = value(),
                "-X" => example.method = value(),
                "-d" => example.body = value(),
                "-N" => {}
                url => {
                    let path = url.strip_prefix("http://localhost");
                    path.unwrap_or_else(|| panic!("not known to this test: {url}"))
                        .clone_into(&mut example.target);
                }
            }
        }
        example
    }

    /// Sends the request in `folder`; gives the status and as many lines of the reply as the page shows, or all if it has
    /// an end before.
    fn run(&self, folder: &Path) -> (u16, String) {
        let mut stream = UnixStream::connect(folder.join(&self.socket)).expect("it listens");
        stream.set_read_timeout(Some(support::DEADLINE)).expect("a timeout");
        // HTTP/1.0: a reply without an announced end comes as it is, not in chunks.
        let Self { method, target, body, .. } = self;
        write!(stream, "{method} {target} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .expect("writable");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut length = None;
        loop {
            line.clear();
            reader.read_line(&mut line).expect("a head");
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse::<u64>().ok(),
                Some(_) => {}
                None => break,
            }
        }
        let mut reply = String::new();
        match length {
            Some(length) => reader.take(length).read_to_string(&mut reply).map(drop).expect("a reply"),
            None => reader.read_line(&mut reply).map(drop).expect("a line"),
        }
        (status, reply)
    }
}

/// A command's words; single quotes keep one together.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (place, part) in command.split('\'').enumerate() {
        if place % 2 == 1 {
            words.last_mut().expect("one").push_str(part);
            continue;
        }
        for (gap, word) in part.split(' ').enumerate() {
            if gap > 0 {
                words.push(String::new());
            }
            words.last_mut().expect("one").push_str(word);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The lines up to the end of a code block.
fn block(lines: &mut Peekable<Lines<'_>>) -> String {
    lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n")
}

/// All examples of the page, in order.
fn examples() -> Vec<Example> {
    let mut lines = PAGE.lines().peekable();
    let mut examples = Vec::new();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let command = block(&mut lines);
            let opening = lines.next().expect("a reply follows");
            assert!(matches!(opening, "```json" | "```text"), "a reply must follow: {command}");
            examples.push(Example::parse(&command, block(&mut lines)));
        }
    }
    examples
}

/// A reply as JSON; of several lines, the first.
fn json(text: &str) -> Value {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(text.lines().next().unwrap_or_default()))
        .unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

/// Objects must have the same keys on every level; of lists, the first elements are compared.
fn assert_same_shape(shown: &Value, real: &Value, place: &str) {
    match (shown, real) {
        // Counters by kind: which there are is not the same in every run.
        (Value::Object(shown), Value::Object(_)) if shown.is_empty() => {}
        (Value::Object(shown), Value::Object(real)) => {
            let transfer = shown.contains_key("direction") && shown.contains_key("done");
            let always = |key: &&String| !(transfer && OF_SOME_TRANSFERS.contains(&key.as_str()));
            let keys = |object: &serde_json::Map<String, Value>| {
                object.keys().filter(always).cloned().collect::<BTreeSet<_>>()
            };
            assert_eq!(keys(shown), keys(real), "keys of {place}");
            for (key, shown) in shown.iter().filter(|(key, _)| always(key)) {
                assert_same_shape(shown, &real[key], &format!("{place}.{key}"));
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            // A list of plain values, such as topics, may be empty.
            if let Some(shown) = shown.first().filter(|first| first.is_object()) {
                let real = real.first().unwrap_or_else(|| panic!("{place} is empty"));
                assert_same_shape(shown, real, &format!("{place}[0]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(
            std::mem::discriminant(shown),
            std::mem::discriminant(real),
            "{place}: {shown} is shown, {real} came"
        ),
    }
}

/// Whether `node-1` has been offered so many files, and is being asked about the last.
fn offered(network: &Network, count: usize) -> Option<()> {
    let list =
        Example::parse("curl --unix-socket data/node-1/admin.sock http://localhost/v1/files", String::new());
    let reply = json(&list.run(network.dir()).1);
    let files = reply["files"].as_array().expect("a list");
    (files.len() == count && files[count - 1]["state"] == "offered").then_some(())
}

#[test]
fn every_example_works() {
    let mut network = Network::up(TOPOLOGY);
    let address = network.process("node-1").addresses[0].clone();
    let peer = address.rsplit('/').next().expect("a peer id").to_owned();
    // The nodes know each other from here on.
    wait_for("the nodes are connected", || {
        let status = Example::parse(
            "curl --unix-socket data/node-0/admin.sock http://localhost/v1/status",
            String::new(),
        );
        (json(&status.run(network.dir()).1)["connected_peers"] == 3).then_some(())
    });

    let (last, others): (Vec<_>, Vec<_>) =
        examples().into_iter().partition(|example| example.target == "/v1/down");
    assert_eq!((last.len(), others.len() > 15), (1, true), "the page was not understood");
    let mut offers = 0;
    for mut example in others.into_iter().chain(last) {
        if example.body.contains("12D3Koo") {
            let mut body = json(&example.body);
            if body["address"].is_string() {
                body["address"] = address.clone().into();
            }
            if body["peer_id"].is_string() {
                body["peer_id"] = peer.clone().into();
            }
            if let Some(path) = body["path"].as_str() {
                let path = network.dir().join(Path::new(path).file_name().expect("a file's name"));
                std::fs::write(&path, "content").expect("writable");
                body["path"] = path.to_str().expect("a path in UTF-8").into();
            }
            example.body = body.to_string();
        }
        let (status, reply) = example.run(network.dir());
        let what = format!("{} {} on {}", example.method, example.target, example.socket);
        if example.reply.starts_with('{') {
            let (shown, real) = (json(&example.reply), json(&reply));
            let good = shown.get("error").is_none();
            assert_eq!(status == 200, good, "{what}: {status} {reply}");
            assert_eq!(shown["error"]["code"], real["error"]["code"], "{what}");
            assert_same_shape(&shown, &real, &what);
            if (example.method.as_str(), example.target.as_str()) == ("POST", "/v1/files") {
                offers += 1;
                wait_for("the file is offered", || offered(&network, offers));
            }
        } else {
            assert_eq!((status, reply.trim_end()), (200, example.reply.as_str()), "{what}");
        }
    }
    assert_eq!(network.wait_exit().code(), Some(0), "the last example stops everything");
}

#[test]
fn every_heading_has_an_example() {
    for section in PAGE.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().expect("a text");
        let (method, path) = section.trim_start_matches('`').split_once(' ').expect("METHOD PATH");
        let path = path.split('`').next().expect("a closing tick");
        let fixed = path.split('{').next().expect("a beginning");
        let ending = path.rsplit('}').next().expect("an end");
        let url = format!("http://localhost{fixed}");
        let post = section.contains("-X POST");
        let shows = |line: &str| line.starts_with("curl ") && line.contains(&url) && line.contains(ending);
        assert!(section.lines().any(shows), "{method} {path} has no example");
        assert_eq!(post, method == "POST", "{method} {path} has an example of another method");
    }
}

/// The requests that a node's sources take, as `METHOD PATH`; a variable part of a path is `{}`.
fn requests_of_a_node() -> BTreeSet<String> {
    let sources = SOURCES.iter().filter(|(name, _)| name.starts_with("roles/node_admin"));
    let mut requests = BTreeSet::new();
    for (_, source) in sources {
        let pieces: Vec<&str> = program(source).split('"').collect();
        let verbs = pieces.windows(2).filter(|pair| pair[1].starts_with(" => Verb::")).map(|pair| pair[0]);
        for (place, path) in pieces.iter().enumerate().filter(|(_, piece)| piece.starts_with("/v1/")) {
            let after = pieces[place + 1];
            if after.starts_with(" if get ") {
                requests.insert(format!("GET {path}"));
            } else if after.starts_with(" if post ") {
                requests.insert(format!("POST {path}"));
            } else if after.starts_with(")?.strip_suffix(") {
                requests.insert(format!("GET {path}{{}}{}", pieces[place + 2]));
            } else if path.ends_with('/') {
                let before = requests.len();
                requests.extend(verbs.clone().map(|verb| format!("POST {path}{{}}/{verb}")));
                assert!(requests.len() > before, "what follows {path} was not understood");
            } else {
                // Among those that are told of the right method: one that is taken with it.
                let taken = ["GET", "POST"].map(|method| requests.contains(&format!("{method} {path}")));
                assert_ne!(taken, [false, false], "{path} was not understood");
            }
        }
    }
    requests
}

#[test]
fn every_path_of_a_node_is_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/roles/node_admin");
    for file in folder.read_dir().expect("a folder") {
        let name = file.expect("an entry").file_name();
        let known = |(source, _): &(&str, &str)| Path::new(source).file_name() == Some(&name);
        assert!(SOURCES.iter().any(known), "SOURCES lacks {name:?}");
    }
    let requests = requests_of_a_node();
    assert!(requests.len() > 18, "the source was not understood: {requests:?}");
    let documented: BTreeSet<String> = PAGE
        .split("\n## ")
        .filter(|part| part.starts_with("Every process") || part.starts_with("Nodes and bootnodes"))
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("### `")?.split('`').next())
        .filter(|request| request.contains(" /v1/"))
        .map(|request| match (request.split_once('{'), request.split_once('}')) {
            (Some((before, _)), Some((_, after))) => format!("{before}{{}}{after}"),
            _ => request.to_owned(),
        })
        .collect();
    assert_eq!(documented, requests);
}

#[test]
fn every_error_is_documented() {
    let mut codes = BTreeSet::new();
    for (name, source) in SOURCES {
        let (source, mut found) = (program(source), BTreeSet::new());
        // A parameter's error has its code without a status.
        let arms = source.split("=> \"").skip(1).filter(|_| name.ends_with("/query.rs"));
        found.extend(arms.filter_map(|arm| arm.split('"').next().map(str::to_owned)));
        for use_of_status in source.split("StatusCode::").skip(1) {
            let rest = use_of_status.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_');
            let rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if let Some(code) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                found.insert(code.to_owned());
            }
        }
        assert!(!found.is_empty() || name == "roles/admin.rs", "{name} was not understood");
        codes.extend(found);
    }
    let table = PAGE.split("| code | status | when |").nth(1).expect("the table of errors");
    let documented: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    // Texts such as `ok` with its line end follow a status, too.
    codes.retain(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    assert_eq!(documented, codes);
}
