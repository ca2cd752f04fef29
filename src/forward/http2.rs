//! HTTP/2 towards backends: few connections, each carrying many requests at a time.
//!
//! In: a server that speaks it. Out: places on its connections, one a request. Specification: RFC 9113; for
//! gRPC its `doc/PROTOCOL-HTTP2.md`.
//!
//! # Why
//!
//! - Only for backends that learn in each request's headers who came: a connection is shared by everybody, and
//!   what knows its person by the connection (Negotiate) is refused by the configuration.
//! - Connections belong to a server, and to the worker that made them: a request that stays on its thread
//!   wakes no other. They end with the server, that is, when its application changes.
//! - A stream's window bounds what is held for a client that does not read. A connection's window is as large as
//!   those of all its streams together: with less, a few such clients would stop everybody else's answers.
//! - A request is sent once more only if the backend said that it did nothing with it (RFC 9113 8.7):
//!   `REFUSED_STREAM`, or a `GOAWAY` whose last stream came before. What was already sent of its body is kept
//!   for that, as far as it is small: each gRPC call is a POST, and gRPC servers send `GOAWAY` by the clock.
//! - The end of a call is told at once: dropping an unfinished answer, or an unfinished request, resets its stream.
//! - Two things find a dead peer: TCP gives up on what is not acknowledged, and a ping breaks long silence
//!   while calls are open. gRPC servers take no more pings than one in five minutes from whoever has nothing
//!   to say (gRFC A8), and close the connection on the third.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::poll_fn;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::header;
use http::uri::Authority;
use http::uri::Scheme;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2 as protocol;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use rustls::client::Resumption;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::runtime::Id;

use super::balance::Server;
use super::body::Upload;
use super::connect;
use super::error::Error;
use super::pool::Connection;
use crate::model::application::backend_http::BackendHttp;

mod again;

pub use again::Kept;
pub use again::is_nonsense;
pub use again::unprocessed;
pub use again::upload;

/// What a backend may send ahead on one stream, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Requests at a time on one connection, if the server allows as many; further ones get another connection.
const STREAMS: usize = 64;
#[expect(clippy::cast_possible_truncation, reason = "64 is no large number")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// What is held of a request for a backend that does not take it, in bytes.
const SEND_AHEAD: usize = 256 * 1024;
/// The largest head of an answer in bytes, as with HTTP/1.1.
#[expect(clippy::cast_possible_truncation, reason = "128 KiB")]
const HEAD: u32 = connect::READ_AHEAD as u32;
/// gRFC A8: five minutes is the shortest interval that gRPC servers accept unasked.
const PING: Duration = Duration::from_secs(305);
const PONG: Duration = Duration::from_secs(20);
/// How long TCP waits for an acknowledgment.
const DEAD: Duration = Duration::from_secs(20);
/// A connection without requests ends after this time, like those of HTTP/1.1.
const IDLE: Duration = Duration::from_secs(50);

/// How HTTP/2 is spoken with a server, and its connections.
#[derive(Debug)]
pub struct Http2 {
    /// HTTP/1.1 will do as well.
    optional: bool,
    /// Offers HTTP/2; absent = prior knowledge.
    tls: Option<Arc<ClientConfig>>,
    connections: Mutex<Vec<Shared>>,
    /// Held by whoever makes a connection for all.
    making: tokio::sync::Mutex<()>,
    /// The server chose HTTP/1.1 when it was last asked.
    declined: AtomicBool,
}

/// A connection, and who may use it.
#[derive(Debug)]
struct Shared {
    sender: protocol::SendRequest<Upload>,
    state: Arc<State>,
    allows: Arc<dyn Allows>,
    worker: Option<Id>,
}

/// How many requests at a time the server allows on a connection.
trait Allows: fmt::Debug + Send + Sync {
    /// As it said last: RFC 9113 6.5.2 lets it change its mind at any time.
    fn streams(&self) -> usize;
}

/// Shared with the task that drives it, for it is the connection that knows.
type Driven<T> = Mutex<protocol::Connection<T, Upload, TokioExecutor>>;

impl<T> Allows for Driven<T>
where
    T: hyper::rt::Read + hyper::rt::Write + fmt::Debug + Send + Unpin + 'static,
{
    fn streams(&self) -> usize {
        let connection = self.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that allows none for now gets one to answer: it would be waited for anyway.
        connection.current_max_send_streams().clamp(1, STREAMS)
    }
}

/// What is known of a connection.
#[derive(Debug)]
struct State {
    /// Requests on it.
    streams: AtomicUsize,
    /// Somebody took a place lately.
    used: AtomicBool,
    /// Takes no further requests.
    retired: AtomicBool,
    /// Over TLS.
    secure: bool,
}

/// A place on a connection, for one request; free again when dropped.
#[derive(Debug)]
pub struct Stream {
    sender: protocol::SendRequest<Upload>,
    state: Arc<State>,
}

impl Http2 {
    /// How it is spoken, where `http` says so; `tls` are the settings for HTTP/1.1, absent for plain HTTP.
    #[must_use]
    pub fn new(http: BackendHttp, tls: Option<&Arc<ClientConfig>>) -> Option<Self> {
        let optional = match http {
            BackendHttp::Http1 => return None,
            BackendHttp::Http2 => false,
            BackendHttp::Auto if tls.is_none() => return None,
            BackendHttp::Auto => true,
        };
        let tls = tls.map(|tls| {
            let mut tls = ClientConfig::clone(tls);
            tls.alpn_protocols = vec![b"h2".to_vec()];
            if optional {
                tls.alpn_protocols.push(b"http/1.1".to_vec());
            }
            // RFC 8446 4.6.1: a ticket carries the protocol that was agreed on.
            tls.resumption = Resumption::in_memory_sessions(16);
            Arc::new(tls)
        });
        Some(Self {
            optional,
            tls,
            connections: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            declined: AtomicBool::new(false),
        })
    }

