//! Sockets towards clients: TLS, HTTP/1.1 and HTTP/2, limits, drain. Knows nothing of the gateway.
//!
//! In: an already bound socket, certificates, a service. Out: for the service, parsed and bounded
//! requests, each with its [`Peer`]. Specifications: RFC 9112, RFC 9113, RFC 8446, RFC 7301 (ALPN).
//!
//! # Why
//!
//! The protocol is chosen by ALPN, never by looking at the first bytes: hyper's sniffing builder waits
//! for them without a limit. Message framing is inspected before hyper parses it ([`framing`]), because
//! what hyper forgives cannot be seen afterwards. Time limits are our own ([`activity`]).

pub mod activity;
pub mod authority;
pub mod body;
pub mod buckets;
pub mod connection;
pub mod forwarded;
pub mod framing;
pub mod gather;
pub mod guard;
pub mod interim;
pub mod ordered;
pub mod proxy_header;
pub mod redirect;
pub mod switch;
pub mod tls;
pub mod turned_away;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::activity::Patience;
use crate::listener::buckets::AtOnce;
use crate::listener::buckets::Inside;
use crate::listener::buckets::Key;
use crate::listener::connection::Ends;
use crate::listener::interim::Line;
use crate::listener::turned_away::Lines;
use crate::model::addresses::Networks;
use crate::model::body::Body;
use crate::model::wire::Wire;
use crate::telemetry::metrics::metrics;

/// Who is on the other side of a request's connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end of the connection: the client, or a proxy in front of us.
    pub address: SocketAddr,
    /// The client: as a listed proxy says (PROXY protocol, then `Forwarded`), otherwise the other end.
    /// Never an IPv4 address in IPv6 clothes.
    pub client: IpAddr,
    /// `TLSv1_3` or `TLSv1_2`; absent on a plain listener.
    pub tls_version: Option<&'static str>,
    /// The host named in the TLS handshake, lower case.
    pub sni: Option<Arc<str>>,
    /// The client as a text: all requests of a connection name the same, most of the time.
    pub text: Arc<str>,
    /// Where interim responses to this request may be sent; only HTTP/1.1 has one.
    pub interim: Option<Line>,
}

impl Peer {
    /// The client is known better now.
    pub fn comes_from(&mut self, client: IpAddr) {
        if self.client != client {
            self.client = client;
            self.text = client.to_string().into();
        }
    }

    /// True when the connection is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls_version.is_some()
    }
}

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers that say with the PROXY protocol who connected to them; empty = nobody.
    pub proxies: Networks,
    /// Most connections at a time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Most connections of one client's address at a time; absent = no limit of its own.
    pub per_address: Option<Arc<AtOnce>>,
    /// The access log's lines about what was no request.
    pub lines: Arc<Lines>,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head.
    pub headers: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// After so long without a request a connection gives its buffers back until the next one.
    pub quiet: Duration,
    /// How long a client may take nothing of an answer.
    pub write: Duration,
    /// Largest request head in bytes.
    pub max_head: usize,
    /// Most concurrent HTTP/2 streams of a connection.
    pub max_streams: u32,
    /// How long requests may finish after a stop was asked for.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxies: Networks::default(),
            max_connections: 20_000,
            per_address: None,
            lines: Arc::default(),
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(15),
            idle: Duration::from_secs(120),
            quiet: Duration::from_millis(500),
            write: Duration::from_secs(60),
            max_head: 65_536,
            max_streams: 200,
            drain: Duration::from_secs(20),
        }
    }
}

/// Limits that may change while listening: each new connection gets those of its moment.
#[derive(Clone, Debug)]
pub struct Live(Arc<ArcSwap<Settings>>);

