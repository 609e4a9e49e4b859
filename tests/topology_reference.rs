//! `docs/topology.md` is read and held against the program: keys, defaults, bounds, examples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hippius::topology::plan::Plan;
use hippius::topology::{self, Look, Mistakes};

/// One row of the reference.
#[derive(Debug, Clone)]
struct Row {
    /// The heading of its table.
    table: String,
    key: String,
    kind: String,
    default: String,
    bounds: String,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/topology.md");
    std::fs::read_to_string(path).expect("readable")
}

fn rows() -> Vec<Row> {
    let mut table = String::new();
    let mut rows = Vec::new();
    for line in document().lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut table);
        }
        if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let [key, kind, default, bounds, meaning] = cells.as_slice() else {
                panic!("five cells: {line}")
            };
            assert!(!meaning.is_empty(), "{line}");
            rows.push(Row {
                table: table.clone(),
                key: key.trim_end_matches('`').to_owned(),
                kind: (*kind).to_owned(),
                default: (*default).to_owned(),
                bounds: (*bounds).to_owned(),
            });
        }
    }
    assert!(rows.len() > 40, "the tables are read");
    rows
}

/// A topology in which `key = value` stands in `table`; `None` leaves the key out. `beside` stands in the same table.
fn with(table: &str, key: &str, value: Option<&str>, beside: &str) -> String {
    let line = value.map(|value| format!("{key} = {value}\n")).unwrap_or_default() + beside;
    // One of each, so that every setting shows in the plan. Ports 0 keep them out of each other's way.
    let ports = if table == "ports" { String::new() } else { "metrics = 0\n".to_owned() };
    let mut text = String::new();
    if table == "Top level" {
        text.push_str(&line);
    }
    for name in ["ports", "restart", "timing", "logs", "signaling", "web", "turn"] {
        let is_list = table == "Top level" && key == name;
        if !is_list {
            let own = if table == name { line.as_str() } else { "" };
            let ports = if name == "ports" { ports.as_str() } else { "" };
            text.push_str(&format!("[{name}]\n{ports}{own}"));
            if name == "turn" && table == "relay_ports" {
                text.push_str(&format!("[turn.relay_ports]\n{line}"));
            }
        }
    }
    for name in ["bootnodes", "nodes"] {
        if table == "Top level" && key == name {
            continue;
        }
        let own = if table == name { line.as_str() } else { "" };
        text.push_str(&format!("[[{name}]]\n{own}"));
        if matches!(table, "connections" | "limits" | "relay" | "files" | "tls") && name == "nodes" {
            text.push_str(&format!("[nodes.{table}]\n{line}"));
        }
    }
    text
}

fn parse(text: &str) -> Result<Plan, Mistakes> {
    topology::parse("x.toml", text, &|_| None).map(|topology| topology.plan())
}

/// What a key needs beside it at the ends of its bounds.
fn beside(row: &Row) -> &'static str {
    match (row.table.as_str(), row.key.as_str()) {
        ("restart", "max_backoff") => "backoff = \"1ms\"\n",
        ("restart", "backoff") => "max_backoff = \"1day\"\n",
        ("connections", "low") => "high = 10000\n",
        ("connections", "high") => "low = 0\n",
        ("relay_ports", "min") => "max = 65535\n",
        ("relay_ports", "max") => "min = 1024\n",
        ("turn", "tls_port") => "tls = { certificate = \"c\", key = \"k\" }\n",
        _ => "",
    }
}

/// The heading that describes the table behind a property of the schema.
fn heading(parent: &str, key: &str) -> Option<String> {
    match (parent, key) {
        (_, "restart" | "timing" | "connections" | "limits" | "relay" | "files" | "tls" | "relay_ports") => {
            Some(key.to_owned())
        }
        ("Top level", "ports" | "logs" | "web" | "signaling" | "turn" | "bootnodes" | "nodes") => {
            Some(key.to_owned())
        }
        _ => None,
    }
}

