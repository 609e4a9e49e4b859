//! `GET /ice`: the ICE servers of a page, with credentials made for this one request.

use std::time::SystemTime;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::control::host;
use crate::control::http::{self, Body};
use crate::signaling::secrets::Secrets;
use crate::signaling::token::TokenError;
use crate::turn::ice::{IceServers, IceSource, for_client};

/// The answer to a request with the headers `request`. Where there are `secrets` it must bring a token that would let it register at the
/// signaling server (`Authorization: Bearer TOKEN`, RFC 6750, section 2.1): credentials of a relay are for those who may meet here.
#[must_use]
pub fn answer(sources: &[IceSource], secrets: Option<&Secrets>, request: &HeaderMap) -> Response<Body> {
    match secrets.map(|secrets| secrets.claims(bearer(request))) {
        None | Some(Ok(_)) => http::json(StatusCode::OK, &servers(sources, request)),
        Some(Err(error)) => unauthorized(error),
    }
}

/// RFC 6750, section 3: who brought no token at all is not told of an error.
fn unauthorized(error: TokenError) -> Response<Body> {
    let mut refusal = http::error(StatusCode::UNAUTHORIZED, error.code().as_str(), &error.to_string());
    let challenge = match error {
        TokenError::Missing => "Bearer",
        _ => r#"Bearer error="invalid_token""#,
    };
    refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    refusal
}

/// The token that a request brings. The name of the scheme is written as one likes (RFC 9110, section 11.1).
fn bearer(request: &HeaderMap) -> Option<&str> {
    let (scheme, token) = request.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a page is told that was asked for with the headers `request`: servers of this machine go by the name that the browser knows
/// it by.
fn servers(sources: &[IceSource], request: &HeaderMap) -> IceServers {
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).and_then(host::host_of);
    for_client(sources, host, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_token_is_what_follows_the_scheme() {
        for (header, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c ", Some("a.b.c")),
            ("Bearer", None),
            ("Basic a.b.c", None),
            ("a.b.c", None),
        ] {
            let mut request = HeaderMap::new();
            request.insert(AUTHORIZATION, HeaderValue::from_static(header));
            assert_eq!(bearer(&request), token, "{header}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_forged_host_reaches_no_url() {
        let sources = [IceSource::open(vec!["turn:{host}:3478".to_owned(), "stun:a.example".to_owned()])];
        let mut request = HeaderMap::new();
        request.insert(HOST, HeaderValue::from_static("x?transport=tcp\" onload=x"));
        assert_eq!(servers(&sources, &request).ice_servers[0].urls, ["stun:a.example"]);
        request.insert(HOST, HeaderValue::from_static("chat.example.org:3000"));
        assert_eq!(servers(&sources, &request).ice_servers[0].urls[0], "turn:chat.example.org:3478");
    }
}
