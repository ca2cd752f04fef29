//! Runs on a schedule, inside the gateway.
//!
//! Nobody is there to approve anything: what the brake stops stays undone, and is told at every round until somebody has looked.

use std::sync::Arc;
use std::time::Duration;

use super::BY;
use super::Error;
use super::Outcome;
use super::Run;
use super::Sync;

/// The first round after a start comes soon: what happened meanwhile has waited already.
const SOON: Duration = Duration::from_secs(20);

impl Sync {
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
        super::count("guests", &done, self.tools.clock.unix());
        match done {
            Ok(outcome) if outcome == Outcome::default() => {
                tracing::debug!("guests are in step");
            }
            Ok(outcome) => {
                for (step, why) in &outcome.failed {
                    tracing::warn!(%step, why, "a step of the synchronization failed");
                }
                let (done, failed) = (outcome.done, outcome.failed.len());
                tracing::info!(target: "audit", event = "sync-done", done, failed, via = "sync");
            }
            Err(Error::Busy(why)) => tracing::info!(why, "guests are synchronized elsewhere"),
            Err(error @ Error::Brake { .. }) => {
                let why = error.to_string();
                tracing::error!(
                    why,
                    "guests are not synchronized: look at `kerbgate sync guests plan`"
                );
                tracing::info!(target: "audit", event = "sync-stopped", reason = why, via = "sync");
            }
            Err(error) => {
                tracing::warn!(%error, "guests are not synchronized, the next round tries again");
            }
        }
    }

    async fn run_once(&self) -> Result<Outcome, Error> {
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
