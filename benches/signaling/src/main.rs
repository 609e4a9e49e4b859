//! Load for signaling servers.
//!
//! ```text
//! signaling-load SERVER PORT pairs PAIRS SECONDS            pairs send 1 KiB to and fro, one message in flight each
//! signaling-load SERVER PORT idle CLIENTS                   connects, says so, and waits for a line on standard input
//! signaling-load SERVER PORT stalled PAIRS SECONDS [stop]   the same pairs, beside 100 readers who are sent 16 KiB 20 times a second
//! ```
//!
//! SERVER is `hippius`, `peer` or `matchbox`: each has its own way to say who one is and whom a message is for. Prints one JSON object. The WebSocket is
//! written by hand (frames made once, masked with zeros; what arrives is not parsed beyond its frame), so that the servers are measured and not this.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// What a pair sends to and fro.
const BODY: usize = 1024;
/// What a reader is sent.
const LARGE: usize = 16 * 1024;
/// What is smaller is no message of a pair: news of the room, a heartbeat.
const LEAST: usize = BODY;
const READERS: usize = 100;

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Hippius,
    Peer,
    Matchbox,
}

/// One connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    /// What others call it.
    id: String,
}

impl Client {
    /// Connects to `server` and says who this is: `id`, in a room of its own name.
    async fn join(server: Server, port: u16, room: &str, id: &str, small: bool) -> io::Result<Client> {
        let socket = TcpSocket::new_v4()?;
        if small {
            socket.set_recv_buffer_size(16 * 1024)?;
        }
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        let path = match server {
            Server::Hippius => "/signal".to_owned(),
            Server::Peer => format!("/peerjs?key=peerjs&id={id}&token=t&version=1.5.0"),
            Server::Matchbox => format!("/{room}"),
        };
        let mut client = Client { stream, buffer: Vec::with_capacity(4096), start: 0, id: id.to_owned() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            if let Some(end) = client.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            client.fill().await?;
        };
        if !client.buffer.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&client.buffer).into_owned()));
        }
        client.start = end;
        match server {
            Server::Hippius => {
                let register =
                    format!(r#"{{"type":"Register","payload":{{"peer_id":"{id}","room":"{room}"}}}}"#);
                client.stream.write_all(&frame(register.as_bytes())).await?;
                client.until("\"Registered\"").await?;
            }
            Server::Peer => {
                client.until("\"OPEN\"").await?;
            }
            Server::Matchbox => {
                let text = client.until("IdAssigned").await?;
                client.id = text.split('"').nth(3).unwrap_or_default().to_owned();
            }
        }
        Ok(client)
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next frame: its first byte and its payload's place in the buffer.
    async fn frame(&mut self) -> io::Result<(u8, std::ops::Range<usize>)> {
        loop {
            let bytes = &self.buffer[self.start..];
            let head = match bytes {
                [_, 126, a, b, ..] => Some((4, usize::from(u16::from_be_bytes([*a, *b])))),
                [_, 127, rest @ ..] => rest.first_chunk::<8>().map(|length| (10, u64::from_be_bytes(*length) as usize)),
                [_, length @ 0..=125, ..] => Some((2, usize::from(*length))),
                _ => None,
            };
            if let Some((head, length)) = head
                && bytes.len() >= head + length
            {
                let first = bytes[0];
                let payload = self.start + head..self.start + head + length;
                self.start = payload.end;
                return Ok((first, payload));
            }
            self.fill().await?;
        }
    }

    /// Reads on to a text that contains `word`.
    async fn until(&mut self, word: &str) -> io::Result<String> {
        loop {
            let (first, payload) = self.frame().await?;
            let text = String::from_utf8_lossy(&self.buffer[payload]);
            if first == TEXT && text.contains(word) {
                return Ok(text.into_owned());
            }
        }
    }

    /// Reads on to the next message of another client.
    async fn message(&mut self) -> io::Result<()> {
        loop {
            let (first, payload) = self.frame().await?;
            match first {
                TEXT if payload.len() >= LEAST => return Ok(()),
                TEXT => {}
                PING => {
                    let mut pong = frame(&self.buffer[payload]);
                    pong[0] = PONG;
                    self.stream.write_all(&pong).await?;
                }
                _ => return Err(io::Error::other(format!("{:?}", String::from_utf8_lossy(&self.buffer[payload])))),
            }
        }
    }
}

