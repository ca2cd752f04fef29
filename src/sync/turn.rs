//! The right to change something: one run at a time, on this machine and among replicas.
//!
//! A locked file keeps out other processes here, and goes with the process however it ends. A lease in the store keeps out other
//! machines. Its holder is the folder and not the process: what a killed process of this folder held, the next one takes over.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Error;
use super::Look;
use super::Outcome;
use super::Progress;
use super::Run;
use super::Sync;
use super::journal;
use super::saved::Saved;
use crate::model::clock::Clock;
use crate::store::Store;
use crate::store::records::Lease;
use crate::telemetry::metrics::metrics;

const NAME: &str = "sync:guests";
const LEASE: Duration = Duration::from_secs(60);
const PROLONG_EVERY: Duration = Duration::from_secs(15);

/// Lock and lease of a run, whatever it synchronizes.
#[derive(Debug)]
pub(super) struct Hold {
    store: Option<Arc<dyn Store>>,
    clock: Clock,
    name: &'static str,
    holder: String,
    _lock: File,
}

/// A run under way.
#[derive(Debug)]
pub struct Turn<'a> {
    room: &'a Sync,
    hold: Hold,
}

impl Sync {
    /// Begins a run: nobody else may until [`Turn::end`], or the end of the process.
    ///
    /// # Errors
    /// Another run is under way, or folder or store cannot be used.
    pub async fn begin(&self) -> Result<Turn<'_>, Error> {
        let tools = &self.tools;
        let hold = Hold::take(&self.folder, tools.store.clone(), tools.clock, NAME).await?;
        Ok(Turn { room: self, hold })
    }
}

/// The folder's own name, made once.
fn holder(folder: &Path) -> io::Result<String> {
    let path = folder.join("holder");
    match fs::read_to_string(&path) {
        Ok(text) if text.parse::<Uuid>().is_ok() => Ok(text),
        Ok(_) => fresh(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fresh(&path),
        Err(error) => Err(error),
    }
}

fn fresh(path: &Path) -> io::Result<String> {
    let name = Uuid::new_v4().to_string();
    fs::write(path, &name)?;
    Ok(name)
}

impl Hold {
    /// Takes both: the lock in `folder`, the lease `name` in the store.
    pub(super) async fn take(
        folder: &Path,
        store: Option<Arc<dyn Store>>,
        clock: Clock,
        name: &'static str,
    ) -> Result<Self, Error> {
        journal::folder(folder)?;
        let path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::Busy(format!("{} is locked", path.display())));
            }
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        let hold = Self {
            store,
            clock,
            name,
            holder: holder(folder)?,
            _lock: lock,
        };
        hold.renew().await?;
        Ok(hold)
    }

    /// Takes the lease, or keeps it.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        if let Some(store) = &self.store
            && !store.take_lease(&self.lease(), self.clock.unix()).await?
        {
            let why = "another replica holds the lease";
            return Err(Error::Busy(String::from(why)));
        }
        Ok(())
    }

    fn lease(&self) -> Lease {
        Lease {
            name: self.name.to_owned(),
            holder: self.holder.clone(),
            until: self.clock.unix_after(LEASE),
        }
    }

    /// Does `work` for as long as the lease is ours; cut off, it is as if the process had been killed.
    pub(super) async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            () = self.lost() => Err(Error::Busy(String::from("the lease was lost to another replica"))),
        }
    }

    async fn lost(&self) {
        let Some(store) = &self.store else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            let now = self.clock.unix();
            if matches!(store.prolong_lease(&self.lease(), now).await, Ok(false)) {
                return;
            }
        }
    }

    /// Gives the lease back.
    pub(super) async fn give_back(self) {
        if let Some(store) = &self.store {
            // If it stays, it ends by itself.
            drop(store.give_lease_back(self.name, &self.holder).await);
        }
    }
}

impl Turn<'_> {
    /// What would be done now; `approved`: it must be what that plan says.
    ///
    /// # Errors
    /// A side does not answer; the plan is another tenant's; the world has changed.
    pub async fn look(&self, approved: Option<&Saved>) -> Result<Look, Error> {
        let id = approved.map(Saved::id);
        let past = journal::past(&self.room.folder, id.as_deref())?;
        let here = self.room.tenant;
        if let Some(plan) = approved
            .map(|saved| saved.tenant)
            .filter(|plan| *plan != here)
        {
            return Err(Error::OtherTenant { plan, here });
        }
        let look = self.hold.during(self.room.look_after(&past)).await?;
        if let Some(saved) = approved {
            let differences = saved.differences(&look.plan.steps, &past.begun);
            if !differences.is_empty() {
                return Err(Error::Changed(differences));
            }
        }
        Ok(look)
    }

    /// Carries out what `look` has planned, unless the brake stops it. `accepted`: how many removals somebody has accepted.
    ///
    /// # Errors
    /// The brake, the journal, or a directory that does not answer any more: what was not done is left to the next run.
    pub async fn apply(
        &self,
        look: &Look,
        accepted: Option<usize>,
        run: &Run,
        progress: Progress<'_>,
    ) -> Result<Outcome, Error> {
        let removals = look.plan.removals();
        let (steps, braked) = (look.plan.steps.len(), !look.brake.is_empty());
        metrics().sync_plan("guests", steps, removals, braked);
        if !look.brake.is_empty() && accepted != Some(removals) {
            return Err(Error::Brake {
                reasons: look.brake.clone(),
                removals,
            });
        }
        if look.plan.steps.is_empty() {
            return Ok(Outcome::default());
        }
        // Somebody may have thought about it for longer than a lease lasts.
        self.hold.renew().await?;
        self.hold
            .during(
                self.room
                    .on(&look.server)
                    .carry_out(&look.plan.steps, run, progress),
            )
            .await
    }

    /// Gives the lease back.
    pub async fn end(self) {
        self.hold.give_back().await;
    }
}
