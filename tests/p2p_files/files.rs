//! Files between honest nodes.

use std::io::Write;

use hippius::p2p::TransferState;
use hippius::p2p::direct::SendFileError;
use libp2p::PeerId;

use super::*;

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

#[tokio::test]
async fn a_file_that_its_sender_gives_up_leaves_nothing() {
    for truncate in [false, true] {
        let receiver = always().await;
        let sender = connected_to(&receiver).await;
        let path = write(sender.folder.path(), "big", &content(24 * 1024 * 1024));
        let mut sent = sender.handle.subscribe_events().unwrap();
        let begun = sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
        eventually("a part of it is there", || async { arrived(&receiver) > 512 * 1024 }).await;
        if truncate {
            fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        } else {
            sender.handle.cancel_file(begun.id).unwrap();
        }
        assert_eq!(ended(&mut sent).await.state, TransferState::Failed);
        eventually("the receiver knows", || async {
            let all = receiver.handle.transfers();
            all.iter().any(|info| info.reason.as_deref() == Some("the sender offers it no more"))
        })
        .await;
        eventually("nothing of it is left", || async { parts(&receiver) == 0 }).await;
        assert!(names(&receiver).is_empty());
    }
}

#[tokio::test]
async fn each_side_is_told_in_its_own_words_why_a_file_did_not_come() {
    let receiver = taker(FilesConfig { max_total: 4_999, ..FilesConfig::default() }).await;
    let sender = connected_to(&receiver).await;
    let (mut sent, mut got) =
        (sender.handle.subscribe_events().unwrap(), receiver.handle.subscribe_events().unwrap());
    let path = write(sender.folder.path(), "a.txt", &content(5_000));
    sender.handle.send_file(receiver.handle.peer_id(), &path).await.unwrap();
    receiver.handle.decide_file(offered(&mut got).await.id, true).unwrap();
    let there = ended(&mut sent).await;
    assert_eq!(there.reason.as_deref(), Some("the peer's folder of received files is full"));
    let here = ended(&mut got).await;
    assert_eq!(here.reason.as_deref(), Some("the folder of received files is full (files.max_total)"));
}
