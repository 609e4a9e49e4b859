//! Asks a STUN server for nothing but an answer (a binding request, RFC 8489, section 3).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::url::{Scheme, ServerUrl, Transport};

/// RFC 8489, section 5.
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// Bytes of a header.
const HEADER: usize = 20;
/// The first wait before the question is sent again; it doubles (section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Asks the server at `url` the way that a browser would go, over UDP, TCP or TLS, for at most `patience`. Over TLS any certificate will do:
/// which ones a browser takes only that browser knows. `None` where it is to be reached by DTLS, which is not spoken here.
///
/// # Errors
/// `TimedOut` without an answer; else what the system or TLS says: that its name leads nowhere, that nobody listens there.
pub async fn server(url: &ServerUrl, patience: Duration) -> Option<io::Result<()>> {
    let is_secure = matches!(url.scheme, Scheme::Stuns | Scheme::Turns);
    if is_secure && url.transport == Transport::Udp {
        return None;
    }
    let asked = async {
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await?.next();
        let address = found.ok_or_else(|| io::Error::other("its name leads nowhere"))?;
        if url.transport == Transport::Udp {
            return binding(address, patience).await.map(drop);
        }
        let stream = TcpStream::connect(address).await?;
        if !is_secure {
            return binding_by(stream).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(any_server().map_err(io::Error::other)?));
        binding_by(connector.connect(name, stream).await?).await
    };
    Some(timeout(patience, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
}

/// Asks once over a connection, which is reliable, and waits for the answer.
async fn binding_by(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (request, transaction) = request();
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).await?;
    let answers = is_answer(&head, &transaction);
    answers.then_some(()).ok_or_else(|| io::Error::other("what listens there is no STUN server"))
}

/// TLS with whoever is there.
fn any_server() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes every certificate whose key the server has: nothing is told to it, and nothing that it says is believed.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A binding request, and its transaction.
fn request() -> (Vec<u8>, [u8; 12]) {
    let transaction: [u8; 12] = rand::random();
    ([&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &transaction].concat(), transaction)
}

/// Asks `server` over UDP until it answers, for at most `patience`. Resolves to the time that the answer took.
///
/// # Errors
/// `TimedOut` without an answer; else what the system says, e.g. that nobody listens there.
pub async fn binding(server: SocketAddr, patience: Duration) -> io::Result<Duration> {
    let from: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(server).await?;
    let (request, transaction) = request();
    let deadline = Instant::now() + patience;
    let mut wait = FIRST_WAIT;
    loop {
        let asked = Instant::now();
        socket.send(&request).await?;
        let answered = timeout(wait.min(deadline.saturating_duration_since(asked)), async {
            let mut answer = [0; 1_500];
            loop {
                let length = socket.recv(&mut answer).await?;
                if is_answer(&answer[..length], &transaction) {
                    return Ok(asked.elapsed());
                }
            }
        });
        match answered.await {
            Ok(result) => return result,
            Err(_) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => wait *= 2,
        }
    }
}

/// The same for a server that may not listen yet: a refusal is no reason to give up before `patience` ends.
///
/// # Errors
/// As [`binding`], once the time is over.
pub async fn binding_at_last(server: SocketAddr, patience: Duration) -> io::Result<Duration> {
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match binding(server, left).await {
            Err(error) if Instant::now() + PAUSE < deadline && error.kind() != io::ErrorKind::TimedOut => {
                let _ = timeout_at(deadline, tokio::time::sleep(PAUSE)).await;
            }
            other => return other,
        }
    }
}

fn is_answer(packet: &[u8], transaction: &[u8; 12]) -> bool {
    packet.len() >= HEADER
        && packet[..2] == BINDING_SUCCESS
        && packet[4..8] == MAGIC_COOKIE
        && packet[8..HEADER] == transaction[..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateFiles;
    use crate::turn::{TurnConfig, TurnServer};

    #[tokio::test]
    async fn an_answer_counts_and_rubbish_does_not() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut request = [0; 100];
            let (length, from) = server.recv_from(&mut request).await.unwrap();
            assert_eq!(length, HEADER);
            for rubbish in [&b""[..], &[0; 3], &[0xff; 40]] {
                server.send_to(rubbish, from).await.unwrap();
            }
            let mut forged = request[..HEADER].to_vec();
            forged[..2].copy_from_slice(&BINDING_SUCCESS);
            forged[19] ^= 1;
            server.send_to(&forged, from).await.unwrap();
            forged[19] ^= 1;
            server.send_to(&forged, from).await.unwrap();
        });
        binding(address, Duration::from_secs(20)).await.unwrap();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn silence_and_refusals_are_told() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = binding(silent.local_addr().unwrap(), Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let address = silent.local_addr().unwrap();
        drop(silent);
        assert!(binding_at_last(address, Duration::from_millis(300)).await.is_err());
    }
    /// Asks at `scheme:127.0.0.1:PORT`, with `query`.
    async fn ask(scheme: &str, address: SocketAddr, query: &str) -> Option<io::Result<()>> {
        let url = format!("{scheme}:{address}{query}").parse().unwrap();
        server(&url, Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn a_server_is_asked_the_way_that_a_browser_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let relay = TurnServer::bind(&TurnConfig {
            listen: vec![any],
            tls_listen: vec![any],
            tls: Some(CertificateFiles { certificate, key }),
            ..TurnConfig::default()
        });
        let relay = relay.unwrap();
        let (plain, secure) = (relay.local_addresses().tcp[0], relay.local_addresses().tls[0]);
        for (scheme, address, query) in [
            ("stun", plain, ""),
            ("turn", plain, "?transport=udp"),
            ("turn", plain, "?transport=tcp"),
            ("turns", secure, ""),
            ("stuns", secure, ""),
        ] {
            let answer = ask(scheme, address, query).await.expect("it can be asked");
            answer.unwrap_or_else(|error| panic!("{scheme} {query}: {error}"));
        }
        assert_eq!(relay.snapshot().bindings, 5);
        assert!(ask("turns", secure, "?transport=udp").await.is_none(), "DTLS");
        assert!(ask("turns", plain, "").await.unwrap().is_err(), "no TLS there");
        assert!(ask("turn", secure, "?transport=tcp").await.unwrap().is_err(), "nothing but TLS there");
        relay.shutdown().await;
        for (scheme, address, query) in [("turn", plain, "?transport=tcp"), ("turns", secure, "")] {
            let error = ask(scheme, address, query).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test]
    async fn who_listens_and_is_no_stun_server_does_not_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}?transport=tcp", listener.local_addr().unwrap()).parse().unwrap();
        let talkative = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let (answer, _stream) = tokio::join!(server(&url, Duration::from_secs(20)), talkative);
        assert!(answer.unwrap().unwrap_err().to_string().contains("no STUN server"));
        let silent = server(&url, Duration::from_millis(300)).await.unwrap();
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
