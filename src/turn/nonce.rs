//! Nonces that need no memory: the time and a proof that it was this server that wrote it, for this client.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

/// Begins every nonce and says that the server offers password algorithms (RFC 8489, 9.2 and 18.1: the cookie, then bit 0 of 24, in base64).
const COOKIE: &str = "obMatJos2gAAA";
/// Of the proof, how many bytes are sent: nobody guesses 96 bits.
const PROOF_BYTES: usize = 12;

/// What a nonce is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Made here for this client, not long ago.
    Good,
    /// Made here for this client, but its time is over.
    Old,
    /// Not made here, or for somebody else.
    Foreign,
}

/// Makes and checks nonces.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    lifetime_seconds: u32,
}

impl Nonces {
    /// With a key that is made of `random` bytes. All threads of a server must share it.
    pub(super) fn new(random: [u8; 32], lifetime_seconds: u32) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &random), lifetime_seconds }
    }

    /// A nonce for the client at `client`. `seconds` have passed since a moment that is the same for all nonces.
    pub(super) fn make(&self, client: SocketAddr, seconds: u32) -> String {
        let mut bytes = [0; 4 + PROOF_BYTES];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&self.proof(client, seconds)[..PROOF_BYTES]);
        let mut nonce = String::with_capacity(COOKIE.len() + 22);
        nonce.push_str(COOKIE);
        STANDARD_NO_PAD.encode_string(bytes, &mut nonce);
        nonce
    }

    /// What `nonce` is worth that a client at `client` shows.
    pub(super) fn judge(&self, nonce: &str, client: SocketAddr, seconds: u32) -> Standing {
        let mut bytes = [0; 4 + PROOF_BYTES];
        let Some(text) = nonce.strip_prefix(COOKIE) else { return Standing::Foreign };
        if STANDARD_NO_PAD.decode_slice(text, &mut bytes) != Ok(bytes.len()) {
            return Standing::Foreign;
        }
        let [a, b, c, d, proof @ ..] = bytes;
        let made = u32::from_be_bytes([a, b, c, d]);
        let age = seconds.checked_sub(made);
        let expected = self.proof(client, made);
        let differing = proof.iter().zip(&expected).fold(0, |sum, (one, other)| sum | (one ^ other));
        match age {
            _ if differing != 0 => Standing::Foreign,
            Some(age) if age <= self.lifetime_seconds => Standing::Good,
            _ => Standing::Old,
        }
    }

    fn proof(&self, client: SocketAddr, seconds: u32) -> [u8; PROOF_BYTES] {
        let mut text = [0; 22];
        text[..4].copy_from_slice(&seconds.to_be_bytes());
        text[4..6].copy_from_slice(&client.port().to_be_bytes());
        let length = match client.ip() {
            IpAddr::V4(v4) => {
                text[6..10].copy_from_slice(&v4.octets());
                10
            }
            IpAddr::V6(v6) => {
                text[6..].copy_from_slice(&v6.octets());
                22
            }
        };
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(&hmac::sign(&self.key, &text[..length]).as_ref()[..PROOF_BYTES]);
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time() {
        let nonces = Nonces::new([7; 32], 600);
        let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let nonce = nonces.make(client, 1_000);
        for (seconds, standing) in [
            (1_000, Standing::Good),
            (1_600, Standing::Good),
            (1_601, Standing::Old),
            // From the future.
            (999, Standing::Old),
        ] {
            assert_eq!(nonces.judge(&nonce, client, seconds), standing, "{seconds}");
        }
        for other in ["192.0.2.1:4001", "192.0.2.2:4000", "[2001:db8::1]:4000"] {
            assert_eq!(nonces.judge(&nonce, other.parse().unwrap(), 1_000), Standing::Foreign, "{other}");
        }
        let elsewhere = Nonces::new([8; 32], 600).judge(&nonce, client, 1_000);
        assert_eq!(elsewhere, Standing::Foreign, "of another server");
    }

    #[test]
    fn no_character_of_a_nonce_can_be_changed() {
        let nonces = Nonces::new([7; 32], 600);
        let client: SocketAddr = "[2001:db8::1]:4000".parse().unwrap();
        let nonce = nonces.make(client, 1_000);
        for index in 0..nonce.len() {
            for other in ["A", "z", "+", "é", ""] {
                let forged = format!("{}{other}{}", &nonce[..index], &nonce[index + 1..]);
                let standing = nonces.judge(&forged, client, 1_000);
                assert!(forged == nonce || standing == Standing::Foreign, "{forged}: {standing:?}");
            }
        }
        for text in ["", COOKIE] {
            assert_eq!(nonces.judge(text, client, 1_000), Standing::Foreign);
        }
    }
}
