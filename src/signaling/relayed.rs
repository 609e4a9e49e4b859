//! The quick way for what most messages are: an offer, answer or candidate that is passed on as it came.
//!
//! Its text is looked through once and copied once; what takes time in the long way is to take the escapes out of a session
//! description and to put them in again. What is not written as programs write it, or is not to be passed on, goes the long way
//! ([`wire::parse`](super::wire::parse) and the hub), which alone says what is wrong with a message.

use super::names::Id;
use super::wire::{Candidate, ClientMessage, Description, MAX_CANDIDATE_BYTES, MAX_SDP_BYTES};

/// A message to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relayed<'a> {
    kind: Kind,
    /// Who the sender says it is.
    pub(super) from: Option<&'a str>,
    /// Who gets it.
    pub(super) to: &'a str,
    /// The description or candidate as JSON has it between its quotes.
    body: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Offer,
    Answer,
    IceCandidate,
}

impl Kind {
    /// Its type, the field of its payload, and how long that may be.
    const fn words(self) -> (&'static str, &'static str, usize) {
        match self {
            Kind::Offer => ("Offer", "sdp", MAX_SDP_BYTES),
            Kind::Answer => ("Answer", "sdp", MAX_SDP_BYTES),
            Kind::IceCandidate => ("IceCandidate", "candidate", MAX_CANDIDATE_BYTES),
        }
    }
}

impl<'a> Relayed<'a> {
    /// Reads `text`; `None` if it is no such message or has to go the long way.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut scanner = Scanner { text, at: 0 };
        scanner.byte(b'{')?;
        scanner.key("type")?;
        let kind = match scanner.string()? {
            "Offer" => Kind::Offer,
            "Answer" => Kind::Answer,
            "IceCandidate" => Kind::IceCandidate,
            _ => return None,
        };
        scanner.byte(b',')?;
        scanner.key("payload")?;
        scanner.byte(b'{')?;
        let (_, field, most) = kind.words();
        let (mut from, mut to, mut body) = (None, None, None);
        loop {
            let name = scanner.string()?;
            scanner.byte(b':')?;
            let slot = match name {
                "from" => &mut from,
                "to" => &mut to,
                name if name == field => &mut body,
                _ => return None,
            };
            if slot.replace(scanner.string()?).is_some() {
                return None;
            }
            match scanner.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        scanner.byte(b'}')?;
        scanner.end()?;
        // Escapes only ever make a text longer, so what fits with them fits.
        let body = body.filter(|body: &&str| body.len() <= most)?;
        Some(Self { kind, from, to: to?, body })
    }

    /// The same message with nothing in it; `None` if it names an id that is none.
    pub(super) fn without_body(&self) -> Option<ClientMessage> {
        let from = self.from.map(Id::parse).transpose().ok()?;
        let to = Id::parse(self.to).ok()?;
        Some(match self.kind {
            Kind::Offer => ClientMessage::Offer(Description { from, to, sdp: String::new() }),
            Kind::Answer => ClientMessage::Answer(Description { from, to, sdp: String::new() }),
            Kind::IceCandidate => {
                ClientMessage::IceCandidate(Candidate { from, to, candidate: String::new() })
            }
        })
    }

    /// What the receiver gets: the same, from the peer `from`.
    pub(super) fn encode(&self, from: &Id) -> String {
        let (kind, field, _) = self.kind.words();
        let parts = [
            r#"{"type":""#,
            kind,
            r#"","payload":{"from":""#,
            // Ids have nothing that JSON would escape.
            from.as_str(),
            r#"","to":""#,
            self.to,
            r#"",""#,
            field,
            r#"":""#,
            self.body,
            r#""}}"#,
        ];
        parts.concat()
    }
}

/// Goes through the tokens of a JSON text.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
        }
    }

    fn byte(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    fn key(&mut self, expected: &str) -> Option<()> {
        (self.string()? == expected).then_some(())?;
        self.byte(b':')
    }

    /// Nothing follows but white space.
    fn end(&mut self) -> Option<()> {
        self.next().is_none().then_some(())
    }

    /// A string, as it stands between its quotes. `None` also for one with `\u` escapes: whether those are good, the long way knows.
    fn string(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let start = self.at;
        loop {
            let bytes = self.text.as_bytes();
            self.at += plain(bytes.get(self.at..)?);
            match bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return self.text.get(start..self.at - 1);
                }
                b'\\' if b"\"\\/bfnrt".contains(bytes.get(self.at + 1)?) => self.at += 2,
                // A control character, or an escape for the long way.
                _ => return None,
            }
        }
    }
}

