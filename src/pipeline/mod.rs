//! The corridor: one function, one line a room.
//!
//! In: a parsed, bounded request. Out: a response, always, and one access line. A walk that ends early
//! becomes a page or JSON in one place, with its reason code. Whatever ends it, nothing after it runs:
//! a refused request never reaches a backend.

pub mod admission;
mod exchange;
mod form;
mod grpc;
mod stay;
mod trace;
mod tunnel;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Extensions;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper::body::Incoming;

use crate::authn::Authn;
use crate::authn::Ended;
use crate::authn::OwnPath;
use crate::authn::SessionKey;
use crate::authn::Stay;
use crate::authn::cookie;
use crate::authn::fetch::Asks;
use crate::authz::Authz;
use crate::forward::Forwarder;
use crate::forward::OnInterim;
use crate::listener::Peer;
use crate::listener::body::IdleBody;
use crate::listener::body::LimitedBody;
use crate::listener::body::TimedBody;
use crate::listener::buckets::Key;
use crate::listener::tls::Certificates;
use crate::mapping::Mapping;
use crate::model::application::Application;
use crate::model::application::backend_http::BackendHttp;
use crate::model::application::cors;
use crate::model::application::cors::Cors;
use crate::model::application::cors::Preflight;
use crate::model::application::maintenance::Maintenance;
use crate::model::body;
use crate::model::body::Body;
use crate::model::clock::Clock;
use crate::model::in_place;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::pages::Language;
use crate::pages::Pages;
use crate::pages::Refusal;
use crate::pipeline::admission::Admission;
use crate::pipeline::exchange::Outbound;
use crate::pipeline::stay::Attendance;
use crate::pipeline::trace::Trace;
use crate::rewrite;
use crate::rewrite::table::Links;
use crate::route;
use crate::route::Entrance;
use crate::route::Matched;
use crate::route::OWN_PREFIX;
use crate::route::Routes;
use crate::route::named;
use crate::route::named::Named;
use crate::route::named::Place;
use crate::route::target::BadTarget;
use crate::route::target::Target;
use crate::sso::BackendCredential;
use crate::sso::Sso;
use crate::sync::cutoff::Watch;

/// All rooms, in the order a request walks through them.
pub struct Pipeline {
    /// Which client it is, and whether it may come in.
    pub admission: Admission,
    /// Whether its connection is one for the host it asks for.
    pub certificates: Arc<Certificates>,
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
    /// Whom Graph tells of changes, if it is to.
    pub cutoff: Option<Arc<Watch>>,
    /// 7
    pub links: Arc<Links>,
    /// What a visitor reads when a walk ends early.
    pub pages: Pages,
    /// For the pages' time of day.
    pub clock: Clock,
}

