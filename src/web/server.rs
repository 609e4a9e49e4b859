//! The web server: looks up what was asked for in the table of pages and says what the pages need to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use opentelemetry::KeyValue;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::config::WebConfig;
use super::encoding::prefers_gzip;
use super::site::{self, File, Site, SiteError};
use super::{headers, ice};
use crate::control::http::{self, Body, HEALTH, Limits, Remote};
use crate::signaling;
use crate::signaling::secrets::{Secrets, SecretsError};
use crate::telemetry::catalogue;
use crate::telemetry::instruments::{TlsInstruments, WebInstruments};
use crate::tls::TlsError;
use crate::tls::secured::{Secured, Tls};
use crate::turn::ice::IceSource;

/// Connections at once. A page's dozen files come over six of them.
const MAX_CONNECTIONS: usize = 1024;

/// Time for the head of a request, and for which an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Every status that [`answer`] gives.
const STATUSES: [StatusCode; 5] = [
    StatusCode::OK,
    StatusCode::NOT_MODIFIED,
    StatusCode::UNAUTHORIZED,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
];

/// A running web server; dropping it leaves it running until the runtime ends.
#[derive(Debug)]
pub struct WebServer {
    local_addr: SocketAddr,
    http: http::Server,
    stop: CancellationToken,
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder of pages is no use.
    #[error("pages: {0}")]
    Pages(#[from] SiteError),
    /// It should ask for tokens and has nothing to check them with.
    #[error("token_secret_file: {0}")]
    Secrets(#[from] SecretsError),
    /// It should speak TLS and has no certificate.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
}

impl WebServer {
    /// Serves pages on `listener`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the folder of pages, the secrets of tokens or the certificate cannot be used.
    pub fn start(
        listener: TcpListener,
        config: WebConfig,
        instruments: WebInstruments,
        tls: TlsInstruments,
    ) -> Result<WebServer, StartError> {
        let pages = site::Current::open(config.pages)?;
        let secrets = config.token_secret_file.map(Secrets::open).transpose()?;
        let tls = config.tls.map(|files| Tls::open(files, tls)).transpose()?;
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&pages).follow(stop.clone()));
        if let Some(secrets) = &secrets {
            tokio::spawn(Arc::clone(secrets).follow(stop.clone()));
        }
        if let Some(tls) = &tls {
            tokio::spawn(Arc::clone(tls).follow(stop.clone()));
        }
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let limits =
            Limits { max_connections: MAX_CONNECTIONS, header_timeout: HEADER_TIMEOUT, ..Limits::default() };
        catalogue::WEB_REQUESTS
            .start_at_zero(&instruments.requests, STATUSES.map(|status| i64::from(status.as_u16())));
        let secure = config.signaling_tls || tls.is_some();
        let signaling = config.signaling_port.map(|port| headers::Signaling { port, secure });
        let handler = move |request: Request<Incoming>, _: Remote| {
            let known =
                Known { site: &pages.site(), signaling, ice: &config.ice, secrets: secrets.as_deref() };
            let response = answer(&request, &known);
            let status = i64::from(response.status().as_u16());
            instruments.requests.add(1, &[KeyValue::new("status", status)]);
            async move { response }
        };
        Ok(WebServer { local_addr, http: http::serve(Secured::new(listener, tls), limits, handler), stop })
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
        self.stop.cancel();
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
    /// Whether it is reached over TLS only.
    secure: bool,
}

/// What requests are answered from.
struct Known<'a> {
    site: &'a Site,
    signaling: Option<headers::Signaling>,
    ice: &'a [IceSource],
    /// Of the tokens that the signaling server asks for.
    secrets: Option<&'a Secrets>,
}

fn answer(request: &Request<Incoming>, known: &Known<'_>) -> Response<Body> {
    let mut response = match *request.method() {
        Method::GET | Method::HEAD => content(request.uri().path(), request.headers(), known),
        _ => http::wrong_method("GET, HEAD"),
    };
    headers::protect(response.headers_mut(), request.headers(), known.signaling);
    if request.method() == Method::HEAD { without_body(response) } else { response }
}

fn content(path: &str, request: &HeaderMap, known: &Known<'_>) -> Response<Body> {
    let mut response = match path {
        path if HEALTH.contains(&path) => http::text(StatusCode::OK, "ok\n"),
        "/config.json" => {
            let signaling = known.signaling.map(|headers::Signaling { port, secure }| SignalingAddress {
                port,
                path: signaling::PATH,
                secure,
            });
            http::json(StatusCode::OK, &PageConfig { signaling })
        }
        "/ice" => ice::answer(known.ice, known.secrets, request),
        path => match known.site.find(path) {
            Some(file) => return page_reply(file, request),
            None => http::error(StatusCode::NOT_FOUND, "not_found", "there is no such page"),
        },
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page_reply(file: &File, request: &HeaderMap) -> Response<Body> {
    let gzip = if prefers_gzip(request) { file.gzip() } else { None };
    let form = gzip.unwrap_or(&file.plain);
    let mut response = if is_known(request, &form.etag) {
        let mut unchanged = http::text(StatusCode::NOT_MODIFIED, "");
        unchanged.headers_mut().clear();
        unchanged
    } else {
        let mut whole = http::reply(StatusCode::OK, file.content_type, form.bytes.clone());
        if gzip.is_some() {
            whole.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        whole
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, form.etag.clone());
    // Kept, but asked for at each visit: a new version is seen at once and an old one costs no transfer.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if file.is_compressible() {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

/// Whether the client has this version already (RFC 9110, section 13.1.2: a weak comparison).
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    request.get_all(IF_NONE_MATCH).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(str::trim).any(|tag| tag == "*" || etag == tag.strip_prefix("W/").unwrap_or(tag))
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
