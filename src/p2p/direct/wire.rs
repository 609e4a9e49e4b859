//! What is said on the two protocols' streams: JSON in frames, each with its length in four bytes before it (big endian).
//!
//! ```text
//! /hippius/msg/1.0.0            /hippius/file/1.0.0
//!  → Letter                      → Offer
//!  ← Receipt                     ← Wait, where somebody is asked first
//!                                ← Accept with an offset and the hash of what is before it, or Refuse, or Done
//!                                → Begin with that offset, or 0 where the hash is another
//!                                → the bytes from there to the end
//!                                ← Done, or Refuse at any time
//!                               → Offer, withdrawn
//!                               ← Done
//! ```

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::p2p::topics::MAX_ENCODED_BYTES;

/// Longest frame of a private message: that of a topic's message.
pub(super) const MAX_LETTER_BYTES: usize = MAX_ENCODED_BYTES;
/// Longest of all other frames: a name of 255 characters that are all escaped, and room for the rest.
pub(super) const MAX_FRAME_BYTES: usize = 4096;
/// For a peer to take a frame. It fits into the window that a stream begins with, unless somebody keeps that shut.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A private message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) sent_at: u64,
    pub(super) text: String,
}

/// The answer to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Receipt {
    Accepted,
    Refused { reason: Reason },
}

/// A file that a peer would like to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    /// The same for each try of one sending.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) size: u64,
    #[serde(with = "hex")]
    pub(super) sha256: Hash,
    /// It is offered no more; the answer is `Done`, and there is nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) withdrawn: bool,
}

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// Somebody is being asked.
    Wait,
    /// Send from `offset` on, if what is before it has this hash.
    Accept {
        offset: u64,
        #[serde(with = "hex")]
        prefix: Hash,
    },
    /// No.
    Refuse { reason: Reason },
    /// The file is there, whole.
    Done,
}

/// Where the bytes begin that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    pub(super) offset: u64,
}

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// Why something is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The form is not what it should be.
    #[error("the peer does not understand it")]
    Malformed,
    /// The peer's rate for this node is used up.
    #[error("too many in a short time")]
    TooFast,
    /// Too many things are under way; worth another try.
    #[error("the peer is busy")]
    Busy,
    /// Somebody said no, or nobody said anything for too long.
    #[error("the peer declined the file")]
    Declined,
    /// The peer's policy.
    #[error("the peer takes no files from this node")]
    NotAllowed,
    /// Over the peer's limit for one file or message.
    #[error("it is larger than the peer takes")]
    TooLarge,
    /// Over the peer's limit for all files.
    #[error("the peer's folder of received files is full")]
    NoRoom,
    /// The peer's disk is full.
    #[error("the peer's disk is full")]
    DiskFull,
    /// The bytes are not those of the announced hash.
    #[error(
        "what arrived is not what was announced: the file has changed meanwhile, or it was damaged on the way"
    )]
    Damaged,
    /// The peer cannot write its files, for a reason of its own.
    #[error("the peer cannot store the file")]
    Failed,
    /// A reason of a later version.
    #[serde(other)]
    #[error("the peer refuses it")]
    Other,
}

impl Reason {
    /// What is told on the side that refuses; the other words are for the peer.
    pub(super) fn here(self) -> &'static str {
        match self {
            Reason::Malformed => "the sender does not keep to the protocol",
            Reason::TooFast => "the sender offers too many in a short time",
            Reason::Busy => "too many files are arriving",
            Reason::Declined => "refused",
            Reason::NotAllowed => "no files are taken from this peer (files.accept)",
            Reason::TooLarge => "it is larger than files.max_file",
            Reason::NoRoom => "the folder of received files is full (files.max_total)",
            Reason::DiskFull => "the disk is full",
            Reason::Damaged => "what arrived is not what was announced",
            Reason::Failed | Reason::Other => "it cannot be stored; the log tells why",
        }
    }
}

/// Why no frame could be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame is not what it should be")]
    Malformed,
}

