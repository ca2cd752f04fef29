//! WebSockets: the client's handshake, and what goes through afterwards.
//!
//! In: a request that asks for one, over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441). It walks through all
//! rooms like any other, as a GET. Out: both sides' bytes, untouched, until one side ends it, the session
//! ends (close 1008 with the reason code), it is silent or old for too long, or the gateway stops (1001).

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::Either;
use futures_util::future::join;
use futures_util::future::select;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body as HttpBody;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::stay::Attendance;
use super::stay::Refused;
use super::trace::Trace;
use crate::forward::frames;
use crate::forward::frames::Frames;
use crate::forward::upgrade;
use crate::forward::upgrade::Switched;
use crate::forward::upgrade::WEBSOCKET;
use crate::forward::upgrade::Wish;
use crate::listener::connection::Ends;
use crate::listener::switch::Switch;
use crate::model::application::Application;
use crate::model::body;
use crate::model::body::Body;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;

/// Makes an extended CONNECT (RFC 8441 4) what it is over HTTP/1.1; true if it was one.
///
/// # Errors
/// Any other CONNECT, and other protocols.
pub(super) fn as_handshake(head: &mut Parts) -> Result<bool, Stop> {
    if head.method != Method::CONNECT {
        return Ok(false);
    }
    let Some(protocol) = head.extensions.get::<hyper::ext::Protocol>() else {
        return Err(Stop::deny(
            Code::MethodRefused,
            "CONNECT is never forwarded",
        ));
    };
    if protocol.as_ref() != b"websocket" {
        let detail = format!(
            "CONNECT for protocol \"{}\"",
            protocol.as_ref().escape_ascii()
        );
        return Err(Stop::deny(Code::UpgradeRefused, detail));
    }
    head.method = Method::GET;
    head.headers.insert(header::UPGRADE, WEBSOCKET);
    Ok(true)
}

/// A sound handshake of a client.
pub(super) struct Offer {
    switch: Switch,
    /// The answer to the client's key; none over HTTP/2.
    accept: Option<HeaderValue>,
}

/// Reads the handshake and has `forward` make one of its own. None: it is no WebSocket, or not allowed
/// one; `forward` then refuses it if it has to.
///
/// # Errors
/// A handshake that is not as RFC 6455 4.2.1 wants it.
pub(super) fn offer(
    head: &mut Parts,
    content: &impl HttpBody,
    app: &Application,
    connects: bool,
) -> Result<Option<Offer>, Stop> {
    let mut wanted = head.headers.get_all(header::UPGRADE).iter();
    // SECURITY: exactly one protocol. `h2c, websocket` would leave the choice to somebody else.
    let websocket = wanted
        .next()
        .is_some_and(|one| one.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && wanted.next().is_none();
    if !websocket || !app.websocket.allowed {
        return Ok(None);
    }
    let bad = |what: &str| Stop::deny(Code::BadRequest, format!("WebSocket handshake: {what}"));
    if head.method != Method::GET || head.version < Version::HTTP_11 || !content.is_end_stream() {
        return Err(bad("it is no GET without a body over HTTP/1.1 or later"));
    }
    if once(&head.headers, &header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(other_version());
    }
    let accept = if connects {
        None
    } else {
        let connection = head.headers.get_all(header::CONNECTION).iter();
        let mut listed = connection.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        if !listed.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
            return Err(bad("Connection does not list Upgrade"));
        }
        let key = once(&head.headers, &header::SEC_WEBSOCKET_KEY).unwrap_or_default();
        if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return Err(bad("Sec-WebSocket-Key is not one nonce of 16 bytes"));
        }
        HeaderValue::try_from(upgrade::accept(key)).ok()
    };
    let switch = Switch::take(&mut head.extensions)
        .ok_or_else(|| bad("this connection cannot carry one"))?;
    let wish = Wish::new()
        .map_err(|_| Stop::fail(Code::Internal, Side::Gateway, "no random numbers for a key"))?;
    head.extensions.insert(wish);
    Ok(Some(Offer { switch, accept }))
}

fn once<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a [u8]> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    all.next().is_none().then(|| first.as_bytes())
}

/// RFC 6455 4.4.
fn other_version() -> Stop {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    headers.insert(header::UPGRADE, WEBSOCKET);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Stop::reply(response)
}

