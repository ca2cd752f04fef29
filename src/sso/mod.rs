//! How the backend learns who came.
//!
//! In: a [`MappedUser`] and the application. Out: the [`BackendCredential`] that `forward` will send: a
//! source of Negotiate tokens in the person's name, identity headers with a signed assertion, or nothing.
//! There is no fallback from one to another: what cannot be had ends the walk with its reason.

pub mod assertion;
pub mod headers;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::Value;
use serde_json::json;

use crate::authn::Via;
use crate::kerberos;
use crate::kerberos::Delegator;
use crate::kerberos::Kind;
use crate::kerberos::NegotiateToken;
use crate::mapping::MappedUser;
use crate::model::account::Account;
use crate::model::application::Application;
use crate::model::application::HeaderSso;
use crate::model::application::KerberosSso;
use crate::model::application::Sso as Method;
use crate::model::application::Wrap;
use crate::model::claims::Claims;
use crate::model::clock::Clock;
use crate::model::names::Principal;
use crate::model::names::Spn;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::route::Anonymous;
use crate::sso::assertion::Signer;
use crate::telemetry::metrics::metrics;

/// The header that carries the signed assertion.
pub const ASSERTION: HeaderName = HeaderName::from_static("kerbgate-jwt-assertion");

/// What the backend will see of the person. Made only here.
#[derive(Debug)]
pub struct BackendCredential(Form);

#[derive(Debug)]
enum Form {
    Nothing,
    Headers(Arc<Made>),
    Negotiate(Negotiate),
}

/// Identity headers, and what they were made of.
#[derive(Debug)]
struct Made {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Held so that [`MadeOf`] names nothing else as long as this lives.
    _of: (Arc<Claims>, Option<Arc<Account>>, Arc<Application>),
}

/// Where claims, account and application lie in memory.
///
/// SECURITY: an address names one value only as long as that value lives, so every entry of the cache
/// holds what its key names; values that are renewed are new values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MadeOf {
    claims: usize,
    account: usize,
    app: usize,
}

impl BackendCredential {
    /// What goes with a request that needs no person: nothing, whatever the application's sign-on is.
    #[must_use]
    pub const fn of_nobody(_: &Anonymous) -> Self {
        Self(Form::Nothing)
    }

    /// The identity headers; empty where there are none.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        match &self.0 {
            Form::Headers(made) => &made.headers,
            Form::Nothing | Form::Negotiate(_) => &[],
        }
    }

    /// The source of Negotiate tokens, where the application wants them.
    #[must_use]
    pub const fn negotiate(&self) -> Option<&Negotiate> {
        match &self.0 {
            Form::Negotiate(negotiate) => Some(negotiate),
            Form::Nothing | Form::Headers(_) => None,
        }
    }
}

/// A source of Negotiate tokens in one person's name for one application.
#[derive(Clone, Debug)]
pub struct Negotiate {
    delegator: Delegator,
    principal: Principal,
    settings: KerberosSso,
}

impl Negotiate {
    /// A token for the application's `backend`th server, bound to the connection of that `binding`
    /// (`tls-server-end-point:` and the hash) unless the application says no.
    ///
    /// # Errors
    /// The reason why the KDC gave none.
    pub async fn token(
        &self,
        backend: usize,
        binding: Option<&[u8]>,
    ) -> Result<NegotiateToken, Stop> {
        let spn = self.spn(backend)?;
        let wrap = match self.settings.wrap {
            Wrap::Spnego => kerberos::Wrap::Spnego,
            Wrap::Raw => kerberos::Wrap::Raw,
        };
        let token = self
            .delegator
            .negotiate(
                &self.principal,
                spn,
                wrap,
                binding.filter(|_| self.settings.channel_binding),
            )
            .await;
        let token = token.map_err(|error| fault(&error))?;
        let timings = token.timings();
        if let Some(s4u2proxy) = timings.s4u2proxy {
            fetched(&timings, s4u2proxy);
            tracing::info!(
                target: "audit",
                event = "delegation",
                principal = %self.principal,
                spn = %spn,
                tgt_us = timings.tgt.map_or(0, micros),
                s4u2self_us = timings.s4u2self.map_or(0, micros),
                s4u2proxy_us = micros(s4u2proxy),
                token_us = micros(timings.token),
            );
        }
        Ok(token)
    }

