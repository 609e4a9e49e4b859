use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::*;

/// Serves connections one after another; each answers its requests with `answers` in turn, then closes.
fn server(connections: Vec<Vec<&'static str>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let running = thread::spawn(move || {
        let mut requests = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                requests.push(read_request(&mut stream));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        requests
    });
    (endpoint, running)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return text;
            }
        }
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "the client left");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_connection_is_kept_and_made_anew_when_the_receiver_closed_it() {
    let (endpoint, running) = server(vec![vec![OK, OK], vec![OK]]);
    let mut client = PushClient::new(&endpoint, Some("abc")).unwrap();
    for body in ["one", "two", "three"] {
        client.post(body.as_bytes()).unwrap();
    }
    let requests = running.join().unwrap();
    assert!(requests[0].starts_with("POST /v1/metrics HTTP/1.1\r\nhost: 127.0.0.1:"), "{}", requests[0]);
    assert!(requests[0].contains("\r\nauthorization: Bearer abc\r\n"));
    assert!(requests[2].ends_with("\r\n\r\nthree"));
}

#[test]
fn answers_without_a_plain_length_cost_the_connection_only() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    let (endpoint, running) = server(vec![vec![chunked], vec![closing], vec![endless], vec![OK]]);
    let mut client = PushClient::new(&endpoint, None).unwrap();
    for _ in 0..4 {
        client.post(b"x").unwrap();
    }
    running.join().unwrap();
}

#[test]
fn refusals_and_rubbish_are_told_apart() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let (endpoint, running) = server(vec![vec![refusal, "SSH-2.0-OpenSSH\r\n\r\n"]]);
    let mut client = PushClient::new(&endpoint, None).unwrap();
    assert!(matches!(client.post(b"x"), Err(PushError::Refused(401))));
    assert!(matches!(client.post(b"x"), Err(PushError::NoHttp)));
    running.join().unwrap();
    assert!(matches!(client.post(b"x"), Err(PushError::Unreachable { .. })));
}

#[test]
fn only_plain_http_urls_are_taken() {
    let error = |endpoint| PushClient::new(endpoint, None).unwrap_err();
    for endpoint in ["", "/v1/metrics", "127.0.0.1:9091", "http://", "http://user:secret@host/"] {
        assert!(matches!(error(endpoint), EndpointError::NoUrl(_)), "{endpoint}");
    }
    for endpoint in ["https://host/v1/metrics", "unix://host/x"] {
        assert!(matches!(error(endpoint), EndpointError::NotHttp(_)), "{endpoint}");
    }
    let split = PushClient::new("http://h/", Some("a\r\nx: y")).unwrap_err();
    assert_eq!(split, EndpointError::Token);
    assert!(PushClient::new("http://[::1]:9091/v1/metrics", None).is_ok());
    let secret = PushClient::new("http://h/", Some("s3cret")).unwrap();
    assert!(!format!("{secret:?}").contains("s3cret"));
}

proptest! {
    #[test]
    fn any_answer_is_judged_without_panic(head in "HTTP/1.1 [0-9]{3} OK\r\n([a-z-]{1,18}: .{0,9}\r\n){0,4}\r\n.{0,9}", rubbish in any::<Vec<u8>>()) {
        let _ = parse(head.as_bytes());
        let _ = parse(&rubbish);
    }
}
