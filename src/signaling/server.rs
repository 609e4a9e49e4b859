//! The signaling server's front door: HTTP requests that become WebSockets at `/signal`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::SignalingConfig;
use super::door::Door;
use super::limits::{self, SPARE, SPARE_PER_ADDRESS};
use super::origin::{self, Way};
use super::secrets::{Secrets, SecretsError};
use super::shared::Shared;
use super::wire::{CloseReason, MAX_MESSAGE_BYTES, PATH};
use super::{refusal, session};
use crate::control::host;
use crate::control::http::{self, Body, HEALTH, Limits, Remote};
use crate::control::places::{Places, subject};
use crate::telemetry::instruments::{SignalingInstruments, TlsInstruments};
use crate::tls::TlsError;
use crate::tls::secured::{Secured, Tls};

/// Of an `Origin` header that is refused, what the log shows.
const LONGEST_SHOWN_ORIGIN: usize = 200;

/// A running signaling server; dropping it leaves it running until the runtime ends.
#[derive(Debug)]
pub struct SignalingServer {
    local_addr: SocketAddr,
    http: http::Server,
    shared: Arc<Shared>,
    sessions: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It should ask for tokens and has nothing to check them with.
    #[error("token_secret_file: {0}")]
    Secrets(#[from] SecretsError),
    /// It should speak TLS and has no certificate.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
}

impl SignalingServer {
    /// Serves clients on `listener`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the secrets of tokens or the certificate cannot be used.
    pub fn start(
        listener: TcpListener,
        config: SignalingConfig,
        instruments: SignalingInstruments,
        tls: TlsInstruments,
    ) -> Result<SignalingServer, StartError> {
        let secrets = config.token_secret_file.clone().map(Secrets::open).transpose()?;
        let tls = config.tls.clone().map(|files| Tls::open(files, tls)).transpose()?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let (per_address, clients) = (config.max_per_address, config.max_clients);
        let connections = clients.saturating_add(SPARE);
        let limits = Limits {
            // The door bounds the connections; the HTTP server never gets to see one too many.
            max_connections: connections as usize,
            header_timeout: config.register_timeout,
            write_timeout: Some(config.write_timeout),
        };
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let shared = Shared::new(config, secrets.clone(), instruments, kill.clone());
        let sessions = TaskTracker::new();
        sessions.spawn(Arc::clone(&shared).keep_time(stop.clone()));
        if let Some(secrets) = secrets {
            sessions.spawn(secrets.follow(stop.clone()));
        }
        if let Some(tls) = &tls {
            sessions.spawn(Arc::clone(tls).follow(stop.clone()));
        }
        let table = Places::new(per_address.saturating_add(SPARE_PER_ADDRESS), connections);
        let door = Door::new(listener, table, Arc::clone(&shared));
        let desk = Arc::new(Desk {
            seats: Places::new(per_address, clients),
            shared: Arc::clone(&shared),
            sessions: sessions.clone(),
            kill: kill.clone(),
            warned: AtomicBool::new(false),
        });
        let handler = move |request: Request<Incoming>, remote: Remote| {
            let reply = desk.answer(request, remote);
            async move { reply }
        };
        let http = http::serve(Secured::new(door, tls), limits, handler);
        Ok(SignalingServer { local_addr, http, shared, sessions, stop, kill })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more connections, tells every client that the service restarts, waits at most `grace` for them
    /// to close, then drops those that have not.
    pub async fn shutdown(self, grace: Duration) {
        let until = tokio::time::Instant::now() + grace;
        self.stop.cancel();
        self.shared.close_all(CloseReason::Restart);
        self.sessions.close();
        self.http.shutdown(grace).await;
        if tokio::time::timeout_at(until, self.sessions.wait()).await.is_err() {
            self.kill.cancel();
            self.sessions.wait().await;
        }
    }
}

/// Answers requests and gives those that become WebSockets their seats.
struct Desk {
    seats: Arc<Places>,
    shared: Arc<Shared>,
    sessions: TaskTracker,
    kill: CancellationToken,
    /// Whether the log has heard of a page that was refused; strangers could fill it otherwise.
    warned: AtomicBool,
}

impl Desk {
    /// Answers one request; a WebSocket's session is started besides.
    fn answer(&self, request: Request<Incoming>, remote: Remote) -> Response<Body> {
        let path = request.uri().path();
        let health = HEALTH.contains(&path);
        if path != PATH && !health {
            let message = format!("signaling is at {PATH}");
            return http::error(StatusCode::NOT_FOUND, "not_found", &message);
        }
        if request.method() != Method::GET {
            return http::wrong_method("GET");
        }
        if health {
            return http::text(StatusCode::OK, "ok\n");
        }
        let Some(accept) = accept_key(request.headers()) else {
            self.shared.count_refused(refusal::NO_WEBSOCKET);
            let message = "connect with a WebSocket client, version 13";
            return with(
                http::error(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message),
                [
                    (UPGRADE, HeaderValue::from_static("websocket")),
                    (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
                ],
            );
        };
        if !self.is_welcome(&request, remote) {
            let message = "pages of this origin may not connect; whoever runs the server can list it in `allowed_origins`";
            return http::error(StatusCode::FORBIDDEN, "foreign_origin", message);
        }
        self.seat(request, remote);
        let mut response = http::text(StatusCode::SWITCHING_PROTOCOLS, "");
        response.headers_mut().clear();
        with(
            response,
            [
                (CONNECTION, HeaderValue::from_static("upgrade")),
                (UPGRADE, HeaderValue::from_static("websocket")),
                (SEC_WEBSOCKET_ACCEPT, accept),
            ],
        )
    }

    /// Whether the page that the request comes from, if it comes from one, may connect.
    fn is_welcome(&self, request: &Request<Incoming>, remote: Remote) -> bool {
        let headers = request.headers();
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(|authority| authority.as_str()).or(host);
        let way = match remote {
            Remote::Tcp(from) => Way::of(from.ip()),
            Remote::Unix => Way::Loopback,
        };
        let welcome = origin::admits(headers, authority, way, &self.shared.config.allowed_origins);
        if !welcome {
            self.shared.count_refused(refusal::FOREIGN_ORIGIN);
            if !self.warned.swap(true, Ordering::Relaxed) {
                let origin = headers.get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
                let origin: String = origin.unwrap_or_default().chars().take(LONGEST_SHOWN_ORIGIN).collect();
                tracing::warn!(
                    origin,
                    host,
                    "a page was refused for its origin; if it is yours, list it in allowed_origins (said once)"
                );
            }
        }
        welcome
    }

    /// Starts what becomes of a connection once it is a WebSocket: a session, or a word that there is no place for one.
    fn seat(&self, mut request: Request<Incoming>, remote: Remote) {
        let seat = match remote {
            Remote::Tcp(from) => self.seats.admit(from.ip()).map(Some),
            Remote::Unix => Ok(None),
        };
        let address = remote.address().map(subject);
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).and_then(host::host_of);
        let host = host.map(str::to_owned);
        let upgrade = hyper::upgrade::on(&mut request);
        let (shared, kill) = (Arc::clone(&self.shared), self.kill.clone());
        self.sessions.spawn(async move {
            let Some(Ok(upgraded)) = kill.run_until_cancelled(upgrade).await else { return };
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE_BYTES))
                .max_frame_size(Some(MAX_MESSAGE_BYTES))
                // Held for the life of each connection, so a fraction of the default of 128 KiB.
                .read_buffer_size(4 * 1024)
                .write_buffer_size(4 * 1024);
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
            match seat {
                Ok(_held) => session::run(socket, (address, host), shared).await,
                Err(full) => session::turn_away(socket, limits::close_reason(full), &shared).await,
            }
        });
    }
}

fn with<const N: usize>(
    mut response: Response<Body>,
    headers: [(HeaderName, HeaderValue); N],
) -> Response<Body> {
    response.headers_mut().extend(headers);
    response
}

/// The answer to a WebSocket handshake (RFC 6455, section 4.2); `None` if this is none.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name: HeaderName, token: &str| {
        headers.get_all(name).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    };
    let version = headers.get(SEC_WEBSOCKET_VERSION)?;
    // 16 bytes in base64.
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24)?;
    if version != "13" || !lists(CONNECTION, "upgrade") || !lists(UPGRADE, "websocket") {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}
