//! JSON text with the place of each value in it, for mistakes that point at them.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::mistake::Mistake;

/// A value and where it stands, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

/// The name of a member of a table, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) span: Range<usize>,
    pub(super) name: String,
}

impl Value {
    /// The type, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "an object",
        }
    }
}

/// Reads `text`, whose syntax `serde_json` judges; its limit of 128 levels bounds the depth here, too.
///
/// # Errors
/// What is wrong with the syntax.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let line_start: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = line_start + error.column().saturating_sub(1);
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        Mistake::new(at..at + 1, format!("broken JSON: {said}"), "here").help(
            "keys and texts stand in double quotes; a comma stands between two values, none after the last",
        )
    })?;
    let mut scan = Scan { text, at: 0 };
    // Only text that is JSON gets here.
    scan.node().ok_or_else(|| Mistake::of_file("broken JSON"))
}

/// Walks over text that is known to be JSON.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next character that means something.
    fn next(&mut self) -> Option<char> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn node(&mut self) -> Option<Node> {
        let first = self.next()?;
        let start = self.at;
        let value = match first {
            '{' => Value::Table(self.members()?),
            '[' => Value::List(self.items()?),
            '"' => Value::Text(self.string()?),
            _ => {
                let end = self.rest().find([',', ']', '}']).unwrap_or(self.rest().len());
                let word = self.rest().get(..end)?.trim_end().to_owned();
                self.at += word.len();
                match word.as_str() {
                    "null" => Value::Null,
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    _ => Value::Number(word),
                }
            }
        };
        Some(Node { span: start..self.at, value })
    }

    fn string(&mut self) -> Option<String> {
        let mut escaped = false;
        let end = self.rest().char_indices().skip(1).find_map(|(at, char)| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends.then_some(at + 1)
        })?;
        let read = serde_json::from_str(self.rest().get(..end)?).ok()?;
        self.at += end;
        Some(read)
    }

    fn items(&mut self) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            match self.next()? {
                ']' => {
                    self.at += 1;
                    return Some(items);
                }
                ',' => self.at += 1,
                _ => items.push(self.node()?),
            }
        }
    }

    fn members(&mut self) -> Option<Vec<(Key, Node)>> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            match self.next()? {
                '}' => {
                    self.at += 1;
                    return Some(members);
                }
                ',' => self.at += 1,
                _ => {
                    let start = self.at;
                    let name = self.string()?;
                    let key = Key { span: start..self.at, name };
                    // The colon.
                    self.next()?;
                    self.at += 1;
                    members.push((key, self.node()?));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_where_it_stands() {
        let text = "\u{20}{ \"a\\\"}\" : [1, -2.5e3 , \"x, é]\"],\n \"b\":{\"c\":null,\"d\":true}, \"e\": {}, \"f\": [ ] } ";
        let root = parse(text).expect("JSON");
        let Value::Table(members) = &root.value else { panic!("{root:?}") };
        let written = |node: &Node| text[node.span.clone()].to_owned();
        let shown: Vec<(String, String)> =
            members.iter().map(|(key, node)| (key.name.clone(), written(node))).collect();
        let expected = [
            ("a\"}", "[1, -2.5e3 , \"x, é]\"]"),
            ("b", "{\"c\":null,\"d\":true}"),
            ("e", "{}"),
            ("f", "[ ]"),
        ];
        assert_eq!(shown, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let Value::List(items) = &members[0].1.value else { panic!("{members:?}") };
        assert_eq!(items.iter().map(written).collect::<Vec<_>>(), ["1", "-2.5e3", "\"x, é]\""]);
    }

    #[test]
    fn what_is_no_json_is_pointed_at() {
        for (text, at) in [("{\n  \"a\": 1,\n}", 13), ("[1 2]", 3), ("", 0), ("{\"a\" 1}", 5)] {
            let mistake = parse(text).expect_err(text);
            let (span, _) = mistake.labels().next().expect("a place");
            assert!(span.start.abs_diff(at) <= 1, "{text:?}: {span:?}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
