//! The table of processes and the list of URLs that `up` and `status` print.

use std::io::{self, IsTerminal};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use crate::supervisor::lifecycle::State;
use crate::supervisor::wire::{ProcessStatus, Status};
use crate::topology::plan::Role;

/// How many processes of a group a short table shows, when it is larger than this by more than one.
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
    let colour =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !colour {
        table.force_no_tty();
    }
    table.set_header(
        ["process", "role", "pid", "state", "address", "peer id"]
            .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
    );
    let restarted = processes.iter().any(|process| process.restarts > 0);
    let mut shown = 0;
    for (place, process) in processes.iter().enumerate() {
        let first_of_group = place == 0 || processes[place - 1].group != process.group;
        if first_of_group {
            shown = 0;
        }
        let size = processes.iter().filter(|other| other.group == process.group).count();
        shown += 1;
        let cut = extent == Extent::Short && size > FEW + 1 && shown > FEW && process.state == State::Ready;
        if cut {
            if processes.get(place + 1).is_none_or(|next| next.group != process.group) {
                table.add_row([format!("… {} more", size - FEW)]);
            }
            continue;
        }
        table.add_row(row(process, restarted));
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
