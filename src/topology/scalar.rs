//! The single values of a topology file: numbers with bounds, durations, sizes, names, words.
//!
//! Each type holds its bounds, so that reading and the editor's schema cannot disagree.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Mistake;
use super::plan::RestartWhen;
use super::reader::{FromToml, Reader, shown, suggestion};
use crate::signaling::origin::AllowedOrigin;

/// An integer from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Integer<const MIN: u32, const MAX: u32>(pub(super) u32);

/// A TCP port; 0 is any free one.
pub(super) type Port = Integer<0, 65_535>;

impl Port {
    /// The port as sockets have it; the type's bounds are those of a port.
    pub(super) fn number(self) -> u16 {
        u16::try_from(self.0).unwrap_or(0)
    }
}

impl Integer<1024, 65_535> {
    /// The same for a port that must be one.
    pub(super) fn number_u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }
}

impl<const MIN: u32, const MAX: u32> FromToml for Integer<MIN, MAX> {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(written) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::String(text) if text.trim().parse::<i64>().is_ok() => {
                    format!("write it without quotes: {}", text.trim())
                }
                _ => format!("write a whole number from {MIN} to {MAX}"),
            };
            reader.wrong_type(value, "an integer", help);
            return None;
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        match number.and_then(|number| u32::try_from(number).ok()) {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                let message = format!("`{}` is {written}, must be from {MIN} to {MAX}", reader.path());
                reader.record(
                    Mistake::new(value.span(), message, "out of range")
                        .help(format!("write a whole number from {MIN} to {MAX}")),
                );
                None
            }
        }
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Integer<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("IntegerFrom{MIN}To{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A duration from `MIN_MS` to `MAX_MS` milliseconds; with `OR_ZERO` also none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period<const MIN_MS: u64, const MAX_MS: u64, const OR_ZERO: bool = false>(
    pub(super) Duration,
);

impl<const MIN_MS: u64, const MAX_MS: u64, const OR_ZERO: bool> Period<MIN_MS, MAX_MS, OR_ZERO> {
    fn bounds() -> String {
        let written = |millis| humantime::format_duration(Duration::from_millis(millis)).to_string();
        let zero = if OR_ZERO { "0s, or " } else { "" };
        format!("{zero}from {} to {}", written(MIN_MS), written(MAX_MS))
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64, const OR_ZERO: bool> FromToml for Period<MIN_MS, MAX_MS, OR_ZERO> {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = value.get_ref() {
            reader.wrong_type(value, "a string", format!("write it with a unit, like \"{number}s\""));
            return None;
        }
        let text = reader.string(value, "30s")?;
        let path = reader.path();
        let duration = match humantime::parse_duration(&text) {
            Ok(duration) => duration,
            Err(error) => {
                let message = format!("`{path}` is no duration: \"{}\"", shown(&text));
                // The library's list of all units, from months to nanoseconds, would only distract.
                let label = error.to_string();
                let label = label.split(", supported").next().unwrap_or_default();
                reader.record(
                    Mistake::new(value.span(), message, label)
                        .help("write a number and a unit, like \"100ms\", \"30s\", \"5m\" or \"1h\""),
                );
                return None;
            }
        };
        let allowed = Duration::from_millis(MIN_MS)..=Duration::from_millis(MAX_MS);
        if allowed.contains(&duration) || (OR_ZERO && duration.is_zero()) {
            return Some(Self(duration));
        }
        let message = format!("`{path}` is {}, must be {}", shown(&text), Self::bounds());
        reader.record(
            Mistake::new(value.span(), message, "out of range")
                .help(format!("write a duration {}", Self::bounds())),
        );
        None
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64, const OR_ZERO: bool> JsonSchema
    for Period<MIN_MS, MAX_MS, OR_ZERO>
{
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("DurationFrom{MIN_MS}To{MAX_MS}Zero{OR_ZERO}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["100ms", "30s", "5m", "1h"] })
    }
}

/// A number of bytes from `MIN` to `MAX`: an integer, or a string with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

/// The units that sizes may have, and how many bytes each is.
const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// How a size is to be written.
const SIZE_HELP: &str = "write a number of bytes, or a string with a unit, like \"512 KiB\" or \"10 MiB\"";

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl<const MIN: u64, const MAX: u64> FromToml for Size<MIN, MAX> {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let (bytes, written) = match value.get_ref() {
            DeValue::Integer(number) => {
                let bytes = i128::from_str_radix(number.as_str(), number.radix()).ok();
                (bytes.and_then(|bytes| u64::try_from(bytes).ok()), number.to_string())
            }
            DeValue::String(_) => {
                let text = reader.string(value, "10 MiB")?;
                let Some(bytes) = parse_size(&text) else {
                    let message = format!("`{}` is no size: \"{}\"", reader.path(), shown(&text));
                    reader.record(Mistake::new(value.span(), message, "not a size").help(SIZE_HELP));
                    return None;
                };
                (Some(bytes), shown(&text))
            }
            _ => {
                reader.wrong_type(value, "a size", SIZE_HELP);
                return None;
            }
        };
        if let Some(bytes) = bytes.filter(|bytes| (MIN..=MAX).contains(bytes)) {
            return Some(Self(bytes));
        }
        let message = format!("`{}` is {written}, must be from {MIN} to {MAX} bytes", reader.path());
        reader.record(Mistake::new(value.span(), message, "out of range").help(SIZE_HELP));
        None
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Size<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("SizeFrom{MIN}To{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "examples": ["512 KiB", "10 MiB", "1 GiB"] },
            { "type": "integer", "minimum": MIN, "maximum": MAX },
        ] })
    }
}

