//! The last answers, for requests that are repeated because the answer was lost (RFC 8489, 6.3.1).

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use super::wire::Client;

/// How long a client may repeat a request (RFC 8489, 6.2.1: the last attempt is sent after 31.5 s, and its answer awaited for 8 s more).
const REMEMBERED: Duration = Duration::from_secs(40);
/// Answers remembered at once; the oldest is forgotten for one more. Only requests of known users are, so nobody else can fill it.
const MAX_ANSWERS: usize = 8_192;

/// Answers by client and transaction.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_request: HashMap<(Client, [u8; 12]), Answer>,
    oldest: VecDeque<(Client, [u8; 12], u64)>,
    next: u64,
    hasher: std::hash::RandomState,
}

#[derive(Debug)]
struct Answer {
    number: u64,
    request: u64,
    answer: Box<[u8]>,
    until: Instant,
}

impl Answers {
    /// The answer that this very request was given, if it was not long ago.
    pub(super) fn to(&self, client: &Client, request: &[u8], now: Instant) -> Option<&[u8]> {
        if self.by_request.is_empty() {
            return None;
        }
        let answer = self.by_request.get(&(*client, transaction(request)?))?;
        let is_same = answer.until > now && answer.request == self.hasher.hash_one(request);
        is_same.then_some(&*answer.answer)
    }

    /// Remembers an answer.
    pub(super) fn remember(&mut self, client: &Client, request: &[u8], answer: &[u8], now: Instant) {
        let Some(transaction) = transaction(request) else { return };
        if self.oldest.len() >= MAX_ANSWERS {
            self.forget_oldest();
        }
        let number = self.next;
        self.next += 1;
        let hash = self.hasher.hash_one(request);
        let entry = Answer { number, request: hash, answer: answer.into(), until: now + REMEMBERED };
        self.by_request.insert((*client, transaction), entry);
        self.oldest.push_back((*client, transaction, number));
    }

    /// Forgets those that nobody can ask for any more.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while let Some((client, transaction, number)) = self.oldest.front() {
            let key = (*client, *transaction);
            match self.by_request.get(&key) {
                Some(answer) if answer.number == *number && answer.until > now => break,
                _ => self.forget_oldest(),
            }
        }
    }

    /// Whether none is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.oldest.is_empty()
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.oldest.len()
    }

    fn forget_oldest(&mut self) {
        let Some((client, transaction, number)) = self.oldest.pop_front() else { return };
        let key = (client, transaction);
        // The same transaction may have been used for another request since.
        if self.by_request.get(&key).is_some_and(|answer| answer.number == number) {
            self.by_request.remove(&key);
        }
    }
}

fn transaction(request: &[u8]) -> Option<[u8; 12]> {
    request.get(8..20)?.try_into().ok()
}
