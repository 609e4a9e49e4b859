//! Builds one entry of a topology out of its table: defaults filled in, bounds between keys checked.

use std::net::{IpAddr, SocketAddr};

use super::address::{Listen, multiaddr_of};
use super::bootnodes::{self, Directory, Edge};
use super::defaults;
use super::mistake::Mistake;
use super::model::{Entry, NodePart, Part};
use super::names::Declared;
use super::plan::{
    ConnectionMarks, MessageRates, RestartPolicy, Role, SignalingSettings, Timing, WebSettings,
};
use super::ports::{Claim, Kind};
use super::raw::{
    RawConnections, RawFiles, RawLimits, RawNode, RawRelay, RawRestart, RawSignaling, RawTiming, RawTls,
    RawTopology, RawWeb,
};
use super::reader::{At, Key, suggestion};
use super::scalar::Port;
use crate::p2p::address::{self, Socket, TransportKind};
use crate::p2p::direct::config::FilesConfig;
use crate::p2p::limits::Limits;
use crate::p2p::relay::RelayConfig;
use crate::p2p::{NodeConfig, NodeRole};
use crate::signaling::SignalingConfig;
use crate::tls::CertificateFiles;

/// What all entries share while they are built.
pub(super) struct Build<'a> {
    pub(super) bind: IpAddr,
    /// Ports that entries listen on.
    pub(super) claims: Vec<Claim>,
    /// Which bootnodes name which.
    pub(super) edges: Vec<Edge>,
    raw: &'a RawTopology,
    restart: RestartPolicy,
    timing: Timing,
    directory: Directory,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Build<'a> {
    /// Starts with what `raw` says for all.
    pub(super) fn new(raw: &'a RawTopology, directory: Directory, mistakes: &'a mut Vec<Mistake>) -> Self {
        let restart = restart(&raw.restart, defaults::RESTART, mistakes);
        Self {
            bind: raw.bind.value().map_or(defaults::BIND, |bind| bind.0),
            claims: Vec::new(),
            edges: Vec::new(),
            raw,
            restart,
            timing: timing(&raw.timing, defaults::TIMING),
            directory,
            mistakes,
        }
    }

    /// A node or bootnode; `index` is its place among the bootnodes.
    pub(super) fn node(&mut self, at: &At<RawNode>, declared: &Declared, index: usize) -> Entry {
        let raw = &at.value;
        let is_bootnode = declared.role == Role::Bootnode;
        let bootnodes = match &raw.bootnodes {
            Key::Given(list) => {
                if is_bootnode {
                    self.edges.extend(bootnodes::edges(&self.directory, index, &list.value.items));
                }
                self.directory.resolve(&list.value.items, &list.span, self.mistakes)
            }
            Key::Absent if !is_bootnode => self.directory.all(&at.span, self.mistakes),
            Key::Absent | Key::Bad => Vec::new(),
        };
        let defaults = if is_bootnode { defaults::BOOTNODE_CONNECTIONS } else { defaults::NODE_CONNECTIONS };
        let part = NodePart {
            listen: self.listen(raw, declared),
            bootnodes,
            topics: self.topics(raw),
            connections: connections(&raw.connections, defaults, self.mistakes),
            mdns: raw.mdns.value().is_some_and(|mdns| *mdns),
            upnp: raw.upnp.value().is_some_and(|upnp| *upnp),
            external: self.external(raw, declared),
            tls: self.tls(raw),
            trusted: raw
                .trusted
                .value()
                .into_iter()
                .flat_map(|list| &list.items)
                .map(|at| at.value.0.clone())
                .collect(),
            limits: limits(&raw.limits, if is_bootnode { NodeRole::Bootnode } else { NodeRole::Node }),
            rates: rates(&raw.limits),
            relay: relay(&raw.relay, is_bootnode),
            files: files(&raw.files),
        };
        let part = if is_bootnode { Part::Bootnode(part) } else { Part::Node(part) };
        self.entry(declared, &raw.restart, &raw.timing, part)
    }

    /// A signaling server. `shares_port`: others, too, leave their port to `[ports]`.
    pub(super) fn signaling(
        &mut self,
        at: &At<RawSignaling>,
        declared: &Declared,
        shares_port: bool,
    ) -> Entry {
        let shared = self.raw.ports.value().map(|ports| &ports.signaling);
        let socket =
            self.service(at, &at.value.port, shared, shares_port, defaults::SIGNALING_PORT, declared);
        let settings =
            SignalingSettings { tls: self.certificate(&at.value.tls), ..signaling_settings(&at.value) };
        self.entry(declared, &at.value.restart, &at.value.timing, Part::Signaling { socket, settings })
    }

    /// A web server, whose pages use one of the `signaling` servers. `shares_port` as for signaling.
    pub(super) fn web(
        &mut self,
        at: &At<RawWeb>,
        declared: &Declared,
        shares_port: bool,
        signaling: &[Declared],
    ) -> Entry {
        let shared = self.raw.ports.value().map(|ports| &ports.web);
        let socket = self.service(at, &at.value.port, shared, shares_port, defaults::WEB_PORT, declared);
        let known = || signaling.iter().filter_map(|server| server.name.as_deref());
        let signaling_name = match &at.value.signaling {
            Key::Absent => known().next().map(str::to_owned),
            Key::Bad => None,
            Key::Given(At { value, .. }) if known().any(|name| name == value.0) => Some(value.0.clone()),
            Key::Given(At { value, span }) => {
                let sure = known().count() == signaling.len() && !self.raw.signaling.is_bad();
                if sure {
                    let help = match signaling.len() {
                        0 => "this file has no signaling server; add [signaling]".to_owned(),
                        _ => suggestion(&value.0, known(), "this file's signaling servers are"),
                    };
                    let message = format!("unknown signaling server `{}`", value.0);
                    self.mistakes.push(Mistake::new(span.clone(), message, "no such name").help(help));
                }
                None
            }
        };
        let tls = self.certificate(&at.value.tls);
        let server = signaling_name.as_deref().and_then(|name| {
            let servers = self.raw.signaling.value().map_or(&[][..], |list| &list.0);
            servers.get(signaling.iter().position(|server| server.name.as_deref() == Some(name))?)
        });
        let signaling_tls = server.is_some_and(|at| !matches!(at.value.tls, Key::Absent));
        let token_secret_file =
            server.and_then(|at| at.value.token_secret_file.value()).map(|file| file.0.clone());
        if let (Some(given), Some(name), false) = (at.value.tls.given(), &signaling_name, signaling_tls) {
            let message = format!("pages of https cannot reach `{name}`, which has no `tls`");
            self.mistakes.push(Mistake::new(given.span.clone(), message, "https").help(format!(
                "browsers let such a page use nothing that is not encrypted: give `{name}` a certificate, too"
            )));
        }
        let pages = at.value.pages.value().map(|pages| pages.0.clone());
        let settings =
            WebSettings { signaling: signaling_name, signaling_tls, token_secret_file, tls, pages };
        let part = Part::Web { socket, settings };
        self.entry(declared, &at.value.restart, &at.value.timing, part)
    }

    /// What every entry has, around its own `part`.
    pub(super) fn entry(
        &mut self,
        declared: &Declared,
        own_restart: &Key<RawRestart>,
        own_timing: &Key<RawTiming>,
        part: Part,
    ) -> Entry {
        Entry {
            name: declared.name.clone().unwrap_or_default(),
            count: declared.group_size(),
            restart: restart(own_restart, self.restart, self.mistakes),
            timing: timing(own_timing, self.timing),
            part,
        }
    }

    /// What `[ports]` says of TURN servers.
    pub(super) fn shared_turn_port(&self) -> Option<&Key<Port>> {
        self.raw.ports.value().map(|ports| &ports.turn)
    }

    /// Where a service listens; claims the port.
    fn service<T>(
        &mut self,
        at: &At<T>,
        own: &Key<Port>,
        shared: Option<&Key<Port>>,
        shares_port: bool,
        default: u16,
        declared: &Declared,
    ) -> SocketAddr {
        let (port, span) = match (own, shared) {
            (Key::Bad, _) | (Key::Absent, Some(Key::Bad)) => (0, at.span.clone()),
            (Key::Given(own), _) => (own.value.number(), own.span.clone()),
            (Key::Absent, Some(Key::Given(shared))) => {
                let span = if shares_port { &at.span } else { &shared.span };
                (shared.value.number(), span.clone())
            }
            (Key::Absent, None | Some(Key::Absent)) => (default, at.span.clone()),
        };
        let socket = SocketAddr::new(self.bind, port);
        self.claims.push(Claim { socket, owner: owner(declared), span: Some(span), kind: Kind::Service });
        socket
    }

    /// The certificate of a node, there if it listens on what needs it.
    fn tls(&mut self, raw: &RawNode) -> Option<CertificateFiles> {
        if !matches!(raw.tls, Key::Given(_)) {
            let secure = |at: &&At<Listen>| at.value.kind == Some(TransportKind::SecureWebSocket);
            let mut listens = raw.listen.value().into_iter().flat_map(|list| &list.items);
            if let (Key::Absent, Some(at)) = (&raw.tls, listens.find(secure)) {
                let message = format!("\"{}\" needs a certificate", at.value.multiaddr);
                self.mistakes.push(
                    Mistake::new(at.span.clone(), message, "secure WebSocket")
                        .help("name its files: tls = { certificate = \"FILE\", key = \"FILE\" }"),
                );
            }
        }
        self.certificate(&raw.tls)
    }

    /// A certificate with both its files.
    pub(super) fn certificate(&mut self, raw: &Key<RawTls>) -> Option<CertificateFiles> {
        let At { value, span } = raw.given()?;
        for (key, name) in [(&value.certificate, "certificate"), (&value.key, "key")] {
            if matches!(key, Key::Absent) {
                let mistake = Mistake::new(span.clone(), format!("`tls` lacks `{name}`"), "incomplete");
                self.mistakes
                    .push(mistake.help("it takes both: tls = { certificate = \"FILE\", key = \"FILE\" }"));
            }
        }
        Some(CertificateFiles {
            certificate: value.certificate.value()?.0.clone(),
            key: value.key.value()?.0.clone(),
        })
    }

    /// What a node listens on; claims the ports.
    fn listen(&mut self, raw: &RawNode, declared: &Declared) -> Vec<libp2p::Multiaddr> {
        let Some(list) = raw.listen.value() else {
            return vec![multiaddr_of(SocketAddr::new(self.bind, 0))];
        };
        let count = declared.group_size().unwrap_or(1);
        for At { value, span } in &list.items {
            // A place at a relay takes no port.
            let Some(socket) = value.socket else { continue };
            let port = socket.address().port();
            if count > 1 && port != 0 {
                let message = format!("{count} processes cannot all listen on port {port}");
                let free = address::with_port(&value.multiaddr, 0);
                self.mistakes.push(
                    Mistake::new(span.clone(), message, format!("one port for {count} processes"))
                        .help(format!("use port 0, any free one for each: \"{free}\"")),
                );
            }
            self.claims.push(Claim {
                socket: socket.address(),
                owner: owner(declared),
                span: Some(span.clone()),
                kind: match socket {
                    Socket::Tcp(_) => Kind::Libp2p,
                    Socket::Udp(_) => Kind::Libp2pUdp,
                },
            });
        }
        list.items.iter().map(|at| at.value.multiaddr.clone()).collect()
    }

    /// What a node tells others besides what it listens on.
    fn external(&mut self, raw: &RawNode, declared: &Declared) -> Vec<libp2p::Multiaddr> {
        let Some(list) = raw.external.given() else { return Vec::new() };
        let count = declared.group_size().unwrap_or(1);
        if count > 1 && !list.value.items.is_empty() {
            let message = format!("{count} processes cannot all be reached at one address");
            self.mistakes.push(
                Mistake::new(list.span.clone(), message, format!("one address for {count} processes"))
                    .help("give each of them a table of its own"),
            );
        }
        list.value.items.iter().map(|at| at.value.0.clone()).collect()
    }

    /// The topics of a node, each once.
    fn topics(&self, raw: &RawNode) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for at in raw.topics.value().into_iter().flat_map(|list| &list.items) {
            if !topics.contains(&at.value.0) {
                topics.push(at.value.0.clone());
            }
        }
        topics
    }
}

