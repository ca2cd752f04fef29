//! The watch for whoever has left.

use std::sync::Arc;

use crate::app::generation::Ground;
use crate::app::ops::Readiness;
use crate::assembly;
use crate::authn::Authn;
use crate::config::Config;
use crate::graph::Graph;
use crate::store::Store;
use crate::sync::cutoff::Tools;
use crate::sync::cutoff::Watch;
use crate::telemetry::metrics::Reading;

/// The watch, if it is configured. `graph` is the one that sign-ins ask: they share one budget.
pub(super) fn watch(
    config: &Config,
    ground: &Ground,
    graph: Option<Graph>,
    authn: &Authn,
) -> Result<Option<Arc<Watch>>, String> {
    let Some(settings) = assembly::cutoff_settings(config) else {
        return Ok(None);
    };
    let graph = graph.ok_or_else(|| String::from("sync.cutoff wants issuer.graph"))?;
    let tools = Tools {
        graph,
        store: Arc::clone(&ground.store) as Arc<dyn Store>,
        authn: authn.clone(),
        clock: ground.clock,
    };
    Ok(Some(Arc::new(Watch::new(settings, tools))))
}

/// How it is doing. Always ready: who turns traffic away because Graph is down makes everybody pay for it.
pub(super) fn readiness(watch: &Watch, now: i64) -> Readiness {
    let standing = watch.standing();
    let detail = match (standing.trouble, standing.done) {
        (None, Some(_)) => standing
            .untold
            .map(|why| format!("graph tells of no changes, it is asked all the same: {why}"))
            .unwrap_or_default(),
        (None, None) => String::from("whether people have left was not asked yet"),
        (Some(why), None) => format!("whether people have left was never known: {why}"),
        (Some(why), Some(at)) => format!(
            "whether people have left is not known for {} s: {why}",
            now.saturating_sub(at)
        ),
    };
    Readiness {
        part: "cutoff",
        ready: true,
        detail,
    }
}

/// How old the last answer is, and how old it may be. Without one it counts from the start.
pub(super) fn readings(watch: &Watch, now: i64) -> [Reading; 2] {
    let since = watch.standing().done.unwrap_or_else(|| watch.began());
    let age = now.saturating_sub(since).max(0);
    let one = |name, help, seconds| Reading {
        name,
        help,
        labels: Vec::new(),
        value: f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    [
        one(
            "cutoff_age_seconds",
            "How long ago Graph last said who has left",
            age.unsigned_abs(),
        ),
        one(
            "cutoff_within_seconds",
            "Within what time whoever has left is to be out",
            watch.within().as_secs(),
        ),
    ]
}
