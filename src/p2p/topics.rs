//! Topics and the messages on them: which names are valid, how a message looks on the wire, which are refused.
//!
//! A message is one JSON object, `{"id", "from", "topic", "sent_at", "text"}`, inside a signed gossipsub message.
//! Everything here is pure.

use std::fmt;
use std::str::FromStr;

use libp2p::PeerId;
use libp2p::gossipsub::IdentTopic;
use serde::{Deserialize, Serialize};

/// Longest text of one message, in bytes of UTF-8: what fits a chat line, a paste or a small file, not a stream.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Longest encoded message. JSON writes a quote, backslash or line end as two bytes, so twice the text and room for the
/// other members. Only a text of mostly control characters (six bytes each) is refused by this before the other limit.
pub const MAX_ENCODED_BYTES: usize = 2 * MAX_TEXT_BYTES + 1024;
/// Longest topic name, in bytes.
pub const MAX_TOPIC_BYTES: usize = 64;
/// Longest id of a message or an offer, in bytes.
const MAX_ID_BYTES: usize = 64;

/// A valid topic name: 1 to 64 bytes, no white space, no control characters, no leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(String);

/// Why a name cannot be a topic's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing there.
    #[error("a topic needs a name")]
    Empty,
    /// Over [`MAX_TOPIC_BYTES`].
    #[error("a topic's name has at most {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// White space, a control character, or a leading `/`, which begins a command.
    #[error("a topic's name has no white space, no control characters and no leading /")]
    Character,
}

impl Topic {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic as gossipsub knows it: the name itself, not its hash, so that other implementations can join.
    pub(crate) fn ident(&self) -> IdentTopic {
        IdentTopic::new(self.0.clone())
    }
}

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > MAX_TOPIC_BYTES {
            return Err(TopicError::TooLong);
        }
        if name.starts_with('/') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TopicError::Character);
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;
    fn try_from(name: String) -> Result<Self, TopicError> {
        name.parse()
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> String {
        topic.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One message on a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Chosen by the sender: 1 to 64 letters, digits or `-`.
    pub id: String,
    /// The sender; always the peer that signed the message.
    #[serde(with = "as_text")]
    pub from: PeerId,
    /// The topic it was published on.
    pub topic: Topic,
    /// The sender's clock, in milliseconds since 1970. Nobody checks it.
    pub sent_at: u64,
    /// At most [`MAX_TEXT_BYTES`].
    pub text: String,
}

/// Why a message is not taken, and not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Over [`MAX_ENCODED_BYTES`] or [`MAX_TEXT_BYTES`].
    #[error("the message is too large: at most {MAX_TEXT_BYTES} bytes of text")]
    TooLarge,
    /// Not the JSON object it should be.
    #[error("the message is not in the expected form")]
    Form,
    /// `from` is not who signed it.
    #[error("the message is signed by another peer than it names")]
    Author,
    /// `topic` is not where it was published.
    #[error("the message names another topic than it came on")]
    Topic,
    /// `id` is not of the allowed form.
    #[error("the message's id is not 1 to {MAX_ID_BYTES} letters, digits or '-'")]
    Id,
}

impl Message {
    /// The bytes that are published.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        if self.text.len() > MAX_TEXT_BYTES {
            return Err(Malformed::TooLarge);
        }
        let bytes = serde_json::to_vec(self).map_err(|_| Malformed::Form)?;
        if bytes.len() > MAX_ENCODED_BYTES { Err(Malformed::TooLarge) } else { Ok(bytes) }
    }

    /// Reads `bytes` that `author` signed and published on `topic`.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn decode(bytes: &[u8], author: PeerId, topic: &str) -> Result<Self, Malformed> {
        if bytes.len() > MAX_ENCODED_BYTES {
            return Err(Malformed::TooLarge);
        }
        let message: Message = serde_json::from_slice(bytes).map_err(|_| Malformed::Form)?;
        if message.text.len() > MAX_TEXT_BYTES {
            return Err(Malformed::TooLarge);
        }
        if message.from != author {
            return Err(Malformed::Author);
        }
        if message.topic.as_str() != topic {
            return Err(Malformed::Topic);
        }
        if is_id(&message.id) { Ok(message) } else { Err(Malformed::Id) }
    }
}

