//! A request on its way: what a backend is to read of it, and one attempt to get an answer to it.
//!
//! In: the head that came, scrubbed here whatever was done before, and who says what in its name. Out: the request
//! for one server, sent once, and what became of it. Whether there is a second attempt is
//! [`Forwarder`](super::Forwarder)'s business. Specifications: RFC 9110 7 and 9.1, RFC 9112 6.

use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use url::Position;

use crate::forward::Answer;
use crate::forward::Exchange;
use crate::forward::OnInterim;
use crate::forward::balance::Server;
use crate::forward::body::Download;
use crate::forward::body::Progress;
use crate::forward::body::Upload;
use crate::forward::body::Watch;
use crate::forward::connect;
use crate::forward::error::Error;
use crate::forward::headers;
use crate::forward::headers::Origin;
use crate::forward::http2;
use crate::forward::http2::Kept;
use crate::forward::named;
use crate::forward::negotiate;
use crate::forward::pool::Connection;
use crate::forward::pool::Lease;
use crate::forward::resend::Spare;
use crate::forward::upgrade::Wish;
use crate::listener::body::IdleBody;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::application::backend_http::BackendHttp;
use crate::route::named::Named;
use crate::route::target::Target;

/// How many headers the gateway adds to a request, apart from those that say who came.
const OURS: usize = 10;

/// A request on its way, before it is known which server gets it.
pub(super) struct Draft<'a> {
    method: Method,
    /// What is left of the client's. Ours join them in each attempt: they are new, and new values are dear to copy.
    headers: HeaderMap,
    pub(super) application: &'a Application,
    target: &'a Target,
    named: Option<&'a Named>,
    /// The client's address.
    client: &'a str,
    /// Headers that say who came.
    says_who: &'a [(HeaderName, HeaderValue)],
    /// The client takes trailers in the answer.
    takes_trailers: bool,
    /// Trailers of its body that are passed on.
    pub(super) trailers: Vec<HeaderName>,
    /// Names of identity headers, where trailers come undeclared.
    pub(super) identity: Vec<HeaderName>,
    /// It asks for a WebSocket.
    pub(super) wish: Option<Wish>,
    interim: Option<&'a OnInterim>,
}

/// A request that a connection has.
struct Begun<F> {
    sending: F,
    /// It may be sent once more.
    spare: Option<Spare>,
    /// Where its body comes back to.
    kept: Option<Kept>,
}

/// What a connection has to say about a request.
type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// What became of a request that was sent.
pub(super) enum Asked {
    /// The answer has begun.
    Answered(Response<Incoming>),
    /// Nothing was done with it, or nothing that could not be done twice: its body, and what went wrong.
    Again(Upload, Error),
}

