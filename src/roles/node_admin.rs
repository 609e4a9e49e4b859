//! A node's part of its admin API: HTTP requests in, calls on the node's handle out.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | `{"peer_id", "addresses", "external", "connected_peers", "topics", "refused", "blocked"}` |
//! | `GET /v1/peers` | | `{"peers": [{"peer_id", "address", "direction", …}]}` |
//! | `POST /v1/peers/connect` | `{"address"}` | `{"peer_id"}` |
//! | `POST /v1/peers/disconnect` | `{"peer_id"}` | `{"closed"}` |
//! | `POST /v1/peers/block` | `{"peer_id", "seconds"?}` | `{"kept"}` |
//! | `POST /v1/peers/unblock` | `{"peer_id"}` | `{"changed"}` |
//! | `GET /v1/peers/blocked` | | `{"blocked": [{"peer_id", "by", "seconds_left"}]}` |
//! | `GET /v1/topics` | | `{"topics", "details"}` |
//! | `GET /v1/topics/{name}/messages[?limit=N]` | | `{"topic", "messages"}` |
//! | `POST /v1/topics/join`, `…/create`, `…/leave` | `{"topic"}` | `{"topic", "changed"}` |
//! | `POST /v1/publish` | `{"topic", "text"}` | `{"id", "peers", "waiting"}` |
//! | `POST /v1/messages` | `{"peer_id", "text"}` | `{"id", "peer_id", "delivered"}` |
//! | `POST /v1/files` | `{"peer_id", "path"}` | a transfer |
//! | `GET /v1/files` | | `{"files": [a transfer, …]}` |
//! | `POST /v1/files/{id}/accept`, `…/refuse`, `…/cancel` | | a transfer |
//! | `GET /v1/events[?topic=NAME&types=A,B]` | | one JSON object per line, for as long as the client listens |

