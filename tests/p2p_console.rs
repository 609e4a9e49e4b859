//! The console against a node's admin API, over a real unix socket.

mod p2p_support;

use std::io::{self, BufRead, Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use hippius::cli::console::{ConsoleError, Input, Outcome, Script, attach};
use hippius::control::client::{Client, ClientError};
use hippius::control::{http, socket};
use hippius::p2p::{Event, Handle};
use hippius::roles::node_admin;
use hyper::StatusCode;
use p2p_support::*;
use serde_json::{Value, json};

/// Serves the admin API of `node` as a role does.
async fn serve(node: &TestNode) -> PathBuf {
    let path = node.folder.path().join("admin.sock");
    let listener = socket::bind(&path).await.unwrap();
    let handle: Handle = node.handle.clone();
    http::serve(listener, http::Limits::default(), move |request, _| {
        let handle = handle.clone();
        async move {
            let answer = node_admin::handle(&handle, request).await;
            answer.unwrap_or_else(|| http::error(StatusCode::NOT_FOUND, "not_found", "no such path"))
        }
    });
    path
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Input that stays open until its sender is dropped, as a pipe from another program does.
struct Pipe(Receiver<Vec<u8>>, Cursor<Vec<u8>>);

impl Pipe {
    fn new() -> (Sender<Vec<u8>>, Self) {
        let (sender, receiver) = channel();
        (sender, Self(receiver, Cursor::default()))
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.1.fill_buf()?.is_empty()
            && let Ok(more) = self.0.recv()
        {
            self.1 = Cursor::new(more);
        }
        self.1.fill_buf()
    }
    fn consume(&mut self, bytes: usize) {
        self.1.consume(bytes);
    }
}

fn script(commands: impl BufRead + Send + 'static) -> (Input, Sink, Sink) {
    let (output, errors) = (Sink::default(), Sink::default());
    let input = Script {
        commands: Box::new(commands),
        output: Box::new(output.clone()),
        errors: Box::new(errors.clone()),
    };
    (Input::Script(input), output, errors)
}

async fn run(path: &std::path::Path, commands: &str) -> (Outcome, String, String) {
    let (input, output, errors) = script(Cursor::new(commands.to_owned()));
    let outcome = attach(path, input).await.unwrap();
    (outcome, output.text(), errors.text())
}

#[tokio::test]
async fn a_message_typed_into_one_console_arrives_in_the_other() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let (first, second) = (member(&address).await, member(&address).await);
    eventually("both are connected", || async { first.peers().await == 2 && second.peers().await == 2 })
        .await;
    let (first_socket, second_socket) = (serve(&first).await, serve(&second).await);

    let (typed, pipe) = Pipe::new();
    let (input, heard, errors) = script(pipe);
    let listening = tokio::spawn(async move { attach(&second_socket, input).await });
    typed.send(b"/topics\n".to_vec()).unwrap();
    eventually("the listener's console answers", || async { heard.text().contains("lobby") }).await;

    let (outcome, sent, _) =
        run(&first_socket, "/send lobby \"hi \\\"all\\\"\"\nplain \u{1b}[2J text\n").await;
    assert_eq!(outcome.failed, 0);
    assert_eq!(sent, "sent to lobby: 1 peer\nsent to lobby: 1 peer\n");
    let from = first.handle.peer_id();
    let expected = format!("[lobby] {from}: hi \"all\"\n[lobby] {from}: plain \\u{{1b}}[2J text\n");
    eventually("both messages are shown", || async { heard.text().ends_with(&expected) }).await;
    drop(typed);
    assert_eq!(listening.await.unwrap().unwrap(), Outcome { failed: 0 });
    assert_eq!(errors.text(), "");
}

#[tokio::test]
async fn a_script_is_answered_to_its_end_and_its_mistakes_are_counted() {
    let bootnode = bootnode().await;
    let node = member(&bootnode.address().await).await;
    eventually("connected", || async { node.peers().await == 1 }).await;
    let path = serve(&node).await;
    let bare: libp2p::Multiaddr = bootnode.address().await.iter().take(2).collect();
    let commands = format!(
        "# a comment\n\n/help\n/create-topic news\n/create-topic news\n/send news \"nobody here\"\n/msg X hi\n\
         /topics\n/peers\n/connect {bare}\n/leave-topic news\n/leave-topic news\n/send news x\nto where?"
    );
    let (outcome, output, errors) = run(&path, &commands).await;
    for line in [
        "/send NAME \"TEXT\"",
        "created and joined news\n",
        "sent to news; no connected peer is on it right now\n",
        "lobby  0 peers\nnews  0 peers\n",
        &format!("connected to {}\n", bootnode.handle.peer_id()),
        "left news\nnews was not joined\n",
    ] {
        assert!(output.contains(line), "{line:?} is not in:\n{output}");
    }
    assert!(output.lines().any(|line| line.contains("outbound") && line.contains("bootnode")), "{output}");
    let expected = [
        "error: line 5: topic news is joined already",
        "error: line 7: /msg is not part of this version yet",
        "error: line 13: topic news is not joined",
        "error: line 14: say where to",
    ];
    assert_eq!(errors.lines().count(), expected.len(), "{errors}");
    for (line, start) in errors.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(outcome.failed, 4);
    let (outcome, output, _) = run(&path, "/topics\n/quit\n/frobnicate\n").await;
    assert_eq!((outcome.failed, output.as_str()), (0, "lobby  0 peers\n"));
}

#[tokio::test]
async fn a_console_ends_with_its_node() {
    let node = bootnode().await;
    let path = serve(&node).await;
    let (typed, pipe) = Pipe::new();
    let (input, output, _) = script(pipe);
    let attached = tokio::spawn({
        let path = path.clone();
        async move { attach(&path, input).await }
    });
    typed.send(b"/peers\n".to_vec()).unwrap();
    eventually("the console answers", || async { output.text() == "no peers\n" }).await;
    let _folder = node.stop().await;
    let error = tokio::time::timeout(DEADLINE, attached).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ConsoleError::NodeStopped), "{error}");
}

