//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489, 14.5 to 14.7), and the keys for them.
//!
//! `stun-types` ties the algorithm of a key to that of the integrity, which the RFC does not, and computes both in plain Rust; here `ring` does.

use md5::{Digest, Md5};
use ring::{digest, hmac};
use stun_types::attribute::{AttributeStaticType, Fingerprint, MessageIntegrity, MessageIntegritySha256};
use stun_types::message::{Message, MessageHeader};

/// Which attribute protects a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integrity {
    /// MESSAGE-INTEGRITY.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256, never cut short: nothing here agrees on that.
    Sha256,
}

/// How a key is made from a password (RFC 8489, 18.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordAlgorithm {
    /// Number 1, and that of clients which know of no others.
    Md5,
    /// Number 2.
    Sha256,
}

/// The key of a user for one kind of integrity.
pub(super) struct Key {
    integrity: Integrity,
    key: hmac::Key,
}

impl Integrity {
    const fn attribute(self) -> u16 {
        match self {
            Integrity::Sha1 => 0x0008,
            Integrity::Sha256 => 0x001c,
        }
    }

    const fn length(self) -> usize {
        match self {
            Integrity::Sha1 => 20,
            Integrity::Sha256 => 32,
        }
    }
}

impl Key {
    /// The long-term key: a hash over `username:realm:password` (RFC 8489, 9.2.2).
    pub(super) fn long_term(
        integrity: Integrity,
        algorithm: PasswordAlgorithm,
        username: &str,
        realm: &str,
        password: &str,
    ) -> Self {
        let parts = [username, ":", realm, ":", password];
        match algorithm {
            PasswordAlgorithm::Md5 => {
                let hash = parts.iter().fold(Md5::new(), |hash, part| hash.chain_update(part)).finalize();
                Self::raw(integrity, &hash)
            }
            PasswordAlgorithm::Sha256 => {
                let mut hash = digest::Context::new(&digest::SHA256);
                parts.iter().for_each(|part| hash.update(part.as_bytes()));
                Self::raw(integrity, hash.finish().as_ref())
            }
        }
    }

    /// A key of `bytes`, as short-term credentials have it.
    pub(super) fn raw(integrity: Integrity, bytes: &[u8]) -> Self {
        let algorithm = match integrity {
            Integrity::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Integrity::Sha256 => hmac::HMAC_SHA256,
        };
        Self { integrity, key: hmac::Key::new(algorithm, bytes) }
    }

    /// Whether the integrity attribute of `message` at `offset` was made with this key.
    pub(super) fn protects(&self, message: &Message<'_>, offset: usize) -> bool {
        let bytes = message.as_bytes();
        let Some(proof) = bytes.get(offset + 4..offset + 4 + self.integrity.length()) else { return false };
        let mut covered = bytes[..offset].to_vec();
        set_length(&mut covered, offset + 4 + self.integrity.length());
        hmac::verify(&self.key, &covered, proof).is_ok()
    }

    /// Adds the integrity attribute to a finished message.
    pub(super) fn protect(&self, message: &mut Vec<u8>) {
        let length = self.integrity.length();
        let total = message.len() + 4 + length;
        set_length(message, total);
        let proof = hmac::sign(&self.key, message);
        message.extend_from_slice(&self.integrity.attribute().to_be_bytes());
        message.extend_from_slice(&(length as u16).to_be_bytes());
        message.extend_from_slice(proof.as_ref());
    }
}

/// Which integrity a message has, and where; of two the stronger (RFC 8489, 9.2.4).
pub(super) fn find(message: &Message<'_>) -> Option<(Integrity, usize)> {
    let mut found = None;
    for (offset, attribute) in message.iter_attributes() {
        use stun_types::attribute::Attribute as _;
        let kind = attribute.get_type();
        if kind == MessageIntegritySha256::TYPE
            && usize::from(attribute.length()) == Integrity::Sha256.length()
        {
            return Some((Integrity::Sha256, offset));
        } else if kind == MessageIntegrity::TYPE
            && usize::from(attribute.length()) == Integrity::Sha1.length()
        {
            found = Some((Integrity::Sha1, offset));
        }
    }
    found
}

