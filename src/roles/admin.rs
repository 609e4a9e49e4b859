//! The admin socket that every role has: `/livez`, `/readyz`, `/v1/status`, and what the role adds.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::runtime::Facts;
use crate::control::http::{self, Body, Limits, Server};
use crate::control::socket;
use crate::topology::plan::Role;

/// What a role adds to its admin API: answers a request, or `None` for a path that is not its own.
pub type Extra = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Option<Response<Body>>> + Send + Sync>;

/// What the admin API tells, shared with the runtime that fills it in.
pub struct AdminState {
    name: String,
    role: Role,
    started: Instant,
    ready: AtomicBool,
    facts: OnceLock<Facts>,
    extra: OnceLock<Extra>,
}

impl AdminState {
    /// A process that is not ready yet.
    #[must_use]
    pub fn new(name: &str, role: Role) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            role,
            started: Instant::now(),
            ready: AtomicBool::new(false),
            facts: OnceLock::new(),
            extra: OnceLock::new(),
        })
    }

    /// From now on `/readyz` says yes and the role's own paths are served.
    pub fn set_ready(&self, facts: Facts, extra: Option<Extra>) {
        let _ = self.facts.set(facts);
        if let Some(extra) = extra {
            let _ = self.extra.set(extra);
        }
        self.ready.store(true, Ordering::Release);
    }

    /// From now on `/readyz` says no: the process is about to end.
    pub fn set_stopping(&self) {
        self.ready.store(false, Ordering::Release);
    }
}

/// Serves the admin API at `path`.
///
/// # Errors
/// When the socket cannot be bound.
pub async fn serve(path: &Path, state: Arc<AdminState>) -> io::Result<Server> {
    let listener = socket::bind(path).await?;
    // Whoever follows the events may pause.
    let limits = Limits { max_connections: 64, write_timeout: None, ..Limits::default() };
    Ok(http::serve(listener, limits, move |request, _| answer(request, state.clone())))
}

async fn answer(request: Request<Incoming>, state: Arc<AdminState>) -> Response<Body> {
    let ready = state.ready.load(Ordering::Acquire);
    let get = request.method() == Method::GET;
    match request.uri().path() {
        "/livez" if get => return http::text(StatusCode::OK, "ok\n"),
        "/readyz" if get && ready => return http::text(StatusCode::OK, "ok\n"),
        "/readyz" if get => return http::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/livez" | "/readyz" => return http::wrong_method("GET"),
        _ => {}
    }
    let status = get && request.uri().path() == "/v1/status";
    if let Some(extra) = state.extra.get()
        && let Some(response) = extra(request).await
    {
        return response;
    }
    if !status {
        return http::error(StatusCode::NOT_FOUND, "unknown_path", "no such path or method");
    }
    let facts = state.facts.get().cloned().unwrap_or_default();
    http::json(
        StatusCode::OK,
        &json!({
            "name": state.name,
            "role": state.role,
            "pid": std::process::id(),
            "ready": ready,
            "uptime_seconds": state.started.elapsed().as_secs_f64(),
            "peer_id": facts.peer_id,
            "addresses": facts.addresses,
        }),
    )
}
