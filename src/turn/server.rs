//! The relay as a whole: [`TurnServer::bind`], the handle, [`TurnServer::shutdown`].

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{ConfigError, TurnConfig};
use super::endings::Endings;
use super::engine::{Engine, Shared};
use super::figures::{Counters, TurnFigures};
use super::filter::PeerFilter;
use super::io::sockets;
use super::io::stream::{self, Front};
use super::io::worker::{Resources, Worker, WorkerHandle};
use super::ports::{Ports, Reservations};
use super::quota::ConnectionQuota;
use crate::tls::TlsError;
use crate::tls::serving::Serving;

/// Ports tried where any will do.
const PORT_TRIES: u32 = 16;

/// Why a relay cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({protocol}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `UDP`, `TCP` or `TLS`.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Something that every program needs is not to be had: threads, file descriptors.
    #[error("cannot start the relay: {0}")]
    System(#[source] io::Error),
}

/// Where a relay listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    /// STUN and TURN over UDP.
    pub udp: Vec<SocketAddr>,
    /// … over TCP.
    pub tcp: Vec<SocketAddr>,
    /// … over TLS.
    pub tls: Vec<SocketAddr>,
}

/// A running relay. Dropping it ends it, too, without waiting until it has.
#[derive(Debug)]
pub struct TurnServer {
    addresses: LocalAddresses,
    shared: Arc<Shared>,
    resources: Arc<Resources>,
    counters: Vec<Arc<Counters>>,
    front: Arc<Front>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl TurnServer {
    /// Starts a relay; all addresses are bound when this returns. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the configuration is wrong, an address is taken or not ours, or the certificate cannot be used.
    pub fn bind(config: &TurnConfig) -> Result<TurnServer, BindError> {
        config.check()?;
        let certificate = config.tls.as_ref().map(|files| Serving::open(files, &[])).transpose()?;
        let own = sockets::own_addresses().map_err(BindError::System)?;
        let workers = worker_count(config.workers);

        let listen = each_address(&config.listen, &own);
        let mut addresses = LocalAddresses::default();
        let (udp, tcp) = bind_both(&listen, workers, &mut addresses)?;
        let tls = each_address(&config.tls_listen, &own);
        let tls = tls.iter().map(|address| bind_tcp(*address, "TLS")).collect::<Result<Vec<_>, _>>()?;
        addresses.tls = local_addresses(&tls);

        let relay_addresses = relay_addresses(config, &addresses);
        let filter = filter(config, own, &relay_addresses, &addresses);
        let now = Instant::now();
        let shared = Arc::new(Shared::new(config.clone(), filter, [rand::random(), rand::random()], now));
        let resources = Arc::new(Resources {
            ports: Ports::new(config.ports, &relay_addresses),
            reservations: Reservations::default(),
            relay_addresses,
        });

        let (mut handles, mut counters, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        for listeners in udp {
            let own_counters = Arc::new(Counters::default());
            let engine = Engine::new(Arc::clone(&shared), Arc::clone(&own_counters), now, SystemTime::now());
            let (worker, handle) =
                Worker::new(engine, listeners, Arc::clone(&resources), Arc::clone(&own_counters))
                    .map_err(BindError::System)?;
            handles.push(handle);
            counters.push(own_counters);
            ready.push(worker);
        }
        let front = front(config, handles, &counters);
        let mut server = TurnServer { addresses, shared, resources, counters, front, threads: Vec::new() };
        server.serve_streams(tcp, tls, certificate)?;
        // From here on a failure drops the server, which stops the threads.
        for (index, worker) in ready.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("relay-{index}"));
            server.threads.push(thread.spawn(move || worker.run()).map_err(BindError::System)?);
        }
        Ok(server)
    }

    /// Where it listens; with port 0 in the configuration this tells the port.
    #[must_use]
    pub fn local_addresses(&self) -> &LocalAddresses {
        &self.addresses
    }

