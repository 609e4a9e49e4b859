//! WebSocket with TLS from files: when they change, new connections get the new certificate, and the old ones go on.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{AsyncRead, AsyncWrite, StreamExt};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::websocket::{self, tls};
use libp2p::{Multiaddr, Transport};
use rustls::pki_types::CertificateDer;

use crate::tls::{Certificate, CertificateFiles};

/// The WebSocket transport, and the certificates to come.
pub(super) struct SecureWebSocket<T>
where
    T: Transport,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    inner: websocket::Config<T>,
    trusted: Vec<CertificateDer<'static>>,
    renewed: Option<BoxStream<'static, Certificate>>,
}

impl<T> SecureWebSocket<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Listens with the certificate in `files`, if there are any; trusts `authorities` beside the well-known ones when it dials.
    ///
    /// # Errors
    /// When the files hold no certificate with its key.
    pub(super) fn new(
        mut inner: websocket::Config<T>,
        files: Option<CertificateFiles>,
        authorities: &[PathBuf],
    ) -> io::Result<Self> {
        let mut trusted = Vec::new();
        for file in authorities {
            trusted.extend(crate::tls::certificates(file).map_err(io::Error::other)?);
        }
        let own = files.as_ref().map(CertificateFiles::load).transpose().map_err(io::Error::other)?;
        let renewed = own.as_ref().map(|own| own.renewals().boxed());
        inner.set_tls_config(config(own, &trusted)?);
        Ok(Self { inner, trusted, renewed })
    }
}

fn config(own: Option<Certificate>, trusted: &[CertificateDer<'static>]) -> io::Result<tls::Config> {
    let mut builder = tls::Config::builder();
    if let Some(own) = own {
        let chain = own.chain.iter().map(|part| tls::Certificate::new(part.to_vec()));
        builder
            .server(tls::PrivateKey::new(own.key.secret_der().to_vec()), chain)
            .map_err(io::Error::other)?;
    }
    for authority in trusted {
        builder.add_trust(&tls::Certificate::new(authority.to_vec())).map_err(io::Error::other)?;
    }
    Ok(builder.finish())
}

impl<T> Transport for SecureWebSocket<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = <websocket::Config<T> as Transport>::Output;
    type Error = <websocket::Config<T> as Transport>::Error;
    type ListenerUpgrade = <websocket::Config<T> as Transport>::ListenerUpgrade;
    type Dial = <websocket::Config<T> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        while let Some(renewed) = &mut self.renewed {
            match renewed.poll_next_unpin(cx) {
                Poll::Ready(Some(certificate)) => match config(Some(certificate), &self.trusted) {
                    Ok(config) => {
                        self.inner.set_tls_config(config);
                    }
                    Err(error) => {
                        tracing::error!(%error, "the new certificate cannot be used; the old one stays")
                    }
                },
                Poll::Ready(None) => self.renewed = None,
                Poll::Pending => break,
            }
        }
        Pin::new(&mut self.inner).poll(cx)
    }
}
