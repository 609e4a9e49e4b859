//! The table of processes and the list of URLs that `up` and `status` print.

use std::io::{self, IsTerminal};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use crate::roles::logging;
use crate::supervisor::lifecycle::State;
use crate::supervisor::wire::{ProcessStatus, Status};
use crate::topology::plan::Role;

/// How many processes of a group a short table shows for sure; of the others, those that are not ready.
const FEW: usize = 8;

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Large groups cut short.
    Short,
    /// Every process.
    Full,
}

/// The table and, below it, the URLs.
#[must_use]
pub fn summary(status: &Status, extent: Extent) -> String {
    let mut text = table(&status.processes, extent);
    text.push('\n');
    for (what, url) in urls(status) {
        text.push_str(&format!("\n  {what:<10} {url}"));
    }
    text.push('\n');
    text
}

fn table(processes: &[ProcessStatus], extent: Extent) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !logging::colour(io::stdout().is_terminal()) {
        table.force_no_tty();
    }
    table.set_header(
        ["process", "role", "pid", "state", "address", "peer id"]
            .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
    );
    let restarted = processes.iter().any(|process| process.restarts > 0);
    for group in processes.chunk_by(|one, next| one.group == next.group) {
        let cut = |place: usize| place >= FEW && group[place].state == State::Ready;
        let cut_rows = (0..group.len()).filter(|place| cut(*place)).count();
        // A line that says that one is missing takes as much room as the one.
        let short = extent == Extent::Short && cut_rows > 1;
        for (place, process) in group.iter().enumerate() {
            if !(short && cut(place)) {
                table.add_row(row(process, restarted));
            }
        }
        if short {
            table.add_row([format!("… {cut_rows} more")]);
        }
    }
    table.to_string()
}

fn row(process: &ProcessStatus, restarted: bool) -> Vec<Cell> {
    let (colour, mut word) = match process.state {
        State::Ready => (Color::Green, "ready".to_owned()),
        State::Failed => (Color::Red, "failed".to_owned()),
        State::Stopped => (Color::DarkGrey, "stopped".to_owned()),
        other => (Color::Yellow, other.as_str().to_owned()),
    };
    if restarted && process.restarts > 0 {
        word.push_str(&format!(" (restarts: {})", process.restarts));
    }
    let address = process.addresses.first().map(|address| short_address(address)).unwrap_or_default();
    let address = match (&process.reason, process.state) {
        (Some(reason), state) if state != State::Ready => shorten(reason, 60),
        _ => address,
    };
    vec![
        Cell::new(&process.name),
        Cell::new(process.role),
        Cell::new(process.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        Cell::new(word).fg(colour),
        Cell::new(address),
        Cell::new(process.peer_id.as_deref().unwrap_or_default()),
    ]
}

/// A multiaddr without its peer id, which has a column of its own.
fn short_address(address: &str) -> String {
    address.split("/p2p/").next().unwrap_or(address).to_owned()
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// What a person opens, and where.
fn urls(status: &Status) -> Vec<(String, String)> {
    let mut urls = Vec::new();
    for process in &status.processes {
        if let (Role::Web | Role::Signaling, Some(address)) = (process.role, process.addresses.first()) {
            urls.push((process.name.clone(), local_name(address)));
        }
    }
    urls.push(("metrics".to_owned(), local_name(&status.metrics)));
    urls.push(("stats".to_owned(), local_name(&status.metrics.replace("/metrics", "/stats"))));
    urls
}

/// `localhost` for loopback: browsers treat it as a secure context, and people read it easily.
fn local_name(url: &str) -> String {
    url.replacen("127.0.0.1", "localhost", 1).replacen("0.0.0.0", "localhost", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize, failed: &[usize]) -> Vec<ProcessStatus> {
        let state = |number| if failed.contains(&number) { State::Failed } else { State::Ready };
        let node = |number| ProcessStatus {
            name: format!("node-{number}"),
            group: "node".to_owned(),
            role: Role::Node,
            state: state(number),
            pid: None,
            generation: 1,
            restarts: 0,
            last_exit: None,
            reason: None,
            uptime_seconds: None,
            peer_id: None,
            addresses: Vec::new(),
        };
        (0..count).map(node).collect()
    }

    fn rows(processes: &[ProcessStatus], extent: Extent) -> Vec<String> {
        let first = |line: &str| line.trim().split("  ").next().unwrap_or_default().to_owned();
        table(processes, extent).lines().skip(1).map(first).collect()
    }

    #[test]
    fn a_short_table_says_how_many_it_leaves_out_wherever_they_are() {
        let last_failed = rows(&nodes(12, &[11]), Extent::Short);
        assert_eq!(last_failed[7..], ["node-7", "node-11", "… 3 more"]);
        let all_ready = rows(&nodes(12, &[]), Extent::Short);
        assert_eq!(all_ready[7..], ["node-7", "… 4 more"]);
        assert_eq!(rows(&nodes(9, &[]), Extent::Short).len(), 9);
        assert_eq!(rows(&nodes(12, &[11]), Extent::Full).len(), 12);
    }
}
