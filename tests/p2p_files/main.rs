//! Private messages and files between nodes in this process, and with peers that misbehave.

#[path = "../p2p_support/mod.rs"]
mod p2p_support;

mod crowds;
mod files;
mod letters;
mod rogues;

use std::fs;
use std::path::{Path, PathBuf};

use hippius::p2p::direct::config::{Accept, FilesConfig};
use hippius::p2p::{Event, EventStream, NodeConfig, NodeRole, TransferInfo};
use p2p_support::*;
use sha2::{Digest, Sha256};

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
