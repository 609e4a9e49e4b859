//! The bandwidth log: each interval one JSON line for every allocation that lives, and one for all together.
//!
//! ```json
//! {"timestamp":"2026-01-01T00:00:05.000Z","process":"turn","type":"allocation","allocation":1,"user":"9f…","client":"192.0.2.7:40000","transport":"udp","relay":"203.0.113.7:50000","bytes_sent":1000,"bytes_received":2000,"packets_sent":10,"packets_received":20}
//! {"timestamp":"2026-01-01T00:00:05.000Z","process":"turn","type":"total","allocations":1,"bytes_sent":1000,"bytes_received":2000,"packets_sent":10,"packets_received":20,"dropped":0,"refused":0}
//! ```
//!
//! A disk that is full or takes nothing holds up no packet: the file is written by a thread of its own, what cannot be written is
//! counted, and the trouble is told once.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Figures;
use super::config::BandwidthConfig;
use crate::supervisor::logs::file::LogFile;
use crate::topology::plan::LogPolicy;
use crate::turn::figures::{Traffic, TurnFigures};

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
        user: &'a str,
        /// `None` where the engine does not tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transport: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
    },
    Total {
        allocations: u64,
        dropped: u64,
        refused: u64,
    },
}

/// The lines about `figures`.
fn lines(process: &str, figures: &TurnFigures, now: SystemTime) -> String {
    let timestamp = humantime::format_rfc3339_millis(now).to_string();
    let mut text = String::with_capacity(256 * (figures.live.len() + 1));
    let mut add = |of: Of<'_>, traffic: Traffic| {
        let line = Line {
            timestamp: &timestamp,
            process,
            of,
            bytes_sent: traffic.sent_bytes,
            bytes_received: traffic.received_bytes,
            packets_sent: traffic.sent_packets,
            packets_received: traffic.received_packets,
        };
        // Plain numbers and texts are always JSON, and a string takes everything.
        if let Ok(line) = serde_json::to_string(&line) {
            let _ = writeln!(text, "{line}");
        }
    };
    for allocation in &figures.live {
        let known = !allocation.client.ip().is_unspecified();
        add(
            Of::Allocation {
                allocation: allocation.id,
                user: &allocation.user,
                client: known.then(|| allocation.client.to_string()),
                transport: known.then_some(allocation.transport),
                relay: known.then(|| allocation.relay.to_string()),
            },
            allocation.traffic,
        );
    }
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    add(
        Of::Total {
            allocations: figures.allocations,
            dropped: sum(&mut figures.dropped.iter().map(|(_, count)| *count)),
            refused: sum(&mut figures.refused.iter().map(|(_, count)| *count)),
        },
        figures.traffic,
    );
    text
}

/// Writes until `stop`, and then once more. `failures` counts the writes that the system did not take.
pub(super) async fn run(
    process: String,
    config: BandwidthConfig,
    figures: Figures,
    failures: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    if !config.enabled {
        return;
    }
    let policy = LogPolicy { max_bytes: config.max_bytes, keep: config.keep };
    let mut file = Some(LogFile::new(config.log_file.clone(), policy));
    let mut in_trouble = false;
    let mut ticks = tokio::time::interval(config.interval.max(std::time::Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let Some(mut writer) = file.take() else { return };
        let text = lines(&process, &figures(), SystemTime::now());
        let folder = config.log_file.parent().map(std::path::Path::to_owned);
        let written = tokio::task::spawn_blocking(move || {
            let result =
                folder.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| writer.append(text.as_bytes()));
            (writer, result)
        })
        .await;
        let Ok((writer, result)) = written else { return };
        file = Some(writer);
        match result {
            Ok(()) if in_trouble => {
                in_trouble = false;
                tracing::info!(file = %config.log_file.display(), "the bandwidth log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                if !in_trouble {
                    in_trouble = true;
                    tracing::warn!(file = %config.log_file.display(), %error, "the bandwidth log cannot be written; relaying goes on");
                }
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::turn::figures::{AllocationFigures, DropReason};

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

    #[test]
    fn a_line_for_each_allocation_and_one_for_all() {
        let text = lines("turn", &figures(1_000), UNIX_EPOCH + Duration::from_secs(5));
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({
                "timestamp": "1970-01-01T00:00:05.000Z", "process": "turn", "type": "allocation", "allocation": 7,
                "user": "0123456789abcdef", "client": "192.0.2.7:40000", "transport": "tcp", "relay": "203.0.113.7:50000",
                "bytes_sent": 30, "bytes_received": 1000, "packets_sent": 4, "packets_received": 2,
            })
        );
        assert_eq!(lines[1]["type"], "total");
        assert_eq!((&lines[1]["dropped"], &lines[1]["refused"]), (&5.into(), &9.into()));
        assert_eq!(lines.len(), 2);
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
        let task = tokio::spawn(run("turn".to_owned(), config, figures, failures.clone(), stop.clone()));
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
