//! Backend connections that wait for their next request.
//!
//! SECURITY: a connection on which a Negotiate token went out belongs to one person's session for ever
//! (RFC 4559 section 6; IIS and `GssapiConnectionBound` authenticate the *connection*). The key holds the
//! partition, and a connection is only ever put back under the key it was taken for.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use hyper::client::conn::http1::SendRequest;

use crate::model::body::Body;
use crate::model::names::AppId;
use crate::model::names::Principal;

/// Whose requests a connection carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// Everybody's: no connection-wide authentication ever happens on it.
    Shared,
    /// One session of one person, as one principal.
    Session {
        /// The session.
        session: String,
        /// As whom its tokens are made.
        principal: Principal,
    },
}

/// Which connections may serve a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose.
    pub partition: Partition,
    /// For which application.
    pub app: AppId,
    /// To which of its servers.
    pub backend: usize,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

type Shelf = HashMap<(AppId, usize), VecDeque<Idle>>;

/// The waiting connections, bounded in number and time.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    shelves: Arc<Mutex<HashMap<Partition, Shelf>>>,
}

impl Pool {
    /// A live connection for `key`, the most recently used first.
    #[must_use]
    pub fn take(&self, key: &Key) -> Option<SendRequest<Body>> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.get_mut(&key.partition)?;
        let waiting = shelf.get_mut(&(key.app.clone(), key.backend))?;
        while let Some(idle) = waiting.pop_back() {
            if idle.is_usable() {
                return Some(idle.sender);
            }
        }
        None
    }

    /// Keeps `sender` for the next request with the same `key`.
    pub fn put(&self, key: Key, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match key.partition {
            Partition::Shared => IDLE_SHARED,
            Partition::Session { .. } => IDLE_SESSION,
        };
        let shelf = shelves.entry(key.partition).or_default();
        let waiting = shelf.entry((key.app, key.backend)).or_default();
        if waiting.len() >= most {
            waiting.pop_front();
        }
        waiting.push_back(Idle {
            sender,
            since: Instant::now(),
        });
    }

    /// Closes every waiting connection of `session`.
    pub fn evict(&self, session: &str) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.retain(|partition, _| match partition {
            Partition::Shared => true,
            Partition::Session {
                session: theirs, ..
            } => theirs != session,
        });
    }

    /// Closes what has waited too long or was closed by its backend.
    pub fn sweep(&self) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.retain(|_, shelf| {
            shelf.retain(|_, waiting| {
                waiting.retain(Idle::is_usable);
                !waiting.is_empty()
            });
            !shelf.is_empty()
        });
    }

    /// How many connections wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves
            .values()
            .flat_map(Shelf::values)
            .map(VecDeque::len)
            .sum()
    }

    /// True when no connection waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Idle {
    fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.since.elapsed() < LONGEST
    }
}

/// Below IIS's 120 s, so that it is mostly we who close.
const LONGEST: Duration = Duration::from_secs(55);
const IDLE_SHARED: usize = 256;
/// A browser opens six connections to a host at most.
const IDLE_SESSION: usize = 6;