/// The keys of every table by the schema, and their defaults where it names them.
fn schema_keys() -> BTreeMap<(String, String), Option<serde_json::Value>> {
    fn walk(
        root: &serde_json::Value,
        schema: &serde_json::Value,
        table: &str,
        out: &mut BTreeMap<(String, String), Option<serde_json::Value>>,
    ) {
        let schema = schema.get("anyOf").and_then(|any| any.get(0)).unwrap_or(schema);
        let schema = schema.get("items").unwrap_or(schema);
        let schema = match schema.get("$ref").and_then(|reference| reference.as_str()) {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("a definition"),
            None => schema,
        };
        for (key, property) in schema["properties"].as_object().expect("a table") {
            out.insert((table.to_owned(), key.clone()), property.get("default").cloned());
            if let Some(below) = heading(table, key) {
                walk(root, property, &below, out);
            }
        }
    }
    let schema = topology::schema();
    let mut out = BTreeMap::new();
    walk(schema.as_value(), schema.as_value(), "Top level", &mut out);
    out
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let documented: BTreeSet<_> = rows().into_iter().map(|row| (row.table, row.key)).collect();
    let accepted: BTreeSet<_> = schema_keys().into_keys().collect();
    assert_eq!(documented, accepted);
}

#[test]
fn the_reader_takes_every_key_of_the_reference() {
    for row in rows() {
        // Of a wrong type wherever it stands: the complaint must be of that, not of an unknown key.
        let text = with(&row.table, &row.key, Some("1979-05-27"), "");
        let mistakes = parse(&text).expect_err("a mistake").to_string();
        assert!(mistakes.contains("must be"), "{row:?}: {mistakes}");
        assert!(!mistakes.contains("unknown key"), "{row:?}: {mistakes}");
    }
}

/// The default of `row` as a TOML value, if it is one.
fn default_value(row: &Row) -> Option<&str> {
    row.default.strip_prefix('`')?.strip_suffix('`').filter(|value| !value.starts_with("ports."))
}

