//! The node's events as they come over its admin socket.

use std::collections::HashSet;

use libp2p::PeerId;

use crate::control::client::{Client, Lines};
use crate::p2p::{Event, Message};

use super::ConsoleError;

/// An open stream of events.
pub(super) struct Events {
    lines: Lines,
    /// Messages that came while those of before were asked for, and are shown as such.
    shown: HashSet<(PeerId, String)>,
}

impl Events {
    /// Subscribes; when this returns, no later event is missed.
    pub(super) async fn open(client: &Client) -> Result<Self, ConsoleError> {
        let mut lines = client.lines("/v1/events").await.map_err(ConsoleError::Connect)?;
        match lines.next().await {
            Ok(Some(_subscribed)) => Ok(Self { lines, shown: HashSet::new() }),
            Ok(None) => Err(ConsoleError::NodeStopped),
            Err(error) => Err(ConsoleError::Connect(error)),
        }
    }

    /// These messages are not to come again.
    pub(super) fn skip(&mut self, messages: &[Message]) {
        self.shown = messages.iter().map(|message| (message.from, message.id.clone())).collect();
    }

    /// The next event that this version knows. May be dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> Result<Event, ConsoleError> {
        loop {
            match self.lines.next().await {
                Ok(Some(line)) => {
                    let Ok(event) = serde_json::from_str(&line) else { continue };
                    if let Event::Message(message) = &event
                        && self.shown.remove(&(message.from, message.id.clone()))
                    {
                        continue;
                    }
                    return Ok(event);
                }
                Ok(None) | Err(_) => return Err(ConsoleError::NodeStopped),
            }
        }
    }
}
