//! The request goes to the backend, and its answer comes back, both streamed.
//!
//! In: the scrubbed request, the application and the [`BackendCredential`]. Out: the backend's response.
//! HTTP/1.1 over connections that are never shared between people where Negotiate is involved (`pool`).
//! A request is sent again only when it surely was not sent: the connection could not be made, or it was
//! dead before the first byte went out.

pub mod connect;
pub mod headers;
pub mod passage;
pub mod pool;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header;
use http_body_util::BodyExt as _;
use hyper::body::Incoming as HyperBody;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;

use crate::forward::connect::TrustError;
use crate::forward::headers::Managed;
use crate::forward::passage::Activity;
use crate::forward::passage::Incoming;
use crate::forward::passage::Lease;
use crate::forward::passage::Outgoing;
use crate::forward::pool::Key;
use crate::forward::pool::Partition;
use crate::forward::pool::Pool;
use crate::kerberos::NegotiateToken;
use crate::listener::body::BodyCut;
use crate::listener::body::IdleBody;
use crate::model::application::Application;
use crate::model::application::SendToken;
use crate::model::body;
use crate::model::body::Body;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::route::target::Target;
use crate::sso;
use crate::sso::BackendCredential;
use crate::sso::Negotiate;

/// What is forwarded, apart from the credential.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// The application.
    pub app: &'a Application,
    /// The normalised target: what was authorised is what is sent.
    pub target: &'a Target,
    /// The true client address.
    pub client: IpAddr,
    /// The session, which keeps connections of different people apart.
    pub session: &'a str,
}

/// When each application's servers could last not be reached.
#[derive(Debug, Default)]
struct Ejected(Mutex<HashMap<(String, usize), Instant>>);

/// The room.
#[derive(Clone, Debug)]
pub struct Forwarder {
    pool: Pool,
    managed: Arc<Managed>,
    tls: Arc<HashMap<String, Arc<ClientConfig>>>,
    ejected: Arc<Ejected>,
    spread: RandomState,
}

impl Forwarder {
    /// Ready for `applications`.
    ///
    /// # Errors
    /// An application's CA file holds no certificates.
    pub fn new(applications: &[Arc<Application>]) -> Result<Self, TrustError> {
        let mut tls = HashMap::new();
        for app in applications {
            if app
                .backends
                .iter()
                .any(|backend| backend.url.scheme() == "https")
            {
                tls.insert(app.id.to_string(), connect::tls(app.backend_ca.as_deref())?);
            }
        }
        let forwarder = Self {
            pool: Pool::default(),
            managed: Arc::new(Managed::new(applications.iter().map(AsRef::as_ref))),
            tls: Arc::new(tls),
            ejected: Arc::default(),
            spread: RandomState::new(),
        };
        tokio::spawn(sweep(
            forwarder.pool.clone(),
            Arc::downgrade(&forwarder.managed),
        ));
        Ok(forwarder)
    }

    /// Closes all waiting connections of `session`.
    pub fn evict(&self, session: &str) {
        self.pool.evict(session);
    }

    /// How many backend connections wait for their next request.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    /// Removes from `headers` what must not reach a backend: the first step for every request.
    ///
    /// # Errors
    /// `bad-request` when the request tries to have a managed header dropped.
    pub fn scrub(&self, headers: &mut HeaderMap) -> Result<(), Stop> {
        headers::scrub_cookies(headers);
        headers::scrub(headers, &self.managed)
    }

