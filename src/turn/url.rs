//! URLs of STUN and TURN servers (RFC 7064, RFC 7065).

use std::fmt;
use std::str::FromStr;

use crate::control::host;

/// `stun:`, `stuns:`, `turn:` or `turns:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// STUN over UDP or TCP.
    Stun,
    /// STUN over TLS.
    Stuns,
    /// TURN over UDP or TCP.
    Turn,
    /// TURN over TLS.
    Turns,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Stun, Self::Stuns, Self::Turn, Self::Turns];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            Self::Stuns => "stuns",
            Self::Turn => "turn",
            Self::Turns => "turns",
        }
    }

    /// The port where a URL names none (RFC 8656, section 5).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Stun | Self::Turn => 3478,
            Self::Stuns | Self::Turns => 5349,
        }
    }
}

/// How a client is to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By datagrams.
    Udp,
    /// By a connection; under TLS where the scheme says so.
    Tcp,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// What it speaks.
    pub scheme: Scheme,
    /// Its name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How to reach it.
    pub transport: Transport,
}

/// Why a text is no URL of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins with something else.
    #[error("it must begin with stun:, stuns:, turn: or turns:")]
    Scheme,
    /// No host, or a host or port that cannot be one.
    #[error("HOST or HOST:PORT must follow, without slashes")]
    Host,
    /// Something behind the port other than `?transport=udp` or `?transport=tcp`, or on a URL that takes none.
    #[error("behind the port only ?transport=udp or ?transport=tcp may stand, and only of turn: and turns:")]
    Transport,
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::Scheme)?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(scheme))
            .ok_or(UrlError::Scheme)?;
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let host = host::host_of(authority).ok_or(UrlError::Host)?;
        let port = match authority.get(host.len()..).and_then(|port| port.strip_prefix(':')) {
            None => scheme.default_port(),
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Host)?,
        };
        let transport = match (query, scheme) {
            (None, Scheme::Stun | Scheme::Turn) => Transport::Udp,
            (None, Scheme::Stuns | Scheme::Turns) => Transport::Tcp,
            (Some("transport=udp"), Scheme::Turn | Scheme::Turns) => Transport::Udp,
            (Some("transport=tcp"), Scheme::Turn | Scheme::Turns) => Transport::Tcp,
            (Some(_), _) => return Err(UrlError::Transport),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { scheme, host, port, transport })
    }
}

impl fmt::Display for ServerUrl {
    /// Without what is the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, transport } = self;
        let open = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}:{}{host}{}:{port}", scheme.as_str(), open.0, open.1)?;
        match (scheme, transport) {
            (Scheme::Turn, Transport::Tcp) => f.write_str("?transport=tcp"),
            (Scheme::Turns, Transport::Udp) => f.write_str("?transport=udp"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read_strictly() {
        for (text, shown) in [
            ("stun:a.example", "stun:a.example:3478"),
            ("turn:192.0.2.1:3479?transport=udp", "turn:192.0.2.1:3479"),
            ("turn:a.example?transport=tcp", "turn:a.example:3478?transport=tcp"),
            ("turns:[2001:db8::1]:443?transport=tcp", "turns:[2001:db8::1]:443"),
            ("TURNS:a.example", "turns:a.example:5349"),
        ] {
            let url: ServerUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), shown);
        }
        for (text, error) in [
            ("a.example", UrlError::Scheme),
            ("http://a.example", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("turn:", UrlError::Host),
            ("turn://a.example", UrlError::Host),
            ("turn:a.example:0", UrlError::Host),
            ("turn:a.example:", UrlError::Host),
            ("turn:a.example:99999", UrlError::Host),
            ("turn:user@a.example", UrlError::Host),
            ("turn:2001:db8::1", UrlError::Host),
            ("turn:a.example?transport=sctp", UrlError::Transport),
            ("turn:a.example?", UrlError::Transport),
            ("stun:a.example?transport=udp", UrlError::Transport),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
    }
}
