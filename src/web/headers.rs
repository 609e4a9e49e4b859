//! The headers that protect a visitor: where the page may load from and connect to, and who may frame it.

use hyper::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::control::host;

/// Where the signaling server is, as far as a policy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signaling {
    /// Its port, on the host of the page.
    pub port: u16,
    /// Whether it is reached over TLS only.
    pub secure: bool,
}

/// Adds the headers that every answer carries.
///
/// The page may connect to the server it came from and to the signaling server of the same host, which is known only from the
/// request: one server may have several names.
pub fn protect(answer: &mut HeaderMap, request: &HeaderMap, signaling: Option<Signaling>) {
    let mut connect = "'self'".to_owned();
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).and_then(host::host_of);
    match (host, signaling) {
        // A policy has no way to write an IPv6 address (CSP level 3, section 2.3.1), and without the scheme as a whole
        // the page would be refused its own server.
        (Some(host), Some(Signaling { secure, .. })) if host::ipv6(host).is_some() => {
            connect.push_str(if secure { " wss:" } else { " ws: wss:" });
        }
        (Some(host), Some(Signaling { port, secure: true })) => {
            connect.push_str(&format!(" wss://{host}:{port}"));
        }
        // Somebody else may have put TLS before both servers.
        (Some(host), Some(Signaling { port, secure: false })) => {
            connect.push_str(&format!(" ws://{host}:{port} wss://{host}:{port}"));
        }
        _ => {}
    }
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    // Made of fixed text and a host that was checked, so it is always a header value.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.insert(CONTENT_SECURITY_POLICY, policy);
    }
    let fixed: [(HeaderName, &'static str); 6] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        answer.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_host_does_not_reach_the_policy() {
        let mut request = HeaderMap::new();
        request.insert(HOST, HeaderValue::from_static("x; script-src * 'unsafe-inline'"));
        let mut answer = HeaderMap::new();
        protect(&mut answer, &request, Some(Signaling { port: 8001, secure: false }));
        let policy = answer[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("connect-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
}
