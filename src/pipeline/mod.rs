//! The corridor: one function, one line a room.
//!
//! In: a parsed, bounded request. Out: a response, always, and one access line. A walk that ends early
//! becomes a page or JSON in one place, with its reason code. Whatever ends it, nothing after it runs:
//! a refused request never reaches a backend.

mod exchange;
mod form;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper::body::Incoming;
use uuid::Uuid;

use crate::authn::Authn;
use crate::authn::Ended;
use crate::authn::OwnPath;
use crate::authn::cookie;
use crate::authn::fetch::Asks;
use crate::authz::Authz;
use crate::forward::Forwarder;
use crate::listener::Peer;
use crate::listener::authority::authority;
use crate::listener::body::IdleBody;
use crate::listener::body::LimitedBody;
use crate::mapping::Mapping;
use crate::model::application::Application;
use crate::model::body;
use crate::model::body::Body;
use crate::model::body::BodyError;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::pages::Language;
use crate::pages::Pages;
use crate::pages::Refusal;
use crate::pipeline::exchange::Outbound;
use crate::rewrite;
use crate::rewrite::table::Links;
use crate::route::Matched;
use crate::route::OWN_PREFIX;
use crate::route::Routes;
use crate::route::target::Target;
use crate::sso::Sso;
use crate::telemetry::Access;

/// All rooms, in the order a request walks through them.
pub struct Pipeline {
    /// 1
    pub routes: Routes,
    /// 2
    pub authn: Authn,
    /// 3
    pub authz: Authz,
    /// 4
    pub mapping: Mapping,
    /// 5
    pub sso: Sso,
    /// 6
    pub forwarder: Arc<Forwarder>,
    /// 7
    pub links: Links,
    /// What a visitor reads when a walk ends early.
    pub pages: Pages,
    /// For the pages' time of day.
    pub clock: Clock,
}

impl Pipeline {
    /// Answers `request`.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let mut trace = Trace::begin(&request);
        let language = Language::from_accept(request.headers());
        let asks = Asks::of(request.method(), request.headers());
        let head_only = request.method() == Method::HEAD;
        let mut response = match self.walk(request, &mut trace).await {
            Ok(response) => response,
            Err(stop) => self.stopped(stop, &mut trace, asks, language),
        };
        response
            .headers_mut()
            .insert(header::STRICT_TRANSPORT_SECURITY, rewrite::HSTS);
        if let Ok(id) = HeaderValue::from_str(&trace.access.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if head_only {
            // RFC 9110 9.3.2: no content after HEAD. hyper leaves it out in HTTP/1 only; in HTTP/2 our pages
            // would break the stream.
            *response.body_mut() = body::empty();
        }
        trace.finish(response)
    }

    /// A sign-in ended: nothing of it stays with a backend or in memory.
    pub async fn session_ended(&self, ended: &Ended) {
        for session in &ended.sessions {
            self.forwarder.evict(session.as_bytes());
        }
        if let Some(principal) = self.mapping.forget(ended.person) {
            self.sso.purge(&principal).await;
        }
    }

    /// It is not known whose sign-ins ended: nobody's connections, tickets and accounts are kept.
    pub fn forget_everybody(&self) {
        self.forwarder.evict_all();
        self.mapping.forget_all();
        self.sso.purge_all();
    }