impl Offer {
    /// The client's answer, made from the backend's; a refusal stays what it is.
    ///
    /// # Errors
    /// The backend says yes without switching, which HTTP/2 cannot tell from a yes.
    pub(super) fn answered(
        self,
        mut response: Response<Body>,
        attendance: Attendance,
    ) -> Result<(Response<Body>, Option<Tunnel>), Stop> {
        let Some(switched) = response.extensions_mut().remove::<Switched>() else {
            if self.accept.is_none() && response.status().is_success() {
                let detail = "the backend answered a WebSocket handshake without switching";
                return Err(Stop::fail(Code::BackendProtocol, Side::Backend, detail));
            }
            return Ok((response, None));
        };
        match self.accept {
            Some(accept) => {
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, WEBSOCKET);
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            // RFC 8441 5: no accept, no 101.
            None => *response.status_mut() = StatusCode::OK,
        }
        let tunnel = Tunnel {
            switch: self.switch,
            switched,
            attendance,
        };
        Ok((response, Some(tunnel)))
    }
}

/// A WebSocket that opens when its answer has been sent.
pub(super) struct Tunnel {
    switch: Switch,
    switched: Switched,
    attendance: Attendance,
}

/// Why the gateway ends a socket.
enum Cause {
    Session(Refused),
    Idle,
    MaxAge,
    Stopping,
    /// No time for a word.
    Cut,
}

impl Cause {
    /// RFC 6455 7.4.1.
    const fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Session(refused) => (1008, refused.code.as_str()),
            Self::Idle => (1001, "websocket-idle"),
            Self::MaxAge => (1001, "websocket-max-age"),
            Self::Stopping | Self::Cut => (1001, "gateway-stops"),
        }
    }
}

/// What both directions know.
struct Shared {
    began: Instant,
    /// Milliseconds after `began`.
    moved: AtomicU64,
    /// The client has sent something that counts as use of the session.
    used: AtomicBool,
    closing: CancellationToken,
}

