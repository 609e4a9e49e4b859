//! The topology file as it is written: every table and key, in one place.
//!
//! The reader of each table and the JSON Schema for editors both come from these definitions; the doc
//! comments are what an editor shows. Nothing here leaves the loader.

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use super::accept::AcceptFrom;
use super::address::{Bootnode, External, Listen};
use super::reader::{FromToml, Key, List, OneOrMany, Reader};
use super::scalar::{Bind, FilePath, Integer, Name, Origin, Period, Policy, Port, Size, Topic};
use super::turn_values::{Address, Engine, Host, Network, Realm};

/// Most bootnodes one node may know; each is asked at the start.
pub(super) const MAX_BOOTNODES: usize = 100;
/// Most addresses one node may listen on.
pub(super) const MAX_LISTEN: usize = 16;
/// Most addresses that a node may tell others besides those it listens on.
pub(super) const MAX_EXTERNAL: usize = 16;
/// Most files with authorities that a node may be told to trust.
pub(super) const MAX_TRUSTED: usize = 16;
/// Most topics a node may join at the start.
pub(super) const MAX_TOPICS: usize = crate::p2p::handle::MAX_TOPICS;

/// Most origins that a signaling server may be told to admit; each is compared with every new client's.
pub(super) const MAX_ORIGINS: usize = 64;

/// Most networks in one list of a TURN server's filter; every packet to a new peer is compared with each.
pub(super) const MAX_NETWORKS: usize = 256;

