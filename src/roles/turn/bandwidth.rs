//! The bandwidth log: each interval one JSON line for every allocation that lives or has ended in it, and one for all together.
//!
//! ```json
//! {"timestamp":"2026-01-01T00:00:05.000Z","process":"turn","type":"allocation","allocation":1,"since":"2026-01-01T00:00:02.000Z","ended":false,"user":"9f…","client":"192.0.2.7:40000","transport":"udp","relay":"203.0.113.7:50000","bytes_sent":1000,"bytes_received":2000,"packets_sent":10,"packets_received":20}
//! {"timestamp":"2026-01-01T00:00:05.000Z","process":"turn","type":"total","allocations":1,"dropped":0,"refused":0,"missed":0,"bytes_sent":1000,"bytes_received":2000,"packets_sent":10,"packets_received":20}
//! ```
//!
//! - The last line of an allocation says `"ended":true` and what it has carried in all, however short it lived. Those last lines add up to
//!   the total.
//! - An interval in which nothing lived and nothing was counted has no line: a relay that nobody uses writes one line when it starts.
//! - A disk that is full or takes nothing holds up no packet: the file is written by a thread of its own, what cannot be written is counted,
//!   and the trouble is told once. Last lines that could not be written are written as soon as they can be; there is room for so many, and
//!   `missed` counts those beyond.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Figures;
use super::config::BandwidthConfig;
use crate::supervisor::logs::file::LogFile;
use crate::topology::plan::LogPolicy;
use crate::turn::endings::Endings;
use crate::turn::figures::{AllocationFigures, Traffic, TurnFigures};

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    process: &'a str,
    #[serde(flatten)]
    of: Of<'a>,
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
}

/// What a line is about.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Of<'a> {
    Allocation {
        allocation: u64,
        /// With the number it tells apart the allocations of a relay that was started again.
        since: String,
        ended: bool,
        user: &'a str,
        /// `None` where the engine does not tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transport: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
    },
    Total(Total),
}

/// What is told of all allocations together, besides their traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Total {
    allocations: u64,
    dropped: u64,
    refused: u64,
    missed: u64,
}

impl Total {
    fn of(figures: &TurnFigures, missed: u64) -> Self {
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        Self {
            allocations: figures.allocations,
            dropped: sum(&mut figures.dropped.iter().map(|(_, count)| *count)),
            refused: sum(&mut figures.refused.iter().map(|(_, count)| *count)),
            missed,
        }
    }
}

/// The lines of one moment.
struct Page<'a> {
    timestamp: String,
    process: &'a str,
    text: String,
}

impl<'a> Page<'a> {
    fn new(process: &'a str, now: SystemTime) -> Self {
        Self { timestamp: humantime::format_rfc3339_millis(now).to_string(), process, text: String::new() }
    }

    fn add(&mut self, of: Of<'_>, traffic: Traffic) {
        let line = Line {
            timestamp: &self.timestamp,
            process: self.process,
            of,
            bytes_sent: traffic.sent_bytes,
            bytes_received: traffic.received_bytes,
            packets_sent: traffic.sent_packets,
            packets_received: traffic.received_packets,
        };
        // Plain numbers and texts are always JSON, and a string takes everything.
        if let Ok(line) = serde_json::to_string(&line) {
            let _ = writeln!(self.text, "{line}");
        }
    }

    fn allocation(&mut self, allocation: &AllocationFigures, ended: bool) {
        let known = !allocation.client.ip().is_unspecified();
        let of = Of::Allocation {
            allocation: allocation.id,
            since: humantime::format_rfc3339_millis(allocation.since).to_string(),
            ended,
            user: &allocation.user,
            client: known.then(|| allocation.client.to_string()),
            transport: known.then_some(allocation.transport),
            relay: known.then(|| allocation.relay.to_string()),
        };
        self.add(of, allocation.traffic);
    }
}

/// Why lines are written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It is time.
    Interval,
    /// So many allocations have ended that their last figures should not wait.
    Crowded,
    /// The role ends.
    End,
}

/// The log of one relay.
pub(super) struct BandwidthLog {
    process: String,
    config: BandwidthConfig,
    figures: Figures,
    endings: Endings,
    /// Writes that the system did not take.
    failures: Arc<AtomicU64>,
    /// Ended allocations whose last lines are still to be written.
    due: Vec<AllocationFigures>,
    /// The total that was written last.
    told: Option<(Total, Traffic)>,
    in_trouble: bool,
}

impl BandwidthLog {
    /// For the engine that `figures` and `endings` belong to.
    pub(super) fn new(
        process: String,
        config: BandwidthConfig,
        figures: Figures,
        endings: Endings,
        failures: Arc<AtomicU64>,
    ) -> Self {
        if config.enabled {
            endings.listen();
        }
        let (due, told, in_trouble) = (Vec::new(), None, false);
        Self { process, config, figures, endings, failures, due, told, in_trouble }
    }