mod direct;
mod query;
mod steering;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use libp2p::{Multiaddr, PeerId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;

use crate::control::http::{self, Body};
use crate::p2p::topics::MAX_TEXT_BYTES;
use crate::p2p::{ConnectError, Event, EventStream, Handle, JoinError, PublishError, Topic};

/// Largest request body: a text of which every byte is written as a six-byte escape, and room for the rest.
const MAX_BODY_BYTES: usize = 6 * MAX_TEXT_BYTES + 4096;
/// Lines waiting for a slow listener; then the node's own event queue fills, and the listener is told what it lost.
const LINE_QUEUE: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectBody {
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectBody {
    peer_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicBody {
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBody {
    topic: String,
    text: String,
}

/// An answer, or the answer that tells what was wrong; boxed, since a response is large for an error.
type Answer = Result<Response<Body>, Box<Response<Body>>>;

fn refusal(status: StatusCode, code: &str, message: &str) -> Box<Response<Body>> {
    Box::new(http::error(status, code, message))
}

/// Answers `request`, or gives `None` where the path is none of a node's.
pub async fn handle(handle: &Handle, request: Request<Incoming>) -> Option<Response<Body>> {
    let get = request.method() == Method::GET;
    let post = request.method() == Method::POST;
    let path = request.uri().path().to_owned();
    let answer = match path.as_str() {
        "/v1/status" if get => status(handle).await,
        "/v1/peers" if get => peers(handle).await,
        "/v1/topics" if get => topics(handle).await,
        "/v1/events" if get => events(handle, request.uri().query()),
        "/v1/peers/connect" if post => connect(handle, request).await,
        "/v1/peers/disconnect" if post => disconnect(handle, request).await,
        "/v1/topics/join" if post => join(handle, request, IfJoined::Fine).await,
        "/v1/topics/create" if post => join(handle, request, IfJoined::Conflict).await,
        "/v1/topics/leave" if post => leave(handle, request).await,
        "/v1/publish" if post => publish(handle, request).await,
        "/v1/peers/block" if post => steering::block(handle, request).await,
        "/v1/peers/unblock" if post => steering::unblock(handle, request).await,
        "/v1/peers/blocked" if get => steering::blocked(handle).await,
        "/v1/messages" if post => direct::send_message(handle, request).await,
        "/v1/files" if post => direct::send_file(handle, request).await,
        "/v1/files" if get => direct::files(handle),
        path if let Some((id, verb)) = direct::file_of(path) => match post {
            true => direct::decide(handle, id, verb),
            false => Err(wrong_method("POST")),
        },
        path if let Some(name) = past_messages_of(path) => match get {
            true => steering::past_messages(handle, name, request.uri().query()).await,
            false => Err(wrong_method("GET")),
        },
        "/v1/status" | "/v1/peers" | "/v1/peers/blocked" | "/v1/topics" | "/v1/events" => {
            Err(wrong_method("GET"))
        }
        "/v1/peers/connect"
        | "/v1/peers/disconnect"
        | "/v1/peers/block"
        | "/v1/peers/unblock"
        | "/v1/topics/join"
        | "/v1/topics/create"
        | "/v1/topics/leave"
        | "/v1/messages"
        | "/v1/publish" => Err(wrong_method("POST")),
        "/v1/files" => Err(wrong_method("GET, POST")),
        _ => return None,
    };
    Some(answer.unwrap_or_else(|refusal| *refusal))
}

async fn status(handle: &Handle) -> Answer {
    let status = handle.status().await.map_err(gone)?;
    Ok(http::json(StatusCode::OK, &status))
}

async fn peers(handle: &Handle) -> Answer {
    let peers = handle.peers().await.map_err(gone)?;
    Ok(ok(&json!({ "peers": peers })))
}

async fn topics(handle: &Handle) -> Answer {
    let details = handle.topic_infos().await.map_err(gone)?;
    let names: Vec<&Topic> = details.iter().map(|info| &info.topic).collect();
    Ok(ok(&json!({ "topics": names, "details": details })))
}

async fn connect(handle: &Handle, request: Request<Incoming>) -> Answer {
    let ConnectBody { address } = body(request).await?;
    let address: Multiaddr = address.parse().map_err(|error| {
        let message = format!("{address:?} is not a multiaddr ({error}); e.g. /ip4/127.0.0.1/tcp/4002");
        refusal(StatusCode::BAD_REQUEST, "bad_address", &message)
    })?;
    match handle.connect(address).await {
        Ok(peer) => Ok(ok(&json!({ "peer_id": peer.to_base58() }))),
        Err(ConnectError::Gone(_)) => Err(gone(())),
        Err(error @ ConnectError::Unsupported { .. }) => {
            Err(refusal(StatusCode::BAD_REQUEST, "bad_address", &error.to_string()))
        }
        Err(error @ ConnectError::Myself(_)) => {
            Err(refusal(StatusCode::BAD_REQUEST, "myself", &error.to_string()))
        }
        Err(error @ ConnectError::Failed { .. }) => {
            Err(refusal(StatusCode::BAD_GATEWAY, "connect_failed", &error.to_string()))
        }
    }
}

async fn disconnect(handle: &Handle, request: Request<Incoming>) -> Answer {
    let DisconnectBody { peer_id } = body(request).await?;
    let closed = handle.disconnect(valid_peer(&peer_id)?).await.map_err(gone)?;
    Ok(ok(&json!({ "closed": closed })))
}

/// What joining a joined topic is.
enum IfJoined {
    Fine,
    Conflict,
}

async fn join(handle: &Handle, request: Request<Incoming>, if_joined: IfJoined) -> Answer {
    let TopicBody { topic } = body(request).await?;
    let topic = valid_topic(&topic)?;
    match (handle.join(topic.clone()).await, if_joined) {
        (Ok(false), IfJoined::Conflict) => {
            let message = format!("topic {topic} is joined already");
            Err(refusal(StatusCode::CONFLICT, "topic_exists", &message))
        }
        (Ok(changed), _) => Ok(ok(&json!({ "topic": topic, "changed": changed }))),
        (Err(JoinError::Gone(_)), _) => Err(gone(())),
        (Err(error @ JoinError::TooMany), _) => {
            Err(refusal(StatusCode::CONFLICT, "too_many_topics", &error.to_string()))
        }
    }
}

async fn leave(handle: &Handle, request: Request<Incoming>) -> Answer {
    let TopicBody { topic } = body(request).await?;
    let topic = valid_topic(&topic)?;
    let changed = handle.leave(topic.clone()).await.map_err(gone)?;
    Ok(ok(&json!({ "topic": topic, "changed": changed })))
}

async fn publish(handle: &Handle, request: Request<Incoming>) -> Answer {
    let PublishBody { topic, text } = body(request).await?;
    let topic = valid_topic(&topic)?;
    let published = handle.publish(topic, text).await.map_err(|error| {
        let (status, code) = match &error {
            PublishError::NotJoined(_) => (StatusCode::CONFLICT, "not_joined"),
            PublishError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            PublishError::NobodyThere(_) => (StatusCode::SERVICE_UNAVAILABLE, "nobody_there"),
            PublishError::TooFast => (StatusCode::TOO_MANY_REQUESTS, "too_fast"),
            PublishError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            PublishError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "publish_failed"),
            PublishError::Gone(_) => (StatusCode::SERVICE_UNAVAILABLE, "gone"),
        };
        refusal(status, code, &error.to_string())
    })?;
    Ok(http::json(StatusCode::OK, &published))
}

fn events(handle: &Handle, query: Option<&str>) -> Answer {
    let wanted = query::Wanted::read(query)
        .map_err(|wrong| refusal(StatusCode::BAD_REQUEST, wrong.code(), &wrong.to_string()))?;
    let events = handle.subscribe_events().map_err(gone)?;
    let (lines, body) = mpsc::channel(LINE_QUEUE);
    tokio::spawn(forward(events, wanted, lines));
    Ok(http::stream("application/x-ndjson", body))
}

/// Writes the wanted events as lines until the node stops or the listener leaves.
async fn forward(mut events: EventStream, wanted: query::Wanted, lines: mpsc::Sender<Bytes>) {
    let mut next = Some(Event::Subscribed);
    while let Some(event) = next {
        if wanted.includes(&event)
            && let Ok(mut line) = serde_json::to_vec(&event)
        {
            line.push(b'\n');
            if lines.send(line.into()).await.is_err() {
                return;
            }
        }
        next = tokio::select! {
            event = events.next() => event,
            () = lines.closed() => return,
        };
    }
}

/// `NAME` of `/v1/topics/NAME/messages`, still encoded.
fn past_messages_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/v1/topics/")?.strip_suffix("/messages")?;
    (!name.contains('/')).then_some(name)
}

fn valid_peer(text: &str) -> Result<PeerId, Box<Response<Body>>> {
    let wrong = |_| refusal(StatusCode::BAD_REQUEST, "bad_peer", &format!("{text:?} is not a peer id"));
    text.parse().map_err(wrong)
}

fn valid_topic(name: &str) -> Result<Topic, Box<Response<Body>>> {
    name.parse::<Topic>().map_err(|error| refusal(StatusCode::BAD_REQUEST, "bad_topic", &error.to_string()))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Response<Body>>> {
    let bytes = http::read_body(request.into_body().boxed(), MAX_BODY_BYTES)
        .await
        .map_err(|error| Box::new(error.reply()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        refusal(StatusCode::BAD_REQUEST, "bad_json", &format!("the body is not what it should be: {error}"))
    })
}

fn ok(value: &serde_json::Value) -> Response<Body> {
    http::json(StatusCode::OK, value)
}

fn gone<E>(_: E) -> Box<Response<Body>> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "gone", "the node has stopped")
}

fn wrong_method(right: &'static str) -> Box<Response<Body>> {
    Box::new(http::wrong_method(right))
}
