//! Names of a topology: who is called what, that no name is used twice, and that there are not too many.

use std::collections::HashMap;
use std::ops::Range;

use super::mistake::Mistake;
use super::model::process_names;
use super::plan::Role;
use super::reader::{At, Key};
use super::scalar::{Integer, Name};

/// Most processes of one network: each is a process of the system with several connections.
pub(super) const MAX_PROCESSES: u64 = 2_000;

/// Names of the data directory that are not a process's: its logs, and the supervisor's own folder.
const RESERVED: [&str; 2] = ["logs", "supervisor"];

/// How many processes an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// One, called like the entry.
    Single,
    /// A group of this many, numbered.
    Group(u32),
    /// What is written is wrong.
    Bad,
}

/// The name of one entry and all that is known of it.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) role: Role,
    /// `None` where what is written is wrong.
    pub(super) name: Option<String>,
    pub(super) count: Count,
    /// Where the name stands; the head of the table where it is the default.
    pub(super) span: Range<usize>,
    count_span: Range<usize>,
}

impl Declared {
    /// What the entry at `head` says of its name and count.
    pub(super) fn new<const MIN: u32, const MAX: u32>(
        role: Role,
        head: &Range<usize>,
        name: &Key<Name>,
        count: &Key<Integer<MIN, MAX>>,
    ) -> Self {
        let (name, span) = match name {
            Key::Absent => (Some(role.as_str().to_owned()), head.clone()),
            Key::Bad => (None, head.clone()),
            Key::Given(At { value, span }) => (Some(value.0.clone()), span.clone()),
        };
        let (count, count_span) = match count {
            Key::Absent => (Count::Single, span.clone()),
            Key::Bad => (Count::Bad, span.clone()),
            Key::Given(At { value, span }) => (Count::Group(value.0), span.clone()),
        };
        Self { role, name, count, span, count_span }
    }

    /// The count as a plan has it.
    pub(super) fn group_size(&self) -> Option<u32> {
        match self.count {
            Count::Group(count) => Some(count),
            Count::Single | Count::Bad => None,
        }
    }

    /// The names of its processes, as far as they are known.
    pub(super) fn processes(&self) -> Vec<String> {
        match (&self.name, self.count) {
            (None, _) | (_, Count::Bad) => Vec::new(),
            (Some(name), _) => process_names(name, self.group_size()),
        }
    }
}

/// There are so many processes that nothing more can be said.
#[derive(Debug)]
pub(super) struct TooMany;

/// Records names that are reserved or used twice.
///
/// # Errors
/// [`TooMany`], recorded, above [`MAX_PROCESSES`].
pub(super) fn check(entries: &[Declared], mistakes: &mut Vec<Mistake>) -> Result<(), TooMany> {
    let mut total = 0_u64;
    let mut crossed = None;
    for entry in entries {
        total += u64::from(entry.group_size().unwrap_or(1));
        if total > MAX_PROCESSES && crossed.is_none() {
            crossed = Some(entry);
        }
    }
    if let Some(entry) = crossed {
        mistakes.push(
            Mistake::new(
                entry.count_span.clone(),
                format!("{total} processes are too many: a topology has at most {MAX_PROCESSES}"),
                format!("more than {MAX_PROCESSES} from here on"),
            )
            .help("make a `count` smaller"),
        );
        return Err(TooMany);
    }
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(name) = &entry.name else { continue };
        if RESERVED.contains(&name.as_str()) {
            mistakes.push(
                Mistake::new(entry.span.clone(), format!("the name `{name}` is reserved"), "reserved")
                    .help(format!("choose another; these are taken: `{}`", RESERVED.join("`, `"))),
            );
        }
        let mut reported = false;
        for used in std::iter::once(name.clone()).chain(entry.processes()) {
            match owners.get(&used) {
                Some(owner) if *owner == index => {}
                Some(owner) if !reported => {
                    reported = true;
                    mistakes.push(used_twice(&used, entry, entries.get(*owner)));
                }
                Some(_) => {}
                None => {
                    owners.insert(used, index);
                }
            }
        }
    }
    Ok(())
}

fn used_twice(name: &str, later: &Declared, earlier: Option<&Declared>) -> Mistake {
    let label = |entry: &Declared, word: &str| match (&entry.name, entry.count) {
        (Some(group), Count::Group(count)) if group != name => {
            format!("{word}: `{group}` is a group of {count}, `{group}-0` to `{group}-{}`", count - 1)
        }
        _ => word.to_owned(),
    };
    let mistake = Mistake::new(
        later.span.clone(),
        format!("the name `{name}` is used twice"),
        label(later, "again here"),
    )
    .help("give one of them another `name`");
    match earlier {
        Some(earlier) => mistake.also(earlier.span.clone(), label(earlier, "first here")),
        None => mistake,
    }
}
