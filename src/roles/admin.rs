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

/// What a role adds to its admin API: answers a request, or gives it back.
pub type Extra = Arc<
    dyn Fn(Request<Incoming>) -> BoxFuture<'static, Result<Response<Body>, Request<Incoming>>> + Send + Sync,
>;

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
    Ok(http::serve(listener, Limits { max_connections: 64, ..Limits::default() }, move |request, _| {
        answer(request, state.clone())
    }))
}

async fn answer(request: Request<Incoming>, state: Arc<AdminState>) -> Response<Body> {
    let request = match state.extra.get() {
        Some(extra) => match extra(request).await {
            Ok(response) => return response,
            Err(request) => request,
        },
        None => request,
    };
    if request.method() != Method::GET {
        return http::error(StatusCode::NOT_FOUND, "unknown_path", "no such path");
    }
    let ready = state.ready.load(Ordering::Acquire);
    match request.uri().path() {
        "/livez" => http::text(StatusCode::OK, "ok\n"),
        "/readyz" if ready => http::text(StatusCode::OK, "ok\n"),
        "/readyz" => http::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/v1/status" => {
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
        _ => http::error(StatusCode::NOT_FOUND, "unknown_path", "no such path"),
    }
}
