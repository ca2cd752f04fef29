//! A few multiplexed connections to each domain controller, and fail-over between controllers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use super::Settings;
use super::connection::Connection;
use super::error::Error;
use super::operation::Found;
use super::operation::Search;
use super::operation::Session;
use super::servers::Known;
use crate::model::names::HostName;

/// Longest time during which a controller that failed is not tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// The directory: all its domain controllers as one.
#[derive(Clone, Debug)]
pub struct Directory {
    pool: Arc<Pool>,
    only: Option<HostName>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) settings: Settings,
    known: tokio::sync::Mutex<Known>,
    stations: Mutex<HashMap<HostName, Arc<Station>>>,
}

/// One domain controller as the pool sees it.
#[derive(Debug)]
struct Station {
    slots: Vec<tokio::sync::Mutex<Option<Arc<Connection>>>>,
    next: AtomicUsize,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    rest: Option<(Instant, Error)>,
}

impl Directory {
    /// A pool for `settings`. Nothing is connected yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let pool = Arc::new(Pool {
            settings,
            known: tokio::sync::Mutex::default(),
            stations: Mutex::default(),
        });
        Self { pool, only: None }
    }

    /// The directory that a pool is.
    pub(super) fn of(pool: &Arc<Pool>) -> Self {
        let pool = Arc::clone(pool);
        Self { pool, only: None }
    }

    /// The same connections, `server` alone: without it there is no directory. For work whose writes must be seen by what follows.
    #[must_use]
    pub fn only(&self, server: &HostName) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            only: Some(server.clone()),
        }
    }

    /// The settings it was made with.
    pub(super) fn settings(&self) -> &Settings {
        &self.pool.settings
    }

    /// Domain controllers in order of preference.
    ///
    /// # Errors
    /// None is listed, and DNS names none.
    pub async fn servers(&self) -> Result<Vec<HostName>, Error> {
        if let Some(only) = &self.only {
            return Ok(vec![only.clone()]);
        }
        self.pool.settings.servers.list(&self.pool.known).await
    }

    /// A session with the best controller that answers: all its operations go to that one.
    ///
    /// # Errors
    /// No controller answers, or they refuse the bind.
    pub async fn session(&self) -> Result<Session, Error> {
        let mut failures = Vec::new();
        for server in self.servers().await? {
            match self.session_on(&server).await {
                Ok(session) => return Ok(session),
                Err(error) => failures.push(error),
            }
        }
        Err(worst(failures))
    }

    /// A session with `server` and no other.
    ///
    /// # Errors
    /// It does not answer, or refuses the bind.
    pub async fn session_on(&self, server: &HostName) -> Result<Session, Error> {
        let station = self.pool.station(server);
        let slot = station.next.fetch_add(1, Ordering::Relaxed) % station.slots.len().max(1);
        let Some(slot) = station.slots.get(slot) else {
            return Err(Error::NoServer {
                reason: String::from("connections = 0"),
            });
        };
        let mut slot = slot.lock().await;
        let settings = &self.pool.settings;
        if let Some(connection) = slot.as_ref()
            && connection.is_usable(settings.idle, settings.lifetime)
        {
            return Ok(Session::new(&self.pool, server, connection, false));
        }
        *slot = None;
        station.rested()?;
        match Connection::open(settings, server).await {
            Ok(connection) => {
                station.answered();
                let connection = Arc::new(connection);
                let session = Session::new(&self.pool, server, &connection, true);
                *slot = Some(connection);
                self.pool.watch_idle(&station);
                Ok(session)
            }
            Err(error) => {
                tracing::warn!(%server, %error, "no connection to a domain controller");
                station.failed(&error);
                Err(error)
            }
        }
    }

    /// Reads from the best controller that answers.
    ///
    /// # Errors
    /// No controller answers, or one refuses the search.
    pub async fn search(&self, search: &Search) -> Result<Found, Error> {
        let mut failures = Vec::new();
        for server in self.servers().await? {
            match self.search_on(&server, search).await {
                Err(error) if error.is_connection() => failures.push(error),
                answer => return answer,
            }
        }
        Err(worst(failures))
    }

    /// Reads from `server` and no other. A connection that had died unnoticed is replaced once.
    ///
    /// # Errors
    /// It does not answer, or refuses the search.
    pub async fn search_on(&self, server: &HostName, search: &Search) -> Result<Found, Error> {
        let session = self.session_on(server).await?;
        match session.search(search).await {
            Err(Error::Lost { .. }) if !session.is_fresh() => {
                self.session_on(server).await?.search(search).await
            }
            answer => answer,
        }
    }

    /// Asks every controller for its root entry now: name, answer, time.
    ///
    /// # Errors
    /// No controller is known.
    pub async fn probe(&self) -> Result<Vec<(HostName, Result<Duration, Error>)>, Error> {
        let mut answers = Vec::new();
        for server in self.servers().await? {
            let begun = Instant::now();
            let answer = match self.session_on(&server).await {
                Ok(session) => session.root().await.map(|_| begun.elapsed()),
                Err(error) => Err(error),
            };
            answers.push((server, answer));
        }
        Ok(answers)
    }
}

