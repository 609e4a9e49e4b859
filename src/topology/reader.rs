//! Reads parsed TOML, value by value, and goes on after a mistake so that all of them come out at once.
//!
//! Knows how TOML looks but none of the topology's keys: each key's type says how it is read.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{self, Lookup, Problem};
use super::mistake::Mistake;
use crate::control::nearest::nearest;

/// A value and where it stands in the file, in bytes.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// What a table says under one key.
#[derive(Debug, Clone, Default)]
pub(super) enum Key<T> {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is wrong; the mistake is recorded already.
    Bad,
    /// A good value.
    Given(At<T>),
}

impl<T> Key<T> {
    /// The value, if it is good.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Key::Given(at) => Some(at),
            Key::Absent | Key::Bad => None,
        }
    }

    /// The value without its place, if it is good.
    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// Whether there is something wrong under this key.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Key::Bad)
    }
}

/// A type that one TOML value can be read as.
pub(super) trait FromToml: Sized {
    /// Reads `value`. `None` if it is unusable; then at least one mistake has been recorded.
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Walks one parsed file and gathers mistakes.
pub(super) struct Reader<'a> {
    text: &'a str,
    lookup: Lookup<'a>,
    path: Vec<&'static str>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// A reader of values parsed from `text`.
    pub(super) fn new(text: &'a str, lookup: Lookup<'a>) -> Self {
        Self { text, lookup, path: Vec::new(), mistakes: Vec::new() }
    }

    /// What was wrong.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Records `mistake`.
    pub(super) fn record(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The key being read, with the tables around it, e.g. `nodes.count`.
    pub(super) fn path(&self) -> String {
        self.path.join(".")
    }

    /// Records that `value` is of the wrong type; `wanted` reads like `an integer`.
    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str, help: impl Into<String>) {
        let found = kind(value.get_ref());
        let mistake =
            Mistake::new(value.span(), format!("`{}` must be {wanted}, not {found}", self.path()), found)
                .help(help);
        self.record(mistake);
    }

    /// What `table` says under `key`.
    pub(super) fn key<T: FromToml>(&mut self, table: &DeTable<'_>, key: &'static str) -> Key<T> {
        let Some(value) = table.get(key) else { return Key::Absent };
        self.path.push(key);
        let read = T::from_toml(value, self);
        self.path.pop();
        match read {
            Some(read) => Key::Given(At { value: read, span: value.span() }),
            None => Key::Bad,
        }
    }

    /// Records every key of `table` that is not one of `known`.
    pub(super) fn deny_unknown(&mut self, table: &DeTable<'_>, known: &[&'static str]) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let help = suggestion(name, known.iter().copied(), "the keys here are");
            let message = format!("unknown key `{}`", shown(name));
            self.record(Mistake::new(key.span(), message, "unknown key").help(help));
        }
    }

    /// `value` as a table.
    pub(super) fn table<'v, 'i>(&mut self, value: &'v Spanned<DeValue<'i>>) -> Option<&'v DeTable<'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                    format!("there can be only one; write [{}], with single brackets", self.path())
                }
                _ => format!("write a table, like [{0}] or {0} = {{ … }}", self.path()),
            };
            self.wrong_type(value, "a table", help);
            return None;
        };
        Some(table)
    }

    /// `value` as a string, with what it takes from the environment put in.
    pub(super) fn string(&mut self, value: &Spanned<DeValue<'_>>, example: &str) -> Option<String> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(value, "a string", format!("write it in quotes, like \"{example}\""));
            return None;
        };
        match environment::substitute(text, self.lookup) {
            Ok(text) => Some(text.into_owned()),
            Err(problems) => {
                for (place, problem) in problems {
                    let span = self.within_string(value.span(), text, place);
                    self.record(substitution_mistake(span, problem));
                }
                None
            }
        }
    }

    /// Where `place` of a string's value stands in the file: exact as long as the string is written
    /// without escapes, else the whole string.
    fn within_string(&self, span: Range<usize>, value: &str, place: Range<usize>) -> Range<usize> {
        let written = self.text.get(span.clone()).unwrap_or_default();
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
        let inner = written.get(quotes..written.len().saturating_sub(quotes));
        if inner == Some(value) {
            span.start + quotes + place.start..span.start + quotes + place.end
        } else {
            span
        }
    }
}

