//! What strangers send to the signaling server: each gets an error or is cut off, is counted, and nobody else notices.

mod support_signaling;

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hippius::signaling::SignalingConfig;
use hippius::signaling::limits::SPARE_PER_ADDRESS;
use serde_json::json;
use support_signaling::client::{Bench, Client, DEADLINE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

async fn bench() -> Bench {
    Bench::new(SignalingConfig::default()).await
}

/// Two who talk undisturbed; used before and after something bad.
async fn all_is_well(a: &mut Client, b: &mut Client) {
    a.send("Offer", json!({"to": "b", "sdp": "fine"})).await;
    assert_eq!(b.expect("Offer").await["sdp"], "fine");
}

#[tokio::test]
async fn text_that_is_no_message_gets_an_error_and_the_connection_goes_on() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    let deep = format!(r#"{{"type":"Register","payload":{}"#, "[".repeat(100_000));
    for (text, code) in [
        ("", "bad_message"),
        ("hello", "bad_message"),
        ("null", "bad_message"),
        ("[]", "bad_message"),
        ("{}", "bad_message"),
        (r#"{"type":"Register"}"#, "bad_message"),
        (r#"{"type":"Register","payload":[]}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":null}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":""}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":"<img src=x>"}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":"a\nb"}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":"a\u202eb"}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":"a","name":"x\u2066y"}}"#, "bad_message"),
        (r#"{"type":"Register","payload":{"peer_id":"a","room":"a room"}}"#, "bad_message"),
        (r#"{"type":"registered","payload":{}}"#, "unknown_type"),
        (r#"{"type":"Offer","payload":{"from":"a","to":"b","sdp":"x"}}"#, "not_registered"),
        (deep.as_str(), "bad_message"),
    ] {
        client.text(text).await;
        let error = client.expect_error(code).await;
        assert!(error["message"].as_str().unwrap().len() <= 200, "{error}");
    }
    client.send("Register", json!({"peer_id": "a"})).await;
    client.expect("Registered").await;
    assert_eq!(bench.refused("bad_message"), 15.0);
    assert_eq!(bench.refused("unknown_type"), 1.0);
    assert_eq!(bench.refused("not_registered"), 1.0);
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let bench = bench().await;
    let (mut a, mut b) = (bench.join("a").await, bench.join("b").await);
    a.expect("PeerJoined").await;
    a.send("Offer", json!({"from": "b", "to": "b", "sdp": "forged"})).await;
    assert_eq!(a.expect_error("from_mismatch").await["to"], "b");
    a.send("Register", json!({"peer_id": "c"})).await;
    a.expect_error("already_registered").await;
    let mut thief = bench.connect().await;
    thief.send("Register", json!({"peer_id": "a", "resume": "0".repeat(32)})).await;
    thief.expect_error("id_taken").await;
    a.send("Offer", json!({"from": "a", "to": "ghost", "sdp": ""})).await;
    assert_eq!(a.expect_error("unknown_peer").await["to"], "ghost");
    all_is_well(&mut a, &mut b).await;
    for reason in ["from_mismatch", "already_registered", "id_taken", "unknown_peer"] {
        assert_eq!(bench.refused(reason), 1.0, "{reason}");
    }
}

#[tokio::test]
async fn descriptions_and_candidates_over_their_limits_are_refused() {
    let bench = bench().await;
    let (mut a, mut b) = (bench.join("a").await, bench.join("b").await);
    a.expect("PeerJoined").await;
    a.send("Offer", json!({"to": "b", "sdp": "x".repeat(64 * 1024 + 1)})).await;
    a.expect_error("too_large").await;
    a.send("IceCandidate", json!({"to": "b", "candidate": "x".repeat(4 * 1024 + 1)})).await;
    a.expect_error("too_large").await;
    assert_eq!(bench.refused("too_large"), 2.0);
    all_is_well(&mut a, &mut b).await;
}

/// Sends `frames` as they are and says with which code the server closes, or that it just went.
async fn closed_after(bench: &Bench, frames: Vec<Message>) -> Option<u16> {
    let mut client = bench.join("bad").await;
    for frame in frames {
        if client.socket.send(frame).await.is_err() {
            break;
        }
    }
    client.end().await.map(|frame| frame.code.into())
}

fn frame(opcode: OpCode, last: bool, payload: Vec<u8>) -> Message {
    let header = FrameHeader { is_final: last, opcode, ..FrameHeader::default() };
    Message::Frame(Frame::from_payload(header, payload.into()))
}

#[tokio::test]
async fn frames_that_are_no_text_end_the_connection() {
    let bench = bench().await;
    let (mut a, mut b) = (bench.join("a").await, bench.join("b").await);
    a.expect("PeerJoined").await;
    assert_eq!(closed_after(&bench, vec![Message::binary(vec![1, 2, 3])]).await, Some(1003));
    let not_utf8 = vec![frame(OpCode::Data(Data::Text), true, vec![0xff, 0xfe])];
    assert_eq!(closed_after(&bench, not_utf8).await, Some(1007));
    let continuation = vec![frame(OpCode::Data(Data::Continue), true, vec![b'x'])];
    assert_eq!(closed_after(&bench, continuation).await, Some(1002));
    // What was sent and not read may be answered by a reset that overtakes the Close frame.
    let offer = json!({"type": "Offer", "payload": {"to": "a", "sdp": "x".repeat(10 * 1024 * 1024)}});
    let huge = closed_after(&bench, vec![Message::text(offer.to_string())]).await;
    assert!(matches!(huge, Some(1009) | None), "{huge:?}");
    let mut fragments = vec![frame(OpCode::Data(Data::Text), false, vec![b'x'; 100 * 1024])];
    fragments.resize(4, frame(OpCode::Data(Data::Continue), false, vec![b'x'; 100 * 1024]));
    let fragments = closed_after(&bench, fragments).await;
    assert!(matches!(fragments, Some(1009) | None), "{fragments:?}");
    let refused = |reason: &'static str, times: f64| {
        bench.until(reason, move |m| m.sum("ws_refused", &[("reason", reason)]) == times)
    };
    refused("binary", 1.0).await;
    refused("not_utf8", 1.0).await;
    refused("protocol", 1.0).await;
    refused("frame_too_big", 2.0).await;
    // Presence of the bad ones came and went; the good ones talk on.
    let mut last = json!(null);
    a.send("Offer", json!({"to": "b", "sdp": "fine"})).await;
    while last["type"] != "Offer" {
        last = b.next().await;
    }
}

#[tokio::test]
async fn a_flood_is_dropped_then_cut_off() {
    let config = SignalingConfig { message_burst: 20, messages_per_second: 1, ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let (mut a, mut b) = (bench.join("a").await, bench.join("b").await);
    a.expect("PeerJoined").await;
    for _ in 0..60 {
        let flood = json!({"type": "IceCandidate", "payload": {"to": "b", "candidate": "{}"}}).to_string();
        if a.socket.send(Message::text(flood)).await.is_err() {
            break;
        }
    }
    let frame = a.end().await;
    assert!(frame.is_none_or(|frame| u16::from(frame.code) == 1008));
    bench.until("the flood is counted", |m| m.sum("ws_refused", &[("reason", "flood")]) == 1.0).await;
    let dropped = bench.refused("rate_limited");
    assert!((19.0..=21.0).contains(&dropped), "{dropped}");
    for _ in 0..19 {
        b.expect("IceCandidate").await;
    }
}

fn few_bytes() -> SignalingConfig {
    SignalingConfig { byte_burst: 64 * 1024, bytes_per_second: 16 * 1024, ..SignalingConfig::default() }
}

#[tokio::test]
async fn frames_that_never_become_a_message_are_a_flood_as_well() {
    let bench = Bench::new(few_bytes()).await;
    let (mut a, mut b) = (bench.join("a").await, bench.join("b").await);
    a.expect("PeerJoined").await;
    let mut bad = bench.join_from("127.0.0.2", "bad").await;
    // Fragments of nothing, of a message that has no end.
    let begun = frame(OpCode::Data(Data::Text), false, vec![b'x']);
    let more = frame(OpCode::Data(Data::Continue), false, Vec::new());
    let flood = async {
        let mut sending = bad.socket.feed(begun).await;
        while sending.is_ok() {
            sending = bad.socket.feed(more.clone()).await;
        }
    };
    tokio::time::timeout(DEADLINE, flood).await.expect("it is cut off");
    bench.until("it is counted", |m| m.sum("ws_refused", &[("reason", "flood")]) == 1.0).await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.expect("PeerJoined").await["peer_id"], "bad");
        assert_eq!(client.expect("PeerLeft").await["peer_id"], "bad");
    }
    all_is_well(&mut a, &mut b).await;
}

#[tokio::test]
async fn requests_for_nothing_are_a_flood_as_well() {
    let bench = Bench::new(few_bytes()).await;
    let mut stream = bench.tcp().await;
    let requests = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    let (mut reading, mut writing) = stream.split();
    let flood = async { while writing.write_all(requests.as_bytes()).await.is_ok() {} };
    let answers = async { while reading.read(&mut [0; 64 * 1024]).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(DEADLINE, async { tokio::join!(flood, answers) }).await.expect("it is cut off");
    assert_eq!(bench.refused("flood"), 1.0);
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_off_and_its_sender_is_told() {
    let config = SignalingConfig {
        queue_bytes: 256 * 1024,
        bytes_per_second: u32::MAX,
        byte_burst: u32::MAX,
        messages_per_second: 1_000_000,
        message_burst: 1_000_000,
        write_timeout: Duration::from_millis(200),
        ..SignalingConfig::default()
    };
    let bench = Bench::new(config).await;
    let mut sender = bench.join("a").await;
    let _stuck = bench.join("b").await;
    sender.expect("PeerJoined").await;
    // The kernel's buffers take some megabytes before the server's queue begins to fill.
    let offer = json!({"type": "Offer", "payload": {"to": "b", "sdp": "x".repeat(60_000)}}).to_string();
    let flood = async {
        loop {
            sender.text(&offer).await;
            let pause = tokio::time::timeout(Duration::from_millis(1), sender.next()).await;
            match pause {
                Ok(message) => return message,
                Err(_) => continue,
            }
        }
    };
    let told = tokio::time::timeout(DEADLINE, flood).await.expect("the sender is told");
    assert!(["peer_busy", "unknown_peer"].contains(&told["payload"]["code"].as_str().unwrap()), "{told}");
    bench.until("the reader is cut off", |m| m.sum("ws_refused", &[("reason", "slow_reader")]) == 1.0).await;
    bench.until("only the sender is left", |m| m.sum("ws_active_connections", &[]) == 1.0).await;
}

#[tokio::test]
async fn who_never_registers_is_closed() {
    let config =
        SignalingConfig { register_timeout: Duration::from_millis(50), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let frame = bench.connect().await.end().await.expect("a reason");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "register timeout"));
    bench.until("it is counted", |m| m.sum("ws_refused", &[("reason", "register_timeout")]) == 1.0).await;
}

#[tokio::test]
async fn a_half_open_connection_is_reaped() {
    let config = SignalingConfig {
        ping_interval: Duration::from_millis(50),
        silence_timeout: Duration::from_millis(150),
        resume_grace: Duration::ZERO,
        ..SignalingConfig::default()
    };
    let bench = Bench::new(config).await;
    let mut watcher = bench.join("watcher").await;
    // Never read from, so it answers no ping, like a host that lost its power.
    let _dead = bench.join("dead").await;
    watcher.expect("PeerJoined").await;
    assert_eq!(watcher.expect("PeerLeft").await["peer_id"], "dead");
    assert_eq!(bench.refused("silent"), 1.0);
}

/// A client over a limit is told so where a browser's script can see it: on the WebSocket.
async fn turned_away(bench: &Bench) -> (u16, String) {
    let frame = bench.connect().await.end().await.expect("a reason");
    (frame.code.into(), frame.reason.to_string())
}

#[tokio::test]
async fn one_address_does_not_fill_the_server() {
    let config = SignalingConfig { max_per_address: 3, ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let (mut a, mut b, c) = (bench.join("a").await, bench.join("b").await, bench.join("c").await);
    a.expect("PeerJoined").await;
    a.expect("PeerJoined").await;
    b.expect("PeerJoined").await;
    assert_eq!(turned_away(&bench).await, (1013, "too many connections".to_owned()));
    assert_eq!(bench.refused("address_limit"), 1.0);
    all_is_well(&mut a, &mut b).await;
    // A place that was given back is free again.
    drop(c);
    let again = async {
        loop {
            let mut client = bench.connect().await;
            client.send("Register", json!({"peer_id": "d"})).await;
            if let Some(Ok(Message::Text(_))) = client.socket.next().await {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("a place becomes free");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let bench = Bench::new(SignalingConfig { max_clients: 1, ..SignalingConfig::default() }).await;
    let _a = bench.join("a").await;
    assert_eq!(turned_away(&bench).await, (1013, "server full".to_owned()));
    assert_eq!(bench.refused("server_full"), 1.0);
}

#[tokio::test]
async fn connections_that_do_nothing_are_bounded_as_well() {
    let config = SignalingConfig { max_per_address: 1, ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut idle = Vec::new();
    for _ in 0..=SPARE_PER_ADDRESS {
        // The server has taken a connection once it answers on it.
        idle.push(answered(bench.tcp().await).await);
    }
    let mut answer = String::new();
    let _ = bench.tcp().await.read_to_string(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 429"), "{answer}");
    bench.until("it is counted", |m| m.sum("ws_refused", &[("reason", "address_limit")]) == 1.0).await;
}

#[tokio::test]
async fn a_client_that_reads_no_replies_loses_its_connection() {
    let config = SignalingConfig { write_timeout: Duration::from_millis(200), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut stream = bench.tcp().await;
    let requests = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    // Once the replies fill every buffer the server stops reading, and then this waits for the server to let go.
    let writing = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, writing).await.expect("the connection is cut off");
}

#[tokio::test]
async fn pages_of_other_hosts_are_refused() {
    let allowed_origins = vec!["https://chat.example.org".parse().unwrap()];
    let bench = Bench::new(SignalingConfig { allowed_origins, ..SignalingConfig::default() }).await;
    let port = bench.server.local_addr().port();
    for (origin, host, status) in [
        (None, "127.0.0.1", 101),
        (Some("http://127.0.0.1:3000"), "127.0.0.1", 101),
        (Some("http://localhost:3000"), "127.0.0.1", 101),
        (Some("http://[::1]:3000"), "localhost", 101),
        (Some("https://chat.example.org"), "localhost", 101),
        (Some("https://evil.example"), "127.0.0.1", 403),
        (Some("null"), "127.0.0.1", 403),
        (Some("http://127.0.0.1.evil.example"), "127.0.0.1", 403),
        // A name that its owner has pointed at loopback.
        (Some("http://evil.example"), "evil.example", 403),
    ] {
        let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /signal HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
        );
        let mut stream = bench.tcp().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&line), format!("HTTP/1.1 {status}"), "{request}");
    }
    assert_eq!(bench.refused("foreign_origin"), 4.0);
}

#[tokio::test]
async fn ten_thousand_sockets_of_one_address_keep_nobody_else_out() {
    let config =
        SignalingConfig { register_timeout: Duration::from_secs(3600), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let (mut a, mut b) = (bench.join_from("127.0.0.2", "a").await, bench.join_from("127.0.0.2", "b").await);
    a.expect("PeerJoined").await;
    let most = SignalingConfig::default().max_per_address + SPARE_PER_ADDRESS;
    let mut held = Vec::new();
    for number in 0..10_000 {
        let mut stream = bench.tcp().await;
        if number < most {
            // Half a request: the connection counts, and waits.
            stream.write_all(b"GET /signal HTTP/1.1\r\n").await.unwrap();
            held.push(stream);
        } else {
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let _ = tokio::time::timeout(DEADLINE, reading).await.expect("the server lets go");
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 429"));
        }
    }
    let refused = f64::from(10_000 - most);
    bench.until("all are counted", |m| m.sum("ws_refused", &[("reason", "address_limit")]) == refused).await;
    all_is_well(&mut a, &mut b).await;
    let mut c = bench.join_from("127.0.0.2", "c").await;
    a.expect("PeerJoined").await;
    drop(held);
    c.send("Offer", json!({"to": "a", "sdp": "fine"})).await;
    assert_eq!(a.expect("Offer").await["sdp"], "fine");
}

#[tokio::test]
async fn who_asks_for_the_websocket_byte_by_byte_is_cut_off() {
    let config =
        SignalingConfig { register_timeout: Duration::from_millis(300), ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut slow = bench.tcp().await;
    let dripping = async {
        for byte in b"GET /signal HTTP/1.1\r\nx-long: ".iter().chain(std::iter::repeat(&b'x')) {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, dripping).await.expect("it is cut off");
    bench.until("it is counted", |m| m.sum("ws_refused", &[("reason", "slow_handshake")]) >= 1.0).await;
}

#[tokio::test]
async fn who_joins_and_leaves_over_and_over_is_heard_of_only_so_often() {
    let config = SignalingConfig { join_burst: 12, joins_per_second: 1, ..SignalingConfig::default() };
    let bench = Bench::new(config).await;
    let mut watcher = bench.join_from("127.0.0.2", "watcher").await;
    let start = std::time::Instant::now();
    let (mut joined, mut refused) = (0, 0);
    for _ in 0..100 {
        let mut client = bench.connect().await;
        client.send("Register", json!({"peer_id": "restless"})).await;
        match client.next().await {
            message if message["type"] == "Registered" => joined += 1,
            message => {
                assert_eq!(message["payload"]["code"], "too_many_joins", "{message}");
                refused += 1;
            }
        }
        client.socket.close(None).await.unwrap();
        client.end().await;
    }
    let seconds = start.elapsed().as_secs() + 1;
    assert!((12..=12 + seconds).contains(&joined), "{joined} in {seconds} s");
    assert!(refused > 0);
    assert_eq!(bench.refused("too_many_joins"), f64::from(refused));
    // What the room has heard: each of those, coming and going, and nothing else.
    let mut other = bench.join_from("127.0.0.3", "other").await;
    let mut heard = 0;
    loop {
        let message = watcher.next().await;
        if message["payload"]["peer_id"] == "other" {
            break;
        }
        heard += 1;
    }
    assert_eq!(heard, 2 * joined);
    other.send("Offer", json!({"to": "watcher", "sdp": "fine"})).await;
    assert_eq!(watcher.expect("Offer").await["sdp"], "fine");
}

async fn answered(mut stream: tokio::net::TcpStream) -> tokio::net::TcpStream {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}
