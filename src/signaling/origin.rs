//! Which web pages may open the WebSocket.
//!
//! A browser lets every page open a WebSocket to every server, also to one that only this machine can reach, and says in
//! `Origin` which page it is (RFC 6455, section 10.2). Without a look at it any page that somebody visits could join their
//! network.

use std::net::IpAddr;
use std::str::FromStr;

use hyper::header::{HeaderMap, ORIGIN};
use serde::{Deserialize, Serialize};

use crate::control::host;

/// Pages that may connect although they come from another host: one origin (`https://chat.example.org`), or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedOrigin(String);

/// A text that is no [`AllowedOrigin`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is a scheme and a host, with a port unless it is the scheme's own, and nothing after it: \
         \"https://chat.example.org\", \"http://10.0.0.5:3000\"; \"*\" is all of them"
)]
pub struct BadOrigin;

impl FromStr for AllowedOrigin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let (normal, _) = read(text).ok_or(BadOrigin)?;
        Ok(Self(normal))
    }
}

impl TryFrom<String> for AllowedOrigin {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl From<AllowedOrigin> for String {
    fn from(origin: AllowedOrigin) -> Self {
        origin.0
    }
}

/// An origin as browsers write it (lower case, without the scheme's own port), and its host.
fn read(text: &str) -> Option<(String, &str)> {
    let (scheme, authority) = text.split_once("://")?;
    let host = host::host_of(authority)?;
    let plain = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let scheme = scheme.to_ascii_lowercase();
    let port = authority[host.len()..].trim_start_matches(':');
    let own = matches!((scheme.as_str(), port), (_, "") | ("http", "80") | ("https", "443"));
    let port = if own { String::new() } else { format!(":{port}") };
    plain.then(|| (format!("{scheme}://{}{port}", host.to_ascii_lowercase()), host))
}

/// Which way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Without leaving this machine.
    Loopback,
    /// From another machine, or by an address that others can reach.
    Elsewhere,
}

impl Way {
    /// The way of a client with this address.
    #[must_use]
    pub fn of(client: IpAddr) -> Self {
        if client.to_canonical().is_loopback() { Self::Loopback } else { Self::Elsewhere }
    }
}

/// Whether a request with these `headers` to `authority` (its own host) may become a WebSocket: it comes from no page, from
/// a page of the same host on any port (the web server has another one), or from one that is `allowed`.
///
/// A name that leads to loopback is nobody's in particular: whoever owns one can point it there, and then their page is one of
/// the same host (DNS rebinding). So on that [`Way`] such a name has to be allowed.
#[must_use]
pub fn admits(headers: &HeaderMap, authority: Option<&str>, way: Way, allowed: &[AllowedOrigin]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return !headers.contains_key(ORIGIN);
    };
    if allowed.iter().any(|allowed| allowed.0 == "*") {
        return true;
    }
    let Some((origin, page)) = origin.to_str().ok().and_then(read) else { return false };
    let server =
        authority.and_then(host::host_of).filter(|host| way == Way::Elsewhere || !host::is_name(host));
    server.is_some_and(|server| host::same(page, server)) || allowed.iter().any(|allowed| allowed.0 == origin)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn admitted(origins: &[&'static str], host: &str, allowed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<AllowedOrigin> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        admits(&headers, Some(host), Way::Elsewhere, &allowed)
    }

    #[test]
    fn programs_and_pages_of_the_same_host_are_admitted() {
        assert!(admitted(&[], "example.org:8001", &[]));
        for (origin, host) in [
            ("http://example.org:3000", "example.org:8001"),
            ("https://EXAMPLE.org", "example.org"),
            ("http://localhost:3000", "127.0.0.1:8001"),
            ("http://127.0.0.1:3000", "[::1]:8001"),
            ("http://[::1]:3000", "localhost:8001"),
        ] {
            assert!(admitted(&[origin], host, &[]), "{origin} {host}");
        }
    }

    #[test]
    fn pages_of_other_hosts_are_not_unless_they_are_listed() {
        for origin in [
            "https://evil.example",
            "https://example.org.evil.example",
            "https://evil.example/example.org",
            "https://evil.example#http://example.org",
            "null",
            "",
            "example.org",
            "://example.org",
            "http://",
        ] {
            assert!(!admitted(&[origin], "example.org:8001", &[]), "{origin}");
            assert!(!admitted(&[origin], "example.org:8001", &["https://chat.example.org"]), "{origin}");
            assert!(admitted(&[origin], "example.org:8001", &["*"]), "{origin}");
        }
        assert!(!admitted(&["http://example.org", "http://example.org"], "example.org", &["*"]));
        assert!(!admits(
            &[(ORIGIN, HeaderValue::from_static("http://a"))].into_iter().collect(),
            None,
            Way::Elsewhere,
            &[]
        ));
        for (origin, listed) in [
            ("https://chat.example.org", "https://Chat.Example.org:443"),
            ("http://10.0.0.5:3000", "http://10.0.0.5:3000"),
            ("app://hippius", "app://hippius"),
        ] {
            assert!(admitted(&[origin], "127.0.0.1:8001", &[listed]), "{origin}");
        }
        assert!(!admitted(&["http://chat.example.org"], "a", &["https://chat.example.org"]));
        assert!(!admitted(&["http://chat.example.org:81"], "a", &["http://chat.example.org"]));
    }

    #[test]
    fn a_name_that_leads_to_loopback_has_to_be_listed() {
        let admitted = |origin: &'static str, host: &str, allowed: &[AllowedOrigin]| {
            let headers = [(ORIGIN, HeaderValue::from_static(origin))].into_iter().collect();
            admits(&headers, Some(host), Way::Loopback, allowed)
        };
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8001"),
            ("http://127.0.0.1:3000", "localhost:8001"),
            ("http://[::1]:3000", "[::1]:8001"),
            ("http://192.0.2.1:3000", "192.0.2.1:8001"),
        ] {
            assert!(admitted(origin, host, &[]), "{origin} {host}");
        }
        let listed = ["http://evil.example:8001".parse().unwrap()];
        for host in ["evil.example:8001", "evil.example.", "EVIL.example"] {
            assert!(!admitted("http://evil.example:8001", host, &[]), "{host}");
            assert!(admitted("http://evil.example:8001", host, &listed), "{host}");
        }
        assert!(admits(&HeaderMap::new(), Some("evil.example"), Way::Loopback, &[]), "a program");
    }

    #[test]
    fn what_is_no_origin_cannot_be_listed() {
        for bad in
            ["", "null", "example.org", "https://example.org/", "https://*.example.org", "https://a b", "**"]
        {
            assert_eq!(bad.parse::<AllowedOrigin>(), Err(BadOrigin), "{bad}");
        }
    }
}
