//! The signaling protocol as types: every message, error code and close code, and how text becomes a message.
//!
//! One JSON object per text frame, `{"type": …, "payload": …}`. What cannot be a valid message cannot be a
//! value of these types; `docs/signaling.md` describes the same for authors of clients.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use super::names::{Id, Name};

/// Where the WebSocket is.
pub const PATH: &str = "/signal";
/// Largest message and largest frame, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Largest session description, in bytes. Browsers send 1 to 10 KiB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;
/// Largest ICE candidate, in bytes. Browsers send about 200.
pub const MAX_CANDIDATE_BYTES: usize = 4 * 1024;
/// Longest registration or resume token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// The room of a client that names none.
pub const DEFAULT_ROOM: &str = "lobby";

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
#[allow(missing_docs)] // The variants are named as in the protocol; their payloads carry the documentation.
pub enum ClientMessage {
    Register(Register),
    Offer(Description),
    Answer(Description),
    IceCandidate(Candidate),
    Report(Report),
    Ping(Ping),
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
#[allow(missing_docs)]
pub enum ServerMessage {
    Registered(Registered),
    PeerJoined(Peer),
    PeerLeft(Peer),
    Offer(Description),
    Answer(Description),
    IceCandidate(Candidate),
    Pong(Pong),
    Error(ErrorReply),
}

/// A client says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The id it wants.
    pub peer_id: Id,
    /// A permission to register, where the server asks for one; see [`token`](super::token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The token of an earlier `Registered`: takes the place of that connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// Which room to enter; [`DEFAULT_ROOM`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Id>,
    /// What people see.
    #[serde(default)]
    pub name: Name,
}

/// A session description on its way to another peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The sender; a client may leave it out, what the server forwards always has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Id>,
    /// The receiver.
    pub to: Id,
    /// The session description, at most 64 KiB.
    pub sdp: String,
}

/// An ICE candidate on its way to another peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The sender; see [`Description::from`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Id>,
    /// The receiver.
    pub to: Id,
    /// The candidate object as JSON text, at most 4 KiB. The server does not look inside.
    pub candidate: String,
}

/// What a client tells of one of its WebRTC connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The peer at the other end.
    pub to: Id,
    /// The connection's state, as in `RTCPeerConnectionState`.
    pub state: ConnectionState,
    /// Which way the data takes; needed once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_type: Option<ConnectionType>,
    /// Bytes sent on the connection so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Bytes received on the connection so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Round-trip time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<f64>,
}

/// `RTCPeerConnectionState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ConnectionState {
    New,
    Connecting,
    Connected,
    Disconnected,
    Failed,
    Closed,
}

/// The path of a WebRTC connection, from the best to the most expensive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionType {
    /// Host candidates on both sides.
    Direct,
    /// At least one address that a STUN server showed.
    Stun,
    /// Through a relay.
    Turn,
}

/// Asks for a [`Pong`]: scripts in a browser see nothing of a WebSocket's own pings, and a connection that died without a
/// word looks to them like one on which nothing happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {}

/// The answer to a [`Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {}

/// The answer to a [`Register`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The id as registered.
    pub peer_id: Id,
    /// Proves to a later `Register` that it comes from the same client.
    pub resume: String,
    /// Who else is in the room.
    pub peers: Vec<Peer>,
    /// `RTCIceServer` objects; empty where the server has none to offer.
    pub ice_servers: Vec<serde_json::Value>,
}

/// Someone in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Whom messages can be sent to.
    pub peer_id: Id,
    /// What people see; may be empty.
    pub name: Name,
}

/// Something was not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The target that the refused message named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Id>,
}

