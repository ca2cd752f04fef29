//! One run at a time: by command, or on a schedule inside the gateway.

use std::sync::Arc;
use std::time::Duration;

use super::BY;
use super::Look;
use super::Partners;
use super::Saved;
use super::step::Step;
use crate::sync::Error;
use crate::sync::Outcome;
use crate::sync::Progress;
use crate::sync::Run;
use crate::sync::journal;
use crate::sync::turn::Hold;
use crate::telemetry::metrics::metrics;

const NAME: &str = "sync:partners";
/// The first round after a start comes soon: what happened meanwhile has waited already.
const SOON: Duration = Duration::from_secs(20);

/// A run under way.
#[derive(Debug)]
pub struct Turn<'a> {
    room: &'a Partners,
    hold: Hold,
}

impl Partners {
    /// Begins a run: nobody else may until [`Turn::end`], or the end of the process.
    ///
    /// # Errors
    /// Another run is under way, or folder or store cannot be used.
    pub async fn begin(&self) -> Result<Turn<'_>, Error> {
        let (tools, folder) = (&self.tools, &self.settings.folder);
        let hold = Hold::take(folder, tools.store.clone(), tools.clock, NAME).await?;
        Ok(Turn { room: self, hold })
    }

    /// A run every `every`. Never returns.
    pub async fn keep(self: Arc<Self>, every: Duration) {
        tokio::time::sleep(every.min(SOON)).await;
        loop {
            self.round().await;
            tokio::time::sleep(every).await;
        }
    }

    async fn round(&self) {
        let done = self.run_once().await;
        crate::sync::count("partners", &done, self.tools.clock.unix());
        match done {
            Ok(outcome) if outcome == Outcome::default() => {
                tracing::debug!("partners are in step");
            }
            Ok(outcome) => {
                for (step, why) in &outcome.failed {
                    tracing::warn!(%step, why, "a step of the synchronization of partners failed");
                }
                let (done, failed) = (outcome.done, outcome.failed.len());
                tracing::info!(target: "audit", event = "sync-done", done, failed, what = "partners", via = "sync");
            }
            Err(Error::Busy(why)) => tracing::info!(why, "partners are synchronized elsewhere"),
            Err(error @ Error::Brake { .. }) => {
                let reason = error.to_string();
                tracing::error!(
                    why = reason,
                    "partners are not synchronized: look at `kerbgate sync partners plan`"
                );
                tracing::info!(target: "audit", event = "sync-stopped", reason, what = "partners", via = "sync");
            }
            Err(error) => {
                tracing::warn!(%error, "partners are not synchronized, the next round tries again");
            }
        }
    }

    async fn run_once(&self) -> Result<Outcome<Step>, Error> {
        let turn = self.begin().await?;
        let look = turn.look(None).await;
        let done = match &look {
            Ok(look) => {
                let run = Run {
                    by: BY.to_owned(),
                    plan: None,
                };
                turn.apply(look, None, &run, &|_, _, _| {}).await
            }
            Err(_) => Ok(Outcome::default()),
        };
        turn.end().await;
        look.and(done)
    }
}

impl Turn<'_> {
    /// What would be done now; `approved`: it must be what that plan says.
    ///
    /// # Errors
    /// A side does not answer; the plan is another tenant's; the world has changed.
    pub async fn look(&self, approved: Option<&Saved>) -> Result<Look, Error> {
        let id = approved.map(Saved::id);
        let past = journal::past::<Step>(&self.room.settings.folder, id.as_deref())?;
        let here = self.room.settings.tenant;
        if let Some(plan) = approved
            .map(|saved| saved.tenant)
            .filter(|plan| *plan != here)
        {
            return Err(Error::OtherTenant { plan, here });
        }
        let begun = past.begun.clone();
        let look = self.hold.during(self.room.look_after(past)).await?;
        if let Some(saved) = approved {
            let differences = saved.differences(&look.plan.steps, &begun);
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
        look: &Look,
        accepted: Option<usize>,
        run: &Run,
        progress: Progress<'_, Step>,
    ) -> Result<Outcome<Step>, Error> {
        let removals = look.plan.removals();
        let (steps, braked) = (look.plan.steps.len(), !look.brake.is_empty());
        metrics().sync_plan("partners", steps, removals, braked);
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
        let work = self.room.carry_out(&look.plan.steps, run, progress);
        self.hold.during(work).await
    }

    /// Gives the lease back.
    pub async fn end(self) {
        self.hold.give_back().await;
    }
}