impl Asked {
    pub(super) const fn answer(&self) -> Option<&Response<Incoming>> {
        match self {
            Self::Answered(response) => Some(response),
            Self::Again(..) => None,
        }
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(exchange: &Exchange<'a>, head: http::request::Parts) -> Result<Self, Error> {
        let application = exchange.application;
        if is_refused(&head.method) {
            return Err(Error::Method(head.method));
        }
        let wish = head.extensions.get::<Wish>().cloned();
        if wish.is_none()
            && let Some(protocol) = headers::wanted_upgrade(&head.headers)
        {
            return Err(Error::Upgrade(protocol));
        }
        let mut headers = head.headers;
        // A name that has no value for this person must not come from the client either.
        let configured = match &application.sso {
            Sso::Headers(sso) => sso.headers.as_slice(),
            Sso::Kerberos(_) | Sso::None => &[],
        };
        let set = exchange.identity.iter().map(|(name, _)| name);
        let identity: Vec<_> = configured.iter().map(|(name, _)| name).chain(set).collect();
        let trailers = headers::declared_trailers(&headers, &identity);
        let takes_trailers = headers::takes_trailers(&headers);
        headers::scrub(&mut headers, &identity)?;
        let undeclared = match application.backend_http {
            BackendHttp::Http1 => Vec::new(),
            BackendHttp::Http2 | BackendHttp::Auto => identity.into_iter().cloned().collect(),
        };
        Ok(Self {
            method: head.method,
            headers,
            application,
            target: exchange.target,
            named: exchange.named,
            client: exchange.client,
            says_who: exchange.identity,
            takes_trailers,
            identity: undeclared,
            trailers,
            wish,
            interim: exchange.interim,
        })
    }

    fn request(
        &self,
        server: &Server,
        token: Option<HeaderValue>,
        body: Upload,
    ) -> Result<Request<Upload>, Error> {
        let misconfigured = || Error::Misconfigured(self.application.id.to_string());
        let rest = self
            .target
            .under(&self.application.prefix)
            .ok_or_else(misconfigured)?;
        let uri: Uri = backend_target(&server.base, rest, self.target.query())
            .parse()
            .map_err(|_| misconfigured())?;
        let mut headers = self.headers.clone();
        headers.reserve(OURS + self.says_who.len());
        self.introduce(server, &mut headers)?;
        if let Some(named) = self.named {
            let prefix = &self.application.prefix;
            named::write(named, prefix, server, &mut headers).ok_or_else(misconfigured)?;
        }
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token);
        }
        if let Some(wish) = &self.wish {
            wish.write(&mut headers);
        }
        // RFC 9110 8.6: IIS answers 411 to a POST without a length.
        let wants_length = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        if wants_length && body.is_end_stream() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        if let Some(told) = self.interim {
            let told = Arc::clone(told);
            hyper::ext::on_informational(&mut request, move |interim| {
                told(interim.status(), interim.headers());
            });
        }
        Ok(request)
    }

    /// Says who came, from where, and to which host.
    fn introduce(&self, server: &Server, headers: &mut HeaderMap) -> Result<(), Error> {
        let application = self.application;
        if let Some(declared) = headers::trailer_header(&self.trailers) {
            headers.insert(header::TRAILER, declared);
        }
        if self.takes_trailers && self.wish.is_none() {
            // RFC 9110 10.1.4: TE speaks of one connection, and has to be listed.
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
        let host = published_authority(application);
        let origin = Origin {
            client: self.client,
            host,
            prefix: &application.prefix,
        };
        headers::set_origin(headers, origin)?;
        let host = match application.keep_host {
            true => HeaderValue::from_str(host)
                .map_err(|_| Error::Misconfigured(application.id.to_string()))?,
            false => server.authority.clone(),
        };
        headers.insert(header::HOST, host);
        for (name, value) in self.says_who {
            headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    /// A new connection to `server`, for this request.
    pub(super) async fn connected(&self, server: &Server) -> Result<Connection, Error> {
        let within = self.application.limits.connect;
        match self.wish {
            // RFC 6455: a WebSocket begins as HTTP/1.1, whatever else the server speaks.
            Some(_) => Box::pin(connect::http1(server, within)).await,
            None => connect::connect(server, within).await,
        }
    }

    /// Sends the request on `lease`, once.
    pub(super) async fn once(
        &self,
        server: &Server,
        lease: &mut Lease,
        token: Option<HeaderValue>,
        body: Upload,
    ) -> Result<Asked, Error> {
        let watch = body.watch();
        // Made and handed over before anything is waited for: no future has to hold it.
        let Begun {
            sending,
            spare,
            kept,
        } = self.begin(server, lease, token, body)?;
        let mut sending = pin!(sending);
        let answered = self.answered(server, &watch, sending.as_mut()).await;
        let failed = match answered.inspect_err(|_| lease.retire())? {
            Ok(response) => return Ok(Asked::Answered(response)),
            Err(failed) => failed,
        };
        // Boxed, as what is rare.
        Box::pin(failed_once(server, lease, &watch, failed, (spare, kept))).await
    }

    /// Gives the request to the connection.
    fn begin(
        &self,
        server: &Server,
        lease: &mut Lease,
        token: Option<HeaderValue>,
        body: Upload,
    ) -> Result<Begun<impl Future<Output = Sent> + use<>>, Error> {
        let mut request = self.request(server, token, body)?;
        lease.with_token = request.headers().contains_key(header::AUTHORIZATION);
        if lease.with_token {
            lease.taint();
        }
        let spare = Spare::of(&request, lease);
        let kept = request.body_mut().take_kept();
        Ok(Begun {
            sending: lease.send(request),
            spare,
            kept,
        })
    }

    /// Waits for an answer to begin. As long as a body is being sent, its progress is what counts.
    async fn answered<T>(
        &self,
        server: &Server,
        watch: &Watch,
        mut sending: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Error> {
        let limits = &self.application.limits;
        let until = || match watch.progress() {
            Progress::Sending(moved) => moved + limits.first_byte.max(limits.idle),
            Progress::Sent(at) => at + limits.first_byte,
            // hyper is about to tell.
            Progress::Cut(_) | Progress::Gone => Instant::now() + Duration::from_secs(1),
        };
        loop {
            // Looked at again after `first_byte` at the latest: the end of a body may bring a deadline
            // that is earlier than the one being slept for.
            let deadline = until().min(Instant::now() + limits.first_byte);
            tokio::select! {
                biased;
                done = sending.as_mut() => return Ok(done),
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            if until() <= Instant::now() {
                return Err(Error::FirstByte {
                    backend: server.to_string(),
                    within: limits.first_byte,
                });
            }
        }
    }

    pub(super) fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        index: usize,
    ) -> Answer {
        let reused = lease.reused;
        let backend_token = negotiate::token(response.headers());
        let idle = self.application.limits.idle;
        let mut response =
            response.map(|body| IdleBody::new(Download::new(body, lease), idle).boxed_unsync());
        // RFC 9112 6.3: a length beside another framing says nothing about the body.
        let headless = self.method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
        if !headless && response.body().size_hint().exact().is_none() {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        Answer {
            response,
            index,
            backend_token,
            reused,
        }
    }
}

/// What can be done about a request without an answer.
async fn failed_once(
    server: &Server,
    lease: &Lease,
    watch: &Watch,
    mut failed: TrySendError<Request<Upload>>,
    (spare, kept): (Option<Spare>, Option<Kept>),
) -> Result<Asked, Error> {
    let unsent = failed.take_message();
    let error = failed.into_error();
    let again = match (unsent, spare) {
        (Some(request), _) => Some(request.into_body()),
        (None, Some(spare)) if spare.allows(lease, &error) => {
            Some(Upload::new(crate::model::body::empty()).0)
        }
        (None, Some(_) | None) => http2::unprocessed(&error, kept).await,
    };
    let error = lost(server, watch, error);
    match again {
        Some(body) => Ok(Asked::Again(body, error)),
        None => Err(error),
    }
}

fn lost(server: &Server, watch: &Watch, source: hyper::Error) -> Error {
    let backend = server.to_string();
    match watch.progress() {
        Progress::Cut(cut) => Error::Body(cut),
        Progress::Gone => Error::ClientGone,
        Progress::Sending(_) | Progress::Sent(_)
            if source.is_parse() || http2::is_nonsense(&source) =>
        {
            Error::Protocol { backend, source }
        }
        Progress::Sending(_) | Progress::Sent(_) => Error::Closed { backend, source },
    }
}

/// The published host, with its port where it is not the usual one.
pub(super) fn published_authority(application: &Application) -> &str {
    &application.published_url[Position::BeforeHost..Position::AfterPort]
}

/// What follows the prefix, byte for byte, behind the backend's own path.
pub(super) fn backend_target(base: &str, rest: &str, query: Option<&str>) -> String {
    let mut target = String::with_capacity(base.len() + rest.len() + 1);
    target.push_str(base);
    target.push_str(rest);
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// TRACE shows a request's credentials to whoever reads the answer, CONNECT leads past every room.
///
/// RFC 9110 9.1: methods differ by case, but not every server goes by that. TRACK is what IIS called TRACE.
fn is_refused(method: &Method) -> bool {
    let method = method.as_str();
    ["TRACE", "CONNECT", "TRACK"]
        .iter()
        .any(|refused| method.eq_ignore_ascii_case(refused))
}
