//! The topology file as it is written: every table and key, in one place.
//!
//! The reader of each table and the JSON Schema for editors both come from these definitions; the doc
//! comments are what an editor shows. Nothing here leaves the loader.

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use super::address::{Bootnode, Listen};
use super::reader::{FromToml, Key, List, OneOrMany, Reader};
use super::scalar::{Bind, Integer, Name, Origin, Period, Policy, Port, Size, Topic};

/// Most bootnodes one node may know; each is asked at the start.
pub(super) const MAX_BOOTNODES: usize = 100;
/// Most addresses one node may listen on.
pub(super) const MAX_LISTEN: usize = 16;
/// Most topics a node may join at the start.
pub(super) const MAX_TOPICS: usize = crate::p2p::handle::MAX_TOPICS;

/// Most origins that a signaling server may be told to admit; each is compared with every new client's.
pub(super) const MAX_ORIGINS: usize = 64;

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

    /// One libp2p node, or a group of equal ones.
    #[schemars(rename = "Node")]
    struct RawNode {
        /// The name of the process, or of the group. Default `node`, for bootnodes `bootnode`.
        name: Name,
        /// How many. They are called NAME-0, NAME-1 and so on; without this key there is one, called NAME.
        count: Integer<1, 1_000>,
        /// TCP multiaddrs to listen on. Default: a free port of `bind`.
        listen: List<Listen, 1, MAX_LISTEN>,
        /// Where to find the network: names of bootnodes in this file (a group's name means all of it), or
        /// multiaddrs that end in /p2p/PEER_ID. Default: all bootnodes of this file; for bootnodes none.
        bootnodes: List<Bootnode, 0, MAX_BOOTNODES>,
        /// Gossipsub topics to join at the start.
        topics: List<Topic, 0, MAX_TOPICS>,
        /// Discovery on the local network. Not part of this version: only `false` is possible.
        #[schemars(extend("default" = false))]
        mdns: bool,
        /// How many connections it keeps.
        connections: RawConnections,
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
        /// What differs from the topology's `restart`.
        restart: RawRestart,
        /// What differs from the topology's `timing`.
        timing: RawTiming,
    }
}
