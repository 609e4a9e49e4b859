//! The headers that protect a visitor: where the page may load from and connect to, and who may frame it.

use hyper::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::control::host;

/// Adds the headers that every answer carries.
///
/// The page may connect to the server it came from and to the signaling server at `signaling_port` of the same
/// host, which is known only from the request: one server may have several names.
pub fn protect(answer: &mut HeaderMap, request: &HeaderMap, signaling_port: Option<u16>) {
    let mut connect = "'self'".to_owned();
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).and_then(host::host_of);
    match (host, signaling_port) {
        // A policy has no way to write an IPv6 address (CSP level 3, section 2.3.1), and without the scheme as a whole
        // the page would be refused its own server.
        (Some(host), Some(_)) if host::ipv6(host).is_some() => connect.push_str(" ws: wss:"),
        (Some(host), Some(port)) => connect.push_str(&format!(" ws://{host}:{port} wss://{host}:{port}")),
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
        protect(&mut answer, &request, Some(8001));
        let policy = answer[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("connect-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
}