impl Pool {
    fn station(&self, server: &HostName) -> Arc<Station> {
        let mut stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        let station = stations.entry(server.clone()).or_insert_with(|| {
            Arc::new(Station {
                slots: (0..self.settings.connections.max(1))
                    .map(|_| tokio::sync::Mutex::default())
                    .collect(),
                next: AtomicUsize::new(0),
                health: Mutex::default(),
            })
        });
        Arc::clone(station)
    }

    /// An operation got no answer: the controller rests, so that the next one asks another.
    pub(super) fn no_answer(&self, server: &HostName, error: &Error) {
        self.station(server).failed(error);
    }

    /// Closes connections that nobody used for a while, before the controller does (15 minutes).
    fn watch_idle(&self, station: &Arc<Station>) {
        let station: Weak<Station> = Arc::downgrade(station);
        let (idle, lifetime) = (self.settings.idle, self.settings.lifetime);
        let pause = idle.min(lifetime).max(Duration::from_secs(1));
        drop(tokio::spawn(close_when_unused(
            station, pause, idle, lifetime,
        )));
    }
}

async fn close_when_unused(
    station: Weak<Station>,
    pause: Duration,
    idle: Duration,
    lifetime: Duration,
) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(station) = station.upgrade() else {
            return;
        };
        if !station.close_unused(idle, lifetime).await {
            return;
        }
    }
}

impl Station {
    /// Fails at once while the controller rests: nobody waits for a time-out twice.
    fn rested(&self) -> Result<(), Error> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match &health.rest {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    fn answered(&self) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::default();
    }

    fn failed(&self, error: &Error) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = FIRST_BACKOFF
            .saturating_mul(1 << health.failures.min(8))
            .min(LONGEST_BACKOFF);
        health.failures = health.failures.saturating_add(1);
        health.rest = Some((Instant::now() + pause, error.clone()));
    }

    /// True while any connection is left.
    async fn close_unused(&self, idle: Duration, lifetime: Duration) -> bool {
        let mut left = false;
        for slot in &self.slots {
            let mut slot = slot.lock().await;
            if slot
                .as_ref()
                .is_some_and(|one| !one.is_usable(idle, lifetime))
            {
                *slot = None;
            }
            left |= slot.is_some();
        }
        left
    }
}

/// The failure that tells most: a refusal or a Kerberos error before "does not answer".
fn worst(failures: Vec<Error>) -> Error {
    let mut failures = failures.into_iter().peekable();
    let Some(first) = failures.next() else {
        return Error::NoServer {
            reason: String::from("the list is empty"),
        };
    };
    if !first.is_connection() {
        return first;
    }
    failures
        .find(|error| !error.is_connection())
        .unwrap_or(first)
}
