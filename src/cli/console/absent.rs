//! Why no node answers: what the supervisor knows of the name.

use super::{ConsoleArgs, ConsoleError};
use crate::control::client::Client;
use crate::control::nearest;
use crate::supervisor::lifecycle::State;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::{ProcessStatus, Status};
use crate::topology::plan::Role;

/// Most nodes that are listed.
const MOST_LISTED: usize = 8;

/// Asks the supervisor, if there is one, about a process whose admin socket nobody listens on.
pub(super) async fn explain(args: &ConsoleArgs) -> ConsoleError {
    let socket = Paths::new(&args.data.data_dir).control_socket();
    match Client::new(&socket).get::<Status>("/v1/status").await {
        Ok(status) => of_status(&args.process, &status.processes),
        Err(_) => {
            let (name, data_dir) = (args.process.clone(), args.data.data_dir.clone());
            ConsoleError::NoNetwork { name, data_dir }
        }
    }
}

fn of_status(name: &str, processes: &[ProcessStatus]) -> ConsoleError {
    let has_console = |process: &&ProcessStatus| matches!(process.role, Role::Node | Role::Bootnode);
    if let Some(process) = processes.iter().find(|process| process.name == name) {
        if !has_console(&process) {
            return ConsoleError::NoNode { name: name.to_owned(), role: process.role };
        }
        let advice = match process.state {
            State::Stopped | State::Failed => format!("`hippius start {name}` starts it"),
            _ => format!("see `hippius logs {name}`"),
        };
        return ConsoleError::NotReady { name: name.to_owned(), state: process.state, advice };
    }
    let group: Vec<&ProcessStatus> = processes.iter().filter(|process| process.group == name).collect();
    if let [first, .., last] = group.as_slice() {
        if !has_console(first) {
            return ConsoleError::NoNode { name: name.to_owned(), role: first.role };
        }
        return ConsoleError::Group {
            name: name.to_owned(),
            count: group.len(),
            first: first.name.clone(),
            last: last.name.clone(),
        };
    }
    let nodes: Vec<&str> =
        processes.iter().filter(has_console).map(|process| process.name.as_str()).collect();
    let mut known = nodes.iter().take(MOST_LISTED).copied().collect::<Vec<_>>().join(", ");
    if nodes.len() > MOST_LISTED {
        known.push_str(&format!(" and {} more", nodes.len() - MOST_LISTED));
    }
    let hint = nearest::hint(name, nodes);
    ConsoleError::Unknown { name: name.to_owned(), hint, known }
}
