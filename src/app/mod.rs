//! Builds every room once and ties the listener to the pipeline: the only wiring.
//!
//! In: a checked configuration. Out: a gateway that serves until a signal says stop, then lets requests
//! finish. Nothing is bound before every room stands; issuer, directory and KDC need not be up for that,
//! so that a site comes back by itself after a power cut, in any order.

pub mod ops;
pub mod workers;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::app::ops::Readiness;
use crate::app::workers::Workers;
use crate::assembly;
use crate::authn;
use crate::authn::Authn;
use crate::authz::Authz;
use crate::config::Config;
use crate::forward::Forwarder;
use crate::forward::pool::Limits;
use crate::kerberos::Delegator;
use crate::ldap::Directory;
use crate::listener;
use crate::listener::redirect::to_https;
use crate::listener::tls::Certificates;
use crate::listener::tls::server_config;
use crate::mapping;
use crate::mapping::Mapping;
use crate::model::application::Application;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::oidc::Issuer;
use crate::pages::Pages;
use crate::pipeline::Pipeline;
use crate::route::Routes;
use crate::sso::Sso;
use crate::sso::assertion::Signer;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// Why the gateway did not start: every reason found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nkerbgate: "))]
pub struct StartError(Vec<String>);

impl StartError {
    fn one(error: impl std::fmt::Display) -> Self {
        Self(vec![error.to_string()])
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// Once ready, the bound addresses are written to `ready_file` as JSON.
///
/// # Errors
/// Every reason why a room could not be built or an address not be bound.
pub async fn run(config: Config, ready_file: Option<&Path>) -> Result<(), StartError> {
    let house = build(&config).await?;
    let stop = CancellationToken::new();
    let bound = Bound::new(&config).await?;
    // Listened for before anybody is told that we are here: whoever stops us at once is heard, too.
    let terminate = signal(SignalKind::terminate()).map_err(StartError::one)?;
    bound.announce(ready_file)?;
    let ready = Arc::clone(&house);
    let ops = bound
        .ops
        .map(|listener| tokio::spawn(ops::serve(listener, Arc::new(move || ready.readiness()))));
    let work = house.tend(stop.clone());

    let settings = assembly::listener_settings(&config);
    let tls = server_config(Arc::clone(&house.certificates)).map_err(StartError::one)?;
    let pipeline = Arc::clone(&house.pipeline);
    let service = move |request: Request<Incoming>| Arc::clone(&pipeline).handle(request);
    let workers = Workers::start(config.gateway.workers).map_err(StartError::one)?;
    let mut serving = Vec::new();
    for socket in bound.https {
        let served = workers.serve(socket, |socket| {
            let (settings, tls) = (settings.clone(), Some(Arc::clone(&tls)));
            listener::run(socket, settings, tls, service.clone(), stop.clone())
        });
        serving.extend(served.map_err(StartError::one)?);
    }
    for socket in bound.http {
        let ports = published_ports(&config);
        let redirect = move |request: Request<Incoming>| {
            let answer = to_https(&request, |host| ports(host));
            async move { answer }
        };
        let served = workers.serve(socket, |socket| {
            listener::run(
                socket,
                settings.clone(),
                None,
                redirect.clone(),
                stop.clone(),
            )
        });
        serving.extend(served.map_err(StartError::one)?);
    }
    tracing::info!(applications = config.applications.len(), "serving");
    asked_to_stop(terminate).await;
    tracing::info!(
        "stopping: requests may finish within {} s",
        config.listener.drain.as_secs()
    );
    stop.cancel();
    join_all(serving).await;
    join_all(work).await;
    if let Some(ops) = ops {
        ops.abort();
    }
    house.store.close().await;
    Ok(())
}

/// The built rooms.
struct House {
    pipeline: Arc<Pipeline>,
    certificates: Arc<Certificates>,
    store: Arc<SqliteStore>,
    issuer: Arc<Issuer>,
    delegator: Option<Delegator>,
}

async fn build(config: &Config) -> Result<Arc<House>, StartError> {
    // The provider must be chosen before any library asks for the process's default one; a second
    // choice is refused, and then the first, the same one, stands.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    private_folders(config)?;
    let mut wrong = Vec::new();
    let clock = Clock::System;
    let certificates = note(&mut wrong, certificates(config));
    let issuer = note(&mut wrong, issuer(config, clock));
    let delegator = note(&mut wrong, delegator(config)).flatten();
    let directory = note(&mut wrong, directory(config, delegator.as_ref())).flatten();
    let state = &config.gateway.state_dir;
    let store = note(
        &mut wrong,
        SqliteStore::open(&state.join("kerbgate.db")).await,
    );
    let signer = note(&mut wrong, Signer::open(&state.join("assertion.key")));
    let keyring = note(&mut wrong, assembly::keyring(config));
    let applications: Vec<Arc<Application>> =
        config.applications.iter().cloned().map(Arc::new).collect();
    let forwarder = note(&mut wrong, forwarder(config));
    let pages = note(&mut wrong, assembly::brand(config)).map(Pages::new);
    let mapping = note(&mut wrong, assembly::mapping_settings(config)).flatten();

    let (Some(certificates), Some(issuer), Some(store), Some(signer), Some(keyring)) =
        (certificates, issuer, store, signer, keyring)
    else {
        return Err(StartError(wrong));
    };
    let (Some(forwarder), Some(pages)) = (forwarder, pages) else {
        return Err(StartError(wrong));
    };
    let graph = assembly::graph(config, &issuer).map_err(StartError::one)?;
    if !wrong.is_empty() {
        return Err(StartError(wrong));
    }
    let store = Arc::new(store);
    let tools = directory.map(|directory| mapping::Tools {
        directory,
        store: Arc::clone(&store) as Arc<dyn Store>,
        delegator: delegator.clone(),
        clock,
    });
    let mapping = match (mapping, tools) {
        (Some(settings), Some(tools)) => Mapping::new(settings, tools).map_err(StartError::one)?,
        _ => Mapping::without_accounts(),
    };
    let authn = Authn::new(authn::Needs {
        settings: assembly::authn_settings(config),
        store: Arc::clone(&store) as Arc<dyn Store>,
        issuer: Arc::clone(&issuer),
        keyring,
        pages: pages.clone(),
        clock,
    });
    let mapped_groups = config.mapping.iter().flat_map(|mapping| &mapping.groups);
    let pipeline = Pipeline {
        routes: Routes::new(config.gateway.sign_in_host.clone(), applications),
        authn,
        authz: Authz::new(
            graph,
            mapped_groups.filter_map(|mapped| mapped.group).collect(),
        ),
        mapping,
        sso: Sso::new(
            delegator.clone(),
            signer,
            config.gateway.sign_in_url.to_string(),
            clock,
        ),
        forwarder,
        pages,
        clock,
    };
    Ok(Arc::new(House {
        pipeline: Arc::new(pipeline),
        certificates: Arc::new(certificates),
        store,
        issuer,
        delegator,
    }))
}

/// Takes the value, or notes why there is none: all reasons are reported together.
fn note<T, E: std::fmt::Display>(wrong: &mut Vec<String>, result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            wrong.push(error.to_string());
            None
        }
    }
}

