//! Requests about private messages and files.

use std::path::PathBuf;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, body, http, ok, refusal, valid_peer};
use crate::p2p::Handle;
use crate::p2p::direct::{DecideError, MessageError, ReachError, SendFileError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageBody {
    peer_id: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBody {
    peer_id: String,
    /// On the node's machine; from the root, since the node need not run where its user types.
    path: PathBuf,
}

/// What is to be done with a file's transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Accept,
    Refuse,
    Cancel,
}

/// `ID` and `VERB` of `/v1/files/ID/VERB`.
pub(super) fn file_of(path: &str) -> Option<(u64, Verb)> {
    let (id, verb) = path.strip_prefix("/v1/files/")?.split_once('/')?;
    let verb = match verb {
        "accept" => Verb::Accept,
        "refuse" => Verb::Refuse,
        "cancel" => Verb::Cancel,
        _ => return None,
    };
    Some((id.parse().ok()?, verb))
}

pub(super) async fn send_message(handle: &Handle, request: Request<Incoming>) -> Answer {
    let MessageBody { peer_id, text } = body(request).await?;
    let peer = valid_peer(&peer_id)?;
    match handle.send_message(peer, text).await {
        Ok(id) => Ok(ok(&json!({ "id": id, "peer_id": peer.to_base58(), "delivered": true }))),
        Err(error) => {
            let (status, code) = match &error {
                MessageError::Reach(error) => unreached(error),
                MessageError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
                MessageError::TooFast => (StatusCode::TOO_MANY_REQUESTS, "too_fast"),
                MessageError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                MessageError::Refused(_) => (StatusCode::CONFLICT, "refused"),
                MessageError::Unconfirmed(_) => (StatusCode::GATEWAY_TIMEOUT, "unconfirmed"),
            };
            Err(refusal(status, code, &error.to_string()))
        }
    }
}

fn unreached(error: &ReachError) -> (StatusCode, &'static str) {
    match error {
        ReachError::Myself => (StatusCode::BAD_REQUEST, "myself"),
        ReachError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_peer"),
        ReachError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
        ReachError::Unsupported(_) => (StatusCode::BAD_GATEWAY, "unsupported"),
        ReachError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        ReachError::Gone => (StatusCode::SERVICE_UNAVAILABLE, "gone"),
    }
}

pub(super) async fn send_file(handle: &Handle, request: Request<Incoming>) -> Answer {
    let FileBody { peer_id, path } = body(request).await?;
    let peer = valid_peer(&peer_id)?;
    if !path.is_absolute() {
        let message = "the path must begin with /: the node has a working directory of its own";
        return Err(refusal(StatusCode::BAD_REQUEST, "bad_path", message));
    }
    handle.send_file(peer, path).await.map(|info| http::json(StatusCode::OK, &info)).map_err(|error| {
        let (status, code) = match &error {
            SendFileError::Myself => (StatusCode::BAD_REQUEST, "myself"),
            SendFileError::Source(_) => (StatusCode::BAD_REQUEST, "bad_file"),
            SendFileError::TooMany => (StatusCode::CONFLICT, "too_many_files"),
            SendFileError::Gone => (StatusCode::SERVICE_UNAVAILABLE, "gone"),
        };
        refusal(status, code, &error.to_string())
    })
}

pub(super) fn files(handle: &Handle) -> Answer {
    Ok(ok(&json!({ "files": handle.transfers() })))
}

pub(super) fn decide(handle: &Handle, id: u64, verb: Verb) -> Answer {
    let decided = match verb {
        Verb::Accept => handle.decide_file(id, true),
        Verb::Refuse => handle.decide_file(id, false),
        Verb::Cancel => handle.cancel_file(id),
    };
    decided.map(|info| http::json(StatusCode::OK, &info)).map_err(|error| {
        let (status, code) = match error {
            DecideError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_file"),
            DecideError::NotOffered(_) => (StatusCode::CONFLICT, "not_offered"),
            DecideError::Over(_) => (StatusCode::CONFLICT, "ended"),
        };
        refusal(status, code, &error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_in_the_path() {
        assert_eq!(file_of("/v1/files/12/accept"), Some((12, Verb::Accept)));
        assert_eq!(file_of("/v1/files/1/cancel"), Some((1, Verb::Cancel)));
        for wrong in
            ["/v1/files/", "/v1/files/1", "/v1/files/x/accept", "/v1/files/1/accept/", "/v1/files/-1/refuse"]
        {
            assert_eq!(file_of(wrong), None, "{wrong}");
        }
    }
}
