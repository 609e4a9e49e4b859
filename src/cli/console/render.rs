//! How things look in the console. Nothing that others wrote reaches the terminal as it is.

use std::fmt::Write;

pub(super) use crate::control::printable::printable as harmless;
use crate::p2p::{Event, PeerInfo};

/// The line for an event; `None` for those that need none. `short` names a peer by the end of its id.
pub(super) fn event(event: &Event, short: bool) -> Option<String> {
    match event {
        Event::Message(message) => {
            let from = message.from.to_base58();
            let from = if short { from.get(from.len().saturating_sub(6)..).unwrap_or(&from) } else { &from };
            Some(format!("[{}] {from}: {}", harmless(message.topic.as_str()), harmless(&message.text)))
        }
        Event::Lagged { lost } => {
            Some(format!("({lost} events are lost: they came faster than they could be shown)"))
        }
        _ => None,
    }
}

/// One line per peer.
pub(super) fn peers(peers: &[PeerInfo]) -> Vec<String> {
    if peers.is_empty() {
        return vec!["no peers".to_owned()];
    }
    peers.iter().map(peer).collect()
}

fn peer(peer: &PeerInfo) -> String {
    let mut line = format!("{}  {}  ", peer.peer_id, peer.address);
    let direction = match peer.direction {
        crate::p2p::handle::Direction::Inbound => "inbound",
        crate::p2p::handle::Direction::Outbound => "outbound",
    };
    line.push_str(direction);
    if let Some(latency) = peer.latency_ms {
        // Writing to a string cannot fail.
        let _ = write!(line, "  {latency:.1} ms");
    }
    if peer.bootnode {
        line.push_str("  bootnode");
    }
    if let Some(agent) = &peer.agent {
        let _ = write!(line, "  {}", harmless(agent));
    }
    line
}

/// One line per topic, with how many connected peers are on it.
pub(super) fn topics(topics: &[String], peers: &[PeerInfo]) -> Vec<String> {
    if topics.is_empty() {
        return vec!["no topics; /join-topic NAME joins one".to_owned()];
    }
    let line = |topic: &String| {
        let count = peers.iter().filter(|peer| peer.topics.contains(topic)).count();
        format!("{}  {}", harmless(topic), peer_count(count))
    };
    topics.iter().map(line).collect()
}

/// `1 peer`, `2 peers`.
pub(super) fn peer_count(count: usize) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}
