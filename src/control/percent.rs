//! Text in URLs (RFC 3986, section 2.1).

/// Escapes everything that is not unreserved in a URL.
#[must_use]
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The text behind the escapes; `None` for half an escape or what is no UTF-8. A plus is a plus.
#[must_use]
pub fn decode(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        for text in ["node-0", "", "a b&c=d", "../%2e/räume+1"] {
            let encoded = encode(text);
            assert!(!encoded.contains([' ', '&', '=', '/', '+']), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
        for wrong in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
