//! The house while it serves: the generation in use, and how the next one takes its place.
//!
//! A request takes the pipeline once, at its beginning, and keeps it to its end; the next request takes what
//! serves then. An old generation goes with its last request.
//!
//! # Why
//! What cannot change while running (addresses, folders, the log) does not hold back the rest: a certificate
//! that is about to end must come in although somebody has prepared a new port for the next restart. It
//! stays as it is and is named in every report until the restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use serde_json::Value;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::app::StartError;
use crate::app::cutoff;
use crate::app::generation::Generation;
use crate::app::generation::Ground;
use crate::app::generation::own_keys;
use crate::app::ops::Readiness;
use crate::app::orders::Orders;
use crate::app::ports::Ports;
use crate::app::readings;
use crate::assembly;
use crate::authn::Ended;
use crate::config;
use crate::config::Config;
use crate::listener::Live;
use crate::listener::tls::Certificates;
use crate::model::names::HostName;
use crate::pipeline::Pipeline;
use crate::sync::cutoff::Watch;
use crate::telemetry::metrics::Reading;
use crate::telemetry::metrics::metrics;

/// The rooms in use.
pub(super) struct House {
    pipeline: ArcSwap<Pipeline>,
    ports: ArcSwap<Ports>,
    /// Limits of the listeners.
    pub(super) limits: Live,
    /// For the listeners' handshakes.
    pub(super) certificates: Arc<Certificates>,
    /// Certificates that are ordered.
    pub(super) orders: Orders,
    current: tokio::sync::Mutex<Generation>,
    ground: Ground,
    parts: ArcSwap<Parts>,
    standing: Mutex<Standing>,
    /// Pipelines that may still have requests.
    older: Mutex<Vec<Weak<Pipeline>>>,
    stopping: AtomicBool,
}

/// What readiness is asked of.
struct Parts {
    issuer: Arc<crate::oidc::Issuer>,
    delegator: Option<crate::kerberos::Delegator>,
    cutoff: Option<Arc<Watch>>,
}

