//! One client connection after its handshake: the protocol that was agreed on, limits, an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::Settings;
use super::activity::Activity;
use super::activity::BusyBody;
use super::activity::Overdue;
use super::activity::Patience;
use super::framing::Refusal;
use super::gather::Gathered;
use super::guard::Guard;
use super::interim::Line;
use super::switch::Handover;
use super::turned_away;
use crate::model::body::Body;
use crate::model::in_place;
use crate::model::poll;
use crate::model::stop::Code;

/// An upload must not be throttled by the protocol's small default windows.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How much more hyper would take than we let through.
const HYPERS_OWN: usize = 8192;
/// What an idle client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// A connection was accepted, so somebody counts on us: after a stop its handshake, and then its first
/// request, are still waited for so long.
pub(super) const FIRST: Duration = Duration::from_secs(2);

/// When connections have to end.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Take no more requests.
    pub stop: CancellationToken,
    /// Now.
    pub cut: CancellationToken,
}

impl Ends {
    /// Its own token for one connection, so that thousands do not share one lock.
    pub fn child(&self) -> Self {
        Self {
            stop: self.stop.child_token(),
            cut: self.cut.child_token(),
        }
    }
}

/// Serves HTTP/1.1 until either side ends it.
pub async fn http1<T, S, F>(io: T, peer: Peer, settings: &Settings, service: S, ends: Ends)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let seen = peer.clone();
    let activity = Activity::new();
    let handover = Handover::default();
    let mut io = Guard::http1(io, settings.max_head, Arc::clone(&activity));
    let service = with_peer(peer, &activity, &handover, &ends, service);
    let patience = Patience {
        quiet: settings.quiet,
        ..settings.patience()
    };
    let (ended, connection) = loop {
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Ours tells idle from slow: see `activity`.
            .header_read_timeout(None)
            // Behind our own bound, which answers with a reason.
            .max_buf_size(settings.max_head.saturating_add(HYPERS_OWN))
            .max_header_size(settings.max_head.saturating_add(HYPERS_OWN))
            .serve_connection(TokioIo::new(io), service_fn(&service));
        let ended = watch(
            Pin::new(&mut connection),
            &activity,
            patience,
            settings,
            ends.clone(),
        )
        .await;
        if ended != Ended::Overdue(Overdue::Quiet) {
            break (ended, connection);
        }
        let parts = connection.into_parts();
        io = parts.io.into_inner();
        // RFC 9112 2.2: empty lines between two requests mean nothing. There is nothing else, or it was not quiet.
        let meant = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        if parts.read_buf.iter().any(meant) || !next(&mut io, &activity, settings, &ends).await {
            return;
        }
    };
    if ended == Ended::ByItself && activity.is_switched() {
        let parts = connection.into_parts();
        let io = Box::new(parts.io.into_inner());
        handover.hand_over(io, parts.read_buf).await;
        return;
    }
    let (code, detail) = match ended {
        Ended::Overdue(Overdue::SlowHead) => (
            Code::RequestTimeout,
            format!("the head did not end within {:?}", settings.headers),
        ),
        Ended::Overdue(Overdue::Refused(why)) => (code_of(why), why.to_string()),
        Ended::ByItself
        | Ended::Overdue(Overdue::Idle | Overdue::Quiet | Overdue::SlowReader)
        | Ended::Cut => return,
    };
    let answer = turned_away::http1(&settings.lines, &seen, code, detail);
    // Boxed: thousands of idle connections would keep its room.
    Box::pin(farewell(connection.into_parts().io.into_inner(), &answer)).await;
}

/// Waits for the next request of a quiet connection; false once there will be none, and the client was told.
///
/// An idle connection of hyper's holds two buffers of 8 KiB, as much as everything else about it.
async fn next<T: AsyncRead + AsyncWrite + Unpin>(
    io: &mut Guard<T>,
    activity: &Activity,
    settings: &Settings,
    ends: &Ends,
) -> bool {
    let (until, _) = activity.deadline(settings.patience());
    let comes = tokio::select! {
        biased;
        comes = io.next() => comes.unwrap_or(false),
        () = ends.stop.cancelled() => false,
        () = tokio::time::sleep_until(until.into()) => false,
    };
    if !comes {
        // Whether the client hears it does not matter, but for long it must not take.
        let told = tokio::time::timeout(GOODBYE, io.shutdown());
        tokio::select! {
            _ = told => {}
            () = ends.cut.cancelled() => {}
        }
    }
    comes
}

