//! Who finds the network through whom: resolves bootnodes by name, and orders bootnodes that know each other.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::address::Bootnode;
use super::mistake::Mistake;
use super::names::{Count, Declared};
use super::plan::{BootnodeRef, Role};
use super::raw::MAX_BOOTNODES;
use super::reader::{At, suggestion};

/// The bootnodes of one file, by name.
pub(super) struct Directory {
    /// All processes, in the order of the file.
    all: Vec<String>,
    /// Processes and entry (its index among all entries) of every name that can be written.
    by_name: HashMap<String, (usize, Vec<String>)>,
    /// Names in the order of the file, for hints.
    names: Vec<String>,
    /// Names of everything that is no bootnode.
    others: HashMap<String, Role>,
    /// The name of some bootnode is not known because of other mistakes.
    unsure: bool,
    /// Groups whose size is not known because of other mistakes, each as `NAME-`.
    unsure_groups: Vec<String>,
}

impl Directory {
    /// The bootnodes among `entries`. With `unsure` no unknown name is complained about: it may be that of an
    /// entry that could not be read.
    pub(super) fn new(entries: &[Declared], unsure: bool) -> Self {
        let mut directory = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
            names: Vec::new(),
            others: HashMap::new(),
            unsure,
            unsure_groups: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            let is_bootnode = entry.role == Role::Bootnode;
            let Some(name) = &entry.name else {
                directory.unsure |= is_bootnode;
                continue;
            };
            if is_bootnode && entry.count == Count::Bad {
                directory.unsure_groups.push(format!("{name}-"));
            }
            let processes = entry.processes();
            if is_bootnode {
                for process in &processes {
                    directory.by_name.insert(process.clone(), (index, vec![process.clone()]));
                }
                directory.all.extend(processes.iter().cloned());
                directory.names.push(name.clone());
                directory.by_name.insert(name.clone(), (index, processes));
            } else {
                let names = processes.into_iter().chain([name.clone()]);
                directory.others.extend(names.map(|name| (name, entry.role)));
            }
        }
        directory
    }

    /// All bootnodes: whom a node knows that names nobody. `head` is the node's table.
    pub(super) fn all(&self, head: &Range<usize>, mistakes: &mut Vec<Mistake>) -> Vec<BootnodeRef> {
        if self.all.len() > MAX_BOOTNODES {
            mistakes.push(too_many(head.clone(), self.all.len()));
        }
        self.all.iter().take(MAX_BOOTNODES).cloned().map(BootnodeRef::Process).collect()
    }

    /// The bootnodes that `written` means, each once. `list` is where they stand.
    pub(super) fn resolve(
        &self,
        written: &[At<Bootnode>],
        list: &Range<usize>,
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<BootnodeRef> {
        let mut resolved = Vec::new();
        for At { value, span } in written {
            match value {
                Bootnode::Address(address) => resolved.push(BootnodeRef::Address(address.clone())),
                Bootnode::Name(name) => match self.by_name.get(name) {
                    Some((_, processes)) => {
                        resolved.extend(processes.iter().cloned().map(BootnodeRef::Process));
                    }
                    None => mistakes.extend(self.unknown(name, span)),
                },
            }
        }
        let mut seen = HashSet::new();
        resolved.retain(|bootnode| seen.insert(format!("{bootnode:?}")));
        if resolved.len() > MAX_BOOTNODES {
            mistakes.push(too_many(list.clone(), resolved.len()));
            resolved.truncate(MAX_BOOTNODES);
        }
        resolved
    }

    fn unknown(&self, name: &str, span: &Range<usize>) -> Option<Mistake> {
        if let Some(role) = self.others.get(name) {
            let message = format!("`{name}` is no bootnode");
            return Some(
                Mistake::new(span.clone(), message, format!("a {role}"))
                    .help("name an entry of [[bootnodes]], or make this one such an entry"),
            );
        }
        if self.unsure || self.unsure_groups.iter().any(|group| name.starts_with(group.as_str())) {
            return None;
        }
        let help = if self.names.is_empty() {
            "this file has no bootnodes; add a [[bootnodes]] entry".to_owned()
        } else {
            suggestion(name, self.names.iter().map(String::as_str), "this file's bootnodes are")
        };
        Some(Mistake::new(span.clone(), format!("unknown bootnode `{name}`"), "no such name").help(help))
    }
}

