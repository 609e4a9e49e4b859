//! Whom a relay may be used to reach.
//!
//! A relay sends what strangers give it, from inside its own network. Unless told otherwise it therefore reaches only what is public: no
//! loopback, private or link-local networks, nothing that is no single host, no form of IPv6 address that stands for such an IPv4 address,
//! and no service of its own host. The one exception are its own relay addresses, where two of its clients meet; of these only the ports
//! that it has given out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::cidr::Cidr;

/// What is not relayed to unless `allow` says so (the special-purpose registries of IANA, RFC 6890).
pub(super) const DENIED: [Cidr; 29] = [
    Cidr::v4([0, 0, 0, 0], 8),                       // this network
    Cidr::v4([10, 0, 0, 0], 8),                      // private
    Cidr::v4([100, 64, 0, 0], 10),                   // carrier-grade NAT
    Cidr::v4([127, 0, 0, 0], 8),                     // loopback
    Cidr::v4([169, 254, 0, 0], 16),                  // link-local; the metadata services of clouds
    Cidr::v4([172, 16, 0, 0], 12),                   // private
    Cidr::v4([192, 0, 0, 0], 24),                    // protocol assignments
    Cidr::v4([192, 0, 2, 0], 24),                    // documentation
    Cidr::v4([192, 88, 99, 0], 24),                  // 6to4 relays
    Cidr::v4([192, 168, 0, 0], 16),                  // private
    Cidr::v4([198, 18, 0, 0], 15),                   // benchmarks
    Cidr::v4([198, 51, 100, 0], 24),                 // documentation
    Cidr::v4([203, 0, 113, 0], 24),                  // documentation
    Cidr::v4([224, 0, 0, 0], 4),                     // multicast
    Cidr::v4([240, 0, 0, 0], 4),                     // reserved, and broadcast
    Cidr::v6([0, 0, 0, 0, 0, 0, 0, 0], 96),          // unspecified, loopback, IPv4-compatible
    Cidr::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),     // IPv4-mapped: such packets are IPv4
    Cidr::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),     // IPv4-translated
    Cidr::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),  // NAT64 into a private network
    Cidr::v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),      // discard
    Cidr::v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),     // benchmarks
    Cidr::v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28),  // no addresses at all: ORCHID
    Cidr::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    Cidr::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // documentation
    Cidr::v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),     // segment routing inside a network
    Cidr::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),      // private
    Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),     // link-local
    Cidr::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),     // site-local
    Cidr::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),      // multicast
];

/// What may be sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Denied,
    /// Anything: it is another host's.
    Open,
    /// It is this host's own. Only what the relay has given out may be reached there, or, where `allow` names the address, any port that
    /// is not the relay's own service.
    Own {
        /// Whether `allow` names it.
        allowed: bool,
    },
}

/// Decides whom the relay may be used to reach.
#[derive(Debug, Clone, Default)]
pub struct PeerFilter {
    /// See [`TurnConfig::allow`](super::TurnConfig::allow).
    pub allow: Vec<Cidr>,
    /// See [`TurnConfig::deny`](super::TurnConfig::deny).
    pub deny: Vec<Cidr>,
    /// The addresses of this host, and the one that the world sees instead.
    pub own: Vec<IpAddr>,
    /// Those of them that relayed traffic leaves from, and the one that the world sees instead.
    pub relays: Vec<IpAddr>,
    /// Where the relay itself listens, also as the world sees it.
    pub services: Vec<SocketAddr>,
}

impl PeerFilter {
    /// What may be sent to `address`. Between lists the longer prefix wins, of two equal ones `deny`; both win over the defaults.
    #[must_use]
    pub fn judge(&self, address: IpAddr) -> Standing {
        let longest = |list: &[Cidr]| list.iter().filter(|of| of.contains(address)).map(Cidr::prefix).max();
        let (allowed, denied) = (longest(&self.allow), longest(&self.deny));
        let allowed = match (allowed, denied) {
            (Some(allow), Some(deny)) if allow > deny => true,
            (_, Some(_)) => return Standing::Denied,
            (allowed, None) => allowed.is_some(),
        };
        let is_own = address.is_loopback() || self.own.contains(&address);
        if is_own && (allowed || self.relays.contains(&address)) {
            return Standing::Own { allowed };
        }
        if allowed {
            return Standing::Open;
        }
        if is_own || DENIED.iter().any(|of| of.contains(address)) {
            return Standing::Denied;
        }
        // An address that carries an IPv4 address is as good as that one; this host's own is never reached this way.
        let IpAddr::V6(v6) = address else { return Standing::Open };
        if carried(v6).iter().flatten().all(|v4| self.judge(IpAddr::V4(*v4)) == Standing::Open) {
            Standing::Open
        } else {
            Standing::Denied
        }
    }

