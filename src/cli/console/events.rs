//! The node's events as they come over its admin socket.

use crate::control::client::{Client, Lines};
use crate::p2p::Event;

use super::ConsoleError;

/// An open stream of events.
pub(super) struct Events(Lines);

impl Events {
    /// Subscribes; when this returns, no later event is missed.
    pub(super) async fn open(client: &Client) -> Result<Self, ConsoleError> {
        let mut lines = client.lines("/v1/events").await.map_err(ConsoleError::Connect)?;
        match lines.next().await {
            Ok(Some(_subscribed)) => Ok(Self(lines)),
            Ok(None) => Err(ConsoleError::NodeStopped),
            Err(error) => Err(ConsoleError::Connect(error)),
        }
    }

    /// The next event that this version knows. May be dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> Result<Event, ConsoleError> {
        loop {
            match self.0.next().await {
                Ok(Some(line)) => {
                    if let Ok(event) = serde_json::from_str(&line) {
                        return Ok(event);
                    }
                }
                Ok(None) | Err(_) => return Err(ConsoleError::NodeStopped),
            }
        }
    }
}
