//! Multiaddrs of a topology file: what a node listens on, and bootnodes elsewhere.

use std::borrow::Cow;
use std::net::SocketAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Mistake;
use super::reader::{FromToml, Reader, shown};
use super::scalar::is_name;
use crate::p2p::address::{self, AddressError, Socket, TransportKind};

/// How a listen address is to be written.
const LISTEN_HELP: &str = "write /ip4/ADDRESS or /ip6/ADDRESS, then /tcp/PORT, /tcp/PORT/ws, /udp/PORT/quic-v1 or /udp/PORT/webrtc-direct, like \"/ip4/127.0.0.1/tcp/0\"; port 0 is any free one";

/// How an external address is to be written.
const EXTERNAL_HELP: &str = "write how others dial it, without a peer id, like \"/ip4/203.0.113.7/tcp/4002\" or \"/dns4/node.example.org/udp/4002/quic-v1\"";

/// How a bootnode is to be written.
const BOOTNODE_HELP: &str =
    "name a [[bootnodes]] entry of this file, or write where it is, like /ip4/ADDRESS/tcp/PORT/p2p/PEER_ID";

/// A multiaddr to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) multiaddr: Multiaddr,
    /// The socket it takes; `None` for a place at a relay.
    pub(super) socket: Option<Socket>,
    /// What it listens with; `None` there, too.
    pub(super) kind: Option<TransportKind>,
}

impl FromToml for Listen {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "/ip4/127.0.0.1/tcp/0")?;
        match parse_listen(&text) {
            Ok(listen) => Some(listen),
            Err(complaint) => {
                reader.record(complaint.mistake(value, &text, LISTEN_HELP));
                None
            }
        }
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": [
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/127.0.0.1/tcp/4003/ws",
            "/ip4/127.0.0.1/udp/4002/quic-v1",
            "/ip4/127.0.0.1/udp/4004/webrtc-direct",
        ] })
    }
}

/// An address at which others reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct External(pub(super) Multiaddr);

impl FromToml for External {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "/ip4/203.0.113.7/tcp/4002")?;
        match parse_external(&text) {
            Ok(address) => Some(Self(address)),
            Err(complaint) => {
                reader.record(complaint.mistake(value, &text, EXTERNAL_HELP));
                None
            }
        }
    }
}

impl JsonSchema for External {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "External".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["/ip4/203.0.113.7/tcp/4002", "/dns4/node.example.org/udp/4002/quic-v1"] })
    }
}

/// A bootnode as written: a name in the same file, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bootnode {
    Name(String),
    Address(Multiaddr),
}

impl FromToml for Bootnode {
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.string(value, "bootnode")?;
        if text.starts_with('/') {
            return match parse_bootnode(&text) {
                Ok(address) => Some(Self::Address(address)),
                Err(complaint) => {
                    reader.record(complaint.mistake(value, &text, BOOTNODE_HELP));
                    None
                }
            };
        }
        // A process of a group has its number behind the group's name, and may be longer than a name.
        let is_numbered = text.rsplit_once('-').is_some_and(|(group, number)| {
            is_name(group) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_name(&text) || is_numbered {
            return Some(Self::Name(text));
        }
        let message = format!("\"{}\" is neither a name nor a multiaddr", shown(&text));
        reader.record(Mistake::new(value.span(), message, "not a bootnode").help(BOOTNODE_HELP));
        None
    }
}

impl JsonSchema for Bootnode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "BootnodeName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["bootnode"] })
    }
}

/// What is wrong with a multiaddr.
enum Complaint {
    /// It is none.
    Syntax(String),
    /// It is one, of the wrong form.
    Form(AddressError),
}

impl Complaint {
    fn mistake(self, value: &Spanned<DeValue<'_>>, text: &str, help: &str) -> Mistake {
        let (message, label) = self.words(text);
        Mistake::new(value.span(), message, label).help(help)
    }

    /// The complaint and, shorter, what to write under `text`.
    fn words(self, text: &str) -> (String, String) {
        let text = shown(text);
        match self {
            Complaint::Syntax(error) => (format!("\"{text}\" is no multiaddr"), error),
            Complaint::Form(what) => (format!("\"{text}\" {what}"), "wrong form".to_owned()),
        }
    }
}

/// What is wrong with `text` as the address of a bootnode elsewhere, if anything is, in words.
pub(super) fn check_bootnode(text: &str) -> Result<(), String> {
    parse_bootnode(text).map(drop).map_err(|complaint| complaint.words(text).0)
}

fn parse_multiaddr(text: &str) -> Result<Multiaddr, Complaint> {
    text.parse().map_err(|error: libp2p::multiaddr::Error| Complaint::Syntax(error.to_string()))
}

fn parse_listen(text: &str) -> Result<Listen, Complaint> {
    let multiaddr = parse_multiaddr(text)?;
    let (socket, kind) = match address::parse_listen(&multiaddr).map_err(Complaint::Form)? {
        address::Listen::Socket(socket, kind) => (Some(socket), Some(kind)),
        address::Listen::Relay => (None, None),
    };
    Ok(Listen { multiaddr, socket, kind })
}

fn parse_external(text: &str) -> Result<Multiaddr, Complaint> {
    let multiaddr = parse_multiaddr(text)?;
    match address::parse_dial(&multiaddr) {
        Ok(None) => Ok(multiaddr),
        Ok(Some(_)) => Err(Complaint::Form(AddressError::PeerId)),
        Err(error) => Err(Complaint::Form(error)),
    }
}

fn parse_bootnode(text: &str) -> Result<Multiaddr, Complaint> {
    let multiaddr = parse_multiaddr(text)?;
    match address::parse_dial(&multiaddr) {
        Ok(Some(_)) => Ok(multiaddr),
        Ok(None) => Err(Complaint::Form(AddressError::NoPeerId)),
        Err(error) => Err(Complaint::Form(error)),
    }
}

/// The multiaddr of one TCP socket.
pub(super) fn multiaddr_of(socket: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port()))
}