const fn code_of(why: Refusal) -> Code {
    match why {
        Refusal::TooLarge => Code::HeaderTooLarge,
        Refusal::LineEnding
        | Refusal::RequestLine
        | Refusal::Fragment
        | Refusal::Folding
        | Refusal::HeaderName
        | Refusal::HeaderValue
        | Refusal::ContentLength
        | Refusal::TransferEncoding
        | Refusal::TwoLengths
        | Refusal::OldTransferEncoding
        | Refusal::Chunk => Code::BadRequest,
    }
}

/// Writes the last answer. Whether the client still hears it does not matter.
async fn farewell<T: AsyncRead + AsyncWrite + Unpin>(io: Guard<T>, answer: &[u8]) {
    let mut io = io.into_inner();
    let said = async {
        io.write_all(answer).await?;
        io.shutdown().await?;
        // Closed with unread bytes, the kernel would take the answer back from the client (RFC 9112 9.6).
        let mut rest = [0; 4096];
        let mut left: usize = 1 << 18;
        while left > 0 {
            match io.read(&mut rest).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    drop(tokio::time::timeout(GOODBYE, said).await);
}

/// Serves HTTP/2 until either side ends it.
pub async fn http2<T, S, F>(io: T, peer: Peer, settings: &Settings, service: S, ends: Ends)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let activity = Activity::new();
    let handover = Handover::default();
    let io = Gathered::new(Guard::http2(io, Arc::clone(&activity)));
    let wire = io.clone();
    let connection = Box::pin(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // CVE-2023-44487, rapid reset: streams reset before we took them, and resets we caused.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(128)
            .keep_alive_interval(settings.idle / 2)
            .keep_alive_timeout(settings.headers)
            // RFC 8441 3.
            .enable_connect_protocol()
            .serve_connection(
                TokioIo::new(io),
                service_fn(with_peer(peer, &activity, &handover, &ends, service)),
            ),
    );
    let patience = settings.patience();
    let mut connection = Gathering { connection, wire };
    let ends = ends.clone();
    watch(
        Pin::new(&mut connection),
        &activity,
        patience,
        settings,
        ends,
    )
    .await;
}

/// What every request of a connection has in common.
fn with_peer<S, F>(
    peer: Peer,
    activity: &Arc<Activity>,
    handover: &Handover,
    ends: &Ends,
    service: S,
) -> impl Fn(Request<Incoming>) -> Answer<F>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let activity = Arc::clone(activity);
    let (handover, ends) = (handover.clone(), ends.clone());
    move |mut request| {
        let busy = activity.serve();
        handover.offer(&mut request, || activity.serve(), &ends);
        let mut peer = peer.clone();
        // RFC 9110 15.2: a client of HTTP/1.0 knows none. In HTTP/2 the frames are hyper's own.
        let interim = (request.version() == Version::HTTP_11).then(|| Arc::clone(&activity));
        peer.interim = interim
            .as_ref()
            .map(|activity| Line::new(Arc::clone(activity), activity.interim.open()));
        request.extensions_mut().insert(peer);
        Answer {
            answer: in_place::pinned(|| service(request)),
            busy: Some(busy),
            interim,
            held: None,
        }
    }
}

/// A service's answer on its way; named so that it is `Send` exactly when the service's future is.
struct Answer<F> {
    answer: Pin<Box<F>>,
    busy: Option<super::activity::Busy>,
    /// The connection, if it may send interim responses.
    interim: Option<Arc<Activity>>,
    /// Waits for those that came before it.
    held: Option<Response<Body>>,
}

