//! Everything that is refused, by the words in which it is counted: the label `reason` of `ws_refused`.

use super::limits::refusal;
use super::wire::{CloseReason, ErrorCode};
use crate::control::places::Full;

/// The client does not read what is sent to it.
pub(super) const SLOW_READER: &str = "slow_reader";
/// A request for the WebSocket that is none for a WebSocket.
pub(super) const NO_WEBSOCKET: &str = "no_websocket";
/// The request for the WebSocket does not come in time.
pub(super) const SLOW_HANDSHAKE: &str = "slow_handshake";
/// The client sends more than anybody who means well.
pub(super) const FLOOD: &str = "flood";
/// A page of another host.
pub(super) const FOREIGN_ORIGIN: &str = "foreign_origin";

/// The word for a refusal that ends a connection; `None` where nothing was refused.
pub(super) fn of_close(reason: CloseReason) -> Option<&'static str> {
    match reason {
        CloseReason::Restart | CloseReason::Replaced => None,
        CloseReason::RegisterTimeout => Some("register_timeout"),
        CloseReason::Silent => Some("silent"),
        CloseReason::Binary => Some("binary"),
        CloseReason::TooBig => Some("frame_too_big"),
        CloseReason::NotUtf8 => Some("not_utf8"),
        CloseReason::Protocol => Some("protocol"),
        CloseReason::Flood => Some(FLOOD),
        CloseReason::AddressLimit => Some(refusal(Full::Address)),
        CloseReason::ServerFull => Some(refusal(Full::Server)),
    }
}

/// All words there are.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let errors = ErrorCode::ALL.iter().map(|code| code.as_str());
    let closes = CloseReason::ALL.iter().filter_map(|reason| of_close(*reason));
    errors.chain(closes).chain([SLOW_READER, NO_WEBSOCKET, SLOW_HANDSHAKE, FOREIGN_ORIGIN])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_word_is_documented_and_there_once() {
        let page = include_str!("../../docs/signaling.md");
        let mut seen = HashSet::new();
        for word in all() {
            assert!(seen.insert(word), "{word} twice");
            assert!(page.contains(&format!("`{word}`")), "docs/signaling.md does not know `{word}`");
        }
    }
}