    /// Writes until `stop`, and then once more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        if !self.config.enabled {
            return;
        }
        let policy = LogPolicy { max_bytes: self.config.max_bytes, keep: self.config.keep };
        let mut file = LogFile::new(self.config.log_file.clone(), policy);
        let mut ticks = tokio::time::interval(self.config.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let cause = tokio::select! {
                biased;
                () = stop.cancelled() => Cause::End,
                _ = ticks.tick() => Cause::Interval,
                // While nothing can be written there is no use in hurry.
                () = self.endings.crowded(), if !self.in_trouble => Cause::Crowded,
            };
            if let Some((text, total)) = self.lines(cause, SystemTime::now()) {
                let folder = self.config.log_file.parent().map(Path::to_owned);
                let written = tokio::task::spawn_blocking(move || {
                    let folder = folder.map_or(Ok(()), std::fs::create_dir_all);
                    let result = folder.and_then(|()| file.append(text.as_bytes()));
                    (file, result)
                })
                .await;
                let Ok((back, result)) = written else { return };
                file = back;
                self.written(result, total);
            }
            if cause == Cause::End {
                return;
            }
        }
    }

    /// What there is to say, and the total that it ends with. `None` where nothing lived and nothing has changed since it was said last.
    fn lines(&mut self, cause: Cause, now: SystemTime) -> Option<(String, (Total, Traffic))> {
        if self.due.is_empty() {
            // Before the figures, so that nothing is both ended and alive.
            self.due = self.endings.take();
        }
        let figures = (self.figures)();
        let total = (Total::of(&figures, self.endings.missed()), figures.traffic);
        let live = if cause == Cause::Crowded { &[][..] } else { &figures.live };
        if live.is_empty() && self.due.is_empty() && self.told == Some(total) {
            return None;
        }
        let mut page = Page::new(&self.process, now);
        page.text.reserve(320 * (live.len() + self.due.len() + 1));
        self.due.iter().for_each(|allocation| page.allocation(allocation, true));
        live.iter().for_each(|allocation| page.allocation(allocation, false));
        page.add(Of::Total(total.0), total.1);
        Some((page.text, total))
    }

    /// What became of the lines.
    fn written(&mut self, result: std::io::Result<()>, total: (Total, Traffic)) {
        let file = self.config.log_file.display();
        match result {
            Ok(()) => {
                self.due.clear();
                self.told = Some(total);
                if std::mem::take(&mut self.in_trouble) {
                    tracing::info!(%file, "the bandwidth log is written again");
                }
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.in_trouble, true) {
                    tracing::warn!(%file, %error, "the bandwidth log cannot be written; relaying goes on");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::turn::endings::MAX_ENDINGS;
    use crate::turn::figures::DropReason;

    fn figures(received_bytes: u64) -> TurnFigures {
        let traffic = Traffic { received_bytes, received_packets: 2, sent_bytes: 30, sent_packets: 4 };
        let live = AllocationFigures {
            id: 7,
            user: "0123456789abcdef".to_owned(),
            client: "192.0.2.7:40000".parse().unwrap(),
            transport: "tcp",
            relay: "203.0.113.7:50000".parse().unwrap(),
            since: UNIX_EPOCH,
            traffic,
        };
        TurnFigures {
            allocations: 1,
            traffic,
            dropped: vec![(DropReason::Malformed, 3), (DropReason::Forbidden, 2)],
            refused: vec![(401, 9)],
            live: vec![live],
            ..TurnFigures::default()
        }
    }

    /// A log whose figures a test can change.
    struct Bench {
        log: BandwidthLog,
        figures: Arc<Mutex<TurnFigures>>,
        endings: Endings,
    }

    impl Bench {
        fn new(first: TurnFigures) -> Self {
            let (figures, endings) = (Arc::new(Mutex::new(first)), Endings::default());
            let reader = figures.clone();
            let read: Figures = Arc::new(move || reader.lock().unwrap().clone());
            let config = BandwidthConfig::default();
            let log = BandwidthLog::new("turn".to_owned(), config, read, endings.clone(), Arc::default());
            Self { log, figures, endings }
        }

        fn change(&self, how: impl FnOnce(&mut TurnFigures)) {
            how(&mut self.figures.lock().unwrap());
        }

        /// The next lines, which are written unless `fails`.
        fn next(&mut self, cause: Cause, fails: bool) -> Vec<serde_json::Value> {
            let now = UNIX_EPOCH + Duration::from_secs(5);
            let Some((text, total)) = self.log.lines(cause, now) else { return Vec::new() };
            self.log.written(if fails { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }, total);
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        /// What the next lines are about: the allocation's number, and whether it has ended; `None` for all.
        fn about(&mut self, cause: Cause, fails: bool) -> Vec<Option<(u64, bool)>> {
            let lines = self.next(cause, fails);
            let of = |line: &serde_json::Value| {
                Some((line["allocation"].as_u64()?, line["ended"].as_bool().unwrap()))
            };
            lines.iter().map(of).collect()
        }
    }

    #[test]
    fn a_line_for_each_allocation_and_one_for_all() {
        let lines = Bench::new(figures(1_000)).next(Cause::Interval, false);
        assert_eq!(
            lines[0],
            serde_json::json!({
                "timestamp": "1970-01-01T00:00:05.000Z", "process": "turn", "type": "allocation", "allocation": 7,
                "since": "1970-01-01T00:00:00.000Z", "ended": false,
                "user": "0123456789abcdef", "client": "192.0.2.7:40000", "transport": "tcp", "relay": "203.0.113.7:50000",
                "bytes_sent": 30, "bytes_received": 1000, "packets_sent": 4, "packets_received": 2,
            })
        );
        assert_eq!(lines[1]["type"], "total");
        assert_eq!((&lines[1]["dropped"], &lines[1]["refused"]), (&5.into(), &9.into()));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn an_allocation_that_ends_between_two_intervals_has_a_last_line() {
        let mut bench = Bench::new(figures(5));
        let all = [Some((7, false)), None];
        assert_eq!(bench.about(Cause::Interval, false), all);
        assert_eq!(bench.about(Cause::Interval, false), all, "it lives, though it is silent");
        // It ends, and another comes and goes.
        let mut last = figures(9).live.remove(0);
        bench.endings.add(last.clone());
        (last.id, last.traffic.sent_bytes) = (8, 77);
        bench.endings.add(last);
        bench.change(|now| (now.allocations, now.live) = (0, Vec::new()));
        let lines = bench.next(Cause::Interval, false);
        let told: Vec<_> = lines.iter().map(|line| (&line["allocation"], &line["ended"])).collect();
        let (yes, none) = (true.into(), serde_json::Value::Null);
        assert_eq!(told, [(&7.into(), &yes), (&8.into(), &yes), (&none, &none)]);
        assert_eq!((&lines[0]["bytes_received"], &lines[1]["bytes_sent"]), (&9.into(), &77.into()));
        assert!(bench.about(Cause::Interval, false).is_empty(), "told once");
    }

    #[test]
    fn a_relay_that_nobody_uses_writes_one_line() {
        let mut bench = Bench::new(TurnFigures::default());
        assert_eq!(bench.about(Cause::Interval, false), [None]);
        for _ in 0..3 {
            assert!(bench.about(Cause::Interval, false).is_empty());
        }
        bench.change(|now| now.refused = vec![(401, 1)]);
        assert_eq!(bench.about(Cause::Interval, false), [None], "something was counted");
        bench.change(|now| now.traffic.sent_bytes = 1);
        assert_eq!(bench.about(Cause::Interval, true), [None]);
        assert_eq!(bench.about(Cause::Interval, false), [None], "it was not written yet");
        assert!(bench.about(Cause::End, false).is_empty());
    }

    #[test]
    fn last_lines_wait_until_they_can_be_written() {
        let mut bench = Bench::new(figures(5));
        bench.endings.add(figures(5).live.remove(0));
        bench.change(|now| now.live[0].id = 9);
        assert_eq!(bench.about(Cause::Crowded, true), [Some((7, true)), None], "those that live can wait");
        let (mut more, places) = (figures(5).live.remove(0), MAX_ENDINGS as u64);
        for id in 0..places + 3 {
            more.id = 10 + id;
            bench.endings.add(more.clone());
        }
        let lines = bench.next(Cause::Interval, false);
        assert_eq!((&lines[0]["allocation"], &lines[1]["allocation"]), (&7.into(), &9.into()));
        assert_eq!(lines[2]["missed"], 3, "no more than these are lost");
        assert_eq!(bench.next(Cause::Interval, false).len() as u64, places + 2);
    }

    /// Runs the log on a file in a folder that a test prepares, until `done` says so.
    async fn write(file: std::path::PathBuf, done: impl AsyncFn(&AtomicU64)) -> u64 {
        let config = BandwidthConfig {
            interval: Duration::from_millis(1),
            log_file: file,
            max_bytes: 2_000,
            keep: 1,
            ..BandwidthConfig::default()
        };
        let (failures, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let figures: Figures = Arc::new(|| figures(5));
        let log = BandwidthLog::new("turn".to_owned(), config, figures, Endings::default(), failures.clone());
        let task = tokio::spawn(log.run(stop.clone()));
        tokio::time::timeout(Duration::from_secs(20), done(&failures)).await.unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
        failures.load(Ordering::Relaxed)
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn the_log_is_rotated_and_its_folder_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/turn_bandwidth.log");
        let rotated = crate::supervisor::logs::file::rotated(&path, 1);
        let failed = write(path.clone(), async |_| until(|| rotated.exists()).await).await;
        assert_eq!(failed, 0);
        assert!(std::fs::metadata(&path).unwrap().len() <= 2_000);
        assert!(!crate::supervisor::logs::file::rotated(&path, 2).exists());
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_is_counted_and_written_once_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turn_bandwidth.log");
        std::fs::create_dir(&path).unwrap();
        let failed = write(path.clone(), async |failures| {
            until(|| failures.load(Ordering::Relaxed) >= 3).await;
            std::fs::remove_dir(&path).unwrap();
            until(|| std::fs::metadata(&path).is_ok_and(|meta| meta.len() > 0)).await;
        })
        .await;
        assert!(failed >= 3);
    }
}
