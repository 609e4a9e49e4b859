//! Permissions to register: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 (`HS256`, RFC 7515 and 7518, section 3.2), which
//! any back end can issue that shares a secret with the server.
//!
//! Pure: the secrets and the time go in, a decision comes out. `secrets` reads the file.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::names::Id;
use super::wire::{DEFAULT_ROOM, ErrorCode, ErrorReply, MAX_TOKEN_BYTES, Register};

/// Whom a token is for, where it says so (`aud`, RFC 7519, section 4.1.3).
pub const AUDIENCE: &str = "hippius";
/// What clocks may differ by, in seconds, before a token is late or early.
pub const LEEWAY_SECONDS: u64 = 10;
/// Shortest secret, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What a token permits and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The last second in which it is good, counted from 1970.
    pub exp: u64,
    /// The first such second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The one id that may be registered; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<Id>,
    /// The one room that may be entered; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Id>,
    /// Whom it is for, see [`AUDIENCE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
}

/// One audience, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    fn is_this(&self) -> bool {
        match self {
            Audience::One(one) => one == AUDIENCE,
            Audience::Many(many) => many.iter().any(|one| one == AUDIENCE),
        }
    }
}

/// The first part of a token. Everything else that it may say there changes nothing.
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); none is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// What all tokens made here begin with.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Why somebody may not register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None was given.
    #[error("this server asks for a token")]
    Missing,
    /// It is no token, of another algorithm, signed with another secret, or for another audience.
    #[error("the token is not one of this server's")]
    Invalid,
    /// It is good later.
    #[error("the token is not good yet")]
    Early,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It is somebody else's.
    #[error("the token is for another peer id")]
    OtherPeer,
    /// It is for somewhere else.
    #[error("the token is for another room")]
    OtherRoom,
}

impl TokenError {
    /// The code that the client is sent, and the reason in the metrics.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            TokenError::Missing => ErrorCode::TokenRequired,
            TokenError::Invalid | TokenError::Early => ErrorCode::TokenInvalid,
            TokenError::Expired => ErrorCode::TokenExpired,
            TokenError::OtherPeer | TokenError::OtherRoom => ErrorCode::TokenMismatch,
        }
    }

    /// The answer to the `Register`.
    #[must_use]
    pub fn reply(self) -> ErrorReply {
        ErrorReply { code: self.code(), message: self.to_string(), to: None }
    }
}

/// A secret that is no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one")]
pub struct ShortSecret;

