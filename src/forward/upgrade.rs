//! The WebSocket handshake with a backend: always ours, over HTTP/1.1, on a connection of its own.
//!
//! In: a request that carries a [`Wish`] in its extensions. Out: a response that carries [`Switched`] in
//! its own, or the backend's refusal as any other answer. Specification: RFC 6455 4.
//!
//! # Why
//!
//! The key is made here, not passed on: a client over HTTP/2 (RFC 8441) has none, and so one way serves
//! both. Extensions and subprotocols are agreed on between client and backend; frames pass untouched.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::header;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Answer;
use super::balance::Server;
use super::error::Error;
use super::negotiate;
use super::pool::Lease;
use crate::model::body;

/// A request with this in its extensions is a WebSocket handshake; its other headers are as the client
/// sent them.
#[derive(Clone, Debug)]
pub struct Wish {
    key: String,
}

impl Wish {
    /// With a new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)?;
        Ok(Self {
            key: STANDARD.encode(nonce),
        })
    }

    /// RFC 6455 4.1: what makes a request a handshake.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        if let Ok(key) = HeaderValue::from_str(&self.key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }
}

/// The protocol's name in `Upgrade`.
pub const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// RFC 6455 4.2.2: the proof that a server has read the key.
#[must_use]
pub fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finish())
}

/// A backend's connection that has become a WebSocket. Taken once; ends when dropped.
#[derive(Clone, Debug)]
pub struct Switched(Arc<Mutex<Option<(OnUpgrade, Lease)>>>);

impl Switched {
    /// The connection, and what keeps it counted as in use.
    #[must_use]
    pub fn take(&self) -> Option<(OnUpgrade, Lease)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Judges a 101.
///
/// # Errors
/// Nobody asked for it, or it does not answer what was asked.
pub(super) fn switched(
    wish: Option<&Wish>,
    server: &Server,
    response: Response<Incoming>,
    lease: Lease,
    index: usize,
) -> Result<Answer, Error> {
    let Some(wish) = wish else {
        return Err(Error::Switched(server.to_string()));
    };
    let wrong = |problem| Error::Handshake {
        backend: server.to_string(),
        problem,
    };
    let mut protocols = response.headers().get_all(header::UPGRADE).iter();
    let named = protocols.next().map(HeaderValue::as_bytes);
    // RFC 6455 4.1: both are reasons to fail the connection.
    if !named.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket")) {
        return Err(wrong("it switched to another protocol"));
    }
    let mut accepted = response
        .headers()
        .get_all(header::SEC_WEBSOCKET_ACCEPT)
        .iter();
    let proof = accept(wish.key.as_bytes());
    if accepted.next().map(HeaderValue::as_bytes) != Some(proof.as_bytes())
        || accepted.next().is_some()
    {
        return Err(wrong("its Sec-WebSocket-Accept does not fit our key"));
    }
    let backend_token = negotiate::token(response.headers());
    let reused = lease.reused;
    let (mut head, _) = response.into_parts();
    let Some(on_upgrade) = head.extensions.remove::<OnUpgrade>() else {
        return Err(wrong("its connection cannot be taken over"));
    };
    head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    head.extensions
        .insert(Switched(Arc::new(Mutex::new(Some((on_upgrade, lease))))));
    Ok(Answer {
        response: Response::from_parts(head, body::empty()),
        index,
        backend_token,
        reused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_specification() {
        // RFC 6455 1.3.
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
