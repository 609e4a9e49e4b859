//! Who listens where, and that no two claim one port of one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use super::mistake::Mistake;

/// One port that something in the file will listen on.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Where. Port 0 collides with nothing.
    pub(super) socket: SocketAddr,
    /// Who, in words.
    pub(super) owner: String,
    /// Where the file says so; `None` for a default that stands nowhere.
    pub(super) span: Option<Range<usize>>,
    /// What kind of socket it is.
    pub(super) kind: Kind,
}

/// How sockets on the IPv6 wildcard address behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sockets that the supervisor opens: `::` takes IPv4 as well.
    Service,
    /// The same over UDP: a TURN server's.
    ServiceUdp,
    /// libp2p's: `::` is IPv6 alone.
    Libp2p,
    /// The same over UDP, which has ports of its own.
    Libp2pUdp,
}

impl Kind {
    fn takes_ipv4(self) -> bool {
        matches!(self, Kind::Service | Kind::ServiceUdp)
    }

    fn is_udp(self) -> bool {
        matches!(self, Kind::ServiceUdp | Kind::Libp2pUdp)
    }
}

impl Claim {
    fn covers(&self, other: &Claim) -> bool {
        let (mine, theirs) = (self.socket.ip(), other.socket.ip());
        mine == theirs
            || mine.is_unspecified()
                && (mine.is_ipv4() == theirs.is_ipv4() || mine.is_ipv6() && self.kind.takes_ipv4())
    }

    fn overlaps(&self, other: &Claim) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// Records every claim that meets an earlier one.
pub(super) fn check(claims: &[Claim], mistakes: &mut Vec<Mistake>) {
    let mut by_port: BTreeMap<(bool, u16), Vec<&Claim>> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.socket.port() != 0) {
        let earlier = by_port.entry((claim.kind.is_udp(), claim.socket.port())).or_default();
        if let Some(first) = earlier.iter().find(|first| first.overlaps(claim)) {
            mistakes.push(conflict(first, claim));
        }
        earlier.push(claim);
    }
}

fn conflict(first: &Claim, second: &Claim) -> Mistake {
    let port = second.socket.port();
    let said = |claim: &Claim| match claim.span {
        Some(_) => claim.owner.clone(),
        None => format!("{} (its default)", claim.owner),
    };
    let message = if first.owner == second.owner {
        format!("port {port} is claimed twice by {}", first.owner)
    } else {
        format!("port {port} is claimed twice: by {} and by {}", said(first), said(second))
    };
    let label = |claim: &Claim| format!("{} on {}", claim.owner, claim.socket);
    let mut places =
        [second, first].into_iter().filter_map(|claim| Some((claim.span.clone()?, label(claim))));
    let mistake = match places.next() {
        Some((span, label)) => Mistake::new(span, message, label),
        None => Mistake::of_file(message),
    };
    places
        .fold(mistake, |mistake, (span, label)| mistake.also(span, label))
        .help("give one of them another port, or 0 for any free one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(a: (&str, Kind), b: (&str, Kind)) -> bool {
        let claim = |(socket, kind): (&str, Kind)| Claim {
            socket: socket.parse().expect("an address"),
            owner: socket.to_owned(),
            span: Some(0..1),
            kind,
        };
        let mut there = Vec::new();
        check(&[claim(a), claim(b)], &mut there);
        let mut back = Vec::new();
        check(&[claim(b), claim(a)], &mut back);
        assert_eq!(there.len(), back.len(), "{a:?} {b:?}");
        !there.is_empty()
    }

    #[test]
    fn claims_meet_on_overlapping_addresses() {
        use Kind::{Libp2p, Libp2pUdp, Service, ServiceUdp};
        assert!(meet(("127.0.0.1:1", Service), ("127.0.0.1:1", Libp2p)));
        assert!(meet(("0.0.0.0:1", Service), ("127.0.0.1:1", Libp2p)));
        assert!(meet(("[::]:1", Libp2p), ("[::1]:1", Libp2p)));
        assert!(meet(("[::]:1", Service), ("127.0.0.1:1", Libp2p)));
        assert!(meet(("[::]:1", ServiceUdp), ("127.0.0.1:1", Libp2pUdp)));
        assert!(!meet(("127.0.0.1:1", ServiceUdp), ("127.0.0.1:1", Service)));
        assert!(!meet(("127.0.0.1:1", Service), ("127.0.0.1:2", Service)));
        assert!(!meet(("127.0.0.1:1", Service), ("127.0.0.2:1", Service)));
        assert!(!meet(("127.0.0.1:0", Service), ("127.0.0.1:0", Service)));
        assert!(!meet(("[::]:1", Libp2p), ("0.0.0.0:1", Libp2p)));
        assert!(!meet(("0.0.0.0:1", Service), ("[::1]:1", Libp2p)));
    }
}
