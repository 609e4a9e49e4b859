//! A log line for people: `node-0 │ 12:00:01.123 INFO message key=value`.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::LogLine;

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
    let name = &line.process;
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
        Err(_) => push_clean(&mut out, &line.json),
    }
    out
}

fn body(out: &mut String, fields: &Map<String, Value>, paint: Paint) {
    if let Some(time) = fields.get("timestamp").and_then(Value::as_str) {
        // 2026-01-01T12:00:01.123456Z → 12:00:01.123
        let clock: String = time.chars().skip(11).take(12).collect();
        push_clean(out, clock.trim_end_matches('Z'));
        out.push(' ');
    }
    if let Some(level) = fields.get("level").and_then(Value::as_str) {
        let colour = match (paint, level) {
            (Paint::Colour, "ERROR") => Some(31),
            (Paint::Colour, "WARN") => Some(33),
            (Paint::Colour, "DEBUG" | "TRACE") => Some(90),
            _ => None,
        };
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
        push_clean(out, message);
    }
    for (key, value) in fields {
        if matches!(key.as_str(), "timestamp" | "level" | "message" | "target") {
            continue;
        }
        out.push(' ');
        push_clean(out, key);
        out.push('=');
        match value {
            Value::String(text) => push_clean(out, text),
            other => push_clean(out, &other.to_string()),
        }
    }
}

/// Text of a process goes to a terminal: control characters are shown, not sent.
fn push_clean(out: &mut String, text: &str) {
    for c in text.chars() {
        if c == '\t' {
            out.push(' ');
        } else if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
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
}
