//! Whom a command means: a process or a whole group, by name.

use crate::control::nearest::hint;

/// No process or group has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no process or group named {name}{hint} (there are: {known})")]
pub struct UnknownProcess {
    /// The name asked for.
    pub name: String,
    /// The name that may have been meant, as a half sentence; empty if none is near.
    pub hint: String,
    /// The groups there are.
    pub known: String,
}

/// The places of the processes that `name` means among `all`, each with its name and its group: the one of that name or,
/// if there is none, all of that group.
///
/// # Errors
/// [`UnknownProcess`], with the nearest name.
pub fn resolve<'a>(
    name: &str,
    all: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<Vec<usize>, UnknownProcess> {
    if let Some(place) = all.clone().position(|(process, _)| process == name) {
        return Ok(vec![place]);
    }
    let of_group = all.clone().enumerate().filter(|(_, (_, group))| *group == name);
    let places: Vec<usize> = of_group.map(|(place, _)| place).collect();
    if !places.is_empty() {
        return Ok(places);
    }
    let mut groups: Vec<&str> = all.clone().map(|(_, group)| group).collect();
    groups.dedup();
    Err(UnknownProcess {
        name: name.to_owned(),
        hint: hint(name, all.flat_map(|(process, group)| [process, group])),
        known: groups.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] =
        [("bootnode", "bootnode"), ("node-0", "node"), ("node-1", "node"), ("web", "web")];

    #[test]
    fn a_name_means_a_process_or_a_whole_group() {
        assert_eq!(resolve("node-1", ALL.into_iter()), Ok(vec![2]));
        assert_eq!(resolve("node", ALL.into_iter()), Ok(vec![1, 2]));
        assert_eq!(resolve("web", ALL.into_iter()), Ok(vec![3]));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all_there_are() {
        let message = |name: &str| resolve(name, ALL.into_iter()).unwrap_err().to_string();
        assert_eq!(
            message("wbe"),
            "there is no process or group named wbe; did you mean web? (there are: bootnode, node, web)"
        );
        assert!(message("node_1").contains("did you mean node-1?"));
        assert!(!message("frontend").contains("mean"));
    }
}
