//! From the tables as they are written to a [`Topology`]: references followed, what contradicts itself recorded.
//!
//! A value that was bad when it was read is never complained about again.

use std::net::SocketAddr;

use super::bootnodes::{self, Directory};
use super::defaults;
use super::entries::Build;
use super::mistake::Mistake;
use super::model::{Entry, Topology};
use super::names::{self, Declared};
use super::plan::{LogPolicy, Role};
use super::ports::{self, Claim, Kind};
use super::raw::{Nodes, RawNode, RawTopology};
use super::reader::{At, Key, OneOrMany};
use super::scalar::{Integer, Port};

/// Makes a topology of `raw`. It is good only if nothing is recorded in `mistakes`, by this or before.
pub(super) fn validate(raw: &RawTopology, mistakes: &mut Vec<Mistake>) -> Option<Topology> {
    let bootnodes = nodes(&raw.bootnodes);
    let signaling = servers(&raw.signaling);
    let others = nodes(&raw.nodes);
    let web = servers(&raw.web);
    let turn = servers(&raw.turn);

    // Bootnodes, TURN, signaling, nodes, web: the start order, kept all through.
    let never_counted: Key<Integer<1, 1>> = Key::Absent;
    let node = |role, at: &At<RawNode>| Declared::new(role, &at.span, &at.value.name, &at.value.count);
    let entries: Vec<Declared> = (bootnodes.iter().map(|at| node(Role::Bootnode, at)))
        .chain(turn.iter().map(|at| Declared::new(Role::Turn, &at.span, &at.value.name, &never_counted)))
        .chain(
            signaling
                .iter()
                .map(|at| Declared::new(Role::Signaling, &at.span, &at.value.name, &never_counted)),
        )
        .chain(others.iter().map(|at| node(Role::Node, at)))
        .chain(web.iter().map(|at| Declared::new(Role::Web, &at.span, &at.value.name, &never_counted)))
        .collect();
    if entries.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::of_file("there is nothing to start: the topology has no processes").help(
            "add [[bootnodes]], [[nodes]], [signaling], [web] or [turn]; `hippius init` writes an example",
        ));
    }
    names::check(&entries, mistakes).ok()?;
    let (bootnode_names, rest) = entries.split_at(bootnodes.len());
    let (turn_names, rest) = rest.split_at(turn.len());
    let (signaling_names, rest) = rest.split_at(signaling.len());
    let (node_names, web_names) = rest.split_at(others.len());

    let directory = Directory::new(&entries, has_bad(&raw.bootnodes));
    let mut build = Build::new(raw, directory, mistakes);
    let metrics = metrics(raw, &mut build);
    let mut first: Vec<Entry> = Vec::with_capacity(bootnodes.len());
    for (at, declared) in bootnodes.iter().zip(bootnode_names) {
        first.push(build.node(at, declared, first.len()));
    }
    let mut rest: Vec<Entry> = Vec::with_capacity(entries.len());
    let shares_port = turn.iter().filter(|at| at.value.port.given().is_none()).count() > 1;
    for (at, declared) in turn.iter().zip(turn_names) {
        rest.push(build.turn(at, declared, shares_port));
    }
    let shares_port = signaling.iter().filter(|at| at.value.port.given().is_none()).count() > 1;
    for (at, declared) in signaling.iter().zip(signaling_names) {
        rest.push(build.signaling(at, declared, shares_port));
    }
    for (at, declared) in others.iter().zip(node_names) {
        rest.push(build.node(at, declared, first.len()));
    }
    let shares_port = web.iter().filter(|at| at.value.port.given().is_none()).count() > 1;
    for (at, declared) in web.iter().zip(web_names) {
        rest.push(build.web(at, declared, shares_port, signaling_names));
    }

    let Build { claims, edges, bind, .. } = build;
    ports::check(&claims, mistakes);
    let order = bootnodes::start_order(first.len(), &edges, &entries, mistakes);
    Some(Topology {
        name: raw.name.value().map_or(defaults::NAME, |name| &name.0).to_owned(),
        bind,
        metrics,
        logs: logs(raw),
        entries: order.into_iter().filter_map(|index| first.get(index).cloned()).chain(rest).collect(),
    })
}

fn nodes(key: &Key<Nodes>) -> &[At<RawNode>] {
    key.value().map_or(&[], |list| &list.items)
}

pub(super) fn servers<T>(key: &Key<OneOrMany<T>>) -> &[At<T>] {
    key.value().map_or(&[], |list| &list.0)
}

fn has_bad(key: &Key<Nodes>) -> bool {
    key.is_bad() || key.value().is_some_and(|list| list.has_bad)
}

/// Where the metrics are served; claims the port.
fn metrics(raw: &RawTopology, build: &mut Build<'_>) -> SocketAddr {
    let written: Option<&At<Port>> = raw.ports.value().and_then(|ports| ports.metrics.given());
    let socket = SocketAddr::new(build.bind, written.map_or(defaults::METRICS_PORT, |at| at.value.number()));
    if !raw.ports.value().is_some_and(|ports| ports.metrics.is_bad()) {
        let span = written.map(|at| at.span.clone());
        build.claims.push(Claim { socket, owner: "metrics".to_owned(), span, kind: Kind::Service });
    }
    socket
}

fn logs(raw: &RawTopology) -> LogPolicy {
    let logs = raw.logs.value();
    LogPolicy {
        max_bytes: logs
            .and_then(|logs| logs.max_size.value())
            .map_or(defaults::LOGS.max_bytes, |size| size.0),
        keep: logs.and_then(|logs| logs.keep.value()).map_or(defaults::LOGS.keep, |keep| keep.0),
    }
}