/// A text frame of a client, masked with zeros (RFC 6455, section 5.2).
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![TEXT];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The frame by which a message of `size` bytes goes to `to`.
fn message(server: Server, to: &str, size: usize) -> Vec<u8> {
    // As in a session description, a line break now and then, which JSON escapes.
    let body = format!("{}\\r\\n", "x".repeat(62)).repeat(size / 64);
    frame(
        match server {
            Server::Hippius => format!(r#"{{"type":"Offer","payload":{{"to":"{to}","sdp":"{body}"}}}}"#),
            Server::Peer => {
                format!(r#"{{"type":"OFFER","dst":"{to}","payload":{{"sdp":{{"type":"offer","sdp":"{body}"}}}}}}"#)
            }
            Server::Matchbox => format!(r#"{{"Signal":{{"receiver":"{to}","data":{{"Offer":"{body}"}}}}}}"#),
        }
        .as_bytes(),
    )
}

async fn pair(server: Server, port: u16, number: usize) -> io::Result<(Client, Client)> {
    let room = format!("p{number}");
    let a = Client::join(server, port, &room, &format!("a{number}"), false).await?;
    let b = Client::join(server, port, &room, &format!("b{number}"), false).await?;
    Ok((a, b))
}

/// Sends to and fro until `over`; how long each message took, in nanoseconds, from when `measuring` is set.
async fn play(
    server: Server,
    (mut a, mut b): (Client, Client),
    measuring: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
) -> io::Result<Vec<u64>> {
    let (to_a, to_b) = (message(server, &a.id, BODY), message(server, &b.id, BODY));
    let mut times = Vec::with_capacity(1 << 14);
    while !over.load(Ordering::Relaxed) {
        for turn in 0..2 {
            let sent = Instant::now();
            if turn == 0 {
                a.stream.write_all(&to_b).await?;
                b.message().await?;
            } else {
                b.stream.write_all(&to_a).await?;
                a.message().await?;
            }
            if measuring.load(Ordering::Relaxed) {
                times.push(sent.elapsed().as_nanos() as u64);
            }
        }
    }
    Ok(times)
}

/// Plays `pairs` for a time after a second of warming up and prints the figures.
async fn measure(server: Server, port: u16, pairs: usize, seconds: u64) -> io::Result<()> {
    let (measuring, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut players = Vec::new();
    for number in 0..pairs {
        players.push(pair(server, port, number).await?);
    }
    let tasks: Vec<_> = players
        .into_iter()
        .map(|pair| tokio::spawn(play(server, pair, Arc::clone(&measuring), Arc::clone(&over))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("measuring");
    io::stdout().flush()?;
    measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(io::Error::other)??);
    }
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, |ns| *ns as f64 / 1e6);
    println!(
        r#"{{"messages": {}, "per_second": {:.0}, "median_ms": {:.4}, "p99_ms": {:.4}}}"#,
        times.len(),
        times.len() as f64 / took,
        at(0.5),
        at(0.99)
    );
    Ok(())
}

/// Readers beside the pairs, and who sends to them. They read nothing if they `stop`.
async fn crowd(server: Server, port: u16, stop: bool) -> io::Result<()> {
    for number in 0..READERS {
        let room = format!("r{number}");
        let mut reader = Client::join(server, port, &room, &format!("r{number}"), true).await?;
        let mut sender = Client::join(server, port, &room, &format!("s{number}"), false).await?;
        let large = message(server, &reader.id, LARGE);
        tokio::spawn(async move {
            if stop {
                // Held, and never read.
                std::future::pending::<()>().await;
            }
            while reader.message().await.is_ok() {}
        });
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            let mut ignored = vec![0; 16 * 1024];
            loop {
                tokio::select! {
                    _ = tick.tick() => if sender.stream.write_all(&large).await.is_err() { return },
                    read = sender.stream.read(&mut ignored) => if !matches!(read, Ok(1..)) { return },
                }
            }
        });
    }
    Ok(())
}

async fn idle(server: Server, port: u16, clients: usize) -> io::Result<()> {
    let mut held = Vec::with_capacity(clients);
    for number in 0..clients {
        // Fifty to a room.
        let (room, id) = (format!("i{}", number / 50), format!("i{number}"));
        held.push(Client::join(server, port, &room, &id, false).await?.stream);
    }
    println!(r#"{{"connected": {clients}}}"#);
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new())?;
    drop(held);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [server, port, what, rest @ ..] = &words[..] else { panic!("see the source for its arguments") };
    let server = match *server {
        "hippius" => Server::Hippius,
        "peer" => Server::Peer,
        "matchbox" => Server::Matchbox,
        other => panic!("no server {other}"),
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let port = port.parse().expect("a port");
    match (*what, rest) {
        ("pairs", [pairs, seconds]) => measure(server, port, number(pairs), number(seconds) as u64).await,
        ("stalled", [pairs, seconds, stop @ ..]) => {
            crowd(server, port, stop == ["stop"]).await?;
            measure(server, port, number(pairs), number(seconds) as u64).await
        }
        ("idle", [clients]) => idle(server, port, number(clients)).await,
        _ => panic!("see the source for its arguments"),
    }
}