impl<F: Future<Output = Response<Body>>> Future for Answer<F> {
    type Output = Result<Response<BusyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll::begins();
        let response = match self.held.take() {
            Some(response) => response,
            None => match self.answer.as_mut().poll(cx) {
                Poll::Ready(response) => response,
                Poll::Pending => {
                    if let Some(activity) = &self.interim {
                        activity.interim.register(cx);
                    }
                    return Poll::Pending;
                }
            },
        };
        // hyper flushes after this poll, and with that they are on their way.
        if self
            .interim
            .as_ref()
            .is_some_and(|activity| !activity.interim.close(cx))
        {
            self.held = Some(response);
            return Poll::Pending;
        }
        let busy = self.busy.take();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(busy) = &busy
        {
            busy.switch();
        }
        Poll::Ready(Ok(response.map(|body| BusyBody::new(body, busy))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByItself,
    Overdue(Overdue),
    Cut,
}

/// What both of hyper's connections can do.
trait Connection: Future<Output = hyper::Result<()>> {
    fn wind_down(self: Pin<&mut Self>);
}

impl<T, S, B> Connection for http1::Connection<T, S>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<T, S, B, E> Connection for http2::Connection<T, S, E>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// A connection whose wire is told when a poll of it is over.
struct Gathering<C, T> {
    connection: Pin<Box<C>>,
    wire: Gathered<T>,
}

impl<C: Future, T: AsyncWrite + Unpin> Future for Gathering<C, T> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.connection.as_mut().poll(cx);
        self.wire.end_of_poll(cx);
        polled
    }
}

impl<C: Connection, T: AsyncWrite + Unpin> Connection for Gathering<C, T> {
    fn wind_down(mut self: Pin<&mut Self>) {
        self.connection.as_mut().wind_down();
    }
}

async fn watch<C: Connection>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    patience: Patience,
    settings: &Settings,
    ends: Ends,
) -> Ended {
    let timer = tokio::time::sleep_until(activity.deadline(patience).0.into());
    tokio::pin!(timer);
    let mut leaving: Option<Instant> = None;
    let mut awaited = false;
    loop {
        // Polled after each move of the connection, so a head that has just begun is timed at once.
        let overdue = poll_fn(|cx| {
            poll_overdue(timer.as_mut(), cx, || {
                let (until, why) = activity.deadline(patience);
                (leaving.map_or(until, |left| until.min(left)).into(), why)
            })
        });
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return Ended::ByItself;
            }
            () = ends.cut.cancelled() => return Ended::Cut,
            () = ends.stop.cancelled(), if leaving.is_none() => {
                awaited = activity.is_unused();
                leaving = Some(Instant::now() + FIRST);
                if !awaited {
                    connection.as_mut().wind_down();
                    // Requests being served may finish; `cut` bounds that.
                    leaving = Some(Instant::now() + settings.drain);
                }
            }
            // Polled after each move of the connection, too.
            () = used(activity), if awaited => {
                awaited = false;
                connection.as_mut().wind_down();
                leaving = Some(Instant::now() + settings.drain);
            }
            why = overdue => {
                tracing::debug!(?why, "connection overdue");
                let idle = matches!(why, Overdue::Idle | Overdue::Quiet);
                if why == Overdue::Quiet && leaving.is_none() || !idle || (leaving.is_some() && !awaited) {
                    return Ended::Overdue(why);
                }
                awaited = false;
                connection.as_mut().wind_down();
                leaving = Some(Instant::now() + GOODBYE);
            }
        }
    }
}

/// Ready once there has been a request.
async fn used(activity: &Activity) {
    poll_fn(|_| match activity.is_unused() {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

/// Ready once the deadline of that moment has passed.
fn poll_overdue(
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
    deadline: impl Fn() -> (tokio::time::Instant, Overdue),
) -> Poll<Overdue> {
    loop {
        let (until, why) = deadline();
        // A later deadline is found when the timer fires: no timer is touched for a request.
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        std::task::ready!(timer.as_mut().poll(cx));
        if until <= tokio::time::Instant::now() {
            return Poll::Ready(why);
        }
        timer.as_mut().reset(until);
    }
}
