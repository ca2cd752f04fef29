//! Checks at the backend itself: does it answer, does it ask for Negotiate, does it take a ticket. Over the
//! same forwarder as every visitor's request.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use crate::assembly;
use crate::forward::Answer;
use crate::forward::Credential;
use crate::forward::Exchange;
use crate::forward::Forwarder;
use crate::forward::error::Error;
use crate::forward::negotiate;
use crate::forward::pool::Limits;
use crate::forward::pool::Partition;
use crate::forward::pool::SessionKey;
use crate::kerberos;
use crate::kerberos::Delegator;
use crate::kerberos::NegotiateToken;
use crate::kerberos::Timings;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::application::Wrap;
use crate::model::body;
use crate::model::names::Principal;
use crate::model::names::Spn;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::target::Target;

use super::check;
use super::check::mend;
use super::report::Finding;
use super::world::World;

/// Whom the backend says it sees; not every one does.
const SEEN: HeaderName = HeaderName::from_static("x-remote-user");

pub(super) fn forwarder(world: &World) -> Result<Forwarder, String> {
    let trust = assembly::backend_trust(&world.config).map_err(|error| error.to_string())?;
    Forwarder::new(trust, Limits::default()).map_err(|error| error.to_string())
}

/// The application with one of its backends alone, and with limits of a check.
pub(super) fn alone(app: &Application, index: usize) -> Option<Application> {
    const CONNECT: Duration = Duration::from_secs(5);
    const FIRST_BYTE: Duration = Duration::from_secs(10);
    let mut app = app.clone();
    app.backends = vec![app.backends.get(index)?.clone()];
    if let Sso::Kerberos(kerberos) = &mut app.sso {
        kerberos.spns = vec![kerberos.spns.get(index)?.clone()];
    }
    app.limits.connect = app.limits.connect.min(CONNECT);
    app.limits.first_byte = app.limits.first_byte.min(FIRST_BYTE);
    Some(app)
}

pub(super) fn subject(app: &Application) -> String {
    let url = app.backends.first().map(|backend| backend.url.to_string());
    format!("{}: {}", app.id, url.unwrap_or_default())
}

fn exchange<'a>(app: &'a Application, target: &'a Target, partition: Partition) -> Exchange<'a> {
    Exchange {
        application: app,
        target,
        named: None,
        client: "127.0.0.1",
        partition,
        session: None,
        identity: &[],
        interim: None,
    }
}

/// The published root page, asked for with headers that say who comes.
pub(super) async fn with_headers(
    forwarder: &Forwarder,
    app: &Application,
    identity: &HeaderMap,
) -> Result<Arrival, Refusal> {
    let identity = identity
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<Vec<_>>();
    let sent = match root(app) {
        Ok(target) => {
            let mut exchange = exchange(app, &target, Partition::Anonymous);
            exchange.identity = &identity;
            forwarder
                .send(exchange, None, Request::new(body::empty()))
                .await
        }
        Err(error) => Err(error),
    };
    let answer = sent.map_err(|error| unreached(app, &error))?;
    Ok(Arrival {
        status: answer.response.status(),
        seen: seen(&answer),
        mutual: false,
    })
}

fn seen(answer: &Answer) -> Option<String> {
    let value = answer.response.headers().get(SEEN)?.to_str().ok()?;
    Some(value.chars().take(100).collect())
}

fn root(app: &Application) -> Result<Target, Error> {
    let misconfigured = || Error::Misconfigured(app.id.to_string());
    let uri = app.prefix.parse().map_err(|_| misconfigured())?;
    Target::parse(&uri).map_err(|_| misconfigured())
}

/// The published root page, asked for by nobody.
async fn anonymous(forwarder: &Forwarder, app: &Application) -> Result<Answer, Error> {
    let target = root(app)?;
    let exchange = exchange(app, &target, Partition::Anonymous);
    forwarder
        .send(exchange, None, Request::new(body::empty()))
        .await
}