/// Declares a code enum with its words, so that the list of all and the spelling have one place.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used on the wire and as the `reason` of a refusal in the metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// Why a message was refused.
    ErrorCode {
        /// Not JSON, or a field is missing, of the wrong type or out of its bounds.
        BadMessage = "bad_message",
        /// JSON, but of no known type.
        UnknownType = "unknown_type",
        /// A session description or candidate over its limit.
        TooLarge = "too_large",
        /// Anything before `Register`.
        NotRegistered = "not_registered",
        /// A second `Register`.
        AlreadyRegistered = "already_registered",
        /// Another client holds the id, and the resume token is missing or wrong.
        IdTaken = "id_taken",
        /// The server asks for a token and none was given.
        TokenRequired = "token_required",
        /// The token is not one of the server's, or not good yet.
        TokenInvalid = "token_invalid",
        /// The token was good once.
        TokenExpired = "token_expired",
        /// The token is for another id or room.
        TokenMismatch = "token_mismatch",
        /// Too many have joined from the client's address in too short a time.
        TooManyJoins = "too_many_joins",
        /// The room holds as many peers as it may.
        RoomFull = "room_full",
        /// `from` is not the sender.
        FromMismatch = "from_mismatch",
        /// Nobody of that id is connected in the room.
        UnknownPeer = "unknown_peer",
        /// The target does not read fast enough; try again later.
        PeerBusy = "peer_busy",
        /// More connections reported than are counted for one client.
        TooManyReports = "too_many_reports",
        /// Too much in too short a time; the message was dropped.
        RateLimited = "rate_limited",
    }
}

codes! {
    /// Why the server closes a WebSocket.
    CloseReason {
        /// The server shuts down or restarts: connect again.
        Restart = "service restart",
        /// A resume took this connection's place.
        Replaced = "replaced",
        /// No `Register` in time.
        RegisterTimeout = "register timeout",
        /// Not a sound from the client for too long.
        Silent = "silent",
        /// A binary frame.
        Binary = "text frames only",
        /// A frame or message over the limit.
        TooBig = "message too big",
        /// Text that is not UTF-8.
        NotUtf8 = "not utf-8",
        /// Not the WebSocket protocol.
        Protocol = "protocol error",
        /// The limits were exceeded for too long.
        Flood = "rate limit",
        /// The client's address holds as many connections as it may.
        AddressLimit = "too many connections",
        /// The server serves as many clients as it may.
        ServerFull = "server full",
    }
}

impl CloseReason {
    /// The WebSocket close code: RFC 6455, section 7.4, or the IANA registry; 4xxx are this protocol's own.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::RegisterTimeout | Self::Flood => 1008,
            Self::TooBig => 1009,
            Self::Restart => 1012,
            Self::AddressLimit | Self::ServerFull => 1013,
            Self::Replaced => 4001,
            Self::Silent => 4002,
        }
    }
}

/// Reads the text of one frame.
///
/// # Errors
/// An [`ErrorReply`] to send back, with `to` where the text named a valid target.
pub fn parse(text: &str) -> Result<ClientMessage, ErrorReply> {
    let message = serde_json::from_str(text).map_err(|error| explain(text, &error))?;
    let (to, size, limit, what) = match &message {
        ClientMessage::Offer(d) | ClientMessage::Answer(d) => (&d.to, d.sdp.len(), MAX_SDP_BYTES, "sdp"),
        ClientMessage::IceCandidate(c) => (&c.to, c.candidate.len(), MAX_CANDIDATE_BYTES, "candidate"),
        ClientMessage::Register(Register { token, resume, .. })
            if [token, resume].iter().any(|t| t.as_ref().is_some_and(|t| t.len() > MAX_TOKEN_BYTES)) =>
        {
            let message = format!("a token is at most {MAX_TOKEN_BYTES} bytes");
            return Err(ErrorReply { code: ErrorCode::TooLarge, message, to: None });
        }
        ClientMessage::Report(Report { to, rtt: Some(rtt), .. }) if !rtt.is_finite() || *rtt < 0.0 => {
            let message = "rtt is a time in seconds, 0 or more".to_owned();
            return Err(ErrorReply { code: ErrorCode::BadMessage, message, to: Some(to.clone()) });
        }
        ClientMessage::Register(_) | ClientMessage::Report(_) | ClientMessage::Ping(_) => return Ok(message),
    };
    if size > limit {
        let message = format!("{what} has {size} bytes; at most {limit} are taken");
        return Err(ErrorReply { code: ErrorCode::TooLarge, message, to: Some(to.clone()) });
    }
    Ok(message)
}

