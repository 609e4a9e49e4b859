//! The control API: HTTP/1.1 with JSON over the unix socket in the data folder.
//!
//! | request | reply |
//! |---|---|
//! | `GET /v1/status` | [`Status`](super::wire::Status) |
//! | `GET /v1/processes/{name}` | [`ProcessStatus`](super::wire::ProcessStatus) |
//! | `POST /v1/processes/{name}/{start\|stop\|restart}?wait=SECONDS` | [`Acted`](super::wire::Acted) |
//! | `GET /v1/logs?process=NAME&n=COUNT&follow=1` | lines of [`LogEntry`] |
//! | `POST /v1/down` | `{"down": true}`; the supervisor ends soon after |

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::handle::{ActError, Handle};
use super::logs::read::{History, Lines};
use super::logs::{self, LogLine};
use super::wire::{LogEntry, MAX_LOG_LINES, Verb};
use crate::control::http::{self, Body, Remote};
use crate::control::nearest::hint;
use crate::control::percent;

/// Longest wait for the outcome of a command.
const MAX_WAIT_SECONDS: usize = 600;
/// Bytes of history read at once, and how many times as much may wait for a slow reader: a mebibyte in all.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS: usize = 16;
/// Lines told when nobody says how many.
const DEFAULT_LINES: usize = 200;

/// A reply on its way.
pub type Reply = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The API of the supervisor behind `handle`, for [`http::serve`].
pub fn handler(
    handle: Handle,
) -> impl Fn(Request<Incoming>, Remote) -> Reply + Clone + Send + Sync + 'static {
    move |request, _remote| {
        let handle = handle.clone();
        Box::pin(async move { answer(request, handle).await })
    }
}

async fn answer(request: Request<Incoming>, handle: Handle) -> Response<Body> {
    let path = request.uri().path().split('/').skip(1).map(percent::decode).collect::<Option<Vec<String>>>();
    let path = path.unwrap_or_default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = Query(request.uri().query().unwrap_or_default());
    let (get, post) = (request.method() == Method::GET, request.method() == Method::POST);
    if let ["v1", "status" | "down"] | ["v1", "processes", _] = path.as_slice()
        && let Err(reply) = query.knows(&[])
    {
        return *reply;
    }
    match (request.method(), path.as_slice()) {
        (_, ["v1", "status" | "logs"] | ["v1", "processes", _]) if !get => http::wrong_method("GET"),
        (_, ["v1", "down"] | ["v1", "processes", _, _]) if !post => http::wrong_method("POST"),
        (&Method::GET, ["v1", "status"]) => match handle.status().await {
            Ok(status) => http::json(StatusCode::OK, &status),
            Err(_) => gone(),
        },
        (&Method::GET, ["v1", "processes", name]) => match handle.status().await {
            Ok(status) => match status.processes.iter().find(|process| process.name == *name) {
                Some(process) => http::json(StatusCode::OK, process),
                None => {
                    let hint = hint(name, status.processes.iter().map(|process| process.name.as_str()));
                    unknown(&format!("there is no process named {name}{hint}"))
                }
            },
            Err(_) => gone(),
        },
        (&Method::POST, ["v1", "processes", name, verb]) => match Verb::parse(verb) {
            Some(verb) => act(&handle, verb, name, &query).await,
            None => http::error(
                StatusCode::NOT_FOUND,
                "unknown_path",
                "a process can be started, stopped or restarted",
            ),
        },
        (&Method::GET, ["v1", "logs"]) => log_lines(&handle, &query).await,
        (&Method::POST, ["v1", "down"]) => {
            handle.down().await;
            http::json(StatusCode::OK, &json!({"down": true}))
        }
        _ => http::error(StatusCode::NOT_FOUND, "unknown_path", "no such path; see docs/control.md"),
    }
}

async fn act(handle: &Handle, verb: Verb, name: &str, query: &Query<'_>) -> Response<Body> {
    let wait = match query.knows(&["wait"]).and_then(|()| query.number("wait", MAX_WAIT_SECONDS)) {
        Ok(seconds) => Duration::from_secs(seconds.unwrap_or(0) as u64),
        Err(reply) => return *reply,
    };
    match handle.act(verb, name, wait).await {
        Ok(acted) => http::json(StatusCode::OK, &acted),
        Err(ActError::Unknown(error)) => unknown(&error.to_string()),
        Err(ActError::Gone(_)) => gone(),
    }
}

