//! The configuration of the embedded relay.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use crate::tls::CertificateFiles;

/// Longest realm and longest name of a user, in bytes (RFC 8489, 14.9 and 14.3, allow a little more).
const LONGEST_NAME: usize = 500;

/// The `[turn]` table of a role's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// Where STUN and TURN are served, over UDP and over TCP. Default `127.0.0.1:3478`. An unspecified address (`0.0.0.0`, `[::]`) stands
    /// for every address of its family that this host has at the start: an answer must leave from the address that was asked.
    pub listen: Vec<SocketAddr>,
    /// Where TURN over TLS is served (`turns:`, usually port 5349). Needs `tls`. Default: nowhere.
    pub tls_listen: Vec<SocketAddr>,
    /// The certificate for `tls_listen`; read again when the files change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateFiles>,
    /// The realm that clients are told. Default `hippius`.
    pub realm: String,
    /// Shared with whoever issues credentials: a user named `EXPIRY:NAME` has the password `base64(HMAC-SHA1(secret, "EXPIRY:NAME"))` until
    /// the Unix time EXPIRY. It is checked when an allocation is made; one that lives is not ended by the expiry of its credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Users with a fixed password.
    pub users: BTreeMap<String, Secret>,
    /// Addresses that relayed traffic leaves from. Default: those of `listen`; where there are others, not those of the loopback interface.
    pub relay_addresses: Vec<IpAddr>,
    /// The address that the world sees instead of the relay addresses, where a one-to-one NAT stands in front of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_address: Option<IpAddr>,
    /// Ports that allocations are given. Default 49152–65535, which is the dynamic range of IANA.
    pub ports: PortRange,
    /// Networks that may be relayed to although they are denied by default. Between `allow` and `deny` the longer prefix wins, of two
    /// equal ones `deny`. Default: none.
    pub allow: Vec<Cidr>,
    /// Networks that may not be relayed to, besides those denied by default. Default: none.
    pub deny: Vec<Cidr>,
    /// Allocations in all. Default 10,000; each costs a port and some kilobytes.
    pub max_allocations: u32,
    /// Allocations of one user name. With time-limited credentials it is the name behind `EXPIRY:`, so that fresh credentials are no way
    /// around it. Default 100.
    pub max_per_user: u32,
    /// Allocations from one address, an IPv6 address standing for its /64. Default 1,000: an office behind one address fits.
    pub max_per_address: u32,
    /// Bytes of payload that one allocation may relay a second, each way. 0, the default: as many as there are.
    pub bytes_per_second: u64,
    /// Bytes of payload that all together may relay a second, each way. 0, the default: as many as there are.
    pub total_bytes_per_second: u64,
    /// Answers a second to one address, an IPv6 address standing for its /64, over UDP and as long as it has not proven that it is where it
    /// says it is: those to binding requests and to requests without a nonce that was sent there. Those of 20 s may come at once. 0: as many
    /// as are asked for. Default 100: hundreds of browsers behind one address fit, and nobody is flooded who has not asked.
    pub stranger_answers_per_second: u32,
    /// Life of an allocation whose client asks for none, and the least that is given. Default 10 min (RFC 8656, 7.2).
    #[serde(with = "humantime_serde")]
    pub default_lifetime: Duration,
    /// Longest life given; a client may refresh as often as it likes. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    /// How long a nonce is good; later the client is given another. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub nonce_lifetime: Duration,
    /// Peers' addresses that one allocation may have permissions for at once. Default 128.
    pub max_permissions: u32,
    /// Channels that one allocation may have at once. Default 128.
    pub max_channels: u32,
    /// TCP and TLS connections in all. Default 4,096.
    pub max_connections: u32,
    /// TCP and TLS connections of one address, an IPv6 address standing for its /64. Default 256.
    pub max_connections_per_address: u32,
    /// Time for a TLS handshake, for the rest of a message that has begun, and for the first message. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub message_timeout: Duration,
    /// A TCP connection without an allocation ends after this long without a message. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Bytes that may wait for one TCP connection whose client does not read; further ones are dropped. Default 256 KiB.
    pub connection_queue_bytes: u32,
    /// Threads that relay, each with its part of the clients. 0, the default: one for every two processors.
    pub workers: u32,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 3478))],
            tls_listen: Vec::new(),
            tls: None,
            realm: "hippius".to_owned(),
            secret: None,
            users: BTreeMap::new(),
            relay_addresses: Vec::new(),
            external_address: None,
            ports: PortRange::default(),
            allow: Vec::new(),
            deny: Vec::new(),
            max_allocations: 10_000,
            max_per_user: 100,
            max_per_address: 1_000,
            bytes_per_second: 0,
            total_bytes_per_second: 0,
            stranger_answers_per_second: 100,
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3_600),
            nonce_lifetime: Duration::from_secs(600),
            max_permissions: 128,
            max_channels: 128,
            max_connections: 4_096,
            max_connections_per_address: 256,
            message_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            connection_queue_bytes: 256 * 1024,
            workers: 0,
        }
    }
}

