//! The table of processes and the list of URLs that `up` and `status` print.

use std::cmp::Reverse;

use super::columns::{Cell, Columns, Row, Step, cut};
use super::window::{Window, in_colour};
use crate::control::printable::printable;
use crate::supervisor::lifecycle::State;
use crate::supervisor::wire::{ProcessStatus, Status};
use crate::topology::plan::Role;

/// Processes of a group that are shown one by one; a larger group is one line, and one for each that is not ready.
const FEW: usize = 8;

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Large groups folded into a line.
    Short,
    /// Every process.
    Full,
}

/// In which order columns become shorter and vanish when the window is narrow.
const STEPS: [Step; 7] = [
    Step::Abbreviate("peer id", both_ends),
    Step::Abbreviate("peer id", end),
    Step::Drop("role"),
    Step::Drop("peer id"),
    Step::Drop("uptime"),
    Step::Drop("pid"),
    Step::Drop("restarts"),
];

/// What `up` shows once all is ready: the table and, below it, the URLs.
#[must_use]
pub fn summary(status: &Status, extent: Extent) -> String {
    let window = Window::of_stdout();
    let table = Table { extent, uptime: false, columns: window.map(|window| window.columns) };
    let mut lines = table.lines(&status.processes, in_colour());
    lines.push(String::new());
    lines.extend(urls(status, table.columns));
    lines.push(String::new());
    lines.join("\n")
}

/// What `status` shows: the table, the URLs and a line about the whole. `rows` is how many lines there is room for.
#[must_use]
pub fn status(status: &Status, extent: Extent, rows: Option<usize>) -> String {
    let columns = Window::of_stdout().map(|window| window.columns);
    let table = Table { extent, uptime: true, columns };
    let mut below = vec![String::new()];
    below.extend(urls(status, columns));
    below.push(String::new());
    below.extend(log_errors(status).iter().map(|line| cut(line, columns.unwrap_or(usize::MAX))));
    below.push(cut(&whole(status), columns.unwrap_or(usize::MAX)));
    let mut lines = table.lines(&status.processes, in_colour());
    let most = rows.map(|rows| rows.saturating_sub(below.len()).max(2));
    if let Some(most) = most.filter(|most| lines.len() > *most) {
        let more = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(format!("… {more} more lines than there is room for"));
    }
    lines.extend(below);
    lines.truncate(rows.unwrap_or(usize::MAX));
    lines.join("\n")
}

/// Whose log is not written, and why. All of them mostly have the same reason: a few will do.
fn log_errors(status: &Status) -> Vec<String> {
    const MOST: usize = 3;
    let line = |process: &ProcessStatus| {
        Some(format!("warning: {}: {}", process.name, printable(process.log_error.as_ref()?)))
    };
    let mut lines: Vec<String> = status.processes.iter().filter_map(line).collect();
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    lines.extend((more > 0).then(|| format!("warning: and the logs of {more} more")));
    lines
}

fn whole(status: &Status) -> String {
    let ready = status.processes.iter().filter(|process| process.state == State::Ready).count();
    let of = status.processes.len();
    let (topology, pid) = (&status.topology, status.pid);
    format!("topology {topology}, supervisor {pid}, {ready} of {of} processes ready")
}

/// How the table is drawn.
struct Table {
    extent: Extent,
    uptime: bool,
    /// The window's width; without one everything is there in full.
    columns: Option<usize>,
}

impl Table {
    fn lines(&self, processes: &[ProcessStatus], in_colour: bool) -> Vec<String> {
        let restarts = processes.iter().any(|process| process.restarts > 0);
        let mut titles = vec!["process", "role", "pid", "state"];
        titles.extend(restarts.then_some("restarts"));
        titles.extend(self.uptime.then_some("uptime"));
        titles.extend(["address", "peer id"]);
        let mut rows = Vec::new();
        for group in processes.chunk_by(|one, next| one.group == next.group) {
            if self.extent == Extent::Short && group.len() > FEW {
                self.folded(group, restarts, &mut rows);
            } else {
                rows.extend(group.iter().map(|process| self.row(process, "", restarts)));
            }
        }
        let columns = Columns::new(titles, rows);
        match self.columns {
            Some(width) => columns.fit(width, &STEPS).lines(Some(width), in_colour),
            None => columns.lines(None, in_colour),
        }
    }

    /// A large group: how many are in which state, and those that are not ready, the worst first.
    fn folded(&self, group: &[ProcessStatus], restarts: bool, rows: &mut Vec<Row>) {
        let [first, .., last] = group else { return };
        let mut counts: Vec<(State, usize)> = Vec::new();
        for process in group {
            match counts.iter_mut().find(|(state, _)| *state == process.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((process.state, 1)),
            }
        }
        counts.sort_by_key(|(state, _)| badness(*state));
        let words: Vec<String> =
            counts.iter().map(|(state, count)| format!("{count} {}", state.as_str())).collect();
        let worst = counts.last().map_or(State::Ready, |(state, _)| *state);
        let names = Cell::new(format!("{} … {}", first.name, last.name));
        let counts = Cell::new(words.join(", ")).paint(colour(worst));
        rows.push(Row::across(vec![names, Cell::new(first.role.as_str())], counts));

        let mut others: Vec<&ProcessStatus> =
            group.iter().filter(|process| process.state != State::Ready).collect();
        others.sort_by_key(|process| Reverse(badness(process.state)));
        // A line that says that one is missing takes as much room as the one.
        let shown = if others.len() > FEW + 1 { FEW } else { others.len() };
        rows.extend(others[..shown].iter().map(|process| self.row(process, "  ", restarts)));
        if others.len() > shown {
            rows.push(Row::new(vec![Cell::new(format!("  … {} more", others.len() - shown))]));
        }
    }

