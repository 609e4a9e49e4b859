//! What a client hears that speaks HTTP without TLS on a port for TLS: where to go instead. Nothing else is told in the clear.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::control::host;

/// The longest head that is read to find out what was asked for, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Header lines of it.
const MAX_HEADERS: usize = 64;
/// What may still come after it before the connection is let go, in bytes: closed at once, the answer could be lost on its way.
const MAX_REST: u64 = 64 * 1024;

/// Whether a connection that begins with this byte speaks HTTP: its methods are capital letters (RFC 9110, section 9.1). A TLS record begins
/// with 22.
pub(super) fn is_first(byte: u8) -> bool {
    byte.is_ascii_uppercase()
}

/// Reads the head of a request whose `first` byte has been read already, and answers it. To be bounded in time by the caller.
///
/// # Errors
/// Those of the connection, or when what comes is no HTTP after all.
pub(super) async fn answer<S>(io: &mut S, first: u8) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(MAX_HEAD);
    head.push(first);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        // It grows no further than it was made for.
        if head.len() >= MAX_HEAD || io.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    io.write_all(reply(&head).as_bytes()).await?;
    io.shutdown().await?;
    tokio::io::copy(&mut io.take(MAX_REST), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The whole answer to a request with this `head`.
fn reply(head: &[u8]) -> String {
    let (status, location, message) = match target(head) {
        Some(url) => {
            // Not kept by whoever is told: the certificate may be gone again one day.
            let location = format!("location: {url}\r\ncache-control: no-store\r\n");
            ("308 Permanent Redirect", location, format!("this port speaks TLS: {url}\n"))
        }
        None => {
            let message = "this port speaks TLS: connect with https:// or wss://\n";
            ("400 Bad Request", String::new(), message.to_owned())
        }
    };
    let body = if head.starts_with(b"HEAD ") { "" } else { &message };
    format!(
        "HTTP/1.1 {status}\r\n{location}content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        message.len()
    )
}

/// Where a browser finds what it asked for: the same place over TLS. `None` where it did not just ask for a page. WebSocket clients follow no
/// redirections (RFC 6455, section 4.1 leaves it to them, and browsers do not).
fn target(head: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).ok()?.is_complete() || !matches!(request.method, Some("GET" | "HEAD")) {
        return None;
    }
    let path = request.path.filter(|path| path.starts_with('/') && path.is_ascii())?;
    let header = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if header("upgrade").is_some() {
        return None;
    }
    let authority = std::str::from_utf8(header("host")?.value).ok()?.trim();
    // Its port is the one that was connected to, also where something before this server has another.
    host::host_of(authority).map(|_| format!("https://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_page_is_sent_to_the_same_one_over_tls() {
        let head = |text: &str| format!("{}\r\n\r\n", text.replace('\n', "\r\n")).into_bytes();
        let found = |text: &str| target(&head(text));
        for (request, url) in [
            ("GET / HTTP/1.1\nHost: localhost:3000", "https://localhost:3000/"),
            ("HEAD /a?b=c#d HTTP/1.0\nhost: [::1]:3000 ", "https://[::1]:3000/a?b=c#d"),
            ("GET //other.example/x HTTP/1.1\nhost: chat.example", "https://chat.example//other.example/x"),
        ] {
            assert_eq!(found(request).as_deref(), Some(url), "{request}");
        }
        for request in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\nhost: evil\"><script>",
            "GET / HTTP/1.1\nhost: user@evil.example",
            "GET http://evil.example/ HTTP/1.1\nhost: localhost",
            "GET evil HTTP/1.1\nhost: localhost",
            "POST / HTTP/1.1\nhost: localhost",
            "GET /signal HTTP/1.1\nhost: localhost\nConnection: Upgrade\nUpgrade: websocket",
            "GETTING NOWHERE",
        ] {
            assert_eq!(found(request), None, "{request}");
            let reply = reply(&head(request));
            assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("wss://"), "{reply}");
        }
        let reply = reply(&head("HEAD / HTTP/1.1\nhost: localhost"));
        assert!(reply.starts_with("HTTP/1.1 308 ") && reply.ends_with("\r\n\r\n"), "{reply}");
        let many = format!("GET / HTTP/1.1\nhost: a{}", "\nx: y".repeat(MAX_HEADERS));
        assert_eq!(found(&many), None);
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_read_to_it() {
        let (mut client, mut server) = tokio::io::duplex(4 * MAX_HEAD);
        client.write_all(&vec![b'X'; 3 * MAX_HEAD]).await.unwrap();
        let error = answer(&mut server, b'G').await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut rest = Vec::new();
        server.read_buf(&mut rest).await.unwrap();
        drop(server);
        client.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.is_empty() && rest.iter().all(|byte| *byte == b'X'), "nothing was answered");
    }
}