/// Reachable, and asking for Negotiate.
pub(super) async fn examine(forwarder: &Forwarder, app: &Application) -> Vec<Finding> {
    let subject = subject(app);
    let kerberos = matches!(app.sso, Sso::Kerberos(_));
    let answer = match anonymous(forwarder, app).await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = reach_fix(app, &error);
            let broken = check::BACKEND.fault(
                &subject,
                error.to_string(),
                mend("the backend cannot be used", fix),
            );
            let next = check::NEGOTIATE.skipped(&subject, "the backend does not answer (check 26)");
            return if kerberos {
                vec![broken, next]
            } else {
                vec![broken]
            };
        }
    };
    let status = answer.response.status();
    let reached = check::BACKEND.ok(
        &subject,
        format!(
            "answers {} to an anonymous GET {}",
            status.as_u16(),
            app.prefix
        ),
    );
    if !kerberos {
        return vec![reached];
    }
    let offers: Vec<String> = answer
        .response
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .chars()
                .take(60)
                .collect()
        })
        .collect();
    vec![
        reached,
        offer(
            &subject,
            status,
            &offers,
            negotiate::is_asked(&answer.response),
        ),
    ]
}

fn offer(subject: &str, status: StatusCode, offers: &[String], asked: bool) -> Finding {
    let negotiate = offers
        .iter()
        .any(|offer| offer.to_ascii_lowercase().contains("negotiate"));
    let proof = format!(
        "{} WWW-Authenticate: {}",
        status.as_u16(),
        offers.join(", ")
    );
    let iis = "appcmd set config /section:windowsAuthentication /enabled:true\nappcmd set config /section:windowsAuthentication /+providers.[value='Negotiate']";
    if asked && negotiate {
        return check::NEGOTIATE.ok(subject, proof);
    }
    if asked {
        let cause = "the backend offers NTLM only; a Kerberos ticket is of no use there";
        return check::NEGOTIATE.fault(subject, proof, mend(cause, iis));
    }
    if status == StatusCode::UNAUTHORIZED {
        let cause = "the backend wants another kind of sign-in than Windows authentication";
        return check::NEGOTIATE.fault(subject, proof, mend(cause, iis));
    }
    let cause =
        "the backend lets anonymous visitors in (here, at least): it may never look at the ticket";
    let fix = "appcmd set config /section:anonymousAuthentication /enabled:false\nwith token sent on challenge only, such pages are shown without a name";
    check::NEGOTIATE.warning(
        subject,
        format!("answered {} without asking who comes", status.as_u16()),
        mend(cause, fix),
    )
}

fn reach_fix(app: &Application, error: &Error) -> String {
    let url = app
        .backends
        .first()
        .map(|backend| backend.url.to_string())
        .unwrap_or_default();
    match error {
        Error::NoneLeft { last, .. } => reach_fix(app, last),
        Error::Tls { .. } => format!(
            "curl -v {url}\na private authority goes into backends.ca_file; the name in backend_urls must be in the certificate"
        ),
        Error::Unreachable { .. }
        | Error::ConnectTimeout { .. }
        | Error::FirstByte { .. }
        | Error::Closed { .. } => {
            format!(
                "curl -v {url}        (from this machine: DNS, firewall, is the service running)"
            )
        }
        Error::Protocol { .. }
        | Error::Switched(_)
        | Error::Handshake { .. }
        | Error::TicketRefused { .. }
        | Error::Credential(_)
        | Error::Body(_)
        | Error::ClientGone
        | Error::Header(_)
        | Error::Upgrade(_)
        | Error::Method(_)
        | Error::QueueFull { .. }
        | Error::QueueLate { .. }
        | Error::Misconfigured(_) => format!("curl -v {url}"),
    }
}

/// A request in somebody's name, arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) status: StatusCode,
    /// Whom the backend says it saw.
    pub(super) seen: Option<String>,
    /// Whether the backend proved who it is.
    pub(super) mutual: bool,
}

/// One that did not arrive: the reason code, what was seen, cause and fix.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) proof: String,
    pub(super) cause: String,
    pub(super) fix: String,
}