    fn row(&self, process: &ProcessStatus, indent: &str, restarts: bool) -> Row {
        let mut cells = vec![
            Cell::new(format!("{indent}{}", process.name)),
            Cell::new(process.role.as_str()),
            Cell::new(process.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Cell::new(process.state.as_str()).paint(colour(process.state)),
        ];
        if restarts {
            let count = Some(process.restarts).filter(|count| *count > 0);
            cells.push(Cell::new(count.map(|count| count.to_string()).unwrap_or_default()));
        }
        if self.uptime {
            cells.push(Cell::new(process.uptime_seconds.map(uptime).unwrap_or_default()));
        }
        if let Some(reason) = process.reason.as_deref().filter(|_| process.state != State::Ready) {
            return Row::across(cells, Cell::new(printable(reason)));
        }
        let address = process.addresses.first().map(|address| without_peer(address)).unwrap_or_default();
        cells.push(Cell::new(printable(&address)));
        cells.push(Cell::new(printable(process.peer_id.as_deref().unwrap_or_default())));
        Row::new(cells)
    }
}

fn colour(state: State) -> u8 {
    match state {
        State::Ready => 32,
        State::Failed => 31,
        State::Stopped => 90,
        State::Pending | State::Starting | State::Stopping | State::Backoff => 33,
    }
}

/// How much a state wants to be looked at.
fn badness(state: State) -> u8 {
    match state {
        State::Ready => 0,
        State::Pending => 1,
        State::Starting => 2,
        State::Stopping => 3,
        State::Stopped => 4,
        State::Backoff => 5,
        State::Failed => 6,
    }
}

/// A multiaddr without its peer id, which has a column of its own, and without that of the relay, where it is a place at one.
fn without_peer(address: &str) -> String {
    let (start, rest) = address.split_once("/p2p/").unwrap_or((address, ""));
    let relayed = rest.contains("/p2p-circuit");
    format!("{start}{}", if relayed { "/p2p-circuit" } else { "" })
}

/// `12D3KooW…abc123`: the ends of peer ids differ, their beginnings hardly.
fn both_ends(id: &str) -> String {
    match (id.get(..8), id.len().checked_sub(6).and_then(|begin| id.get(begin..))) {
        (Some(begin), Some(end)) if id.len() > 15 => format!("{begin}…{end}"),
        _ => id.to_owned(),
    }
}

/// `…abc123`, as the console names who sent a message.
fn end(id: &str) -> String {
    match id.len().checked_sub(6).and_then(|begin| id.get(begin..)) {
        Some(end) if !end.is_empty() && id.len() > 7 => format!("…{end}"),
        _ => id.to_owned(),
    }
}

/// `41s`, `12m 5s`, `3h 20m`, `2d 4h`.
fn uptime(seconds: f64) -> String {
    // A float that is too large or negative becomes the nearest whole number there is.
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// What a person opens, and where.
fn urls(status: &Status, columns: Option<usize>) -> Vec<String> {
    let servers =
        status.processes.iter().filter(|process| matches!(process.role, Role::Web | Role::Signaling));
    let mut urls: Vec<(&str, String)> = servers
        .filter_map(|process| Some((process.name.as_str(), local_name(process.addresses.first()?))))
        .collect();
    urls.push(("metrics", local_name(&status.metrics)));
    urls.push(("stats", local_name(&status.metrics.replace("/metrics", "/stats"))));
    let width = urls.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    let line = |(what, url): (&str, String)| {
        cut(&format!("{what:width$}  {}", printable(&url)), columns.unwrap_or(usize::MAX))
    };
    urls.into_iter().map(line).collect()
}

/// `localhost` for loopback: browsers treat it as a secure context, and people read it easily.
fn local_name(url: &str) -> String {
    url.replacen("127.0.0.1", "localhost", 1).replacen("0.0.0.0", "localhost", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn process(group: &str, name: &str, state: State) -> ProcessStatus {
        ProcessStatus {
            name: name.to_owned(),
            group: group.to_owned(),
            role: Role::Node,
            state,
            pid: Some(40_000),
            generation: 1,
            restarts: 0,
            last_exit: None,
            reason: (state != State::Ready).then(|| "ended with exit code 1".to_owned()),
            uptime_seconds: Some(125.3),
            peer_id: Some(ID.to_owned()),
            addresses: vec![format!("/ip4/127.0.0.1/tcp/40123/p2p/{ID}")],
            log_error: None,
        }
    }

    fn nodes(count: usize, others: &[(usize, State)]) -> Vec<ProcessStatus> {
        let state = |number| {
            others.iter().find(|(other, _)| *other == number).map_or(State::Ready, |(_, state)| *state)
        };
        (0..count).map(|number| process("node", &format!("node-{number}"), state(number))).collect()
    }

    fn drawn(processes: &[ProcessStatus], extent: Extent, columns: Option<usize>) -> Vec<String> {
        Table { extent, uptime: true, columns }.lines(processes, false)
    }

    #[test]
    fn a_large_group_is_a_line_and_those_that_are_not_ready() {
        let swarm = nodes(100, &[(7, State::Backoff), (42, State::Failed)]);
        assert_eq!(
            drawn(&swarm, Extent::Short, Some(90)),
            [
                "process           role  pid    state    uptime  address  peer id",
                "node-0 … node-99  node  98 ready, 1 backoff, 1 failed",
                "  node-42         node  40000  failed   2m 5s   ended with exit code 1",
                "  node-7          node  40000  backoff  2m 5s   ended with exit code 1",
            ]
        );
        assert_eq!(drawn(&swarm, Extent::Full, None).len(), 101);
        assert_eq!(drawn(&nodes(FEW, &[]), Extent::Short, None).len(), FEW + 1, "a small one is not folded");
    }

    #[test]
    fn of_many_that_are_not_ready_a_few_are_shown() {
        let down: Vec<(usize, State)> = (0..30).map(|number| (number, State::Pending)).collect();
        let lines = drawn(&nodes(100, &down), Extent::Short, None);
        assert_eq!(lines.len(), 2 + FEW + 1);
        assert!(lines[1].ends_with("70 ready, 30 pending"), "{}", lines[1]);
        assert_eq!(lines[2 + FEW], "  … 22 more");
    }

    #[test]
    fn a_narrow_window_shortens_peer_ids_then_leaves_columns_out() {
        let two = nodes(2, &[]);
        let heads = |columns| drawn(&two, Extent::Short, columns).swap_remove(0);
        let row = |columns| drawn(&two, Extent::Short, columns).swap_remove(1);
        assert!(row(None).ends_with(ID));
        assert!(row(Some(200)).ends_with(ID));
        assert!(row(Some(100)).ends_with("  12D3KooW…x6nXTN"), "{}", row(Some(100)));
        assert!(row(Some(75)).ends_with("  …x6nXTN"), "{}", row(Some(75)));
        let words = |columns| heads(Some(columns)).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(75), "process role pid state uptime address peer id");
        assert_eq!(words(68), "process pid state uptime address peer id");
        assert_eq!(words(60), "process pid state uptime address");
        assert_eq!(words(45), "process state address");
    }

    #[test]
    fn a_place_at_a_relay_is_not_taken_for_the_relay() {
        assert_eq!(without_peer(&format!("/ip4/10.0.0.1/tcp/4002/p2p/{ID}")), "/ip4/10.0.0.1/tcp/4002");
        let place = format!("/ip4/10.0.0.1/tcp/4002/p2p/{ID}/p2p-circuit/p2p/{ID}");
        assert_eq!(without_peer(&place), "/ip4/10.0.0.1/tcp/4002/p2p-circuit");
        assert_eq!(without_peer("ws://127.0.0.1:8001/signal"), "ws://127.0.0.1:8001/signal");
    }

    #[test]
    fn what_a_process_says_of_itself_cannot_touch_the_terminal() {
        let mut evil = process("node", "node", State::Failed);
        evil.reason = Some("\u{1b}[2Jgone".to_owned());
        evil.peer_id = Some("\u{9b}2J".to_owned());
        evil.addresses = vec!["\u{1b}]0;x\u{7}".to_owned()];
        let mut quiet = evil.clone();
        quiet.state = State::Ready;
        for line in drawn(&[evil, quiet], Extent::Full, None) {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn uptimes_have_two_parts() {
        for (seconds, text) in [
            (0.4, "0s"),
            (59.9, "59s"),
            (60.0, "1m 0s"),
            (3599.0, "59m 59s"),
            (12_000.0, "3h 20m"),
            (187_200.0, "2d 4h"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }

    #[test]
    fn a_low_window_has_the_whole_and_says_what_is_missing() {
        let network = Status {
            topology: "test".to_owned(),
            state: crate::supervisor::wire::NetworkState::Running,
            pid: 1,
            metrics: "http://127.0.0.1:9091/metrics".to_owned(),
            processes: nodes(100, &[]),
        };
        let text = status(&network, Extent::Full, Some(20));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 20, "{text}");
        assert_eq!(lines[14], "… 87 more lines than there is room for");
        assert_eq!(lines[19], "topology test, supervisor 1, 100 of 100 processes ready");
        assert_eq!(status(&network, Extent::Short, Some(20)).lines().count(), 7);
        assert!(status(&network, Extent::Full, Some(3)).lines().count() <= 3);
    }
}