impl Shared {
    fn note(&self) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(at, Ordering::Relaxed);
    }

    async fn silent_for(&self, limit: Duration) {
        loop {
            let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
            let until = self.began + moved + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// What goes one way.
struct Lane<R, W> {
    from: R,
    to: W,
    frames: Frames,
    bytes: u64,
    /// A write has begun and not ended: nothing of ours may follow.
    torn: bool,
    of_client: bool,
}

impl Tunnel {
    /// Begins once `response` has been sent; the access line is written at the end.
    pub(super) fn open(self, mut trace: Trace, response: Response<Body>) -> Response<Body> {
        trace.answered(&response);
        tokio::spawn(async move {
            if let Err(error) = self.run(&mut trace).await {
                trace.access.why = super::trace::CLIENT_GONE;
                trace.access.detail = error.to_string();
            }
            drop(trace);
        });
        response
    }

    async fn run(mut self, trace: &mut Trace) -> std::io::Result<()> {
        let ends = self.switch.ends.clone();
        let Some((backend, lease)) = self.switched.take() else {
            return Ok(());
        };
        let client = tokio::time::timeout(HANDSHAKE, self.switch.wire()).await??;
        let backend = backend.await.map_err(std::io::Error::other)?;
        let (client_in, client_out) = tokio::io::split(client);
        let (backend_in, backend_out) = tokio::io::split(TokioIo::new(backend));
        let shared = Shared {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            used: AtomicBool::new(false),
            closing: CancellationToken::new(),
        };
        let mut up = Lane::new(client_in, backend_out, true);
        let mut down = Lane::new(backend_in, client_out, false);
        let cause = {
            let lanes = both(&mut up, &mut down, &shared);
            tokio::pin!(lanes);
            let cause = tokio::select! {
                biased;
                () = &mut lanes => None,
                cause = cause(&mut self.attendance, &shared, &ends) => Some(cause),
            };
            if cause.is_some() {
                shared.closing.cancel();
                tokio::select! {
                    biased;
                    () = ends.cut.cancelled() => {}
                    _ = tokio::time::timeout(GRACE, &mut lanes) => {}
                }
            }
            cause
        };
        trace.access.bytes = down.bytes;
        if let Some(cause) = cause {
            let (code, reason) = cause.close();
            trace.access.why = reason;
            if let Cause::Session(refused) = &cause {
                trace.access.detail.clone_from(&refused.detail);
            }
            if !matches!(cause, Cause::Cut) {
                let farewell = join(
                    down.say(code, reason, None),
                    up.say(code, reason, Some(random_mask()?)),
                );
                drop(tokio::time::timeout(GRACE, farewell).await);
                let leave = join(
                    leave(&mut up.from, &mut down.to),
                    leave(&mut down.from, &mut up.to),
                );
                tokio::select! {
                    () = ends.cut.cancelled() => {}
                    _ = tokio::time::timeout(GOODBYE, leave) => {}
                }
            }
        }
        drop(lease);
        Ok(())
    }
}

async fn cause(attendance: &mut Attendance, shared: &Shared, ends: &Ends) -> Cause {
    let settings = attendance.app().websocket.clone();
    let old = async {
        match settings.max_age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = ends.cut.cancelled() => Cause::Cut,
        () = ends.stop.cancelled() => Cause::Stopping,
        refused = attendance.refused(&shared.used) => Cause::Session(refused),
        () = shared.silent_for(settings.idle) => Cause::Idle,
        () = old => Cause::MaxAge,
    }
}

/// Both directions, until both have ended, or one and the other has nothing more to say.
async fn both<A, B, C, D>(up: &mut Lane<A, B>, down: &mut Lane<C, D>, shared: &Shared)
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    let up = std::pin::pin!(up.carry(shared));
    let down = std::pin::pin!(down.carry(shared));
    match select(up, down).await {
        Either::Left(((), other)) => drop(tokio::time::timeout(LINGER, other).await),
        Either::Right(((), other)) => drop(tokio::time::timeout(LINGER, other).await),
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Lane<R, W> {
    fn new(from: R, to: W, of_client: bool) -> Self {
        Self {
            from,
            to,
            frames: Frames::new(),
            bytes: 0,
            torn: false,
            of_client,
        }
    }

    /// Until the sender ends, either side breaks, or, once the socket is closing, a frame does.
    async fn carry(&mut self, shared: &Shared) {
        loop {
            let read = tokio::select! {
                biased;
                () = shared.closing.cancelled(), if self.frames.at_boundary() => return,
                read = arrived(&mut self.from) => read,
            };
            let Ok(bytes) = read else {
                self.torn = true;
                drop(self.to.shutdown().await);
                return;
            };
            if bytes.is_empty() {
                // The rest of the other direction may still come.
                drop(self.to.shutdown().await);
                self.torn = true;
                return;
            }
            if self.pass(&bytes, shared).await.is_err() {
                return;
            }
        }
    }

    async fn pass(&mut self, bytes: &[u8], shared: &Shared) -> std::io::Result<()> {
        self.torn = true;
        let whole = if shared.closing.is_cancelled() {
            self.frames.step(bytes)
        } else {
            self.frames.pass(bytes).map(|()| bytes.len())
        };
        let length = whole.map_err(std::io::Error::other)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        self.to.write_all(bytes).await?;
        self.to.flush().await?;
        self.torn = false;
        self.bytes += length as u64;
        shared.note();
        // Answers to a ping come from a forgotten window, too.
        if self.of_client && self.frames.take_data() {
            shared.used.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A close frame of ours, where one may stand.
    async fn say(&mut self, code: u16, reason: &str, mask: Option<[u8; 4]>) {
        if self.torn || self.frames.is_closed() || !self.frames.at_boundary() {
            return;
        }
        let frame = frames::close(code, reason, mask);
        // A side that is gone needs no goodbye.
        if self.to.write_all(&frame).await.is_ok() {
            drop(self.to.flush().await);
        }
    }
}

/// What has arrived; empty at the end. The memory is only held while something is on its way.
async fn arrived(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    std::future::poll_fn(|cx| {
        let mut room = [const { std::mem::MaybeUninit::uninit() }; PIECE];
        let mut buffer = tokio::io::ReadBuf::uninit(&mut room);
        std::task::ready!(std::pin::Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
        std::task::Poll::Ready(Ok(buffer.filled().to_vec()))
    })
    .await
}

/// Ends our side, and hears the other out: closing on unread bytes would take our last word back.
async fn leave(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    drop(to.shutdown().await);
    let mut rest = [0; 1024];
    while from.read(&mut rest).await.is_ok_and(|length| length > 0) {}
}

/// RFC 6455 5.3: unpredictable.
fn random_mask() -> std::io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    aws_lc_rs::rand::fill(&mut mask).map_err(std::io::Error::other)?;
    Ok(mask)
}

const PIECE: usize = 16 * 1024;
/// From our answer to the moment it has been written.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// To finish the frame under way.
const GRACE: Duration = Duration::from_secs(1);
/// For the other side's goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long one direction may outlive the other.
const LINGER: Duration = Duration::from_secs(5);
