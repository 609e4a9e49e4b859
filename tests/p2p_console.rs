//! The console against a node's admin API, over a real unix socket.

mod p2p_support;

use std::io::Cursor;

use hippius::cli::console::{ConsoleError, Outcome, attach};
use hippius::control::client::{Client, ClientError};
use hippius::p2p::Event;
use p2p_support::console::{Pipe, run, script, serve};
use p2p_support::*;
use serde_json::{Value, json};

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
        "no connected peer is on news yet; the message waits 10 s for one\n",
        "lobby  0 peers\nnews  0 peers  1 waiting\n",
        &format!("connected to {}\n", bootnode.handle.peer_id()),
        "left news\n",
        "news was not joined\n",
    ] {
        assert!(output.contains(line), "{line:?} is not in:\n{output}");
    }
    assert!(output.lines().any(|line| line.contains("outbound") && line.contains("bootnode")), "{output}");
    let expected = [
        "error: line 5: topic news is joined already",
        "error: line 7: \"X\" is too short for the end of a peer id",
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
    let details = json!([{"topic": "a", "subscribers": [], "mesh": [], "waiting": 0, "messages": 0}]);
    assert_eq!(topics, json!({"topics": ["a"], "details": details}));
    let sent: Value = client.post("/v1/publish", &json!({"topic": "a", "text": "x"})).await.unwrap();
    assert_eq!((&sent["peers"], &sent["waiting"]), (&json!(0), &json!(true)));

    let refused = |target, body| refused(&client, target, body);
    assert_eq!(refused("/v1/topics/create", json!({"topic": "a"})).await, (409, "topic_exists".into()));
    assert_eq!(refused("/v1/topics/join", json!({"topic": "a b"})).await, (400, "bad_topic".into()));
    assert_eq!(refused("/v1/topics/join", json!({"tpoic": "a"})).await, (400, "bad_json".into()));
    assert_eq!(refused("/v1/publish", json!({"topic": "b", "text": "x"})).await, (409, "not_joined".into()));
    let long = json!({"topic": "a", "text": "x".repeat(64 * 1024 + 1)});
    assert_eq!(refused("/v1/publish", long).await, (413, "too_large".into()));
    let huge = json!({"topic": "a", "text": "x".repeat(500 * 1024)});
    assert_eq!(refused("/v1/publish", huge).await, (413, "too_large".into()));
    for address in ["x", "", "/ip4/127.0.0.1"] {
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
    eventually("a subscriber", || async { second.subscribers("b/ä").await == 1 }).await;
    second.handle.publish("a".parse().unwrap(), "other").await.unwrap();
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

async fn next_event(lines: &mut hippius::control::client::Lines) -> Value {
    let line = tokio::time::timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn a_message_without_a_reader_waits_and_an_event_tells_what_became_of_it() {
    let (first, second) = (bootnode().await, bootnode().await);
    let client = Client::new(&serve(&first).await);
    let mut told = client.lines("/v1/events?types=message_delivered,message_given_up").await.unwrap();
    assert_eq!(next_event(&mut told).await, json!({"type": "subscribed"}));
    for topic in ["kept", "left"] {
        let _: Value = client.post("/v1/topics/join", &json!({ "topic": topic })).await.unwrap();
    }
    second.handle.join("kept".parse().unwrap()).await.unwrap();
    let mut heard = second.handle.subscribe_events().unwrap();
    let publish = async |topic, text| -> Value {
        client.post("/v1/publish", &json!({"topic": topic, "text": text})).await.unwrap()
    };
    let waits = [publish("kept", "one").await, publish("kept", "one").await, publish("left", "x").await];
    for sent in &waits {
        assert_eq!((&sent["peers"], &sent["waiting"]), (&json!(0), &json!(true)));
    }
    let _: Value = client.post("/v1/topics/leave", &json!({"topic": "left"})).await.unwrap();
    let given_up =
        json!({"type": "message_given_up", "topic": "left", "id": waits[2]["id"], "reason": "left"});
    assert_eq!(next_event(&mut told).await, given_up);
    second.handle.connect(first.address().await).await.unwrap();
    for sent in &waits[..2] {
        let delivered = json!({"type": "message_delivered", "topic": "kept", "id": sent["id"], "peers": 1});
        assert_eq!(next_event(&mut told).await, delivered);
        let message = next_message(&mut heard).await;
        assert_eq!((message.id.as_str(), message.text.as_str()), (sent["id"].as_str().unwrap(), "one"));
    }
    let sent = publish("kept", "two").await;
    assert_eq!((&sent["peers"], &sent["waiting"]), (&json!(1), &json!(false)));

    // Nobody comes, and only so many can wait.
    let _: Value = client.post("/v1/topics/join", &json!({"topic": "left"})).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..32 {
        ids.push(publish("left", "x").await["id"].clone());
    }
    let one_more = json!({"topic": "left", "text": "x"});
    assert_eq!(refused(&client, "/v1/publish", one_more).await, (503, "nobody_there".into()));
    let event = next_event(&mut told).await;
    assert_eq!((&event["type"], &event["id"]), (&json!("message_given_up"), &ids[0]));
    assert_eq!(event["reason"], "nobody_came");
}

#[tokio::test]
async fn a_console_that_comes_later_sees_what_was_said_and_tells_it_from_what_is_new() {
    let (first, second) = (bootnode().await, bootnode().await);
    for node in [&first, &second] {
        node.handle.join(lobby()).await.unwrap();
    }
    first.handle.connect(second.address().await).await.unwrap();
    let mut heard = second.handle.subscribe_events().unwrap();
    for number in 0..7 {
        first.handle.publish(lobby(), format!("number {number}")).await.unwrap();
        assert_eq!(next_message(&mut heard).await.text, format!("number {number}"));
    }
    second.handle.publish(lobby(), "its own").await.unwrap();
    let (from, own) = (first.handle.peer_id(), second.handle.peer_id());
    let path = serve(&second).await;
    let (_, output, _) = run(&path, "/history lobby 2\n").await;
    let earlier = |number: usize| format!("(earlier) [lobby] {from}: number {number}\n");
    let last: String = (3..7).map(earlier).collect();
    let its_own = format!("(earlier) [lobby] {own}: its own\n");
    assert_eq!(output, format!("{last}{its_own}{}{its_own}", earlier(6)));

    let (typed, pipe) = Pipe::new();
    let (input, shown, _) = script(pipe);
    let attached = tokio::spawn({
        let path = path.clone();
        async move { attach(&path, input).await }
    });
    eventually("the last few are shown", || async { shown.text().ends_with(&its_own) }).await;
    first.handle.publish(lobby(), "new").await.unwrap();
    eventually("news is no history", || async {
        shown.text().ends_with(&format!("{its_own}[lobby] {from}: new\n"))
    })
    .await;
    drop(typed);
    attached.await.unwrap().unwrap();

    let client = Client::new(&path);
    let past: Value = client.get("/v1/topics/lobby/messages?limit=1").await.unwrap();
    assert_eq!((&past["topic"], &past["messages"][0]["text"]), (&json!("lobby"), &json!("new")));
    let all: Value = client.get("/v1/topics/%6Cobby/messages").await.unwrap();
    assert_eq!(all["messages"].as_array().unwrap().len(), 9);
    for (target, expected) in [
        ("/v1/topics/other/messages", (409, "not_joined")),
        ("/v1/topics/a%20b/messages", (400, "bad_topic")),
        ("/v1/topics/%zz/messages", (400, "bad_topic")),
        ("/v1/topics/lobby/messages?limit=101", (400, "bad_query")),
        ("/v1/events?types=nothing", (400, "bad_query")),
    ] {
        match client.get::<Value>(target).await.unwrap_err() {
            ClientError::Refused { status, code, .. } => {
                assert_eq!((status.as_u16(), code.as_str()), expected, "{target}");
            }
            other => panic!("{target}: {other}"),
        }
    }
    second.handle.leave(lobby()).await.unwrap();
    second.handle.join(lobby()).await.unwrap();
    let (_, output, _) = run(&path, "/history lobby\n").await;
    assert_eq!(output, "nothing was said on lobby yet\n", "what was left is forgotten");
}

#[tokio::test]
async fn peers_are_disconnected_blocked_and_let_in_again_by_hand() {
    let (first, second) = (bootnode().await, bootnode().await);
    let (path, address) = (serve(&first).await, second.address().await);
    let other = second.handle.peer_id().to_base58();
    let end = &other[other.len() - 8..];
    let (outcome, output, errors) = run(
        &path,
        &format!(
            "/connect {address}\n/disconnect {end}\n/disconnect {other}\n/connect {address}\n/block {end} 2h\n\
             /blocked\n/connect {address}\n/unblock {end}\n/unblock {other}\n/blocked\n/block nobody\n"
        ),
    )
    .await;
    let connected = format!("connected to {other}");
    let expected = [
        connected.clone(),
        format!("disconnected from {other}"),
        format!("{other} was not connected"),
        connected,
        format!("blocked {other} for 2h"),
        format!("{other}  by hand  1h 59m 59s left"),
        format!("{other} is let in again"),
        format!("{other} was not blocked"),
        "nobody is blocked".to_owned(),
    ];
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{output}{errors}");
    for (line, expected) in lines.iter().zip(&expected) {
        // The seconds that are left depend on the machine.
        let part = expected.split("1h").next().unwrap();
        assert!(line.starts_with(part), "{line:?} is not {expected:?}");
    }
    assert!(errors.contains("error: line 7: cannot connect to") && errors.contains("blocked"), "{errors}");
    assert!(errors.contains("error: line 11: \"nobody\" is neither a peer id"), "{errors}");
    assert_eq!(outcome.failed, 2);

    let client = Client::new(&path);
    let own = json!({"peer_id": first.handle.peer_id().to_base58()});
    assert_eq!(refused(&client, "/v1/peers/block", own).await, (400, "myself".into()));
    assert_eq!(refused(&client, "/v1/peers/block", json!({"peer_id": "x"})).await, (400, "bad_peer".into()));
    assert_eq!(refused(&client, "/v1/peers/blocked", json!({})).await, (405, "wrong_method".into()));
}

#[test]
fn the_documentation_names_every_event_and_every_command() {
    let page = include_str!("../docs/node.md");
    for event in Event::TYPES {
        assert!(
            page.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{event}`"))),
            "{event}"
        );
    }
    for (name, usage, _) in hippius::cli::console::command::COMMANDS {
        let command = format!("{name} {usage}");
        assert!(page.contains(&format!("`{}`", command.trim())), "{command}");
    }
}
