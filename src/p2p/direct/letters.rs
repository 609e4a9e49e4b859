//! Private messages: one frame there, one frame back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::streams::MESSAGES;
use super::tied::Stream;
use super::wire::{self, FrameError, Letter, MAX_FRAME_BYTES, MAX_LETTER_BYTES, Reason, Receipt};
use super::{Desk, ReachError};
use crate::p2p::event::Event;
use crate::p2p::limits::cost_of;
use crate::p2p::metrics::Refused;
use crate::p2p::topics::{MAX_TEXT_BYTES, as_text, is_id};

/// Messages that are being sent at once.
pub(super) const MAX_SENDING: usize = 64;
/// From the command to the confirmation, connecting included.
const SEND_TIMEOUT: Duration = Duration::from_secs(12);
/// For a peer that has opened a stream to send its message, and to take the receipt.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A message from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateMessage {
    /// Chosen by the sender.
    pub id: String,
    /// Who sent it; proven by the connection it came on.
    #[serde(with = "as_text")]
    pub from: PeerId,
    /// The sender's clock, in milliseconds since 1970.
    pub sent_at: u64,
    /// What it says.
    pub text: String,
}

/// Why a private message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The peer was not reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Over the limit for one message.
    #[error("the text is too long: at most {MAX_TEXT_BYTES} bytes go into one message")]
    TooLarge,
    /// Faster than the peer takes them.
    #[error("too many messages in a short time; the peer did not take this one")]
    TooFast,
    /// Too many are being sent.
    #[error("too many messages are being sent at once; try again in a moment")]
    Busy,
    /// The peer does not want it.
    #[error("not delivered: {0}")]
    Refused(Reason),
    /// No confirmation came.
    #[error("not confirmed: {0}; the message may have arrived or not")]
    Unconfirmed(String),
}

impl Desk {
    /// Sends a private message and waits until the peer has confirmed it.
    pub(crate) async fn send_message(&self, peer: PeerId, text: String) -> Result<String, MessageError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(MessageError::TooLarge);
        }
        let _permit = self.letters.try_acquire().map_err(|_| MessageError::Busy)?;
        let sent_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let id = format!("{:032x}", rand::random::<u128>());
        let letter = Letter { id: id.clone(), sent_at, text };
        match tokio::time::timeout(SEND_TIMEOUT, self.exchange(peer, &letter)).await {
            Ok(Ok(Receipt::Accepted)) => {
                self.instruments.private_messages_sent.add(1, &[]);
                Ok(id)
            }
            Ok(Ok(Receipt::Refused { reason: Reason::TooFast })) => Err(MessageError::TooFast),
            Ok(Ok(Receipt::Refused { reason: Reason::TooLarge })) => Err(MessageError::TooLarge),
            Ok(Ok(Receipt::Refused { reason })) => Err(MessageError::Refused(reason)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(MessageError::Unconfirmed(format!("no answer in {} s", SEND_TIMEOUT.as_secs()))),
        }
    }

    async fn exchange(&self, peer: PeerId, letter: &Letter) -> Result<Receipt, MessageError> {
        let mut stream = self.stream_to(peer, MESSAGES).await?;
        let broken = |error: FrameError| match error {
            FrameError::TooLong(_) => MessageError::TooLarge,
            other => MessageError::Unconfirmed(other.to_string()),
        };
        wire::write(&mut stream, letter, MAX_LETTER_BYTES).await.map_err(broken)?;
        wire::read(&mut stream, MAX_FRAME_BYTES).await.map_err(broken)
    }

    /// Takes a private message that a peer sends, and confirms it.
    pub(super) async fn receive_letter(self: &Arc<Self>, peer: PeerId, mut stream: Stream) {
        let exchange = async {
            let letter = wire::read::<Letter>(&mut stream, MAX_LETTER_BYTES).await;
            let receipt = match letter {
                // Nothing was said, or not to the end: nobody waits for an answer.
                Err(FrameError::Io(_)) => return self.refusals.add(Refused::PrivateMessage, 1),
                Err(FrameError::TooLong(_)) => Receipt::Refused { reason: Reason::TooLarge },
                Err(FrameError::Malformed) => Receipt::Refused { reason: Reason::Malformed },
                Ok(letter) => self.judge_letter(peer, letter),
            };
            if receipt != Receipt::Accepted {
                self.refusals.add(Refused::PrivateMessage, 1);
            }
            let _ = wire::write(&mut stream, &receipt, MAX_FRAME_BYTES).await;
            super::receive::linger(&mut stream).await;
        };
        if tokio::time::timeout(RECEIVE_TIMEOUT, exchange).await.is_err() {
            self.refusals.add(Refused::PrivateMessage, 1);
        }
    }

    fn judge_letter(&self, peer: PeerId, Letter { id, sent_at, text }: Letter) -> Receipt {
        if !self.shared().letters.admit(peer, cost_of(text.len()), Instant::now()) {
            return Receipt::Refused { reason: Reason::TooFast };
        }
        if !is_id(&id) {
            return Receipt::Refused { reason: Reason::Malformed };
        }
        if text.len() > MAX_TEXT_BYTES {
            return Receipt::Refused { reason: Reason::TooLarge };
        }
        self.instruments.private_messages_received.add(1, &[]);
        let message = PrivateMessage { id, from: peer, sent_at, text };
        self.announce(Event::PrivateMessage(Arc::new(message)));
        Receipt::Accepted
    }
}
