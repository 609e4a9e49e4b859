//! How fast one stream between two nodes is, as a share of a plain TCP connection in the same run.
//!
//! `cargo bench --bench one_stream`
//!
//! Two threads, each with a runtime of its own, as two processes would have; loopback; the transport of a node with its encryption,
//! multiplexing and counting. Plain TCP goes between two such threads, too, with writes of the same size.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use hippius::p2p::transport::{self, Parts};
use hippius::telemetry::instruments::P2pInstruments;
use libp2p::identity::Keypair;
use libp2p::swarm::{self, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/hippius/bench/1.0.0");
const BYTES: usize = 256 << 20;
const CHUNK: usize = 64 << 10;
const ROUNDS: usize = 5;
/// For the last packets of a connection to leave.
const FAREWELL: Duration = Duration::from_millis(50);

fn main() {
    let (mut plain, mut tcp, mut quic) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(plain_tcp());
        tcp.push(stream("/ip4/127.0.0.1/tcp/0"));
        quic.push(stream("/ip4/127.0.0.1/udp/0/quic-v1"));
    }
    let [plain, tcp, quic] = [plain, tcp, quic].map(median);
    println!("plain TCP                  {plain:8.0} MB/s");
    println!("stream over TCP            {tcp:8.0} MB/s  {:5.1} % of plain TCP", 100.0 * tcp / plain);
    println!("stream over QUIC           {quic:8.0} MB/s  {:5.1} % of plain TCP", 100.0 * quic / plain);
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn rate(took: Duration) -> f64 {
    BYTES as f64 / 1e6 / took.as_secs_f64()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Seconds from the first byte sent to the last one received and confirmed.
fn plain_tcp() -> f64 {
    let (tell, told) = mpsc::channel();
    let server = thread::spawn(move || {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address")).expect("a listener");
            let (mut stream, _) = listener.accept().await.expect("a client");
            let (mut buffer, mut left) = (vec![0; CHUNK], BYTES);
            while left > 0 {
                left -= stream.read(&mut buffer).await.expect("bytes");
            }
            stream.write_all(b"!").await.expect("a reader");
        });
    });
    let took = runtime().block_on(async {
        let mut stream =
            tokio::net::TcpStream::connect(told.recv().expect("an address")).await.expect("a server");
        let chunk = vec![7; CHUNK];
        let start = Instant::now();
        for _ in 0..BYTES / CHUNK {
            stream.write_all(&chunk).await.expect("a reader");
        }
        stream.read_u8().await.expect("a confirmation");
        start.elapsed()
    });
    server.join().expect("a good end");
    rate(took)
}

fn node() -> Swarm<libp2p_stream::Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let meter = opentelemetry::global::meter("bench");
    let (relay, _) = relay::client::new(keypair.public().to_peer_id());
    let traffic = transport::Traffic::new(&meter, &P2pInstruments::new(&meter));
    let parts =
        Parts { keypair: &keypair, traffic, streams: 128, tls: None, trusted: &[], webrtc: None, relay };
    let (transport, _) = transport::build(parts).expect("a transport");
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, libp2p_stream::Behaviour::new(), keypair.public().to_peer_id(), config)
}

fn stream(listen: &str) -> f64 {
    let listen: Multiaddr = listen.parse().expect("a multiaddr");
    let (tell, told) = mpsc::channel::<(PeerId, Multiaddr)>();
    let server = thread::spawn(move || {
        runtime().block_on(async {
            let mut swarm = node();
            swarm.listen_on(listen).expect("a listener");
            let mut streams = swarm.behaviour().new_control().accept(PROTOCOL).expect("the only one");
            let receive = async {
                let (_, mut stream) = streams.next().await.expect("a stream");
                let (mut buffer, mut left) = (vec![0; CHUNK], BYTES);
                while left > 0 {
                    left -= stream.read(&mut buffer).await.expect("bytes");
                }
                stream.write_all(b"!").await.expect("a reader");
                stream.close().await.expect("a reader");
            };
            let drive = async {
                loop {
                    match swarm.select_next_some().await {
                        SwarmEvent::NewListenAddr { address, .. } => {
                            tell.send((*swarm.local_peer_id(), address)).expect("a listener");
                        }
                        SwarmEvent::ConnectionClosed { .. } => return,
                        _ => {}
                    }
                }
            };
            futures::join!(receive, drive);
        });
    });
    let took = runtime().block_on(async {
        let mut swarm = node();
        let (peer, address) = told.recv().expect("an address");
        swarm.dial(address).expect("a dial");
        while !swarm.is_connected(&peer) {
            swarm.select_next_some().await;
        }
        let mut control = swarm.behaviour().new_control();
        let send = async {
            let mut stream = control.open_stream(peer, PROTOCOL).await.expect("a stream");
            let chunk = vec![7; CHUNK];
            let start = Instant::now();
            for _ in 0..BYTES / CHUNK {
                stream.write_all(&chunk).await.expect("a reader");
            }
            stream.flush().await.expect("a reader");
            stream.read_exact(&mut [0]).await.expect("a confirmation");
            start.elapsed()
        };
        let drive = async {
            loop {
                swarm.select_next_some().await;
            }
        };
        let took = tokio::select! {
            took = send => took,
            () = drive => unreachable!("the loop has no end"),
        };
        // Without a farewell the server waits for more until its patience ends.
        let _ = swarm.disconnect_peer_id(peer);
        while swarm.is_connected(&peer) {
            swarm.select_next_some().await;
        }
        tokio::time::sleep(FAREWELL).await;
        took
    });
    server.join().expect("a good end");
    rate(took)
}
