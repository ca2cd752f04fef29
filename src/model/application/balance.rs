//! How an application's requests are spread over its servers, and when a server is left out.

use std::time::Duration;

use url::Url;

use super::health::Health;

/// How requests are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Who gets the next request.
    pub policy: Policy,
    /// When a server is left out.
    pub eject: Eject,
    /// How long a server that was left out takes to get its whole share again; zero = at once.
    pub slow_start: Duration,
    /// Most requests at a time for each server that [`Self::servers`] says nothing about; absent = no limit.
    pub max_connections: Option<u32>,
    /// Requests that wait while every server has its most.
    pub queue: Queue,
    /// Servers that differ from the others.
    pub servers: Vec<Share>,
    /// Questions asked by the gateway itself; absent = none.
    pub health: Option<Health>,
}

impl Balance {
    /// What is said about the server at `url`.
    #[must_use]
    pub fn share(&self, url: &Url) -> Share {
        let own = self.servers.iter().find(|share| share.url == *url);
        let usual = || Share {
            url: url.clone(),
            weight: 1,
            max_connections: None,
        };
        let share = own.cloned().unwrap_or_else(usual);
        Share {
            max_connections: share.max_connections.or(self.max_connections),
            ..share
        }
    }
}

/// What one server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The backend URL, as configured.
    pub url: Url,
    /// How much of all, compared with the other servers' weights; at least 1.
    pub weight: u32,
    /// Most requests at a time, each of which has a connection of its own; absent = as all.
    pub max_connections: Option<u32>,
}

/// Requests that wait for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// So many may wait.
    pub length: usize,
    /// Each for so long.
    pub patience: Duration,
}

/// Who gets the next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each server in turn.
    #[default]
    RoundRobin,
    /// The server with the fewest requests in flight.
    LeastRequests,
    /// Always the same server for a session, as long as it can be reached.
    Sticky,
}

/// When a server is left out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eject {
    /// So many gateway errors (502, 503, 504) or time-outs in a row; at least 1. A refused connection
    /// is enough by itself.
    pub failures: u32,
    /// How long the first time; each time in a row doubles it.
    pub first: Duration,
    /// Never longer.
    pub longest: Duration,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            policy: Policy::RoundRobin,
            eject: Eject {
                failures: 5,
                first: Duration::from_secs(5),
                longest: Duration::from_secs(300),
            },
            slow_start: Duration::ZERO,
            max_connections: None,
            queue: Queue {
                length: 100,
                patience: Duration::from_secs(10),
            },
            servers: Vec::new(),
            health: None,
        }
    }
}
