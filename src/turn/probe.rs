//! Asks a STUN server for nothing but an answer (a binding request, RFC 8489, section 3).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

/// RFC 8489, section 5.
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// Bytes of a header.
const HEADER: usize = 20;
/// The first wait before the question is sent again; it doubles (section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);

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
    let transaction: [u8; 12] = rand::random();
    let request = [&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &transaction].concat();
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
}
