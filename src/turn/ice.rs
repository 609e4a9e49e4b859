//! What a browser is told of STUN and TURN servers: URLs, and credentials of a limited time made for whoever asks.
//!
//! Nothing is kept of what was given out: the server knows good credentials by its secret.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::credentials;
use crate::control::host;

/// Stands in URLs for the host that the client itself has reached us by.
pub const HOST: &str = "{host}";

/// Servers of one kind and how clients prove that they may use them: `[[web.ice]]` and `[[signaling.ice]]` of the roles'
/// configuration files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceSource {
    /// URLs like `turn:{host}:3478?transport=udp`; `{host}` is the host of the page.
    pub urls: Vec<String>,
    /// A name that is the same for all …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// … and its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The secret that credentials of a limited time are made with, instead of these two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long those hold. Default 1 h.
    #[serde(default = "default_lifetime", with = "humantime_serde")]
    pub lifetime: Duration,
}

fn default_lifetime() -> Duration {
    Duration::from_secs(3_600)
}

impl IceSource {
    /// Servers that ask for nothing.
    #[must_use]
    pub fn open(urls: Vec<String>) -> Self {
        Self { urls, username: None, credential: None, secret: None, lifetime: default_lifetime() }
    }
}

impl fmt::Debug for IceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |text: &Option<String>| text.as_ref().map(|_| "(secret)");
        f.debug_struct("IceSource")
            .field("urls", &self.urls)
            .field("credential", &hidden(&self.credential))
            .field("secret", &hidden(&self.secret))
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// One `RTCIceServer` (W3C WebRTC, section 4.2.4).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// Where it is, by each way that leads there.
    pub urls: Vec<String>,
    /// What to show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// What to prove it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// What one client is told.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceServers {
    /// The servers.
    pub ice_servers: Vec<IceServer>,
    /// Until when the credentials hold, in seconds since 1970; `None`: there are none that end.
    #[serde(rename = "expires_at")]
    pub expires_at: Option<u64>,
}

/// The servers of `sources` for a client that has reached us by `host` (as of [`host::host_of`]). URLs that need a host are
/// left out where it is not known.
#[must_use]
pub fn for_client(sources: &[IceSource], host: Option<&str>, now: SystemTime) -> IceServers {
    // Different for each who asks, so that a server's quota for one user is one for each of them; it says nothing about them.
    let name = format!("{:08x}", rand::random::<u32>());
    let mut told = IceServers { ice_servers: Vec::with_capacity(sources.len()), expires_at: None };
    for source in sources {
        let urls: Vec<String> = source.urls.iter().filter_map(|url| with_host(url, host)).collect();
        if urls.is_empty() {
            continue;
        }
        let (username, credential) = match &source.secret {
            Some(secret) => {
                let issued = credentials::issue(secret, &name, source.lifetime, now);
                let end = issued.expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                told.expires_at = Some(told.expires_at.map_or(end, |known| known.min(end)));
                (Some(issued.username), Some(issued.password))
            }
            None => (source.username.clone(), source.credential.clone()),
        };
        told.ice_servers.push(IceServer { urls, username, credential });
    }
    told
}

/// `url` with `host` put in. `localhost` is given as an address: the server listens on that one alone, and a browser may try the
/// other family's first.
fn with_host(url: &str, host: Option<&str>) -> Option<String> {
    if !url.contains(HOST) {
        return Some(url.to_owned());
    }
    let host = host?;
    let host = if host::same(host, "localhost") && host::ipv6(host).is_none() { "127.0.0.1" } else { host };
    Some(url.replace(HOST, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(urls: &[&str], secret: Option<&str>) -> IceSource {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        IceSource { secret: secret.map(str::to_owned), ..IceSource::open(urls) }
    }

    #[test]
    fn each_client_gets_credentials_of_its_own_that_end() {
        let sources = [source(&["stun:{host}:3478"], None), source(&["turn:{host}:3478"], Some("north"))];
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let told = for_client(&sources, Some("chat.example.org"), now);
        assert_eq!(told.expires_at, Some(4_600));
        assert_eq!(told.ice_servers[0].urls, ["stun:chat.example.org:3478"]);
        assert_eq!(told.ice_servers[0].username, None);
        let username = told.ice_servers[1].username.clone().unwrap();
        assert!(username.starts_with("4600:"), "{username}");
        let again = for_client(&sources, Some("chat.example.org"), now);
        assert_ne!(again.ice_servers[1].username, Some(username));
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["iceServers"][1]["urls"][0], "turn:chat.example.org:3478");
        assert_eq!(json["expires_at"], 4_600);
    }

    #[test]
    fn the_host_is_that_of_the_page() {
        let sources = [source(&["turn:{host}:3478", "turn:other.example:1"], None)];
        let urls = |host| for_client(&sources, host, UNIX_EPOCH).ice_servers[0].urls.clone();
        assert_eq!(urls(Some("localhost"))[0], "turn:127.0.0.1:3478");
        assert_eq!(urls(Some("[::1]"))[0], "turn:[::1]:3478");
        assert_eq!(urls(Some("192.0.2.7"))[0], "turn:192.0.2.7:3478");
        assert_eq!(urls(None), ["turn:other.example:1"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", source(&["turn:a"], Some("very secret")));
        assert!(!shown.contains("very"), "{shown}");
    }
}
