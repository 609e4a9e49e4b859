//! From whom files are taken, and how much of them.

use libp2p::PeerId;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The `files` table of a node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// From whom. Default `ask`: nothing of a stranger is written to the disk unless somebody here has agreed.
    pub accept: Accept,
    /// Largest file taken, in bytes. Default 1 GiB.
    pub max_file: u64,
    /// All received files together, and those that are arriving, in bytes. Default 4 GiB.
    pub max_total: u64,
    /// Files that arrive at the same time. Default 4: more would only share the same disk and network.
    pub max_transfers: u32,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self { accept: Accept::Ask, max_file: 1 << 30, max_total: 4 << 30, max_transfers: 4 }
    }
}

/// From whom files are taken: a word, or a list of peer ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// From everybody.
    Always,
    /// From nobody.
    Never,
    /// Somebody is asked each time.
    Ask,
    /// From these peers, and from nobody else.
    From(Vec<PeerId>),
}

impl Accept {
    /// The words with what they mean.
    pub const WORDS: [(&'static str, Accept); 3] =
        [("ask", Accept::Ask), ("always", Accept::Always), ("never", Accept::Never)];

    /// What a word means.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, accept)| accept)
    }
}

impl Serialize for Accept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Accept::From(peers) = self else {
            let word = Self::WORDS.iter().find(|(_, accept)| accept == self).map_or("ask", |(word, _)| word);
            return serializer.serialize_str(word);
        };
        let mut list = serializer.serialize_seq(Some(peers.len()))?;
        for peer in peers {
            list.serialize_element(&peer.to_base58())?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Accept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Accept;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"ask\", \"always\", \"never\" or a list of peer ids")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Accept, E> {
                Accept::of_word(word).ok_or_else(|| E::invalid_value(de::Unexpected::Str(word), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Accept, A::Error> {
                let mut peers = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    let peer =
                        text.parse().map_err(|_| de::Error::custom(format!("{text:?} is not a peer id")))?;
                    peers.push(peer);
                }
                Ok(Accept::From(peers))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_word_or_a_list_of_peers() {
        let peer = PeerId::random();
        for accept in [Accept::Ask, Accept::Always, Accept::Never, Accept::From(vec![peer])] {
            let config = FilesConfig { accept, ..FilesConfig::default() };
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<FilesConfig>(&text).unwrap(), config, "{text}");
        }
        let error = toml::from_str::<FilesConfig>("accept = \"maybe\"").unwrap_err().to_string();
        assert!(error.contains("\"always\""), "{error}");
        let error = toml::from_str::<FilesConfig>("accept = [\"x\"]").unwrap_err().to_string();
        assert!(error.contains("not a peer id"), "{error}");
    }
}
