//! What is remembered about each person: one evidence ticket, and one ticket for each service.
//!
//! In memory only, bounded, for as long as the tickets live. A service ticket is a credential of its own
//! (a copy of the evidence that fetched its service ticket): two services never wait for one another, and
//! one ticket can be thrown away without the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use libgssapi::credential::Cred;
use libgssapi::name::Name;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use tokio::sync::OnceCell;

use crate::model::names::Principal;
use crate::model::names::Spn;

use super::error::Error;
use super::ffi::Portable;
use super::native::Native;

/// Where a ticket is or will be: whoever comes first fetches it, the others wait for it.
type Slot = Arc<OnceCell<Arc<Ticket>>>;

/// S4U2Self's result for one person.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) evidence: Portable,
    pub(super) forwardable: Option<bool>,
    pub(super) expires: Instant,
    tickets: Mutex<HashMap<Spn, Slot>>,
}

/// S4U2Proxy's result for one person and service: tokens are made from it without asking anybody.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Whose it was proved to be.
    pub(super) client: Principal,
    /// For which service.
    pub(super) spn: Spn,
    pub(super) cred: Cred,
    pub(super) target: Name,
    /// Makes tokens without GSS-API, where that is possible.
    pub(super) native: Option<Native>,
    pub(super) expires: Instant,
}

impl Person {
    pub(super) fn new(evidence: Portable, forwardable: Option<bool>, expires: Instant) -> Self {
        Self {
            evidence,
            forwardable,
            expires,
            tickets: Mutex::default(),
        }
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<Spn, Slot>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ticket for `spn` if there is a good one.
    pub(super) fn ticket(&self, spn: &Spn) -> Option<Arc<Ticket>> {
        let mut tickets = self.tickets();
        let ticket = tickets.get(spn)?.get()?;
        if ticket.expires > Instant::now() {
            return Some(Arc::clone(ticket));
        }
        tickets.remove(spn);
        None
    }

    pub(super) fn slot(&self, spn: &Spn) -> Slot {
        Arc::clone(self.tickets().entry(spn.clone()).or_default())
    }

    pub(super) fn forget(&self, spn: &Spn) {
        self.tickets().remove(spn);
    }
}

/// An entry lives as long as the ticket in it.
#[derive(Debug)]
struct TicketLifetime;

impl Expiry<Principal, Arc<Person>> for TicketLifetime {
    fn expire_after_create(
        &self,
        _who: &Principal,
        person: &Arc<Person>,
        now: Instant,
    ) -> Option<Duration> {
        Some(person.expires.saturating_duration_since(now))
    }
}

/// All people, and the refusals of the last seconds.
#[derive(Debug)]
pub(super) struct People {
    known: moka::future::Cache<Principal, Arc<Person>>,
    refused: moka::sync::Cache<(Principal, Option<Spn>), Error>,
    /// When somebody was purged: a flight that began before must not bring them back.
    purged: moka::sync::Cache<Principal, Instant>,
}

const REMEMBER_REFUSAL: Duration = Duration::from_secs(5);
/// Longer than any flight.
const REMEMBER_PURGE: Duration = Duration::from_secs(300);

impl People {
    pub(super) fn new(most: u64) -> Self {
        Self {
            known: moka::future::Cache::builder()
                .max_capacity(most)
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(TicketLifetime)
                .build(),
            refused: moka::sync::Cache::builder()
                .max_capacity(most)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(REMEMBER_REFUSAL)
                .build(),
            // SECURITY: least recently used, so that a purge always finds its place.
            purged: moka::sync::Cache::builder()
                .max_capacity(most)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(REMEMBER_PURGE)
                .build(),
        }
    }

    pub(super) async fn known(&self, who: &Principal) -> Option<Arc<Person>> {
        self.known
            .get(who)
            .await
            .filter(|person| person.expires > Instant::now())
    }

    /// The person, or the one that `fetch` brings; one fetch at a time for each.
    pub(super) async fn or_fetch(
        &self,
        who: &Principal,
        fetch: impl Future<Output = Result<Arc<Person>, Error>>,
    ) -> Result<Arc<Person>, Error> {
        self.known
            .try_get_with_by_ref(who, fetch)
            .await
            .map_err(|shared| (*shared).clone())
    }

    /// The refusal of the last seconds, of the person or of this service to them.
    pub(super) fn refusal(&self, who: &Principal, spn: &Spn) -> Option<Error> {
        self.refused
            .get(&(who.clone(), None))
            .or_else(|| self.refused.get(&(who.clone(), Some(spn.clone()))))
    }

    pub(super) fn remember(&self, who: &Principal, spn: Option<&Spn>, error: &Error) {
        if error.is_settled() {
            self.refused
                .insert((who.clone(), spn.cloned()), error.clone());
        }
    }

    pub(super) async fn purge(&self, who: &Principal) {
        self.purged.insert(who.clone(), Instant::now());
        self.refused.invalidate(&(who.clone(), None));
        self.known.invalidate(who).await;
    }

    /// What is being fetched at this moment is kept, unlike by [`Self::purge`].
    pub(super) fn purge_all(&self) {
        self.refused.invalidate_all();
        self.known.invalidate_all();
    }

    pub(super) async fn purge_ticket(&self, who: &Principal, spn: &Spn) {
        self.refused.invalidate(&(who.clone(), Some(spn.clone())));
        if let Some(person) = self.known.get(who).await {
            person.forget(spn);
        }
    }

    /// Whether `who` was purged since `began`.
    pub(super) fn was_purged(&self, who: &Principal, began: Instant) -> bool {
        self.purged.get(who).is_some_and(|when| when >= began)
    }

    pub(super) fn count(&self) -> u64 {
        self.known.entry_count()
    }
}
