//! What differs between two plans: the one that runs and the one that is wanted.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::plan::{Plan, PlannedProcess, Role, Settings};

/// The way from one [`Plan`] to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// What differs for the network as a whole: `name`, `bind`, `ports.metrics`, `logs`.
    pub network: Vec<&'static str>,
    /// Processes to start, in start order.
    pub added: Vec<Change>,
    /// Processes to stop, the last started first.
    pub removed: Vec<Change>,
    /// Processes to restart with other settings, in start order.
    pub changed: Vec<Change>,
    /// Names of processes that stay as they are, in start order.
    pub unchanged: Vec<String>,
}

/// One process of a [`PlanDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The process's name.
    pub name: String,
    /// Its role; of a changed process, the new one.
    pub role: Role,
    /// The keys that differ; empty for a process that is added or removed.
    pub keys: Vec<&'static str>,
}

impl PlanDiff {
    /// What has to happen for `running` to become `wanted`.
    #[must_use]
    pub fn between(running: &Plan, wanted: &Plan) -> Self {
        let old = by_name(running);
        let new = by_name(wanted);
        let mut diff = Self {
            network: network(running, wanted),
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            unchanged: Vec::new(),
        };
        for process in &wanted.processes {
            match old.get(process.name.as_str()) {
                None => diff.added.push(change(process, Vec::new())),
                Some(before) if *before == process => diff.unchanged.push(process.name.clone()),
                Some(before) => diff.changed.push(change(process, keys(before, process))),
            }
        }
        let gone = running.processes.iter().rev().filter(|process| !new.contains_key(process.name.as_str()));
        diff.removed.extend(gone.map(|process| change(process, Vec::new())));
        diff
    }

    /// Whether nothing has to happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.network.is_empty() && self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn by_name(plan: &Plan) -> HashMap<&str, &PlannedProcess> {
    plan.processes.iter().map(|process| (process.name.as_str(), process)).collect()
}

fn change(process: &PlannedProcess, keys: Vec<&'static str>) -> Change {
    Change { name: process.name.clone(), role: process.role(), keys }
}

fn network(old: &Plan, new: &Plan) -> Vec<&'static str> {
    differing([
        ("name", old.topology != new.topology),
        ("bind", old.bind != new.bind),
        ("ports.metrics", old.metrics != new.metrics),
        ("logs", old.logs != new.logs),
    ])
}

/// The keys that differ between two processes of one name.
fn keys(old: &PlannedProcess, new: &PlannedProcess) -> Vec<&'static str> {
    let mut keys = differing([
        ("group", old.group != new.group),
        ("restart", old.restart != new.restart),
        ("timing", old.timing != new.timing),
        ("port", old.listen_socket != new.listen_socket),
    ]);
    match (&old.settings, &new.settings) {
        (Settings::Bootnode(old), Settings::Bootnode(new)) | (Settings::Node(old), Settings::Node(new)) => {
            keys.extend(differing([
                ("listen", old.listen != new.listen),
                ("bootnodes", old.bootnodes != new.bootnodes),
                ("topics", old.topics != new.topics),
                ("connections", old.connections != new.connections),
                ("mdns", old.mdns != new.mdns),
                ("upnp", old.upnp != new.upnp),
                ("external", old.external != new.external),
                ("tls", old.tls != new.tls),
                ("trusted", old.trusted != new.trusted),
                ("limits", old.limits != new.limits || old.rates != new.rates),
                ("relay", old.relay != new.relay),
                ("files", old.files != new.files),
            ]));
        }
        (Settings::Signaling(old), Settings::Signaling(new)) => {
            keys.extend(differing([
                ("allowed_origins", old.allowed_origins != new.allowed_origins),
                ("tls", old.tls != new.tls),
                ("token_secret_file", old.token_secret_file != new.token_secret_file),
                ("max_clients", old.max_clients != new.max_clients),
                ("max_per_address", old.max_per_address != new.max_per_address),
                ("max_room_peers", old.max_room_peers != new.max_room_peers),
                ("messages_per_second", old.messages_per_second != new.messages_per_second),
                ("joins_per_second", old.joins_per_second != new.joins_per_second),
                ("join_burst", old.join_burst != new.join_burst),
            ]));
        }
        (Settings::Web(old), Settings::Web(new)) => {
            keys.extend(differing([
                ("signaling", (&old.signaling, old.signaling_tls) != (&new.signaling, new.signaling_tls)),
                ("tls", old.tls != new.tls),
                ("token_secret_file", old.token_secret_file != new.token_secret_file),
                ("pages", old.pages != new.pages),
            ]));
        }
        (Settings::Turn(old), Settings::Turn(new)) => {
            keys.extend(differing([
                ("engine", old.engine != new.engine),
                ("port", old.listen != new.listen),
                ("tls", old.tls != new.tls),
                ("tls_port", old.tls_listen != new.tls_listen),
                ("realm", old.realm != new.realm),
                ("secret_file", old.secret_file != new.secret_file),
                ("host", old.host != new.host),
                ("external_address", old.external_address != new.external_address),
                ("relay_ports", old.relay_ports != new.relay_ports),
                ("allow", old.allow != new.allow),
                ("deny", old.deny != new.deny),
                ("max_allocations", old.max_allocations != new.max_allocations),
                ("max_per_user", old.max_per_user != new.max_per_user),
                ("max_per_address", old.max_per_address != new.max_per_address),
                (
                    "stranger_answers_per_second",
                    old.stranger_answers_per_second != new.stranger_answers_per_second,
                ),
                ("bytes_per_second", old.bytes_per_second != new.bytes_per_second),
                ("credential_lifetime", old.credential_lifetime != new.credential_lifetime),
                ("config_file", old.config_file != new.config_file),
            ]));
        }
        _ => keys.push("role"),
    }
    keys
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

impl fmt::Display for PlanDiff {
    /// One line per change, `+`, `-` or `~`, and how many stay as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.network.is_empty() {
            writeln!(f, "~ the network: {}", self.network.join(", "))?;
        }
        for change in &self.removed {
            writeln!(f, "- {} ({})", change.name, change.role)?;
        }
        for change in &self.changed {
            writeln!(f, "~ {} ({}): {}", change.name, change.role, change.keys.join(", "))?;
        }
        for change in &self.added {
            writeln!(f, "+ {} ({})", change.name, change.role)?;
        }
        match (self.is_empty(), self.unchanged.len()) {
            (true, count) => write!(f, "no changes ({count} processes)"),
            (false, count) => write!(f, "{count} unchanged"),
        }
    }
}
