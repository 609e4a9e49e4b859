//! A small HTTP client for unix sockets: one request, one connection.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::socket;

/// Largest reply that is read whole, in bytes.
const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("nothing listens on {path}", path = .0.display())]
    NotRunning(PathBuf),
    /// The socket exists but the request could not be made.
    #[error("cannot talk to {path}: {source}", path = .path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer in {0:?}")]
    Timeout(Duration),
    /// The answer is not of the form it should be.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Machine-readable reason.
        code: String,
        /// The reason in words.
        message: String,
    },
}

/// A client of the server on one unix socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the socket at `path`; nothing is opened yet. Requests time out after 10 s.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), timeout: Duration::from_secs(10) }
    }

    /// The same client with another time limit for an answer to begin and, but for [`Client::lines`], to end.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// `GET`s a JSON value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.json(Method::GET, target, Bytes::new()).await
    }

    /// `POST`s `body` as JSON and reads a JSON value back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        target: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.json(Method::POST, target, body.into()).await
    }

    /// `GET`s a body that goes on for as long as the server likes, line by line.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lines(&self, target: &str) -> Result<Lines, ClientError> {
        let response = self.send(Method::GET, target, Bytes::new()).await?;
        if response.status().is_success() {
            Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
        } else {
            Err(self.refusal(response).await)
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, target, body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = self.whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        let exchange = async {
            let stream = socket::connect(&self.path).await.map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NotRunning(self.path.clone())
                }
                _ => ClientError::Io { path: self.path.clone(), source },
            })?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        };
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| ClientError::Timeout(self.timeout))?
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = http_body_util::Limited::new(response.into_body(), MAX_REPLY_BYTES);
        match tokio::time::timeout(self.timeout, body.collect()).await {
            Err(_) => Err(ClientError::Timeout(self.timeout)),
            Ok(Err(error)) => Err(ClientError::Answer(error.to_string())),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
        }
    }

    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        #[derive(serde::Deserialize)]
        struct Reply {
            error: Inner,
        }
        #[derive(serde::Deserialize)]
        struct Inner {
            code: String,
            message: String,
        }
        let status = response.status();
        match self.whole(response).await {
            Ok(bytes) => match serde_json::from_slice::<Reply>(&bytes) {
                Ok(Reply { error }) => {
                    ClientError::Refused { status, code: error.code, message: error.message }
                }
                Err(_) => ClientError::Answer(format!("{status}: {}", String::from_utf8_lossy(&bytes))),
            },
            Err(error) => error,
        }
    }
}

/// The lines of a streamed reply.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line without its end; `None` once the server has closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Http`] when the connection breaks, [`ClientError::Answer`] for a line over 16 MiB.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.buffer.len() > MAX_REPLY_BYTES {
                return Err(ClientError::Answer("a line without end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
