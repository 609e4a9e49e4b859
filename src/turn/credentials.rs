//! Credentials that are good for a time, computed from a secret that issuer and relay share.
//!
//! The user's name is `EXPIRY:NAME`, with EXPIRY in seconds since 1970; the password is
//! `base64(HMAC-SHA1(secret, "EXPIRY:NAME"))`. That is what coturn calls `use-auth-secret` and what browsers are given by most
//! services, so one secret serves this relay and others.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// A user's name and password, and until when they are good.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `EXPIRY:NAME`.
    pub username: String,
    /// The password; never to be logged.
    pub password: String,
    /// When they end, to the second.
    pub expires_at: SystemTime,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Credentials for `name` that are good for `ttl` from `now`, less a fraction of a second.
#[must_use]
pub fn issue(secret: &str, name: &str, ttl: Duration, now: SystemTime) -> Credentials {
    let expiry = seconds(now).saturating_add(ttl.as_secs());
    let username = format!("{expiry}:{name}");
    let password = password_of(secret, &username);
    let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(expiry)).unwrap_or(now);
    Credentials { username, password, expires_at }
}

/// Whether `password` is the one that goes with `username` and has not expired at `now`. The time it takes does not
/// depend on where the password differs.
#[must_use]
pub fn verify(secret: &str, username: &str, password: &str, now: SystemTime) -> bool {
    let Ok(given) = STANDARD.decode(password) else { return false };
    let right = hmac::verify(&key(secret), username.as_bytes(), &given).is_ok();
    right && is_current(username, now)
}

/// The password that goes with `username`.
#[must_use]
pub fn password_of(secret: &str, username: &str) -> String {
    STANDARD.encode(hmac::sign(&key(secret), username.as_bytes()))
}

/// Whether `username` has the form `EXPIRY:NAME` (or EXPIRY alone) and is still good at `now`.
#[must_use]
pub fn is_current(username: &str, now: SystemTime) -> bool {
    expiry_of(username).is_some_and(|expiry| expiry >= seconds(now))
}

/// The name behind the expiry, by which a user's allocations are counted; the whole text where there is no expiry.
#[must_use]
pub fn name_of(username: &str) -> &str {
    match username.split_once(':') {
        Some((expiry, name)) if is_number(expiry) => name,
        _ => username,
    }
}

fn expiry_of(username: &str) -> Option<u64> {
    let expiry = username.split_once(':').map_or(username, |(expiry, _)| expiry);
    if is_number(expiry) { expiry.parse().ok() } else { None }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn issued_credentials_are_good_until_they_expire() {
        let issued = issue("north", "alice", Duration::from_secs(60), at(NOW));
        assert_eq!(issued.username, "1700000060:alice");
        assert_eq!(issued.expires_at, at(NOW + 60));
        let good = |now| verify("north", &issued.username, &issued.password, at(now));
        assert!(good(NOW) && good(NOW + 60));
        assert!(!good(NOW + 61));
        assert!(!verify("south", &issued.username, &issued.password, at(NOW)));
        assert!(!verify("north", "1700000060:bob", &issued.password, at(NOW)));
        assert!(!verify("north", &issued.username, "", at(NOW)));
        assert!(!verify("north", &issued.username, "%%%", at(NOW)));
    }

    /// `printf %s 1700000060:alice | openssl dgst -sha1 -hmac north -binary | base64`
    #[test]
    fn the_password_is_the_one_that_openssl_computes() {
        assert_eq!(password_of("north", "1700000060:alice"), "b/MNJ/XdPk4NPaXAvztSvEoz3wM=");
    }

    #[test]
    fn a_name_without_an_expiry_is_never_current() {
        for name in [
            "",
            "alice",
            ":alice",
            "-5:alice",
            "+1800000000:alice",
            "99999999999999999999999:alice",
            " 1800000000:a",
        ] {
            assert!(!is_current(name, at(NOW)), "{name}");
        }
        assert!(is_current("1800000000", at(NOW)));
        assert!(is_current("18446744073709551615:alice", at(NOW)));
    }

    #[test]
    fn fresh_credentials_are_of_the_same_user() {
        assert_eq!(name_of("1700000060:alice"), name_of("1800000000:alice"));
        assert_eq!(name_of("1700000060:a:b"), "a:b");
        assert_eq!(name_of("alice"), "alice");
        assert_eq!(name_of("a:b"), "a:b");
    }

    #[test]
    fn debug_output_shows_no_password() {
        let issued = issue("north", "alice", Duration::from_secs(60), at(NOW));
        assert!(!format!("{issued:?}").contains(&issued.password));
    }
}