impl Pipeline {
    /// Answers `request`.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        // Boxed: it goes on into the answer's body, and is large.
        let mut trace = in_place::boxed(|| Trace::begin(&request));
        let language = Language::from_accept(request.headers());
        let asks = Asks::of(request.method(), request.headers());
        let head_only = request.method() == Method::HEAD;
        let connects = request.method() == Method::CONNECT;
        let calls = grpc::is_call(&request);
        let (mut head, content) = request.into_parts();
        let mut response = match self.walk(&mut head, content, &mut trace).await {
            Ok(response) => response,
            Err(stop) => {
                let response = self.stopped(stop, &mut trace, asks, language);
                match calls {
                    true => grpc::refusal(response, &trace),
                    false => response,
                }
            }
        };
        if trace.app.as_ref().is_some_and(|app| app.cors.is_some()) {
            mark_for_other_sites(response.headers_mut(), &trace);
        }
        response
            .headers_mut()
            .insert(header::STRICT_TRANSPORT_SECURITY, rewrite::HSTS);
        let id = trace.request_id();
        response.headers_mut().insert(REQUEST_ID, id);
        if head_only {
            // RFC 9110 9.3.2: no content after HEAD. hyper leaves it out in HTTP/1 only; in HTTP/2 our pages
            // would break the stream.
            *response.body_mut() = body::empty();
        }
        if let Some(tunnel) = trace.tunnel.take() {
            return tunnel.open(*trace, response);
        }
        if connects && response.status().is_success() {
            // RFC 8441 5: that would say that the socket is open.
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
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
        head: &mut Parts,
        content: Incoming,
        trace: &mut Trace,
    ) -> Result<Response<Body>, Stop> {
        trace.comes_from(self.admission.client(head)?);
        trace.hold(self.admission.gateway(trace.client)?);
        let named = trace.named();
        let named = named.map_err(|bad| Stop::deny(Code::HostMismatch, bad.to_string()))?;
        let target = match Target::parse(&head.uri) {
            Err(BadTarget::Disguised(b'/')) => self.routes.with_slashes(&named.host, &head.uri)?,
            read => read.map_err(|bad| Stop::deny(Code::TargetRefused, bad.to_string()))?,
        };
        let found = self.routes.find(&named.host, &target)?;
        if let Some(sni) = trace.handshake_named(&named.host)
            && !self.certificates.serve_together(sni, &named.host)
        {
            // RFC 9110 15.5.20: a connection for one host, reused for another (RFC 9113 9.1.1).
            let detail = format!(
                "the connection is for {sni}, whose certificate is not for {}",
                named.host
            );
            return Err(Stop::deny(Code::HostMismatch, detail));
        }
        let app = match found {
            Matched::Application(app) => app,
            Matched::Own(path) => {
                let host = host(&named.host)?;
                return Box::pin(self.own(&path, head, content, &host, trace)).await;
            }
            Matched::AddSlash(prefix) => return Ok(add_slash(&prefix, &target)),
        };
        trace.app = Some(Arc::clone(&app));
        trace.hold(self.admission.application(&app, trace.client)?);
        let connects = tunnel::as_handshake(head)?;
        let place = Place {
            routes: &self.routes,
            application: &app,
            host: &named,
        };
        let also = Named::take(&mut head.headers, &place)?;
        let empty = content.is_end_stream();
        let entrance = route::entrance(&app, head, &target, also.as_deref(), empty);
        if let Some(closed) = &app.maintenance {
            still_open(closed, &entrance, &target, also.as_deref())?;
        }
        if let Some(cors) = &app.cors
            && let Some(answer) = other_sites(cors, head, trace)?
        {
            return Ok(answer);
        }
        let (credential, came) = match entrance {
            Entrance::SignedIn => match self.signed_in(head, &app, &target, trace).await {
                Err(stop) if is_form_in_vain(&stop, head) => {
                    let keeping = form::keep(self, stop, head, content, (&app, &target));
                    return Box::pin(keeping).await;
                }
                other => other.map(|(credential, came)| (credential, Some(came)))?,
            },
            Entrance::Anonymous(nobody) => (BackendCredential::of_nobody(&nobody), None),
        };
        self.send(
            head,
            content,
            Asked {
                app,
                target,
                also,
                connects,
            },
            (credential, came),
            trace,
        )
        .await
    }

    /// The rooms that find out who it is and what the backend shall know of it.
    async fn signed_in(
        &self,
        head: &Parts,
        app: &Arc<Application>,
        target: &Target,
        trace: &mut Trace,
    ) -> Result<(BackendCredential, Came), Stop> {
        trace.enter("authn");
        let user = self.authn.identify(head, app, target.as_str()).await?;
        let person = user.claims().person;
        trace.access.person = user.label();
        for inside in self.admission.person(app, || Key::Person(person))? {
            trace.hold(inside);
        }
        let came = Came {
            person,
            session: user.session_key(),
            stay: Stay::of(user.clone()),
        };

        trace.enter("authz");
        let user = self.authz.admit(user, app).await?;
        self.authz.excepted(&user, app)?;

        trace.enter("mapping");
        let user = self.mapping.resolve(user, app).await?;
        if let Some(account) = user.account() {
            trace.access.principal = account.principal.to_string();
        }

        trace.enter("sso");
        Ok((self.sso.credential(&user, app)?, came))
    }

