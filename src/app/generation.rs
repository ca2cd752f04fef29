//! One generation of the rooms: what a checked configuration becomes.
//!
//! In: a configuration, and the generation before it. Out: rooms that serve it. What did not change is taken
//! over as it is, with everything it remembers (tickets, accounts, the issuer's keys, connections to
//! backends); what changed is made new. Nothing that serves is touched before all of it stands.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::app::StartError;
use crate::app::cutoff;
use crate::app::guests;
use crate::app::orders;
use crate::app::orders::Found;
use crate::app::orders::Ordering;
use crate::app::ports;
use crate::app::ports::Ports;
use crate::assembly;
use crate::authn;
use crate::authn::Authn;
use crate::authz::Authz;
use crate::config::Config;
use crate::config::prints;
use crate::forward::Forwarder;
use crate::forward::pool::Limits;
use crate::kerberos::Delegator;
use crate::kerberos::Keytab;
use crate::ldap::Directory;
use crate::listener::tls::Certificates;
use crate::mapping;
use crate::mapping::Mapping;
use crate::model::application::Application;
use crate::model::clock::Clock;
use crate::oidc::Issuer;
use crate::pages::Pages;
use crate::pipeline::Pipeline;
use crate::pipeline::admission::Admission;
use crate::rewrite::table::Links;
use crate::route::Routes;
use crate::sso::Sso;
use crate::sso::assertion::Signer;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::sync;
use crate::sync::Sync;
use crate::sync::cutoff::Watch;
use crate::sync::partners::Partners;

/// The rooms of one configuration.
pub(super) struct Generation {
    pub(super) config: Config,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) certificates: Certificates,
    pub(super) issuer: Arc<Tended>,
    pub(super) delegator: Option<Delegator>,
    pub(super) ports: Ports,
    /// Orders certificates, if any are to be ordered.
    pub(super) acme: Option<Arc<Ordering>>,
    /// Looks for people who have left, if it is to do so.
    pub(super) cutoff: Option<Arc<Watch>>,
    /// By published URL: an application with segments has several.
    pub(super) applications: HashMap<Url, Arc<Application>>,
    /// Ends the work beside this generation's requests.
    _tidy: DropGuard,
    _informed: DropGuard,
    /// The same for guests that are synchronized.
    _guests: Option<DropGuard>,
    /// The same for partners.
    _partners: Option<DropGuard>,
    /// The same for whoever has left.
    _cutoff: Option<DropGuard>,
}

/// The issuer, its keys kept fresh for as long as somebody holds this.
pub(super) struct Tended {
    pub(super) issuer: Arc<Issuer>,
    _end: DropGuard,
}

/// What all generations share.
pub(super) struct Ground {
    /// For the listeners' handshakes.
    pub(super) certificates: Arc<Certificates>,
    pub(super) store: Arc<SqliteStore>,
    /// Work beside the requests; ends with `stop`.
    pub(super) work: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) clock: Clock,
}

impl Ground {
    /// Work that ends with the guard or with the process.
    pub(super) fn tend(&self, work: impl Future<Output = ()> + Send + 'static) -> DropGuard {
        let stop = self.stop.child_token();
        let until = stop.clone();
        self.work.spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = work => {}
            }
        });
        stop.drop_guard()
    }
}

/// The tools that are checked before the first of them starts anything.
struct Checked {
    certificates: Certificates,
    acme: Option<Found>,
    issuer: Arc<Issuer>,
    signer: Signer,
    keyring: authn::seal::Keyring,
    forwarder: Arc<Forwarder>,
    pages: Pages,
    mapping: Option<mapping::settings::Settings>,
}

impl Generation {
    /// Builds the rooms for `config`.
    ///
    /// # Errors
    /// Every reason found; what serves is as it was.
    pub(super) async fn build(
        config: Config,
        ground: &Ground,
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let mut wrong = Vec::new();
        let checked = check(&config, ground, before, &mut wrong);
        if before.is_some() && !wrong.is_empty() {
            return Err(StartError(wrong));
        }
        let same_issuer = before.filter(|b| same(b, &config, &["issuer", "hosts"]));
        if let (Some(checked), Some(_), None) = (&checked, before, same_issuer) {
            // A mistyped tenant would lock everybody out: what serves is only replaced by what answers.
            let asked = tokio::time::timeout(ISSUER_ANSWERS, checked.issuer.refresh()).await;
            let refused = |why: &dyn std::fmt::Display| {
                let name = checked.issuer.name();
                StartError::one(format!("issuer: {name} cannot be used: {why}"))
            };
            asked
                .map_err(|_| refused(&"no answer in time"))?
                .map_err(|error| refused(&error))?;
        }
        let delegator = note(&mut wrong, delegator(&config, before)).flatten();
        let built = match checked {
            Some(checked) if wrong.is_empty() => {
                raise(&config, ground, before, checked, delegator.clone())
            }
            Some(_) | None => Err(StartError(wrong)),
        };
        if built.is_err()
            && let (Some(new), Some(old)) = (&delegator, before.and_then(|b| b.delegator.as_ref()))
            && !new.is_same(old)
        {
            new.retire();
            old.resume().map_err(StartError::one)?;
        }
        built.map(|rooms| rooms.into_generation(config, ground))
    }
}

