//! Between `sso` and `forward`: tokens are made when a server has been chosen, and judged by its answer.
//!
//! `forward` knows no Kerberos and `sso` no connections; this is the one place where a refused ticket is
//! forgotten and a backend's own proof is checked.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body::Body as _;

use crate::authn::SessionKey as AuthnSession;
use crate::forward::Answer;
use crate::forward::Credential;
use crate::forward::Exchange;
use crate::forward::Forwarder;
use crate::forward::OnInterim;
use crate::forward::error::Error;
use crate::forward::pool::Partition;
use crate::forward::pool::SessionKey;
use crate::kerberos::NegotiateToken;
use crate::model::application::Application;
use crate::model::body;
use crate::model::body::Body;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::route::named::Named;
use crate::route::target::Target;
use crate::sso;
use crate::sso::BackendCredential;
use crate::sso::Negotiate;

/// What is sent on, apart from the request itself.
#[derive(Clone, Copy)]
pub(super) struct Outbound<'a> {
    pub(super) app: &'a Application,
    pub(super) target: &'a Target,
    pub(super) named: Option<&'a Named>,
    pub(super) client: &'a str,
    /// `None` for a request that needs no person.
    pub(super) session: Option<AuthnSession>,
    pub(super) interim: Option<&'a OnInterim>,
}

/// A token that went out.
struct Issued {
    token: NegotiateToken,
    backend: usize,
    /// Its ticket was held already, not fetched for this request.
    was_held: bool,
}

/// Sends `request` with `credential` and returns the answer.
pub(super) async fn send<'a>(
    forwarder: &Forwarder,
    request: Request<Body>,
    outbound: Outbound<'a>,
    credential: &'a BackendCredential,
) -> Result<Response<Body>, Stop> {
    let Some(negotiate) = credential.negotiate() else {
        let answer = forwarder
            .send(outbound.exchange(credential), None, request)
            .await?;
        return Ok(answer.response);
    };
    // Boxed: a request without tickets need not carry the room for them.
    Box::pin(send_as(forwarder, request, outbound, credential, negotiate)).await
}

async fn send_as<'a>(
    forwarder: &Forwarder,
    request: Request<Body>,
    outbound: Outbound<'a>,
    credential: &'a BackendCredential,
    negotiate: &Negotiate,
) -> Result<Response<Body>, Stop> {
    // SECURITY: a ticket on a connection that belongs to nobody would sign the next visitor in.
    if outbound.session.is_none() {
        let detail = "a ticket for a request without a session";
        return Err(Stop::fail(Code::Internal, Side::Gateway, detail));
    }
    // Only a request without a body can be sent a second time.
    let again = request.body().is_end_stream().then(|| copy_head(&request));
    let sending = negotiated(forwarder, request, outbound, credential, negotiate);
    let (sent, issued) = sending.await;
    let refused = matches!(&sent, Err(Error::TicketRefused { .. }));
    if !refused {
        return conclude(sent?, issued, negotiate).await;
    }
    let was_held = issued.as_ref().is_some_and(|issued| issued.was_held);
    forget(negotiate, issued.as_ref()).await;
    let Some(again) = again.filter(|_| was_held) else {
        return Err(told(sent, negotiate));
    };
    // The held ticket was for a key that the backend no longer has. One fresh ticket, one more try.
    let sending = negotiated(forwarder, again, outbound, credential, negotiate);
    let (sent, issued) = sending.await;
    if matches!(&sent, Err(Error::TicketRefused { .. })) {
        forget(negotiate, issued.as_ref()).await;
        return Err(told(sent, negotiate));
    }
    conclude(sent?, issued, negotiate).await
}

type Making<'a> = BoxFuture<'a, Result<HeaderValue, Stop>>;

async fn negotiated<'a>(
    forwarder: &Forwarder,
    request: Request<Body>,
    outbound: Outbound<'a>,
    credential: &'a BackendCredential,
    negotiate: &Negotiate,
) -> (Result<Answer, Error>, Option<Issued>) {
    let issued = Mutex::new(None);
    let sent = {
        let make = |backend: usize, binding: Option<Arc<[u8]>>| -> Making<'_> {
            let issued = &issued;
            Box::pin(async move {
                let token = negotiate.token(backend, binding.as_deref()).await?;
                let value = HeaderValue::from_maybe_shared(Bytes::from(token.authorization()));
                let was_held = token.timings().s4u2proxy.is_none();
                *issued.lock().unwrap_or_else(PoisonError::into_inner) = Some(Issued {
                    token,
                    backend,
                    was_held,
                });
                value.map_err(|error| {
                    let detail = format!("a token is no header value: {error}");
                    Stop::fail(Code::Internal, Side::Gateway, detail)
                })
            })
        };
        let make: &Credential<'_> = &make;
        forwarder
            .send(outbound.exchange(credential), Some(make), request)
            .await
    };
    (
        sent,
        issued.into_inner().unwrap_or_else(PoisonError::into_inner),
    )
}

async fn forget(negotiate: &Negotiate, issued: Option<&Issued>) {
    if let Some(issued) = issued {
        negotiate.forget(issued.backend).await;
    }
}

/// The error with the names that only this room knows.
fn told(sent: Result<Answer, Error>, negotiate: &Negotiate) -> Stop {
    let Err(error) = sent else {
        return Stop::fail(Code::Internal, Side::Gateway, "no error to tell");
    };
    match Stop::from(error) {
        Stop::Fail(mut fault) => {
            fault.detail = format!("{} (as {})", fault.detail, negotiate.principal());
            Stop::Fail(fault)
        }
        other @ (Stop::Reply(_) | Stop::Deny(_) | Stop::Later { .. } | Stop::Wait { .. }) => other,
    }
}

/// Judges the answer to a request that may have carried a token.
async fn conclude(
    answer: Answer,
    issued: Option<Issued>,
    negotiate: &Negotiate,
) -> Result<Response<Body>, Stop> {
    let Some(issued) = issued else {
        return Ok(answer.response);
    };
    if answer.response.status() == StatusCode::UNAUTHORIZED {
        // A 401 in any other form: the browser could do nothing with it either.
        negotiate.forget(issued.backend).await;
        let spn = negotiate.spn(issued.backend)?;
        let principal = negotiate.principal();
        let detail = format!("the backend answered 401 to the ticket of {principal} for {spn}");
        return Err(Stop::fail(Code::TicketRefused, Side::Backend, detail));
    }
    if negotiate.settings().mutual
        && let Some(value) = &answer.backend_token
    {
        let mut parts = value.as_bytes().splitn(2, |byte| *byte == b' ');
        let token = parts.nth(1).map(<[u8]>::trim_ascii);
        let token = token.and_then(|token| STANDARD.decode(token).ok());
        // What is no token proves nothing.
        let token = token.unwrap_or_default();
        issued
            .token
            .verify_mutual(&token)
            .await
            .map_err(|error| sso::fault(&error))?;
    }
    Ok(answer.response)
}

impl<'a> Outbound<'a> {
    fn exchange(&self, credential: &'a BackendCredential) -> Exchange<'a> {
        let partition = match credential.negotiate().zip(self.session) {
            Some((negotiate, session)) => Partition::Session(SessionKey {
                session: *session.as_bytes(),
                principal: Arc::from(negotiate.principal().as_str()),
            }),
            None => Partition::Anonymous,
        };
        Exchange {
            application: self.app,
            target: self.target,
            named: self.named,
            client: self.client,
            partition,
            session: self.session.map(|session| *session.as_bytes()),
            identity: credential.headers(),
            interim: self.interim,
        }
    }
}

/// The same request without its body.
fn copy_head(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}
