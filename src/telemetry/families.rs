//! Which metric names are in use, and for what: one name has one type and one description, whoever sends it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::catalogue::{self, Kind};
use super::naming;
use super::refusal::Reason;

/// Most exposed names of all processes together. The catalogue has about 40; the rest is room for the metrics of a
/// process that is not ours.
const MAX_NAMES: usize = 4_000;

/// What one metric name stands for.
#[derive(Debug, PartialEq)]
pub(super) struct FamilyInfo {
    pub name: String,
    pub kind: Kind,
    pub help: String,
}

/// The names in use. The catalogue's are always; any other as long as a process has series of it.
#[derive(Debug)]
pub(super) struct Families {
    /// Every exposed name, those of twins and of a histogram's lines included.
    names: HashMap<String, Weak<FamilyInfo>>,
    /// Keeps the catalogue's names taken, so that no process can give them another type.
    _catalogue: Vec<Arc<FamilyInfo>>,
}

impl Families {
    pub(super) fn new() -> Self {
        let mut families = Self { names: HashMap::new(), _catalogue: Vec::new() };
        families._catalogue = catalogue::ALL
            .iter()
            .filter_map(|metric| families.claim(&metric.exposed_name(), metric.kind, metric.help).ok())
            .collect();
        families
    }

    /// The family `name`, which must be of `kind`. The first to claim a name decides its type and description.
    pub(super) fn claim(&mut self, name: &str, kind: Kind, help: &str) -> Result<Arc<FamilyInfo>, Reason> {
        if let Some(known) = self.names.get(name).and_then(Weak::upgrade) {
            return if known.kind == kind && known.name == name {
                Ok(known)
            } else {
                Err(Reason::TypeConflict)
            };
        }
        let lines = exposed_names(name, kind);
        let taken = |line: &String| self.names.get(line).is_some_and(|known| known.strong_count() > 0);
        if lines.iter().any(taken) {
            return Err(Reason::TypeConflict);
        }
        if self.names.len() + lines.len() > MAX_NAMES {
            self.names.retain(|_, family| family.strong_count() > 0);
            if self.names.len() + lines.len() > MAX_NAMES {
                return Err(Reason::Names);
            }
        }
        let family = Arc::new(FamilyInfo { name: name.to_owned(), kind, help: help.to_owned() });
        self.names.extend(lines.into_iter().map(|line| (line, Arc::downgrade(&family))));
        Ok(family)
    }
}

/// All names that a family puts into the exposition.
fn exposed_names(name: &str, kind: Kind) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(naming::twin_of(name).map(str::to_owned));
    if kind == Kind::Histogram {
        names.extend(["bucket", "sum", "count"].map(|line| format!("{name}_{line}")));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_type_wins_while_it_is_used() {
        let mut families = Families::new();
        let gauge = families.claim("x", Kind::Gauge, "one").unwrap();
        assert_eq!(families.claim("x", Kind::Histogram, "two").unwrap_err(), Reason::TypeConflict);
        assert_eq!(families.claim("x", Kind::Gauge, "two").unwrap().help, "one");
        drop(gauge);
        assert_eq!(families.claim("x", Kind::Histogram, "two").unwrap().help, "two");
    }

    #[test]
    fn a_histogram_takes_the_names_of_its_lines() {
        let mut families = Families::new();
        let _histogram = families.claim("h", Kind::Histogram, "").unwrap();
        assert_eq!(families.claim("h_count", Kind::Gauge, "").unwrap_err(), Reason::TypeConflict);
        let _gauge = families.claim("g_sum", Kind::Gauge, "").unwrap();
        assert_eq!(families.claim("g", Kind::Histogram, "").unwrap_err(), Reason::TypeConflict);
    }

    #[test]
    fn names_of_the_catalogue_and_their_twins_cannot_be_taken() {
        let mut families = Families::new();
        for name in ["p2p_messages_sent", "system_thread_count", "p2p_messages_sent_total"] {
            assert_eq!(families.claim(name, Kind::Gauge, "").unwrap_err(), Reason::TypeConflict, "{name}");
        }
    }

    #[test]
    fn names_are_bounded_and_come_back() {
        let mut families = Families::new();
        let mut held = Vec::new();
        let mut index = 0;
        while let Ok(family) = families.claim(&format!("n{index}"), Kind::Gauge, "") {
            held.push(family);
            index += 1;
        }
        assert!(held.len() < MAX_NAMES && families.names.len() <= MAX_NAMES);
        held.clear();
        assert!(families.claim("another", Kind::Gauge, "").is_ok());
    }
}