/// Whether `id` may be the id of a message, on a topic or to one peer, or of a file that is offered.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A peer id as the base58 text that people know it by.
pub(crate) mod as_text {
    use libp2p::PeerId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(peer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(text: &str) -> Message {
        Message {
            id: "a-1".into(),
            from: PeerId::random(),
            topic: "lobby".parse().unwrap(),
            sent_at: 1,
            text: text.into(),
        }
    }

    #[test]
    fn the_documented_bounds_of_a_topic_name_hold() {
        assert!("lobby".parse::<Topic>().is_ok());
        assert!("räume/küche-2".parse::<Topic>().is_ok());
        assert!("x".repeat(MAX_TOPIC_BYTES).parse::<Topic>().is_ok());
        assert_eq!("x".repeat(MAX_TOPIC_BYTES + 1).parse::<Topic>(), Err(TopicError::TooLong));
        assert_eq!("".parse::<Topic>(), Err(TopicError::Empty));
        for name in ["a b", "a\n", "\u{1b}[31m", "/lobby", "a\u{a0}b"] {
            assert_eq!(name.parse::<Topic>(), Err(TopicError::Character), "{name:?}");
        }
    }

    #[test]
    fn text_is_taken_up_to_its_limit_and_not_past_it() {
        let longest = message(&"\"".repeat(MAX_TEXT_BYTES));
        let bytes = longest.encode().unwrap();
        assert_eq!(Message::decode(&bytes, longest.from, "lobby"), Ok(longest));
        assert_eq!(message(&"x".repeat(MAX_TEXT_BYTES + 1)).encode(), Err(Malformed::TooLarge));
        assert_eq!(message(&"\u{1}".repeat(MAX_TEXT_BYTES)).encode(), Err(Malformed::TooLarge));
    }

    #[test]
    fn ids_are_short_and_plain() {
        assert!(is_id("0a-Z") && is_id(&"x".repeat(MAX_ID_BYTES)));
        assert!(!is_id("") && !is_id(&"x".repeat(MAX_ID_BYTES + 1)) && !is_id("a/b") && !is_id("é"));
    }

    #[test]
    fn what_does_not_fit_its_envelope_is_refused() {
        let message = message("hi");
        let bytes = message.encode().unwrap();
        assert_eq!(Message::decode(&bytes, PeerId::random(), "lobby"), Err(Malformed::Author));
        assert_eq!(Message::decode(&bytes, message.from, "other"), Err(Malformed::Topic));
        let with_id = |id: &str| Message { id: id.into(), ..message.clone() }.encode().unwrap();
        for id in ["", "a b", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert_eq!(Message::decode(&with_id(id), message.from, "lobby"), Err(Malformed::Id), "{id:?}");
        }
        let extra = String::from_utf8(bytes.clone()).unwrap().replacen('{', "{\"more\":1,", 1);
        assert_eq!(Message::decode(extra.as_bytes(), message.from, "lobby"), Err(Malformed::Form));
        let mut broken = bytes;
        let at = broken.iter().position(|byte| *byte == b'h').unwrap();
        broken[at] = 0xff;
        assert_eq!(Message::decode(&broken, message.from, "lobby"), Err(Malformed::Form));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes, PeerId::random(), "lobby");
        }

        #[test]
        fn any_text_survives_the_way(text in "\\PC{0,200}") {
            let message = message(&text);
            let bytes = message.encode().unwrap();
            prop_assert_eq!(Message::decode(&bytes, message.from, "lobby"), Ok(message));
        }
    }
}
