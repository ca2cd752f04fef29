//! Builds every room and ties the listener to the pipeline: the only wiring.
//!
//! In: a checked configuration. Out: a gateway that serves until a signal says stop, then lets requests
//! finish. Nothing is bound before every room stands; issuer, directory and KDC need not be up for that,
//! so that a site comes back by itself after a power cut, in any order.
//!
//! | File | What it is |
//! |---|---|
//! | `generation.rs` | the rooms of one configuration |
//! | `contradictions.rs` | what a configuration has wrong that only the rooms see |
//! | `orders.rs` | certificates that are ordered (ACME) |
//! | `guests.rs` | guests synchronized on a schedule |
//! | `cutoff.rs` | the watch for whoever has left |
//! | `house.rs` | the generation in use, and how the next takes its place |
//! | `watch.rs` | when the configuration is read again |
//! | `sockets.rs`, `supervisor.rs` | what comes from the service manager, and what it is told |
//! | `workers.rs` | the threads that serve clients |
//! | `ops.rs` | health and readiness |

mod contradictions;
mod cutoff;
mod generation;
mod guests;
mod house;
pub mod ops;
mod orders;
mod ports;
mod readings;
mod sockets;
mod supervisor;
mod watch;
pub mod workers;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::app::contradictions::contradictions;
use crate::app::generation::Ground;
use crate::app::generation::note;
use crate::app::house::House;
use crate::app::ops::State;
use crate::app::sockets::Sockets;
use crate::app::supervisor::Pulse;
use crate::app::workers::Workers;
use crate::config::Config;
use crate::listener;
use crate::listener::redirect::challenge;
use crate::listener::redirect::proof;
use crate::listener::redirect::to_https;
use crate::listener::tls::Certificates;
use crate::listener::tls::server_config;
use crate::model::body::Body;
use crate::model::clock::Clock;
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

/// The signals that are heard.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let of = |kind| signal(kind).map_err(StartError::one);
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }
}

/// Serves what `file` says until SIGTERM or SIGINT; `config` is what it says now.
///
/// Once ready, the bound addresses are written to `ready_file` as JSON.
///
/// # Errors
/// Every reason why a room could not be built or an address not be bound.
pub async fn run(config: Config, file: &Path, ready_file: Option<&Path>) -> Result<(), StartError> {
    let (linger, drain) = (config.listener.linger, config.listener.drain);
    private_folders(&config)?;
    let house = build(config.clone()).await?;
    let sockets = Sockets::open(&config).await?;
    // Listened for before anybody is told that we are here: whoever stops us at once is heard, too.
    let Signals {
        mut terminate,
        mut interrupt,
        hangup,
    } = Signals::new()?;
    sockets.announce(ready_file)?;
    let stop = CancellationToken::new();
    let workers = Workers::start(config.gateway.workers).map_err(StartError::one)?;
    let (serving, ops) = serve(&house, sockets, &workers, &stop)?;
    let watching = tokio::spawn(watch::serve(Arc::clone(&house), file.to_owned(), hangup));
    let pulse = Pulse::default();
    if let Some(every) = supervisor::watch_over(pulse.clone()) {
        workers.each(|| pulse.clone().beat(every));
        tokio::spawn(pulse.beat(every));
    }
    supervisor::ready("serving");
    tracing::info!(applications = config.applications.len(), "serving");

    watch::asked_to_stop(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: requests may finish within {} s", drain.as_secs());
    watching.abort();
    house.begin_to_stop();
    supervisor::stopping(linger + drain + CLOSING);
    let ending = async {
        tokio::time::sleep(linger).await;
        stop.cancel();
        join_all(serving).await;
    };
    if !watch::unless_asked_again(ending, &mut terminate, &mut interrupt).await {
        tracing::warn!("asked to stop again: open requests are cut");
    }
    drop(workers);
    watch::at_most(CLOSING, house.close()).await;
    for one in ops {
        one.abort();
    }
    Ok(())
}

/// What the end itself may take.
const CLOSING: Duration = Duration::from_secs(5);

async fn build(config: Config) -> Result<Arc<House>, StartError> {
    // The provider must be chosen before any library asks for the process's default one; a second
    // choice is refused, and then the first, the same one, stands.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let database = config.gateway.state_dir.join("kerbgate.db");
    let store = SqliteStore::open(&database).await;
    let ground = Ground {
        certificates: Arc::new(Certificates::default()),
        store: Arc::new(store.map_err(StartError::one)?),
        work: TaskTracker::new(),
        stop: CancellationToken::new(),
        clock: Clock::System,
    };
    House::build(config, ground).await
}

type Tasks = Vec<JoinHandle<()>>;

/// Begins to accept on all sockets: the published ones, and the ones for the operator.
fn serve(
    house: &Arc<House>,
    sockets: Sockets,
    workers: &Workers,
    stop: &CancellationToken,
) -> Result<(Tasks, Tasks), StartError> {
    let tls = server_config(Arc::clone(&house.certificates)).map_err(StartError::one)?;
    let mut serving = Vec::new();
    for socket in sockets.https {
        let served = workers.serve(&socket, |socket| {
            let house = Arc::clone(house);
            let (limits, tls) = (house.limits.clone(), Some(Arc::clone(&tls)));
            let service = move |request: Request<Incoming>| house.pipeline().handle(request);
            listener::run(socket, limits, tls, service, stop.clone())
        });
        serving.extend(served.map_err(StartError::one)?);
    }
    for socket in sockets.http {
        let served = workers.serve(&socket, |socket| {
            let house = Arc::clone(house);
            let limits = house.limits.clone();
            let redirect = move |request: Request<Incoming>| plain(Arc::clone(&house), request);
            listener::run(socket, limits, None, redirect, stop.clone())
        });
        serving.extend(served.map_err(StartError::one)?);
    }
    let mut ops = Vec::new();
    for socket in sockets.ops {
        let house = Arc::clone(house);
        let state = move || State {
            parts: house.readiness(),
            configuration: house.configuration(),
            ordered: house.orders.told(),
            readings: house.readings(),
        };
        let socket = TcpListener::from_std(socket).map_err(StartError::one)?;
        ops.push(tokio::spawn(ops::serve(socket, Arc::new(state))));
    }
    Ok((serving, ops))
}

/// The answer of the plain listener: to an authority the proof that the host is ours, to all others the way to TLS.
async fn plain(house: Arc<House>, request: Request<Incoming>) -> Response<Body> {
    if let Some((host, token)) = challenge(&request)
        && let Some(kept) = house.orders.proof(&host, &token).await
    {
        return proof(kept);
    }
    to_https(&request, |host| house.port(host))
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