    /// The rooms that carry the request to the backend and its answer back.
    async fn send(
        &self,
        head: &mut Parts,
        content: Incoming,
        asked: Asked,
        (credential, came): (BackendCredential, Option<Came>),
        trace: &mut Trace,
    ) -> Result<Response<Body>, Stop> {
        let Asked {
            app,
            target,
            also,
            connects,
        } = asked;
        trace.enter("forward");
        head.headers.insert(X_REQUEST_ID, trace.request_id());
        trace.tell_place(&mut head.headers);
        if app.links.any() {
            rewrite::body::ask(&mut head.headers);
        }
        let offer = tunnel::offer(head, &content, &app, connects)?;
        let form = match &came {
            Some(Came { person, .. }) => {
                let authn = &self.authn;
                authn.resume(head, &app, *person, target.as_str()).await?
            }
            None => None,
        };
        let (request, kept) = match form {
            Some(form) => form::resumed(taken(head), form),
            None => {
                let content = bounded(content, &app, min_rate(head, &app))?;
                (Request::from_parts(taken(head), content), None)
            }
        };
        // One host of a wildcard: its own links alone are known.
        let links = match app.pattern {
            None => Arc::clone(&self.links),
            Some(_) => Arc::new(Links::new([&*app])),
        };
        let interim = passed_on(request.extensions(), &app, &links);
        let outbound = Outbound {
            app: &app,
            target: &target,
            named: also.as_deref(),
            client: &trace.access.client,
            session: came.as_ref().map(|came| came.session),
            interim: interim.as_ref(),
        };
        // Boxed: it is awaited in one of two ways, and a future that is moved is copied.
        let exchange = || exchange::send(&self.forwarder, request, outbound, &credential);
        let sending = in_place::pinned(exchange);
        let sent = match app.limits.total {
            None => sending.await,
            Some(total) => timed(sending, trace.began + total, total).await,
        };
        let resumed = kept.is_some();
        let mut response = match kept {
            Some(kept) => form::sent(&self.authn, kept, sent).await?,
            None => sent?,
        };

        trace.enter("rewrite");
        rewrite::response(response.headers_mut(), &app, &links);
        if app.links.any() {
            let application = Arc::clone(&app);
            let guide = rewrite::body::Guide { application, links };
            response = rewrite::body::translate(response, &guide);
        }
        if resumed {
            let gone = cookie::FORM_GONE;
            response.headers_mut().append(header::SET_COOKIE, gone);
        }
        let attendance = |came: Option<Came>| {
            let stay = came.map(|came| came.stay);
            Attendance::new(self, &app, stay)
        };
        let response = match offer {
            None if came.is_none() => response,
            None => stay::attended(response, || attendance(came)),
            Some(offer) => {
                let (response, tunnel) = offer.answered(response, attendance(came))?;
                trace.tunnel = tunnel;
                response
            }
        };
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
        if let Some(watch) = self.cutoff.as_ref().filter(|one| one.hears(path, host)) {
            let content = whole(content, NOTICES_BODY).await?;
            return watch.notified(head, &content).await;
        }
        let Some(own) = OwnPath::parse(path) else {
            return Err(Stop::deny(Code::PathUnknown, format!("{OWN_PREFIX}{path}")));
        };
        let content = whole(content, OWN_BODY).await?;
        self.authn.own_path(own, head, content, host).await
    }

