//! What an application allows of WebSocket (RFC 6455).

use std::time::Duration;

/// Settings of WebSocket connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Whether they are carried at all.
    pub allowed: bool,
    /// Origins whose pages may open one, beside the application's own.
    pub origins: Vec<String>,
    /// Longest silence in both directions.
    pub idle: Duration,
    /// Longest life; `None` = as long as the session.
    pub max_age: Option<Duration>,
}

impl Default for WebSocket {
    /// Allowed: it is how today's pages speak to their server, an application that cannot is broken, and a
    /// socket is signed in, checked for its origin and cut like any other exchange.
    fn default() -> Self {
        Self {
            allowed: true,
            origins: Vec::new(),
            idle: Duration::from_secs(3600),
            max_age: None,
        }
    }
}
