//! What coturn's log tells: who has an allocation, what was carried, what was refused, and what it complains of.
//!
//! With `verbose` it says what a session has carried every 2,048 packets, and once more at its end; the figures here are as fresh
//! as that. Lines look like `12: : session 001000000000000002: usage: realm=<…>, username=<…>, rp=…, rb=…, sp=…, sb=…`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use crate::turn::endings::Endings;
use crate::turn::figures::{AllocationFigures, REFUSALS, Traffic, TurnFigures};

/// Sessions that are kept apart; beyond, they count in the totals alone.
const MAX_SESSIONS: usize = 100_000;

/// What a line was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Something to count, or nothing.
    Counted,
    /// Something that somebody should read.
    Complaint(String),
}

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Log {
    sessions: BTreeMap<u64, Session>,
    total: Traffic,
    allocated: u64,
    auth_failures: u64,
    refused: BTreeMap<u16, u64>,
    /// Makes names of users out of their names.
    hasher: RandomState,
    endings: Endings,
}

#[derive(Debug)]
struct Session {
    user: String,
    since: SystemTime,
    traffic: Traffic,
}

impl Log {
    /// Takes in one line.
    pub fn hear(&mut self, line: &str) -> Heard {
        // The seconds since the start come first.
        let line = line.split_once(": : ").map_or(line, |(_, rest)| rest).trim();
        match line.strip_prefix("session ").and_then(|rest| rest.split_once(": ")) {
            Some((id, rest)) => {
                if let Ok(id) = id.parse() {
                    self.session(id, rest);
                }
                Heard::Counted
            }
            None => complaint(line),
        }
    }

    fn session(&mut self, id: u64, text: &str) {
        if let Some(rest) = text.strip_prefix("new, ") {
            self.allocated += 1;
            if self.sessions.len() < MAX_SESSIONS {
                let user = format!("{:016x}", self.hasher.hash_one(user(rest)));
                let session = Session { user, since: SystemTime::now(), traffic: Traffic::default() };
                self.sessions.insert(id, session);
            }
        } else if text.starts_with("closed") || text.starts_with("delete") {
            if let Some(session) = self.sessions.remove(&id) {
                self.endings.add(session.figures(id));
            }
        } else if let Some(rest) = text.strip_prefix("peer usage: ") {
            // Of what went over the relay's own port: payload alone. What peers sent goes on to the client.
            let count = |key: &str| {
                let value = rest.split(", ").find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
                value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
            };
            let more = Traffic {
                received_bytes: count("sb"),
                received_packets: count("sp"),
                sent_bytes: count("rb"),
                sent_packets: count("rp"),
            };
            add(&mut self.total, more);
            if let Some(session) = self.sessions.get_mut(&id) {
                add(&mut session.traffic, more);
            }
        } else if let Some((_, error)) = text.split_once("processed, error ") {
            let code = error.split(':').next().and_then(|code| code.trim().parse::<u16>().ok());
            if let Some(code) = code.filter(|code| REFUSALS.contains(code)) {
                *self.refused.entry(code).or_default() += 1;
                // A first request names nobody and is always refused: that is how a client learns the realm.
                self.auth_failures += u64::from(code == 401 && !text.contains("user <>"));
            }
        }
    }

    /// Where the last figures of each session go when it ends.
    #[must_use]
    pub fn endings(&self) -> Endings {
        self.endings.clone()
    }

    /// The program has ended, and with it all sessions that it has not told the end of.
    pub fn end(&mut self) {
        for (id, session) in std::mem::take(&mut self.sessions) {
            self.endings.add(session.figures(id));
        }
    }

    /// The figures so far.
    #[must_use]
    pub fn figures(&self) -> TurnFigures {
        let live = self.sessions.iter().map(|(id, session)| session.figures(*id));
        TurnFigures {
            allocations: self.sessions.len() as u64,
            allocated: self.allocated,
            traffic: self.total,
            refused: REFUSALS.map(|code| (code, self.refused.get(&code).copied().unwrap_or(0))).to_vec(),
            auth_failures: self.auth_failures,
            live: live.collect(),
            ..TurnFigures::default()
        }
    }
}

impl Session {
    /// What coturn's log does not tell stays unspecified.
    fn figures(&self, id: u64) -> AllocationFigures {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        AllocationFigures {
            id,
            user: self.user.clone(),
            client: nowhere,
            transport: "",
            relay: nowhere,
            since: self.since,
            traffic: self.traffic,
        }
    }
}

fn add(sum: &mut Traffic, more: Traffic) {
    sum.received_bytes = sum.received_bytes.saturating_add(more.received_bytes);
    sum.received_packets = sum.received_packets.saturating_add(more.received_packets);
    sum.sent_bytes = sum.sent_bytes.saturating_add(more.sent_bytes);
    sum.sent_packets = sum.sent_packets.saturating_add(more.sent_packets);
}

/// The name in `username=<1795905079:ada>`, without its expiry.
fn user(text: &str) -> &str {
    let name =
        text.split_once("username=<").map_or("", |(_, rest)| rest.split('>').next().unwrap_or_default());
    name.split_once(':').map_or(name, |(_, name)| name)
}

