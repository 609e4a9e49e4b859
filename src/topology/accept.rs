//! From whom a node takes files: a word or a list of peer ids.

use std::borrow::Cow;

use libp2p::PeerId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Mistake;
use super::reader::{FromToml, Reader, shown, suggestion};
use crate::p2p::direct::config::Accept;

/// Most peers in the list.
const MAX_PEERS: usize = 1_000;

/// See the module's comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AcceptFrom(pub(super) Accept);

impl FromToml for AcceptFrom {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => {
                let word = reader.string(value, "ask")?;
                if let Some(accept) = Accept::of_word(&word) {
                    return Some(Self(accept));
                }
                let message = format!("`{}` cannot be \"{}\"", reader.path(), shown(&word));
                let words = Accept::WORDS.map(|(word, _)| word);
                let help = suggestion(&word, words.into_iter(), "a list of peer ids, or one of");
                reader.record(Mistake::new(value.span(), message, "unknown word").help(help));
                None
            }
            DeValue::Array(items) if items.len() <= MAX_PEERS => {
                let peers: Vec<PeerId> = items.iter().filter_map(|item| peer(item, reader)).collect();
                (peers.len() == items.len()).then_some(Self(Accept::From(peers)))
            }
            DeValue::Array(items) => {
                let message =
                    format!("`{}` has {} entries, must have at most {MAX_PEERS}", reader.path(), items.len());
                reader.record(Mistake::new(value.span(), message, "wrong number of entries"));
                None
            }
            _ => {
                let help = "write \"ask\", \"always\", \"never\", or peer ids in square brackets";
                reader.wrong_type(value, "a word or a list of peer ids", help);
                None
            }
        }
    }
}

fn peer(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<PeerId> {
    let text = reader.string(value, "12D3KooW…")?;
    let peer = text.parse().ok();
    if peer.is_none() {
        let message = format!("\"{}\" is no peer id", shown(&text));
        let help = "a peer id is the last part of a node's addresses, as `hippius status` shows them";
        reader.record(Mistake::new(value.span(), message, "not a peer id").help(help));
    }
    peer
}

impl JsonSchema for AcceptFrom {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AcceptFrom".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The second form is for a value out of the environment.
        json_schema!({ "anyOf": [
            { "enum": Accept::WORDS.map(|(word, _)| word) },
            { "type": "string", "pattern": r"\$\{" },
            { "type": "array", "items": { "type": "string" }, "maxItems": MAX_PEERS },
        ] })
    }
}