    /// Sends `request`, whose headers were scrubbed, and returns the backend's answer.
    ///
    /// # Errors
    /// The backend is unreachable, silent or unsound, or refused the ticket.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        outbound: &Outbound<'_>,
        credential: &BackendCredential,
    ) -> Result<Response<Body>, Stop> {
        let empty = http_body::Body::is_end_stream(request.body());
        request.headers_mut().extend(credential.headers());
        let Some(negotiate) = credential.negotiate() else {
            let (response, _) = self.exchange(request, outbound, None, None).await?;
            return Ok(response);
        };
        // A body can be sent once only, so a request with one carries its token from the start.
        let challenge_first = negotiate.settings().send == SendToken::OnChallenge && empty;
        let again = empty.then(|| copy_head(&request));
        let first = (!challenge_first).then_some(negotiate);
        let (response, sent) = self
            .exchange(request, outbound, Some(negotiate), first)
            .await?;
        let (response, sent) = match (challenged(&response), again) {
            (true, Some(again)) if challenge_first => {
                self.exchange(again, outbound, Some(negotiate), Some(negotiate))
                    .await?
            }
            (true, Some(again)) if sent.as_ref().is_some_and(|sent| sent.was_held) => {
                // The ticket was an old one: the backend's key may be newer. One fresh ticket, one try.
                forget(negotiate, sent.as_ref()).await;
                self.exchange(again, outbound, Some(negotiate), Some(negotiate))
                    .await?
            }
            _ => (response, sent),
        };
        conclude(response, sent, negotiate).await
    }

    /// One request, one answer, at the first backend that can be reached.
    async fn exchange(
        &self,
        request: Request<Body>,
        outbound: &Outbound<'_>,
        partition: Option<&Negotiate>,
        token: Option<&Negotiate>,
    ) -> Result<(Response<Body>, Option<Sent>), Stop> {
        let mut request = request;
        let mut last = None;
        for backend in self.candidates(outbound) {
            let sent = match token {
                Some(negotiate) => Some(Sent::attach(&mut request, negotiate, backend).await?),
                None => None,
            };
            let key = Key {
                partition: partition.map_or(Partition::Shared, |negotiate| Partition::Session {
                    session: outbound.session.to_owned(),
                    principal: negotiate.principal().clone(),
                }),
                app: outbound.app.id.clone(),
                backend,
            };
            match self.attempt(request, outbound, key).await {
                Ok(response) => return Ok((response, sent)),
                Err(Failed::Sent(stop)) => return Err(stop),
                Err(Failed::Unsent(unsent, stop)) => {
                    self.eject(outbound.app, backend);
                    request = *unsent;
                    last = Some(stop);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Stop::fail(
                Code::BackendUnreachable,
                Side::Backend,
                "the application has no backend",
            )
        }))
    }

    async fn attempt(
        &self,
        request: Request<Body>,
        outbound: &Outbound<'_>,
        key: Key,
    ) -> Result<Response<Body>, Failed> {
        let app = outbound.app;
        let Some(backend) = app.backends.get(key.backend) else {
            let stop = Stop::fail(Code::Internal, Side::Gateway, "no such backend");
            return Err(Failed::Sent(stop));
        };
        let authority = connect::authority(backend);
        let mut request = address(request, outbound, &authority, backend.url.path())?;
        let activity = Activity::new();
        let (head, content) = request.into_parts();
        let content = Outgoing {
            body: content,
            activity: activity.clone(),
        };
        request = Request::from_parts(head, content.boxed_unsync());
        // A waiting connection may have died unnoticed; the request then comes back and takes the next.
        loop {
            let waiting = self.pool.take(&key);
            let fresh = waiting.is_none();
            let mut sender = match waiting {
                Some(sender) => sender,
                None => match self.connect(app, key.backend).await {
                    Ok(sender) => sender,
                    Err(stop) => return Err(Failed::Unsent(Box::new(request), stop)),
                },
            };
            let limit = app.limits.first_byte;
            let answer = tokio::select! {
                answer = sender.try_send_request(request) => answer,
                () = silent(&activity, limit) => {
                    let detail = format!("{authority} did not answer within {} s", limit.as_secs());
                    return Err(Failed::Sent(Stop::fail(Code::BackendTimeout, Side::Backend, detail)));
                }
            };
            let mut failed = match answer {
                Ok(response) => return Ok(self.receive(response, app, key, sender)),
                Err(failed) => failed,
            };
            let stop = exchange_fault(failed.error(), &authority);
            match failed.take_message() {
                Some(unsent) if !fresh => request = unsent,
                Some(unsent) => return Err(Failed::Unsent(Box::new(unsent), stop)),
                None => return Err(Failed::Sent(stop)),
            }
        }
    }

    async fn connect(&self, app: &Application, backend: usize) -> Result<SendRequest<Body>, Stop> {
        let internal = || {
            Stop::fail(
                Code::Internal,
                Side::Gateway,
                "no TLS settings for a backend",
            )
        };
        let server = app.backends.get(backend).ok_or_else(internal)?;
        let plain = || connect::tls(None).map_err(|_| internal());
        let tls = match self.tls.get(app.id.as_str()) {
            Some(tls) => Arc::clone(tls),
            None => plain()?,
        };
        connect::connect(server, &tls, app.limits.connect)
            .await
            .map_err(|error| {
                let code = match &error {
                    connect::Error::Tls { .. } => Code::BackendTls,
                    connect::Error::Timeout { .. } => Code::BackendTimeout,
                    connect::Error::Name { .. }
                    | connect::Error::Tcp { .. }
                    | connect::Error::Http { .. } => Code::BackendUnreachable,
                };
                Stop::fail(code, Side::Backend, error.to_string())
            })
    }

    fn receive(
        &self,
        response: Response<HyperBody>,
        app: &Application,
        key: Key,
        sender: SendRequest<Body>,
    ) -> Response<Body> {
        // SECURITY: a server that asks for Negotiate or NTLM may tie a person to the connection; such a
        // connection never serves everybody.
        let tied = key.partition == Partition::Shared && challenged(&response);
        let lease = (!tied).then(|| Lease {
            pool: self.pool.clone(),
            key,
            sender,
        });
        let (head, content) = response.into_parts();
        if http_body::Body::is_end_stream(&content) {
            if let Some(lease) = lease {
                lease.give_back();
            }
            return Response::from_parts(head, body::empty());
        }
        let content = Incoming {
            body: IdleBody::new(content, app.limits.idle),
            lease,
        };
        Response::from_parts(head, content.boxed_unsync())
    }

    /// The application's servers in the order to be tried: a session stays with one; those that could
    /// not be reached a moment ago come last.
    fn candidates(&self, outbound: &Outbound<'_>) -> Vec<usize> {
        let count = outbound.app.backends.len();
        let hash = usize::try_from(self.spread.hash_one(outbound.session) >> 1).unwrap_or(0);
        let mut order: Vec<usize> = (0..count)
            .map(|at| (hash.wrapping_add(at)) % count.max(1))
            .collect();
        let ejected = self
            .ejected
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let app = outbound.app.id.as_str();
        order.sort_by_key(|backend| {
            let since = ejected.get(&(app.to_owned(), *backend));
            since.is_some_and(|since| since.elapsed() < EJECTED_FOR)
        });
        order
    }

    fn eject(&self, app: &Application, backend: usize) {
        let mut ejected = self
            .ejected
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ejected.insert((app.id.to_string(), backend), Instant::now());
    }
}