pub(super) fn same(before: &Generation, config: &Config, parts: &[&str]) -> bool {
    before.config.prints.same(&config.prints, parts)
}

/// Takes the value, or notes why there is none: all reasons are reported together.
pub(super) fn note<T, E: std::fmt::Display>(
    wrong: &mut Vec<String>,
    result: Result<T, E>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            wrong.push(error.to_string());
            None
        }
    }
}

fn check(
    config: &Config,
    ground: &Ground,
    before: Option<&Generation>,
    wrong: &mut Vec<String>,
) -> Option<Checked> {
    let issuer = match before.filter(|b| same(b, config, &["issuer", "hosts"])) {
        Some(before) => Some(Arc::clone(&before.issuer.issuer)),
        None => note(wrong, issuer(config, ground.clock)),
    };
    let forwarder = match before.filter(|b| same(b, config, &["backends"])) {
        Some(before) => Some(Arc::clone(&before.pipeline.forwarder)),
        None => note(wrong, forwarder(config)).map(Arc::new),
    };
    let certificates = note(wrong, certificates(config));
    let acme = certificates
        .as_ref()
        .and_then(|files| note(wrong, orders::keeper(config, files, ground, before)));
    if before.is_some() {
        // A key that was there is never made anew: backends and sealed tokens hang on it.
        for key in own_keys(config) {
            let there = std::fs::metadata(&key).map_err(|e| format!("{}: {e}", key.display()));
            note(wrong, there);
        }
        if !wrong.is_empty() {
            return None;
        }
    }
    let state = &config.gateway.state_dir;
    let signer = note(wrong, Signer::open(&state.join("assertion.key")));
    let keyring = note(wrong, assembly::keyring(config));
    let pages = note(wrong, assembly::brand(config)).map(Pages::new);
    let mapping = note(wrong, assembly::mapping_settings(config)).flatten();
    Some(Checked {
        certificates: certificates?,
        acme: acme?,
        issuer: issuer?,
        signer: signer?,
        keyring: keyring?,
        forwarder: forwarder?,
        pages: pages?,
        mapping,
    })
}

/// The keys that the gateway makes itself.
pub(super) fn own_keys(config: &Config) -> Vec<PathBuf> {
    let state = &config.gateway.state_dir;
    let mut keys = vec![state.join("assertion.key")];
    if config.session.seal_key.is_none() {
        keys.push(state.join("seal.key"));
    }
    keys
}

/// Rooms that stand, before anything is tended.
struct Raised {
    pipeline: Pipeline,
    certificates: Certificates,
    acme: Option<Found>,
    issuer: Result<Arc<Tended>, Arc<Issuer>>,
    delegator: Option<Delegator>,
    applications: HashMap<Url, Arc<Application>>,
    guests: Option<Sync>,
    partners: Option<Partners>,
    cutoff: Option<Arc<Watch>>,
}