impl Live {
    /// Sets them for connections from now on; `max_connections` stays as it was.
    pub fn set(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

impl From<Settings> for Live {
    fn from(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }
}

impl Settings {
    const fn patience(&self) -> Patience {
        Patience {
            headers: self.headers,
            idle: self.idle,
            quiet: Duration::MAX,
            write: self.write,
        }
    }
}

/// Serves `listener` until `shutdown`, then lets requests finish within the configured time.
///
/// With `tls` absent it speaks plain HTTP/1.1. `service` gets each request with a [`Peer`] among its
/// extensions.
pub async fn run<S, F>(
    listener: TcpListener,
    settings: impl Into<Live>,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    shutdown: CancellationToken,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Live(settings) = settings.into();
    let room = Arc::new(Semaphore::new(settings.load().max_connections));
    let tracker = TaskTracker::new();
    let ends = Ends {
        stop: shutdown.clone(),
        cut: CancellationToken::new(),
    };
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS: the connection stays in the queue, and asking again at
                // once would spin.
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(250)).await;
                continue;
            }
        };
        let (settings, tls, service) = (settings.load_full(), tls.clone(), service.clone());
        let ends = ends.child();
        tracker.spawn(async move {
            let _permit = permit;
            let _open = metrics().connection();
            let Some((stream, peer)) = introduce(stream, address, &settings, &ends).await else {
                return;
            };
            let Ok(_inside) = count(&settings, &peer) else {
                let detail = String::from("listener.max_connections_per_address");
                settings
                    .lines
                    .connection(peer.client, "too-many-connections", detail);
                return;
            };
            match tls {
                None => connection::http1(stream, peer, &settings, service, ends).await,
                Some(tls) => secure(stream, peer, &tls, &settings, service, ends).await,
            }
        });
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(settings.load().drain, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = tracker.len(),
            "cut at the end of the drain time"
        );
        ends.cut.cancel();
        tracker.wait().await;
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Answers are written whole; waiting for more to send only delays their end.
                if stream.set_nodelay(true).is_ok() {
                    return Ok((stream, address, permit));
                }
            }
            // The client has left while it waited.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A place among the connections of the client's address, if those are limited.
fn count(settings: &Settings, peer: &Peer) -> Result<Option<Inside>, ()> {
    match &settings.per_address {
        Some(per_address) => per_address
            .enter(Key::address(peer.client))
            .map(Some)
            .ok_or(()),
        None => Ok(None),
    }
}

/// Who is there: a listed proxy has to say for whom it comes, from anybody else no such word is read.
async fn introduce(
    mut stream: TcpStream,
    address: SocketAddr,
    settings: &Settings,
    ends: &Ends,
) -> Option<(TcpStream, Peer)> {
    let mut peer = Peer {
        address,
        client: address.ip().to_canonical(),
        tls_version: None,
        sni: None,
        text: address.ip().to_canonical().to_string().into(),
        interim: None,
    };
    if settings.proxies.is_empty() || !settings.proxies.contain(peer.client) {
        return Some((stream, peer));
    }
    let header = tokio::time::timeout(settings.handshake, proxy_header::read(&mut stream));
    let read = tokio::select! {
        biased;
        () = ends.stop.cancelled() => return None,
        read = header => read,
    };
    let problem = match read {
        Ok(Ok(source)) => {
            if let Some(source) = source {
                peer.comes_from(source.ip());
            }
            return Some((stream, peer));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => String::from("no PROXY header in time"),
    };
    let lines = &settings.lines;
    lines.connection(peer.client, "proxy-header-refused", problem);
    None
}

const TLS_FAILED: &str = "tls-handshake-failed";

async fn secure<S, F>(
    stream: TcpStream,
    peer: Peer,
    tls: &TlsAcceptor,
    settings: &Settings,
    service: S,
    ends: Ends,
) where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // In boxes of their own: a connection's task keeps the size of its largest moment as long as it lives, and it
    // would hold a TLS session for each name that the session has on its way.
    let handshake = tokio::time::timeout(settings.handshake, tls.accept(Wire(stream)));
    let handshake = Box::pin(handshake);
    let too_late = async {
        ends.stop.cancelled().await;
        tokio::time::sleep(connection::FIRST).await;
    };
    let stream = tokio::select! {
        biased;
        () = too_late => return,
        done = handshake => match done {
            Ok(Ok(stream)) => {
                metrics().handshake("done");
                Box::new(stream)
            }
            // A balancer's probe: connected, said nothing, left.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Ok(Err(error)) => {
                metrics().handshake("failed");
                settings.lines.connection(peer.client, TLS_FAILED, error.to_string());
                return;
            }
            Err(_) => {
                metrics().handshake("late");
                let detail = format!("took longer than {:?}", settings.handshake);
                settings.lines.connection(peer.client, TLS_FAILED, detail);
                return;
            }
        },
    };
    let (_, session) = stream.get_ref();
    // SECURITY: RFC 8737 3: after the proof the connection ends; no byte of it is ever read as a request.
    if session.alpn_protocol() == Some(ordered::ACME_TLS) {
        return;
    }
    let http2 = session.alpn_protocol() == Some(b"h2");
    let peer = Peer {
        tls_version: session
            .protocol_version()
            .and_then(|version| version.as_str()),
        sni: session
            .server_name()
            .map(|name| name.to_ascii_lowercase().into()),
        ..peer
    };
    if http2 {
        connection::http2(stream, peer, settings, service, ends).await;
    } else {
        connection::http1(stream, peer, settings, service, ends).await;
    }
}

#[cfg(test)]
mod tests;
