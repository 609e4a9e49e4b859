//! What holds where a topology says nothing. The reference in `docs/topology.md` is tested against these.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::plan::{ConnectionMarks, LogPolicy, RestartPolicy, RestartWhen, Timing, TurnPorts};

pub(super) const NAME: &str = "network";
/// Nothing is reachable from elsewhere unless the file says so.
pub(super) const BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(super) const WEB_PORT: u16 = 3_000;
pub(super) const SIGNALING_PORT: u16 = 8_001;
pub(super) const METRICS_PORT: u16 = 9_091;
/// RFC 8656, section 5; for TLS below.
pub(super) const TURN_PORT: u16 = 3_478;
pub(super) const TURN_TLS_PORT: u16 = 5_349;
pub(super) const TURN_REALM: &str = "hippius";
/// The ports that RFC 8656, section 7.2, recommends.
pub(super) const TURN_RELAY_PORTS: TurnPorts = TurnPorts { min: 49_152, max: 65_535 };
/// Of the sixteen thousand ports above; each allocation takes one.
pub(super) const TURN_MAX_ALLOCATIONS: u32 = 10_000;
/// A browser makes one per network interface, transport and connection; a page has a few dozen connections at most.
pub(super) const TURN_MAX_PER_USER: u32 = 100;
/// An office behind one address fits, a single stranger does not fill the server.
pub(super) const TURN_MAX_PER_ADDRESS: u32 = 1_000;
/// Hundreds of browsers behind one address fit; whose address is forged is sent 15 KB a second.
pub(super) const TURN_STRANGER_ANSWERS: u32 = 100;
/// Long enough for most calls, short enough that what leaks is soon worth nothing.
pub(super) const TURN_CREDENTIAL_LIFETIME: Duration = Duration::from_secs(3_600);
/// The first restart is immediate, the following are 0.1, 0.2, 0.4 … s apart: a process that dies as soon as it
/// starts reaches ten restarts within a minute, one that runs for ten seconds in between never does.
pub(super) const RESTART: RestartPolicy = RestartPolicy {
    when: RestartWhen::Always,
    backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(30),
    limit: 10,
    within: Duration::from_secs(60),
};
pub(super) const TIMING: Timing = Timing {
    start_timeout: Duration::from_secs(30),
    watchdog: Duration::from_secs(10),
    stop_grace: Duration::from_secs(5),
};
pub(super) const LOGS: LogPolicy = LogPolicy { max_bytes: 10 << 20, keep: 3 };
/// Gossip keeps a mesh of six; above sixteen a swarm on one machine spends its time on connections.
pub(super) const NODE_CONNECTIONS: ConnectionMarks = ConnectionMarks { low: 6, high: 16 };
/// A bootnode answers everyone and looks for nobody.
pub(super) const BOOTNODE_CONNECTIONS: ConnectionMarks = ConnectionMarks { low: 0, high: 1_000 };