fn raise(
    config: &Config,
    ground: &Ground,
    before: Option<&Generation>,
    checked: Checked,
    delegator: Option<Delegator>,
) -> Result<Raised, StartError> {
    let same_issuer = before.filter(|b| same(b, config, &["issuer", "hosts"]));
    let authz = match same_issuer.filter(|b| same(b, config, &["mapping", "session"])) {
        Some(before) => before.pipeline.authz.clone(),
        None => authz(config, &checked.issuer)?,
    };
    let mapping = mapping_room(config, ground, before, checked.mapping, delegator.as_ref())?;
    let needs = authn::Needs {
        settings: assembly::authn_settings(config),
        store: Arc::clone(&ground.store) as Arc<dyn Store>,
        issuer: Arc::clone(&checked.issuer),
        keyring: checked.keyring,
        pages: checked.pages.clone(),
        clock: ground.clock,
    };
    let authn = match before {
        Some(before) => before.pipeline.authn.renewed(needs),
        None => Authn::new(needs),
    };
    let ends = guests::ends(&authn, &mapping);
    let graph = authz.graph().cloned();
    let cutoff = cutoff::watch(config, ground, graph.clone(), &authn);
    let cutoff = cutoff.map_err(StartError::one)?;
    let kerberos = delegator.as_ref();
    let partners = guests::partners(config, ground, graph.clone(), kerberos, ends.clone());
    let partners = partners.map_err(StartError::one)?;
    let guests = guests::room(config, ground, graph, kerberos, ends);
    let guests = guests.map_err(StartError::one)?;
    let applications = applications(config, before);
    let pipeline = Pipeline {
        admission: admission(config, before, &applications),
        certificates: Arc::clone(&ground.certificates),
        routes: Routes::new(
            config.gateway.sign_in_host.clone(),
            config
                .applications
                .iter()
                .filter_map(|app| applications.get(&app.published_url).cloned()),
        ),
        authn,
        authz,
        mapping,
        sso: Sso::new(
            delegator.clone(),
            checked.signer,
            config.gateway.sign_in_url.to_string(),
            ground.clock,
        ),
        cutoff: cutoff.clone(),
        forwarder: checked.forwarder,
        links: Arc::new(Links::new(&config.applications)),
        pages: checked.pages,
        clock: ground.clock,
    };
    Ok(Raised {
        pipeline,
        certificates: checked.certificates,
        acme: checked.acme,
        issuer: same_issuer.map_or(Err(checked.issuer), |b| Ok(Arc::clone(&b.issuer))),
        delegator,
        applications,
        guests,
        partners,
        cutoff,
    })
}

impl Raised {
    fn into_generation(self, config: Config, ground: &Ground) -> Generation {
        let issuer = self.issuer.unwrap_or_else(|issuer| {
            Arc::new(Tended {
                _end: ground.tend(Arc::clone(&issuer).keep_fresh()),
                issuer,
            })
        });
        let acme = self.acme.map(|found| found.begin(ground));
        let every = config.guests_sync.every;
        let guests = self.guests.zip(every);
        let every = config
            .partners_sync
            .as_ref()
            .and_then(|partners| partners.every);
        let partners = self.partners.zip(every);
        Generation {
            acme,
            _guests: guests.map(|(room, every)| ground.tend(sync::keep(Arc::new(room), every))),
            _partners: partners.map(|(room, every)| ground.tend(sync::keep(Arc::new(room), every))),
            _cutoff: self
                .cutoff
                .as_ref()
                .map(|watch| ground.tend(Arc::clone(watch).keep())),
            cutoff: self.cutoff,
            ports: ports::published(&config),
            _tidy: ground.tend(self.pipeline.authn.clone().keep_tidy()),
            _informed: ground.tend(self.pipeline.authn.clone().keep_informed()),
            config,
            pipeline: Arc::new(self.pipeline),
            certificates: self.certificates,
            issuer,
            delegator: self.delegator,
            applications: self.applications,
        }
    }
}

/// An application whose file did not change stays the very same, with all that hangs on it.
fn applications(config: &Config, before: Option<&Generation>) -> HashMap<Url, Arc<Application>> {
    let known = |app: &Application| {
        let before = before?;
        let part = prints::application(app.id.as_str());
        // [maintenance] of the gateway closes applications whose own file did not change.
        let same = same(before, config, &[part.as_str(), "hosts", "maintenance"]);
        before
            .applications
            .get(&app.published_url)
            .filter(|_| same)
            .cloned()
    };
    config
        .applications
        .iter()
        .map(|app| {
            let kept = known(app).unwrap_or_else(|| Arc::new(app.clone()));
            (app.published_url.clone(), kept)
        })
        .collect()
}

/// Whoever is held back stays so while the limits are the same.
fn admission(
    config: &Config,
    before: Option<&Generation>,
    applications: &HashMap<Url, Arc<Application>>,
) -> Admission {
    let admission = Admission::new(
        config.listener.forwarded.clone(),
        config.addresses.clone(),
        &config.rates.requests,
        applications.values(),
    );
    match before {
        Some(before) => admission.going_on_from(&before.pipeline.admission),
        None => admission,
    }
}

