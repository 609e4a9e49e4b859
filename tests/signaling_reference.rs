//! `docs/signaling.md` says what the code does: every message, field, code and default.

use std::collections::BTreeSet;
use std::path::Path;

use hippius::signaling::SignalingConfig;
use hippius::signaling::limits::{SPARE, SPARE_PER_ADDRESS};
use hippius::signaling::secrets::MAX_SECRETS;
use hippius::signaling::token::{AUDIENCE, LEEWAY_SECONDS, MIN_SECRET_BYTES};
use hippius::signaling::wire::{
    Candidate, ClientMessage, CloseReason, ConnectionState, ConnectionType, Description, ErrorCode,
    ErrorReply, Id, MAX_CANDIDATE_BYTES, MAX_MESSAGE_BYTES, MAX_SDP_BYTES, MAX_TOKEN_BYTES, Name, Peer, Ping,
    Pong, Register, Registered, Report, ServerMessage,
};
use hippius::tls::CertificateFiles;
use hippius::tls::secured::{HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS};
use serde_json::Value;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/signaling.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every table row in the section under `## heading`, code marks removed, without the head.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let section = document.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("there is a section {heading}"));
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

/// All `(type, field)` of messages that have every field.
fn fields(messages: impl IntoIterator<Item = Value>) -> BTreeSet<(String, String)> {
    let mut fields = BTreeSet::new();
    for message in messages {
        let kind = message["type"].as_str().unwrap();
        let payload = message["payload"].as_object().unwrap();
        for field in payload.keys() {
            fields.insert((kind.to_owned(), field.clone()));
        }
        if payload.is_empty() {
            fields.insert((kind.to_owned(), "–".to_owned()));
        }
    }
    fields
}

fn documented(heading: &str) -> BTreeSet<(String, String)> {
    rows(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

fn description() -> Description {
    Description { from: Some(id("a")), to: id("b"), sdp: String::new() }
}

fn candidate() -> Candidate {
    Candidate { from: Some(id("a")), to: id("b"), candidate: String::new() }
}

#[test]
fn every_message_of_a_client_is_documented_with_its_fields() {
    let register = Register {
        peer_id: id("a"),
        token: Some(String::new()),
        resume: Some(String::new()),
        room: Some(id("r")),
        name: Name::default(),
    };
    let report = Report {
        to: id("b"),
        state: ConnectionState::Connected,
        connection_type: Some(ConnectionType::Direct),
        bytes_sent: Some(1),
        bytes_received: Some(1),
        rtt: Some(0.1),
    };
    let all = [
        ClientMessage::Register(register),
        ClientMessage::Offer(description()),
        ClientMessage::Answer(description()),
        ClientMessage::IceCandidate(candidate()),
        ClientMessage::Report(report),
        ClientMessage::Ping(Ping {}),
    ];
    // A new variant does not compile here until it is entered above.
    for message in &all {
        match message {
            ClientMessage::Register(_)
            | ClientMessage::Offer(_)
            | ClientMessage::Answer(_)
            | ClientMessage::IceCandidate(_)
            | ClientMessage::Report(_)
            | ClientMessage::Ping(_) => {}
        }
    }
    let in_code = fields(all.iter().map(|message| serde_json::to_value(message).unwrap()));
    assert_eq!(in_code, documented("From the client"));
}

#[test]
fn every_message_of_the_server_is_documented_with_its_fields() {
    let peer = || Peer { peer_id: id("a"), name: Name::default() };
    let registered =
        Registered { peer_id: id("a"), resume: String::new(), peers: vec![peer()], ice_servers: Vec::new() };
    let error = ErrorReply { code: ErrorCode::BadMessage, message: String::new(), to: Some(id("b")) };
    let all = [
        ServerMessage::Registered(registered),
        ServerMessage::PeerJoined(peer()),
        ServerMessage::PeerLeft(peer()),
        ServerMessage::Offer(description()),
        ServerMessage::Answer(description()),
        ServerMessage::IceCandidate(candidate()),
        ServerMessage::Pong(Pong {}),
        ServerMessage::Error(error),
    ];
    for message in &all {
        match message {
            ServerMessage::Registered(_)
            | ServerMessage::PeerJoined(_)
            | ServerMessage::PeerLeft(_)
            | ServerMessage::Offer(_)
            | ServerMessage::Answer(_)
            | ServerMessage::IceCandidate(_)
            | ServerMessage::Pong(_)
            | ServerMessage::Error(_) => {}
        }
    }
    let in_code = fields(all.iter().map(|message| serde_json::to_value(message).unwrap()));
    assert_eq!(in_code, documented("From the server"));
}

#[test]
fn every_code_is_documented() {
    let in_code: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    let documented: BTreeSet<_> = rows("Errors").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(in_code, documented);
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str(), "the wire and the metrics agree");
    }
    let in_code: BTreeSet<_> = CloseReason::ALL
        .iter()
        .map(|reason| (reason.code().to_string(), reason.as_str().to_owned()))
        .collect();
    let documented: BTreeSet<_> =
        rows("Close codes").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(in_code, documented);
}

