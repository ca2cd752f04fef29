//! The gateway's own ticket: fetched when first needed, renewed early, following the keytab file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::model::names::Principal;

use super::ask::Asker;
use super::error::Error;
use super::error::Step;
use super::ffi;
use super::ffi::Portable;
use super::keytab::Fingerprint;
use super::keytab::Keytab;

/// The gateway's own credential and how long it is good for.
#[derive(Debug)]
pub(super) struct Tgt {
    pub(super) portable: Portable,
    acquired: Instant,
    lifetime: Duration,
    pub(super) took: Duration,
    keytab: Fingerprint,
}

impl Tgt {
    pub(super) fn remaining(&self) -> Duration {
        self.lifetime.saturating_sub(self.acquired.elapsed())
    }

    /// libkrb5 renews a credential from its keytab by itself once half its life is over, in the middle of
    /// whatever call comes by then. We are earlier, in the background.
    fn is_due(&self) -> bool {
        self.acquired.elapsed() >= self.lifetime.mul_f64(0.4)
    }
}

/// Whose ticket from which keytab.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) principal: Principal,
    keytab: PathBuf,
    allow_rc4: bool,
    current: ArcSwapOption<Tgt>,
    flight: tokio::sync::Mutex<()>,
    notes: Mutex<Notes>,
}

#[derive(Debug)]
struct Notes {
    keytab: Keytab,
    /// A version of the file that was found bad, and how.
    rejected: Option<(Option<Fingerprint>, String)>,
    failed: Option<(Instant, Error)>,
}

/// The state of the gateway's own ticket.
#[derive(Clone, Debug)]
pub struct TgtStatus {
    /// How long it is still good, if there is one.
    pub remaining: Option<Duration>,
    /// The key version in the keytab.
    pub kvno: Option<u32>,
    /// What is wrong with the keytab file that lies there now; the one before it is still in use.
    pub keytab_problem: Option<String>,
    /// Why the last attempt to fetch a ticket failed.
    pub last_error: Option<String>,
}

const MARGIN: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(20);
static CCACHES: AtomicU64 = AtomicU64::new(0);

impl Keeper {
    pub(super) fn start(
        principal: Principal,
        keytab: PathBuf,
        allow_rc4: bool,
    ) -> Result<Self, Error> {
        let read = Keytab::read(&keytab)?;
        read.check(&principal, allow_rc4)?;
        if read.is_group_readable() {
            tracing::warn!(keytab = %keytab.display(), "the keytab's group can read it");
        }
        Ok(Self {
            principal,
            keytab,
            allow_rc4,
            current: ArcSwapOption::empty(),
            flight: tokio::sync::Mutex::new(()),
            notes: Mutex::new(Notes {
                keytab: read,
                rejected: None,
                failed: None,
            }),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> TgtStatus {
        let notes = self.notes();
        TgtStatus {
            remaining: self
                .current
                .load()
                .as_ref()
                .map(|tgt| tgt.remaining())
                .filter(|left| !left.is_zero()),
            kvno: notes.keytab.newest_kvno(&self.principal),
            keytab_problem: notes.rejected.as_ref().map(|(_, reason)| reason.clone()),
            last_error: notes.failed.as_ref().map(|(_, error)| error.to_string()),
        }
    }

    /// The ticket, fetched now if there is none. The flag says whether this call fetched it.
    pub(super) async fn current(&self, asker: &Asker) -> Result<(Arc<Tgt>, bool), Error> {
        if let Some(tgt) = self.good() {
            return Ok((tgt, false));
        }
        let _flight = self.flight.lock().await;
        // Somebody else may have fetched it while we waited for the lock.
        if let Some(tgt) = self.good() {
            return Ok((tgt, false));
        }
        self.fetch(asker).await.map(|tgt| (tgt, true))
    }

    /// Throws the ticket away if it is older than `began`: the KDC did not take it since.
    pub(super) fn distrust(&self, began: Instant) {
        let old = self.current.load_full();
        if old.as_ref().is_some_and(|tgt| tgt.acquired < began) {
            drop(self.current.compare_and_swap(&old, None));
        }
    }

    /// What is to be done every few seconds: follow the file, renew early.
    pub(super) async fn tend(&self, asker: &Asker) {
        let changed = self.reread();
        let resting = self
            .notes()
            .failed
            .as_ref()
            .is_some_and(|(when, _)| when.elapsed() < RETRY);
        if resting && !changed {
            return;
        }
        let _flight = self.flight.lock().await;
        if !self.is_due() {
            return;
        }
        if let Err(error) = self.fetch(asker).await {
            // The ticket in use, if there is one, stays in use.
            let diagnosis = error.diagnosis();
            tracing::warn!(%error, code = diagnosis.code, check = diagnosis.check, "no new ticket for the gateway");
        }
    }

    fn is_due(&self) -> bool {
        self.current
            .load_full()
            .is_none_or(|tgt| tgt.is_due() || tgt.keytab != self.notes().keytab.fingerprint())
    }

    fn good(&self) -> Option<Arc<Tgt>> {
        self.current
            .load_full()
            .filter(|tgt| tgt.remaining() > MARGIN.min(tgt.lifetime / 4))
    }

    async fn fetch(&self, asker: &Asker) -> Result<Arc<Tgt>, Error> {
        let began = Instant::now();
        let keytab = self.notes().keytab.fingerprint();
        let (principal, path) = (self.principal.clone(), self.keytab.clone());
        let outcome = asker
            .kdc(Step::AcquireTgt, &self.principal, move || {
                // A name never used before: over an existing cache libkrb5 would take the old ticket.
                let n = CCACHES.fetch_add(1, Ordering::Relaxed);
                ffi::acquire(&principal, &path, &format!("MEMORY:kerbgate-{n}"))
                    .map_err(|failure| Error::gss(Step::AcquireTgt, &principal, None, failure))
            })
            .await;
        match outcome {
            Ok((portable, lifetime)) => {
                let tgt = Arc::new(Tgt {
                    portable,
                    acquired: began,
                    lifetime,
                    took: began.elapsed(),
                    keytab,
                });
                tracing::info!(principal = %self.principal, ?lifetime, "ticket of the gateway fetched");
                self.current.store(Some(Arc::clone(&tgt)));
                self.notes().failed = None;
                Ok(tgt)
            }
            Err(error) => {
                self.notes().failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Reads the keytab again if the file is another; a bad one is reported once and the old one kept.
    fn reread(&self) -> bool {
        let seen = Keytab::fingerprint_of(&self.keytab).ok();
        let mut notes = self.notes();
        if seen == Some(notes.keytab.fingerprint()) {
            notes.rejected = None;
            return false;
        }
        if notes
            .rejected
            .as_ref()
            .is_some_and(|(known, _)| *known == seen)
        {
            return false;
        }
        let read = Keytab::read(&self.keytab)
            .and_then(|read| read.check(&self.principal, self.allow_rc4).map(|()| read));
        match read {
            Ok(read) => {
                let kvno = read.newest_kvno(&self.principal);
                tracing::info!(keytab = %self.keytab.display(), kvno, "the keytab file changed");
                notes.keytab = read;
                notes.rejected = None;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the changed keytab is unusable; the ticket in use stays in use");
                notes.rejected = Some((seen, error.to_string()));
                false
            }
        }
    }
}