/// Whose a port is, in words.
pub(super) fn owner(declared: &Declared) -> String {
    match &declared.name {
        Some(name) => format!("`{name}`"),
        None => format!("a {}", declared.role),
    }
}

/// What `raw` says of a signaling server, with the server's own defaults for the rest.
fn signaling_settings(raw: &RawSignaling) -> SignalingSettings {
    let base = SignalingConfig::default();
    let origins = raw.allowed_origins.value().into_iter().flat_map(|list| &list.items);
    SignalingSettings {
        allowed_origins: origins.map(|at| at.value.0.clone()).collect(),
        tls: None,
        token_secret_file: raw.token_secret_file.value().map(|file| file.0.clone()),
        max_clients: raw.max_clients.value().map_or(base.max_clients, |max| max.0),
        max_per_address: raw.max_per_address.value().map_or(base.max_per_address, |max| max.0),
        max_room_peers: raw.max_room_peers.value().map_or(base.max_room_peers, |max| max.0),
        messages_per_second: raw.messages_per_second.value().map_or(base.messages_per_second, |max| max.0),
        joins_per_second: raw.joins_per_second.value().map_or(base.joins_per_second, |max| max.0),
        join_burst: raw.join_burst.value().map_or(base.join_burst, |max| max.0),
    }
}

