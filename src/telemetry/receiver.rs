//! The HTTP side of the metric store: takes pushes (OTLP/HTTP, protobuf), shows `/metrics` and `/stats`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prometheus::Registry;
use prost::Message;
use tokio::sync::Semaphore;

use super::refusal::Reason;
use super::store::{Accepted, Refusal, SharedStore};
use super::token::{self, Token};
use super::{exposition, stats, text};
use crate::control::http::{self, Body, BodyError, Remote};

/// Largest push, in bytes. A node with 64 peers sends about 40 KiB; 2,000 series with long labels fit.
pub const MAX_PUSH_BYTES: usize = 1024 * 1024;

/// Pages made at the same time. Each takes memory for all series and a processor; the next waits its turn.
const MAX_RENDERS: usize = 1;

const PROTOBUF: &str = "application/x-protobuf";

/// A reply on its way.
pub type Reply = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Serves `POST /v1/metrics`, `GET /metrics` and `GET /stats`, for [`crate::control::http::serve`].
///
/// `store` must be [registered](exposition::register) on `registry` to be shown.
pub fn handler(
    store: SharedStore,
    registry: Registry,
) -> impl Fn(Request<Incoming>, Remote) -> Reply + Clone + Send + Sync + 'static {
    let receiver = Receiver { store, registry, renders: Arc::new(Semaphore::new(MAX_RENDERS)) };
    move |request, _remote| Box::pin(receiver.clone().answer(request))
}

#[derive(Clone)]
struct Receiver {
    store: SharedStore,
    registry: Registry,
    renders: Arc<Semaphore>,
}

impl Receiver {
    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match (request.uri().path(), request.method()) {
            ("/v1/metrics", &Method::POST) => self.push(request).await,
            ("/v1/metrics", _) => http::wrong_method("POST"),
            ("/metrics", &Method::GET | &Method::HEAD) => {
                let registry = self.registry.clone();
                self.page(text::CONTENT_TYPE, move || exposition::render(&registry).into()).await
            }
            ("/stats", &Method::GET | &Method::HEAD) => {
                let registry = self.registry.clone();
                let page = move || {
                    let stats = stats::Stats::of(&exposition::gather(&registry));
                    serde_json::to_vec(&stats).unwrap_or_default().into()
                };
                self.page("application/json", page).await
            }
            ("/metrics" | "/stats", _) => http::wrong_method("GET, HEAD"),
            _ => http::error(
                StatusCode::NOT_FOUND,
                "not_found",
                "here are /metrics, /stats and, for processes, /v1/metrics",
            ),
        }
    }

    /// A page with all series may take milliseconds to make, which the runtime's one thread must not wait for.
    async fn page(
        &self,
        content_type: &'static str,
        make: impl FnOnce() -> Bytes + Send + 'static,
    ) -> Response<Body> {
        let Ok(permit) = self.renders.clone().acquire_owned().await else {
            return http::error(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping");
        };
        let made = tokio::task::spawn_blocking(move || {
            let page = make();
            drop(permit);
            page
        });
        match made.await {
            Ok(page) => http::reply(StatusCode::OK, content_type, page),
            Err(error) => http::error(StatusCode::INTERNAL_SERVER_ERROR, "failed", &error.to_string()),
        }
    }

    async fn push<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Who it is comes first: nothing of a stranger's body is read.
        let token = bearer(request.headers());
        let admitted = self.store.lock().admit(token.as_ref(), Instant::now());
        let ticket = match admitted {
            Ok(ticket) => ticket,
            Err(refusal) => return refused(refusal),
        };
        if !is_protobuf(request.headers()) {
            return refused(self.store.lock().refuse(Reason::MediaType));
        }
        let body = match http::read_body(request.into_body(), MAX_PUSH_BYTES).await {
            Ok(body) => body,
            Err(error) => {
                let reason = match error {
                    BodyError::TooLarge(_) => Reason::TooLarge,
                    BodyError::Timeout(_) | BodyError::Broken => Reason::Malformed,
                };
                self.store.lock().refuse(reason);
                return error.reply();
            }
        };
        match self.store.ingest(&ticket, &body, Instant::now()) {
            Ok(accepted) => receipt(&accepted),
            Err(refusal) => refused(refusal),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_at_checked(token::SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(token::SCHEME) {
        return None;
    }
    rest.trim().parse().ok()
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let plain =
        headers.get(CONTENT_ENCODING).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    plain && kind.eq_ignore_ascii_case(PROTOBUF)
}

/// The answer to a push: empty when all was kept, else how much was not and why (OTLP "partial success").
fn receipt(accepted: &Accepted) -> Response<Body> {
    let refused = accepted.refused.total();
    let partial_success = (refused > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(refused).unwrap_or(i64::MAX),
        error_message: accepted
            .refused
            .iter()
            .map(|(reason, times)| format!("{reason}: {times}"))
            .collect::<Vec<_>>()
            .join(", "),
    });
    http::reply(StatusCode::OK, PROTOBUF, ExportMetricsServiceResponse { partial_success }.encode_to_vec())
}

fn refused(Refusal(reason): Refusal) -> Response<Body> {
    let (status, message) = match reason {
        Reason::Unauthenticated => (StatusCode::UNAUTHORIZED, "no token, or one that no process was given"),
        Reason::Late => (StatusCode::UNAUTHORIZED, "the token belongs to a process that has ended"),
        Reason::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "pushed more often than 10 times a second"),
        Reason::MediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send OTLP as application/x-protobuf, not compressed")
        }
        _ => (StatusCode::BAD_REQUEST, "the body is no OTLP ExportMetricsServiceRequest"),
    };
    let mut reply = http::error(status, reason.as_str(), message);
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}