impl FromToml for bool {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Boolean(flag) = value.get_ref() else {
            reader.wrong_type(value, "a boolean", "write true or false, without quotes");
            return None;
        };
        Some(*flag)
    }
}

/// Longest name in characters: it becomes the name of a folder and a file.
const MAX_NAME: usize = 63;

/// A name of lower-case letters, digits and dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

/// Whether `text` is a good [`Name`].
pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

impl FromToml for Name {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "node")?;
        if is_name(&text) {
            return Some(Self(text));
        }
        let label = match text.len() {
            0 => "empty",
            length if length > MAX_NAME => "too long",
            _ => "not a name",
        };
        let message = format!("`{}` is no good name: \"{}\"", reader.path(), shown(&text));
        reader.record(Mistake::new(value.span(), message, label).help(format!(
            "a name has 1 to {MAX_NAME} lower-case letters, digits and dashes, and does not start with a dash"
        )));
        None
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The name of a gossipsub topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic(pub(super) String);

impl FromToml for Topic {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "lobby")?;
        // The node's own rule: what is good here must not be refused there.
        let error = match text.parse::<crate::p2p::Topic>() {
            Ok(_) => return Some(Self(text)),
            Err(error) => error,
        };
        let message = format!("\"{}\" is no good name of a topic", shown(&text));
        reader.record(Mistake::new(value.span(), message, "not as a node takes it").help(error.to_string()));
        None
    }
}

impl JsonSchema for Topic {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Topic".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Where a file is, by its path; a relative one begins in the folder that the network is started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) PathBuf);

impl FromToml for FilePath {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "certificates/node.pem")?;
        if !text.is_empty() && !text.contains('\0') {
            return Some(Self(text.into()));
        }
        let message = format!("`{}` is no path of a file: \"{}\"", reader.path(), shown(&text));
        reader.record(
            Mistake::new(value.span(), message, "not a path").help("write it like \"certificates/node.pem\""),
        );
        None
    }
}

impl JsonSchema for FilePath {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FilePath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Whose pages a signaling server admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin(pub(super) AllowedOrigin);

impl FromToml for Origin {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "https://chat.example.org")?;
        match text.parse::<AllowedOrigin>() {
            Ok(origin) => Some(Self(origin)),
            Err(error) => {
                let message = format!("\"{}\" is no origin of web pages", shown(&text));
                let mistake = Mistake::new(value.span(), message, "not an origin");
                reader.record(mistake.help(error.to_string()));
                None
            }
        }
    }
}

impl JsonSchema for Origin {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Origin".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["https://chat.example.org", "*"] })
    }
}

/// An address to bind: an IP address, or `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bind(pub(super) IpAddr);

impl FromToml for Bind {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "127.0.0.1")?;
        if text == "localhost" {
            return Some(Self(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        if let Ok(address) = text.parse() {
            return Some(Self(address));
        }
        let message = format!("`{}` is no IP address: \"{}\"", reader.path(), shown(&text));
        reader.record(Mistake::new(value.span(), message, "not an IP address").help(
            "write an address without a port, like \"127.0.0.1\", \"::1\" or \"0.0.0.0\", or \"localhost\"",
        ));
        None
    }
}

impl JsonSchema for Bind {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Bind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1", "0.0.0.0", "localhost"] })
    }
}

/// The words for [`RestartWhen`].
const POLICIES: [(&str, RestartWhen); 3] =
    [("always", RestartWhen::Always), ("on-failure", RestartWhen::OnFailure), ("never", RestartWhen::Never)];

/// Which endings lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy(pub(super) RestartWhen);

impl FromToml for Policy {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "always")?;
        if let Some((_, policy)) = POLICIES.iter().find(|(word, _)| *word == text) {
            return Some(Self(*policy));
        }
        let message = format!("unknown restart policy \"{}\"", shown(&text));
        let words = POLICIES.iter().map(|(word, _)| *word);
        reader.record(Mistake::new(value.span(), message, "unknown policy").help(suggestion(
            &text,
            words,
            "the policies are",
        )));
        None
    }
}

impl JsonSchema for Policy {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Policy".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The second form is for a value out of the environment.
        json_schema!({ "anyOf": [
            { "enum": POLICIES.map(|(word, _)| word) },
            { "type": "string", "pattern": r"\$\{" },
        ] })
    }
}
