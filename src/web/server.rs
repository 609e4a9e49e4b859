//! The web server: looks up what was asked for in the table of pages and says what the pages need to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use opentelemetry::KeyValue;
use serde::Serialize;
use tokio::net::TcpListener;

use super::config::WebConfig;
use super::{headers, pages};
use crate::control::http::{self, Body, Limits, Remote};
use crate::signaling;
use crate::telemetry::catalogue;
use crate::telemetry::instruments::WebInstruments;

/// Connections at once. A page's dozen files come over six of them.
const MAX_CONNECTIONS: usize = 1024;

/// Time for the head of a request, and for which an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Every status that [`answer`] gives.
const STATUSES: [StatusCode; 4] =
    [StatusCode::OK, StatusCode::NOT_MODIFIED, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];

/// A running web server; dropping it leaves it running until the runtime ends.
#[derive(Debug)]
pub struct WebServer {
    local_addr: SocketAddr,
    http: http::Server,
}

impl WebServer {
    /// Serves pages on `listener`. Must be called on a tokio runtime.
    #[must_use]
    pub fn start(listener: TcpListener, config: WebConfig, instruments: WebInstruments) -> WebServer {
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let limits =
            Limits { max_connections: MAX_CONNECTIONS, header_timeout: HEADER_TIMEOUT, ..Limits::default() };
        catalogue::WEB_REQUESTS
            .start_at_zero(&instruments.requests, STATUSES.map(|status| i64::from(status.as_u16())));
        let signaling_port = config.signaling_port;
        let handler = move |request: Request<Incoming>, _: Remote| {
            let response = answer(&request, signaling_port);
            let status = i64::from(response.status().as_u16());
            instruments.requests.add(1, &[KeyValue::new("status", status)]);
            async move { response }
        };
        WebServer { local_addr, http: http::serve(listener, limits, handler) }
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections closed unanswered because too many were open; goes on counting.
    #[must_use]
    pub fn refused_counter(&self) -> Arc<AtomicU64> {
        self.http.refused_counter()
    }

    /// Takes no more connections, lets requests under way finish for `grace`, then drops the rest.
    pub async fn shutdown(self, grace: Duration) {
        self.http.shutdown(grace).await;
    }
}

/// `GET /config.json`: what the page cannot know by itself.
#[derive(Serialize)]
struct PageConfig {
    /// `null`: there is no signaling server.
    signaling: Option<SignalingAddress>,
}

#[derive(Serialize)]
struct SignalingAddress {
    port: u16,
    path: &'static str,
}

/// `GET /ice`: the page's ICE servers and until when their credentials hold, in seconds since 1970.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IceConfig {
    ice_servers: [(); 0],
    #[serde(rename = "expires_at")]
    expires_at: Option<u64>,
}

fn answer(request: &Request<Incoming>, signaling_port: Option<u16>) -> Response<Body> {
    let mut response = match *request.method() {
        Method::GET | Method::HEAD => content(request.uri().path(), request.headers(), signaling_port),
        _ => {
            let message = "only GET and HEAD are served here";
            let mut refusal = http::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        }
    };
    headers::protect(response.headers_mut(), request.headers(), signaling_port);
    if request.method() == Method::HEAD { without_body(response) } else { response }
}

fn content(path: &str, request: &HeaderMap, signaling_port: Option<u16>) -> Response<Body> {
    let mut response = match path {
        "/healthz" => http::text(StatusCode::OK, "ok\n"),
        "/config.json" => {
            let signaling = signaling_port.map(|port| SignalingAddress { port, path: signaling::PATH });
            http::json(StatusCode::OK, &PageConfig { signaling })
        }
        "/ice" => http::json(StatusCode::OK, &IceConfig { ice_servers: [], expires_at: None }),
        path => match pages::find(path) {
            Some((page, etag)) => return page_reply(&page, etag, request),
            None => http::error(StatusCode::NOT_FOUND, "not_found", "there is no such page"),
        },
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page_reply(page: &pages::Page, etag: &'static str, request: &HeaderMap) -> Response<Body> {
    let mut response = if is_known(request, etag) {
        let mut unchanged = http::text(StatusCode::NOT_MODIFIED, "");
        unchanged.headers_mut().clear();
        unchanged
    } else {
        http::reply(StatusCode::OK, page.content_type, page.bytes)
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(etag));
    // Kept, but asked for at each visit: a new version is seen at once and an old one costs no transfer.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether the client has this version already (RFC 9110, section 13.1.2: a weak comparison).
fn is_known(request: &HeaderMap, etag: &str) -> bool {
    request.get_all(IF_NONE_MATCH).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// The answer to `HEAD`: everything but the body, whose length it names.
fn without_body(response: Response<Body>) -> Response<Body> {
    let length = hyper::body::Body::size_hint(response.body()).exact();
    let (mut head, _) = response.into_parts();
    if let Some(length) = length.filter(|_| head.status != StatusCode::NOT_MODIFIED) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut empty = http::text(head.status, "");
    *empty.headers_mut() = head.headers;
    empty
}