#[test]
fn documented_defaults_hold() {
    let mut checked = 0;
    for row in rows() {
        let Some(default) = default_value(&row) else { continue };
        let absent =
            parse(&with(&row.table, &row.key, None, beside(&row))).unwrap_or_else(|m| panic!("{row:?}: {m}"));
        let given = parse(&with(&row.table, &row.key, Some(default), beside(&row)))
            .unwrap_or_else(|m| panic!("{row:?}: {m}"));
        let without_list = row.table == "Top level" && row.kind == "list of tables";
        if !without_list {
            assert_eq!(absent, given, "{row:?}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn the_schema_says_the_same_defaults() {
    let schema = schema_keys();
    let mut checked = 0;
    for row in rows() {
        let Some(said) = schema.get(&(row.table.clone(), row.key.clone())).cloned().flatten() else {
            continue;
        };
        let value: toml::Table =
            toml::from_str(&format!("v = {}", default_value(&row).expect("a default"))).expect("TOML");
        let documented = serde_json::to_value(&value["v"]).expect("JSON");
        assert_eq!(said, documented, "{row:?}");
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn another_value_than_the_default_shows_in_the_plan() {
    let others = [
        ("Top level", "name", "\"other\""),
        ("Top level", "bind", "\"::1\""),
        ("ports", "web", "1"),
        ("ports", "signaling", "1"),
        ("ports", "metrics", "1"),
        ("restart", "policy", "\"never\""),
        ("restart", "backoff", "\"2s\""),
        ("restart", "max_backoff", "\"2s\""),
        ("restart", "limit", "2"),
        ("restart", "within", "\"2s\""),
        ("timing", "start_timeout", "\"2s\""),
        ("timing", "watchdog", "\"2s\""),
        ("timing", "stop_grace", "\"2s\""),
        ("logs", "max_size", "2048"),
        ("logs", "keep", "2"),
        ("connections", "low", "2"),
        ("connections", "high", "20"),
        ("limits", "pending_inbound", "2"),
        ("limits", "pending_per_address", "2"),
        ("limits", "pending_outbound", "2"),
        ("limits", "total_connections", "2"),
        ("limits", "connections_per_peer", "1"),
        ("limits", "connections_per_address", "2"),
        ("limits", "count_loopback", "true"),
        ("limits", "streams", "20"),
        ("limits", "negotiating_streams", "2"),
        ("limits", "memory", "\"2 GiB\""),
        ("limits", "message_size", "2048"),
        ("limits", "subscriptions", "2"),
        ("limits", "message_burst", "2"),
        ("limits", "message_rate", "2"),
        ("relay", "enabled", "true"),
        ("relay", "max_reservations", "2"),
        ("relay", "reservation_duration", "\"2m\""),
        ("relay", "max_circuits", "2"),
        ("relay", "max_circuits_per_peer", "2"),
        ("relay", "max_circuit_bytes", "2048"),
        ("relay", "max_circuit_duration", "\"2s\""),
        ("files", "accept", "\"always\""),
        ("files", "max_file", "2048"),
        ("files", "max_total", "2048"),
        ("files", "max_transfers", "2"),
        ("signaling", "name", "\"other\""),
        ("signaling", "port", "1"),
        ("signaling", "allowed_origins", "[\"https://chat.example.org\"]"),
        ("signaling", "tls", "{ certificate = \"a\", key = \"b\" }"),
        ("signaling", "token_secret_file", "\"a\""),
        ("signaling", "max_clients", "2"),
        ("signaling", "max_per_address", "2"),
        ("signaling", "max_room_peers", "2"),
        ("signaling", "messages_per_second", "2"),
        ("signaling", "joins_per_second", "3"),
        ("signaling", "join_burst", "2"),
        ("web", "name", "\"other\""),
        ("web", "port", "1"),
        ("web", "pages", "\"a\""),
        ("ports", "turn", "1"),
        ("turn", "name", "\"other\""),
        ("turn", "engine", "\"coturn\""),
        ("turn", "port", "1"),
        ("turn", "tls", "{ certificate = \"c\", key = \"k\" }"),
        ("turn", "realm", "\"example.org\""),
        ("turn", "secret_file", "\"secret\""),
        ("turn", "host", "\"turn.example.org\""),
        ("turn", "external_address", "\"203.0.113.7\""),
        ("turn", "allow", "[\"127.0.0.0/8\"]"),
        ("turn", "deny", "[\"10.0.0.0/8\"]"),
        ("turn", "max_allocations", "2"),
        ("turn", "max_per_user", "2"),
        ("turn", "max_per_address", "2"),
        ("turn", "stranger_answers_per_second", "2"),
        ("turn", "bytes_per_second", "2048"),
        ("turn", "credential_lifetime", "\"2m\""),
        ("turn", "config_file", "\"turn.json\""),
        ("relay_ports", "min", "50000"),
        ("relay_ports", "max", "60000"),
    ];
    let mut tables: Vec<(&str, &str, &str)> = others.to_vec();
    for table in ["bootnodes", "nodes"] {
        tables.extend([
            (table, "name", "\"other\""),
            (table, "count", "1"),
            (table, "listen", "[\"/ip4/127.0.0.1/tcp/1\"]"),
            (table, "topics", "[\"a\"]"),
            (table, "connections", "{ low = 1, high = 2 }"),
            (table, "mdns", "true"),
            (table, "upnp", "true"),
            (table, "external", "[\"/ip4/203.0.113.7/tcp/4002\"]"),
            (table, "tls", "{ certificate = \"a\", key = \"b\" }"),
            (table, "trusted", "[\"a\"]"),
            (table, "limits", "{ streams = 20 }"),
            (table, "relay", "{ max_circuits = 2 }"),
            (table, "files", "{ accept = \"never\" }"),
        ]);
    }
    for table in ["bootnodes", "nodes", "signaling", "web", "turn"] {
        tables.push((table, "restart", "{ limit = 2 }"));
        tables.push((table, "timing", "{ watchdog = \"2s\" }"));
    }
    tables.push(("nodes", "bootnodes", "[]"));
    let web = |tls: &str| parse(&format!("[signaling]\n{TLS}\n[web]\n{tls}")).expect("a topology");
    const TLS: &str = "tls = { certificate = \"a\", key = \"b\" }";
    assert_ne!(web(""), web(TLS));
    for (table, key, value) in tables {
        let absent = parse(&with(table, key, None, "")).unwrap_or_else(|m| panic!("{table}.{key}: {m}"));
        let given =
            parse(&with(table, key, Some(value), "")).unwrap_or_else(|m| panic!("{table}.{key}: {m}"));
        assert_ne!(absent, given, "{table}.{key}");
    }
}

/// Values at the bounds of `row` and just past them: (good, bad).
fn edges(row: &Row) -> Option<(Vec<String>, Vec<String>)> {
    let bounds = row.bounds.as_str();
    if bounds.is_empty() {
        return None;
    }
    let zero = bounds.strip_prefix("0s, ");
    let (low, high) = zero.unwrap_or(bounds).split_once("..=").expect("low..=high");
    let repeated = |count: usize, item: &str| vec![item; count].join(", ");
    Some(match row.kind.as_str() {
        "integer" | "port" | "size" => {
            let (low, high): (i64, i64) = (low.parse().expect("a number"), high.parse().expect("a number"));
            (vec![low.to_string(), high.to_string()], vec![(low - 1).to_string(), (high + 1).to_string()])
        }
        "duration" => {
            let [low, high] = [low, high].map(|text| humantime::parse_duration(text).expect("a duration"));
            let millis = |value: u128| format!("\"{value}ms\"");
            let mut good = vec![millis(low.as_millis()), millis(high.as_millis())];
            let mut bad = vec![millis(high.as_millis() + 1)];
            if low.as_millis() > 1 || zero.is_some() {
                bad.push(millis(low.as_millis() - 1));
            } else if low.as_millis() == 1 {
                bad.push(millis(0));
            }
            if zero.is_some() {
                good.push("\"0s\"".to_owned());
            }
            (good, bad)
        }
        "name" => {
            let high: usize = high.trim_end_matches(" characters").parse().expect("a number");
            let name = |length: usize| format!("\"{}\"", "a".repeat(length));
            (vec![name(1), name(high)], vec![name(0), name(high + 1)])
        }
        kind => {
            let high: usize = high.trim_end_matches(" entries").parse().expect("a number");
            let low: usize = low.parse().expect("a number");
            let list = |count: usize| match kind {
                "list of multiaddrs" => format!("[{}]", repeated(count, "\"/ip4/127.0.0.1/tcp/0\"")),
                "list of dialled multiaddrs" => format!("[{}]", repeated(count, "\"/dns4/a.example/tcp/1\"")),
                "list of origins" => format!("[{}]", repeated(count, "\"https://a.example\"")),
                "list of networks" => format!("[{}]", repeated(count, "\"10.0.0.0/8\"")),
                "list of strings" => format!("[{}]", repeated(count, "\"a\"")),
                "list of names and multiaddrs" => {
                    const PEER: &str = "p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
                    let entries = (1..=count).map(|port| format!("\"/ip4/1.2.3.4/tcp/{port}/{PEER}\""));
                    format!("[{}]", entries.collect::<Vec<_>>().join(", "))
                }
                kind => panic!("no values for bounds of a {kind}"),
            };
            let bad = low.checked_sub(1).map(list).into_iter().chain([list(high + 1)]).collect();
            (vec![list(low), list(high)], bad)
        }
    })
}

#[test]
fn documented_bounds_hold_at_the_edge_and_just_past_it() {
    let mut checked = 0;
    for row in rows() {
        let Some((good, bad)) = edges(&row) else { continue };
        checked += 1;
        // The web server's signaling server is by reference: there must be one of that name.
        let extra = |value: &str| match (row.table.as_str(), row.key.as_str()) {
            ("web", "signaling") => {
                format!("[[nodes]]\nname = \"x\"\n[signaling]\nname = {value}\n[web]\nsignaling = {value}\n")
            }
            // More bootnodes than one node may know: then each says whom it knows.
            ("bootnodes", "count") => format!("[[bootnodes]]\ncount = {value}\n[[nodes]]\nbootnodes = []\n"),
            (table, key) => with(table, key, Some(value), beside(&row)),
        };
        for value in good {
            let text = extra(&value);
            parse(&text).unwrap_or_else(|mistakes| panic!("{row:?} {value}: {mistakes}"));
        }
        for value in bad {
            let text = extra(&value);
            let mistakes = parse(&text).expect_err(&format!("{row:?} {value}"));
            assert!(mistakes.to_string().contains(&row.key), "{row:?} {value}: {mistakes}");
        }
    }
    assert!(checked > 25, "{checked}");
}

#[test]
fn documented_bootnode_connections_and_process_limit_hold() {
    let text = document();
    assert!(text.contains("in `[[bootnodes]]` the defaults are 0 and 1000"));
    let absent = parse("[[bootnodes]]").expect("a topology");
    let given = parse("[[bootnodes]]\nconnections = { low = 0, high = 1000 }").expect("a topology");
    assert_eq!(absent, given);
    let limits = "pending_inbound = 512, pending_per_address = 128, connections_per_address = 256";
    assert!(text.contains(&format!("In `[[bootnodes]]` the defaults are `{limits}`")));
    let given = format!("[[bootnodes]]\nlimits = {{ {limits} }}");
    assert_eq!(absent, parse(&given).expect("a topology"));
    assert!(text.contains("in `[[bootnodes]]` the default of `enabled` is `true`"));
    assert_eq!(absent, parse("[[bootnodes]]\nrelay = { enabled = true }").expect("a topology"));
    assert_ne!(absent, parse("[[bootnodes]]\nrelay = { enabled = false }").expect("a topology"));
    assert!(text.contains("2,000."));
    let groups = "[[nodes]]\ncount = 1000\n[[nodes]]\nname = \"b\"\ncount = ";
    parse(&format!("{groups}1000")).expect("a topology");
    parse(&format!("{groups}1000\n[web]")).expect_err("too many");
    parse("[[bootnodes]]\ncount = 100\n[[nodes]]").expect("a topology");
    parse("[[bootnodes]]\ncount = 101\n[[nodes]]").expect_err("too many");
    parse(&format!("[[nodes]]\ntopics = [\"{}\"]", "a".repeat(64))).expect("a topology");
    parse(&format!("[[nodes]]\ntopics = [\"{}\"]", "a".repeat(65))).expect_err("too long");
}

/// The fenced blocks of the document that begin with ` ```KIND `.
fn blocks(kind: &str) -> Vec<String> {
    let document = document();
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == kind {
                blocks.push(block.join("\n") + "\n");
            }
        }
    }
    blocks
}

#[test]
fn the_examples_are_good() {
    let examples = blocks("toml");
    assert!(examples.len() >= 2);
    for example in examples {
        parse(&example).unwrap_or_else(|mistakes| panic!("{example}\n{mistakes}"));
    }
    let plan = parse(&blocks("toml")[0]).expect("a topology");
    let names: Vec<_> = plan.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["bootnode", "signaling", "node-0", "node-1", "node-2", "web"]);
}

#[test]
fn the_shown_mistakes_are_what_is_printed() {
    let [example] = blocks("toml mistakes").try_into().expect("one example");
    let mistakes = topology::parse("topology/local.toml", &example, &|_| None).expect_err("mistakes");
    let printed: Vec<String> =
        mistakes.render(Look::Plain).lines().map(|line| line.trim_end().to_owned()).collect();
    let shown = blocks("text").into_iter().next().expect("a report");
    assert_eq!(shown.trim_end(), printed.join("\n"));
}
