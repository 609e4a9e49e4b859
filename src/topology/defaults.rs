//! What holds where a topology says nothing. The reference in `docs/topology.md` is tested against these.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::plan::{ConnectionMarks, LogPolicy, RestartPolicy, RestartWhen, Timing};

pub(super) const NAME: &str = "network";
/// Nothing is reachable from elsewhere unless the file says so.
pub(super) const BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(super) const WEB_PORT: u16 = 3_000;
pub(super) const SIGNALING_PORT: u16 = 8_001;
pub(super) const METRICS_PORT: u16 = 9_091;
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