    /// The page, or the JSON, for `code`.
    fn refusal(&self, code: Code, trace: &Trace, asks: Asks, language: Language) -> Response<Body> {
        let sign_in_again = trace
            .app
            .as_ref()
            .map(|app| app.prefix.as_str())
            .unwrap_or("/");
        let closed = trace
            .app
            .as_ref()
            .filter(|_| code == Code::Maintenance)
            .and_then(|app| app.maintenance.as_ref());
        let refusal = Refusal {
            code,
            request_id: &trace.access.request_id,
            application: trace.app.as_ref().map(|app| app.name.as_str()),
            time: self.clock.unix(),
            sign_in_again: Some(sign_in_again),
            sign_out: Some(OwnPath::SignOut.as_str()),
            message: closed.and_then(|closed| closed.message.as_deref()),
            retry_after: closed.map(|closed| closed.retry_after(self.clock.unix())),
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

    /// A walk that ended early becomes a response, in this one place.
    fn stopped(
        &self,
        stop: Stop,
        trace: &mut Trace,
        asks: Asks,
        language: Language,
    ) -> Response<Body> {
        let mut again = None;
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
            // What is refused by the thousand is in the access log; the audit is for who may do what.
            Stop::Later { denial, after } => {
                again = Some(after);
                (denial.code, String::new(), denial.detail)
            }
            Stop::Deny(denial) => {
                tracing::info!(
                    target: "audit",
                    event = "denial",
                    request_id = trace.access.request_id,
                    client = &*trace.access.client,
                    person = &*trace.access.person,
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
        let mut response = self.refusal(code, trace, asks, language);
        if let Some(after) = again {
            // RFC 9110 10.2.3: whole seconds; rounded up, or the client would come too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let value = HeaderValue::from(seconds.max(1));
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// Who came, as far as `forward` has to know.
struct Came {
    person: PersonId,
    session: SessionKey,
    stay: Stay,
}

/// What is asked for.
struct Asked {
    app: Arc<Application>,
    target: Target,
    /// What it names besides.
    also: Option<Box<Named>>,
    /// As a WebSocket, by an extended CONNECT.
    connects: bool,
}

/// A form that came too late for its session.
fn is_form_in_vain(stop: &Stop, head: &Parts) -> bool {
    matches!(stop, Stop::Deny(denial) if denial.code == Code::SessionExpired)
        && Asks::of(&head.method, &head.headers) == Asks::Form
}

/// The one host that a request is for.
fn host(named: &str) -> Result<HostName, Stop> {
    named
        .parse()
        .map_err(|_| Stop::deny(Code::HostUnknown, format!("host {named:?}")))
}

/// Lets on what a closed application still answers: its open paths, and people who may be excepted.
fn still_open(
    closed: &Maintenance,
    entrance: &Entrance,
    target: &Target,
    also: Option<&Named>,
) -> Result<(), Stop> {
    let open = match entrance {
        Entrance::SignedIn => !closed.except.is_empty(),
        Entrance::Anonymous(_) => named::all_in(&closed.open, target, also),
    };
    if open {
        Ok(())
    } else {
        Err(Stop::deny(Code::Maintenance, "the application is closed"))
    }
}

/// Answers a preflight, and remembers whose script waits for the answer to anything else.
fn other_sites(
    cors: &Cors,
    head: &Parts,
    trace: &mut Trace,
) -> Result<Option<Response<Body>>, Stop> {
    if cors.preflight != Preflight::Answer {
        return Ok(None);
    }
    let origin = cors.listed(&head.headers);
    trace.other_site = origin.cloned();
    if !cors::is_preflight(&head.method, &head.headers) {
        return Ok(None);
    }
    if origin.is_none() {
        let detail = "a preflight from an origin that [cors] does not list";
        return Err(Stop::deny(Code::ForeignOrigin, detail));
    }
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    cors.answer_preflight(answer.headers_mut());
    trace.enter("");
    Ok(Some(answer))
}

/// What another site's script may read, its browser decides by these headers.
fn mark_for_other_sites(headers: &mut HeaderMap, trace: &Trace) {
    let cors = trace.app.as_ref().and_then(|app| app.cors.as_ref());
    let Some(cors) = cors.filter(|cors| cors.preflight == Preflight::Answer) else {
        return;
    };
    // The gateway has the word here: two of them would be read as none.
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if let Some(origin) = &trace.other_site {
        cors.mark(origin, headers);
    }
}

/// What a backend says before its answer, said to the client with the links that it can use.
fn passed_on(
    extensions: &Extensions,
    app: &Arc<Application>,
    links: &Arc<Links>,
) -> Option<OnInterim> {
    let line = extensions.get::<Peer>()?.interim.clone()?;
    let (app, links) = (Arc::clone(app), Arc::clone(links));
    Some(Arc::new(move |status, headers| {
        let mut headers = headers.clone();
        rewrite::response(&mut headers, &app, &links);
        line.send(status, &headers);
    }))
}

/// The head, for the one who sends it on. The walk only borrows it: each future in between would have room for its own.
fn taken(head: &mut Parts) -> Parts {
    std::mem::replace(head, Request::new(()).into_parts().0)
}

/// The request's body within the application's limits.
fn bounded(content: Incoming, app: &Application, min_rate: u64) -> Result<Body, Stop> {
    if HttpBody::is_end_stream(&content) {
        return Ok(body::empty());
    }
    let limits = &app.limits;
    let paced = IdleBody::new(content, limits.idle).at_least(min_rate);
    let limited = LimitedBody::new(paced, limits.max_body)
        .map_err(|cut| Stop::deny(Code::BodyTooLarge, cut.to_string()))?;
    Ok(limited.boxed_unsync())
}

/// A call may go on as a conversation: a slow side is no attack there, and holds no more than a stream.
fn min_rate(head: &Parts, app: &Application) -> u64 {
    let talks = app.backend_http != BackendHttp::Http1 && grpc::is_call_head(head);
    if talks { 0 } else { app.limits.min_rate }
}

/// An exchange that has to be over at `end`, its answer's last byte included.
async fn timed(
    sending: impl Future<Output = Result<Response<Body>, Stop>>,
    end: Instant,
    total: Duration,
) -> Result<Response<Body>, Stop> {
    let response = tokio::time::timeout_at(end.into(), sending)
        .await
        .map_err(|_| {
            let detail = format!("no answer within the application's total of {total:?}");
            Stop::fail(Code::TotalTimeout, Side::Backend, detail)
        })??;
    Ok(response.map(|content| TimedBody::new(content, end.into(), total).boxed_unsync()))
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

/// What was sent to one of our own paths.
async fn whole(content: Incoming, most: usize) -> Result<Bytes, Stop> {
    let content = tokio::time::timeout(OWN_BODY_TIME, Limited::new(content, most).collect())
        .await
        .map_err(|_| Stop::deny(Code::RequestTimeout, "the form did not arrive"))?
        .map_err(|error| Stop::deny(Code::BodyTooLarge, error.to_string()))?;
    Ok(content.to_bytes())
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

/// The id of the log line, on every response.
const REQUEST_ID: HeaderName = HeaderName::from_static("kerbgate-request-id");
/// The reason code, on every refusal.
const REASON: HeaderName = HeaderName::from_static("kerbgate-reason");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Our own forms are small.
const OWN_BODY: usize = 64 * 1024;
/// Graph puts many notices into one.
const NOTICES_BODY: usize = 1024 * 1024;
const OWN_BODY_TIME: Duration = Duration::from_secs(10);