impl TurnConfig {
    /// Whether a server can be run from this.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let has_text = |name: &str| !name.is_empty() && name.len() <= LONGEST_NAME;
        if self.listen.is_empty() && self.tls_listen.is_empty() {
            Err(ConfigError::NothingToListenOn)
        } else if !self.tls_listen.is_empty() && self.tls.is_none() {
            Err(ConfigError::NoCertificate)
        } else if !has_text(&self.realm) {
            Err(ConfigError::Realm)
        } else if self.secret.as_ref().is_some_and(|secret| secret.as_str().is_empty()) {
            Err(ConfigError::EmptySecret)
        } else if let Some((name, _)) =
            self.users.iter().find(|(name, password)| !has_text(name) || password.as_str().is_empty())
        {
            Err(ConfigError::User(name.clone()))
        } else if self.ports.min == 0 || self.ports.min > self.ports.max {
            Err(ConfigError::Ports(self.ports))
        } else if let Some(address) = self
            .relay_addresses
            .iter()
            .chain(&self.external_address)
            .find(|address| address.is_unspecified() || address.is_multicast())
        {
            Err(ConfigError::RelayAddress(*address))
        } else if self.max_lifetime.is_zero() || self.default_lifetime > self.max_lifetime {
            Err(ConfigError::Lifetime)
        } else if [self.nonce_lifetime, self.message_timeout, self.idle_timeout].iter().any(Duration::is_zero)
        {
            Err(ConfigError::NoTime)
        } else {
            Ok(())
        }
    }
}

/// What is wrong with a [`TurnConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Both lists of addresses are empty.
    #[error("`listen` and `tls_listen` are both empty: nobody could reach the relay")]
    NothingToListenOn,
    /// `tls_listen` without `tls`.
    #[error("`tls_listen` needs `tls`, a certificate and its key")]
    NoCertificate,
    /// The realm is empty or too long.
    #[error("`realm` must have between 1 and {LONGEST_NAME} bytes")]
    Realm,
    /// The secret is empty, so anybody could compute passwords.
    #[error("`secret` is empty, so that everybody could make credentials")]
    EmptySecret,
    /// A user's name is empty or too long, or the password is empty.
    #[error("the user {0:?} needs a name of 1 to {LONGEST_NAME} bytes and a password")]
    User(String),
    /// A range that ends before it begins, or begins at 0.
    #[error("`ports` {0} is no range: it must begin at 1 or above and not end before it begins")]
    Ports(PortRange),
    /// An address that no packet can come from.
    #[error("{0} in `relay_addresses` or `external_address` is no address of a host")]
    RelayAddress(IpAddr),
    /// Lifetimes that contradict each other.
    #[error("`max_lifetime` must be more than nothing and not less than `default_lifetime`")]
    Lifetime,
    /// A time-out of zero.
    #[error("`nonce_lifetime`, `message_timeout` and `idle_timeout` must be more than nothing")]
    NoTime,
}

/// Ports from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { min: 49_152, max: 65_535 }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", self.min, self.max)
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, to compute with and not to print.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