    /// A place on a connection of this worker that has one.
    fn take(&self) -> Option<Stream> {
        let worker = worker();
        let mut connections = self.connections();
        connections.retain(|one| !one.is_over());
        let mut own = connections.iter().filter(|one| one.worker == worker);
        own.find(|one| one.has_room()).map(Shared::stream)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, server: &Server) -> Result<Connection, Error> {
        let stream = connect::tcp(server).await?;
        if let Err(error) = SockRef::from(&stream.0).set_tcp_user_timeout(Some(DEAD)) {
            tracing::debug!(%error, "a dead backend will be noticed late");
        }
        let Some(tls) = &self.tls else {
            return self.begin(server, stream, false).await;
        };
        let stream = connect::tls(server, tls, stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.declined.store(!agreed, Ordering::Relaxed);
        match (agreed, self.optional) {
            (true, _) => self.begin(server, stream, true).await,
            (false, true) => connect::http_in_tls(server, stream).await,
            (false, false) => Err(Error::Tls {
                backend: server.to_string(),
                source: std::io::Error::other(
                    "it did not agree on HTTP/2 (ALPN); write backend_http = \"auto\" or \"http1\"",
                ),
            }),
        }
    }

    /// RFC 9113 3.4: the preface and the settings; the server's own are not waited for.
    async fn begin<T>(&self, server: &Server, stream: T, secure: bool) -> Result<Connection, Error>
    where
        T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        let (sender, connection) = protocol::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_AHEAD)
            .max_header_list_size(HEAD)
            .initial_max_send_streams(STREAMS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .handshake::<_, Upload>(TokioIo::new(stream))
            .await
            .map_err(|source| Error::Protocol {
                backend: server.to_string(),
                source,
            })?;
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            retired: AtomicBool::new(false),
            secure,
        });
        let connection = Arc::new(Mutex::new(connection));
        tokio::spawn(drive(Arc::clone(&connection), Arc::clone(&state)));
        let shared = Shared {
            sender,
            state,
            allows: connection,
            worker: worker(),
        };
        let first = shared.stream();
        self.connections().push(shared);
        Ok(Connection::multiplexed(first))
    }
}

/// A place on a connection to `server`; a connection of HTTP/1.1 where the server prefers that and may.
///
/// # Errors
/// When there is none and none can be made, or not within `within`.
pub(super) async fn connect(
    http2: &Http2,
    server: &Server,
    within: Duration,
) -> Result<Connection, Error> {
    if let Some(stream) = http2.take() {
        return Ok(Connection::multiplexed(stream));
    }
    let connecting = async {
        // Who comes while a connection is being made waits for it, and makes one only if that has failed
        // or is full already: otherwise each of a hundred that come at once would make its own.
        let making = if http2.declined.load(Ordering::Relaxed) {
            None
        } else {
            match http2.making.try_lock() {
                Ok(making) => Some(making),
                Err(_) => {
                    drop(http2.making.lock().await);
                    if let Some(stream) = http2.take() {
                        return Ok(Connection::multiplexed(stream));
                    }
                    None
                }
            }
        };
        let made = http2.make(server).await;
        drop(making);
        made
    };
    connect::in_time(server, within, connecting).await
}

/// Which worker this is: each has a runtime of its own.
fn worker() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// Lets a connection work until it ends, or has had no request for a while.
async fn drive<T>(connection: Arc<Driven<T>>, state: Arc<State>)
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    loop {
        let working = poll_fn(|cx| {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            Pin::new(&mut *connection).poll(cx)
        });
        match tokio::time::timeout(IDLE, working).await {
            Ok(ended) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection of HTTP/2 ended");
                }
                break;
            }
            // A request that just took a place gets its message back, and another connection.
            Err(_) if state.is_idle() => break,
            Err(_) => {}
        }
    }
    state.retired.store(true, Ordering::Relaxed);
}

impl State {
    /// True when nothing is on it, and nothing was since this was last asked.
    fn is_idle(&self) -> bool {
        let used = self.used.swap(false, Ordering::Relaxed);
        !used && self.streams.load(Ordering::Relaxed) == 0
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.state.retired.load(Ordering::Relaxed) || self.sender.is_closed()
    }

    fn has_room(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) < self.allows.streams()
    }

    fn stream(&self) -> Stream {
        self.state.streams.fetch_add(1, Ordering::Relaxed);
        self.state.used.store(true, Ordering::Relaxed);
        Stream {
            sender: self.sender.clone(),
            state: Arc::clone(&self.state),
        }
    }
}

impl Stream {
    /// Sends a request made for HTTP/1.1; it comes back if nothing of it was sent.
    pub fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        let request = framed(request, self.state.secure);
        self.sender.try_send_request(request)
    }

    /// Keeps further requests from its connection: the peer may be dead. Those on it go on.
    pub fn retire(&self) {
        self.state.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// RFC 9113 8.2.2 and 8.3.1: no `Connection`, and the host is part of the target.
fn framed(mut request: Request<Upload>, secure: bool) -> Request<Upload> {
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::CONNECTION);
    let host = request.headers_mut().remove(header::HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    // A request that came back unsent has all of it already.
    if let Some(host) = host {
        parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(host);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}
