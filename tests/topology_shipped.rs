//! The topologies and the schema that come with hippius are good and current.

use std::path::{Path, PathBuf};

use hippius::topology::plan::{Plan, Role, Settings};
use hippius::topology::{self, PlanTable};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("topology")
}

fn plan(name: &str) -> Plan {
    topology::load(&folder().join(name), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}")).plan()
}

#[test]
fn every_shipped_topology_is_good_and_names_the_schema() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            seen += 1;
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(text.starts_with("#:schema ./topology.schema.json\n"), "{}", path.display());
            topology::load(&path, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        }
    }
    assert!(seen >= 3);
}

#[test]
fn the_shipped_schema_is_what_the_command_prints() {
    let path = folder().join("topology.schema.json");
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == topology::schema_text(),
        "{} is not current; renew it: hippius schema > topology/topology.schema.json",
        path.display()
    );
}

#[test]
fn local_is_a_bootnode_three_nodes_signaling_web_and_a_relay() {
    let plan = plan("local.toml");
    let names: Vec<&str> = plan.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["bootnode", "turn", "signaling", "node-0", "node-1", "node-2", "web"]);
    assert_eq!(plan.metrics.to_string(), "127.0.0.1:9091");
    let sockets: Vec<String> = plan
        .processes
        .iter()
        .filter_map(|process| process.listen_socket)
        .map(|socket| socket.to_string())
        .collect();
    assert_eq!(sockets, ["127.0.0.1:8001", "127.0.0.1:3000"]);
}

#[test]
fn the_swarm_is_one_bootnode_and_a_hundred_nodes() {
    let plan = plan("swarm-100.toml");
    assert_eq!(plan.processes.len(), 101);
    let nodes = plan.processes.iter().filter(|process| process.role() == Role::Node);
    for node in nodes {
        assert_eq!(node.depends_on, ["bootnode"]);
        let Settings::Node(settings) = &node.settings else { panic!("a node: {node:?}") };
        assert_eq!((settings.connections.low, settings.connections.high), (6, 12));
    }
}

#[test]
fn all_uses_every_key_of_the_schema() {
    let text = std::fs::read_to_string(folder().join("all.toml")).expect("readable");
    let written: toml::Value = toml::from_str(&text).expect("TOML");
    let schema = topology::schema();
    let mut missing = Vec::new();
    compare(schema.as_value(), schema.as_value(), &[&written], "", &mut missing);
    assert!(missing.is_empty(), "all.toml does not show {missing:?}");
}

/// Collects the properties of `schema` that none of `tables` has, following tables that are there.
fn compare(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    tables: &[&toml::Value],
    path: &str,
    missing: &mut Vec<String>,
) {
    let schema = match schema.get("$ref").and_then(|reference| reference.as_str()) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("a definition"),
        None => schema,
    };
    if let Some(first) = schema.get("anyOf").and_then(|any| any.get(0)) {
        return compare(root, first, tables, path, missing);
    }
    if let Some(items) = schema.get("items") {
        return compare(root, items, tables, path, missing);
    }
    let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) else {
        return;
    };
    for (key, property) in properties {
        let path = format!("{path}.{key}");
        let found: Vec<&toml::Value> = tables.iter().filter_map(|table| table.get(key)).collect();
        let flat: Vec<&toml::Value> = found
            .iter()
            .flat_map(|value| match value {
                toml::Value::Array(items) => items.iter().collect(),
                value => vec![*value],
            })
            .collect();
        if found.is_empty() {
            // What differs from the network's own settings is shown once, there.
            if !path.contains("restart.") && !path.contains("timing.") {
                missing.push(path.clone());
            }
            continue;
        }
        compare(root, property, &flat, &path, missing);
    }
}

#[test]
fn a_plan_survives_json() {
    for name in ["local.toml", "all.toml", "swarm-100.toml"] {
        let plan = plan(name);
        let json = serde_json::to_string(&plan).expect("JSON");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("a plan"), plan);
    }
}

#[test]
fn the_printed_plan_is_in_start_order() {
    let plan = plan("all.toml");
    let table = PlanTable::new(&plan);
    for (index, process) in plan.processes.iter().enumerate() {
        for name in &process.depends_on {
            let before = plan.processes.iter().position(|other| other.name == *name);
            assert!(before.is_some_and(|before| before < index), "{} before {name}", process.name);
        }
    }
    let text = table.to_string();
    let expected = "\
  #  PROCESS      ROLE       AFTER                         LISTENS ON
  1  bootnode     bootnode   -                             /ip4/127.0.0.1/tcp/4002";
    assert!(text.contains(expected), "{text}");
    assert_eq!(serde_json::to_value(&table).expect("JSON")["processes"][0]["role"], "bootnode");
}