/// How an attempt ended without an answer.
enum Failed {
    /// The request surely did not reach the backend.
    Unsent(Box<Request<Body>>, Stop),
    /// It may have.
    Sent(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Sent(stop)
    }
}

/// A token on its way, to be checked against the backend's answer.
struct Sent {
    token: NegotiateToken,
    backend: usize,
    /// The ticket was held already, not fetched for this request.
    was_held: bool,
}

impl Sent {
    async fn attach(
        request: &mut Request<Body>,
        negotiate: &Negotiate,
        backend: usize,
    ) -> Result<Self, Stop> {
        let token = negotiate.token(backend).await?;
        let value = HeaderValue::from_str(&format!("Negotiate {}", token.base64()));
        let mut value = value.map_err(|error| {
            Stop::fail(
                Code::Internal,
                Side::Gateway,
                format!("a token is no header value: {error}"),
            )
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let was_held = token.timings().s4u2proxy.is_none();
        Ok(Self {
            token,
            backend,
            was_held,
        })
    }
}

async fn forget(negotiate: &Negotiate, sent: Option<&Sent>) {
    if let Some(sent) = sent {
        negotiate.forget(sent.backend).await;
    }
}

/// Judges the answer to a request that carried a token.
async fn conclude(
    response: Response<Body>,
    sent: Option<Sent>,
    negotiate: &Negotiate,
) -> Result<Response<Body>, Stop> {
    let Some(sent) = sent else {
        return Ok(response);
    };
    let spn = negotiate.spn(sent.backend)?.clone();
    if response.status() == StatusCode::UNAUTHORIZED {
        negotiate.forget(sent.backend).await;
        let principal = negotiate.principal();
        let detail = format!("the backend answered 401 to the ticket of {principal} for {spn}");
        return Err(Stop::fail(Code::TicketRefused, Side::Backend, detail));
    }
    if let (true, Some(answer)) = (negotiate.settings().mutual, answer_token(&response)) {
        sent.token
            .verify_mutual(&answer)
            .await
            .map_err(|error| sso::fault(&error))?;
    }
    Ok(response)
}

/// True when a backend asks for connection-wide authentication (RFC 4559 4.1, and NTLM likewise).
fn challenged<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .any(|value| {
                let scheme = value
                    .as_bytes()
                    .split(|b| *b == b' ')
                    .next()
                    .unwrap_or_default();
                [&b"negotiate"[..], b"ntlm", b"kerberos"]
                    .iter()
                    .any(|s| scheme.eq_ignore_ascii_case(s))
            })
}

/// The token of the backend's `WWW-Authenticate: Negotiate …` (RFC 4559 4.2).
fn answer_token<B>(response: &Response<B>) -> Option<Vec<u8>> {
    response
        .headers()
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .find_map(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("negotiate")
                .then(|| STANDARD.decode(token.trim()).ok())?
        })
}