/// A number as the document writes it.
fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_numbers_in_the_document_are_the_defaults() {
    let config = SignalingConfig::default();
    let document = document().replace('\n', " ");
    for expected in [
        format!("({} unless configured otherwise)", grouped(config.max_room_peers)),
        format!("No `Register` within {} s", config.register_timeout.as_secs()),
        format!("may hold {SPARE_PER_ADDRESS} more connections, and all together {SPARE}"),
        format!("Nothing was heard for {} s", config.silence_timeout.as_secs()),
        format!("its place in the room is kept for {} s", config.resume_grace.as_secs()),
        format!("a write takes {} s", config.write_timeout.as_secs()),
        format!("once {} MiB waits", config.queue_bytes / (1024 * 1024)),
        format!("over {} bytes", grouped(MAX_MESSAGE_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_SDP_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_CANDIDATE_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_TOKEN_BYTES as u64)),
        format!("Clocks may differ by {LEEWAY_SECONDS} s"),
        format!("random text of at least {MIN_SECRET_BYTES} bytes, at most {MAX_SECRETS} lines"),
        format!("it is or has `{AUDIENCE}`"),
        format!(
            "A handshake has {} s; {} may be under way, {MAX_HANDSHAKES_PER_ADDRESS} of them from one address",
            HANDSHAKE_TIMEOUT.as_secs(),
            grouped(MAX_HANDSHAKES)
        ),
    ] {
        assert!(document.contains(&expected), "the document does not say: {expected}");
    }
}

#[test]
fn every_key_of_the_configuration_is_in_the_table_of_limits_with_its_default() {
    let rows = rows("Limits");
    let mut in_code = serde_json::to_value(SignalingConfig::default()).unwrap();
    // Where it listens and what clients are told of relays are no limits.
    for key in ["listen", "ice"] {
        in_code.as_object_mut().unwrap().remove(key);
    }
    let (without, with): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[1] == "–");
    let documented: String = with.iter().map(|row| format!("{} = {}\n", row[0], row[1])).collect();
    let documented: toml::Table = toml::from_str(&documented).unwrap_or_else(|e| panic!("{documented}\n{e}"));
    assert_eq!(serde_json::to_value(documented).unwrap(), in_code);
    // Those without a default are not there when they are not given.
    let files = CertificateFiles { certificate: "a".into(), key: "b".into() };
    let full = SignalingConfig {
        tls: Some(files),
        token_secret_file: Some("a".into()),
        ..SignalingConfig::default()
    };
    let full = serde_json::to_value(full).unwrap();
    let optional: BTreeSet<_> = full
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| in_code.get(key).is_none() && !["listen", "ice"].contains(&key.as_str()))
        .collect();
    assert_eq!(optional, without.iter().map(|row| &row[0]).collect());
}

#[test]
fn the_topology_has_the_keys_that_are_marked_and_the_same_defaults() {
    let schema = hippius::topology::schema();
    let properties = schema.as_value()["$defs"]["Signaling"]["properties"].as_object().unwrap().clone();
    let in_code = serde_json::to_value(SignalingConfig::default()).unwrap();
    let of_the_file = ["name", "port", "restart", "timing"];
    let limits: BTreeSet<_> =
        properties.keys().filter(|key| !of_the_file.contains(&key.as_str())).cloned().collect();
    let marked: BTreeSet<_> =
        rows("Limits").into_iter().filter(|row| row[2].trim() == "yes").map(|row| row[0].clone()).collect();
    assert_eq!(limits, marked);
    for key in limits {
        assert_eq!(properties[&key].get("default"), in_code.get(&key), "{key}");
    }
}