    /// Whether `address` is a port that the relay itself listens on.
    #[must_use]
    pub fn is_service(&self, address: SocketAddr) -> bool {
        self.services.contains(&address)
    }
}

/// The IPv4 addresses that an IPv6 address stands for: of 6to4 (RFC 3056), of NAT64 (RFC 6052), of Teredo (RFC 4380: server and client).
fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [a, b, c, d, _, _, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        (0x2002, _) => [v4(b, c), None],
        (0x64, 0xff9b) => [v4(g, h), None],
        (0x2001, 0) => [v4(c, d), v4(!g, !h)],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn nets(list: &[&str]) -> Vec<Cidr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_not_public_is_denied() {
        let filter = PeerFilter::default();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.1.2.3",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "2002::1",
            // Teredo: a server in a private network; a client (inverted) that is 127.0.0.1, and one that is 10.0.0.1.
            "2001:0:a00:1::f7f7:f7f7",
            "2001:0:808:808::80ff:fffe",
            "2001:0:808:808::f5ff:fffe",
        ] {
            assert_eq!(filter.judge(ip(address)), Standing::Denied, "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:0:808:808::f7f7:f7f7",
            "2a00::1",
        ] {
            assert_eq!(filter.judge(ip(address)), Standing::Open, "{address}");
        }
    }

    #[test]
    fn the_longer_prefix_wins() {
        let filter = PeerFilter {
            allow: nets(&["10.1.0.0/16", "10.1.2.128/25", "8.8.8.8", "198.51.100.0/24"]),
            deny: nets(&["10.1.2.0/24", "8.8.0.0/16", "198.51.100.0/24", "2600::/16"]),
            ..PeerFilter::default()
        };
        let open = |address| filter.judge(ip(address)) == Standing::Open;
        assert!(open("10.1.1.1") && open("10.1.2.200") && open("8.8.8.8") && open("8.9.0.1"));
        assert!(!open("10.1.2.1") && !open("10.2.0.1") && !open("8.8.8.9") && !open("198.51.100.1"));
        assert!(!open("2600::1") && open("2601::1"));
        // What is denied in IPv4 is denied in its IPv6 forms, too.
        assert!(!open("64:ff9b::8.8.4.4") && !open("2002:808:404::1"));
    }

    #[test]
    fn only_ports_given_out_are_reached_on_the_own_host() {
        let mut filter = PeerFilter {
            own: vec![ip("198.41.0.4"), ip("2a00::4"), ip("198.41.0.5")],
            relays: vec![ip("198.41.0.4"), ip("2a00::4")],
            ..PeerFilter::default()
        };
        assert_eq!(filter.judge(ip("198.41.0.4")), Standing::Own { allowed: false });
        assert_eq!(filter.judge(ip("2a00::4")), Standing::Own { allowed: false });
        assert_eq!(filter.judge(ip("198.41.0.5")), Standing::Denied, "an address without relays");
        assert_eq!(filter.judge(ip("64:ff9b::198.41.0.4")), Standing::Denied, "a way around");
        assert_eq!(filter.judge(ip("198.41.0.6")), Standing::Open);
        filter.allow = nets(&["127.0.0.0/8"]);
        assert_eq!(filter.judge(ip("127.0.0.1")), Standing::Own { allowed: true });
        assert_eq!(filter.judge(ip("127.9.9.9")), Standing::Own { allowed: true });
        filter.deny = nets(&["198.41.0.4"]);
        assert_eq!(filter.judge(ip("198.41.0.4")), Standing::Denied);
    }
}
