//! One kept-alive HTTP/1.1 connection that metrics are posted on (RFC 9112). Blocking, for a thread of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use hyper::Uri;

use super::token;

/// Time for a connection to be made. The receiver is on this machine or in this cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest head of an answer, and longest body that is read to keep the connection.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
const MAX_ANSWER_HEADERS: usize = 64;

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// It is no URL with a host.
    #[error("the telemetry endpoint {0:?} is no URL of the form http://HOST:PORT/v1/metrics")]
    NoUrl(String),
    /// It is not plain HTTP.
    #[error(
        "the telemetry endpoint {0:?} is not http://; metrics travel in plain HTTP on the loopback interface or inside \
         a cluster, put a local proxy before a receiver that wants TLS"
    )]
    NotHttp(String),
    /// The token cannot stand in a header.
    #[error("the telemetry token holds characters that an HTTP header cannot carry")]
    Token,
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error("cannot reach {address}: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the answer is no HTTP")]
    NoHttp,
    #[error("the receiver refused with status {0}")]
    Refused(u16),
}

/// The client side of one connection.
pub(super) struct PushClient {
    /// `host:port`, for connecting.
    address: String,
    /// The request head up to the number of `Content-Length`.
    head: Vec<u8>,
    connection: Option<TcpStream>,
    /// Reused for requests and answers.
    buffer: Vec<u8>,
}

impl std::fmt::Debug for PushClient {
    /// The head holds the token and is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushClient").field("address", &self.address).finish_non_exhaustive()
    }
}

impl PushClient {
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, EndpointError> {
        let no_url = || EndpointError::NoUrl(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| no_url())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(EndpointError::NotHttp(endpoint.to_owned())),
            None => return Err(no_url()),
        }
        let authority = uri.authority().ok_or_else(no_url)?;
        // A user name in the URL would be a secret in a place where none belongs.
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(no_url());
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut head = format!(
            "POST {target} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/x-protobuf\r\n"
        );
        if let Some(token) = token {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.is_empty() {
                return Err(EndpointError::Token);
            }
            head.push_str(&format!("{}: {}{token}\r\n", token::HEADER, token::SCHEME));
        }
        head.push_str("content-length: ");
        Ok(Self { address, head: head.into_bytes(), connection: None, buffer: Vec::new() })
    }

    /// Posts `body` and waits for the answer, on the kept connection if there is one.
    pub(super) fn post(&mut self, body: &[u8]) -> Result<(), PushError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.head);
        let _ = write!(self.buffer, "{}\r\n\r\n", body.len());
        self.buffer.extend_from_slice(body);
        if let Some(kept) = self.connection.take() {
            match exchange(&kept, &self.buffer) {
                // The receiver closed it while it was idle, which is its right: once more on a new one.
                Err(Exchange::Unanswered(_)) => {}
                result => return self.settle(kept, result),
            }
        }
        let stream = connect(&self.address)
            .map_err(|source| PushError::Unreachable { address: self.address.clone(), source })?;
        let result = exchange(&stream, &self.buffer);
        self.settle(stream, result)
    }

    fn settle(&mut self, stream: TcpStream, result: Result<Answer, Exchange>) -> Result<(), PushError> {
        match result {
            Ok(answer) => {
                if answer.keep {
                    self.connection = Some(stream);
                }
                if (200..300).contains(&answer.status) {
                    Ok(())
                } else {
                    Err(PushError::Refused(answer.status))
                }
            }
            Err(Exchange::Unanswered(error) | Exchange::Broken(error)) => Err(PushError::Broken(error)),
            Err(Exchange::NoHttp) => Err(PushError::NoHttp),
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

struct Answer {
    status: u16,
    /// Whether the connection can carry another request.
    keep: bool,
}

enum Exchange {
    /// Not a byte came back.
    Unanswered(io::Error),
    Broken(io::Error),
    NoHttp,
}

fn exchange(mut stream: &TcpStream, request: &[u8]) -> Result<Answer, Exchange> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    stream.write_all(request).map_err(Exchange::Unanswered)?;
    // The usual answer is some 100 bytes without a body.
    let mut answer = [0; MAX_ANSWER_BYTES];
    let mut length = 0;
    loop {
        match stream.read(&mut answer[length..]) {
            Ok(0) if length == 0 => return Err(Exchange::Unanswered(io::ErrorKind::UnexpectedEof.into())),
            Ok(0) => return Err(Exchange::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if length == 0 && error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Exchange::Unanswered(error));
            }
            Err(error) => return Err(Exchange::Broken(error)),
        }
        match parse(&answer[..length])? {
            Parsed::Whole(answer) => return Ok(answer),
            Parsed::Partial if length == answer.len() => return Err(Exchange::NoHttp),
            Parsed::Partial if Instant::now() > deadline => {
                return Err(Exchange::Broken(io::ErrorKind::TimedOut.into()));
            }
            Parsed::Partial => {}
        }
    }
}

enum Parsed {
    Whole(Answer),
    Partial,
}

/// What `bytes` say so far. An answer whose end is not told by a `Content-Length` that fits gives its status and costs
/// the connection.
fn parse(bytes: &[u8]) -> Result<Parsed, Exchange> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_ANSWER_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| Exchange::NoHttp)? else {
        return Ok(Parsed::Partial);
    };
    let status = response.code.ok_or(Exchange::NoHttp)?;
    if status < 200 {
        // Nothing asked for an interim answer.
        return Err(Exchange::NoHttp);
    }
    let values = |name: &'static str| {
        response
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let closes = response.version != Some(1)
        || values("connection")
            .any(|value| value.to_ascii_lowercase().windows(5).any(|word| word == b"close"));
    if values("transfer-encoding").next().is_some() {
        return Ok(Parsed::Whole(Answer { status, keep: false }));
    }
    let mut lengths = values("content-length");
    let length = match (lengths.next(), lengths.next()) {
        (None, _) if status == 204 => Some(0),
        (Some(digits), None) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok())
        }
        _ => None,
    };
    match length {
        Some(length) if length <= MAX_ANSWER_BYTES - head.min(MAX_ANSWER_BYTES) => {
            if bytes.len() < head + length {
                return Ok(Parsed::Partial);
            }
            // More than the answer: the other side is out of step.
            Ok(Parsed::Whole(Answer { status, keep: !closes && bytes.len() == head + length }))
        }
        _ => Ok(Parsed::Whole(Answer { status, keep: false })),
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