/// Whether `line` is one that somebody should read. What names a user is not, nor what every start says.
fn complaint(line: &str) -> Heard {
    /// Said of what is as it should be here: no TLS without a certificate, no SCTP in the kernel.
    const USUAL: [&str; 3] = ["CHANGE_REQUEST", "allow_loopback_peers", "certificate file is not set"];
    let is_one = ["ERROR", "WARNING", "FATAL", "Cannot", "cannot"].iter().any(|word| line.contains(word));
    let usual = USUAL.iter().any(|word| line.contains(word)) || line.contains("user <");
    if is_one && !usual { Heard::Complaint(line.to_owned()) } else { Heard::Counted }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As coturn 4.6.1 writes it.
    const LINES: &str = "\
0: : SQLite DB connection success: /tmp/db
0: : session 000000000000000001: realm <hippius> user <>: incoming packet message processed, error 401: Unauthorized
0: : IPv4. Local relay addr: 127.0.0.1:50000
0: : session 000000000000000001: new, realm=<hippius>, username=<1795905079:joe>, lifetime=777
0: : session 000000000000000001: realm <hippius> user <1795905079:joe>: incoming packet ALLOCATE processed, success
0: : session 001000000000000002: new, realm=<hippius>, username=<1795905999:joe>, lifetime=777
0: : session 001000000000000002: peer 127.0.0.1:34801 lifetime updated: 600
5: : session 001000000000000002: usage: realm=<hippius>, username=<1795905999:joe>, rp=1029, rb=514724, sp=1029, sb=514412
5: : session 001000000000000002: peer usage: realm=<hippius>, username=<1795905999:joe>, rp=1019, rb=509500, sp=1020, sb=510000
6: : session 001000000000000002: peer usage: realm=<hippius>, username=<1795905999:joe>, rp=1, rb=500, sp=0, sb=0
8: : ERROR: check_stun_auth: Cannot find credentials of user <1795905087:eve>
8: : session 000000000000000003: realm <hippius> user <1795905087:eve>: incoming packet message processed, error 401: Unauthorized
9: : session 000000000000000003: realm <hippius> user <1795905087:eve>: incoming packet message processed, error 999: ?
9: : session 000000000000000001: closed (2nd stage), user <1795905079:joe> realm <hippius> origin <>, local 127.0.0.1:1, remote 127.0.0.1:2, reason: allocation timeout
";

    #[test]
    fn sessions_traffic_and_refusals_are_counted() {
        let mut log = Log::default();
        for line in LINES.lines() {
            assert_eq!(log.hear(line), Heard::Counted, "{line}");
        }
        let figures = log.figures();
        assert_eq!((figures.allocations, figures.allocated, figures.auth_failures), (1, 2, 1));
        assert_eq!(figures.refused_with(401), 2);
        let expected = Traffic {
            received_bytes: 510_000,
            received_packets: 1_020,
            sent_bytes: 510_000,
            sent_packets: 1_020,
        };
        assert_eq!(figures.traffic, expected);
        assert_eq!(figures.live[0].traffic, expected);
        assert_eq!(figures.live[0].id, 1_000_000_000_000_002);
    }

    #[test]
    fn the_last_figures_of_a_session_are_told_when_it_ends_or_coturn_does() {
        let mut log = Log::default();
        let endings = log.endings();
        endings.listen();
        LINES.lines().for_each(|line| drop(log.hear(line)));
        let told = |endings: &Endings| -> Vec<(u64, u64)> {
            endings.take().iter().map(|of| (of.id, of.traffic.sent_bytes)).collect()
        };
        assert_eq!(told(&endings), [(1, 0)]);
        log.hear(
            "9: : session 001000000000000002: closed (2nd stage), user <1795905999:joe> realm <hippius>",
        );
        log.hear("9: : session 001000000000000002: delete: realm=<hippius>, username=<1795905999:joe>");
        assert_eq!(told(&endings), [(1_000_000_000_000_002, 510_000)]);
        log.hear("9: : session 3: new, realm=<hippius>, username=<1795905999:joe>, lifetime=777");
        log.end();
        assert_eq!(told(&endings), [(3, 0)]);
        assert_eq!(log.figures().allocations, 0);
    }

    #[test]
    fn one_user_has_one_name_that_does_not_tell_who() {
        let mut log = Log::default();
        log.hear("0: : session 1: new, realm=<r>, username=<1:joe>, lifetime=777");
        log.hear("0: : session 2: new, realm=<r>, username=<2:joe>, lifetime=777");
        log.hear("0: : session 3: new, realm=<r>, username=<2:ada>, lifetime=777");
        let users: Vec<String> = log.figures().live.into_iter().map(|live| live.user).collect();
        assert!(users[0] == users[1] && users[0] != users[2] && !users[0].contains("joe"), "{users:?}");
    }

    #[test]
    fn troubles_are_passed_on_and_rubbish_is_borne() {
        let mut log = Log::default();
        let trouble = "3: : ERROR: Cannot bind local socket to addr: Address already in use";
        assert!(
            matches!(log.hear(trouble), Heard::Complaint(text) if text.starts_with("ERROR: Cannot bind"))
        );
        for rubbish in [
            "",
            ": : ",
            "session",
            "session : ",
            "session x: new, ",
            "session 1: peer usage: rb=x, sb=",
            "é: : session 9: new, username=<",
        ] {
            assert_eq!(log.hear(rubbish), Heard::Counted, "{rubbish}");
        }
    }
}
