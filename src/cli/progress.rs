//! What is shown while a network starts: a live display on a terminal, plain lines elsewhere, status notifications in the
//! background.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::foreground::Audience;
use super::output;
use crate::roles::notify::Notifier;
use crate::supervisor::lifecycle::State;
use crate::supervisor::wire::{ProcessStatus, Status};

/// Time between two pictures of a display that moves.
pub const REDRAW: Duration = Duration::from_millis(80);

/// Shows how far a start has come. Printing may wait for the terminal: not on the supervisor's thread.
pub struct Progress {
    style: Style,
    started: Instant,
    last: HashMap<String, (State, u64)>,
}

enum Style {
    /// One line per group, redrawn.
    Live { lines: MultiProgress, bars: BTreeMap<usize, ProgressBar> },
    /// One line per event.
    Plain,
    /// `STATUS=` to whoever waits for the background process.
    Notify(Notifier),
}

impl Progress {
    /// The display that suits who looks on.
    #[must_use]
    pub fn new(audience: Audience, notifier: &Notifier) -> Self {
        let style = match audience {
            Audience::Background if notifier.is_connected() => Style::Notify(Notifier::from_env()),
            Audience::Foreground if io::stderr().is_terminal() => {
                Style::Live { lines: MultiProgress::new(), bars: BTreeMap::new() }
            }
            _ => Style::Plain,
        };
        Self { style, started: Instant::now(), last: HashMap::new() }
    }

    /// Brings the display up to date.
    pub fn show(&mut self, status: &Status) {
        match &mut self.style {
            Style::Live { lines, bars } => {
                let groups = groups(status);
                let width = groups.iter().map(|group| group[0].group.len()).max().unwrap_or_default();
                for (place, group) in groups.into_iter().enumerate() {
                    let bar = bars.entry(place).or_insert_with(|| new_line(lines, group[0], width));
                    draw(bar, &group, self.started);
                }
            }
            Style::Plain => {
                for process in &status.processes {
                    let now = (process.state, process.generation);
                    if self.last.insert(process.name.clone(), now) != Some(now) {
                        print_plain(process, self.started);
                    }
                }
            }
            Style::Notify(notifier) => {
                let ready = status.processes.iter().filter(|process| process.state == State::Ready).count();
                notifier.send(&[format!("STATUS={ready} of {} processes ready", status.processes.len())]);
            }
        }
    }

    /// Whether there is something to redraw.
    #[must_use]
    pub fn moves(&self) -> bool {
        matches!(&self.style, Style::Live { bars, .. } if bars.values().any(|bar| !bar.is_finished()))
    }

    /// Moves what moves.
    pub fn redraw(&mut self) {
        if let Style::Live { bars, .. } = &self.style {
            bars.values().filter(|bar| !bar.is_finished()).for_each(ProgressBar::tick);
        }
    }

    /// Leaves the display as it is and the cursor below it.
    pub fn finish(&mut self) {
        if let Style::Live { bars, .. } = &self.style {
            for bar in bars.values().filter(|bar| !bar.is_finished()) {
                bar.set_style(style("red", &["✘", "✘"]));
                bar.abandon();
            }
            // The lines were drawn without an end to the last one.
            if !bars.is_empty() {
                output::complain("");
            }
        }
    }
}

/// The processes of each group, in start order.
fn groups(status: &Status) -> Vec<Vec<&ProcessStatus>> {
    let mut groups: Vec<Vec<&ProcessStatus>> = Vec::new();
    for process in &status.processes {
        match groups.iter_mut().find(|group| group[0].group == process.group) {
            Some(group) => group.push(process),
            None => groups.push(vec![process]),
        }
    }
    groups
}

fn new_line(lines: &MultiProgress, first: &ProcessStatus, width: usize) -> ProgressBar {
    let bar = lines.add(ProgressBar::new_spinner());
    let prefix = format!("{:width$}", first.group);
    bar.set_style(style("cyan", &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]));
    bar.set_prefix(prefix);
    bar
}

/// A line that begins with one of `signs` after the other; the last one is for when it is finished.
fn style(colour: &str, signs: &[&str]) -> ProgressStyle {
    let style = ProgressStyle::with_template(&format!("{{spinner:.{colour}}} {{prefix}}  {{wide_msg}}"));
    style.unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_strings(signs)
}

fn draw(bar: &ProgressBar, group: &[&ProcessStatus], started: Instant) {
    if bar.is_finished() {
        return;
    }
    let ready = group.iter().filter(|process| process.state == State::Ready).count();
    let trouble = group
        .iter()
        .find(|process| matches!(process.state, State::Backoff | State::Failed) || process.generation > 1)
        .or_else(|| group.iter().find(|process| process.reason.is_some()));
    let count = if group.len() > 1 { format!("{ready}/{} ", group.len()) } else { String::new() };
    if ready == group.len() {
        bar.set_style(style("green", &["✔", "✔"]));
        bar.finish_with_message(format!("{count}ready in {:.2} s", started.elapsed().as_secs_f64()));
        return;
    }
    let word = match trouble {
        Some(process) => {
            let reason = process.reason.as_deref().unwrap_or_default();
            let name = if group.len() > 1 { format!("{} ", process.name) } else { String::new() };
            format!("{name}{} {reason}", process.state.as_str())
        }
        None => "starting".to_owned(),
    };
    bar.set_message(format!("{count}{word}"));
}

fn print_plain(process: &ProcessStatus, started: Instant) {
    let name = &process.name;
    let reason = process.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match process.state {
        State::Ready => output::say(&format!("{name} ready ({:.2} s)", started.elapsed().as_secs_f64())),
        State::Backoff | State::Failed | State::Stopped => {
            output::say(&format!("{name} {}{reason}", process.state.as_str()));
        }
        State::Starting if process.generation > 1 => output::say(&format!("{name} started again{reason}")),
        _ => {}
    }
}