    /// Forgets the ticket for the `backend`th server: it was refused, a new one may be good.
    pub async fn forget(&self, backend: usize) {
        if let Ok(spn) = self.spn(backend) {
            self.delegator.purge_ticket(&self.principal, spn).await;
        }
    }

    /// As whom.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// How the application wants its tokens.
    #[must_use]
    pub const fn settings(&self) -> &KerberosSso {
        &self.settings
    }

    /// The SPN of the `backend`th server.
    ///
    /// # Errors
    /// There is no such server.
    pub fn spn(&self, backend: usize) -> Result<&Spn, Stop> {
        self.settings.spns.get(backend).ok_or_else(|| {
            Stop::fail(
                Code::Internal,
                Side::Gateway,
                format!("no SPN for backend {backend}"),
            )
        })
    }
}

/// The room.
#[derive(Clone, Debug)]
pub struct Sso {
    delegator: Option<Delegator>,
    signer: Arc<Signer>,
    issuer: String,
    clock: Clock,
    /// The headers of warm sessions.
    made: Cache<MadeOf, Arc<Made>>,
    /// Signatures: kept by what they say, so that renewed claims that say the same need no new one.
    assertions: Cache<(String, String), HeaderValue>,
}

// Together half of an assertion's lifetime, so that a backend never gets one about to end.
const HEADERS_KEPT: Duration = Duration::from_secs(10);
const ASSERTIONS_KEPT: Duration = Duration::from_secs(20);

impl Sso {
    /// `issuer` is the `iss` of assertions: the sign-in host's address.
    #[must_use]
    pub fn new(delegator: Option<Delegator>, signer: Signer, issuer: String, clock: Clock) -> Self {
        Self {
            delegator,
            signer: Arc::new(signer),
            issuer,
            clock,
            made: Cache::builder()
                .max_capacity(100_000)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(HEADERS_KEPT)
                .build(),
            assertions: Cache::builder()
                .max_capacity(10_000)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(ASSERTIONS_KEPT)
                .build(),
        }
    }

    /// The credential for `user` at `app`.
    ///
    /// # Errors
    /// The application wants an account's ticket and there is no account or no Kerberos.
    pub fn credential(
        &self,
        user: &MappedUser,
        app: &Arc<Application>,
    ) -> Result<BackendCredential, Stop> {
        let form = match &app.sso {
            Method::None => Form::Nothing,
            Method::Headers(settings) => Form::Headers(self.headers(user, app, settings)?),
            Method::Kerberos(settings) => {
                let (Some(delegator), Some(account)) = (&self.delegator, user.account()) else {
                    let detail = format!(
                        "{} wants a ticket, but has no account or no [kerberos]",
                        app.id
                    );
                    return Err(Stop::fail(Code::Internal, Side::Gateway, detail));
                };
                Form::Negotiate(Negotiate {
                    delegator: delegator.clone(),
                    principal: account.principal.clone(),
                    settings: settings.clone(),
                })
            }
        };
        Ok(BackendCredential(form))
    }

    /// The key set with which backends check assertions (RFC 7517).
    #[must_use]
    pub fn key_set(&self) -> Value {
        self.signer.key_set()
    }

    /// Forgets the tickets of `principal`.
    pub async fn purge(&self, principal: &Principal) {
        if let Some(delegator) = &self.delegator {
            delegator.purge(principal).await;
        }
    }

    /// Forgets everybody's tickets.
    pub fn purge_all(&self) {
        if let Some(delegator) = &self.delegator {
            delegator.purge_all();
        }
    }

    fn headers(
        &self,
        user: &MappedUser,
        app: &Arc<Application>,
        settings: &HeaderSso,
    ) -> Result<Arc<Made>, Stop> {
        let person = user.user().user();
        let of = (
            person.shared_claims(),
            user.shared_account(),
            Arc::clone(app),
        );
        let key = MadeOf {
            claims: Arc::as_ptr(&of.0).addr(),
            account: of
                .1
                .as_ref()
                .map_or(0, |account| Arc::as_ptr(account).addr()),
            app: Arc::as_ptr(app).addr(),
        };
        if let Some(made) = self.made.get(&key) {
            return Ok(made);
        }
        let mut headers = headers::identity(settings, user.claims(), user.account());
        if settings.assertion {
            headers.insert(ASSERTION, self.assertion(user, app)?);
        }
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        let made = Arc::new(Made {
            headers: headers.collect(),
            _of: of,
        });
        // A bearer token's claims are new with each request: nothing would ever find them again.
        if matches!(person.via(), Via::Session { .. }) {
            self.made.insert(key, Arc::clone(&made));
        }
        Ok(made)
    }

