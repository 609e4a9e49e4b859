//! Peers that speak the protocols as they like.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use hippius::p2p::TransferState;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use serde_json::{Value, json};

use super::*;

pub const MESSAGES: StreamProtocol = StreamProtocol::new("/hippius/msg/1.0.0");
pub const FILES: StreamProtocol = StreamProtocol::new("/hippius/file/1.0.0");

/// A peer that speaks the protocols as it likes.
pub struct Rogue {
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
    pub async fn at(node: &TestNode) -> Self {
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

    pub async fn open(&mut self, protocol: StreamProtocol) -> Stream {
        let opened = self.control.open_stream(self.victim, protocol);
        tokio::time::timeout(DEADLINE, opened).await.expect("in time").expect("a stream")
    }

    pub async fn offer(&mut self, name: &str, content: &[u8]) -> Stream {
        let mut stream = self.open(FILES).await;
        say(&mut stream, &offer(name, content.len() as u64, content)).await;
        stream
    }
}

fn hex(hash: impl AsRef<[u8]>) -> String {
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn offer(name: &str, size: u64, content: &[u8]) -> Value {
    let id = format!("{:032x}", rand::random::<u128>());
    json!({ "id": id, "name": name, "size": size, "sha256": hex(Sha256::digest(content)) })
}

pub async fn say(stream: &mut Stream, value: &Value) {
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
pub async fn hear(stream: &mut Stream) -> Option<Value> {
    let read = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.ok()?;
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut json).await.ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer in time")
}

pub async fn refusal(stream: &mut Stream) -> String {
    let answer = hear(stream).await.expect("an answer");
    assert_eq!(answer["answer"], "refuse", "{answer}");
    answer["reason"].as_str().unwrap().to_owned()
}

/// Accepted from the beginning.
pub async fn begin(stream: &mut Stream) {
    let answer = hear(stream).await.expect("an answer");
    assert_eq!((&answer["answer"], &answer["offset"]), (&json!("accept"), &json!(0)), "{answer}");
    say(stream, &json!({ "offset": 0 })).await;
}

/// An honest peer is served as before.
pub async fn assert_serves(node: &TestNode) {
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
