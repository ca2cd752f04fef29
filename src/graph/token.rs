//! The gateway's own access token for Graph: fetched once for all, kept until shortly before its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Graph;
use super::error::Error;
use crate::model::secret::Secret;

/// An access token for Graph, with the time it lasts.
#[derive(Debug)]
pub struct Token {
    /// The token, opaque to us.
    pub token: Secret<String>,
    /// How long it lasts.
    pub lasts: Duration,
}

/// A token being fetched.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<Token, String>> + Send>>;

/// Where access tokens come from: the issuer's client-credentials grant, handed in so that the two tools stay apart.
pub type TokenSource = Arc<dyn Fn() -> TokenFuture + Send + Sync>;

pub(super) struct Held {
    token: Secret<String>,
    until: Instant,
}

impl Graph {
    /// One token for all; whoever comes first fetches it, the others wait behind the lock. `rejected` is one that Graph
    /// would not take; who finds another one there uses that.
    pub(super) async fn token(&self, rejected: Option<&str>) -> Result<String, Error> {
        let mut held = self.inner.token.lock().await;
        if let Some(held) = held.as_ref().filter(|held| {
            Instant::now() < held.until && rejected != Some(held.token.expose().as_str())
        }) {
            return Ok(held.token.expose().clone());
        }
        let got = (self.inner.source)().await.map_err(Error::Token)?;
        let text = got.token.expose().clone();
        *held = Some(Held {
            token: got.token,
            // Not to the last second: a call must not arrive with a token that died on the way.
            until: Instant::now() + got.lasts.saturating_sub(Duration::from_secs(120)),
        });
        Ok(text)
    }
}
