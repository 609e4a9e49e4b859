//! Requests about past messages and about who is kept away.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, DisconnectBody, body, gone, ok, query, refusal, valid_peer, valid_topic};
use crate::control::percent;
use crate::p2p::handle::BlockError;
use crate::p2p::{Handle, PublishError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockBody {
    peer_id: String,
    /// For good without it.
    seconds: Option<u64>,
}

pub(super) async fn block(handle: &Handle, request: Request<Incoming>) -> Answer {
    let BlockBody { peer_id, seconds } = body(request).await?;
    if seconds == Some(0) {
        let message = "a block of 0 seconds is none; leave `seconds` out to block for good";
        return Err(refusal(StatusCode::BAD_REQUEST, "bad_time", message));
    }
    match handle.block(valid_peer(&peer_id)?, seconds.map(Duration::from_secs)).await {
        Ok(kept) => Ok(ok(&json!({ "kept": kept }))),
        Err(BlockError::Gone(_)) => Err(gone(())),
        Err(error @ BlockError::Myself) => {
            Err(refusal(StatusCode::BAD_REQUEST, "myself", &error.to_string()))
        }
        Err(error @ BlockError::Full) => {
            Err(refusal(StatusCode::CONFLICT, "too_many_blocked", &error.to_string()))
        }
    }
}

pub(super) async fn unblock(handle: &Handle, request: Request<Incoming>) -> Answer {
    let DisconnectBody { peer_id } = body(request).await?;
    let changed = handle.unblock(valid_peer(&peer_id)?).await.map_err(gone)?;
    Ok(ok(&json!({ "changed": changed })))
}

pub(super) async fn blocked(handle: &Handle) -> Answer {
    let blocked = handle.blocked().await.map_err(gone)?;
    Ok(ok(&json!({ "blocked": blocked })))
}

pub(super) async fn past_messages(handle: &Handle, name: &str, query: Option<&str>) -> Answer {
    let name = percent::decode(name)
        .ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "bad_topic", "the name is not percent-encoded"))?;
    let topic = valid_topic(&name)?;
    let limit = query::limit(query)
        .map_err(|wrong| refusal(StatusCode::BAD_REQUEST, wrong.code(), &wrong.to_string()))?;
    match handle.past_messages(topic.clone(), limit).await.map_err(gone)? {
        Some(messages) => {
            let messages: Vec<_> = messages.iter().map(|message| &**message).collect();
            Ok(ok(&json!({ "topic": topic, "messages": messages })))
        }
        None => {
            let error = PublishError::NotJoined(topic);
            Err(refusal(StatusCode::CONFLICT, "not_joined", &error.to_string()))
        }
    }
}
