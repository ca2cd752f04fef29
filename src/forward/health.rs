//! Asks servers by itself whether they are well, where an application wants that.
//!
//! In: a server and what a good answer is. Out: its [`Verdict`], which the next request's choice looks at.
//! Specification: none; the request is a plain GET (RFC 9110 9.3.1) on a connection of its own.
//!
//! # Why
//!
//! - Asked in nobody's name: no ticket, no identity, no cookie; nor on a connection that anybody's request uses.
//! - So many in a row either way: one lost answer is no outage, and one good answer no recovery.
//! - Spread by chance, and only so many at a time in all: many servers are not asked in one moment, nor one
//!   server by many gateways.
//! - A task for each server, which ends with its group: a changed configuration is another group.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use http::Request;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Limited;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::balance::Group;
use super::balance::Server;
use super::body::Upload;
use super::connect;
use crate::model::application::health::Health;
use crate::model::body;

/// What the health checks of one server say; good as long as nobody asks.
#[derive(Debug, Default)]
pub struct Verdict {
    bad: AtomicBool,
    /// When it last became good, in the group's milliseconds; 0 = it always was.
    back: AtomicU64,
    why: Mutex<String>,
}

impl Verdict {
    /// True when the server is to be left out.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.bad.load(Ordering::Relaxed)
    }

    /// When it last became good.
    #[must_use]
    pub fn back(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }

    /// What the last bad answer was.
    #[must_use]
    pub fn why(&self) -> String {
        let why = self.why.lock();
        why.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that it became good or bad, and when.
    pub fn set(&self, well: bool, why: String, now: u64) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        if well && self.is_bad() {
            self.back.store(now, Ordering::Relaxed);
        }
        self.bad.store(!well, Ordering::Relaxed);
    }
}

/// The tasks that ask for one group; they end with it.
#[derive(Debug, Default)]
pub struct Checks(Mutex<Vec<AbortHandle>>);

impl Checks {
    /// Ends them, a question that is being asked included.
    pub fn stop(&self) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How many questions are asked at a time, in all.
pub const AT_ONCE: usize = 64;

/// Begins to ask the servers of `group`, unless that has begun; `host` is what they are called.
pub fn begin(group: &Arc<Group>, host: Option<&HeaderValue>, at_once: &Arc<Semaphore>) {
    let Some(health) = &group.balance.health else {
        return;
    };
    let mut tasks = group
        .checks
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !tasks.is_empty() {
        return;
    }
    let health = Arc::new(health.clone());
    tasks.extend(group.places().map(|(index, server)| {
        let one = One {
            group: Arc::downgrade(group),
            index,
            health: Arc::clone(&health),
            host: host.unwrap_or(&server.authority).clone(),
            at_once: Arc::clone(at_once),
            chance: RandomState::new(),
        };
        tokio::spawn(one.watch()).abort_handle()
    }));
}

/// One server that is asked.
struct One {
    group: Weak<Group>,
    index: usize,
    health: Arc<Health>,
    host: HeaderValue,
    at_once: Arc<Semaphore>,
    chance: RandomState,
}

impl One {
    async fn watch(self) {
        // The first at once, or nearly: nobody waits an interval to hear of a server that is down.
        let first = self.health.interval.min(Duration::from_secs(1));
        tokio::time::sleep(first.mul_f64(self.dice(0))).await;
        let (mut good, mut bad) = (0_u32, 0_u32);
        for turn in 1.. {
            let Ok(permit) = self.at_once.acquire().await else {
                return;
            };
            let Some(group) = self.group.upgrade() else {
                return;
            };
            let Some(server) = group.server(self.index) else {
                return;
            };
            let asked = self.ask(server).await;
            drop(permit);
            match asked {
                Ok(()) => {
                    (good, bad) = (good.saturating_add(1), 0);
                    if server.health.is_bad() && good >= self.health.healthy {
                        tracing::info!(backend = %server, good, "health checks go well again");
                        group.judge(server, true, String::new());
                    }
                }
                Err(why) => {
                    (good, bad) = (0, bad.saturating_add(1));
                    if !server.health.is_bad() && bad >= self.health.unhealthy {
                        tracing::warn!(backend = %server, why, bad, "health checks fail, left out");
                        group.judge(server, false, why);
                    }
                }
            }
            drop(group);
            let spread = 0.2_f64.mul_add(self.dice(turn), 0.9);
            tokio::time::sleep(self.health.interval.mul_f64(spread)).await;
        }
    }

    /// From 0 to 1.
    fn dice(&self, turn: u64) -> f64 {
        let thrown = self.chance.hash_one(turn) >> 40;
        u32::try_from(thrown).map_or(0.0, |thrown| f64::from(thrown) / f64::from(1_u32 << 24))
    }

    async fn ask(&self, server: &Server) -> Result<(), String> {
        let within = self.health.patience;
        tokio::time::timeout(within, self.answer(server))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {within:?}")))
    }

    async fn answer(&self, server: &Server) -> Result<(), String> {
        /// What is read of an answer, so that the server need not see it cut.
        const LONGEST: usize = 64 * 1024;
        let connection = connect::connect(server, self.health.patience).await;
        let mut connection = connection.map_err(|error| error.to_string())?;
        let mut request = Request::new(Upload::new(body::empty()).0);
        *request.uri_mut() = self
            .health
            .path
            .parse()
            .map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("kerbgate-health"),
        );
        let sent = connection.send(request).await;
        let response = sent.map_err(|failed| failed.into_error().to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST);
        if !self.health.expects(status) {
            return Err(format!("status {}", status.as_u16()));
        }
        // Longer, broken or late: the status was good.
        drop(tokio::time::timeout(self.health.patience / 2, body.collect()).await);
        Ok(())
    }
}
