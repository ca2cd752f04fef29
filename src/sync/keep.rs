//! Runs on a schedule, inside the gateway.
//!
//! Nobody is there to approve anything: what the brake stops stays undone, and is told at every round until somebody has looked.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::Outcome;
use super::Run;
use super::Turn;
use super::synchronization::Synchronization;
use crate::telemetry::metrics::metrics;

/// The first round after a start comes soon: what happened meanwhile has waited already.
const SOON: Duration = Duration::from_secs(20);

/// A run every `every`. Never returns.
pub async fn keep<K: Synchronization>(room: Arc<K>, every: Duration) {
    tokio::time::sleep(every.min(SOON)).await;
    loop {
        round(&*room).await;
        tokio::time::sleep(every).await;
    }
}

async fn round<K: Synchronization>(room: &K) {
    let done = run_once(room).await;
    count(K::WHOSE, &done, room.tools().clock.unix());
    let what = K::WHOSE;
    match done {
        Ok(outcome) if outcome.is_nothing() => tracing::debug!("{what} are in step"),
        Ok(outcome) => {
            for (step, why) in &outcome.failed {
                tracing::warn!(%step, why, "a step of the synchronization of {what} failed");
            }
            let (done, failed) = (outcome.done, outcome.failed.len());
            tracing::info!(target: "audit", event = "sync-done", done, failed, what, via = "sync");
        }
        Err(Error::Busy(why)) => tracing::info!(why, "{what} are synchronized elsewhere"),
        Err(error @ Error::Brake { .. }) => {
            let why = error.to_string();
            tracing::error!(
                why,
                "{what} are not synchronized: look at `kerbgate sync {what} plan`"
            );
            tracing::info!(target: "audit", event = "sync-stopped", reason = why, what, via = "sync");
        }
        Err(error) => {
            tracing::warn!(%error, "{what} are not synchronized, the next round tries again");
        }
    }
}

async fn run_once<K: Synchronization>(room: &K) -> Result<Outcome<K::Step>, Error> {
    let turn = Turn::begin(room).await?;
    let look = turn.look(None).await;
    let done = match &look {
        Ok(look) => {
            let run = Run {
                by: K::BY.to_owned(),
                plan: None,
            };
            turn.apply(look, None, &run, &|_, _, _| {}).await
        }
        Err(_) => Ok(Outcome::default()),
    };
    turn.end().await;
    look.and(done)
}

/// A round on a schedule, counted.
fn count<S>(what: &'static str, round: &Result<Outcome<S>, Error>, now: i64) {
    let (kind, steps) = match round {
        Ok(outcome) if outcome.failed.is_empty() => ("done", (outcome.done, 0)),
        Ok(outcome) => ("failed", (outcome.done, outcome.failed.len())),
        Err(Error::Brake { .. }) => ("stopped", (0, 0)),
        Err(Error::Busy(_)) => ("elsewhere", (0, 0)),
        Err(
            Error::Graph(_)
            | Error::Directory(_)
            | Error::Lifecycle(_)
            | Error::Store(_)
            | Error::Partial { .. }
            | Error::BadPlan { .. }
            | Error::OtherTenant { .. }
            | Error::Changed(_)
            | Error::Meanwhile(_)
            | Error::Setup(_)
            | Error::Folder(_),
        ) => ("failed", (0, 0)),
    };
    metrics().sync_round(what, kind, steps, now);
}
