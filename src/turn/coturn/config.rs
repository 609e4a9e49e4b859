//! The configuration file of `turnserver`, written from the same settings as the embedded server's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::turn::cidr::Cidr;
use crate::turn::config::TurnConfig;
use crate::turn::filter::DENIED;

/// What coturn cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoturnError {
    /// It has one port for all its addresses.
    #[error("coturn listens on one port, and on one for TLS; give all addresses the same")]
    Ports,
    /// A text that would end its line in the file.
    #[error("coturn cannot be told a {0} with a line break in it")]
    LineBreak(&'static str),
}

/// The text of the file; what the program writes by itself goes into `folder`.
///
/// # Errors
/// See [`CoturnError`].
pub fn text(config: &TurnConfig, folder: &Path) -> Result<String, CoturnError> {
    let mut file = File(String::from("# Written at every start from the topology; changes here are lost.\n"));
    let port = one(config.listen.iter().map(|address| address.port()))?;
    let addresses: BTreeSet<IpAddr> =
        config.listen.iter().chain(&config.tls_listen).map(|address| address.ip()).collect();
    // Without one it finds out all that this host has.
    let bound = addresses.iter().filter(|address| !address.is_unspecified());
    for address in bound.clone() {
        file.set("listening-ip", address);
    }
    if let Some(port) = port {
        file.set("listening-port", port);
    }
    let relays: Vec<&IpAddr> = if config.relay_addresses.is_empty() {
        bound.collect()
    } else {
        config.relay_addresses.iter().collect()
    };
    for address in &relays {
        file.set("relay-ip", address);
    }
    if let Some(external) = config.external_address {
        match relays.iter().find(|relay| relay.is_ipv4() == external.is_ipv4()) {
            Some(relay) => file.set("external-ip", format_args!("{external}/{relay}")),
            None => file.set("external-ip", external),
        }
    }
    file.set("min-port", config.ports.min);
    file.set("max-port", config.ports.max);

    match (&config.tls, one(config.tls_listen.iter().map(|address| address.port()))?) {
        (Some(tls), Some(port)) => {
            file.set("tls-listening-port", port);
            file.set("cert", file_name("certificate", &tls.certificate)?);
            file.set("pkey", file_name("key", &tls.key)?);
            file.set("no-dtls", true);
        }
        _ => {
            file.set("no-tls", true);
            file.set("no-dtls", true);
        }
    }

    file.set("realm", line("realm", &config.realm)?);
    file.set("fingerprint", true);
    if let Some(secret) = &config.secret {
        file.set("use-auth-secret", true);
        file.set("static-auth-secret", line("secret", secret.as_str())?);
    } else {
        file.set("lt-cred-mech", true);
        for (name, password) in &config.users {
            let (name, password) = (line("user", name)?, line("password", password.as_str())?);
            file.set("user", format_args!("{name}:{password}"));
        }
    }
    file.set("total-quota", config.max_allocations);
    file.set("user-quota", config.max_per_user);
    if config.bytes_per_second > 0 {
        file.set("max-bps", config.bytes_per_second);
    }

    file.set("no-multicast-peers", true);
    // Its own rule for loopback comes before its lists.
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if loopback.iter().any(|address| config.allow.iter().any(|allowed| allowed.contains(*address))) {
        file.set("allow-loopback-peers", true);
    }
    for network in &config.allow {
        file.set("allowed-peer-ip", range(*network));
    }
    for network in DENIED.iter().chain(&config.deny) {
        file.set("denied-peer-ip", range(*network));
    }

    // Its log is this process's business; its shell is nobody's.
    file.set("no-cli", true);
    file.set("log-file", "stdout");
    file.set("simple-log", true);
    file.set("verbose", true);
    file.set("userdb", file_name("folder", &folder.join("turnserver.db"))?);
    file.set("pidfile", file_name("folder", &folder.join("turnserver.pid"))?);
    Ok(file.0)
}

struct File(String);

impl File {
    /// Adds a setting; of `true`, just its name.
    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let value = value.to_string();
        let _ = if value == "true" { writeln!(self.0, "{key}") } else { writeln!(self.0, "{key}={value}") };
    }
}

