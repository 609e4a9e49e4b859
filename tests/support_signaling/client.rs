//! A signaling server on a free port, and clients of it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hippius::signaling::{SignalingConfig, SignalingServer};
use hippius::telemetry::instruments::{SignalingInstruments, TlsInstruments};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::metrics::Metrics;

/// Longest time anything may take that is expected to happen.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub struct Bench {
    pub server: SignalingServer,
    pub metrics: Metrics,
}

impl Bench {
    pub async fn new(config: SignalingConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = Metrics::new();
        let (own, tls) = (SignalingInstruments::new(&metrics.meter()), TlsInstruments::new(&metrics.meter()));
        let server = SignalingServer::start(listener, config, own, tls).unwrap();
        Self { server, metrics }
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.server.local_addr()).await.unwrap()
    }

    pub async fn connect(&self) -> Client {
        let url = format!("ws://{}/signal", self.server.local_addr());
        let (socket, _) = client_async(url, self.tcp().await).await.unwrap();
        Client { socket }
    }

    /// A client at another address of this machine that has registered.
    pub async fn join_from(&self, address: &str, id: &str) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(self.server.local_addr()).await.unwrap();
        let url = format!("ws://{}/signal", self.server.local_addr());
        let (socket, _) = client_async(url, stream).await.unwrap();
        let mut client = Client { socket };
        client.send("Register", json!({"peer_id": id})).await;
        client.expect("Registered").await;
        client
    }

    /// A client that has registered.
    pub async fn join(&self, id: &str) -> Client {
        let mut client = self.connect().await;
        client.send("Register", json!({"peer_id": id})).await;
        client.expect("Registered").await;
        client
    }

    pub fn refused(&self, reason: &str) -> f64 {
        self.metrics.sum("ws_refused", &[("reason", reason)])
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Metrics) -> bool) {
        let waiting = async {
            while !condition(&self.metrics) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub async fn send(&mut self, kind: &str, payload: Value) {
        self.text(&json!({"type": kind, "payload": payload}).to_string()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message, whatever it is.
    pub async fn next(&mut self) -> Value {
        loop {
            let message =
                tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a message in time");
            match message.expect("the connection is open").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The payload of the next message, which must be a `kind`.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["type"], kind, "{message}");
        message["payload"].clone()
    }

    pub async fn expect_error(&mut self, code: &str) -> Value {
        let error = self.expect("Error").await;
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
        error
    }

    /// Reads on to the end; the Close frame if one came.
    pub async fn end(&mut self) -> Option<CloseFrame> {
        let reading = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("the server ends the connection")
    }
}
