//! Bytes straight to a socket, as a stranger sends them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::{DEADLINE, text};

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Place {
    /// `host:port`
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A connection to a [`Place`].
#[derive(Debug)]
pub enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An HTTP reply.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers in small letters.
    pub head: String,
    pub body: String,
}

impl Place {
    /// The server of a URL.
    #[track_caller]
    pub fn of_url(url: &str) -> Self {
        let rest = url.split_once("://").expect("a URL").1;
        Place::Tcp(rest.split('/').next().expect("a host").to_owned())
    }

    /// Connects; the reader waits for at most the deadline.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        match self {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("it listens");
                stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                Connection::Tcp(stream)
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).expect("it listens");
                stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                Connection::Unix(stream)
            }
        }
    }

    /// Sends `bytes` and nothing more, and gives what comes back until the server closes. Breaks on the way are
    /// an answer, too: a server may close on rubbish before it has read all of it. Silence is not.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut connection = self.connect();
        let _ = connection.write_all(bytes);
        connection.end_of_input();
        connection.rest()
    }

    /// A request with a body. A server that closes without a word gives status 0.
    #[track_caller]
    pub fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let mut connection = self.connect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let _ = connection.write_all(head.as_bytes());
        let _ = connection.write_all(body);
        let reply = text(&connection.rest());
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

impl Connection {
    fn end_of_input(&self) {
        let _ = match self {
            Connection::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Connection::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Everything up to the end; the server must close before the deadline.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.read_to_end(&mut bytes) {
            let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            assert!(!silent, "the server neither answers nor closes");
        }
        bytes
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.read(buffer),
            Connection::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.write(bytes),
            Connection::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a server that speaks HTTP gets from strangers who do not, or do it badly.
pub fn rubbish() -> Vec<Vec<u8>> {
    let head = |text: &str| format!("{text}\r\n\r\n").into_bytes();
    vec![
        Vec::new(),
        vec![0; 4096],
        (0..=255).cycle().take(100_000).collect(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"{\"jsonrpc\": \"2.0\", \"method\": \"status\"}\n".to_vec(),
        head("GET"),
        head("GET / HTTP/9.9"),
        head("PRI * HTTP/2.0"),
        head(&format!("GET /{} HTTP/1.1\r\nhost: x", "a".repeat(200_000))),
        head(&format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "b".repeat(200_000))),
        head(&format!("GET / HTTP/1.1\r\nhost: x{}", "\r\na: b".repeat(5_000))),
        head("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1"),
        head("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999"),
        head("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked"),
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec(),
    ]
}
