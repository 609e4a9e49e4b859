//! The headers that protect a visitor: where the page may load from and connect to, and who may frame it.

use hyper::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// Adds the headers that every answer carries.
///
/// The page may connect to the server it came from and to the signaling server at `signaling_port` of the same
/// host, which is known only from the request: one server may have several names.
pub fn protect(answer: &mut HeaderMap, request: &HeaderMap, signaling_port: Option<u16>) {
    let mut connect = "'self'".to_owned();
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).and_then(host_of);
    if let (Some(host), Some(port)) = (host, signaling_port) {
        connect.push_str(&format!(" ws://{host}:{port} wss://{host}:{port}"));
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

/// The host of a `Host` header without its port; `None` if it is no plain name or address, which could say more
/// than a host inside a policy.
fn host_of(header: &str) -> Option<&str> {
    let host = if header.starts_with('[') {
        &header[..=header.find(']')?]
    } else {
        header.split(':').next().unwrap_or_default()
    };
    let (inner, extra) = match host.strip_prefix('[') {
        Some(inner) => (inner.strip_suffix(']')?, ":"),
        None => (host, "-_."),
    };
    let plain = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    (plain && host.len() <= 253).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_as_they_are_and_anything_else_is_not() {
        assert_eq!(host_of("localhost:3000"), Some("localhost"));
        assert_eq!(host_of("127.0.0.1"), Some("127.0.0.1"));
        assert_eq!(host_of("[::1]:3000"), Some("[::1]"));
        let long = "a".repeat(254);
        for bad in ["", ":3000", "a b", "a;script-src *", "*", "[::1", "[a b]", "[]", "a'b", "é", &long] {
            assert_eq!(host_of(bad), None, "{bad:?}");
        }
    }

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
