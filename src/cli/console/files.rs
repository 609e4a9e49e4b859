//! How files on their way look in the console.

use super::render::{harmless, size};
use crate::p2p::handle::Direction;
use crate::p2p::{Event, TransferInfo, TransferState};

/// The line for an event of a file; `None` for progress, which has a place of its own. `peer` is how the other side is called.
pub(super) fn event(event: &Event, peer: &dyn Fn(&TransferInfo) -> String) -> Option<String> {
    Some(match event {
        Event::FileOffered(info) => format!(
            "{} offers {} ({}): /accept {id} or /refuse {id}",
            peer(info),
            harmless(&info.name),
            size(info.size),
            id = info.id
        ),
        Event::FileReceived(info) => format!(
            "received {} ({}) from {}",
            harmless(info.saved_as.as_deref().unwrap_or(&info.name)),
            size(info.size),
            peer(info)
        ),
        Event::FileSent(info) => {
            format!("sent {} ({}) to {}", harmless(&info.name), size(info.size), peer(info))
        }
        Event::FileFailed(info) => format!("{}: {}", subject(info, &peer(info)), failure(info)),
        _ => return None,
    })
}

fn subject(info: &TransferInfo, peer: &str) -> String {
    match info.direction {
        Direction::Inbound => format!("{} from {peer}", harmless(&info.name)),
        Direction::Outbound => format!("{} to {peer}", harmless(&info.name)),
    }
}

/// The line for a file that is about to be sent.
pub(super) fn begun(info: &TransferInfo) -> String {
    format!("sending {} ({}) to {}: file {}", harmless(&info.name), size(info.size), info.peer, info.id)
}

/// Why a file has failed.
pub(super) fn failure(info: &TransferInfo) -> String {
    harmless(info.reason.as_deref().unwrap_or("it failed"))
}

/// How far a file is, in a few words.
pub(super) fn progress(info: &TransferInfo) -> String {
    let arrow = match info.direction {
        Direction::Inbound => "<",
        Direction::Outbound => ">",
    };
    let percent = (info.done.saturating_mul(100)).checked_div(info.size).unwrap_or(100).min(100);
    let state = match info.state {
        TransferState::Waiting => "waits for the peer".to_owned(),
        _ => format!("{percent}% of {}", size(info.size)),
    };
    format!("{arrow} {} {state}", harmless(&info.name))
}

/// One line per file.
pub(super) fn list(files: &[TransferInfo]) -> Vec<String> {
    if files.is_empty() {
        return vec!["no files; /send-file PEER PATH sends one".to_owned()];
    }
    let line = |info: &TransferInfo| {
        let state = match info.state {
            TransferState::Preparing => "is being prepared",
            TransferState::Connecting => "is connecting",
            TransferState::Waiting => "waits",
            TransferState::Offered => "is offered",
            TransferState::Running => "is on its way",
            TransferState::Done => "is done",
            TransferState::Failed => "has failed",
        };
        let mut line = format!(
            "{}  {}  {state}  {} of {}",
            info.id,
            subject(info, &info.peer.to_base58()),
            size(info.done),
            size(info.size)
        );
        if let Some(name) = &info.saved_as {
            line.push_str(&format!("  as {}", harmless(name)));
        }
        if let Some(reason) = &info.reason {
            line.push_str(&format!("  ({})", harmless(reason)));
        }
        line
    };
    files.iter().map(line).collect()
}
