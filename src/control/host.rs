//! The host in a `Host` or `Origin` header, read strictly: strangers write those.

use std::net::{IpAddr, Ipv6Addr};

/// The host of `authority`, a host with or without a port; an IPv6 address keeps its brackets. `None` if it is no plain
/// name or address, which could say more than a host where it is put into another text.
#[must_use]
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.find(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let good_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok());
    let plain = match host.strip_prefix('[') {
        Some(_) => ipv6(host).is_some(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
    };
    (good_port && plain && host.len() <= 253).then_some(host)
}

/// The address that a host in brackets is.
#[must_use]
pub fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether two hosts, as [`host_of`] gives them, are the same one. All names of this machine for itself (`localhost`,
/// `127.0.0.1`, `[::1]`) are.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    Meant::by(one) == Meant::by(other)
}

/// Whether a host, as [`host_of`] gives it, is a name that leads wherever its owner wants: no address, and not `localhost`.
#[must_use]
pub fn is_name(host: &str) -> bool {
    matches!(Meant::by(host), Meant::Name(_))
}

#[derive(PartialEq, Eq)]
enum Meant {
    ThisMachine,
    Address(IpAddr),
    Name(String),
}

impl Meant {
    fn by(host: &str) -> Self {
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = ipv6(host).map(IpAddr::V6).or_else(|| name.parse().ok());
        match address.map(|address| address.to_canonical()) {
            Some(address) if address.is_loopback() => Self::ThisMachine,
            Some(address) => Self::Address(address),
            None if name == "localhost" => Self::ThisMachine,
            None => Self::Name(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_as_they_are_and_anything_else_is_not() {
        for (authority, host) in [
            ("localhost:3000", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:3000", "[::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("a_b.example:", "a_b.example"),
        ] {
            assert_eq!(host_of(authority), Some(host));
        }
        let long = "a".repeat(254);
        for bad in [
            "",
            ":3000",
            "a b",
            "a;script-src *",
            "*",
            "[::1",
            "[a b]",
            "[]",
            "[a]",
            "a'b",
            "é",
            "::1",
            "a:b",
            "a:70000",
            "a:80:80",
            "[::1]x",
            "[::1]:x",
            "a[::1]",
            "user@a",
            "a/b",
            &long,
        ] {
            assert_eq!(host_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn one_host_has_several_names() {
        for (one, other) in [
            ("localhost", "127.0.0.1"),
            ("localhost", "[::1]"),
            ("[::1]", "127.0.0.1"),
            ("LOCALHOST", "localhost."),
            ("Example.org", "example.ORG"),
            ("[2001:db8::1]", "[2001:DB8:0::1]"),
            ("[::ffff:192.0.2.1]", "192.0.2.1"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("localhost", "localhost.example"),
            ("192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", "127.0.0.1"),
            ("a.example.org", "example.org"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }
}
