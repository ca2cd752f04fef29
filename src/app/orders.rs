//! Certificates that are ordered: which keeper is at work, and what it knows.
//!
//! In: a generation's keeper. Out: answers to the authority's challenges, and what operators are told.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::Value;
use serde_json::json;
use tokio_util::sync::DropGuard;

use crate::acme;
use crate::acme::Keeper;
use crate::acme::Standing;
use crate::app::generation::Generation;
use crate::app::generation::Ground;
use crate::app::generation::same;
use crate::assembly;
use crate::config::Config;
use crate::listener::ordered::Ordered;
use crate::listener::tls::Certificates;
use crate::store::Store;

/// A keeper, at work for as long as somebody holds this.
pub(super) struct Ordering {
    keeper: Arc<Keeper>,
    _end: DropGuard,
}

/// A keeper for a generation that is being built.
pub(super) enum Found {
    /// The one at work.
    Same(Arc<Ordering>),
    /// One that has not begun.
    New(Arc<Keeper>),
}

impl Found {
    /// Has it work, if it does not yet.
    pub(super) fn begin(self, ground: &Ground) -> Arc<Ordering> {
        match self {
            Self::Same(ordering) => ordering,
            Self::New(keeper) => Arc::new(Ordering {
                _end: ground.tend(Arc::clone(&keeper).keep()),
                keeper,
            }),
        }
    }
}

/// The keeper in use unless its settings changed.
pub(super) fn keeper(
    config: &Config,
    files: &Certificates,
    ground: &Ground,
    before: Option<&Generation>,
) -> Result<Option<Found>, String> {
    let Some(settings) = assembly::acme_settings(config, files) else {
        return Ok(None);
    };
    let unchanged = before
        // Not only the settings: what their files hold, and the keys that seal.
        .filter(|b| same(b, config, &["acme", "session"]))
        .and_then(|b| b.acme.as_ref())
        .filter(|acme| *acme.keeper.settings() == settings);
    if let Some(acme) = unchanged {
        return Ok(Some(Found::Same(Arc::clone(acme))));
    }
    let keyring = assembly::keyring(config).map_err(|error| error.to_string())?;
    let tools = acme::Tools {
        store: Arc::clone(&ground.store) as Arc<dyn Store>,
        keyring: Arc::new(keyring),
        certificates: Arc::clone(&ground.certificates),
        clock: ground.clock,
    };
    Keeper::new(settings, tools).map(|keeper| Some(Found::New(Arc::new(keeper))))
}

/// The keeper in use.
#[derive(Default)]
pub(super) struct Orders(ArcSwapOption<Keeper>);

impl Orders {
    /// Has the next generation's keeper take over, if it is another one.
    pub(super) async fn replace(&self, next: Option<&Ordering>, certificates: &Certificates) {
        let next = next.map(|ordering| Arc::clone(&ordering.keeper));
        let old = self.0.load_full();
        if let (Some(old), Some(next)) = (&old, &next)
            && Arc::ptr_eq(old, next)
        {
            return;
        }
        if let Some(old) = old {
            old.retire().await;
        }
        match &next {
            Some(next) => {
                next.take_over().await;
                report_missing(next);
            }
            None => certificates.set_ordered(Ordered::default()),
        }
        self.0.store(next);
    }

    /// The answer to a challenge; the outer `None` when certificates of `host` are not ordered here.
    pub(super) async fn proof(&self, host: &str, token: &str) -> Option<Option<String>> {
        let keeper = self.0.load_full()?;
        if !keeper.wants(host) {
            return None;
        }
        Some(keeper.answer(host, token).await)
    }

    /// What is known about each host.
    pub(super) fn standing(&self) -> Vec<Standing> {
        let keeper = self.0.load();
        keeper
            .as_ref()
            .map_or_else(Vec::new, |keeper| keeper.standing())
    }

    /// For `/readyz`: what is missing, and why.
    pub(super) fn told(&self) -> Value {
        let standing = self.standing();
        let listed = |wanted: &dyn Fn(&Standing) -> bool| -> Vec<Value> {
            let all = standing.iter().filter(|one| wanted(one));
            let told = all.map(|one| {
                let why = one.trouble.as_ref();
                json!({
                    "host": one.host.as_str(),
                    "why": why.map(|why| why.problem.as_str()),
                    "next_try": why.map(|why| why.until),
                })
            });
            told.take(LISTED).collect()
        };
        json!({
            "hosts": standing.len(),
            "missing": listed(&|one| one.end.is_none()),
            "not_renewed": listed(&|one| one.end.is_some() && one.trouble.is_some()),
        })
    }
}

/// Says which hosts cannot be served yet.
fn report_missing(keeper: &Keeper) {
    for one in keeper.standing().iter().filter(|one| one.end.is_none()) {
        let host = &one.host;
        tracing::warn!(%host, "no certificate yet: browsers get a TLS error until ACME has brought one");
    }
}

/// At most so many hosts of a kind are told about at once.
const LISTED: usize = 50;