fn authz(config: &Config, issuer: &Arc<Issuer>) -> Result<Authz, StartError> {
    let graph = assembly::graph(config, issuer).map_err(StartError::one)?;
    let mapped_groups = config.mapping.iter().flat_map(|mapping| &mapping.groups);
    let groups = mapped_groups.filter_map(|mapped| mapped.group).collect();
    Ok(Authz::new(graph, groups))
}

fn mapping_room(
    config: &Config,
    ground: &Ground,
    before: Option<&Generation>,
    settings: Option<mapping::settings::Settings>,
    delegator: Option<&Delegator>,
) -> Result<Mapping, StartError> {
    let unchanged = before.filter(|b| {
        let same_delegator = match (&b.delegator, delegator) {
            (Some(old), Some(new)) => old.is_same(new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_delegator && same(b, config, &["directory", "mapping", "hosts"])
    });
    if let Some(before) = unchanged {
        return Ok(before.pipeline.mapping.clone());
    }
    let directory = directory(config, delegator).map_err(StartError::one)?;
    let tools = directory.map(|directory| mapping::Tools {
        directory,
        store: Arc::clone(&ground.store) as Arc<dyn Store>,
        delegator: delegator.cloned(),
        clock: ground.clock,
    });
    match (settings, tools) {
        (Some(settings), Some(tools)) => Mapping::new(settings, tools).map_err(StartError::one),
        _ => Ok(Mapping::without_accounts()),
    }
}

pub(super) fn certificates(config: &Config) -> Result<Certificates, String> {
    let pairs: Vec<(PathBuf, PathBuf)> = config
        .listener
        .certificates
        .iter()
        .map(|one| (one.chain.clone(), one.key.clone()))
        .collect();
    if pairs.is_empty() && config.acme.is_some() {
        return Ok(Certificates::default());
    }
    let loaded = Certificates::load(&pairs).map_err(|errors| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\nkerbgate: ")
    })?;
    let ordered = assembly::acme_settings(config, &loaded).map(|acme| acme.hosts);
    for host in config.published_names() {
        let is_ordered = ordered.iter().flatten().any(|one| one.as_str() == host);
        if !is_ordered && !loaded.covers(host) {
            tracing::warn!(%host, "no certificate in [[listener.certificates]] covers this published host");
        }
    }
    Ok(loaded)
}

pub(super) fn issuer(config: &Config, clock: Clock) -> Result<Arc<Issuer>, String> {
    let settings = assembly::oidc_settings(config).map_err(|error| error.to_string())?;
    Issuer::new(settings, clock)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// The one in use unless [kerberos] says something else; it follows its keytab by itself.
fn delegator(config: &Config, before: Option<&Generation>) -> Result<Option<Delegator>, String> {
    let parts = ["kerberos", "hosts"];
    let unchanged = before.filter(|b| b.config.prints.same_values(&config.prints, &parts));
    if let Some(before) = unchanged {
        if let Some(section) = &config.kerberos
            && !same(before, config, &parts)
        {
            sound_keytab(&section.keytab, &section.principal, section.allow_rc4)?;
        }
        return Ok(before.delegator.clone());
    }
    let settings = assembly::kerberos_settings(config).map_err(|error| error.to_string())?;
    let Some(settings) = settings else {
        return Ok(None);
    };
    let old = before.and_then(|b| b.delegator.as_ref());
    if let Some(old) = old {
        sound_keytab(&settings.keytab, &settings.principal, settings.allow_rc4)?;
        old.retire();
    }
    Delegator::start(settings).map(Some).map_err(|error| {
        let back = old.map(Delegator::resume);
        match back {
            Some(Err(second)) => format!("{error}; {second}"),
            Some(Ok(())) | None => error.to_string(),
        }
    })
}

pub(super) fn sound_keytab(
    path: &Path,
    principal: &crate::model::names::Principal,
    allow_rc4: bool,
) -> Result<(), String> {
    let read = Keytab::read(path).map_err(|error| error.to_string())?;
    let checked = read.check(principal, allow_rc4);
    checked.map_err(|error| error.to_string())
}

fn directory(config: &Config, delegator: Option<&Delegator>) -> Result<Option<Directory>, String> {
    let settings = assembly::ldap_settings(config, delegator).map_err(|error| error.to_string())?;
    Ok(settings.map(Directory::new))
}

fn forwarder(config: &Config) -> Result<Forwarder, String> {
    let trust = assembly::backend_trust(config).map_err(|error| error.to_string())?;
    Forwarder::new(trust, Limits::default()).map_err(|error| error.to_string())
}

const ISSUER_ANSWERS: std::time::Duration = std::time::Duration::from_secs(10);