    fn assertion(&self, user: &MappedUser, app: &Application) -> Result<HeaderValue, Stop> {
        let claims = user.claims();
        let account = user.account();
        let mut content = json!({
            "iss": self.issuer,
            "aud": app.published_url.as_str(),
            "sub": claims.person.to_string(),
            "tid": claims.person.tid,
            "oid": claims.person.oid,
            "name": claims.shown_name(),
            "email": claims.email,
            "upn": claims.upn,
            "roles": claims.roles,
        });
        if let (Some(account), Some(content)) = (account, content.as_object_mut()) {
            content.insert(String::from("sam"), json!(account.principal.name()));
            content.insert(String::from("sid"), json!(account.sid));
        }
        // Keyed by what it says: a changed role or account is a new assertion at once.
        let key = (app.id.to_string(), content.to_string());
        if let Some(cached) = self.assertions.get(&key) {
            return Ok(cached);
        }
        let now = self.clock.unix();
        if let Some(content) = content.as_object_mut() {
            content.insert(String::from("iat"), json!(now));
            content.insert(String::from("nbf"), json!(now));
            content.insert(String::from("exp"), json!(now + assertion::LIFETIME));
        }
        let internal = |why: String| Stop::fail(Code::Internal, Side::Gateway, why);
        let token = self
            .signer
            .sign(&content)
            .map_err(|error| internal(error.to_string()))?;
        let mut value =
            HeaderValue::from_str(&token).map_err(|error| internal(error.to_string()))?;
        value.set_sensitive(true);
        self.assertions.insert(key, value.clone());
        Ok(value)
    }
}

fn fetched(timings: &kerberos::Timings, s4u2proxy: Duration) {
    let metrics = metrics();
    let steps = [
        ("tgt", timings.tgt),
        ("s4u2self", timings.s4u2self),
        ("s4u2proxy", Some(s4u2proxy)),
        ("token", Some(timings.token)),
    ];
    for (step, spent) in steps {
        if let Some(spent) = spent {
            metrics.kerberos(step, spent);
        }
    }
}

/// A Kerberos error as the end of a walk: its coarse kind decides the code, its diagnosis the detail.
#[must_use]
pub fn fault(error: &kerberos::Error) -> Stop {
    let diagnosis = error.diagnosis();
    metrics().kerberos_error(diagnosis.code);
    let (code, side) = match diagnosis.kind {
        Kind::KdcUnreachable => (Code::KdcUnreachable, Side::Kdc),
        Kind::Busy => (Code::KdcBusy, Side::Gateway),
        Kind::KeytabUnusable => (Code::KeytabUnusable, Side::Gateway),
        Kind::PrincipalUnknown => (Code::PrincipalUnknown, Side::Kdc),
        Kind::PrincipalRefused => {
            return Stop::deny(
                Code::AccountDisabled,
                format!("{error}; {}", diagnosis.cause),
            );
        }
        Kind::SpnUnknown => (Code::SpnUnknown, Side::Kdc),
        Kind::DelegationRefused => (Code::DelegationRefused, Side::Kdc),
        Kind::KdcRefused => (Code::KdcRefused, Side::Kdc),
        Kind::ClockSkew => (Code::ClockSkew, Side::Kdc),
        Kind::IdentityMismatch => (Code::IdentityMismatch, Side::Kdc),
        Kind::TicketRefused => (Code::TicketRefused, Side::Backend),
        Kind::Gateway => (Code::Internal, Side::Gateway),
    };
    Stop::fail(
        code,
        side,
        format!(
            "{error} [{}]: {} {}",
            diagnosis.code, diagnosis.cause, diagnosis.check
        ),
    )
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
