//! Who sends a request: long-term credentials (RFC 8489, 9.2).

use std::borrow::Cow;
use std::time::Instant;

use stun_types::attribute::{Nonce, Realm, Username};
use stun_types::message::Message;

use super::Engine;
use super::attributes::{Attributes, read};
use super::requests::Refusal;
use super::wire::Client;
use crate::turn::credentials;
use crate::turn::integrity::{self, Key, PasswordAlgorithm};
use crate::turn::nonce::Standing;

/// The password algorithms offered, the better one first, as the value of PASSWORD-ALGORITHMS (RFC 8489, 14.11).
pub(super) const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
const SHA256: [u8; 4] = [0, 2, 0, 0];
const MD5: [u8; 4] = [0, 1, 0, 0];

/// The sender of a request, proven.
pub(super) struct User {
    pub(super) name: String,
    /// For the integrity of the answer.
    pub(super) key: Key,
}

impl Engine {
    /// Checks the credentials of a request in the order of RFC 8489, 9.2.4.
    pub(super) fn authenticate(
        &self,
        client: &Client,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<User, Refusal> {
        let Some((integrity, offset)) = integrity::find(message) else {
            return Err(Refusal::challenge(401));
        };
        let (Some(username), Some(realm), Some(nonce)) = (
            read::<Username>(&attributes.username)?,
            read::<Realm>(&attributes.realm)?,
            read::<Nonce>(&attributes.nonce)?,
        ) else {
            return Err(Refusal::new(400));
        };
        let chosen = attributes.password_algorithm.as_ref().map(|raw| &*raw.value);
        let repeated = attributes.password_algorithms.as_ref().map(|raw| &*raw.value);
        let algorithm = match (chosen, repeated) {
            (None, None) => PasswordAlgorithm::Md5,
            (Some(chosen), Some(repeated)) if repeated == OFFERED && chosen == SHA256 => {
                PasswordAlgorithm::Sha256
            }
            (Some(chosen), Some(repeated)) if repeated == OFFERED && chosen == MD5 => PasswordAlgorithm::Md5,
            // Somebody on the way may have taken the better algorithm out.
            _ => return Err(Refusal::new(400)),
        };
        let failed = || {
            self.counters.auth_failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Refusal::challenge(401).of_proven()
        };
        let shared = &self.shared;
        // The nonce first: without a good one nobody makes us compute passwords.
        match shared.nonces.judge(nonce.nonce(), client.address, shared.seconds(now)) {
            Standing::Good => {}
            Standing::Old => return Err(Refusal::challenge(438).of_proven()),
            Standing::Foreign => return Err(Refusal::challenge(438)),
        }
        if realm.realm() != shared.config.realm {
            return Err(failed());
        }
        let name = username.username();
        let password = self.password(client, name, now).ok_or_else(failed)?;
        let key = Key::long_term(integrity, algorithm, name, &shared.config.realm, &password);
        if key.protects(message, offset) { Ok(User { name: name.to_owned(), key }) } else { Err(failed()) }
    }

    /// The password of a user. One whose time is over has none, unless the client has an allocation of the same name: that was made in
    /// time, and goes on.
    fn password(&self, client: &Client, name: &str, now: Instant) -> Option<Cow<'_, str>> {
        let config = &self.shared.config;
        if let Some(password) = config.users.get(name) {
            return Some(Cow::Borrowed(password.as_str()));
        }
        let secret = config.secret.as_ref()?;
        let goes_on = || {
            let slot = *self.by_client.get(client)?;
            let allocation = self.slots.get(slot as usize)?.as_ref()?;
            (*allocation.username == *name).then_some(())
        };
        let is_good = credentials::is_current(name, self.wall(now)) || goes_on().is_some();
        is_good.then(|| Cow::Owned(credentials::password_of(secret.as_str(), name)))
    }
}