/// Node tables: as many as processes are allowed, which is counted elsewhere.
pub(super) type Nodes = List<RawNode, 0, { usize::MAX }>;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// Defines tables of the file. Each becomes a struct of [`Key`]s, a reader that takes exactly these keys, and
/// a schema that allows exactly these.
macro_rules! tables {
    ($(
        $(#[$meta:meta])*
        struct $table:ident {
            $( $(#[$key_meta:meta])* $key:ident: $type:ty, )*
        }
    )*) => {$(
        #[derive(Debug, Clone, Default, JsonSchema)]
        $(#[$meta])*
        #[schemars(default, deny_unknown_fields)]
        pub(super) struct $table {
            $( $(#[$key_meta])* pub(super) $key: Key<$type>, )*
        }

        impl FromToml for $table {
            fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
                let table = reader.table(value)?;
                reader.deny_unknown(table, &[$(stringify!($key)),*]);
                Some(Self { $( $key: reader.key(table, stringify!($key)), )* })
            }
        }
    )*};
}

tables! {
    /// A peer-to-peer network for `hippius up`: its processes and how they are run.
    #[schemars(rename = "Topology")]
    struct RawTopology {
        /// The network's name: lower-case letters, digits and dashes.
        #[schemars(extend("default" = "network"))]
        name: Name,
        /// The IP address that services listen on, or `localhost`.
        #[schemars(extend("default" = "127.0.0.1"))]
        bind: Bind,
        /// The well-known ports; 0 is any free one.
        ports: RawPorts,
        /// When a process that ended is started again. Each process may override any of it.
        restart: RawRestart,
        /// Deadlines in the life of every process. Each process may override any of it.
        timing: RawTiming,
        /// How log files are rotated.
        logs: RawLogs,
        /// The nodes that others find the network through. They start first.
        bootnodes: Nodes,
        /// The nodes.
        nodes: Nodes,
        /// The WebRTC signaling server, or a list of them. Started if present.
        signaling: OneOrMany<RawSignaling>,
        /// The web server, or a list of them. Started if present.
        web: OneOrMany<RawWeb>,
        /// The TURN server, through which browsers reach each other where no direct path exists, or a list of them. Started if
        /// present.
        turn: OneOrMany<RawTurn>,
    }

    /// The well-known ports; 0 is any free one.
    #[schemars(rename = "Ports")]
    struct RawPorts {
        /// The web server's port.
        #[schemars(extend("default" = 3000))]
        web: Port,
        /// The signaling server's port.
        #[schemars(extend("default" = 8001))]
        signaling: Port,
        /// The port of `/metrics` and `/stats`.
        #[schemars(extend("default" = 9091))]
        metrics: Port,
        /// The TURN server's port, UDP and TCP.
        #[schemars(extend("default" = 3478))]
        turn: Port,
    }

    /// When a process that ended is started again.
    #[schemars(rename = "Restart")]
    struct RawRestart {
        /// `always`: after every ending nobody asked for; `on-failure`: after a signal or an exit code other
        /// than 0; `never`.
        #[schemars(extend("default" = "always"))]
        policy: Policy,
        /// Delay before the second restart in a row (the first is immediate). Doubles from there, with jitter.
        #[schemars(extend("default" = "100ms"))]
        backoff: Period<1, HOUR>,
        /// Upper end of the delay.
        #[schemars(extend("default" = "30s"))]
        max_backoff: Period<1, DAY>,
        /// This many restarts within `within` are a crash loop: the process is given up, the rest runs on.
        #[schemars(extend("default" = 10))]
        limit: Integer<1, 1_000_000>,
        /// See `limit`.
        #[schemars(extend("default" = "60s"))]
        within: Period<SECOND, DAY>,
    }

    /// Deadlines in the life of a process.
    #[schemars(rename = "Timing")]
    struct RawTiming {
        /// From spawn to readiness; past it the process is killed and counts as crashed.
        #[schemars(extend("default" = "30s"))]
        start_timeout: Period<100, HOUR>,
        /// Longest silence on the watchdog of a ready process; `0s` switches it off.
        #[schemars(extend("default" = "10s"))]
        watchdog: Period<100, HOUR, true>,
        /// From SIGTERM to SIGKILL.
        #[schemars(extend("default" = "5s"))]
        stop_grace: Period<0, HOUR>,
    }

    /// How log files are rotated.
    #[schemars(rename = "Logs")]
    struct RawLogs {
        /// A file is rotated before it grows past this size: bytes, or a string like `10 MiB`.
        #[schemars(extend("default" = "10 MiB"))]
        max_size: Size<1024, { 1 << 40 }>,
        /// How many rotated files are kept beside the current one.
        #[schemars(extend("default" = 3))]
        keep: Integer<0, 1_000>,
    }

    /// How many connections a node keeps.
    #[schemars(rename = "Connections")]
    struct RawConnections {
        /// Below this many connected peers the node looks for more. Default 6, for bootnodes 0.
        low: Integer<0, 10_000>,
        /// Above this many connected peers the node closes some. Default 16, for bootnodes 1000.
        high: Integer<1, 10_000>,
    }

    /// What a node admits at most. What is refused is counted in the metric `p2p_refused_total`.
    #[schemars(rename = "Limits")]
    struct RawLimits {
        /// How many inbound connections may be in the middle of their handshake. Default for bootnodes 512.
        #[schemars(extend("default" = 64))]
        pending_inbound: Integer<1, 100_000>,
        /// Of these, how many may come from one address. Default for bootnodes 128.
        #[schemars(extend("default" = 16))]
        pending_per_address: Integer<1, 100_000>,
        /// How many connections it makes at once.
        #[schemars(extend("default" = 24))]
        pending_outbound: Integer<1, 10_000>,
        /// How many connections it has, all together. Default: twice the mark `high`, but not less than 16.
        total_connections: Integer<1, 100_000>,
        /// How many of them with one peer.
        #[schemars(extend("default" = 2))]
        connections_per_peer: Integer<1, 100>,
        /// How many inbound ones from one IP address; an IPv6 address stands for its /64. Default for bootnodes 256.
        #[schemars(extend("default" = 32))]
        connections_per_address: Integer<1, 100_000>,
        /// Whether the limits by address hold for loopback addresses, too.
        #[schemars(extend("default" = false))]
        count_loopback: bool,
        /// How many substreams a peer may have open on one connection.
        #[schemars(extend("default" = 128))]
        streams: Integer<8, 3_000>,
        /// Of these, how many may be without an agreed protocol.
        #[schemars(extend("default" = 32))]
        negotiating_streams: Integer<1, 3_000>,
        /// How much memory the process may hold before it lets no more strangers in: bytes, or a string like `1 GiB`.
        #[schemars(extend("default" = "1 GiB"))]
        memory: Size<33_554_432, { 1 << 40 }>,
        /// How many bytes a topic message may have, encoded as JSON.
        #[schemars(extend("default" = 132_096))]
        message_size: Integer<1_024, 132_096>,
        /// How many topics one peer may subscribe to.
        #[schemars(extend("default" = 128))]
        subscriptions: Integer<1, 10_000>,
        /// How many short messages of one author may come at once.
        #[schemars(extend("default" = 500))]
        message_burst: Integer<1, 1_000_000>,
        /// How many of one author may come a second in the long run.
        #[schemars(extend("default" = 50))]
        message_rate: Integer<1, 1_000_000>,
    }

    /// What a node does for others as a relay (circuit relay v2).
    #[schemars(rename = "Relay")]
    struct RawRelay {
        /// Whether it is a relay. Default: bootnodes are, nodes are not.
        enabled: bool,
        /// How many peers may have a place here, through which others reach them.
        #[schemars(extend("default" = 1000))]
        max_reservations: Integer<1, 100_000>,
        /// How long a place is kept for a peer that does not ask for it again.
        #[schemars(extend("default" = "1h"))]
        reservation_duration: Period<{ 10 * SECOND }, DAY>,
        /// How many connections it passes on at once.
        #[schemars(extend("default" = 2048))]
        max_circuits: Integer<1, 100_000>,
        /// How many of these one peer may have before it can open no more.
        #[schemars(extend("default" = 64))]
        max_circuits_per_peer: Integer<1, 10_000>,
        /// How much one connection may carry, both ways together: bytes, or a string like `64 MiB`.
        #[schemars(extend("default" = "64 MiB"))]
        max_circuit_bytes: Size<1024, { 1 << 40 }>,
        /// How long one connection may last.
        #[schemars(extend("default" = "1h"))]
        max_circuit_duration: Period<SECOND, DAY>,
    }

    /// A certificate for TLS, in files that are read again when they change.
    #[schemars(rename = "Tls")]
    struct RawTls {
        /// The certificate in PEM form, with those of the authorities between behind it.
        certificate: FilePath,
        /// Its private key in PEM form.
        key: FilePath,
    }

    /// From whom a node takes files, and how much of them.
    #[schemars(rename = "Files")]
    struct RawFiles {
        /// From whom: `ask` (somebody at its console accepts each), `always`, `never`, or a list of peer ids.
        #[schemars(extend("default" = "ask"))]
        accept: AcceptFrom,
        /// Largest file it takes: bytes, or a string like `1 GiB`.
        #[schemars(extend("default" = "1 GiB"))]
        max_file: Size<1, { 1 << 50 }>,
        /// All files in its folder, and those that are arriving, together.
        #[schemars(extend("default" = "4 GiB"))]
        max_total: Size<1, { 1 << 50 }>,
        /// How many files may arrive at the same time.
        #[schemars(extend("default" = 4))]
        max_transfers: Integer<1, 1_000>,
    }

    /// One libp2p node, or a group of equal ones.
    #[schemars(rename = "Node")]
    struct RawNode {
        /// The name of the process, or of the group. Default `node`, for bootnodes `bootnode`.
        name: Name,
        /// How many. They are called NAME-0, NAME-1 and so on; without this key there is one, called NAME.
        count: Integer<1, 1_000>,
        /// Multiaddrs to listen on. Default: a free TCP port of `bind`.
        listen: List<Listen, 1, MAX_LISTEN>,
        /// Where to find the network: names of bootnodes in this file (a group's name means all of it), or
        /// multiaddrs that end in /p2p/PEER_ID. Default: all bootnodes of this file; for bootnodes none.
        bootnodes: List<Bootnode, 0, MAX_BOOTNODES>,
        /// Gossipsub topics to join at the start.
        topics: List<Topic, 0, MAX_TOPICS>,
        /// Whether nodes on the local network are found, and find this one, by multicast DNS.
        #[schemars(extend("default" = false))]
        mdns: bool,
        /// Whether the router is asked, by UPnP, to pass the ports on.
        #[schemars(extend("default" = false))]
        upnp: bool,
        /// Addresses at which others reach it although it does not listen there, like a router's.
        #[schemars(extend("default" = []))]
        external: List<External, 0, MAX_EXTERNAL>,
        /// The certificate for listening on secure WebSocket.
        tls: RawTls,
        /// PEM files with authorities that it trusts, beside the well-known ones, when it dials secure WebSocket.
        #[schemars(extend("default" = []))]
        trusted: List<FilePath, 0, MAX_TRUSTED>,
        /// How many connections it keeps.
        connections: RawConnections,
        /// What it admits at most.
        limits: RawLimits,
        /// What it does for others as a relay.
        relay: RawRelay,
        /// From whom it takes files, and how much of them.
        files: RawFiles,
        /// What differs from the topology's `restart`.
        restart: RawRestart,
        /// What differs from the topology's `timing`.
        timing: RawTiming,
    }

    /// A WebRTC signaling server.
    #[schemars(rename = "Signaling")]
    struct RawSignaling {
        /// The name of the process.
        #[schemars(extend("default" = "signaling"))]
        name: Name,
        /// Its port; 0 is any free one. Default: `ports.signaling`.
        port: Port,
        /// Web pages that may connect besides those of the same host: origins like `https://chat.example.org`, or `*`
        /// for all.
        #[schemars(extend("default" = []))]
        allowed_origins: List<Origin, 0, MAX_ORIGINS>,
        /// The certificate with which it speaks TLS (wss).
        tls: RawTls,
        /// The file with the secrets, one a line, that sign the tokens without which nobody registers.
        token_secret_file: FilePath,
        /// How many clients it serves at once; one more is refused.
        #[schemars(extend("default" = 10_000))]
        max_clients: Integer<1, 1_000_000>,
        /// How many clients one IP address may have; an IPv6 address stands for its /64.
        #[schemars(extend("default" = 256))]
        max_per_address: Integer<1, 1_000_000>,
        /// How many peers one room holds.
        #[schemars(extend("default" = 1_000))]
        max_room_peers: Integer<1, 100_000>,
        /// How many messages a client may send in the long run.
        #[schemars(extend("default" = 50))]
        messages_per_second: Integer<1, 100_000>,
        /// How many clients of one IP address may join rooms a second in the long run.
        #[schemars(extend("default" = 2))]
        joins_per_second: Integer<1, 100_000>,
        /// How many of them at once.
        #[schemars(extend("default" = 300))]
        join_burst: Integer<1, 1_000_000>,
        /// What differs from the topology's `restart`.
        restart: RawRestart,
        /// What differs from the topology's `timing`.
        timing: RawTiming,
    }

    /// A server of the web client's pages.
    #[schemars(rename = "Web")]
    struct RawWeb {
        /// The name of the process.
        #[schemars(extend("default" = "web"))]
        name: Name,
        /// Its port; 0 is any free one. Default: `ports.web`.
        port: Port,
        /// The name of the signaling server its pages use. Default: the first one in this file, if any.
        signaling: Name,
        /// The certificate with which it speaks TLS (https).
        tls: RawTls,
        /// The folder whose files it serves instead of the pages in the program.
        pages: FilePath,
        /// What differs from the topology's `restart`.
        restart: RawRestart,
        /// What differs from the topology's `timing`.
        timing: RawTiming,
    }

    /// The UDP ports that a TURN server relays on.
    #[schemars(rename = "RelayPorts")]
    struct RawRelayPorts {
        /// The lowest.
        #[schemars(extend("default" = 49152))]
        min: Integer<1024, 65_535>,
        /// The highest; at least `min`.
        #[schemars(extend("default" = 65535))]
        max: Integer<1024, 65_535>,
    }

    /// A STUN and TURN server, through which browsers reach each other where no direct path exists.
    #[schemars(rename = "Turn")]
    struct RawTurn {
        /// The name of the process.
        #[schemars(extend("default" = "turn"))]
        name: Name,
        /// Who relays: `embedded`, nothing to install; `coturn`, the program `turnserver` as a child; `external`, servers
        /// elsewhere that config/turn_config.json names.
        #[schemars(extend("default" = "embedded"))]
        engine: Engine,
        /// Its port, UDP and TCP; 0 is any free one. Default: `ports.turn`.
        port: Port,
        /// The certificate for TURN over TLS; without it there is none.
        tls: RawTls,
        /// The TCP port of TURN over TLS.
        #[schemars(extend("default" = 5349))]
        tls_port: Port,
        /// The realm of its credentials.
        #[schemars(extend("default" = "hippius"))]
        realm: Realm,
        /// The file with the secret that credentials are made with. Default: `secret` in the process's folder, made at random.
        secret_file: FilePath,
        /// The host that browsers are told. Default: the external address, or the host of the page.
        host: Host,
        /// The address that others know its relay addresses by, where a router translates.
        external_address: Address,
        /// The UDP ports that it relays on.
        relay_ports: RawRelayPorts,
        /// Networks that are relayed to although they are refused by default, like `127.0.0.0/8`.
        #[schemars(extend("default" = []))]
        allow: List<Network, 0, MAX_NETWORKS>,
        /// Networks that are never relayed to.
        #[schemars(extend("default" = []))]
        deny: List<Network, 0, MAX_NETWORKS>,
        /// How many allocations it has at once.
        #[schemars(extend("default" = 10_000))]
        max_allocations: Integer<1, 1_000_000>,
        /// How many of them one user may have.
        #[schemars(extend("default" = 100))]
        max_per_user: Integer<1, 100_000>,
        /// How many of them one IP address may have; an IPv6 address stands for its /64.
        #[schemars(extend("default" = 1_000))]
        max_per_address: Integer<1, 100_000>,
        /// Answers a second, over UDP, to one IP address that has not proven to be where it says it is; those of 20 s may come at once. An
        /// IPv6 address stands for its /64.
        #[schemars(extend("default" = 100))]
        stranger_answers_per_second: Integer<1, 1_000_000>,
        /// Bytes of payload that one allocation may relay a second, each way: a number, or a string like `1 MiB`. Default: no limit.
        bytes_per_second: Size<1024, { 1 << 40 }>,
        /// How long the credentials hold that browsers are given.
        #[schemars(extend("default" = "1h"))]
        credential_lifetime: Period<{ 60 * SECOND }, DAY>,
        /// The file that names external servers and says how traffic is written down. Default: config/turn_config.json, if there.
        config_file: FilePath,
        /// What differs from the topology's `restart`.
        restart: RawRestart,
        /// What differs from the topology's `timing`.
        timing: RawTiming,
    }
}
