//! Names cost a stranger nothing: several of them at once shut nobody out, and what one peer may have is a share.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use hippius::p2p::TransferState;
use libp2p::Stream;
use serde_json::json;

use super::rogues::*;
use super::*;

async fn crowd(node: &TestNode, names: usize) -> Vec<Rogue> {
    let mut crowd = Vec::with_capacity(names);
    for _ in 0..names {
        crowd.push(Rogue::at(node).await);
    }
    crowd
}

/// A file that begins, and of which a byte comes now and then: never silent, and never at its end.
async fn trickle(rogue: &mut Rogue, name: &str, bytes: usize) -> tokio::task::JoinHandle<()> {
    let content = content(bytes);
    let mut stream = rogue.offer(name, &content).await;
    begin(&mut stream).await;
    tokio::spawn(async move {
        for byte in content.chunks(1) {
            if stream.write_all(byte).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// One of each, all under way at once.
async fn trickles(crowd: &mut [Rogue], name: &str, bytes: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let mut drops = Vec::new();
    for rogue in crowd {
        drops.push(trickle(rogue, name, bytes).await);
    }
    drops
}

fn in_state(node: &TestNode, state: TransferState) -> usize {
    node.handle.transfers().iter().filter(|info| info.state == state).count()
}

async fn running(node: &TestNode, count: usize) {
    eventually("they have their places", || async { in_state(node, TransferState::Running) == count }).await;
}

#[tokio::test]
async fn silent_streams_of_many_names_make_room_for_others() {
    let receiver = always().await;
    let mut crowd = crowd(&receiver, 6).await;
    let mut silent = Vec::new();
    let begun = Instant::now();
    for protocol in [FILES, MESSAGES].into_iter().cycle() {
        for rogue in &mut crowd {
            silent.push(rogue.open(protocol.clone()).await);
        }
        // However slow this machine is, and silent streams end by themselves meanwhile.
        if receiver.refused("stream").await >= 52 {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "those too many are refused");
    }
    for _ in 0..3 {
        assert_serves(&receiver).await;
    }
}

#[tokio::test]
async fn offers_of_a_few_names_do_not_keep_others_from_being_shown() {
    let receiver = taker(FilesConfig::default()).await;
    let mut crowd = crowd(&receiver, 4).await;
    let mut streams = Vec::new();
    for rogue in &mut crowd {
        for number in 0..4 {
            let mut stream = rogue.offer("crowd", &[number]).await;
            assert_eq!(hear(&mut stream).await.unwrap()["answer"], "wait");
            streams.push(stream);
        }
    }
    assert_eq!(in_state(&receiver, TransferState::Offered), 16);
    let honest = connected_to(&receiver).await;
    let (mut sent, mut got) =
        (honest.handle.subscribe_events().unwrap(), receiver.handle.subscribe_events().unwrap());
    let path = write(honest.folder.path(), "honest", b"x");
    honest.handle.send_file(receiver.handle.peer_id(), path).await.unwrap();
    let offer = offered(&mut got).await;
    assert_eq!(offer.peer, honest.handle.peer_id());
    // Whoever gave way may come back.
    assert_eq!(refusal(&mut streams[0]).await, "busy");
    eventually("one place was enough", || async { in_state(&receiver, TransferState::Offered) == 16 }).await;
    receiver.handle.decide_file(offer.id, true).unwrap();
    assert_eq!(ended(&mut sent).await.state, TransferState::Done);
}

#[tokio::test]
async fn files_that_hardly_come_make_room_for_others() {
    let receiver = always().await;
    let mut crowd = crowd(&receiver, 4).await;
    let drops = trickles(&mut crowd, "slow", 100_000).await;
    running(&receiver, 4).await;
    assert_serves(&receiver).await;
    assert_eq!(in_state(&receiver, TransferState::Running), 3, "one place was enough");
    assert_eq!(parts(&receiver), 4);
    assert!(arrived(&receiver) > 0, "what had come stays");
    drops.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_is_only_promised_does_not_fill_the_folder() {
    let files =
        FilesConfig { accept: Accept::Always, max_file: 1_000_000, max_total: 4_000_000, max_transfers: 8 };
    let receiver = taker(files).await;
    let mut crowd = crowd(&receiver, 4).await;
    let drops = trickles(&mut crowd, "large", 1_000_000).await;
    running(&receiver, 4).await;
    assert_serves(&receiver).await;
    drops.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn one_peer_has_half_of_what_there_is() {
    let receiver = always().await;
    let mut rogue = Rogue::at(&receiver).await;
    let mut streams: Vec<Stream> = Vec::new();
    for number in 0..2 {
        let mut stream = rogue.offer("half", &[number; 10]).await;
        begin(&mut stream).await;
        streams.push(stream);
    }
    let mut third = rogue.offer("more", &[2; 10]).await;
    assert_eq!(refusal(&mut third).await, "busy");
    assert_serves(&receiver).await;

    let receiver =
        taker(FilesConfig { accept: Accept::Always, max_total: 100_000, ..FilesConfig::default() }).await;
    let mut rogue = Rogue::at(&receiver).await;
    // One file may take more than half: others wait until it has come, or has not.
    let mut first = rogue.offer("large", &content(60_000)).await;
    begin(&mut first).await;
    running(&receiver, 1).await;
    let mut second = rogue.offer("small", &content(10_000)).await;
    assert_eq!(refusal(&mut second).await, "busy");
    assert_serves(&receiver).await;
    // There is no room for this one beside what is here, whoever waits.
    let mut other = Rogue::at(&receiver).await;
    let mut huge = other.offer("huge", &content(100_000)).await;
    assert_eq!(refusal(&mut huge).await, "no_room");
}

#[tokio::test]
async fn a_busy_receiver_is_no_end() {
    let files = FilesConfig { accept: Accept::Always, max_transfers: 1, ..FilesConfig::default() };
    let receiver = taker(files).await;
    let mut rogue = Rogue::at(&receiver).await;
    let mut stream = rogue.open(FILES).await;
    // Large enough to be under way for as long as this takes.
    say(&mut stream, &offer("large", 1 << 30, b"")).await;
    begin(&mut stream).await;
    let feed = tokio::spawn(async move {
        let piece = vec![0; 64 * 1024];
        while stream.write_all(&piece).await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    eventually("the first is under way", || async { arrived(&receiver) > 0 }).await;
    let sender = connected_to(&receiver).await;
    let mut sent = sender.handle.subscribe_events().unwrap();
    let path = write(sender.folder.path(), "patient", b"patient");
    sender.handle.send_file(receiver.handle.peer_id(), path).await.unwrap();
    eventually("it is told so", || async {
        sender.handle.transfers()[0].reason.as_deref() == Some("the peer is busy")
    })
    .await;
    assert!(receiver.refused("file").await >= 1);
    assert!(names(&receiver).is_empty());
    feed.abort();
    let end = ended(&mut sent).await;
    assert_eq!(end.state, TransferState::Done, "{end:?}");
    assert_eq!(names(&receiver), ["patient"]);
}

#[tokio::test]
async fn who_consents_consents_to_one_file() {
    let receiver = taker(FilesConfig::default()).await;
    let mut rogue = Rogue::at(&receiver).await;
    let mut got = receiver.handle.subscribe_events().unwrap();
    let content = content(1_000);
    let mut stream = rogue.offer("notes.txt", &content).await;
    assert_eq!(hear(&mut stream).await.unwrap()["answer"], "wait");
    receiver.handle.decide_file(offered(&mut got).await.id, true).unwrap();
    begin(&mut stream).await;
    stream.write_all(&content[..400]).await.unwrap();
    stream.close().await.unwrap();
    let broken = ended(&mut got).await;
    assert!(broken.reason.as_deref().is_some_and(|why| why.starts_with("interrupted")), "{broken:?}");
    for other in [offer("evil.exe", 1_000, &content), offer("notes.txt", 1 << 20, &content)] {
        let mut stream = rogue.open(FILES).await;
        say(&mut stream, &other).await;
        assert_eq!(hear(&mut stream).await.unwrap()["answer"], "wait", "{other}");
    }
    let mut stream = rogue.offer("notes.txt", &content).await;
    let answer = hear(&mut stream).await.unwrap();
    assert_eq!((&answer["answer"], &answer["offset"]), (&json!("accept"), &json!(400)), "{answer}");
}

#[tokio::test]
async fn an_interrupted_file_can_be_cancelled() {
    for accept in [Accept::Always, Accept::Ask] {
        let ask = accept == Accept::Ask;
        let receiver = taker(FilesConfig { accept, ..FilesConfig::default() }).await;
        let mut rogue = Rogue::at(&receiver).await;
        let mut got = receiver.handle.subscribe_events().unwrap();
        let content = content(1_000);
        let offer = offer("a.txt", 1_000, &content);
        let mut stream = rogue.open(FILES).await;
        say(&mut stream, &offer).await;
        if ask {
            assert_eq!(hear(&mut stream).await.unwrap()["answer"], "wait");
            receiver.handle.decide_file(offered(&mut got).await.id, true).unwrap();
        }
        begin(&mut stream).await;
        stream.write_all(&content[..400]).await.unwrap();
        stream.close().await.unwrap();
        let broken = ended(&mut got).await;
        assert_eq!(parts(&receiver), 1);
        receiver.handle.cancel_file(broken.id).unwrap();
        let end = ended(&mut got).await;
        assert_eq!((end.id, end.reason.as_deref()), (broken.id, Some("cancelled")));
        eventually("its part is gone", || async { parts(&receiver) == 0 }).await;
        assert!(receiver.handle.cancel_file(broken.id).is_err(), "it has ended");
        let mut again = rogue.open(FILES).await;
        say(&mut again, &offer).await;
        assert_eq!(refusal(&mut again).await, "declined");
        assert_eq!(parts(&receiver), 0);
    }
}

#[tokio::test]
async fn a_sender_takes_back_its_own_file_and_nobody_elses() {
    let receiver = always().await;
    let (mut rogue, mut other) = (Rogue::at(&receiver).await, Rogue::at(&receiver).await);
    let mut got = receiver.handle.subscribe_events().unwrap();
    let content = content(1_000);
    let mut offer = offer("a.txt", 1_000, &content);
    let mut stream = rogue.open(FILES).await;
    say(&mut stream, &offer).await;
    begin(&mut stream).await;
    stream.write_all(&content[..400]).await.unwrap();
    stream.close().await.unwrap();
    let broken = ended(&mut got).await;
    offer["withdrawn"] = json!(true);
    for (who, left) in [(&mut other, 1), (&mut rogue, 0)] {
        let mut stream = who.open(FILES).await;
        say(&mut stream, &offer).await;
        assert_eq!(hear(&mut stream).await.unwrap()["answer"], "done");
        assert_eq!(parts(&receiver), left);
    }
    let end = ended(&mut got).await;
    assert_eq!((end.id, end.reason.as_deref()), (broken.id, Some("the sender offers it no more")));
}

#[tokio::test]
async fn another_file_under_the_same_id_is_another_offer() {
    let receiver = always().await;
    let mut rogue = Rogue::at(&receiver).await;
    let first = offer("log", 5, b"first");
    let mut second = offer("log", 6, b"second");
    second["id"] = first["id"].clone();
    for (offer, content) in [(&first, &b"first"[..]), (&second, b"second")] {
        let mut stream = rogue.open(FILES).await;
        say(&mut stream, offer).await;
        begin(&mut stream).await;
        stream.write_all(content).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(hear(&mut stream).await.unwrap()["answer"], "done");
    }
    // The answer may have been lost.
    for offer in [&first, &second] {
        let mut stream = rogue.open(FILES).await;
        say(&mut stream, offer).await;
        assert_eq!(hear(&mut stream).await.unwrap()["answer"], "done");
    }
    assert_eq!(names(&receiver), ["log", "log (1)"]);
}