/// A token for `app`'s first backend in `principal`'s name.
pub(super) async fn token(
    delegator: &Delegator,
    app: &Application,
    principal: &Principal,
) -> Result<NegotiateToken, kerberos::Error> {
    let (spn, wrap) = spn(app).ok_or_else(|| kerberos::Error::Setup {
        what: app.id.to_string(),
        reason: String::from("has no SPN"),
    })?;
    let token = delegator.negotiate(principal, spn, wrap, None).await?;
    tracing::info!(target: "audit", event = "delegation", via = "doctor", principal = %principal, spn = %spn);
    Ok(token)
}

fn spn(app: &Application) -> Option<(&Spn, kerberos::Wrap)> {
    let Sso::Kerberos(kerberos) = &app.sso else {
        return None;
    };
    let wrap = match kerberos.wrap {
        Wrap::Spnego => kerberos::Wrap::Spnego,
        Wrap::Raw => kerberos::Wrap::Raw,
    };
    Some((kerberos.spns.first()?, wrap))
}

pub(super) fn kerberos_refusal(world: &World, error: &kerberos::Error) -> Refusal {
    let diagnosis = kerberos::diagnose_as(error, Some(&world.gateway()));
    Refusal {
        code: diagnosis.code.to_owned(),
        proof: error.to_string(),
        cause: format!("{}; {}", diagnosis.cause, diagnosis.check),
        fix: diagnosis.fix,
    }
}

/// Sends the request with a token that was made before.
pub(super) async fn arrive(
    world: &World,
    forwarder: &Forwarder,
    app: &Application,
    token: NegotiateToken,
) -> Result<Arrival, Refusal> {
    let principal = token.source().clone();
    let partition = Partition::Session(SessionKey {
        session: [0; 32],
        principal: Arc::from(principal.as_str()),
    });
    let value = format!("Negotiate {}", token.base64());
    let make = |_: usize, _: Option<Arc<[u8]>>| -> BoxFuture<'_, Result<HeaderValue, Stop>> {
        let value = HeaderValue::from_str(&value);
        Box::pin(
            async move { value.map_err(|error| Stop::deny(Code::Internal, error.to_string())) },
        )
    };
    let make: &Credential<'_> = &make;
    let sent = match root(app) {
        Ok(target) => {
            let exchange = exchange(app, &target, partition);
            forwarder
                .send(exchange, Some(make), Request::new(body::empty()))
                .await
        }
        Err(error) => Err(error),
    };
    let answer = sent.map_err(|error| refusal(world, app, &principal, &error))?;
    if answer.response.status() == StatusCode::UNAUTHORIZED {
        let proof = "the backend answered 401 without asking for Negotiate";
        return Err(backend_refusal(world, app, &principal, proof.to_owned()));
    }
    let status = answer.response.status();
    let seen = seen(&answer);
    let mutual = match answer
        .backend_token
        .as_ref()
        .and_then(|value| value.to_str().ok())
    {
        Some(text) => {
            let bytes = text
                .split_once(' ')
                .and_then(|(_, token)| STANDARD.decode(token.trim()).ok());
            let proved = token.verify_mutual(&bytes.unwrap_or_default()).await;
            proved.map_err(|error| kerberos_refusal(world, &error))?;
            true
        }
        None => false,
    };
    Ok(Arrival {
        status,
        seen,
        mutual,
    })
}

fn refusal(world: &World, app: &Application, principal: &Principal, error: &Error) -> Refusal {
    if matches!(error, Error::TicketRefused { .. }) {
        let proof = String::from("the backend answered 401 Negotiate to a fresh ticket");
        return backend_refusal(world, app, principal, proof);
    }
    unreached(app, error)
}

