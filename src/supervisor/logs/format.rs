//! A log line for people: `node-0 │ 12:00:01.123 INFO message key=value`.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::LogLine;
use crate::control::printable::{self, printable};

/// How a line is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// No escape sequences.
    Plain,
    /// The process's name and the level in colour.
    Colour,
}

/// Colours of process names: readable on dark and light backgrounds, red and yellow left to the levels.
const NAME_COLOURS: [u8; 8] = [36, 35, 34, 32, 96, 95, 94, 92];

/// Formats one line; `width` is the length of the longest process name.
#[must_use]
pub fn line(line: &LogLine, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    // A file in the folder of logs may be called anything.
    let name = &printable(&line.process);
    match paint {
        Paint::Plain => {
            let _ = write!(out, "{name:width$} │ ");
        }
        Paint::Colour => {
            let colour = NAME_COLOURS[hash(name) % NAME_COLOURS.len()];
            let _ = write!(out, "\x1b[{colour}m{name:width$} │\x1b[0m ");
        }
    }
    match serde_json::from_str::<Map<String, Value>>(&line.json) {
        Ok(fields) => body(&mut out, &fields, paint),
        Err(_) => printable::push(&mut out, &line.json),
    }
    out
}

fn body(out: &mut String, fields: &Map<String, Value>, paint: Paint) {
    if let Some(time) = fields.get("timestamp").and_then(Value::as_str) {
        // 2026-01-01T12:00:01.123456Z → 12:00:01.123
        let clock: String = time.chars().skip(11).take(12).collect();
        printable::push(out, clock.trim_end_matches('Z'));
        out.push(' ');
    }
    if let Some(level) = fields.get("level").and_then(Value::as_str) {
        let colour = match (paint, level) {
            (Paint::Colour, "ERROR") => Some(31),
            (Paint::Colour, "WARN") => Some(33),
            (Paint::Colour, "DEBUG" | "TRACE") => Some(90),
            _ => None,
        };
        let level = printable(level);
        match colour {
            Some(colour) => {
                let _ = write!(out, "\x1b[{colour}m{level:<5}\x1b[0m ");
            }
            None => {
                let _ = write!(out, "{level:<5} ");
            }
        }
    }
    if let Some(message) = fields.get("message").and_then(Value::as_str) {
        printable::push(out, message);
    }
    for (key, value) in fields {
        if matches!(key.as_str(), "timestamp" | "level" | "message" | "target") {
            continue;
        }
        out.push(' ');
        printable::push(out, key);
        out.push('=');
        match value {
            Value::String(text) => printable::push(out, text),
            other => printable::push(out, &other.to_string()),
        }
    }
}

fn hash(name: &str) -> usize {
    name.bytes().fold(5381_usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_well_and_sends_no_escape_sequence_of_a_process() {
        let log = LogLine {
            process: "node-0".into(),
            json: r#"{"timestamp":"2026-01-01T12:00:01.123456Z","level":"INFO","message":"hi \u001b[2J","peer":"x","target":"t"}"#
                .into(),
        };
        assert_eq!(line(&log, 8, Paint::Plain), "node-0   │ 12:00:01.123 INFO  hi \\u{1b}[2J peer=x");
    }

    #[test]
    fn nor_does_a_name() {
        let log = LogLine { process: "n\u{1b}[2J".into(), json: "{}".into() };
        assert_eq!(line(&log, 2, Paint::Plain), "n\\u{1b}[2J │ ");
    }

    #[test]
    fn no_part_of_a_line_reaches_the_terminal_as_it_is() {
        let evil = "\u{1b}]0;x\u{7}\u{202e}\n";
        for key in ["timestamp", "level", "message", "target", "other", evil] {
            let json = serde_json::json!({ key: format!("2026-01-01T{evil}"), "nested": [evil] }).to_string();
            for paint in [Paint::Plain, Paint::Colour] {
                let line = line(&LogLine { process: "n".into(), json: json.as_str().into() }, 1, paint);
                let body = line.split_once('│').unwrap().1.trim_start_matches("\u{1b}[0m");
                assert!(!body.contains(['\u{1b}', '\u{7}', '\u{202e}', '\n']), "{key:?}: {line:?}");
            }
        }
    }
}