    async fn walk(
        &self,
        request: Request<Incoming>,
        trace: &mut Trace,
    ) -> Result<Response<Body>, Stop> {
        let host = host(&request)?;
        let (mut head, content) = request.into_parts();
        let target = Target::parse(&head.uri)
            .map_err(|bad| Stop::deny(Code::TargetRefused, bad.to_string()))?;
        let app = match self.routes.find(&host, &target)? {
            Matched::Application(app) => app,
            Matched::Own(path) => return self.own(&path, &head, content, &host, trace).await,
            Matched::AddSlash(prefix) => return Ok(add_slash(&prefix, &target)),
        };
        trace.app = Some(Arc::clone(&app));

        trace.enter("authn");
        let user = match self.authn.identify(&head, &app, target.as_str()).await {
            Err(stop) if is_form_in_vain(&stop, &head) => {
                return form::keep(self, stop, &head, content, (&app, &target)).await;
            }
            other => other?,
        };
        trace.access.person = user.claims().person.to_string();
        let session = user.session_key();

        trace.enter("authz");
        let user = self.authz.admit(user, &app).await?;

        trace.enter("mapping");
        let user = self.mapping.resolve(user, &app).await?;
        if let Some(account) = user.account() {
            trace.access.principal = account.principal.to_string();
        }

        trace.enter("sso");
        let credential = self.sso.credential(&user, &app)?;

        trace.enter("forward");
        head.headers.insert(X_REQUEST_ID, trace.request_id());
        let person = user.claims().person;
        let form = self
            .authn
            .resume(&head, &app, person, target.as_str())
            .await?;
        let (request, kept) = match form {
            Some(form) => form::resumed(head, form),
            None => (Request::from_parts(head, bounded(content, &app)?), None),
        };
        let outbound = Outbound {
            app: &app,
            target: &target,
            client: trace.client,
            session,
        };
        let sent = exchange::send(&self.forwarder, request, outbound, &credential).await;
        let resumed = kept.is_some();
        let mut response = match kept {
            Some(kept) => form::sent(&self.authn, kept, sent).await?,
            None => sent?,
        };

        trace.enter("rewrite");
        rewrite::response(response.headers_mut(), &app, &self.links);
        if resumed {
            let gone = cookie::FORM_GONE;
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
        trace.enter("");
        Ok(response)
    }

    /// The gateway's own paths on every published host.
    async fn own(
        &self,
        path: &str,
        head: &Parts,
        content: Incoming,
        host: &HostName,
        trace: &mut Trace,
    ) -> Result<Response<Body>, Stop> {
        trace.enter("authn");
        if path == "jwks.json" {
            return Ok(key_set(&self.sso.key_set().to_string()));
        }
        let Some(own) = OwnPath::parse(path) else {
            return Err(Stop::deny(Code::PathUnknown, format!("{OWN_PREFIX}{path}")));
        };
        let content =
            tokio::time::timeout(OWN_BODY_TIME, Limited::new(content, OWN_BODY).collect())
                .await
                .map_err(|_| Stop::deny(Code::RequestTimeout, "the form did not arrive"))?
                .map_err(|error| Stop::deny(Code::BodyTooLarge, error.to_string()))?;
        self.authn
            .own_path(own, head, content.to_bytes(), host)
            .await
    }

    /// A walk that ended early becomes a response, in this one place.
    fn stopped(
        &self,
        stop: Stop,
        trace: &mut Trace,
        asks: Asks,
        language: Language,
    ) -> Response<Body> {
        let (code, side, detail) = match stop {
            Stop::Reply(response) => return *response,
            Stop::Wait { again_in } => {
                let name = trace.app.as_ref().map(|app| app.name.as_str());
                trace.access.why = "account-in-preparation";
                return if asks == Asks::Page {
                    self.pages.waiting(name, again_in, language)
                } else {
                    self.pages
                        .waiting_json(&trace.access.request_id, again_in, language)
                };
            }
            // A vanished client was refused nothing: no audit event.
            Stop::Deny(denial) if denial.code == Code::ClientGone => {
                (denial.code, String::new(), denial.detail)
            }
            Stop::Deny(denial) => {
                tracing::info!(
                    target: "audit",
                    event = "denial",
                    request_id = trace.access.request_id,
                    person = trace.access.person,
                    principal = trace.access.principal,
                    application = trace.application(),
                    why = denial.code.as_str(),
                    detail = denial.detail,
                );
                (denial.code, String::new(), denial.detail)
            }
            Stop::Fail(fault) => {
                let level_detail = &fault.detail;
                tracing::warn!(
                    request_id = trace.access.request_id,
                    why = fault.code.as_str(),
                    side = %fault.side,
                    check = fault.code.check(),
                    "{level_detail}"
                );
                (fault.code, fault.side.to_string(), fault.detail)
            }
        };
        trace.access.why = code.as_str();
        trace.access.side = side;
        trace.access.detail = detail;
        let again = trace
            .app
            .as_ref()
            .map(|app| app.prefix.as_str())
            .unwrap_or("/");
        let refusal = Refusal {
            code,
            request_id: &trace.access.request_id,
            application: trace.app.as_ref().map(|app| app.name.as_str()),
            time: self.clock.unix(),
            sign_in_again: Some(again),
        };
        let mut response = match (asks, code) {
            (Asks::Form, Code::SessionExpired | Code::FormNotKept) => {
                self.pages.form_not_sent(&refusal, language)
            }
            (Asks::Page | Asks::Form, _) => self.pages.refusal(&refusal, language),
            (Asks::Data, _) => self.pages.refusal_json(&refusal, language),
        };
        if let Ok(code) = HeaderValue::from_str(code.as_str()) {
            response.headers_mut().insert(REASON, code);
        }
        response
    }
}

/// A form that came too late for its session.
fn is_form_in_vain(stop: &Stop, head: &Parts) -> bool {
    matches!(stop, Stop::Deny(denial) if denial.code == Code::SessionExpired)
        && Asks::of(&head.method, &head.headers) == Asks::Form
}

/// The one host that a request is for.
fn host(request: &Request<Incoming>) -> Result<HostName, Stop> {
    let named =
        authority(request).map_err(|bad| Stop::deny(Code::HostMismatch, bad.to_string()))?;
    named
        .host
        .parse()
        .map_err(|_| Stop::deny(Code::HostUnknown, format!("host {:?}", named.host)))
}

/// The request's body within the application's limits.
fn bounded(content: Incoming, app: &Application) -> Result<Body, Stop> {
    if HttpBody::is_end_stream(&content) {
        return Ok(body::empty());
    }
    let limits = &app.limits;
    let limited = LimitedBody::new(IdleBody::new(content, limits.idle), limits.max_body)
        .map_err(|cut| Stop::deny(Code::BodyTooLarge, cut.to_string()))?;
    Ok(limited.boxed_unsync())
}

fn add_slash(prefix: &str, target: &Target) -> Response<Body> {
    match target.query() {
        Some(query) => redirect(&format!("{prefix}?{query}")),
        None => redirect(prefix),
    }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn key_set(keys: &str) -> Response<Body> {
    let mut response = Response::new(body::full(keys.to_owned()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/jwk-set+json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

/// What is known of a walk so far; becomes the access line whatever happens, a vanished client included.
struct Trace {
    access: Access,
    began: Instant,
    entered: Instant,
    app: Option<Arc<Application>>,
    client: IpAddr,
}

impl Trace {
    fn begin(request: &Request<Incoming>) -> Self {
        let peer = request
            .extensions()
            .get::<Peer>()
            .map(|peer| peer.address.ip());
        let client = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let now = Instant::now();
        Self {
            access: Access {
                request_id: Uuid::now_v7().simple().to_string(),
                client: client.to_string(),
                host: authority(request)
                    .map(|host| host.to_string())
                    .unwrap_or_default(),
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                protocol: format!("{:?}", request.version()),
                end: "route",
                ..Access::default()
            },
            began: now,
            entered: now,
            app: None,
            client,
        }
    }

    /// From here on the walk is in `room`; empty = it reached its end.
    fn enter(&mut self, room: &'static str) {
        self.leave();
        self.access.end = room;
    }

    fn leave(&mut self) {
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.entered);
        self.access.rooms.add(self.access.end, spent);
        self.entered = now;
    }

    fn application(&self) -> &str {
        self.app.as_ref().map_or("", |app| app.id.as_str())
    }

    fn request_id(&self) -> HeaderValue {
        HeaderValue::from_str(&self.access.request_id).unwrap_or(HeaderValue::from_static(""))
    }

    /// The line is written when the response's last byte is out.
    fn finish(mut self, response: Response<Body>) -> Response<Body> {
        self.leave();
        self.access.status = response.status().as_u16();
        self.access.head = self.began.elapsed();
        let (head, content) = response.into_parts();
        // The answer to HEAD is over with its head; nobody asks for its body.
        let ended = self.access.method == "HEAD";
        let content = Counted {
            content,
            trace: self,
            ended,
        };
        Response::from_parts(head, content.boxed_unsync())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.access.total = self.began.elapsed();
        self.access.application = self.application().to_owned();
        if self.access.status == 0 {
            self.access.why = CLIENT_GONE;
        }
        self.access.write();
    }
}

/// A response's body that counts itself for the access line.
struct Counted {
    content: Body,
    trace: Trace,
    ended: bool,
}

impl Drop for Counted {
    /// hyper drops a body of known length after its last byte without asking for its end.
    fn drop(&mut self) {
        if !self.ended && !self.content.is_end_stream() {
            self.trace.access.why = CLIENT_GONE;
            self.trace.access.side = Side::Client.to_string();
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.trace.access.bytes += u64::try_from(bytes).unwrap_or(0);
            }
            Some(Err(error)) => {
                self.ended = true;
                self.trace.access.why = "body-cut";
                self.trace.access.side = Side::Backend.to_string();
                self.trace.access.detail = error.to_string();
            }
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

const CLIENT_GONE: &str = Code::ClientGone.as_str();
/// The id of the log line, on every response.
const REQUEST_ID: HeaderName = HeaderName::from_static("kerbgate-request-id");
/// The reason code, on every refusal.
const REASON: HeaderName = HeaderName::from_static("kerbgate-reason");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Our own forms are small.
const OWN_BODY: usize = 64 * 1024;
const OWN_BODY_TIME: Duration = Duration::from_secs(10);