/// Adds a FINGERPRINT to a message, as its last attribute.
pub(super) fn add_fingerprint(message: &mut Vec<u8>) {
    let total = message.len() + 8;
    set_length(message, total);
    let fingerprint = Fingerprint::compute(&[message]);
    message.extend_from_slice(&[0x80, 0x28, 0, 4]);
    // What goes over the wire is masked (RFC 8489, 14.7).
    let mask = 0x5354_554e_u32.to_be_bytes();
    message.extend(fingerprint.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
}

/// Writes the length of a message of `total` bytes into its header.
fn set_length(message: &mut [u8], total: usize) {
    // Messages are limited to far less than 64 KB before they come here.
    let length = (total - MessageHeader::LENGTH) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::{Nonce, Realm, Software, Username};
    use stun_types::message::MessageWrite;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// RFC 5769, 2.1: short-term, with integrity and fingerprint.
    const REQUEST: &str = "
        00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff
        80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249
        c1b571a2 80280004 e57a3bcf";
    /// RFC 5769, 2.2: the answer from an IPv4 address.
    const ANSWER_V4: &str = "
        0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
        00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96";
    /// RFC 5769, 2.3: the answer from an IPv6 address.
    const ANSWER_V6: &str = "
        01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa
        a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";
    /// RFC 5769, 2.4: long-term, name and password in scripts beyond ASCII.
    const LONG_TERM: &str = "
        00010060 2112a442 78ad3433 c6ad72c0 29da412e 00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000 0015001c
        662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341 0014000b 6578616d 706c652e 6f726700 00080014
        f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn the_vectors_of_rfc_5769_are_proven() {
        for vector in [REQUEST, ANSWER_V4, ANSWER_V6] {
            let bytes = bytes(vector);
            let message = Message::from_bytes(&bytes).expect("with a good fingerprint");
            let (integrity, offset) = find(&message).unwrap();
            assert_eq!(integrity, Integrity::Sha1);
            assert!(Key::raw(integrity, PASSWORD.as_bytes()).protects(&message, offset));
            assert!(!Key::raw(integrity, b"another").protects(&message, offset));
        }
        let bytes = bytes(LONG_TERM);
        let message = Message::from_bytes(&bytes).unwrap();
        let name = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key = |name: &str, password: &str| {
            Key::long_term(Integrity::Sha1, PasswordAlgorithm::Md5, name, "example.org", password)
        };
        let (_, offset) = find(&message).unwrap();
        assert!(key(name, "TheMatrIX").protects(&message, offset));
        assert!(!key(name, "TheMatrix").protects(&message, offset));
        assert_eq!(message.attribute::<Username>().unwrap().username(), name);
        assert_eq!(message.attribute::<Realm>().unwrap().realm(), "example.org");
        assert_eq!(message.attribute::<Nonce>().unwrap().nonce(), "f//499k954d6OL34oL9FSTvy64sA");
    }

    /// What we write is what the RFC has, byte for byte.
    #[test]
    fn the_vectors_of_rfc_5769_are_written() {
        for vector in [REQUEST, ANSWER_V4, ANSWER_V6] {
            let whole = bytes(vector);
            let mut message = whole[..whole.len() - 32].to_vec();
            Key::raw(Integrity::Sha1, PASSWORD.as_bytes()).protect(&mut message);
            add_fingerprint(&mut message);
            assert_eq!(message, whole);
        }
    }

    #[test]
    fn what_one_algorithm_protects_no_other_proves() {
        use stun_types::message::{BINDING, MessageWriteExt, MessageWriteVec};
        for integrity in [Integrity::Sha1, Integrity::Sha256] {
            for algorithm in [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256] {
                let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
                message.add_attribute(&Software::new("test").unwrap()).unwrap();
                let mut message = message.finish();
                let key = |algorithm| Key::long_term(integrity, algorithm, "ann", "here", "apple");
                key(algorithm).protect(&mut message);
                add_fingerprint(&mut message);
                let message = Message::from_bytes(&message).unwrap();
                let (found, offset) = find(&message).unwrap();
                assert_eq!(found, integrity);
                for other in [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256] {
                    assert_eq!(key(other).protects(&message, offset), other == algorithm);
                }
            }
        }
    }
}