/// One secret, which signs tokens and knows its own again.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The secret that these bytes are.
    ///
    /// # Errors
    /// [`ShortSecret`] below [`MIN_SECRET_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, ShortSecret> {
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(ShortSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The token that says `claims`.
    ///
    /// # Panics
    /// Never: claims are always JSON.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are JSON");
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = hmac::sign(&self.0, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// Whether `register` may be taken at `now`, in seconds since 1970: it carries a [good](claims) token, for its id and room.
///
/// # Errors
/// [`TokenError`] says why not. Of a token that is not signed nothing else is said.
pub fn check(register: &Register, secrets: &[Secret], now: u64) -> Result<(), TokenError> {
    let claims = claims(register.token.as_deref(), secrets, now)?;
    if claims.sub.as_ref().is_some_and(|sub| *sub != register.peer_id) {
        return Err(TokenError::OtherPeer);
    }
    let room = register.room.as_ref().map_or(DEFAULT_ROOM, Id::as_str);
    if claims.room.as_ref().is_some_and(|only| only.as_str() != room) {
        return Err(TokenError::OtherRoom);
    }
    Ok(())
}

/// What a good `token` permits: one that one of `secrets` has signed, in its time and for this program. Signatures are compared in a time that
/// tells nothing of the right one.
///
/// # Errors
/// [`TokenError`] says why it is none. Of a token that is not signed nothing else is said.
pub fn claims(token: Option<&str>, secrets: &[Secret], now: u64) -> Result<Claims, TokenError> {
    let token = token.ok_or(TokenError::Missing)?;
    let claims = verify(token, secrets).ok_or(TokenError::Invalid)?;
    if claims.aud.as_ref().is_some_and(|audience| !audience.is_this()) {
        return Err(TokenError::Invalid);
    }
    if claims.exp.saturating_add(LEEWAY_SECONDS) < now {
        return Err(TokenError::Expired);
    }
    if claims.nbf.is_some_and(|start| start > now.saturating_add(LEEWAY_SECONDS)) {
        return Err(TokenError::Early);
    }
    Ok(claims)
}

/// What `token` says, if it is signed.
fn verify(token: &str, secrets: &[Secret]) -> Option<Claims> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // Nothing of it is read before it is known to be somebody's who has the secret.
    secrets.iter().find(|secret| hmac::verify(&secret.0, signed.as_bytes(), &signature).is_ok())?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != "HS256" || header.crit.is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::names::Name;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn secret(text: &str) -> Secret {
        Secret::new(text.repeat(32).as_bytes()).unwrap()
    }

    fn claims() -> Claims {
        Claims { exp: NOW + 60, nbf: None, sub: None, room: None, aud: None }
    }

    fn register(token: Option<String>) -> Register {
        Register { peer_id: id("a"), token, resume: None, room: None, name: Name::default() }
    }

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    fn checked(token: String) -> Result<(), TokenError> {
        check(&register(Some(token)), &[secret("s")], NOW)
    }

    /// A token of any header and claims, properly signed.
    fn raw(header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&secret("s").0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_of_another_implementation_is_taken() {
        // RFC 7515, appendix A.1: its key, header with a line break, and signature; its claims expired in 2011.
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = Secret::new(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                     cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let register = register(Some(token.to_owned()));
        assert_eq!(check(&register, std::slice::from_ref(&key), 1_300_819_380), Ok(()));
        assert_eq!(check(&register, &[key], NOW), Err(TokenError::Expired));
    }

    #[test]
    fn who_brings_no_good_token_is_told_why() {
        let good = secret("s");
        assert_eq!(check(&register(None), std::slice::from_ref(&good), NOW), Err(TokenError::Missing));
        assert_eq!(checked(good.sign(&claims())), Ok(()));
        assert_eq!(checked(secret("t").sign(&claims())), Err(TokenError::Invalid));
        assert_eq!(check(&register(Some(good.sign(&claims()))), &[], NOW), Err(TokenError::Invalid));
        let two = [secret("t"), good.clone()];
        assert_eq!(check(&register(Some(good.sign(&claims()))), &two, NOW), Ok(()), "an older secret");

        assert_eq!(checked(good.sign(&Claims { exp: NOW - LEEWAY_SECONDS, ..claims() })), Ok(()));
        let late = Claims { exp: NOW - LEEWAY_SECONDS - 1, ..claims() };
        assert_eq!(checked(good.sign(&late)), Err(TokenError::Expired));
        assert_eq!(checked(good.sign(&Claims { nbf: Some(NOW + LEEWAY_SECONDS), ..claims() })), Ok(()));
        let early = Claims { nbf: Some(NOW + LEEWAY_SECONDS + 1), ..claims() };
        assert_eq!(checked(good.sign(&early)), Err(TokenError::Early));

        assert_eq!(checked(good.sign(&Claims { sub: Some(id("a")), ..claims() })), Ok(()));
        let other = Claims { sub: Some(id("b")), ..claims() };
        assert_eq!(checked(good.sign(&other)), Err(TokenError::OtherPeer));
        assert_eq!(checked(good.sign(&Claims { room: Some(id("lobby")), ..claims() })), Ok(()));
        let other = Claims { room: Some(id("attic")), ..claims() };
        assert_eq!(checked(good.sign(&other)), Err(TokenError::OtherRoom));

        let audience = |aud| checked(good.sign(&Claims { aud: Some(aud), ..claims() }));
        assert_eq!(audience(Audience::One(AUDIENCE.to_owned())), Ok(()));
        assert_eq!(audience(Audience::Many(vec!["x".to_owned(), AUDIENCE.to_owned()])), Ok(()));
        assert_eq!(audience(Audience::One("x".to_owned())), Err(TokenError::Invalid));
        assert_eq!(audience(Audience::Many(vec![])), Err(TokenError::Invalid));
    }

    #[test]
    fn a_forgery_is_no_token_whatever_it_claims() {
        let good = secret("s").sign(&claims());
        let parts: Vec<&str> = good.split('.').collect();
        let [header, body, signature] = parts[..] else { panic!("{good}") };
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let longer = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, NOW + 6000));
        for forged in [
            String::new(),
            "let-me.in".to_owned(),
            "..".to_owned(),
            format!("{none}.{body}."),
            format!("{none}.{body}.{signature}"),
            format!("{header}.{longer}.{signature}"),
            format!("{header}.{body}"),
            format!("{header}.{body}."),
            format!("{header}.{body}.{signature}="),
            format!("{header}.{body}.{}", &signature[1..]),
            format!("{header}.{body}.{signature}.{signature}"),
            format!(" {good}"),
            good.replace('.', ".\n"),
            "A".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert_eq!(checked(forged.clone()), Err(TokenError::Invalid), "{forged:?}");
        }
    }

    #[test]
    fn what_is_signed_must_still_be_a_token() {
        let body = format!(r#"{{"exp":{},"iss":"me","jti":[1]}}"#, NOW + 60);
        assert_eq!(checked(raw(HEADER, &body)), Ok(()), "unknown claims are ignored");
        for (header, body) in [
            (r#"{"alg":"HS512"}"#, body.as_str()),
            (r#"{"alg":"none"}"#, &body),
            (r#"{"typ":"JWT"}"#, &body),
            (r#"{"alg":"HS256","crit":["exp"]}"#, &body),
            (r#"{"alg":"HS256","alg":"none"}"#, &body),
            ("HS256", &body),
            (HEADER, "{}"),
            (HEADER, "[]"),
            (HEADER, r#"{"exp":"2100-01-01"}"#),
            (HEADER, r#"{"exp":-1}"#),
            (HEADER, r#"{"exp":1800000100,"exp":1900000000}"#),
            (HEADER, r#"{"exp":1800000100,"sub":"<b>"}"#),
            (HEADER, r#"{"exp":1800000100,"room":7}"#),
        ] {
            assert_eq!(checked(raw(header, body)), Err(TokenError::Invalid), "{header} {body}");
        }
    }

    #[test]
    fn secrets_are_long_and_do_not_show() {
        assert_eq!(Secret::new(&[b'x'; MIN_SECRET_BYTES - 1]).unwrap_err(), ShortSecret);
        assert_eq!(format!("{:?}", Secret::new(&[b'x'; MIN_SECRET_BYTES]).unwrap()), "Secret(…)");
    }
}
