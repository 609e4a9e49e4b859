//! A real Prometheus scrapes the page and answers the documented queries.

#[path = "telemetry_support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hippius::telemetry::instruments::{P2pInstruments, SignalingInstruments};
use support::{MetricsServer, eventually, record_everything};

struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: hippius\n    static_configs:\n      - \
             targets: ['{target}']\n"
        );
        std::fs::write(&config, text).unwrap();
        // The port is free now and asked for a moment later; Prometheus itself cannot say which port it took.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is needed: install the package `prometheus`");
        Self { child, address, _dir: dir }
    }

    /// The result of an instant query: its series as JSON, or `None` while there is no answer or no series.
    fn query(&self, query: &str) -> Option<Vec<serde_json::Value>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let mut json: serde_json::Value = serde_json::from_str(body).ok()?;
        let series = json.pointer_mut("/data/result")?.as_array_mut()?;
        (!series.is_empty()).then(|| std::mem::take(series))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(series: &serde_json::Value) -> f64 {
    series.pointer("/value/1").and_then(|value| value.as_str()).and_then(|value| value.parse().ok()).unwrap()
}

#[test]
fn the_documented_queries_work_as_written() {
    let server = MetricsServer::start();
    let prometheus = Prometheus::start(server.address);
    let interval = Duration::from_millis(200);
    let (_first, meter) = server.exporter("node-0", "node", interval);
    record_everything(&meter);
    let (_second, other) = server.exporter("node-1", "node", interval);
    record_everything(&other);
    let (p2p, signaling) = (P2pInstruments::new(&meter), SignalingInstruments::new(&meter));

    for query in ["p2p_connected_peers", "system_cpu_usage", "system_memory_usage", "ws_active_connections"] {
        let series = eventually(query, || prometheus.query(query).filter(|series| series.len() >= 2));
        for process in ["node-0", "node-1"] {
            let found = series.iter().find(|series| series["metric"]["process"] == process);
            let found = found.unwrap_or_else(|| panic!("{query} has no {process}: {series:?}"));
            assert_eq!(found["metric"]["role"], "node");
            assert!(value(found) >= 0.0);
        }
    }
    for query in ["rate(p2p_messages_received[5m])", "rate(ws_messages_sent[5m])"] {
        let growing = |series: &Vec<serde_json::Value>| {
            series.iter().any(|series| series["metric"]["process"] == "node-0" && value(series) > 0.0)
        };
        let series = eventually(query, || {
            p2p.messages_received.add(1, &[]);
            signaling.messages_sent.add(1, &[]);
            prometheus.query(query).filter(growing)
        });
        assert!(series.iter().all(|series| series["metric"]["process"] != "supervisor"));
    }
    // A dead process's gauges are gone from the next scrape on.
    server.store.lock().exited("node-1", 1);
    eventually("node-1 is gone", || {
        let series = prometheus.query("p2p_connected_peers")?;
        (series.len() == 1).then_some(())
    });
    assert!(prometheus.query("p2p_messages_received{process=\"node-1\"}").is_some());
}