/// Says what is wrong with `text`, which `error` was the answer to.
fn explain(text: &str, error: &serde_json::Error) -> ErrorReply {
    #[derive(Deserialize)]
    struct Envelope {
        r#type: String,
        #[serde(default)]
        payload: Option<IgnoredAny>,
    }
    const TYPES: [&str; 6] = ["Register", "Offer", "Answer", "IceCandidate", "Report", "Ping"];
    if let Ok(Envelope { r#type, payload }) = serde_json::from_str(text) {
        if !TYPES.contains(&r#type.as_str()) {
            let message = format!("no such type; known are {}", TYPES.join(", "));
            return ErrorReply { code: ErrorCode::UnknownType, message, to: None };
        }
        if payload.is_none() {
            let message = format!("{type} needs a payload", r#type = r#type);
            return ErrorReply { code: ErrorCode::BadMessage, message, to: None };
        }
    }
    // The text of the error may repeat what the client sent: enough to find the mistake is enough.
    let message = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    ErrorReply { code: ErrorCode::BadMessage, message, to: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let code = |text: &str| parse(text).unwrap_err().code;
        assert_eq!(code("{"), ErrorCode::BadMessage);
        assert_eq!(code("[]"), ErrorCode::BadMessage);
        assert_eq!(code("\"Register\""), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"Shout","payload":{}}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"Register"}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":7,"payload":{}}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"Register","payload":{"peer_id":7}}"#), ErrorCode::BadMessage);
        assert_eq!(
            code(r#"{"type":"Register","payload":{"peer_id":"a","peer_id":"b"}}"#),
            ErrorCode::BadMessage
        );
        assert_eq!(code(r#"{"type":"Offer","payload":{"from":"a","to":"b"}}"#), ErrorCode::BadMessage);
        let deep = format!(r#"{{"type":"Offer","payload":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(code(&deep), ErrorCode::BadMessage);
        let missing = parse(r#"{"type":"Offer","payload":{"from":"a","to":"b"}}"#).unwrap_err();
        assert!(missing.message.contains("sdp"), "{}", missing.message);
    }

    #[test]
    fn sizes_are_taken_up_to_the_bound_and_not_past_it() {
        let offer = |n| format!(r#"{{"type":"Offer","payload":{{"to":"b","sdp":"{}"}}}}"#, "x".repeat(n));
        assert!(parse(&offer(MAX_SDP_BYTES)).is_ok());
        let refused = parse(&offer(MAX_SDP_BYTES + 1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooLarge);
        assert_eq!(refused.to, Id::parse("b").ok());
        let candidate = |n| {
            format!(r#"{{"payload":{{"to":"b","candidate":"{}"}},"type":"IceCandidate"}}"#, "x".repeat(n))
        };
        assert!(parse(&candidate(MAX_CANDIDATE_BYTES)).is_ok());
        assert_eq!(parse(&candidate(MAX_CANDIDATE_BYTES + 1)).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn an_error_repeats_at_most_a_little_of_what_was_sent() {
        let text = format!(r#"{{"type":"Report","payload":{{"to":"b","state":"{}"}}}}"#, "y".repeat(50_000));
        assert!(parse(&text).unwrap_err().message.len() <= 200);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_message_survives_its_own_encoding(id in "[A-Za-z0-9._-]{1,64}", sdp in "\\PC{0,200}") {
            let id = Id::parse(&id).unwrap();
            let message = ClientMessage::Offer(Description { from: Some(id.clone()), to: id, sdp });
            proptest::prop_assert_eq!(parse(&serde_json::to_string(&message).unwrap()), Ok(message));
        }
    }
}