    /// What it has done so far, and what lives now. Costs a lock for a moment and nothing else.
    #[must_use]
    pub fn snapshot(&self) -> TurnFigures {
        let mut figures = TurnFigures { live: self.shared.registry.list(), ..TurnFigures::default() };
        self.counters.iter().for_each(|counters| counters.add_to(&mut figures));
        figures.allocations = figures.live.len() as u64;
        figures.connections = u64::from(self.front.quota.taken());
        figures
    }

    /// Where the last figures of each allocation go when it ends, also those that end with the server.
    #[must_use]
    pub fn endings(&self) -> Endings {
        self.shared.registry.endings.clone()
    }

    /// How many ports are given out: one for each family of each allocation, and those reserved for a next request.
    #[must_use]
    pub fn ports_in_use(&self) -> u32 {
        self.resources.ports.taken()
    }

    /// Ends every allocation and connection, and returns when all is over, with what it has done in all.
    pub async fn shutdown(mut self) -> TurnFigures {
        self.end();
        self.front.tasks.close();
        self.front.tasks.wait().await;
        let threads = std::mem::take(&mut self.threads);
        let join = || threads.into_iter().all(|thread| matches!(thread.join(), Ok(Ok(()))));
        if !tokio::task::spawn_blocking(join).await.is_ok_and(|all| all) {
            tracing::error!("a thread of the relay has failed");
        }
        self.snapshot()
    }

    fn end(&self) {
        self.front.stop.cancel();
        self.front.workers.iter().for_each(WorkerHandle::stop);
    }

    fn serve_streams(
        &self,
        tcp: Vec<TcpListener>,
        tls: Vec<TcpListener>,
        certificate: Option<Serving>,
    ) -> Result<(), BindError> {
        let front = &self.front;
        let serve = |listener: TcpListener, tls: Option<TlsAcceptor>| -> Result<(), BindError> {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(BindError::System)?;
            front.tasks.spawn(stream::accept(Arc::clone(front), listener, tls));
            Ok(())
        };
        tcp.into_iter().try_for_each(|listener| serve(listener, None))?;
        let Some(certificate) = certificate else { return Ok(()) };
        tls.into_iter().try_for_each(|listener| serve(listener, Some(certificate.acceptor())))?;
        let stop = front.stop.clone();
        front.tasks.spawn(async move { certificate.follow(stop).await });
        Ok(())
    }
}

impl Drop for TurnServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn front(config: &TurnConfig, workers: Vec<WorkerHandle>, counters: &[Arc<Counters>]) -> Arc<Front> {
    Arc::new(Front {
        workers,
        quota: ConnectionQuota::new(config.max_connections, config.max_connections_per_address),
        counters: Arc::clone(&counters[0]),
        message_timeout: config.message_timeout,
        idle_timeout: config.idle_timeout,
        queue_bytes: config.connection_queue_bytes as usize,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        next: Default::default(),
    })
}

/// One worker for every two processors: what a packet costs lies mostly in the kernel, which needs the others.
fn worker_count(wanted: u32) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, |count| count.get() / 2).max(1),
        wanted => wanted.min(64) as usize,
    }
}

