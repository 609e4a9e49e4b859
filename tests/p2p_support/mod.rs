//! Nodes in this process, on loopback ports of the system's choice, each with a folder of its own.
#![allow(dead_code, missing_docs)] // Each test file uses a part of it.

pub mod console;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use hippius::p2p::topics::Message;
use hippius::p2p::{Event, EventStream, Handle, Identity, NodeConfig, NodeRole, StartError, Topic, start};
use hippius::telemetry::instruments::P2pInstruments;
use libp2p::Multiaddr;
use opentelemetry::metrics::Meter;
use tempfile::TempDir;

/// Longest wait for a condition; far above what any takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running node and its folder.
pub struct TestNode {
    pub handle: Handle,
    pub folder: TempDir,
}

impl TestNode {
    pub async fn address(&self) -> Multiaddr {
        self.handle.listen_addrs().await.unwrap().remove(0)
    }

    pub async fn peers(&self) -> usize {
        self.handle.peers().await.unwrap().len()
    }

    /// Connected peers that are on `topic`, which is joined.
    pub async fn subscribers(&self, topic: &str) -> usize {
        let topics = self.handle.topic_infos().await.unwrap();
        topics.iter().find(|info| info.topic.as_str() == topic).map_or(0, |info| info.subscribers.len())
    }

    pub async fn refused(&self, what: &str) -> u64 {
        self.handle.status().await.unwrap().refused.get(what).copied().unwrap_or(0)
    }

    pub async fn stop(self) -> TempDir {
        self.handle.shutdown().await;
        self.folder
    }
}

pub async fn start_in(folder: &Path, role: NodeRole, config: NodeConfig) -> Result<Handle, StartError> {
    start_measured(folder, role, config, &opentelemetry::global::meter("test")).await
}

async fn start_measured(
    folder: &Path,
    role: NodeRole,
    config: NodeConfig,
    meter: &Meter,
) -> Result<Handle, StartError> {
    let identity = Identity::open(folder).expect("an identity");
    start(config, identity, role, P2pInstruments::new(meter), meter).await.map(|node| node.handle)
}

pub async fn node(role: NodeRole, config: NodeConfig) -> TestNode {
    measured_node(role, config, &opentelemetry::global::meter("test")).await
}

/// A node whose figures can be read from whatever `meter` belongs to.
pub async fn measured_node(role: NodeRole, config: NodeConfig, meter: &Meter) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let handle = start_measured(folder.path(), role, config, meter).await.expect("a running node");
    TestNode { handle, folder }
}

pub async fn bootnode() -> TestNode {
    node(NodeRole::Bootnode, NodeConfig { high_peers: 1000, ..NodeConfig::default() }).await
}

/// A node in the lobby that knows `bootnode`.
pub async fn member(bootnode: &Multiaddr) -> TestNode {
    node(NodeRole::Node, member_config(bootnode)).await
}

pub fn member_config(bootnode: &Multiaddr) -> NodeConfig {
    NodeConfig {
        bootnodes: vec![bootnode.clone()],
        topics: vec!["lobby".to_owned()],
        ..NodeConfig::default()
    }
}

pub fn lobby() -> Topic {
    "lobby".parse().unwrap()
}

/// Asks again every few milliseconds until the answer is yes; `what` names the condition that was never met.
pub async fn eventually<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, met).await.is_ok(), "never came true: {what}");
}

/// The next message, whatever else happens before.
pub async fn next_message(events: &mut EventStream) -> Message {
    let message = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("a running node") {
                return (*message).clone();
            }
        }
    };
    tokio::time::timeout(DEADLINE, message).await.expect("a message in time")
}

/// `bytes` behind their length, as protobuf writes it.
pub fn delimited(bytes: &[u8]) -> Vec<u8> {
    let mut delimited = Vec::with_capacity(bytes.len() + 5);
    let mut length = bytes.len();
    while length >= 0x80 {
        delimited.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    delimited.push(length as u8);
    delimited.extend(bytes);
    delimited
}

/// A field of a protobuf message that holds `bytes`.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], delimited(bytes)].concat()
}