/// `base` with what `own` says instead.
fn restart(own: &Key<RawRestart>, base: RestartPolicy, mistakes: &mut Vec<Mistake>) -> RestartPolicy {
    let Some(own) = own.value() else { return base };
    let policy = RestartPolicy {
        when: own.policy.value().map_or(base.when, |policy| policy.0),
        backoff: own.backoff.value().map_or(base.backoff, |period| period.0),
        max_backoff: own.max_backoff.value().map_or(base.max_backoff, |period| period.0),
        limit: own.limit.value().map_or(base.limit, |limit| limit.0),
        within: own.within.value().map_or(base.within, |period| period.0),
    };
    let spans = [
        own.backoff.given().map(|at| (at.span.clone(), "the first delay")),
        own.max_backoff.given().map(|at| (at.span.clone(), "the longest delay")),
    ];
    let bad = own.backoff.is_bad() || own.max_backoff.is_bad();
    let mut places = spans.into_iter().flatten();
    if let Some((span, label)) = places.next().filter(|_| policy.backoff > policy.max_backoff && !bad) {
        let message = format!(
            "`backoff` is {}, more than `max_backoff`, which is {}",
            humantime::format_duration(policy.backoff),
            humantime::format_duration(policy.max_backoff),
        );
        let mistake = places
            .fold(Mistake::new(span, message, label), |mistake, (span, label)| mistake.also(span, label));
        mistakes.push(
            mistake.help("`max_backoff` must be at least `backoff`; a key not given here has its default"),
        );
    }
    policy
}