fn unreached(app: &Application, error: &Error) -> Refusal {
    let code = match error {
        Error::NoneLeft { last, .. } => {
            let proof = error.to_string();
            let last = unreached(app, last);
            return Refusal { proof, ..last };
        }
        Error::QueueFull { .. } => Code::BackendQueueFull,
        Error::QueueLate { .. } => Code::BackendQueueTimeout,
        Error::FirstByte { .. } => Code::BackendTimeout,
        Error::Tls { .. } => Code::BackendTls,
        Error::Protocol { .. } | Error::Switched(_) | Error::Handshake { .. } => {
            Code::BackendProtocol
        }
        Error::Unreachable { .. }
        | Error::ConnectTimeout { .. }
        | Error::Closed { .. }
        | Error::TicketRefused { .. }
        | Error::Credential(_)
        | Error::Body(_)
        | Error::ClientGone
        | Error::Header(_)
        | Error::Upgrade(_)
        | Error::Method(_)
        | Error::Misconfigured(_) => Code::BackendUnreachable,
    };
    Refusal {
        code: code.to_string(),
        proof: error.to_string(),
        cause: String::from(code.check()),
        fix: reach_fix(app, error),
    }
}

fn backend_refusal(
    world: &World,
    app: &Application,
    principal: &Principal,
    proof: String,
) -> Refusal {
    let spn = spn(app).map(|(spn, _)| spn.as_str());
    let gateway = world.gateway();
    let names = kerberos::Names {
        client: Some(principal.as_str()),
        spn,
        gateway: Some(&gateway),
    };
    let filled = kerberos::by_code("backend-refused-ticket").map(|row| row.fill(&names));
    let (cause, fix) = filled.map_or_else(Default::default, |row| {
        (format!("{}; {}", row.cause, row.check), row.fix)
    });
    let keytab = "a backend with a keytab of its own (Apache, nginx, Java): is the keytab as new as the account's password?";
    Refusal {
        code: Code::TicketRefused.to_string(),
        proof,
        cause: format!("{cause}; {keytab}"),
        fix: format!(
            "{fix}\nkvno -k <the backend's keytab> {}",
            spn.unwrap_or("<spn>")
        ),
    }
}

/// The check: a whole walk for one account.
pub(super) async fn accepted(
    world: &World,
    forwarder: &Forwarder,
    delegator: &Delegator,
    app: &Application,
    principal: &Principal,
) -> Finding {
    let subject = subject(app);
    let as_whom = principal.name();
    let token = match token(delegator, app, principal).await {
        Ok(token) => token,
        Err(error) => return fault(&subject, as_whom, kerberos_refusal(world, &error)),
    };
    let timings = steps(token.timings());
    match arrive(world, forwarder, app, token).await {
        Ok(arrival) => {
            let seen = arrival
                .seen
                .map_or_else(String::new, |seen| format!(", saw {seen}"));
            let mutual = if arrival.mutual {
                ", proved who it is"
            } else {
                ""
            };
            let proof = format!(
                "as {as_whom}: {}{seen}{mutual}; {timings}",
                arrival.status.as_u16()
            );
            check::TOKEN.ok(subject, proof)
        }
        Err(refusal) => fault(&subject, as_whom, refusal),
    }
}

fn fault(subject: &str, as_whom: &str, refusal: Refusal) -> Finding {
    let cause = format!("{} [{}]", refusal.cause, refusal.code);
    check::TOKEN.fault(
        subject,
        format!("as {as_whom}: {}", refusal.proof),
        mend(cause, refusal.fix),
    )
}

fn steps(timings: Timings) -> String {
    let millis = |span: Duration| format!("{:.1} ms", span.as_secs_f64() * 1000.0);
    let known = [
        ("S4U2Self", timings.s4u2self),
        ("S4U2Proxy", timings.s4u2proxy),
        ("token", Some(timings.token)),
    ];
    let told = known
        .into_iter()
        .filter_map(|(name, span)| Some(format!("{name} {}", millis(span?))));
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    #[test]
    fn what_a_backend_offers_is_judged() {
        for (status, value, asked, state) in [
            (401, "Negotiate", true, State::Ok),
            (401, "NTLM", true, State::Fault),
            (401, "Basic realm=\"x\"", false, State::Fault),
            (200, "", false, State::Warning),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                offer("a", status, &[value.to_owned()], asked).state,
                state,
                "{value}"
            );
        }
    }
}