/// How many bytes come before the first quote, backslash or control character; eight at a time.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // In each of these the lowest high bit that is set belongs to the first byte that is meant.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found = equal(word, b'"') | equal(word, b'\\') | below(word, 0x20);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    at + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::wire::{self, ServerMessage};
    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn what_programs_write_goes_the_quick_way() {
        for text in [
            r#"{"type":"Offer","payload":{"to":"b","sdp":"v=0\r\no=- \"x\" \\ \/ é"}}"#,
            r#"{"type": "Answer", "payload": {"from": "a", "to": "b", "sdp": ""}}"#,
            "\n{ \"type\" :\"IceCandidate\",\t\"payload\":{\"candidate\":\"{\\\"a\\\":1}\",\"to\":\"b\"} }\r\n",
        ] {
            let relayed = Relayed::read(text).unwrap_or_else(|| panic!("{text}"));
            let mut expected = value(text);
            expected["payload"]["from"] = json!("a");
            assert_eq!(value(&relayed.encode(&id("a"))), expected);
            let hollow = serde_json::to_value(relayed.without_body().unwrap()).unwrap();
            assert_eq!((&hollow["type"], &hollow["payload"]["to"]), (&expected["type"], &json!("b")));
        }
    }

    #[test]
    fn everything_else_goes_the_long_way() {
        let long =
            format!(r#"{{"type":"Offer","payload":{{"to":"b","sdp":"{}"}}}}"#, "x".repeat(MAX_SDP_BYTES + 1));
        for text in [
            "",
            "{",
            "{}",
            "null",
            r#"{"type":"Ping","payload":{}}"#,
            r#"{"type":"Offer"}"#,
            r#"{"type":"Offer","payload":{}}"#,
            r#"{"type":"Offer","payload":{"to":"b"}}"#,
            r#"{"type":"Offer","payload":{"sdp":"x"}}"#,
            r#"{"type":"Offer","payload":{"to":"b","candidate":"x"}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x"}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x"}}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x",}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x"}} x"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x"},"more":1}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x","more":1}}"#,
            r#"{"type":"Offer","payload":{"to":"b","to":"c","sdp":"x"}}"#,
            r#"{"type":"Offer","payload":{"to":7,"sdp":"x"}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"\u0041"}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"\x"}}"#,
            r#"{"type":"Offer","payload":{"to":"b","sdp":"x\"}}"#,
            "{\"type\":\"Offer\",\"payload\":{\"to\":\"b\",\"sdp\":\"x\ny\"}}",
            "{\"type\":\"Offer\",\"payload\":{\"to\":\"b\",\"sdp\":\"01234567\u{1f}\"}}",
            r#"{"payload":{"to":"b","sdp":"x"},"type":"Offer"}"#,
            long.as_str(),
        ] {
            assert_eq!(Relayed::read(text), None, "{text}");
        }
    }

    proptest! {
        /// Both ways lead to the same message, and the quick one takes nothing that the long one refuses.
        #[test]
        fn both_ways_say_the_same(sdp in "(?s).{0,200}", noise in "[ -~]{0,12}", cut in 0usize..400) {
            let description = Description { from: None, to: id("b"), sdp };
            let message = ClientMessage::Offer(description.clone());
            let mut text = serde_json::to_string(&message).unwrap();
            if let Some(relayed) = Relayed::read(&text) {
                let long = ServerMessage::Offer(Description { from: Some(id("a")), ..description });
                prop_assert_eq!(relayed.encode(&id("a")), serde_json::to_string(&long).unwrap());
            }
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.insert_str(cut, &noise);
            if let Some(relayed) = Relayed::read(&text) {
                let Ok(ClientMessage::Offer(read)) = wire::parse(&text) else {
                    // An id that is none never leads anywhere.
                    prop_assert!(Id::parse(relayed.to).is_err() || relayed.from.is_some_and(|id| Id::parse(id).is_err()), "{}", text);
                    return Ok(());
                };
                prop_assert_eq!(read.to.as_str(), relayed.to);
                let sdp: String = serde_json::from_str(&format!("\"{}\"", relayed.body)).unwrap();
                prop_assert_eq!(read.sdp, sdp);
            }
        }

        #[test]
        fn the_first_special_byte_is_found(text in "[ -~\\x00-\\x1féß€]{0,40}") {
            let expected = text.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(text.len());
            prop_assert_eq!(plain(text.as_bytes()), expected);
        }
    }
}
