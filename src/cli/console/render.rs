//! How things look in the console. Nothing that others wrote reaches the terminal as it is.

use std::fmt::Write;

use libp2p::PeerId;

use super::processes::Process;
pub(super) use crate::control::printable::printable as harmless;
use crate::p2p::handle::Path;
use crate::p2p::{Event, GivenUp, Message, PeerInfo, TopicInfo};

/// The line for an event; `None` for those that need none. `short` names a peer by the end of its id.
pub(super) fn event(event: &Event, short: bool) -> Option<String> {
    match event {
        Event::Message(message) => Some(line(message, short)),
        Event::MessageDelivered { topic, peers, .. } => {
            let topic = harmless(topic.as_str());
            Some(format!("(a message that waited on {topic} was handed to {})", peer_count(*peers)))
        }
        Event::MessageGivenUp { topic, reason, .. } => {
            let reason = match reason {
                GivenUp::NobodyCame => "nobody came",
                GivenUp::Left => "the topic was left",
                GivenUp::Stopped => "the node stops",
                GivenUp::Failed => "the peers that came could not take it",
            };
            Some(format!("(a message that waited on {} was given up: {reason})", harmless(topic.as_str())))
        }
        Event::PrivateMessage(message) => {
            Some(format!("[private] {}: {}", name(message.from, short), harmless(&message.text)))
        }
        Event::Lagged { lost } => {
            Some(format!("({lost} events are lost: they came faster than they could be shown)"))
        }
        file => super::files::event(file, &|info| name(info.peer, short)),
    }
}

/// How a peer is called.
fn name(peer: PeerId, short: bool) -> String {
    let id = peer.to_base58();
    if short { id.get(id.len().saturating_sub(6)..).unwrap_or(&id).to_owned() } else { id }
}

fn line(message: &Message, short: bool) -> String {
    let from = name(message.from, short);
    format!("[{}] {from}: {}", harmless(message.topic.as_str()), harmless(&message.text))
}

/// A message of before; the mark tells it from those that arrive.
pub(super) fn earlier(message: &Message, short: bool) -> String {
    format!("(earlier) {}", line(message, short))
}

/// One line per peer, with the name of its process where it is one of the network's.
pub(super) fn peers(peers: &[PeerInfo], processes: &[Process]) -> Vec<String> {
    if peers.is_empty() {
        return vec!["no peers".to_owned()];
    }
    let name = |peer: &PeerInfo| {
        let process = processes.iter().find(|process| process.peer == peer.peer_id);
        process.map(|process| process.name.as_str())
    };
    peers.iter().map(|info| peer(info, name(info))).collect()
}

fn peer(peer: &PeerInfo, name: Option<&str>) -> String {
    let mut line = peer.peer_id.to_string();
    // Writing to a string cannot fail.
    if let Some(name) = name {
        let _ = write!(line, "  {}", harmless(name));
    }
    let _ = write!(line, "  {}  ", peer.address);
    let direction = match peer.direction {
        crate::p2p::handle::Direction::Inbound => "inbound",
        crate::p2p::handle::Direction::Outbound => "outbound",
    };
    line.push_str(direction);
    let path = match peer.path {
        Path::Direct => "direct",
        Path::Relayed => "relayed",
    };
    let _ = write!(line, "  {} {path}", harmless(peer.transport.as_deref().unwrap_or("unknown")));
    if let Some(latency) = peer.latency_ms {
        let _ = write!(line, "  {latency:.1} ms");
    }
    let _ = write!(line, "  sent {}  received {}", size(peer.bytes_sent), size(peer.bytes_received));
    if peer.bootnode {
        line.push_str("  bootnode");
    }
    if let Some(agent) = &peer.agent {
        let _ = write!(line, "  {}", harmless(agent));
    }
    line
}

/// A number of bytes for people: `999 B`, `1.5 KiB`, `2.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// One line per topic, with how many connected peers are on it, and how many of them in its mesh.
pub(super) fn topics(topics: &[TopicInfo]) -> Vec<String> {
    if topics.is_empty() {
        return vec!["no topics; /join-topic NAME joins one".to_owned()];
    }
    topics.iter().map(topic).collect()
}

fn topic(info: &TopicInfo) -> String {
    let mut line = format!("{}  {}", harmless(info.topic.as_str()), peer_count(info.subscribers.len()));
    if !info.subscribers.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(line, "  {} in the mesh", info.mesh.len());
    }
    if info.waiting > 0 {
        let _ = write!(line, "  {} waiting", info.waiting);
    }
    line
}

/// `1 peer`, `2 peers`.
pub(super) fn peer_count(count: usize) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}
