//! Private messages and files between nodes in this process, and with peers that misbehave.

mod p2p_support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use hippius::p2p::direct::config::{Accept, FilesConfig};
use hippius::p2p::direct::{MessageError, ReachError, SendFileError};
use hippius::p2p::{Event, EventStream, NodeConfig, NodeRole, TransferInfo, TransferState};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use p2p_support::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MESSAGES: StreamProtocol = StreamProtocol::new("/hippius/msg/1.0.0");
const FILES: StreamProtocol = StreamProtocol::new("/hippius/file/1.0.0");

fn taking(files: FilesConfig) -> NodeConfig {
    NodeConfig { files, ..NodeConfig::default() }
}

async fn taker(files: FilesConfig) -> TestNode {
    node(NodeRole::Node, taking(files)).await
}

async fn always() -> TestNode {
    taker(FilesConfig { accept: Accept::Always, ..FilesConfig::default() }).await
}

async fn connected_to(receiver: &TestNode) -> TestNode {
    let sender = node(NodeRole::Node, NodeConfig::default()).await;
    sender.handle.connect(receiver.address().await).await.unwrap();
    sender
}

fn received(node: &TestNode) -> PathBuf {
    node.folder.path().join("received")
}

/// The names in the folder of received files, in alphabetical order.
fn names(node: &TestNode) -> Vec<String> {
    let Ok(entries) = fs::read_dir(received(node)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Parts of files that are kept for another try.
fn parts(node: &TestNode) -> usize {
    fs::read_dir(node.folder.path().join("transfers/in")).map_or(0, Iterator::count)
}

/// Bytes of the parts of files.
fn arrived(node: &TestNode) -> u64 {
    let Ok(entries) = fs::read_dir(node.folder.path().join("transfers/in")) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// `bytes` that no two places have in common.
fn content(bytes: usize) -> Vec<u8> {
    let mut block = [0_u8; 32];
    let mut content = Vec::with_capacity(bytes + 32);
    while content.len() < bytes {
        block = Sha256::digest(block).into();
        content.extend_from_slice(&block);
    }
    content.truncate(bytes);
    content
}

fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

async fn next_event(events: &mut EventStream) -> Event {
    // A side that does not hear of a break goes on after 30 s of silence.
    tokio::time::timeout(3 * DEADLINE, events.next())
        .await
        .expect("an event in time")
        .expect("a running node")
}

/// How the next file ends, at either side.
async fn ended(events: &mut EventStream) -> TransferInfo {
    loop {
        match next_event(events).await {
            Event::FileSent(info) | Event::FileReceived(info) | Event::FileFailed(info) => return info,
            _ => {}
        }
    }
}

async fn offered(events: &mut EventStream) -> TransferInfo {
    loop {
        if let Event::FileOffered(info) = next_event(events).await {
            return info;
        }
    }
}

#[tokio::test]
async fn a_private_message_is_delivered_and_confirmed() {
    let receiver = bootnode().await;
    let sender = connected_to(&receiver).await;
    let mut events = receiver.handle.subscribe_events().unwrap();
    let text = "hi \"there\"\n日本 \u{1b}[2J";
    let id = sender.handle.send_message(receiver.handle.peer_id(), text).await.unwrap();
    let message = loop {
        if let Event::PrivateMessage(message) = next_event(&mut events).await {
            break message;
        }
    };
    assert_eq!((message.id.as_str(), message.text.as_str()), (id.as_str(), text));
    assert_eq!(message.from, sender.handle.peer_id());
    let largest = "x".repeat(64 * 1024);
    sender.handle.send_message(receiver.handle.peer_id(), largest.as_str()).await.unwrap();
    let error = sender.handle.send_message(receiver.handle.peer_id(), largest + "x").await.unwrap_err();
    assert_eq!(error, MessageError::TooLarge);
    // As long as it may be, but twice as long as that when written as JSON.
    let escaped = "\u{1}".repeat(64 * 1024);
    let error = sender.handle.send_message(receiver.handle.peer_id(), escaped).await.unwrap_err();
    assert_eq!(error, MessageError::TooLarge);
}

#[tokio::test]
async fn a_peer_that_is_known_but_not_connected_is_connected() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let quiet = |topics: &[&str]| NodeConfig {
        bootnodes: vec![address.clone()],
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        // Neither looks for others by itself.
        low_peers: 0,
        ..NodeConfig::default()
    };
    let first = node(NodeRole::Node, quiet(&[])).await;
    let second = node(NodeRole::Node, quiet(&[])).await;
    eventually("both are connected to the bootnode and it knows where they are", || async {
        let peers = bootnode.handle.peers().await.unwrap();
        peers.len() == 2 && peers.iter().all(|peer| peer.agent.is_some())
    })
    .await;
    assert_eq!((first.peers().await, second.peers().await), (1, 1));
    eventually("the message arrives", || async {
        first.handle.send_message(second.handle.peer_id(), "hi").await.is_ok()
    })
    .await;
    assert_eq!(first.peers().await, 2);
    let stranger = PeerId::random();
    let error = first.handle.send_message(stranger, "hi").await.unwrap_err();
    assert_eq!(error, MessageError::Reach(ReachError::Unknown(stranger)));
    let error = first.handle.send_message(first.handle.peer_id(), "hi").await.unwrap_err();
    assert_eq!(error, MessageError::Reach(ReachError::Myself));
    let gone = second.handle.peer_id();
    drop(second.stop().await);
    eventually("the loss is noticed", || async { first.peers().await == 1 }).await;
    let error = first.handle.send_message(gone, "hi").await.unwrap_err();
    let unreached =
        matches!(error, MessageError::Reach(ReachError::Unreachable { .. } | ReachError::Unknown(_)));
    assert!(unreached, "{error}");
}

#[tokio::test]
async fn a_flood_of_private_messages_is_refused_and_counted() {
    let receiver = bootnode().await;
    let sender = connected_to(&receiver).await;
    let peer = receiver.handle.peer_id();
    let mut refused = 0;
    for _ in 0..150 {
        match sender.handle.send_message(peer, "x").await {
            Ok(_) => {}
            Err(MessageError::TooFast) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "150 at once are more than a full bucket and what comes back meanwhile");
    assert_eq!(receiver.refused("private_message").await, refused);
    let other = connected_to(&receiver).await;
    other.handle.send_message(peer, "one sender does not use up another's").await.unwrap();
}

#[tokio::test]
async fn a_file_arrives_whole_and_is_confirmed() {
    let receiver = always().await;
    let sender = connected_to(&receiver).await;
    let (mut sent, mut got) =
        (sender.handle.subscribe_events().unwrap(), receiver.handle.subscribe_events().unwrap());
    for (name, bytes) in [("big.bin", 3 * 1024 * 1024 + 17), ("empty", 0), ("one", 1)] {
        let content = content(bytes);
        let path = write(sender.folder.path(), name, &content);
        let begun = sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
        assert_eq!((begun.name.as_str(), begun.size), (name, bytes as u64));
        let (sent, got) = (ended(&mut sent).await, ended(&mut got).await);
        assert_eq!((sent.state, sent.done), (TransferState::Done, bytes as u64), "{sent:?}");
        assert_eq!(got.saved_as.as_deref(), Some(name));
        assert_eq!(got.peer, sender.handle.peer_id());
        assert!(fs::read(received(&receiver).join(name)).unwrap() == content);
    }
    assert_eq!(parts(&receiver), 0);
    assert_eq!(fs::read_dir(sender.folder.path().join("transfers/out")).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_of_a_file_is_written_before_somebody_accepts_it() {
    let receiver = taker(FilesConfig::default()).await;
    let sender = connected_to(&receiver).await;
    let (mut sent, mut got) =
        (sender.handle.subscribe_events().unwrap(), receiver.handle.subscribe_events().unwrap());
    let path = write(sender.folder.path(), "a.txt", b"hello");
    let peer = receiver.handle.peer_id();

    sender.handle.send_file(peer, &path).await.unwrap();
    let offer = offered(&mut got).await;
    assert_eq!((offer.name.as_str(), offer.size, offer.state), ("a.txt", 5, TransferState::Offered));
    assert!(!received(&receiver).exists() && parts(&receiver) == 0);
    receiver.handle.decide_file(offer.id, false).unwrap();
    let refused = ended(&mut sent).await;
    assert_eq!(refused.reason.as_deref(), Some("the peer declined the file"));
    assert_eq!(ended(&mut got).await.state, TransferState::Failed);

    sender.handle.send_file(peer, &path).await.unwrap();
    let offer = offered(&mut got).await;
    receiver.handle.decide_file(offer.id, true).unwrap();
    assert_eq!(ended(&mut sent).await.state, TransferState::Done);
    assert_eq!(ended(&mut got).await.id, offer.id);
    assert_eq!(names(&receiver), ["a.txt"]);
    assert!(receiver.handle.decide_file(offer.id, true).is_err());
    assert!(receiver.handle.decide_file(9_999, true).is_err());

    sender.handle.send_file(peer, &path).await.unwrap();
    let offer = offered(&mut got).await;
    let waiting = sender.handle.transfers().pop().unwrap();
    sender.handle.cancel_file(waiting.id).unwrap();
    assert_eq!(ended(&mut sent).await.reason.as_deref(), Some("cancelled"));
    assert_eq!(ended(&mut got).await.id, offer.id, "the offer is gone with its sender");
}

#[tokio::test]
async fn a_policy_decides_who_may_send() {
    let sender = node(NodeRole::Node, NodeConfig::default()).await;
    let me = sender.handle.peer_id();
    let path = write(sender.folder.path(), "a.txt", &content(5_000));
    let mut sent = sender.handle.subscribe_events().unwrap();
    for (files, expected) in [
        (FilesConfig { accept: Accept::Never, ..FilesConfig::default() }, Some("takes no files")),
        (
            FilesConfig { accept: Accept::From(vec![PeerId::random()]), ..FilesConfig::default() },
            Some("takes no files"),
        ),
        (FilesConfig { accept: Accept::From(vec![me]), ..FilesConfig::default() }, None),
        (FilesConfig { accept: Accept::Always, max_file: 4_999, ..FilesConfig::default() }, Some("larger")),
        (FilesConfig { accept: Accept::Always, max_total: 4_999, ..FilesConfig::default() }, Some("full")),
        (
            FilesConfig {
                accept: Accept::Always,
                max_file: 5_000,
                max_total: 5_000,
                ..FilesConfig::default()
            },
            None,
        ),
    ] {
        let receiver = taker(files).await;
        sender.handle.connect(receiver.address().await).await.unwrap();
        sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
        let end = ended(&mut sent).await;
        match expected {
            None => assert_eq!(names(&receiver), ["a.txt"], "{end:?}"),
            Some(words) => {
                assert!(end.reason.as_deref().is_some_and(|reason| reason.contains(words)), "{end:?}");
                assert!(names(&receiver).is_empty() && parts(&receiver) == 0);
                assert_eq!(receiver.refused("file").await, 1);
            }
        }
    }
}

#[tokio::test]
async fn only_regular_files_are_sent_and_nothing_blocks() {
    let receiver = always().await;
    let sender = connected_to(&receiver).await;
    let fifo = sender.folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let send = async |path: &Path| {
        let sent = sender.handle.send_file(receiver.handle.peer_id(), path);
        tokio::time::timeout(DEADLINE, sent).await.expect("an answer in time").unwrap_err()
    };
    for path in [Path::new("/dev/zero"), Path::new("/dev/null"), sender.folder.path(), &fifo] {
        assert!(send(path).await.to_string().contains("only regular files"), "{path:?}");
    }
    assert!(send(Path::new("/nowhere/x")).await.to_string().contains("cannot read"));
    let file = write(sender.folder.path(), "a", b"");
    let error = sender.handle.send_file(sender.handle.peer_id(), &file).await.unwrap_err();
    assert!(matches!(error, SendFileError::Myself));
}

#[tokio::test]
async fn two_files_of_one_name_at_once_are_both_kept() {
    let receiver = always().await;
    let sender = connected_to(&receiver).await;
    let mut sent = sender.handle.subscribe_events().unwrap();
    let contents = [content(400_000), content(300_000).iter().rev().copied().collect()];
    for (folder, content) in ["x", "y"].iter().zip(&contents) {
        fs::create_dir(sender.folder.path().join(folder)).unwrap();
        let path = write(&sender.folder.path().join(folder), "a.txt", content);
        sender.handle.send_file(receiver.handle.peer_id(), path).await.unwrap();
    }
    for _ in 0..2 {
        let end = ended(&mut sent).await;
        assert_eq!(end.state, TransferState::Done, "{end:?}");
    }
    assert_eq!(names(&receiver), ["a (1).txt", "a.txt"]);
    let read = |name: &str| fs::read(received(&receiver).join(name)).unwrap();
    let (first, second) = (read("a.txt"), read("a (1).txt"));
    assert!(
        (first == contents[0] && second == contents[1]) || (first == contents[1] && second == contents[0])
    );
}

#[tokio::test]
async fn a_file_goes_on_where_its_connection_broke() {
    let receiver = always().await;
    let sender = connected_to(&receiver).await;
    let content = content(12 * 1024 * 1024);
    let path = write(sender.folder.path(), "big", &content);
    let mut sent = sender.handle.subscribe_events().unwrap();
    let mut got = receiver.handle.subscribe_events().unwrap();
    sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
    eventually("a part of it is there", || async { arrived(&receiver) > 512 * 1024 }).await;
    let broken_at = arrived(&receiver);
    sender.handle.disconnect(receiver.handle.peer_id()).await.unwrap();
    let broken = ended(&mut got).await;
    assert!(broken.reason.as_deref().is_some_and(|reason| reason.contains("interrupted")), "{broken:?}");
    assert!(names(&receiver).is_empty(), "what is half done is not to be seen");
    let resumed_at = loop {
        match next_event(&mut got).await {
            Event::FileProgress(info) => break info.done,
            Event::FileReceived(_) => panic!("nothing was told of the rest"),
            _ => {}
        }
    };
    assert!(resumed_at >= broken_at, "{resumed_at} {broken_at}");
    let end = ended(&mut sent).await;
    assert_eq!(end.state, TransferState::Done, "{end:?}");
    assert!(fs::read(received(&receiver).join("big")).unwrap() == content);
    assert_eq!(names(&receiver), ["big"]);
}

#[tokio::test]
async fn a_file_that_is_written_to_meanwhile_is_not_delivered() {
    let receiver = taker(FilesConfig::default()).await;
    let sender = connected_to(&receiver).await;
    let (mut sent, mut got) =
        (sender.handle.subscribe_events().unwrap(), receiver.handle.subscribe_events().unwrap());
    let path = write(sender.folder.path(), "log", &content(200_000));
    sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
    let offer = offered(&mut got).await;
    fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    receiver.handle.decide_file(offer.id, true).unwrap();
    let end = ended(&mut sent).await;
    assert!(end.reason.as_deref().is_some_and(|reason| reason.contains("has changed")), "{end:?}");
    assert!(names(&receiver).is_empty());
}

// ---- Peers that misbehave --------------------------------------------------------------------------------------------

/// A peer that speaks the protocols as it likes.
struct Rogue {
    control: libp2p_stream::Control,
    victim: PeerId,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rogue_swarm() -> Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE * 10))
        .build()
}

impl Rogue {
    async fn at(node: &TestNode) -> Self {
        let mut swarm = rogue_swarm();
        let victim = node.handle.peer_id();
        swarm.dial(node.address().await).unwrap();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        let control = swarm.behaviour().new_control();
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { control, victim, task }
    }

    async fn open(&mut self, protocol: StreamProtocol) -> Stream {
        let opened = self.control.open_stream(self.victim, protocol);
        tokio::time::timeout(DEADLINE, opened).await.expect("in time").expect("a stream")
    }

    async fn offer(&mut self, name: &str, content: &[u8]) -> Stream {
        let mut stream = self.open(FILES).await;
        say(&mut stream, &offer(name, content.len() as u64, content)).await;
        stream
    }
}

fn hex(hash: impl AsRef<[u8]>) -> String {
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offer(name: &str, size: u64, content: &[u8]) -> Value {
    let id = format!("{:032x}", rand::random::<u128>());
    json!({ "id": id, "name": name, "size": size, "sha256": hex(Sha256::digest(content)) })
}

async fn say(stream: &mut Stream, value: &Value) {
    try_say(stream, value).await.unwrap();
}

async fn try_say(stream: &mut Stream, value: &Value) -> std::io::Result<()> {
    let json = serde_json::to_vec(value).unwrap();
    let mut frame = u32::try_from(json.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(json);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// The next answer; `None` when the stream is closed instead.
async fn hear(stream: &mut Stream) -> Option<Value> {
    let read = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.ok()?;
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut json).await.ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer in time")
}

async fn refusal(stream: &mut Stream) -> String {
    let answer = hear(stream).await.expect("an answer");
    assert_eq!(answer["answer"], "refuse", "{answer}");
    answer["reason"].as_str().unwrap().to_owned()
}

/// Accepted from the beginning.
async fn begin(stream: &mut Stream) {
    let answer = hear(stream).await.expect("an answer");
    assert_eq!((&answer["answer"], &answer["offset"]), (&json!("accept"), &json!(0)), "{answer}");
    say(stream, &json!({ "offset": 0 })).await;
}

/// An honest peer is served as before.
async fn assert_serves(node: &TestNode) {
    let honest = connected_to(node).await;
    honest.handle.send_message(node.handle.peer_id(), "still there?").await.unwrap();
    let mut sent = honest.handle.subscribe_events().unwrap();
    let path = write(honest.folder.path(), "honest.txt", b"honest");
    honest.handle.send_file(node.handle.peer_id(), path).await.unwrap();
    let end = ended(&mut sent).await;
    assert_eq!(end.state, TransferState::Done, "{end:?}");
}

#[tokio::test]
async fn a_file_stays_in_its_folder_whatever_it_is_called() {
    let receiver = always().await;
    let outside = receiver.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut rogue = Rogue::at(&receiver).await;
    let long = "x".repeat(300);
    let hostile = [
        "..",
        ".",
        "",
        "/",
        "../outside/a",
        "../../../../../../tmp/hippius-escape",
        "/etc/passwd",
        "a/../../outside/b",
        "..\\outside\\c",
        "C:\\windows\\d",
        "e\0f",
        "g\nh",
        "\u{1b}[2J",
        "\u{202e}gpj.exe",
        ".bashrc",
        "con",
        "nul.txt",
        " ",
        "transfers/in/x",
        &long,
        "…/../..",
    ];
    for (number, name) in hostile.iter().enumerate() {
        let content = vec![number as u8; 10];
        let mut stream = rogue.offer(name, &content).await;
        begin(&mut stream).await;
        stream.write_all(&content).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(hear(&mut stream).await.unwrap()["answer"], "done", "{name:?}");
    }
    let names = names(&receiver);
    assert_eq!(names.len(), hostile.len(), "{names:?}");
    for name in &names {
        assert!(
            !name.starts_with('.') && name.len() <= 255 && !name.chars().any(char::is_control),
            "{name:?}"
        );
        assert!(received(&receiver).join(name).symlink_metadata().unwrap().is_file());
    }
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(!Path::new("/tmp/hippius-escape").exists());
}

#[tokio::test]
async fn a_sender_that_lies_is_found_out() {
    let receiver = always().await;
    let mut rogue = Rogue::at(&receiver).await;

    // Other bytes than announced.
    let mut stream = rogue.offer("lie", b"what was said").await;
    begin(&mut stream).await;
    stream.write_all(b"what was done").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(refusal(&mut stream).await, "damaged");

    // Fewer: it is waited for, then it is gone; what came is kept for another try, and not to be seen.
    let mut stream = rogue.offer("short", &content(1_000)).await;
    begin(&mut stream).await;
    stream.write_all(&content(1_000)[..400]).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(hear(&mut stream).await, None);
    assert_eq!((names(&receiver).len(), parts(&receiver)), (0, 1));

    // More: only what was announced is taken.
    let announced = content(1_000);
    let mut stream = rogue.offer("long", &announced[..500]).await;
    begin(&mut stream).await;
    stream.write_all(&announced).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(hear(&mut stream).await.unwrap()["answer"], "done");
    assert!(fs::read(received(&receiver).join("long")).unwrap() == announced[..500]);

    // An offset that was not agreed on.
    let mut stream = rogue.offer("offset", b"hello").await;
    hear(&mut stream).await.unwrap();
    say(&mut stream, &json!({ "offset": 3 })).await;
    assert_eq!(refusal(&mut stream).await, "malformed");

    // More than anybody has.
    let mut stream = rogue.open(FILES).await;
    say(&mut stream, &offer("huge", u64::MAX, b"")).await;
    assert_eq!(refusal(&mut stream).await, "too_large");
    assert_serves(&receiver).await;
}

#[tokio::test]
async fn what_is_no_offer_and_no_message_is_refused() {
    let receiver = always().await;
    let mut rogue = Rogue::at(&receiver).await;
    for wrong in [
        json!({}),
        json!([]),
        json!({ "id": "a/b", "name": "x", "size": 1, "sha256": "00".repeat(32) }),
        json!({ "id": "1", "name": "x", "size": -1, "sha256": "00".repeat(32) }),
        json!({ "id": "1", "name": "x", "size": 1, "sha256": "00" }),
        json!({ "id": "1", "name": "x", "size": 1, "sha256": "00".repeat(32), "more": true }),
    ] {
        let mut stream = rogue.open(FILES).await;
        say(&mut stream, &wrong).await;
        assert_eq!(refusal(&mut stream).await, "malformed", "{wrong}");
    }
    // Announced to be longer than it may be: not even read.
    for protocol in [FILES, MESSAGES] {
        let mut stream = rogue.open(protocol).await;
        stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let answer = hear(&mut stream).await.expect("an answer");
        assert!(matches!(answer["reason"].as_str(), Some("malformed" | "too_large")), "{answer}");
    }
    for wrong in
        [json!({}), json!({ "id": "", "sent_at": 0, "text": "x" }), json!({ "id": "1", "text": "x" })]
    {
        let mut stream = rogue.open(MESSAGES).await;
        say(&mut stream, &wrong).await;
        assert_eq!(refusal_of_message(&mut stream).await, "malformed", "{wrong}");
    }
    assert_eq!(receiver.refused("file").await, 7);
    assert_eq!(receiver.refused("private_message").await, 4);
    assert_serves(&receiver).await;
}

async fn refusal_of_message(stream: &mut Stream) -> String {
    let answer = hear(stream).await.expect("an answer");
    assert_eq!(answer["answer"], "refused", "{answer}");
    answer["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn streams_that_say_nothing_are_few_and_do_not_keep_others_out() {
    let receiver = always().await;
    let mut rogue = Rogue::at(&receiver).await;
    let mut silent = Vec::new();
    for protocol in [FILES, MESSAGES].into_iter().cycle().take(60) {
        silent.push(rogue.open(protocol).await);
    }
    // A peer has 16 places; a stream without one is closed.
    eventually("those too many are refused", || async { receiver.refused("stream").await >= 44 }).await;
    assert_serves(&receiver).await;
}

#[tokio::test]
async fn a_hundred_offers_at_once_leave_places_for_others() {
    let receiver = taker(FilesConfig::default()).await;
    let mut rogue = Rogue::at(&receiver).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let mut stream = rogue.open(FILES).await;
        // One without a place is closed before it has said all.
        let _ = try_say(&mut stream, &offer(&number.to_string(), 1, &[number])).await;
        streams.push(stream);
    }
    let offers = || {
        let all = receiver.handle.transfers();
        all.into_iter().filter(|info| info.state == TransferState::Offered).count()
    };
    eventually("its share is offered", || async { offers() == 4 }).await;
    eventually("the rest is refused", || async {
        receiver.refused("file").await + receiver.refused("stream").await >= 96
    })
    .await;
    assert_eq!(offers(), 4);
    let honest = connected_to(&receiver).await;
    let mut got = receiver.handle.subscribe_events().unwrap();
    let path = write(honest.folder.path(), "honest", b"x");
    honest.handle.send_file(receiver.handle.peer_id(), path).await.unwrap();
    assert_eq!(offered(&mut got).await.peer, honest.handle.peer_id());
}

/// A receiver that takes the beginning of a file and then reads no more.
async fn slow_reader() -> (Multiaddr, tokio::task::JoinHandle<()>) {
    let mut swarm = rogue_swarm();
    let mut streams = swarm.behaviour().new_control().accept(FILES).unwrap();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let peer = *swarm.local_peer_id();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with_p2p(peer).unwrap();
        }
    };
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Some((_, mut stream)) = streams.next() => {
                    kept.push(tokio::spawn(async move {
                        hear(&mut stream).await;
                        let nothing = hex(Sha256::digest(b""));
                        say(&mut stream, &json!({ "answer": "accept", "offset": 0, "prefix": nothing })).await;
                        std::future::pending::<()>().await;
                    }));
                }
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_receiver_that_does_not_read_holds_the_sender_up_and_not_its_memory() {
    let sender = node(NodeRole::Node, NodeConfig::default()).await;
    let (address, reader) = slow_reader().await;
    let peer = sender.handle.connect(address).await.unwrap();
    let path = sender.folder.path().join("huge");
    // Sparse: it takes no room on the disk.
    fs::File::create(&path).unwrap().set_len(64 * 1024 * 1024).unwrap();
    let begun = sender.handle.send_file(peer, &path).await.unwrap();
    let info = || sender.handle.transfers().into_iter().find(|info| info.id == begun.id).unwrap();
    let mut last = 0;
    let mut same = 0;
    eventually("nothing more is sent", || {
        let info = info();
        same = if info.state == TransferState::Running && info.done > 0 && info.done == last {
            same + 1
        } else {
            0
        };
        last = info.done;
        async move { same > 50 }
    })
    .await;
    // What is on its way is in the window of one stream and a block, not in a queue.
    assert!(info().done < 18 * 1024 * 1024, "{:?}", info());
    sender.handle.cancel_file(begun.id).unwrap();
    eventually("it is cancelled", || async { info().state == TransferState::Failed }).await;
    reader.abort();
}
