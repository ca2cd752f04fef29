//! Which of an application's servers gets a request: in turn, those that refused connections last.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use http::HeaderValue;
use rustls_pki_types::ServerName;

use crate::model::application::Application;
use crate::model::application::Backend;

/// How long a server that refused a connection is only the last resort.
const EJECTED: Duration = Duration::from_secs(5);

/// One server, ready to be connected to.
#[derive(Debug)]
pub struct Server {
    /// Unlike any other's in this process: the number of a server that changed is never used again.
    pub id: u64,
    /// The host to resolve.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name its certificate has to have; absent = plain HTTP.
    pub tls_name: Option<ServerName<'static>>,
    /// Connect here instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// What it is called in `Host`.
    pub authority: HeaderValue,
    /// Its path without a slash at the end.
    pub base: String,
    /// Milliseconds since the group's beginning, plus one, of its last refusal.
    refused: AtomicU64,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The servers of one application.
#[derive(Debug)]
pub struct Group {
    /// As configured, to see whether that changed.
    pub backends: Vec<Backend>,
    /// The same, in the same order; a URL that cannot be used is `None`.
    servers: Vec<Option<Server>>,
    next: AtomicUsize,
    begin: Instant,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl Group {
    /// The servers of `application`.
    #[must_use]
    pub fn new(application: &Application) -> Self {
        Self {
            backends: application.backends.clone(),
            servers: application.backends.iter().map(server).collect(),
            next: AtomicUsize::new(0),
            begin: Instant::now(),
        }
    }

    /// The numbers of its servers.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.servers.iter().flatten().map(|server| server.id)
    }

    /// Each server with its place in the configuration, in the order to be tried.
    pub fn in_turn(&self) -> Vec<(usize, &Server)> {
        let mut servers: Vec<_> = self
            .servers
            .iter()
            .enumerate()
            .filter_map(|(index, server)| Some((index, server.as_ref()?)))
            .collect();
        if servers.len() > 1 {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % servers.len();
            servers.rotate_left(turn);
            servers.sort_by_key(|(_, server)| self.is_ejected(server));
        }
        servers
    }

    /// Notes whether `server` takes connections.
    pub fn note(&self, server: &Server, reached: bool) {
        let mark = if reached { 0 } else { self.now() };
        server.refused.store(mark, Ordering::Relaxed);
    }

    fn is_ejected(&self, server: &Server) -> bool {
        let refused = server.refused.load(Ordering::Relaxed);
        refused != 0 && u128::from(self.now().saturating_sub(refused)) < EJECTED.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}

fn server(backend: &Backend) -> Option<Server> {
    let url = &backend.url;
    let host = url
        .host_str()?
        .trim_start_matches('[')
        .trim_end_matches(']');
    let tls_name = match url.scheme() {
        "https" => Some(ServerName::try_from(host.to_owned()).ok()?),
        _ => None,
    };
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    Some(Server {
        id: IDS.fetch_add(1, Ordering::Relaxed),
        host: host.to_owned(),
        port: url.port_or_known_default()?,
        tls_name,
        address: backend.address,
        authority: HeaderValue::try_from(authority).ok()?,
        base: url.path().trim_end_matches('/').to_owned(),
        refused: AtomicU64::new(0),
    })
}
