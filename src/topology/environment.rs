//! `${NAME}` in the strings of a topology: replaced by value, once, after the file is parsed.
//!
//! What comes from the environment is never read again: a value that itself contains `${…}`, quotes or
//! newlines is that text and nothing more.

use std::borrow::Cow;
use std::ops::Range;

/// Looks a variable up; `None` where it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks `name` up in the environment of this process. A value that is not UTF-8 counts as not set.
#[must_use]
pub fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What is wrong with one `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The variable is not set and there is no default.
    Unset(String),
    /// No `}` follows.
    Unclosed,
    /// What stands there is no name of a variable.
    BadName(String),
    /// A `${` inside the default.
    Nested,
}

/// `text` with every `${NAME}` and `${NAME:-default}` replaced and `$$` made a single dollar.
///
/// As in a shell, the default of `:-` also stands in for an empty value.
///
/// # Errors
/// Every problem, with its place in `text` in bytes.
pub(super) fn substitute<'a>(
    text: &'a str,
    lookup: Lookup<'_>,
) -> Result<Cow<'a, str>, Vec<(Range<usize>, Problem)>> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = 0;
    while let Some(found) = text[rest..].find('$') {
        let dollar = rest + found;
        out.push_str(&text[rest..dollar]);
        let after = &text[dollar + 1..];
        if after.starts_with('$') {
            out.push('$');
            rest = dollar + 2;
        } else if let Some(inner) = after.strip_prefix('{') {
            let Some(length) = inner.find('}') else {
                problems.push((dollar..text.len(), Problem::Unclosed));
                rest = text.len();
                break;
            };
            rest = dollar + 2 + length + 1;
            match value(&inner[..length], lookup) {
                Ok(value) => out.push_str(&value),
                Err(problem) => problems.push((dollar..rest, problem)),
            }
        } else {
            out.push('$');
            rest = dollar + 1;
        }
    }
    out.push_str(&text[rest..]);
    if problems.is_empty() { Ok(Cow::Owned(out)) } else { Err(problems) }
}

fn value<'a>(inner: &'a str, lookup: Lookup<'_>) -> Result<Cow<'a, str>, Problem> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    if !valid {
        return Err(Problem::BadName(name.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Problem::Nested);
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(Cow::Owned(value)),
        (Some(value), Some(_)) if !value.is_empty() => Ok(Cow::Owned(value)),
        (_, Some(default)) => Ok(Cow::Borrowed(default)),
        (None, None) => Err(Problem::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("127.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}\" \n[turn]".to_owned()),
            _ => None,
        }
    }

    fn done(text: &str) -> String {
        substitute(text, &env).expect("no problem").into_owned()
    }

    #[test]
    fn replaces_by_value() {
        assert_eq!(done("no dollars"), "no dollars");
        assert_eq!(done("/ip4/${HOST}/tcp/0"), "/ip4/127.0.0.1/tcp/0");
        assert_eq!(done("${MISSING:-a:-b}"), "a:-b");
        assert_eq!(done("${HOST:-other}"), "127.0.0.1");
        assert_eq!(done("<${EMPTY}>"), "<>");
        assert_eq!(done("${EMPTY:-default}"), "default");
        assert_eq!(done("${MISSING:-}"), "");
    }

    #[test]
    fn a_value_is_not_read_again() {
        assert_eq!(done("${TRICK}"), "${HOST}\" \n[turn]");
    }

    #[test]
    fn two_dollars_are_one() {
        assert_eq!(done("$${HOST}"), "${HOST}");
        assert_eq!(done("5$ and $x and $$"), "5$ and $x and $");
        assert_eq!(done("$$$${HOST}"), "$${HOST}");
        assert_eq!(done("$$${HOST}"), "$127.0.0.1");
    }

    #[test]
    fn every_problem_with_its_place() {
        let problems = substitute("${A} ${HOST} ${1B} ${C:-${D}} ${E", &env).expect_err("problems");
        assert_eq!(
            problems,
            [
                (0..4, Problem::Unset("A".to_owned())),
                (13..18, Problem::BadName("1B".to_owned())),
                (19..28, Problem::Nested),
                (30..33, Problem::Unclosed),
            ]
        );
    }
}
