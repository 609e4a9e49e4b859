//! `GET /ice`: the ICE servers of a page, with credentials made for this one request.

use std::time::SystemTime;

use hyper::header::{HOST, HeaderMap};

use crate::control::host;
use crate::turn::ice::{IceServers, IceSource, for_client};

/// What a page is told that was asked for with the headers `request`: servers of this machine go by the name that the browser knows
/// it by.
#[must_use]
pub fn servers(sources: &[IceSource], request: &HeaderMap) -> IceServers {
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).and_then(host::host_of);
    for_client(sources, host, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

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