/// The one value of all `ports`, if there are any.
fn one(ports: impl Iterator<Item = u16>) -> Result<Option<u16>, CoturnError> {
    let distinct: BTreeSet<u16> = ports.collect();
    if distinct.len() > 1 { Err(CoturnError::Ports) } else { Ok(distinct.first().copied()) }
}

fn line<'t>(what: &'static str, text: &'t str) -> Result<&'t str, CoturnError> {
    if text.contains(char::is_control) { Err(CoturnError::LineBreak(what)) } else { Ok(text) }
}

fn file_name(what: &'static str, path: &Path) -> Result<String, CoturnError> {
    line(what, &path.to_string_lossy()).map(str::to_owned)
}

/// The first and the last address of `network`, as coturn wants them.
fn range(network: Cidr) -> String {
    let text = network.to_string();
    let first = text.split('/').next().unwrap_or_default();
    match first.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            let rest = u32::MAX.checked_shr(u32::from(network.prefix())).unwrap_or(0);
            format!("{address}-{}", Ipv4Addr::from(u32::from(address) | rest))
        }
        Ok(IpAddr::V6(address)) => {
            let rest = u128::MAX.checked_shr(u32::from(network.prefix())).unwrap_or(0);
            format!("{address}-{}", Ipv6Addr::from(u128::from(address) | rest))
        }
        Err(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateFiles;

    fn config() -> TurnConfig {
        TurnConfig {
            listen: vec!["127.0.0.1:3478".parse().unwrap()],
            secret: Some("north".into()),
            ..TurnConfig::default()
        }
    }

    fn written(config: &TurnConfig) -> Vec<String> {
        let text = text(config, Path::new("data/turn")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_the_topology_says_is_in_the_file() {
        let mut config = config();
        config.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.deny = vec!["2001:4860::/32".parse().unwrap()];
        config.external_address = Some("203.0.113.7".parse().unwrap());
        config.bytes_per_second = 1_000;
        let lines = written(&config);
        for line in [
            "listening-ip=127.0.0.1",
            "listening-port=3478",
            "relay-ip=127.0.0.1",
            "external-ip=203.0.113.7/127.0.0.1",
            "min-port=49152",
            "max-port=65535",
            "realm=hippius",
            "use-auth-secret",
            "static-auth-secret=north",
            "no-tls",
            "total-quota=10000",
            "max-bps=1000",
            "allow-loopback-peers",
            "allowed-peer-ip=127.0.0.0-127.255.255.255",
            "denied-peer-ip=10.0.0.0-10.255.255.255",
            "denied-peer-ip=192.168.0.0-192.168.255.255",
            "denied-peer-ip=2001:4860::-2001:4860:ffff:ffff:ffff:ffff:ffff:ffff",
            "pidfile=data/turn/turnserver.pid",
        ] {
            assert!(lines.iter().any(|written| written == line), "{line} is not in {lines:#?}");
        }
    }

    #[test]
    fn loopback_is_closed_unless_it_is_allowed() {
        let lines = written(&config());
        assert!(!lines.iter().any(|line| line.starts_with("allow")));
        assert!(lines.contains(&"denied-peer-ip=127.0.0.0-127.255.255.255".to_owned()));
    }

    #[test]
    fn tls_users_and_wildcards() {
        let mut config = config();
        config.listen = vec!["0.0.0.0:3478".parse().unwrap()];
        config.tls_listen = vec!["0.0.0.0:5349".parse().unwrap()];
        config.tls = Some(CertificateFiles { certificate: "c.pem".into(), key: "k.pem".into() });
        config.secret = None;
        config.users.insert("ada".to_owned(), "lovelace".into());
        let lines = written(&config);
        for line in
            ["tls-listening-port=5349", "cert=c.pem", "pkey=k.pem", "lt-cred-mech", "user=ada:lovelace"]
        {
            assert!(lines.iter().any(|written| written == line), "{line} is not in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("listening-ip") || line.starts_with("relay-ip")));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let mut two = config();
        two.listen.push("127.0.0.1:3479".parse().unwrap());
        assert_eq!(text(&two, Path::new("x")), Err(CoturnError::Ports));
        let mut broken = config();
        broken.secret = Some("a\nno-auth".into());
        assert_eq!(text(&broken, Path::new("x")), Err(CoturnError::LineBreak("secret")));
    }
}