/// `listen`, with the host's own addresses in place of unspecified ones.
fn each_address(listen: &[SocketAddr], own: &[IpAddr]) -> Vec<SocketAddr> {
    let of = |address: &SocketAddr| -> Vec<SocketAddr> {
        let port = address.port();
        // Link-local addresses need a zone, by which they would have to be named.
        let is_usable = |ip: &&IpAddr| {
            ip.is_ipv4() == address.is_ipv4() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
        };
        match address.ip().is_unspecified() {
            true => own.iter().filter(is_usable).map(|ip| SocketAddr::new(*ip, port)).collect(),
            false => vec![*address],
        }
    };
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in listen.iter().flat_map(of) {
        if address.port() == 0 || !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// Listens over UDP, once for each worker, and over TCP on the same ports.
#[allow(clippy::type_complexity, reason = "sockets by worker, and listeners")]
fn bind_both(
    listen: &[SocketAddr],
    workers: usize,
    addresses: &mut LocalAddresses,
) -> Result<(Vec<Vec<UdpSocket>>, Vec<TcpListener>), BindError> {
    let mut udp: Vec<Vec<UdpSocket>> = (0..workers).map(|_| Vec::new()).collect();
    let mut tcp = Vec::new();
    for &wanted in listen {
        // With any port wanted, TCP chooses one, which another program may have for UDP; then another is chosen.
        let mut tries = if wanted.port() == 0 { PORT_TRIES } else { 1 };
        let (listener, sockets) = loop {
            tries -= 1;
            match bind_one(wanted, workers) {
                Err(BindError::Listen { source, .. })
                    if tries > 0 && source.kind() == io::ErrorKind::AddrInUse => {}
                bound => break bound?,
            }
        };
        addresses.udp.push(listener.local_addr().map_err(BindError::System)?);
        tcp.push(listener);
        udp.iter_mut().zip(sockets).for_each(|(of_worker, socket)| of_worker.push(socket));
    }
    addresses.tcp = local_addresses(&tcp);
    Ok((udp, tcp))
}

/// One TCP listener, and a UDP socket for each worker on the same port.
fn bind_one(wanted: SocketAddr, workers: usize) -> Result<(TcpListener, Vec<UdpSocket>), BindError> {
    let listener = bind_tcp(wanted, "TCP")?;
    let address = listener.local_addr().map_err(BindError::System)?;
    let open = |worker| {
        if worker == 0 { sockets::listen(address, workers > 1) } else { sockets::listen_beside(address) }
    };
    let sockets = (0..workers).map(open).collect::<io::Result<_>>().map_err(|source| BindError::Listen {
        address,
        protocol: "UDP",
        source,
    })?;
    Ok((listener, sockets))
}

fn bind_tcp(address: SocketAddr, protocol: &'static str) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::Listen { address, protocol, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn local_addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Where relayed traffic leaves from: as configured, or from where clients come to.
fn relay_addresses(config: &TurnConfig, addresses: &LocalAddresses) -> Vec<IpAddr> {
    if !config.relay_addresses.is_empty() {
        return config.relay_addresses.clone();
    }
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in addresses.udp.iter().chain(&addresses.tls).map(SocketAddr::ip) {
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    for is_v6 in [false, true] {
        if all.iter().any(|ip| ip.is_ipv6() == is_v6 && !ip.is_loopback()) {
            all.retain(|ip| ip.is_ipv6() != is_v6 || !ip.is_loopback());
        }
    }
    all
}

fn filter(
    config: &TurnConfig,
    own: Vec<IpAddr>,
    relay_addresses: &[IpAddr],
    addresses: &LocalAddresses,
) -> PeerFilter {
    let external = config.external_address;
    let with_external = |of: &[IpAddr]| -> Vec<IpAddr> { of.iter().copied().chain(external).collect() };
    let inside: Vec<SocketAddr> =
        [&addresses.udp, &addresses.tcp, &addresses.tls].into_iter().flatten().copied().collect();
    let outside = inside.iter().filter_map(|service| Some(SocketAddr::new(external?, service.port())));
    PeerFilter {
        allow: config.allow.clone(),
        deny: config.deny.clone(),
        own: with_external(&own),
        relays: with_external(relay_addresses),
        services: outside.chain(inside.iter().copied()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::XorMappedAddress;
    use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteVec, TransactionId};
    use tokio::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn a_binding_request_is_answered_with_the_address_it_came_from() {
        let config = TurnConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], ..TurnConfig::default() };
        let server = TurnServer::bind(&config).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        client.send_to(&request, server.local_addresses().udp[0]).await.unwrap();
        let mut buffer = [0; 512];
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        let answer = Message::from_bytes(&buffer[..length]).unwrap();
        let transaction: TransactionId = Message::from_bytes(&request).unwrap().transaction_id();
        assert_eq!(answer.transaction_id(), transaction);
        let mapped = answer.attribute::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(transaction), client.local_addr().unwrap());
        assert_eq!(server.snapshot().bindings, 1);
        server.shutdown().await;
    }
}
