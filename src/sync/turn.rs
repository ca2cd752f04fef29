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
use std::time::Instant;

use uuid::Uuid;

use super::Error;
use super::Outcome;
use super::Progress;
use super::Run;
use super::Tools;
use super::journal;
use super::saved::Planned as _;
use super::saved::Saved;
use super::synchronization::Synchronization;
use crate::model::clock::Clock;
use crate::store::Store;
use crate::store::records::Lease;
use crate::telemetry::metrics::metrics;

const LEASE: Duration = Duration::from_secs(60);
const PROLONG_EVERY: Duration = Duration::from_secs(15);

/// Lock and lease of a run.
#[derive(Debug)]
struct Hold {
    store: Option<Arc<dyn Store>>,
    clock: Clock,
    name: &'static str,
    holder: String,
    _lock: File,
}

/// A run under way.
#[derive(Debug)]
pub struct Turn<'a, K> {
    room: &'a K,
    hold: Hold,
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
    async fn take(folder: &Path, tools: &Tools, name: &'static str) -> Result<Self, Error> {
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
            store: tools.store.clone(),
            clock: tools.clock,
            name,
            holder: holder(folder)?,
            _lock: lock,
        };
        hold.renew().await?;
        Ok(hold)
    }

    /// Takes the lease, or keeps it.
    async fn renew(&self) -> Result<(), Error> {
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
    async fn during<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            () = self.lost() => Err(Error::Busy(String::from("the lease was lost to another replica"))),
        }
    }

    async fn lost(&self) {
        let Some(store) = &self.store else {
            return std::future::pending().await;
        };
        let mut kept = Instant::now();
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            let (asked, lease) = (Instant::now(), self.lease());
            let prolonged = store.prolong_lease(&lease, self.clock.unix());
            let prolonged = tokio::time::timeout(PROLONG_EVERY, prolonged).await;
            let prolonged = prolonged.ok().and_then(Result::ok);
            let Some(since) = still_ours(prolonged, kept, asked) else {
                return;
            };
            kept = since;
        }
    }

    /// Gives the lease back.
    async fn give_back(self) {
        if let Some(store) = &self.store {
            // If it stays, it ends by itself.
            drop(store.give_lease_back(self.name, &self.holder).await);
        }
    }
}

/// When a lease was last prolonged that is still ours. `prolonged`: what the store said when it was asked at `asked`, if it did.
///
/// SECURITY: a store that is away prolongs nothing, and who still reaches it is given the lease once it is over: so the run ends before.
fn still_ours(prolonged: Option<bool>, kept: Instant, asked: Instant) -> Option<Instant> {
    match prolonged {
        Some(true) => Some(asked),
        Some(false) => None,
        // The next answer may take as long again, and come as late again.
        None => (kept.elapsed() + PROLONG_EVERY * 2 < LEASE).then_some(kept),
    }
}

impl<'a, K: Synchronization> Turn<'a, K> {
    /// Begins a run: nobody else may until [`Turn::end`], or the end of the process.
    ///
    /// # Errors
    /// Another run is under way, or folder or store cannot be used.
    pub async fn begin(room: &'a K) -> Result<Self, Error> {
        let hold = Hold::take(room.folder(), room.tools(), K::LEASE).await?;
        Ok(Self { room, hold })
    }

    /// What would be done now; `approved`: it must be what that plan says.
    ///
    /// # Errors
    /// A side does not answer; the plan is another tenant's; the world has changed.
    pub async fn look(
        &self,
        approved: Option<&Saved<K::Step, K::LeftAlone>>,
    ) -> Result<K::Look, Error> {
        let id = approved.map(Saved::id);
        let past = journal::past(self.room.folder(), id.as_deref())?;
        let here = self.room.tenant();
        if let Some(plan) = approved
            .map(|saved| saved.tenant)
            .filter(|plan| *plan != here)
        {
            return Err(Error::OtherTenant { plan, here });
        }
        let look = self.hold.during(self.room.look_after(&past)).await?;
        if let Some(saved) = approved {
            let differences = saved.differences(K::steps(&look), &past.begun);
            if !differences.is_empty() {
                return Err(Error::Changed(differences));
            }
        }
        Ok(look)
    }

    /// Carries out what `look` has planned, unless the brake stops it. `accepted`: how many removals somebody has accepted.
    ///
    /// # Errors
    /// The brake, the journal, or a side that does not answer any more: what was not done is left to the next run.
    pub async fn apply(
        &self,
        look: &K::Look,
        accepted: Option<usize>,
        run: &Run,
        progress: Progress<'_, K::Step>,
    ) -> Result<Outcome<K::Step>, Error> {
        let (steps, reasons) = (K::steps(look), K::brake(look));
        let removals = K::Step::removals(steps);
        metrics().sync_plan(K::WHOSE, steps.len(), removals, !reasons.is_empty());
        if !reasons.is_empty() && accepted != Some(removals) {
            return Err(Error::Brake {
                reasons: reasons.to_vec(),
                removals,
            });
        }
        if steps.is_empty() {
            return Ok(Outcome::default());
        }
        // Somebody may have thought about it for longer than a lease lasts.
        self.hold.renew().await?;
        let work = self.room.carry_out(look, run, progress);
        self.hold.during(work).await
    }

    /// Gives the lease back.
    pub async fn end(self) {
        self.hold.give_back().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_nobody_prolongs_is_given_up_before_it_is_over() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        assert_eq!(still_ours(Some(true), ago(50), now), Some(now));
        assert_eq!(still_ours(Some(false), now, now), None);
        // Asked once in vain, and again: then it would be over before a third answer could come.
        assert_eq!(still_ours(None, ago(15), now), Some(ago(15)));
        assert_eq!(still_ours(None, ago(30), now), None);
    }
}