/// `base` with what `own` says instead.
fn timing(own: &Key<RawTiming>, base: Timing) -> Timing {
    let Some(own) = own.value() else { return base };
    Timing {
        start_timeout: own.start_timeout.value().map_or(base.start_timeout, |period| period.0),
        watchdog: own.watchdog.value().map_or(base.watchdog, |period| period.0),
        stop_grace: own.stop_grace.value().map_or(base.stop_grace, |period| period.0),
    }
}

/// What `own` says, with the defaults of a bootnode or node for the rest.
fn limits(own: &Key<RawLimits>, role: NodeRole) -> Limits {
    let base = Limits::of(role);
    let Some(own) = own.value() else { return base };
    Limits {
        pending_inbound: own.pending_inbound.value().map_or(base.pending_inbound, |max| max.0),
        pending_per_address: own.pending_per_address.value().map_or(base.pending_per_address, |max| max.0),
        pending_outbound: own.pending_outbound.value().map_or(base.pending_outbound, |max| max.0),
        total_connections: own.total_connections.value().map(|max| max.0),
        connections_per_peer: own.connections_per_peer.value().map_or(base.connections_per_peer, |max| max.0),
        connections_per_address: own
            .connections_per_address
            .value()
            .map_or(base.connections_per_address, |max| max.0),
        count_loopback: own.count_loopback.value().map_or(base.count_loopback, |count| *count),
        streams: own.streams.value().map_or(base.streams, |max| max.0),
        negotiating_streams: own.negotiating_streams.value().map_or(base.negotiating_streams, |max| max.0),
        memory: own.memory.value().map_or(base.memory, |max| max.0),
        message_size: own.message_size.value().map_or(base.message_size, |max| max.0),
        subscriptions: own.subscriptions.value().map_or(base.subscriptions, |max| max.0),
    }
}

