//! How dials end, in the few words that a metric has.

use std::error::Error;
use std::io;

use libp2p::core::transport::timeout::TransportTimeoutError;
use libp2p::swarm::DialError;
use libp2p::{PeerId, TransportError};

use crate::p2p::gossip::KeptAway;
use crate::p2p::peers;

/// Every value of the label `result` of `p2p_dials`: `ok`, and those of [`result`].
pub(super) const RESULTS: [&str; 13] = [
    "ok",
    "myself",
    "no_address",
    "not_needed",
    "aborted",
    "wrong_peer",
    "limit",
    "blocked",
    "refused",
    "timeout",
    "unreachable",
    "handshake",
    "unsupported",
];

/// What the manager is told of a dial of its own that came to nothing.
pub(super) fn outcome(peer: PeerId, error: &DialError) -> peers::Event {
    match error {
        DialError::DialPeerConditionFalse(_) => peers::Event::DialPutOff(peer),
        DialError::Denied { cause } if cause.downcast_ref::<KeptAway>().is_none() => {
            peers::Event::DialPutOff(peer)
        }
        _ => peers::Event::DialFailed(peer),
    }
}

/// How a dial ended, as the label `result` of `p2p_dials`.
pub(super) fn result(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "myself",
        DialError::NoAddresses => "no_address",
        DialError::DialPeerConditionFalse(_) => "not_needed",
        DialError::Aborted => "aborted",
        DialError::WrongPeerId { .. } => "wrong_peer",
        DialError::Denied { cause } if cause.downcast_ref::<KeptAway>().is_some() => "blocked",
        DialError::Denied { .. } => "limit",
        // Of several addresses the first one: it was the most likely to be the right one.
        DialError::Transport(errors) => match errors.first() {
            None => "no_address",
            Some((_, TransportError::MultiaddrNotSupported(_))) => "unsupported",
            Some((_, TransportError::Other(error))) => transport_result(error),
        },
    }
}

/// Why a transport failed. It wraps its errors in others, some of which hide what is in them, so that only its words are left.
fn transport_result(error: &io::Error) -> &'static str {
    let mut words = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(result) = kind_result(error.kind()) {
                return result;
            }
            next = error.get_ref().map(|inner| inner as &(dyn Error + 'static)).or(next);
        }
        if let Some(TransportTimeoutError::Timeout) = error.downcast_ref::<TransportTimeoutError<io::Error>>()
        {
            return "timeout";
        }
        words.push_str(&error.to_string());
    }
    if let Some(result) = os_error(&words).and_then(|error| kind_result(error.kind())) {
        return result;
    }
    let words = words.to_ascii_lowercase();
    if words.contains("timeout") || words.contains("timed out") { "timeout" } else { "handshake" }
}

fn kind_result(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("refused"),
        io::ErrorKind::TimedOut => Some("timeout"),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::PermissionDenied => Some("unreachable"),
        _ => None,
    }
}

/// The system's error that a message like `Connection refused (os error 111)` tells of.
fn os_error(words: &str) -> Option<io::Error> {
    let (_, rest) = words.rsplit_once("(os error ")?;
    rest.split(')').next()?.parse().ok().map(io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_inside_their_wrapping() {
        let wrapped = |kind: io::ErrorKind| io::Error::other(io::Error::other(io::Error::from(kind)));
        for (kind, result) in [
            (io::ErrorKind::ConnectionRefused, "refused"),
            (io::ErrorKind::TimedOut, "timeout"),
            (io::ErrorKind::HostUnreachable, "unreachable"),
            (io::ErrorKind::UnexpectedEof, "handshake"),
        ] {
            assert_eq!(transport_result(&io::Error::from(kind)), result);
            assert_eq!(transport_result(&wrapped(kind)), result);
        }
        let timeout = TransportTimeoutError::<io::Error>::Timeout;
        assert_eq!(transport_result(&io::Error::other(timeout)), "timeout");
        let timeout: TransportTimeoutError<io::Error> =
            TransportTimeoutError::Other(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(transport_result(&io::Error::other(timeout)), "refused");
    }

    #[test]
    fn where_only_words_are_left_they_tell() {
        let refused = io::Error::from_raw_os_error(nix::libc::ECONNREFUSED).to_string();
        assert_eq!(transport_result(&io::Error::other(refused)), "refused");
        assert_eq!(transport_result(&io::Error::other("Handshake timed out")), "timeout");
        assert_eq!(transport_result(&io::Error::other("Timeout has been reached")), "timeout");
        assert_eq!(transport_result(&io::Error::other("invalid signature")), "handshake");
    }

    #[test]
    fn every_result_is_known_beforehand() {
        for error in [DialError::NoAddresses, DialError::Aborted, DialError::Transport(Vec::new())] {
            assert!(RESULTS.contains(&result(&error)));
        }
    }
}
