//! Where a message ends in a stream (RFC 8656, 12.5; RFC 8489, 6.2.2).

/// What is no message and never will be, so that nobody can tell where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoMessage;

/// How many bytes the message takes that `received` begins with, with its padding; `None` while its head is not complete.
///
/// # Errors
/// When it is neither a STUN message nor channel data, as soon as that can be told.
pub(super) fn length(received: &[u8]) -> Result<Option<usize>, NoMessage> {
    let Some(first) = received.first() else { return Ok(None) };
    let is_stun = match first {
        0..=3 => true,
        0x40..=0x7f => false,
        _ => return Err(NoMessage),
    };
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    let cookie = received.get(4..).unwrap_or_default();
    if is_stun && cookie.iter().zip(COOKIE).any(|(byte, expected)| *byte != expected) {
        return Err(NoMessage);
    }
    let [_, _, high, low, ..] = received else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    match is_stun {
        true if length % 4 != 0 => Err(NoMessage),
        true => Ok(Some(20 + length)),
        false => Ok(Some(4 + length.next_multiple_of(4))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 28] = [
        0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x80, 0x22, 0, 3, b'a',
        b'b', b'c', 0,
    ];

    #[test]
    fn a_message_is_known_by_its_head() {
        assert_eq!(length(&REQUEST), Ok(Some(28)));
        for cut in 0..4 {
            assert_eq!(length(&REQUEST[..cut]), Ok(None));
        }
        for cut in 4..REQUEST.len() {
            assert_eq!(length(&REQUEST[..cut]), Ok(Some(28)), "{cut}");
        }
        assert_eq!(length(&[0x40, 0, 0, 0]), Ok(Some(4)));
        assert_eq!(length(&[0x7f, 0xff, 0, 5, 1]), Ok(Some(12)));
        assert_eq!(length(&[0x40, 0, 0xff, 0xff]), Ok(Some(4 + 65_536)));
        assert_eq!(length(&[0, 1, 0xff, 0xfc]), Ok(Some(20 + 65_532)));
    }

    #[test]
    fn what_is_no_message_is_known_at_once() {
        for first in (4..0x40).chain(0x80..=0xff) {
            assert_eq!(length(&[first]), Err(NoMessage), "{first}");
        }
        assert_eq!(length(b"GET / HTTP/1.1\r\n"), Ok(Some(4 + 21_536)), "channel data by its looks");
        assert_eq!(length(&[0, 1, 0, 7]), Err(NoMessage), "misaligned");
        assert_eq!(length(&[0, 1, 0, 8, 0x21, 0x13]), Err(NoMessage), "no cookie");
    }
}
