//! The right to change something: one run at a time, on this machine and among replicas.
//!
//! A locked file keeps out other processes here, and goes with the process however it ends. A lease in the store keeps out other
//! machines. Its holder is the folder and not the process: what a killed process of this folder held, the next one takes over.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
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
use crate::store::records::Lease;

const NAME: &str = "sync:guests";
const LEASE: Duration = Duration::from_secs(60);
const PROLONG_EVERY: Duration = Duration::from_secs(15);

/// A run under way.
#[derive(Debug)]
pub struct Turn<'a> {
    room: &'a Sync,
    holder: String,
    _lock: File,
}

impl Sync {
    /// Begins a run: nobody else may until [`Turn::end`], or the end of the process.
    ///
    /// # Errors
    /// Another run is under way, or folder or store cannot be used.
    pub async fn begin(&self) -> Result<Turn<'_>, Error> {
        journal::folder(&self.folder)?;
        let path = self.folder.join("lock");
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
        let turn = Turn {
            room: self,
            holder: holder(&self.folder)?,
            _lock: lock,
        };
        turn.take_lease().await?;
        Ok(turn)
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

impl Turn<'_> {
    async fn take_lease(&self) -> Result<(), Error> {
        let tools = &self.room.tools;
        if let Some(store) = &tools.store
            && !store.take_lease(&self.lease(), tools.clock.unix()).await?
        {
            let why = "another replica holds the lease";
            return Err(Error::Busy(String::from(why)));
        }
        Ok(())
    }

    fn lease(&self) -> Lease {
        Lease {
            name: NAME.to_owned(),
            holder: self.holder.clone(),
            until: self.room.tools.clock.unix_after(LEASE),
        }
    }

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
        let look = self.held(self.room.look_after(&past)).await?;
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
        self.take_lease().await?;
        self.held(self.room.carry_out(&look.plan.steps, run, progress))
            .await
    }

    /// Gives the lease back.
    pub async fn end(self) {
        if let Some(store) = &self.room.tools.store {
            // If it stays, it ends by itself.
            drop(store.give_lease_back(NAME, &self.holder).await);
        }
    }

    /// Does `work` for as long as the lease is ours; cut off, it is as if the process had been killed.
    async fn held<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            () = self.lost() => Err(Error::Busy(String::from("the lease was lost to another replica"))),
        }
    }

    async fn lost(&self) {
        let Some(store) = &self.room.tools.store else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            let now = self.room.tools.clock.unix();
            if matches!(store.prolong_lease(&self.lease(), now).await, Ok(false)) {
                return;
            }
        }
    }
}