/// The same request without its body, to be sent once more.
fn copy_head(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Aims `request` at a backend: target in origin form, `Host`, who is asking.
fn address(
    mut request: Request<Body>,
    outbound: &Outbound<'_>,
    authority: &str,
    base: &str,
) -> Result<Request<Body>, Stop> {
    let app = outbound.app;
    let rest = outbound.target.under(&app.prefix).unwrap_or_default();
    let mut target = format!("{}{rest}", base.trim_end_matches('/'));
    if let Some(query) = outbound.target.query() {
        target.push('?');
        target.push_str(query);
    }
    *request.uri_mut() = Uri::try_from(target).map_err(|error| {
        Stop::deny(
            Code::TargetRefused,
            format!("the target cannot be sent on: {error}"),
        )
    })?;
    *request.version_mut() = http::Version::HTTP_11;
    headers::announce(request.headers_mut(), app, outbound.client, authority);
    Ok(request)
}

/// Ends when the request's body has not moved, and no answer begun, for `limit`.
async fn silent(activity: &Activity, limit: Duration) {
    loop {
        let left = limit.saturating_sub(activity.silence());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

fn exchange_fault(error: &hyper::Error, authority: &str) -> Stop {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut chain = Vec::new();
    while let Some(this) = cause {
        chain.push(this.to_string());
        cause = this.source();
    }
    let detail = format!("{authority}: {}", chain.join(": "));
    match BodyCut::of(error) {
        Some(BodyCut::TooLarge(_)) => Stop::deny(Code::BodyTooLarge, detail),
        Some(BodyCut::Silent(_)) => Stop::deny(Code::RequestTimeout, detail),
        None if error.is_parse() || error.is_parse_status() => {
            Stop::fail(Code::BackendProtocol, Side::Backend, detail)
        }
        None if error.is_user() || error.is_body_write_aborted() => {
            Stop::deny(Code::BadRequest, detail)
        }
        None => Stop::fail(Code::BackendUnreachable, Side::Backend, detail),
    }
}

/// Ends with the last [`Forwarder`].
async fn sweep(pool: Pool, alive: std::sync::Weak<Managed>) {
    while alive.strong_count() > 0 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        pool.sweep();
    }
}

const EJECTED_FOR: Duration = Duration::from_secs(5);
