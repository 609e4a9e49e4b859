//! The signaling server as clients meet it: registering, presence, relaying, resuming, draining.

mod support_signaling;

use std::time::Duration;

use futures::SinkExt;
use hippius::signaling::SignalingConfig;
use serde_json::json;
use support_signaling::client::Bench;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn two_clients_meet_and_exchange_all_that_a_connection_needs() {
    let bench = Bench::new(SignalingConfig::default()).await;
    let mut a = bench.join("a").await;
    let mut b = bench.connect().await;
    b.send("Register", json!({"peer_id": "b", "name": "Bela", "room": "lobby", "token": "x", "unknown": 1}))
        .await;
    let registered = b.expect("Registered").await;
    assert_eq!(registered["peer_id"], "b");
    assert_eq!(registered["peers"], json!([{"peer_id": "a", "name": ""}]));
    assert_eq!(registered["ice_servers"], json!([]));
    assert_eq!(a.expect("PeerJoined").await, json!({"peer_id": "b", "name": "Bela"}));

    a.send("Offer", json!({"from": "a", "to": "b", "sdp": "o"})).await;
    assert_eq!(b.expect("Offer").await, json!({"from": "a", "to": "b", "sdp": "o"}));
    b.send("Answer", json!({"to": "a", "sdp": "n"})).await;
    assert_eq!(a.expect("Answer").await, json!({"from": "b", "to": "a", "sdp": "n"}));
    a.send("IceCandidate", json!({"from": "a", "to": "b", "candidate": "{}"})).await;
    assert_eq!(b.expect("IceCandidate").await, json!({"from": "a", "to": "b", "candidate": "{}"}));
    let report =
        json!({"to": "b", "state": "connected", "connection_type": "stun", "bytes_sent": 1, "rtt": 0.001});
    a.send("Report", report).await;
    bench.until("one STUN connection", |m| m.sum("webrtc_connections", &[("type", "stun")]) == 1.0).await;

    b.socket.close(None).await.unwrap();
    assert_eq!(a.expect("PeerLeft").await, json!({"peer_id": "b", "name": "Bela"}));
    bench.until("nothing reported", |m| m.sum("webrtc_connections", &[]) == 0.0).await;
    bench.until("one connection", |m| m.sum("ws_active_connections", &[]) == 1.0).await;
    assert_eq!(bench.metrics.sum("ws_total_connections", &[]), 2.0);
    assert_eq!(bench.metrics.sum("ws_messages_received", &[]), 6.0);
    bench.until("all sent counted", |m| m.sum("ws_messages_sent", &[]) == 7.0).await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let bench = Bench::new(SignalingConfig::default()).await;
    let mut a = bench.join("a").await;
    a.send("Ping", json!({})).await;
    assert_eq!(a.expect("Pong").await, json!({}));
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_again_without_anybody_noticing() {
    let config = SignalingConfig { resume_grace: Duration::from_secs(60), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut watcher = bench.join("watcher").await;
    let mut old = bench.connect().await;
    old.send("Register", json!({"peer_id": "a"})).await;
    let token = old.expect("Registered").await["resume"].clone();
    watcher.expect("PeerJoined").await;
    drop(old);
    bench.until("the break is noticed", |m| m.sum("ws_active_connections", &[]) == 1.0).await;
    let mut new = bench.connect().await;
    new.send("Register", json!({"peer_id": "a"})).await;
    new.expect_error("id_taken").await;
    new.send("Register", json!({"peer_id": "a", "resume": token})).await;
    new.expect("Registered").await;
    new.send("Offer", json!({"to": "watcher", "sdp": "still me"})).await;
    assert_eq!(watcher.expect("Offer").await["from"], "a");
}

#[tokio::test]
async fn a_resume_replaces_a_connection_that_is_still_open() {
    let bench = Bench::new(SignalingConfig::default()).await;
    let mut old = bench.connect().await;
    old.send("Register", json!({"peer_id": "a"})).await;
    let token = old.expect("Registered").await["resume"].clone();
    let mut new = bench.connect().await;
    new.send("Register", json!({"peer_id": "a", "resume": token})).await;
    new.expect("Registered").await;
    let frame = old.end().await.expect("a reason");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "replaced"));
}

#[tokio::test]
async fn who_does_not_come_back_is_gone_after_the_grace() {
    let config = SignalingConfig { resume_grace: Duration::from_millis(50), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut watcher = bench.join("watcher").await;
    drop(bench.join("a").await);
    watcher.expect("PeerJoined").await;
    watcher.expect("PeerLeft").await;
}

#[tokio::test]
async fn a_drain_tells_clients_to_come_back_and_ends_in_time() {
    let bench = Bench::new(SignalingConfig::default()).await;
    let mut a = bench.join("a").await;
    let address = bench.server.local_addr();
    let stopping = tokio::spawn(bench.server.shutdown(Duration::from_secs(5)));
    let frame = a.end().await.expect("a reason");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1012, "service restart"));
    tokio::time::timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
    let free = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.expect("the port is free again");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_does_not_answer() {
    let bench = Bench::new(SignalingConfig::default()).await;
    let _silent = bench.join("a").await;
    let stopping = bench.server.shutdown(Duration::from_millis(100));
    tokio::time::timeout(Duration::from_secs(5), stopping).await.expect("the grace bounds the shutdown");
}

#[tokio::test]
async fn quiet_clients_are_pinged_and_stay() {
    let config = SignalingConfig {
        ping_interval: Duration::from_millis(20),
        silence_timeout: Duration::from_secs(5),
        ..SignalingConfig::default()
    };
    let bench = Bench::new(config).await;
    let mut a = bench.join("a").await;
    let mut pings = 0;
    while pings < 5 {
        let message = futures::StreamExt::next(&mut a.socket).await.unwrap().unwrap();
        pings += usize::from(matches!(message, Message::Ping(_)));
    }
    a.socket.flush().await.unwrap();
    a.send("Offer", json!({"to": "nobody", "sdp": ""})).await;
    a.expect_error("unknown_peer").await;
}

#[tokio::test]
async fn plain_http_is_answered_in_kind() {
    let bench = Bench::new(SignalingConfig::default()).await;
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\n", "200"),
        ("GET /signal HTTP/1.1\r\n", "426"),
        (
            "GET /signal HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 12\r\n",
            "426",
        ),
        ("POST /signal HTTP/1.1\r\ncontent-length: 0\r\n", "405"),
        ("GET /signal/ HTTP/1.1\r\n", "404"),
        ("GET / HTTP/1.1\r\n", "404"),
    ] {
        let mut stream = bench.tcp().await;
        stream.write_all(format!("{request}host: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
}