async fn log_lines(handle: &Handle, query: &Query<'_>) -> Response<Body> {
    let known = query.knows(&["process", "n", "follow"]);
    let count = match known.and_then(|()| query.number("n", MAX_LOG_LINES)) {
        Ok(count) => count.unwrap_or(DEFAULT_LINES),
        Err(reply) => return *reply,
    };
    let Ok(status) = handle.status().await else { return gone() };
    let mut wanted: Vec<String> = Vec::new();
    for encoded in query.all("process") {
        let Some(name) = percent::decode(encoded) else {
            return unknown(&format!("{encoded} is no name: half an escape, or no text"));
        };
        if name == logs::SUPERVISOR {
            wanted.push(name);
            continue;
        }
        match status.named(&name) {
            Ok(processes) => wanted.extend(processes.into_iter().map(|process| process.name.clone())),
            Err(error) => return unknown(&error.to_string()),
        }
    }
    // A process and its group may both be named.
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        wanted.extend(status.processes.iter().map(|process| process.name.clone()));
        wanted.push(logs::SUPERVISOR.to_owned());
    }
    let turn = handle.logs().turn().await;
    // No wait between these two: on the supervisor's one thread no line can come in between, so none is lost or doubled.
    let live = (query.first("follow") == Some("1")).then(|| handle.logs().follow());
    let history = History::open(handle.logs().dir(), &wanted);
    // The rest takes its time; the thread goes on with what cannot wait.
    let found = off_thread(move || history?.last(count)).await;
    drop(turn);
    let mut history = match found {
        Ok(history) => history,
        Err(error) => {
            return http::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "unreadable",
                &format!("cannot read the logs: {error}"),
            );
        }
    };
    let (chunks, body) = mpsc::channel::<Bytes>(CHUNKS);
    tokio::spawn(async move {
        loop {
            // One chunk at a time: a thread must not wait for a slow reader.
            let read = off_thread(move || chunk(&mut history).map(|chunk| (chunk, history))).await;
            match read {
                Ok((chunk, _)) if chunk.is_empty() => break,
                Ok((chunk, rest)) => {
                    history = rest;
                    if chunks.send(chunk.into()).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the logs");
                    break;
                }
            }
        }
        let Some(mut live) = live else { return };
        loop {
            let bytes = tokio::select! {
                line = live.recv() => match line {
                    Ok(line) if wanted.iter().any(|name| *name == *line.process) => entry(&line),
                    Ok(_) => continue,
                    Err(RecvError::Lagged(lost)) => entry(&logs::lagged(lost)),
                    Err(RecvError::Closed) => return,
                },
                // The reader has left.
                () = chunks.closed() => return,
            };
            if chunks.send(bytes.into()).await.is_err() {
                return;
            }
        }
    });
    http::stream("application/x-ndjson", body)
}

/// Runs what reads files on a thread of its own.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The next lines of history; nothing after the last one.
fn chunk(history: &mut Lines) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < CHUNK_BYTES {
        let Some(line) = history.next()? else { break };
        bytes.extend(entry(&line));
    }
    Ok(bytes)
}

fn entry(line: &LogLine) -> Vec<u8> {
    let entry = LogEntry { process: line.process.to_string(), line: line.json.to_string() };
    let mut bytes = serde_json::to_vec(&entry).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn gone() -> Response<Body> {
    http::error(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the supervisor is going down")
}

fn unknown(message: &str) -> Response<Body> {
    http::error(StatusCode::NOT_FOUND, "unknown_process", message)
}

/// A query string.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(move |(name, _)| *name == key).map(|(_, value)| value)
    }

    fn first(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// Refuses a parameter that is none of these, or has no value.
    fn knows(&self, keys: &[&str]) -> Result<(), Box<Response<Body>>> {
        for pair in self.0.split('&').filter(|pair| !pair.is_empty()) {
            let (name, valued) = pair.split_once('=').map_or((pair, false), |(name, _)| (name, true));
            let twice = name != "process" && self.all(name).nth(1).is_some();
            if keys.contains(&name) && valued && !twice {
                continue;
            }
            let hint = if valued { hint(name, keys.iter().copied()) } else { String::new() };
            let known = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            let message =
                format!("{pair} is no parameter with its value, or stands twice{hint} (there are: {known})");
            return Err(Box::new(http::error(StatusCode::BAD_REQUEST, "bad_query", &message)));
        }
        Ok(())
    }

    fn number(&self, key: &str, most: usize) -> Result<Option<usize>, Box<Response<Body>>> {
        self.first(key)
            .map(|value| {
                value.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
                    let message = format!("{key}={value} is no number up to {most}");
                    Box::new(http::error(StatusCode::BAD_REQUEST, "no_number", &message))
                })
            })
            .transpose()
    }
}
