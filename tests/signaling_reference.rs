//! `docs/signaling.md` says what the code does: every message, field, code and default.

use std::collections::BTreeSet;
use std::path::Path;

use hippius::signaling::SignalingConfig;
use hippius::signaling::wire::{
    Candidate, ClientMessage, CloseReason, ConnectionState, ConnectionType, Description, ErrorCode,
    ErrorReply, Id, MAX_CANDIDATE_BYTES, MAX_MESSAGE_BYTES, MAX_SDP_BYTES, MAX_TOKEN_BYTES, Name, Peer,
    Register, Registered, Report, ServerMessage,
};
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
        for field in message["payload"].as_object().unwrap().keys() {
            fields.insert((kind.to_owned(), field.clone()));
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
    ];
    // A new variant does not compile here until it is entered above.
    for message in &all {
        match message {
            ClientMessage::Register(_)
            | ClientMessage::Offer(_)
            | ClientMessage::Answer(_)
            | ClientMessage::IceCandidate(_)
            | ClientMessage::Report(_) => {}
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
        format!("{} a second, {} at once", config.messages_per_second, config.message_burst),
        format!("{} a second, {} at once", grouped(config.bytes_per_second), grouped(config.byte_burst)),
        format!("| {}; more are answered `429`", config.max_per_address),
        format!("| clients | {} |", grouped(config.max_clients)),
        format!("({} unless configured otherwise)", grouped(config.max_room_peers)),
        format!("No `Register` within {} s", config.register_timeout.as_secs()),
        format!("| ping | every {} s |", config.ping_interval.as_secs()),
        format!("Nothing was heard for {} s", config.silence_timeout.as_secs()),
        format!("its place in the room is kept for {} s", config.resume_grace.as_secs()),
        format!("a write takes {} s", config.write_timeout.as_secs()),
        format!("once {} MiB waits", config.queue_bytes / (1024 * 1024)),
        format!("over {} bytes", grouped(MAX_MESSAGE_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_SDP_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_CANDIDATE_BYTES as u64)),
        format!("at most {} bytes", grouped(MAX_TOKEN_BYTES as u64)),
    ] {
        assert!(document.contains(&expected), "the document does not say: {expected}");
    }
}
