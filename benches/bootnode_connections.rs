//! What a bootnode costs that holds a thousand connections: memory for each, and CPU when nothing happens.
//!
//! `cargo bench --bench bootnode_connections`
//!
//! The bootnode is a process of its own; the thousand are whole nodes with all protocols, in this process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hippius::p2p::{Handle, Identity, NodeConfig, NodeRole, start};
use hippius::telemetry::instruments::P2pInstruments;
use libp2p::Multiaddr;

const CONNECTIONS: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(120);
/// How long the bootnode is watched when nothing happens.
const WINDOW: Duration = Duration::from_secs(20);

/// Ends the bootnode whatever happens.
struct Bootnode(Child);

impl Drop for Bootnode {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    hippius::roles::runtime::raise_file_limit();
    let folder = tempfile::tempdir().expect("a folder");
    let (bootnode, address) = start_bootnode(folder.path());
    let pid = bootnode.0.id();
    std::thread::sleep(Duration::from_secs(2));
    let before = pss_kb(pid);
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
        let mut nodes = Vec::new();
        let began = Instant::now();
        for number in 0..CONNECTIONS {
            nodes.push(start_node(&folder.path().join(number.to_string()), &address).await);
        }
        for node in &nodes {
            while node.status().await.expect("a running node").connected_peers == 0 {
                assert!(began.elapsed() < DEADLINE, "not all nodes are connected");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!("{CONNECTIONS} nodes connected after            {:8.1} s", began.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = pss_kb(pid);
        println!("memory (PSS) of the bootnode alone     {:8.1} MB", before as f64 / 1024.0);
        println!("memory (PSS) with all connections      {:8.1} MB", after as f64 / 1024.0);
        println!(
            "for each connection                    {:8.1} KB",
            (after - before) as f64 / CONNECTIONS as f64
        );
        let used = cpu_seconds(pid);
        tokio::time::sleep(WINDOW).await;
        let used = (cpu_seconds(pid) - used) / WINDOW.as_secs_f64();
        println!("CPU of the bootnode, nothing happening {:8.1} % of one core", used * 100.0);
        let mut connected = 0;
        for node in &nodes {
            connected += node.status().await.expect("a running node").connected_peers;
        }
        println!("still connected                        {connected:8}");
    });
}

fn start_bootnode(folder: &std::path::Path) -> (Bootnode, Multiaddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hippius"))
        .args(["bootnode", "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"])
        .arg(folder.join("bootnode"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a bootnode");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| {
            line.split([' ', '"']).find(|word| word.contains("/p2p/")).and_then(|word| word.parse().ok())
        })
        .expect("an address in its log");
    std::thread::spawn(move || lines.for_each(drop));
    (Bootnode(child), address)
}

async fn start_node(folder: &std::path::Path, bootnode: &Multiaddr) -> Handle {
    let meter = opentelemetry::global::meter("bench");
    // Neither looks for others: every connection is one with the bootnode.
    let config = NodeConfig { bootnodes: vec![bootnode.clone()], low_peers: 0, ..NodeConfig::default() };
    let identity = Identity::open(folder).expect("an identity");
    start(config, identity, NodeRole::Node, P2pInstruments::new(&meter), &meter).await.expect("a node").handle
}

fn pss_kb(pid: u32) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a running bootnode");
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .expect("a PSS")
}

fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("a running bootnode");
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).expect("a time") / 1e9
}
