//! What a node remembers across restarts: the peers it has met, and whom the user keeps away.

mod p2p_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use hippius::p2p::{NodeRole, known};
use p2p_support::*;
use serde_json::Value;

#[tokio::test]
async fn a_restarted_node_finds_its_peers_though_the_bootnode_is_gone_for_good() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let others = [member(&address).await, member(&address).await];
    let restarted = member(&address).await;
    eventually("all are connected", || async {
        restarted.peers().await == 3 && others[0].peers().await == 3 && others[1].peers().await == 3
    })
    .await;
    let id = restarted.handle.peer_id();
    let folder = restarted.stop().await;
    let file = folder.path().join(known::FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    bootnode.stop().await;
    eventually("the others are among themselves", || async {
        others[0].peers().await == 1 && others[1].peers().await == 1
    })
    .await;
    // On a port of the system's choice: the others cannot know where.
    let begin = Instant::now();
    let again = start_in(folder.path(), NodeRole::Node, member_config(&address)).await.unwrap();
    assert_eq!(again.peer_id(), id);
    let mut heard = again.subscribe_events().unwrap();
    eventually("it has found the others", || async { again.peers().await.unwrap().len() == 2 }).await;
    println!("it found the others after {:?}", begin.elapsed());
    eventually("they can write to it", || async { others[0].subscribers("lobby").await == 2 }).await;
    others[0].handle.publish(lobby(), "there you are").await.unwrap();
    assert_eq!(next_message(&mut heard).await.text, "there you are");
}

#[tokio::test]
async fn a_node_that_is_killed_has_written_down_whom_it_met() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let (one, other) = (member(&address).await, member(&address).await);
    let file = one.folder.path().join(known::FILE);
    eventually("the file names the other", || async {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.contains(&other.handle.peer_id().to_base58())
    })
    .await;
    let content: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(content["peers"].as_array().unwrap().len(), 1, "the bootnode is known anyway");
    assert!(!bootnode.folder.path().join(known::FILE).exists(), "a bootnode looks for nobody");
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_a_disk_that_takes_nothing_is_borne() {
    let bootnode = bootnode().await;
    let address = bootnode.address().await;
    let other = member(&address).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(known::FILE);
    for damaged in ["{\"peers\": [{\"peer_id\": \"12D3", "\u{0}\u{0}\u{0}", "[]"] {
        fs::write(&file, damaged).unwrap();
        let handle = start_in(folder.path(), NodeRole::Node, member_config(&address)).await.unwrap();
        eventually("it is connected", || async { handle.peers().await.unwrap().len() == 2 }).await;
        eventually("the other is identified", || async {
            handle.peers().await.unwrap().iter().all(|peer| peer.agent.is_some())
        })
        .await;
        handle.shutdown().await;
        let aside = folder.path().join("peers.json.damaged");
        assert_eq!(fs::read_to_string(&aside).unwrap(), damaged);
        let content = fs::read_to_string(&file).unwrap();
        assert!(content.contains(&other.handle.peer_id().to_base58()), "{content}");
    }
    // In the way of every write.
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(folder.path().join("peers.json.tmp/in-the-way")).unwrap();
    let handle = start_in(folder.path(), NodeRole::Node, member_config(&address)).await.unwrap();
    eventually("it is connected", || async { handle.peers().await.unwrap().len() == 2 }).await;
    handle.shutdown().await;
    assert!(!file.exists());
}

#[tokio::test]
async fn who_is_blocked_by_hand_is_kept_away_in_both_directions_and_after_a_restart() {
    let (node, other, short) = (bootnode().await, bootnode().await, bootnode().await);
    let ids = [other.handle.peer_id(), short.handle.peer_id()];
    node.handle.connect(other.address().await).await.unwrap();
    assert!(node.handle.block(ids[0], None).await.unwrap(), "it is on disk");
    assert!(node.handle.block(ids[1], Some(Duration::from_secs(3600))).await.unwrap());
    eventually("it is disconnected", || async { node.peers().await == 0 && other.peers().await == 0 }).await;

    let folder = node.stop().await;
    let again = start_in(folder.path(), NodeRole::Bootnode, Default::default()).await.unwrap();
    let blocked = again.blocked().await.unwrap();
    assert_eq!(blocked.len(), 2);
    for peer in &blocked {
        assert_eq!(peer.seconds_left.is_none(), peer.peer_id == ids[0], "{peer:?}");
    }
    assert_eq!(again.status().await.unwrap().blocked, 2);
    let error = again.connect(other.address().await).await.unwrap_err();
    assert!(error.to_string().contains("blocked"), "{error}");
    let address = again.listen_addrs().await.unwrap().remove(0);
    // The dial itself may succeed before the other side closes.
    let _ = other.handle.connect(address.clone()).await;
    eventually("it is refused and counted", || async {
        other.peers().await == 0
            && again.status().await.unwrap().refused.get("blocked").is_some_and(|count| *count > 0)
    })
    .await;
    assert!(again.peers().await.unwrap().is_empty());

    assert!(again.unblock(ids[0]).await.unwrap());
    assert!(!again.unblock(ids[0]).await.unwrap());
    other.handle.connect(address).await.unwrap();
    eventually("it is let in again", || async { again.peers().await.unwrap().len() == 1 }).await;
    again.shutdown().await;
    let third = start_in(folder.path(), NodeRole::Bootnode, Default::default()).await.unwrap();
    let blocked = third.blocked().await.unwrap();
    assert_eq!(blocked.iter().map(|peer| peer.peer_id).collect::<Vec<_>>(), [ids[1]]);
}
