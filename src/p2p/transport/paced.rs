//! Smart dialling: of a peer's addresses the best is tried first, and the next only when it has not answered soon, so that usually one
//! connection is made and not one per address. The way of Happy Eyeballs (RFC 8305), applied to transports.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

use crate::p2p::address::choice::is_loopback;
use crate::p2p::address::{self, Route, TransportKind};

/// How long the next address waits for the better ones (RFC 8305's "connection attempt delay").
const STEP: Duration = Duration::from_millis(250);
/// The same on this host, where an answer takes microseconds, except while a hundred nodes start at once: with less than this, some
/// of them come to WebRTC, which costs the most, before TCP had a chance.
const LOOPBACK_STEP: Duration = Duration::from_millis(100);

/// How long each of `addresses` is to wait, best first. Direct comes before relayed. Then, on loopback, TCP first, as it costs the least
/// there; elsewhere QUIC, which needs the fewest round trips and passes NATs best. WebRTC comes last: it takes the most of both.
#[must_use]
pub(crate) fn schedule(mut addresses: Vec<Multiaddr>) -> Vec<(Multiaddr, Duration)> {
    addresses.sort_by_key(rank);
    addresses.dedup();
    let mut wait = Duration::ZERO;
    let mut previous: Option<u8> = None;
    addresses
        .into_iter()
        .map(|address| {
            let rank = rank(&address);
            // Addresses of the same rank go together: an address of another interface or family is no worse.
            if previous.is_some_and(|previous| previous != rank) {
                wait += if is_loopback(&address) { LOOPBACK_STEP } else { STEP };
            }
            previous = Some(rank);
            (address, wait)
        })
        .collect()
}

fn rank(address: &Multiaddr) -> u8 {
    let Some(route) = Route::of(address) else {
        // A name that stands for any kind of address.
        return 5;
    };
    let loopback = is_loopback(address);
    let transport = match route.transport {
        TransportKind::Tcp => 1,
        TransportKind::Quic if loopback => 2,
        TransportKind::Quic => 0,
        TransportKind::WebSocket => 3,
        TransportKind::SecureWebSocket => 4,
        TransportKind::WebRtc => 6,
    };
    if route.relayed { transport + 10 } else { transport }
}

/// Tells the transport how long the addresses of the next dial wait. The swarm hands all addresses of a dial to the transport before
/// it returns, so the note is needed for that moment only.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Mutex<HashMap<Multiaddr, Duration>>>);

impl Pace {
    /// Runs `dial` with these waiting times.
    pub(crate) fn during<T>(&self, schedule: Vec<(Multiaddr, Duration)>, dial: impl FnOnce() -> T) -> T {
        let note =
            schedule.into_iter().map(|(address, wait)| (address::without_peer(address), wait)).collect();
        *self.lock() = note;
        let result = dial();
        self.lock().clear();
        result
    }

    fn wait(&self, address: &Multiaddr) -> Duration {
        self.lock().get(&address::without_peer(address.clone())).copied().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Multiaddr, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transport whose dials wait as [`Pace`] says.
pub(super) struct Paced<T> {
    inner: T,
    pace: Pace,
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T, pace: Pace) -> Self {
        Self { inner, pace }
    }
}

impl<T> Transport for Paced<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        let wait = self.pace.wait(&address);
        // A dial does nothing before it is polled first.
        let dial = self.inner.dial(address, options)?;
        if wait.is_zero() {
            return Ok(dial.boxed());
        }
        Ok(async move {
            tokio::time::sleep(wait).await;
            dial.await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(texts: &[&str]) -> Vec<(String, u64)> {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        schedule(addresses)
            .into_iter()
            .map(|(address, wait)| (address.to_string(), wait.as_millis() as u64))
            .collect()
    }

    fn expected(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(address, wait)| ((*address).to_owned(), *wait)).collect()
    }

    #[test]
    fn the_best_transport_goes_first_and_the_others_wait() {
        assert_eq!(
            waits(&[
                "/ip4/10.0.0.1/tcp/1/ws",
                "/ip4/10.0.0.1/tcp/1",
                "/ip4/10.0.0.1/udp/1/quic-v1",
                "/ip6/2001:db8::1/udp/1/quic-v1",
            ]),
            expected(&[
                ("/ip4/10.0.0.1/udp/1/quic-v1", 0),
                ("/ip6/2001:db8::1/udp/1/quic-v1", 0),
                ("/ip4/10.0.0.1/tcp/1", 250),
                ("/ip4/10.0.0.1/tcp/1/ws", 500),
            ])
        );
        assert_eq!(
            waits(&["/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1"]),
            expected(&[("/ip4/127.0.0.1/tcp/1", 0), ("/ip4/127.0.0.1/udp/1/quic-v1", 100)])
        );
    }

    #[test]
    fn a_relay_waits_for_every_direct_way_and_a_single_address_for_nothing() {
        let relay = "/ip4/10.0.0.9/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
        assert_eq!(
            waits(&[relay, "/ip4/10.0.0.1/tcp/1/ws"]),
            expected(&[("/ip4/10.0.0.1/tcp/1/ws", 0), (relay, 250)])
        );
        assert_eq!(waits(&[relay]), expected(&[(relay, 0)]));
    }
}
