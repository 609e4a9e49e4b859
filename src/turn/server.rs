//! The relay as a whole: [`TurnServer::bind`], the handle, [`TurnServer::shutdown`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{ConfigError, TurnConfig};
use super::figures::{Counters, DropReason, Registry, TurnFigures};
use crate::tls::TlsError;

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
    counters: Arc<Counters>,
    registry: Arc<Registry>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl TurnServer {
    /// Starts a relay; all addresses are bound when this returns. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the configuration is wrong, an address is taken or not ours, or the certificate cannot be used.
    pub fn bind(config: &TurnConfig) -> Result<TurnServer, BindError> {
        config.check()?;
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut addresses = LocalAddresses::default();
        for &address in &config.listen {
            let failed = |source| BindError::Listen { address, protocol: "UDP", source };
            let socket = std::net::UdpSocket::bind(address).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            addresses.udp.push(socket.local_addr().map_err(failed)?);
            let socket = UdpSocket::from_std(socket).map_err(failed)?;
            let serving = serve(socket, Arc::clone(&counters));
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serving => {}
                }
            });
        }
        Ok(TurnServer { addresses, counters, registry: Arc::default(), stop, tasks })
    }

    /// Where it listens; with port 0 in the configuration this tells the port.
    #[must_use]
    pub fn local_addresses(&self) -> &LocalAddresses {
        &self.addresses
    }

    /// What it has done so far, and what lives now. Costs a lock for a moment and nothing else.
    #[must_use]
    pub fn snapshot(&self) -> TurnFigures {
        let mut figures = TurnFigures { live: self.registry.list(), ..TurnFigures::default() };
        self.counters.add_to(&mut figures);
        figures.allocations = figures.live.len() as u64;
        figures
    }

    /// Ends every allocation and connection, and returns when all is over.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for TurnServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(socket: UdpSocket, counters: Arc<Counters>) {
    let mut buffer = vec![0; 2_048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        match Message::from_bytes(&buffer[..length]) {
            Ok(message) if message.has_class(MessageClass::Request) && message.has_method(BINDING) => {
                let mut answer = Message::builder_success(&message, MessageWriteVec::new());
                let _ = answer.add_attribute(&XorMappedAddress::new(from, message.transaction_id()));
                let _ = socket.send_to(&answer.finish(), from).await;
                counters.bindings.fetch_add(1, Ordering::Relaxed);
            }
            _ => counters.drop_one(DropReason::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stun_types::message::TransactionId;

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