/// The rates in `own`, with a node's defaults for the rest.
fn rates(own: &Key<RawLimits>) -> MessageRates {
    let NodeConfig { message_burst, message_rate, .. } = NodeConfig::default();
    let own = own.value();
    MessageRates {
        burst: own.and_then(|own| own.message_burst.value()).map_or(message_burst, |max| max.0),
        a_second: own.and_then(|own| own.message_rate.value()).map_or(message_rate, |max| max.0),
    }
}

/// What `own` says of files, with a node's defaults for the rest.
fn files(own: &Key<RawFiles>) -> FilesConfig {
    let base = FilesConfig::default();
    let Some(own) = own.value() else { return base };
    FilesConfig {
        accept: own.accept.value().map_or(base.accept, |accept| accept.0.clone()),
        max_file: own.max_file.value().map_or(base.max_file, |max| max.0),
        max_total: own.max_total.value().map_or(base.max_total, |max| max.0),
        max_transfers: own.max_transfers.value().map_or(base.max_transfers, |max| max.0),
    }
}

/// What `own` says of a relay, with the defaults of a bootnode or node for the rest.
fn relay(own: &Key<RawRelay>, is_bootnode: bool) -> RelayConfig {
    let base = if is_bootnode { RelayConfig::of_bootnode() } else { RelayConfig::default() };
    let Some(own) = own.value() else { return base };
    RelayConfig {
        enabled: own.enabled.value().map_or(base.enabled, |enabled| *enabled),
        max_reservations: own.max_reservations.value().map_or(base.max_reservations, |max| max.0),
        reservation_duration: own
            .reservation_duration
            .value()
            .map_or(base.reservation_duration, |time| time.0),
        max_circuits: own.max_circuits.value().map_or(base.max_circuits, |max| max.0),
        max_circuits_per_peer: own
            .max_circuits_per_peer
            .value()
            .map_or(base.max_circuits_per_peer, |max| max.0),
        max_circuit_bytes: own.max_circuit_bytes.value().map_or(base.max_circuit_bytes, |max| max.0),
        max_circuit_duration: own
            .max_circuit_duration
            .value()
            .map_or(base.max_circuit_duration, |time| time.0),
    }
}

/// `base` with what `own` says instead.
fn connections(
    own: &Key<RawConnections>,
    base: ConnectionMarks,
    mistakes: &mut Vec<Mistake>,
) -> ConnectionMarks {
    let Some(own) = own.value() else { return base };
    let marks = ConnectionMarks {
        low: own.low.value().map_or(base.low, |mark| mark.0),
        high: own.high.value().map_or(base.high, |mark| mark.0),
    };
    let spans = [
        own.low.given().map(|at| (at.span.clone(), "looks for more below this")),
        own.high.given().map(|at| (at.span.clone(), "closes some above this")),
    ];
    let bad = own.low.is_bad() || own.high.is_bad();
    let mut places = spans.into_iter().flatten();
    if let Some((span, label)) = places.next().filter(|_| marks.low > marks.high && !bad) {
        let message = format!("`low` is {}, more than `high`, which is {}", marks.low, marks.high);
        let mistake = places
            .fold(Mistake::new(span, message, label), |mistake, (span, label)| mistake.also(span, label));
        mistakes.push(mistake.help("`low` must be at most `high`; a key not given here has its default"));
    }
    marks
}