fn certificates(config: &Config) -> Result<Certificates, String> {
    let pairs: Vec<(PathBuf, PathBuf)> = config
        .listener
        .certificates
        .iter()
        .map(|one| (one.chain.clone(), one.key.clone()))
        .collect();
    let loaded = Certificates::load(&pairs).map_err(|errors| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\nkerbgate: ")
    })?;
    let hosts = config.applications.iter().map(|app| &app.host);
    for host in hosts.chain([&config.gateway.sign_in_host]) {
        if !loaded.covers(host.as_str()) {
            tracing::warn!(%host, "no certificate in [[listener.certificates]] covers this published host");
        }
    }
    Ok(loaded)
}

fn issuer(config: &Config, clock: Clock) -> Result<Arc<Issuer>, String> {
    let settings = assembly::oidc_settings(config).map_err(|error| error.to_string())?;
    Issuer::new(settings, clock)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

fn delegator(config: &Config) -> Result<Option<Delegator>, String> {
    let settings = assembly::kerberos_settings(config).map_err(|error| error.to_string())?;
    settings
        .map(Delegator::start)
        .transpose()
        .map_err(|error| error.to_string())
}

fn directory(config: &Config, delegator: Option<&Delegator>) -> Result<Option<Directory>, String> {
    // Without the delegator its own error is already in the list.
    if config.kerberos.is_some() && delegator.is_none() {
        return Ok(None);
    }
    let settings = assembly::ldap_settings(config, delegator).map_err(|error| error.to_string())?;
    Ok(settings.map(Directory::new))
}

fn forwarder(config: &Config) -> Result<Forwarder, String> {
    let trust = assembly::backend_trust(config).map_err(|error| error.to_string())?;
    Forwarder::new(trust, Limits::default()).map_err(|error| error.to_string())
}

fn private_folders(config: &Config) -> Result<(), StartError> {
    let mut wrong = Vec::new();
    for folder in [&config.gateway.state_dir, &config.gateway.runtime_dir] {
        let made = private_folder(folder).map_err(|e| format!("{}: {e}", folder.display()));
        note(&mut wrong, made);
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(StartError(wrong))
    }
}

/// A folder in which nobody else can put or replace a file; what is in it has modes of its own.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "can be written by others (mode {:03o}); it holds keys and sessions: chmod 700",
            mode & 0o777
        )));
    }
    Ok(())
}