fn too_many(span: Range<usize>, count: usize) -> Mistake {
    Mistake::new(
        span,
        format!("{count} bootnodes for one node are too many: at most {MAX_BOOTNODES}"),
        "too many bootnodes",
    )
    .help("name some of them with `bootnodes`")
}

/// One bootnode entry that names others.
pub(super) struct Edge {
    from: usize,
    to: usize,
    span: Range<usize>,
}

/// The references of the bootnode entry `from` to entries of the same file.
pub(super) fn edges(directory: &Directory, from: usize, written: &[At<Bootnode>]) -> Vec<Edge> {
    let named = written.iter().filter_map(|At { value, span }| match value {
        Bootnode::Name(name) => {
            directory.by_name.get(name).map(|(to, _)| Edge { from, to: *to, span: span.clone() })
        }
        Bootnode::Address(_) => None,
    });
    named.collect()
}

/// The bootnode entries (the first `count`) in start order: each after those it names. Records circles.
pub(super) fn start_order(
    count: usize,
    edges: &[Edge],
    entries: &[Declared],
    mistakes: &mut Vec<Mistake>,
) -> Vec<usize> {
    let mut outgoing: Vec<Vec<&Edge>> = vec![Vec::new(); count];
    for edge in edges {
        if let Some(list) = outgoing.get_mut(edge.from) {
            list.push(edge);
        }
    }
    let mut walk = Walk { outgoing, state: vec![State::New; count], order: Vec::new(), trail: Vec::new() };
    for index in 0..count {
        walk.visit(index, entries, mistakes);
    }
    walk.order
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

/// A depth-first walk. It is as deep as there are bootnode entries, which are bounded.
struct Walk<'a> {
    outgoing: Vec<Vec<&'a Edge>>,
    state: Vec<State>,
    order: Vec<usize>,
    trail: Vec<&'a Edge>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, index: usize, entries: &[Declared], mistakes: &mut Vec<Mistake>) {
        match self.state.get(index) {
            Some(State::New) => {}
            Some(State::Open) => {
                mistakes.push(self.circle(index, entries));
                return;
            }
            Some(State::Done) | None => return,
        }
        self.state[index] = State::Open;
        for edge in self.outgoing[index].clone() {
            self.trail.push(edge);
            self.visit(edge.to, entries, mistakes);
            self.trail.pop();
        }
        self.state[index] = State::Done;
        self.order.push(index);
    }

    /// The circle that the trail has just closed at `index`.
    fn circle(&self, index: usize, entries: &[Declared]) -> Mistake {
        let name = |index: usize| {
            entries.get(index).and_then(|entry| entry.name.as_deref()).unwrap_or_default().to_owned()
        };
        let start = self.trail.iter().position(|edge| edge.from == index).unwrap_or_default();
        let circle: Vec<&Edge> = self.trail.iter().skip(start).copied().collect();
        let path: Vec<String> =
            std::iter::once(index).chain(circle.iter().map(|edge| edge.to)).map(name).collect();
        let label = |edge: &Edge| format!("`{}` waits for `{}`", name(edge.from), name(edge.to));
        let mut edges = circle.into_iter().rev();
        let message = format!("bootnodes wait for each other: {}", path.join(" → "));
        let mistake = match edges.next() {
            Some(last) => Mistake::new(last.span.clone(), message, label(last)),
            None => Mistake::of_file(message),
        };
        edges
            .fold(mistake, |mistake, edge| mistake.also(edge.span.clone(), label(edge)))
            .help("remove one of these: a bootnode starts only once those it names are ready")
    }
}