fn substitution_mistake(span: Range<usize>, problem: Problem) -> Mistake {
    match problem {
        Problem::Unset(name) => {
            Mistake::new(span, format!("the environment variable `{name}` is not set"), "not set")
                .help(format!("set it, or give a default: ${{{name}:-value}}"))
        }
        Problem::Unclosed => Mistake::new(span, "`${` without its closing `}`", "not closed")
            .help("write ${NAME}, or $$ for a dollar sign"),
        Problem::BadName(name) => {
            Mistake::new(span, format!("`{}` is no name of a variable", shown(&name)), "not a name").help(
                "write ${NAME} or ${NAME:-default}; a name has letters, digits and `_`; $$ is a dollar sign",
            )
        }
        Problem::Nested => Mistake::new(span, "a default cannot contain `${`", "nested")
            .help("a default is taken as it stands; set the variable instead"),
    }
}

/// The type of a TOML value, in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `text` fit for a message: control characters escaped, and not longer than a line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// A hint for `wrong` out of the `known` words: the nearest one if it is near, and all of them.
pub(super) fn suggestion<'k>(wrong: &str, known: impl Iterator<Item = &'k str>, all: &str) -> String {
    const MOST_LISTED: usize = 12;
    let known: Vec<&str> = known.collect();
    let nearest = nearest(wrong, known.iter().copied());
    let mut list: Vec<Cow<'_, str>> =
        known.iter().take(MOST_LISTED).map(|word| Cow::Owned(format!("`{word}`"))).collect();
    if known.len() > MOST_LISTED {
        list.push(Cow::Borrowed("…"));
    }
    let list = list.join(", ");
    match nearest {
        Some(word) => format!("did you mean `{word}`? ({all} {list})"),
        None => format!("{all} {list}"),
    }
}

/// A list of at least `MIN` and at most `MAX` values; bad ones are left out.
#[derive(Debug, Clone)]
pub(super) struct List<T, const MIN: usize, const MAX: usize> {
    /// The good values.
    pub(super) items: Vec<At<T>>,
    /// Whether there were bad ones.
    pub(super) has_bad: bool,
}

impl<T: FromToml, const MIN: usize, const MAX: usize> FromToml for List<T, MIN, MAX> {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::Table(_) => format!("write [[{}]], with double brackets", reader.path()),
                _ => "put it in square brackets".to_owned(),
            };
            reader.wrong_type(value, "a list", help);
            return None;
        };
        if !(MIN..=MAX).contains(&items.len()) {
            let mistake = Mistake::new(
                value.span(),
                format!("`{}` has {} entries, must have from {MIN} to {MAX}", reader.path(), items.len()),
                "wrong number of entries",
            );
            reader.record(mistake.help(match items.len() {
                0 => "give at least one, or leave the key out for its default",
                _ => "give fewer",
            }));
            return None;
        }
        let good = all(items.iter(), reader);
        Some(Self { has_bad: good.len() < items.len(), items: good })
    }
}

impl<T: JsonSchema, const MIN: usize, const MAX: usize> JsonSchema for List<T, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let mut schema = json_schema!({ "type": "array", "items": items });
        if MIN > 0 {
            schema.insert("minItems".to_owned(), MIN.into());
        }
        if MAX < usize::MAX {
            schema.insert("maxItems".to_owned(), MAX.into());
        }
        schema
    }
}

/// One table, or a list of them.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<At<T>>);

impl<T: FromToml> FromToml for OneOrMany<T> {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Array(items) => Some(Self(all(items.iter(), reader))),
            _ => T::from_toml(value, reader).map(|read| Self(vec![At { value: read, span: value.span() }])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
    }
}

fn all<'v, 'i: 'v, T: FromToml>(
    items: impl Iterator<Item = &'v Spanned<DeValue<'i>>>,
    reader: &mut Reader<'_>,
) -> Vec<At<T>> {
    let read = items.filter_map(|item| Some(At { value: T::from_toml(item, reader)?, span: item.span() }));
    read.collect()
}

/// The schema of a key is that of its value: whether it must be there is the table's business.
impl<T: JsonSchema> JsonSchema for Key<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}