#[tokio::test]
async fn a_console_without_a_node_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (input, _, _) = script(Cursor::new("/peers\n"));
    let error = attach(&folder.path().join("admin.sock"), input).await.unwrap_err();
    assert!(error.to_string().contains("nothing listens on"), "{error}");
}

async fn refused(client: &Client, target: &str, body: Value) -> (u16, String) {
    match client.post::<_, Value>(target, &body).await.unwrap_err() {
        ClientError::Refused { status, code, .. } => (status.as_u16(), code),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_admin_api_answers_and_refuses_in_json() {
    let node = bootnode().await;
    let client = Client::new(&serve(&node).await);
    let status: Value = client.get("/v1/status").await.unwrap();
    assert_eq!(status["peer_id"], node.handle.peer_id().to_base58());
    assert!(status["addresses"][0].as_str().unwrap().ends_with(&format!("/p2p/{}", node.handle.peer_id())));
    assert_eq!(status["connected_peers"], 0);
    let joined: Value = client.post("/v1/topics/join", &json!({"topic": "a"})).await.unwrap();
    assert_eq!(joined, json!({"topic": "a", "changed": true}));
    let topics: Value = client.get("/v1/topics").await.unwrap();
    assert_eq!(topics, json!({"topics": ["a"]}));
    let sent: Value = client.post("/v1/publish", &json!({"topic": "a", "text": "x"})).await.unwrap();
    assert_eq!(sent["peers"], 0);

    let refused = |target, body| refused(&client, target, body);
    assert_eq!(refused("/v1/topics/create", json!({"topic": "a"})).await, (409, "topic_exists".into()));
    assert_eq!(refused("/v1/topics/join", json!({"topic": "a b"})).await, (400, "bad_topic".into()));
    assert_eq!(refused("/v1/topics/join", json!({"tpoic": "a"})).await, (400, "bad_json".into()));
    assert_eq!(refused("/v1/publish", json!({"topic": "b", "text": "x"})).await, (409, "not_joined".into()));
    let long = json!({"topic": "a", "text": "x".repeat(64 * 1024 + 1)});
    assert_eq!(refused("/v1/publish", long).await, (413, "too_large".into()));
    let huge = json!({"topic": "a", "text": "x".repeat(500 * 1024)});
    assert_eq!(refused("/v1/publish", huge).await, (413, "too_large".into()));
    for address in ["x", "", "/ip4/127.0.0.1", "/dns4/localhost/tcp/1"] {
        let answer = refused("/v1/peers/connect", json!({"address": address})).await;
        assert_eq!(answer, (400, "bad_address".into()), "{address:?}");
    }
    let closed = json!({"address": "/ip4/127.0.0.1/tcp/1"});
    assert_eq!(refused("/v1/peers/connect", closed).await, (502, "connect_failed".into()));
    assert_eq!(refused("/v1/status", json!({})).await, (405, "wrong_method".into()));
    assert_eq!(refused("/v2/status", json!({})).await, (404, "not_found".into()));
}

#[tokio::test]
async fn the_event_stream_can_be_narrowed_to_a_topic() {
    let (first, second) = (bootnode().await, bootnode().await);
    for node in [&first, &second] {
        node.handle.join("a".parse().unwrap()).await.unwrap();
        node.handle.join("b/ä".parse().unwrap()).await.unwrap();
    }
    let client = Client::new(&serve(&first).await);
    let mut lines = client.lines("/v1/events?topic=b%2F%C3%A4").await.unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some(r#"{"type":"subscribed"}"#));
    first.handle.connect(second.address().await).await.unwrap();
    eventually("a subscriber", || async {
        second.handle.publish("a".parse().unwrap(), "other").await.unwrap().peers == 1
    })
    .await;
    second.handle.publish("b/ä".parse().unwrap(), "this").await.unwrap();
    loop {
        let line = tokio::time::timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap();
        match serde_json::from_str(&line).unwrap() {
            Event::Message(message) => {
                assert_eq!(message.text, "this");
                break;
            }
            event => assert_eq!(event.topic().map(|topic| topic.as_str()), Some("b/ä"), "{line}"),
        }
    }
    assert!(client.lines("/v1/events?topic=").await.is_err());
}
