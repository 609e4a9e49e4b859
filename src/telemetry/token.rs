//! The secret that tells the receiver which process a push comes from.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

/// Bytes of a token that select an entry; the rest proves that the sender knows it.
const SELECTOR_BYTES: usize = 8;

/// The header that carries a token, and what stands before it there (RFC 6750).
pub(super) const HEADER: &str = "authorization";
pub(super) const SCHEME: &str = "Bearer ";

/// 32 random bytes, written as 64 hexadecimal digits.
///
/// The first 8 bytes select an entry in a hash map, the other 24 are compared in constant time, so the time a
/// lookup takes tells nothing of the secret part.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// A text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a telemetry token is 64 hexadecimal digits; `openssl rand -hex 32` makes one")]
pub struct TokenError;

impl Token {
    /// A new token from the process's cryptographic random number generator.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The 64 hexadecimal digits, for the sender's configuration.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(HEX[usize::from(digit)]))
            .collect()
    }

    pub(super) fn selector(&self) -> u64 {
        self.0[..SELECTOR_BYTES].iter().fold(0, |selector, byte| selector << 8 | u64::from(*byte))
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub(super) fn matches(&self, other: &Token) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(TokenError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Result<u8, TokenError> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(TokenError)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        let token = Token::random();
        let again: Token = token.to_hex().parse().unwrap();
        assert!(token.matches(&again));
        assert_eq!(token.selector(), again.selector());
        assert!(!token.matches(&Token::random()));
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let token = Token::random();
        assert_eq!(format!("{token:?}"), "Token(secret)");
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "a".repeat(65);
        let not_hex = "g".repeat(64);
        for text in ["", "abc", long.as_str(), not_hex.as_str(), &"é".repeat(32)] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }
}