/// Reads a frame of at most `max` bytes. Nothing is kept in memory for one that is longer.
pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(FrameError::TooLong(length));
    }
    // Grows with what arrives, not with what was announced.
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    serde_json::from_slice(&frame).map_err(|_| FrameError::Malformed)
}

/// Writes a frame of at most `max` bytes, to the end, for a peer that takes it before [`WRITE_TIMEOUT`].
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
    max: usize,
) -> Result<(), FrameError> {
    write_within(stream, value, max, WRITE_TIMEOUT).await
}

async fn write_within(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
    max: usize,
    patience: Duration,
) -> Result<(), FrameError> {
    let json = serde_json::to_vec(value).map_err(|_| FrameError::Malformed)?;
    if json.len() > max {
        return Err(FrameError::TooLong(json.len()));
    }
    let mut frame = Vec::with_capacity(4 + json.len());
    frame.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&json);
    let written = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    Ok(tokio::time::timeout(patience, written).await.map_err(late)??)
}

/// A hash as 64 hexadecimal digits.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Hash;

    pub(crate) fn encode(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn decode(text: &str) -> Option<Hash> {
        let mut hash = Hash::default();
        if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, index) in hash.iter_mut().zip((0..text.len()).step_by(2)) {
            *byte = u8::from_str_radix(text.get(index..index + 2)?, 16).ok()?;
        }
        Some(hash)
    }

    pub(crate) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(hash))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| de::Error::custom("not 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::super::tied::{Tied, tests::Stuck};

    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was() {
        let offer = Offer {
            id: "a-1".into(),
            name: "über \u{0}.txt".into(),
            size: u64::MAX,
            sha256: [0xab; 32],
            withdrawn: false,
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &offer, MAX_FRAME_BYTES).await.unwrap();
        assert_eq!(read::<Offer>(&mut Cursor::new(&bytes), MAX_FRAME_BYTES).await.unwrap(), offer);
        let cut = read::<Offer>(&mut Cursor::new(&bytes[..bytes.len() - 1]), MAX_FRAME_BYTES).await;
        assert!(matches!(cut, Err(FrameError::Io(_))), "{cut:?}");
        let json = String::from_utf8_lossy(&bytes[4..]).into_owned();
        assert!(json.contains(&"ab".repeat(32)), "{json}");
    }

    #[tokio::test]
    async fn what_is_announced_too_long_is_not_read() {
        let bytes = (MAX_FRAME_BYTES as u32 + 1).to_be_bytes();
        let error = read::<Begin>(&mut Cursor::new(&bytes[..]), MAX_FRAME_BYTES).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLong(4097)), "{error}");
        let long = Letter { id: "1".into(), sent_at: 0, text: "x".repeat(MAX_FRAME_BYTES) };
        assert!(matches!(write(&mut Vec::new(), &long, MAX_FRAME_BYTES).await, Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_reason_of_a_later_version_is_understood_as_a_refusal() {
        let answer: Answer = serde_json::from_str(r#"{"answer":"refuse","reason":"eclipse"}"#).unwrap();
        assert_eq!(answer, Answer::Refuse { reason: Reason::Other });
        let hash = format!(r#"{{"answer":"accept","offset":1,"prefix":"{}"}}"#, "+f".repeat(32));
        assert!(serde_json::from_str::<Answer>(&hash).is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_peer_that_takes_nothing() {
        let (connection, end) = tokio::sync::oneshot::channel::<()>();
        let mut stuck = Tied::new(Stuck, end.shared());
        let written = write_within(&mut stuck, &Answer::Done, MAX_FRAME_BYTES, Duration::ZERO).await;
        let Err(FrameError::Io(error)) = written else { panic!("{written:?}") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(connection);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let _ = read::<Offer>(&mut Cursor::new(&bytes), MAX_FRAME_BYTES).await;
                let _ = read::<Answer>(&mut Cursor::new(&bytes), MAX_FRAME_BYTES).await;
            });
        }
    }
}
