//! Whether a client takes gzip (RFC 9110, section 12.5.3).

use hyper::header::{ACCEPT_ENCODING, HeaderMap};

/// Whether a client that sends these headers would rather have an answer in gzip than as it is.
#[must_use]
pub fn prefers_gzip(request: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for value in request.get_all(ACCEPT_ENCODING) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut words = part.split(';').map(str::trim);
            let coding = words.next().unwrap_or_default().to_ascii_lowercase();
            let slot = match coding.as_str() {
                "gzip" | "x-gzip" => &mut gzip,
                "identity" => &mut identity,
                "*" => &mut any,
                _ => continue,
            };
            *slot = Some(words.find_map(quality).unwrap_or(1000));
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// The weight in `q=0.5`, in thousandths; one that cannot be read weighs nothing.
fn quality(word: &str) -> Option<u32> {
    let (name, value) = word.split_once('=')?;
    let weight = |value: &str| value.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q));
    // A number between 0 and 1000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    name.trim().eq_ignore_ascii_case("q").then(|| weight(value).map_or(0, |q| (q * 1000.0).round() as u32))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_sent_to_who_takes_it_and_wants_nothing_rather() {
        let prefers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            prefers_gzip(&headers)
        };
        for good in [
            &["gzip"][..],
            &["gzip, deflate, br, zstd"],
            &["br", "x-GZIP"],
            &["br;q=1.0, gzip;q=0.8, *;q=0.1"],
            &["*"],
            &["identity;q=0.5, gzip"],
            &["gzip ; q=0.001"],
        ] {
            assert!(prefers(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[""],
            &["br"],
            &["gzip;q=0"],
            &["gzip;q=0, *"],
            &["*;q=0"],
            &["identity, gzip;q=0.5"],
            &["gzip;q=x"],
            &["gzip;q=-1"],
            &["gzip;q=2"],
            &["gzipped"],
        ] {
            assert!(!prefers(bad), "{bad:?}");
        }
    }
}
