//! How an application's requests are spread over its servers, and when a server is left out.

use std::time::Duration;

/// How requests are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Who gets the next request.
    pub policy: Policy,
    /// When a server is left out.
    pub eject: Eject,
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
        }
    }
}