/// What is known about the configuration in use and the one that was refused.
#[derive(Clone, Debug, Default)]
struct Standing {
    generation: u64,
    loaded: i64,
    /// When a change was last refused, and every reason.
    refused: Option<(i64, Vec<String>)>,
    needs_restart: Vec<&'static str>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It serves; the parts that changed.
    Loaded(Vec<String>),
    /// There was none.
    Unchanged,
    /// Nothing of it serves; every reason.
    Refused(Vec<String>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    /// The first generation.
    pub(super) async fn build(config: Config, ground: Ground) -> Result<Arc<Self>, StartError> {
        let first = Generation::build(config, &ground, None).await?;
        let certificates = Arc::clone(&ground.certificates);
        certificates.adopt(&first.certificates);
        let orders = Orders::default();
        orders.replace(first.acme.as_deref(), &certificates).await;
        let published: Vec<_> = first.applications.values().cloned().collect();
        first.pipeline.forwarder.watch(&published);
        let house = Arc::new(Self {
            pipeline: ArcSwap::new(Arc::clone(&first.pipeline)),
            ports: ArcSwap::from_pointee(first.ports.clone()),
            limits: assembly::listener_settings(&first.config).into(),
            certificates,
            orders,
            parts: ArcSwap::from_pointee(Parts::of(&first)),
            standing: Mutex::new(Standing {
                generation: 1,
                loaded: ground.clock.unix(),
                ..Standing::default()
            }),
            older: Mutex::default(),
            stopping: AtomicBool::new(false),
            current: tokio::sync::Mutex::new(first),
            ground,
        });
        let hears = house.hear_of_ends();
        let stop = house.ground.stop.clone();
        house.ground.work.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = hears => {}
            }
        });
        Ok(house)
    }

    /// The rooms for one request.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        self.pipeline.load_full()
    }

    /// The published TLS port of `host`.
    pub(super) fn port(&self, host: &str) -> Option<u16> {
        let host = host.parse::<HostName>().ok()?;
        self.ports.load().of(host.as_str())
    }

    /// From now on `/readyz` says no.
    pub(super) fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Every file that the configuration in use was made from.
    pub(super) async fn files(&self) -> Vec<PathBuf> {
        let current = self.current.lock().await;
        let mut files: Vec<PathBuf> = current.config.prints.files().into_iter().collect();
        files.extend(own_keys(&current.config));
        files
    }

    /// Where the store is.
    pub(super) async fn state_dir(&self) -> PathBuf {
        let current = self.current.lock().await;
        current.config.gateway.state_dir.clone()
    }

    /// The folder of applications' files.
    pub(super) async fn applications(&self) -> PathBuf {
        let current = self.current.lock().await;
        current.config.gateway.applications.clone()
    }

    /// Reads the configuration in `path` again, whole or not at all, and reports what became of it.
    pub(super) async fn reload(&self, path: PathBuf) -> Outcome {
        let mut current = self.current.lock().await;
        let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let outcome = match read {
            Ok(Ok(config)) => self.replace(&mut current, config).await,
            Ok(Err(mistakes)) => {
                Outcome::Refused(mistakes.iter().map(ToString::to_string).collect())
            }
            Err(error) => Outcome::Refused(vec![error.to_string()]),
        };
        drop(current);
        self.report(&outcome);
        outcome
    }

    /// Whether the configuration in `path` says something else now, or cannot be read.
    pub(super) async fn is_outdated(&self, path: PathBuf) -> bool {
        let current = self.current.lock().await.config.prints.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
        !matches!(read, Ok(Ok(now)) if now.prints.changed(&current).is_empty())
    }

    async fn replace(&self, current: &mut Generation, mut config: Config) -> Outcome {
        let needs_restart = keep_what_cannot_change(&mut config, &current.config);
        let changed = config.prints.changed(&current.config.prints);
        let next = match Generation::build(config, &self.ground, Some(&*current)).await {
            Ok(next) => next,
            Err(StartError(reasons)) => return Outcome::Refused(reasons),
        };
        locked(&self.standing).needs_restart = needs_restart;
        self.certificates.adopt(&next.certificates);
        let acme = next.acme.as_deref();
        self.orders.replace(acme, &self.certificates).await;
        self.limits.set(assembly::listener_settings(&next.config));
        self.ports.store(Arc::new(next.ports.clone()));
        self.parts.store(Arc::new(Parts::of(&next)));
        let old = self.pipeline.swap(Arc::clone(&next.pipeline));
        let published: Vec<_> = next.applications.values().cloned().collect();
        let forwarder = &next.pipeline.forwarder;
        forwarder.keep_only(&published);
        if !Arc::ptr_eq(&old.forwarder, forwarder) {
            old.forwarder.rest();
        }
        forwarder.watch(&published);
        let mut older = locked(&self.older);
        older.retain(|one| one.strong_count() > 0);
        older.push(Arc::downgrade(&old));
        drop(older);
        *current = next;
        if changed.is_empty() {
            Outcome::Unchanged
        } else {
            Outcome::Loaded(changed)
        }
    }

    fn report(&self, outcome: &Outcome) {
        let now = self.ground.clock.unix();
        let mut standing = locked(&self.standing);
        match outcome {
            Outcome::Unchanged => standing.refused = None,
            Outcome::Loaded(_) => {
                standing.refused = None;
                standing.generation += 1;
                standing.loaded = now;
            }
            Outcome::Refused(reasons) => standing.refused = Some((now, reasons.clone())),
        }
        let Standing {
            generation,
            needs_restart,
            ..
        } = standing.clone();
        drop(standing);
        match outcome {
            Outcome::Unchanged => tracing::info!(generation, "the configuration has not changed"),
            Outcome::Loaded(parts) => {
                metrics().reload("taken");
                let changed = parts.join(", ");
                tracing::info!(generation, changed, "the changed configuration serves");
                tracing::info!(target: "audit", event = "configuration-loaded", generation, changed);
            }
            Outcome::Refused(reasons) => {
                metrics().reload("refused");
                let why = reasons.join("; ");
                tracing::error!(
                    generation,
                    why,
                    "the changed configuration is refused, the one before it goes on"
                );
                tracing::info!(target: "audit", event = "configuration-refused", generation, why);
            }
        }
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(keys, "changed, but needs a restart");
        }
    }

    /// Whether traffic is welcome, part by part.
    pub(super) fn readiness(&self) -> Vec<Readiness> {
        let mut parts = self.parts.load().readiness(self.ground.clock.unix());
        if self.stopping.load(Ordering::Acquire) {
            parts.push(Readiness {
                part: "gateway",
                ready: false,
                detail: String::from("stopping"),
            });
        }
        parts
    }

    /// What `/metrics` looks at.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let (generation, refused) = {
            let standing = locked(&self.standing);
            (standing.generation, standing.refused.is_some())
        };
        let parts = self.parts.load();
        let mut all = readings::of_parts(&self.readiness(), generation, refused);
        all.extend(readings::of_forwarder(&self.pipeline().forwarder));
        if let Some(delegator) = &parts.delegator {
            all.extend(readings::of_delegator(delegator));
        }
        let now = self.ground.clock.unix();
        let watch = parts.cutoff.iter();
        all.extend(watch.flat_map(|watch| cutoff::readings(watch, now)));
        all.extend(readings::of_ordered(&self.orders.standing(), now));
        all.extend(readings::of_process());
        all
    }

    /// Which configuration serves, and what is wrong with the one that does not.
    pub(super) fn configuration(&self) -> Value {
        let standing = locked(&self.standing).clone();
        let refused = standing
            .refused
            .map(|(at, why)| json!({"at": at, "why": why}));
        json!({
            "generation": standing.generation,
            "loaded": standing.loaded,
            "refused": refused,
            "needs_restart": standing.needs_restart,
        })
    }

    /// Drops what is kept for people whose sign-in has ended, in every generation that still lives.
    fn hear_of_ends(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.pipeline().authn.ended();
        let house = Arc::downgrade(self);
        async move {
            loop {
                let heard = ended.recv().await;
                let Some(house) = house.upgrade() else {
                    return;
                };
                match heard {
                    Ok(end) => house.session_ended(&end).await,
                    // SECURITY: whom the missed news were about is not known, so everybody's go.
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "dropping all waiting connections and tickets");
                        house.living().iter().for_each(|one| one.forget_everybody());
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    async fn session_ended(&self, end: &Ended) {
        for pipeline in self.living() {
            pipeline.session_ended(end).await;
        }
    }

    fn living(&self) -> Vec<Arc<Pipeline>> {
        let mut living = vec![self.pipeline()];
        living.extend(locked(&self.older).iter().filter_map(Weak::upgrade));
        living
    }

    /// Says which certificates end within `seconds`.
    pub(super) fn warn_of_certificates(&self, seconds: i64) {
        let now = self.ground.clock.unix();
        for (chain, end) in self.certificates.ending_before(now.saturating_add(seconds)) {
            let days = end.saturating_sub(now) / 86_400;
            let chain = chain.display();
            if end <= now {
                tracing::error!(%chain, "the certificate has expired: no browser accepts it");
            } else {
                tracing::warn!(%chain, days, "the certificate expires soon; a new one in its place is used at once");
            }
        }
    }

    /// Lets the work beside the requests end, then the store.
    pub(super) async fn close(&self) {
        self.ground.stop.cancel();
        self.ground.work.close();
        self.ground.work.wait().await;
        self.ground.store.close().await;
    }
}

impl Parts {
    fn of(generation: &Generation) -> Self {
        Self {
            issuer: Arc::clone(&generation.issuer.issuer),
            delegator: generation.delegator.clone(),
            cutoff: generation.cutoff.clone(),
        }
    }

    fn readiness(&self, now: i64) -> Vec<Readiness> {
        let mut parts = vec![Readiness {
            part: "issuer",
            ready: self.issuer.is_ready(),
            detail: String::from(self.issuer.name()),
        }];
        if let Some(delegator) = &self.delegator {
            let status = delegator.status();
            parts.push(Readiness {
                part: "kerberos",
                ready: status.tgt.remaining.is_some(),
                detail: status
                    .tgt
                    .last_error
                    .or(status.tgt.keytab_problem)
                    .unwrap_or_default(),
            });
        }
        if let Some(watch) = &self.cutoff {
            parts.push(cutoff::readiness(watch, now));
        }
        parts
    }
}

/// Sets back what only a restart can change, and names it.
fn keep_what_cannot_change(config: &mut Config, running: &Config) -> Vec<&'static str> {
    fn keep<T: Clone + PartialEq>(
        named: &mut Vec<&'static str>,
        key: &'static str,
        new: &mut T,
        old: &T,
    ) {
        if new != old {
            named.push(key);
            new.clone_from(old);
        }
    }
    let mut named = Vec::new();
    let all = &mut named;
    let (new, old) = (&mut config.gateway, &running.gateway);
    keep(all, "gateway.state_dir", &mut new.state_dir, &old.state_dir);
    keep(
        all,
        "gateway.runtime_dir",
        &mut new.runtime_dir,
        &old.runtime_dir,
    );
    keep(all, "gateway.workers", &mut new.workers, &old.workers);
    let (new, old) = (&mut config.listener, &running.listener);
    keep(all, "listener.https", &mut new.https, &old.https);
    keep(all, "listener.http", &mut new.http, &old.http);
    keep(all, "listener.ops", &mut new.ops, &old.ops);
    keep(
        all,
        "listener.max_connections",
        &mut new.max_connections,
        &old.max_connections,
    );
    let (new, old) = (&mut config.log, &running.log);
    keep(all, "log.filter", &mut new.filter, &old.filter);
    keep(all, "log.file", &mut new.file, &old.file);
    named
}
