//! The two kinds of name a client chooses: ids for programs, names for people. Invalid ones cannot be made.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// Longest peer id and room, in bytes.
pub const MAX_ID_BYTES: usize = 64;
/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// A peer id or the name of a room: 1 to 64 of `A-Z a-z 0-9 . _ -`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

impl Id {
    /// The id that `text` spells.
    ///
    /// # Errors
    /// [`InvalidText`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let fits = (1..=MAX_ID_BYTES).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidText("an id is 1 to 64 of the characters A-Z a-z 0-9 . _ -"))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Id::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A name for people to read: at most 64 characters, none of which controls the terminal or the direction of
/// the text around it. Empty where a client gave none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name(Arc<str>);

impl Name {
    /// The name that `text` spells.
    ///
    /// # Errors
    /// [`InvalidText`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        if text.chars().nth(MAX_NAME_CHARS).is_some() {
            Err(InvalidText("a name is at most 64 characters"))
        } else if text.chars().any(|c| c.is_control() || is_invisible(c)) {
            Err(InvalidText("a name has no control, direction or invisible characters"))
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that change how their neighbours look, or hide: Unicode's `Bidi_Control`, line separators,
/// zero-width characters but for the joiners that emoji and Indic scripts need, fillers, and tags.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Name::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Which rule a text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_64_bytes_and_not_65() {
        assert!(Id::parse(&"a".repeat(64)).is_ok());
        assert!(Id::parse("A.z_0-9").is_ok());
        let long = "a".repeat(65);
        for bad in ["", long.as_str(), "a b", "<b>", "a\n", "é", "a\u{202E}b", "a/b", "a\0"] {
            assert!(Id::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_for_people_and_do_no_tricks() {
        assert!(Name::parse(&"é".repeat(64)).is_ok());
        assert!(Name::parse("Zoë 👩‍💻 <3").is_ok());
        let long = "é".repeat(65);
        for bad in [
            long.as_str(),
            "a\nb",
            "a\u{202E}b",
            "\u{200B}",
            "a\u{7f}",
            "\u{2066}x",
            "\u{E0041}",
            "\u{3164}",
            "\u{2800}",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
