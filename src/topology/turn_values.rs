//! The values that only `[turn]` has: engines, addresses and networks, realms and host names.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Mistake;
use super::plan::TurnEngine;
use super::reader::{FromToml, Reader, shown, suggestion};
use crate::control::host;
use crate::turn::cidr::Cidr;

/// Longest realm in bytes (RFC 8489, section 14.9, allows 763; no browser shows one).
const MAX_REALM: usize = 127;

/// The words for [`TurnEngine`].
pub(super) const ENGINES: [(&str, TurnEngine); 3] =
    [("embedded", TurnEngine::Embedded), ("coturn", TurnEngine::Coturn), ("external", TurnEngine::External)];

/// Who relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Engine(pub(super) TurnEngine);

impl FromToml for Engine {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "embedded")?;
        if let Some((_, engine)) = ENGINES.iter().find(|(word, _)| *word == text) {
            return Some(Self(*engine));
        }
        let message = format!("unknown engine \"{}\"", shown(&text));
        let words = ENGINES.iter().map(|(word, _)| *word);
        let help = suggestion(&text, words, "the engines are");
        reader.record(Mistake::new(value.span(), message, "unknown engine").help(help));
        None
    }
}

impl JsonSchema for Engine {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Engine".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The second form is for a value out of the environment.
        json_schema!({ "anyOf": [
            { "enum": ENGINES.map(|(word, _)| word) },
            { "type": "string", "pattern": r"\$\{" },
        ] })
    }
}

/// A value that is written as a string and understood by a function.
macro_rules! texts {
    ($(
        $(#[$meta:meta])*
        $name:ident($inner:ty): $what:literal, $label:literal, $help:literal, [$example:literal $(, $more:literal)*],
        $parse:expr;
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl FromToml for $name {
            fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
                let text = reader.string(value, $example)?;
                let parse: fn(&str) -> Option<$inner> = $parse;
                let read = parse(&text).map(Self);
                if read.is_none() {
                    let message = format!("`{}` has {}: \"{}\"", reader.path(), $what, shown(&text));
                    reader.record(Mistake::new(value.span(), message, $label).help($help));
                }
                read
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": [$example $(, $more)*] })
            }
        }
    )*};
}

texts! {
    /// A network of addresses.
    Network(Cidr): "no network of addresses", "not a network",
        "write an address and how many of its leading bits count, the others being 0, like \"10.0.0.0/8\" or \"fd00::/8\"; an address alone is itself",
        ["10.0.0.0/8", "fd00::/8", "192.0.2.7"],
        |text| text.parse().ok();

    /// An address that others know a relay by.
    Address(IpAddr): "no IP address", "not an IP address",
        "write an address without a port, like \"203.0.113.7\" or \"2001:db8::7\"",
        ["203.0.113.7", "2001:db8::7"],
        |text| text.parse().ok().filter(|address: &IpAddr| !address.is_unspecified() && !address.is_multicast());

    /// The realm of long-term credentials.
    Realm(String): "no realm", "not a realm",
        "a realm has 1 to 127 characters of ASCII, without spaces and quotes, like \"example.org\"",
        ["hippius", "example.org"],
        |text| {
            let good = |byte: u8| byte.is_ascii_graphic() && !b"\"\\'".contains(&byte);
            ((1..=MAX_REALM).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
        };

    /// The host name that browsers are told.
    Host(String): "no host name", "not a host",
        "write a name or an address without scheme and port, like \"turn.example.org\" or \"[2001:db8::7]\"",
        ["turn.example.org", "203.0.113.7"],
        |text| host::host_of(text).filter(|host| *host == text).map(str::to_owned);
}
