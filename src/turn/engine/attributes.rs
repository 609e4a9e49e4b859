//! The attributes of a request, gathered in one pass.

use stun_types::attribute::{Attribute, AttributeFromRaw, AttributeStaticType, AttributeType, RawAttribute};
use stun_types::message::{Message, MessageHeader};

/// Unknown attributes that are told back at most (RFC 8489, 14.13, sets no limit; an answer need not be longer than this).
const MAX_TOLD: usize = 32;
/// Peers that one request may name.
const MAX_PEERS: usize = 64;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const CHANNEL_NUMBER: u16 = 0x000c;
const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const EVEN_PORT: u16 = 0x0018;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const DONT_FRAGMENT: u16 = 0x001a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const PASSWORD_ALGORITHM: u16 = 0x001d;
const RESERVATION_TOKEN: u16 = 0x0022;
const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
const PASSWORD_ALGORITHMS: u16 = 0x8002;
const FINGERPRINT: u16 = 0x8028;

/// What a request carries. Of an attribute that comes twice the first counts (RFC 8489, 14).
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pub(super) username: Option<RawAttribute<'a>>,
    pub(super) realm: Option<RawAttribute<'a>>,
    pub(super) nonce: Option<RawAttribute<'a>>,
    pub(super) password_algorithm: Option<RawAttribute<'a>>,
    pub(super) password_algorithms: Option<RawAttribute<'a>>,
    pub(super) lifetime: Option<RawAttribute<'a>>,
    pub(super) channel_number: Option<RawAttribute<'a>>,
    pub(super) peers: Vec<RawAttribute<'a>>,
    pub(super) requested_transport: Option<RawAttribute<'a>>,
    pub(super) requested_family: Option<RawAttribute<'a>>,
    pub(super) additional_family: Option<RawAttribute<'a>>,
    pub(super) even_port: Option<RawAttribute<'a>>,
    pub(super) reservation_token: Option<RawAttribute<'a>>,
    pub(super) has_fingerprint: bool,
    /// More peers were named than one request may.
    pub(super) too_many_peers: bool,
    /// Attributes that must be understood and are not, each once.
    pub(super) unknown: Vec<AttributeType>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(message: &'a Message<'a>) -> Self {
        let mut all = Self::default();
        for (_, attribute) in message.iter_attributes() {
            let kind = attribute.get_type();
            let place = match kind.value() {
                USERNAME => &mut all.username,
                REALM => &mut all.realm,
                NONCE => &mut all.nonce,
                PASSWORD_ALGORITHM => &mut all.password_algorithm,
                PASSWORD_ALGORITHMS => &mut all.password_algorithms,
                LIFETIME => &mut all.lifetime,
                CHANNEL_NUMBER => &mut all.channel_number,
                REQUESTED_TRANSPORT => &mut all.requested_transport,
                REQUESTED_ADDRESS_FAMILY => &mut all.requested_family,
                ADDITIONAL_ADDRESS_FAMILY => &mut all.additional_family,
                EVEN_PORT => &mut all.even_port,
                RESERVATION_TOKEN => &mut all.reservation_token,
                XOR_PEER_ADDRESS => {
                    if all.peers.len() < MAX_PEERS {
                        all.peers.push(attribute);
                    } else {
                        all.too_many_peers = true;
                    }
                    continue;
                }
                FINGERPRINT => {
                    all.has_fingerprint = true;
                    continue;
                }
                MAPPED_ADDRESS | DATA | DONT_FRAGMENT | MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => {
                    continue;
                }
                _ => {
                    let told = all.unknown.len() < MAX_TOLD && !all.unknown.contains(&kind);
                    if kind.comprehension_required() && told {
                        all.unknown.push(kind);
                    }
                    continue;
                }
            };
            place.get_or_insert(attribute);
        }
        all
    }
}

/// What an attribute says; `Err` when it is there and says nothing that can be understood.
pub(super) fn read<'a, A>(attribute: &Option<RawAttribute<'a>>) -> Result<Option<A>, Unreadable>
where
    A: AttributeFromRaw<'a> + AttributeStaticType,
{
    attribute.as_ref().map(|raw| A::from_raw_ref(raw).map_err(|_| Unreadable)).transpose()
}

/// An attribute that is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Whether `packet` has the form of a STUN message: the header, the cookie, a length that is true, and attributes that fill it
/// exactly. Cheaper than reading it, and nothing that passes makes the codec complain in the log.
pub(super) fn has_form(packet: &[u8]) -> bool {
    let Some((header, mut rest)) = packet.split_at_checked(MessageHeader::LENGTH) else { return false };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] > 3 || header[4..8] != [0x21, 0x12, 0xa4, 0x42] || length != rest.len() || length % 4 != 0 {
        return false;
    }
    while let [_, _, high, low, after @ ..] = rest {
        let padded = usize::from(u16::from_be_bytes([*high, *low])).next_multiple_of(4);
        let Some(next) = after.get(padded..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

/// What a Send indication carries.
pub(super) struct Sending<'a> {
    /// XOR-PEER-ADDRESS, still as it came.
    pub(super) peer: &'a [u8],
    /// DATA.
    pub(super) data: &'a [u8],
    /// DONT-FRAGMENT is there.
    pub(super) whole: bool,
}

/// Takes a Send indication apart, which [has the form](has_form) of a message, without copying. `None` when something is missing, or is
/// there that must be understood and is not.
pub(super) fn sending(packet: &[u8]) -> Option<Sending<'_>> {
    let (mut peer, mut data, mut whole) = (None, None, false);
    let mut rest = packet.get(MessageHeader::LENGTH..)?;
    while let [a, b, c, d, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let value = after.get(..length)?;
        match u16::from_be_bytes([*a, *b]) {
            XOR_PEER_ADDRESS => peer = peer.or(Some(value)),
            DATA => data = data.or(Some(value)),
            DONT_FRAGMENT => whole = true,
            // Nobody checks them here (RFC 8656, 11.1), and nothing behind them counts.
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | FINGERPRINT => break,
            kind if AttributeType::new(kind).comprehension_required() => return None,
            _ => {}
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    Some(Sending { peer: peer?, data: data?, whole })
}