impl House {
    /// Work beside the requests, until `stop`.
    fn tend(&self, stop: CancellationToken) -> Vec<tokio::task::JoinHandle<()>> {
        let keys = tokio::spawn(until(stop.clone(), Arc::clone(&self.issuer).keep_fresh()));
        let tidy = tokio::spawn(until(stop.clone(), self.pipeline.authn.clone().keep_tidy()));
        let pipeline = Arc::clone(&self.pipeline);
        let ended = tokio::spawn(until(stop, async move {
            let mut ended = pipeline.authn.ended();
            loop {
                match ended.recv().await {
                    Ok(end) => pipeline.session_ended(&end).await,
                    // SECURITY: whom the missed news were about is not known, so everybody's go.
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "dropping all waiting connections and tickets");
                        pipeline.forget_everybody();
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        }));
        vec![keys, tidy, ended]
    }

    fn readiness(&self) -> Vec<Readiness> {
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
        parts
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Everything that is listened on.
struct Bound {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    ops: Option<TcpListener>,
}

impl Bound {
    async fn new(config: &Config) -> Result<Self, StartError> {
        let mut wrong = Vec::new();
        let mut https = Vec::new();
        for address in &config.listener.https {
            https.extend(note(&mut wrong, bind("listener.https", *address).await));
        }
        let mut http = Vec::new();
        for address in &config.listener.http {
            http.extend(note(&mut wrong, bind("listener.http", *address).await));
        }
        let ops = match config.listener.ops {
            Some(address) => note(&mut wrong, bind("listener.ops", address).await),
            None => None,
        };
        if wrong.is_empty() {
            Ok(Self { https, http, ops })
        } else {
            Err(StartError(wrong))
        }
    }

    fn announce(&self, ready_file: Option<&Path>) -> Result<(), StartError> {
        let Some(path) = ready_file else {
            return Ok(());
        };
        let shown = |listener: Option<&TcpListener>| {
            listener
                .and_then(|l| l.local_addr().ok())
                .map(|address| address.to_string())
        };
        let content = serde_json::json!({
            "listen": shown(self.https.first()),
            "http": shown(self.http.first()),
            "ops": shown(self.ops.as_ref()),
            "pid": std::process::id(),
        });
        // Renamed into place: whoever waits for the file never reads half of it.
        let draft = path.with_extension("draft");
        let written =
            fs::write(&draft, content.to_string()).and_then(|()| fs::rename(&draft, path));
        written.map_err(|error| StartError::one(format!("{}: {error}", path.display())))
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("{key}: {address} cannot be bound: {error}"))
}

/// The published TLS port of each host, for the plain listener's redirects.
fn published_ports(
    config: &Config,
) -> impl Fn(&str) -> Option<u16> + Clone + Send + Sync + 'static {
    let port = |url: &url::Url| url.port_or_known_default().unwrap_or(443);
    let mut ports: std::collections::HashMap<HostName, u16> = config
        .applications
        .iter()
        .map(|app| (app.host.clone(), port(&app.published_url)))
        .collect();
    ports.insert(
        config.gateway.sign_in_host.clone(),
        port(&config.gateway.sign_in_url),
    );
    let ports = Arc::new(ports);
    move |host| ports.get(&host.parse::<HostName>().ok()?).copied()
}

async fn asked_to_stop(mut terminate: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
