//! Negotiate tokens in a person's name: S4U2Self, S4U2Proxy, AP-REQ (MS-SFU 3.1.5).

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libgssapi::context::ClientCtx;
use libgssapi::context::CtxFlags;
use libgssapi::context::SecurityContext as _;
use libgssapi::credential::Cred;
use libgssapi::name::Name;
use libgssapi::oid::GSS_MECH_KRB5;
use libgssapi::oid::GSS_NT_KRB5_PRINCIPAL;

use crate::model::names::Principal;
use crate::model::names::Spn;

use super::Inner;
use super::error::Error;
use super::error::Step;
use super::ffi;
use super::ffi::GssFailure;
use super::native;
use super::native::Native;
use super::native::Stamp;
use super::people::Person;
use super::people::Ticket;
use super::spnego;

/// How the Kerberos token is wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// In SPNEGO (RFC 4178), as browsers do and every server understands.
    #[default]
    Spnego,
    /// Not at all: for servers that know only the Kerberos mechanism.
    Raw,
}

/// How long each step took. `None`: it was not needed, the result was still held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The gateway's own ticket.
    pub tgt: Option<Duration>,
    /// The person's evidence ticket.
    pub s4u2self: Option<Duration>,
    /// The person's ticket to the backend.
    pub s4u2proxy: Option<Duration>,
    /// The token itself, waiting for a thread included.
    pub token: Duration,
}

/// A token for one request, and the means to check the backend's answer to it.
#[derive(Debug)]
pub struct NegotiateToken {
    bytes: Vec<u8>,
    ticket: Arc<Ticket>,
    wrap: Wrap,
    timings: Timings,
    exchange: Exchange,
    inner: Arc<Inner>,
}

enum Exchange {
    /// By GSS-API.
    General {
        context: Mutex<ClientCtx>,
        channel_binding: Option<Vec<u8>>,
    },
    /// By [`super::native`].
    Native(Stamp),
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

impl NegotiateToken {
    /// The value after `Negotiate ` in the `Authorization` header.
    #[must_use]
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// The whole value of the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Vec<u8> {
        const SCHEME: &str = "Negotiate ";
        let mut value = String::with_capacity(SCHEME.len() + self.bytes.len().div_ceil(3) * 4);
        value.push_str(SCHEME);
        STANDARD.encode_string(&self.bytes, &mut value);
        value.into_bytes()
    }

    /// Whose token it is, checked against the credential it was made from.
    #[must_use]
    pub fn source(&self) -> &Principal {
        &self.ticket.client
    }

    /// For which service.
    #[must_use]
    pub fn spn(&self) -> &Spn {
        &self.ticket.spn
    }

    /// How long it took, step by step.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Whether it was made by GSS-API, and not here.
    #[must_use]
    pub const fn is_general(&self) -> bool {
        matches!(self.exchange, Exchange::General { .. })
    }

    /// Checks the token that came back in `WWW-Authenticate: Negotiate`: only the holder of the service's key
    /// can have made it.
    ///
    /// # Errors
    /// It is no answer to this token, or was not made with the service's key.
    pub async fn verify_mutual(self, answer: &[u8]) -> Result<(), Error> {
        let Self {
            ticket,
            wrap,
            exchange,
            inner,
            ..
        } = self;
        let unproved = |reason| Error::BackendUnproved {
            spn: ticket.spn.clone(),
            principal: ticket.client.clone(),
            reason,
        };
        let answer = match wrap {
            Wrap::Spnego => spnego::answer(answer).map_err(unproved)?,
            Wrap::Raw if answer.is_empty() => return Err(unproved(spnego::BadAnswer::Empty)),
            Wrap::Raw => answer,
        };
        let (context, channel_binding) = match exchange {
            Exchange::General {
                context,
                channel_binding,
            } => (context, channel_binding),
            Exchange::Native(stamp) => {
                let native = ticket.native.as_ref();
                return match native.is_some_and(|native| native.is_answer(answer, stamp)) {
                    true => Ok(()),
                    false => Err(unproved(spnego::BadAnswer::Forged)),
                };
            }
        };
        let (held, answer) = (Arc::clone(&ticket), answer.to_vec());
        let complete = inner
            .asker
            .compute(Step::MutualAuth, &ticket.client, move || {
                let mut context = context.into_inner().unwrap_or_else(PoisonError::into_inner);
                context
                    .step(Some(&answer), channel_binding.as_deref())
                    .map(|_| context.is_complete())
                    .map_err(|raw| {
                        Error::gss(Step::MutualAuth, &held.client, Some(&held.spn), raw.into())
                    })
            })
            .await?;
        if complete {
            Ok(())
        } else {
            Err(unproved(spnego::BadAnswer::Malformed))
        }
    }
}

/// A token in `client`'s name for `spn`.
pub(super) async fn negotiate(
    inner: &Arc<Inner>,
    client: &Principal,
    spn: &Spn,
    wrap: Wrap,
    channel_binding: Option<&[u8]>,
) -> Result<NegotiateToken, Error> {
    let mut timings = Timings::default();
    let held = inner
        .people
        .known(client)
        .await
        .and_then(|person| person.ticket(spn));
    let ticket = match held {
        Some(ticket) => ticket,
        None => {
            let flight = Arc::clone(inner);
            let (client, spn) = (client.clone(), spn.clone());
            // A task of its own: a visitor who leaves does not throw away what the KDC is about to answer.
            let fetched = tokio::spawn(async move { fetch(&flight, &client, &spn).await }).await;
            let (ticket, spent) = fetched.map_err(|reason| Error::Setup {
                what: "ticket flight".to_owned(),
                reason: reason.to_string(),
            })??;
            timings = spent;
            ticket
        }
    };
    // SECURITY: the ticket decides whom the backend sees. Its name cannot change and was compared when it
    // was fetched; here, for every single token, that the ticket is this person's and for this service.
    if ticket.client != *client || ticket.spn != *spn {
        return Err(Error::IdentityMismatch {
            step: Step::InitContext,
            asked: client.clone(),
            found: format!("{} for {}", ticket.client, ticket.spn),
        });
    }
    let began = Instant::now();
    let (bytes, exchange) = match native(inner, &ticket, wrap, channel_binding) {
        Some(made) => made,
        None => {
            let binding = channel_binding.map(<[u8]>::to_vec);
            let held = Arc::clone(&ticket);
            let compute = move || token(&held, binding);
            let (bytes, exchange) = inner
                .asker
                .compute(Step::InitContext, client, compute)
                .await?;
            let bytes = match wrap {
                Wrap::Spnego => spnego::init(&bytes),
                Wrap::Raw => bytes,
            };
            (bytes, exchange)
        }
    };
    timings.token = began.elapsed();
    Ok(NegotiateToken {
        bytes,
        ticket,
        wrap,
        timings,
        exchange,
        inner: Arc::clone(inner),
    })
}

/// The token without GSS-API, on this very thread: it asks nobody and waits for nothing.
fn native(
    inner: &Inner,
    ticket: &Ticket,
    wrap: Wrap,
    channel_binding: Option<&[u8]>,
) -> Option<(Vec<u8>, Exchange)> {
    let native = ticket.native.as_ref()?;
    let stamp = inner.stamps.next(inner.clock.unix_micros());
    let binding = channel_binding.map_or([0; 16], native::binding_hash);
    let bytes = native.token(stamp, binding, wrap == Wrap::Spnego)?;
    Some((bytes, Exchange::Native(stamp)))
}

/// AP-REQ (RFC 4120 3.2.2) from a ticket already held, by GSS-API; asks nobody.
fn token(ticket: &Ticket, channel_binding: Option<Vec<u8>>) -> Result<(Vec<u8>, Exchange), Error> {
    let (client, spn) = (&ticket.client, &ticket.spn);
    let failed =
        |raw: libgssapi::error::Error| Error::gss(Step::InitContext, client, Some(spn), raw.into());
    let mut context = ClientCtx::new(
        Some(ticket.cred.clone()),
        ticket.target.duplicate().map_err(failed)?,
        CtxFlags::GSS_C_MUTUAL_FLAG,
        Some(GSS_MECH_KRB5),
    );
    let token = context
        .step(None, channel_binding.as_deref())
        .map_err(failed)?
        .ok_or_else(|| no_token(Step::InitContext, client, spn))?;
    Ok((
        token.to_vec(),
        Exchange::General {
            context: Mutex::new(context),
            channel_binding,
        },
    ))
}

/// The ticket for (client, spn): evidence first, if it is not held, then the service ticket.
async fn fetch(
    inner: &Arc<Inner>,
    client: &Principal,
    spn: &Spn,
) -> Result<(Arc<Ticket>, Timings), Error> {
    if let Some(refusal) = inner.people.refusal(client, spn) {
        return Err(refusal);
    }
    let began = Instant::now();
    let outcome = fetch_once(inner, client, spn).await;
    let Err(error) = &outcome else {
        return outcome;
    };
    match error.diagnosis().code {
        // What is fetched after the purge is good: whoever asks was let in by the rooms before.
        "tickets-purged" => {}
        // The gateway was re-keyed since the evidence was made: new evidence is made with the new key.
        "evidence-invalid" => {
            inner.people.purge(client).await;
            inner.people.purge_ticket(client, spn).await;
        }
        // The realm was, or our account: only a new ticket of our own helps.
        "gateway-keys-changed" => {
            inner.keeper.distrust(began);
            inner.people.purge(client).await;
        }
        _ => return outcome,
    }
    fetch_once(inner, client, spn).await
}

async fn fetch_once(
    inner: &Arc<Inner>,
    client: &Principal,
    spn: &Spn,
) -> Result<(Arc<Ticket>, Timings), Error> {
    let mut timings = Timings::default();
    let began = Instant::now();
    let fetched = inner
        .people
        .or_fetch(client, evidence(inner, client, &mut timings))
        .await;
    let person = fetched.inspect_err(|error| inner.people.remember(client, None, error))?;
    let slot = person.slot(spn);
    let started = Instant::now();
    let ticket = slot
        .get_or_try_init(|| async {
            // Those who waited for a first attempt that failed learn it from here.
            if let Some(refusal) = inner.people.refusal(client, spn) {
                return Err(refusal);
            }
            let ticket = service_ticket(inner, &person, client, spn).await;
            if let Err(error) = &ticket {
                inner.people.remember(client, Some(spn), error);
            }
            timings.s4u2proxy = Some(started.elapsed());
            ticket
        })
        .await
        .map(Arc::clone)?;
    // SECURITY: access may have been withdrawn while we asked; then nothing of it is used or kept.
    if inner.people.was_purged(client, began) {
        inner.people.purge(client).await;
        let principal = client.clone();
        return Err(Error::Purged { principal });
    }
    Ok((ticket, timings))
}

/// S4U2Self.
async fn evidence(
    inner: &Arc<Inner>,
    client: &Principal,
    timings: &mut Timings,
) -> Result<Arc<Person>, Error> {
    let (tgt, fetched) = inner.keeper.current(&inner.asker).await?;
    if fetched {
        timings.tgt = Some(tgt.took);
    }
    let began = Instant::now();
    let (own, who) = (tgt, client.clone());
    let (evidence, forwardable, lifetime) = inner
        .asker
        .kdc(Step::S4u2Self, client, move || {
            let failed = |failure: GssFailure| Error::gss(Step::S4u2Self, &who, None, failure);
            let evidence = ffi::impersonate(&own.portable, &who).map_err(failed)?;
            let cred = evidence.open().map_err(failed)?;
            let mechanisms = cred.mechanisms().map_err(|raw| failed(raw.into()))?;
            // SECURITY: for a mechanism that the credential lacks, the library would take the process's
            // default credential without a word.
            if !matches!(mechanisms.contains(GSS_MECH_KRB5), Ok(true)) {
                return Err(Error::MechanismMissing {
                    step: Step::S4u2Self,
                    principal: who.clone(),
                });
            }
            // SECURITY: MS-SFU 3.1.5.1.1.2: a KDC without S4U answers with the gateway's own ticket.
            let name = cred.name().map_err(|raw| failed(raw.into()))?;
            same_person(Step::S4u2Self, &who, &name)?;
            let lifetime = cred.lifetime().map_err(|raw| failed(raw.into()))?;
            let forwardable = evidence.is_forwardable(&who);
            Ok((evidence, forwardable, lifetime))
        })
        .await?;
    timings.s4u2self = Some(began.elapsed());
    let expires = began + usable(lifetime);
    Ok(Arc::new(Person::new(evidence, forwardable, expires)))
}

/// S4U2Proxy.
async fn service_ticket(
    inner: &Arc<Inner>,
    person: &Arc<Person>,
    client: &Principal,
    spn: &Spn,
) -> Result<Arc<Ticket>, Error> {
    let began = Instant::now();
    let (own, who, to) = (Arc::clone(person), client.clone(), spn.clone());
    let principal = format!("{spn}@{}", inner.realm);
    let general = inner.general;
    let outcome = inner
        .asker
        .kdc(Step::S4u2Proxy, client, move || {
            let failed =
                |failure: GssFailure| Error::gss(Step::S4u2Proxy, &who, Some(&to), failure);
            let target = Name::new(principal.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))
                .map_err(|raw| failed(raw.into()))?;
            let opened = own.evidence.open_to_look().map_err(failed)?;
            let context = prove(&opened.cred, &target, &who, &to)?;
            let lifetime = context.lifetime().map_err(|raw| failed(raw.into()))?;
            let native = match general {
                true => None,
                false => opened
                    .held(&principal)
                    .and_then(|held| Native::new(&held, &who)),
            };
            Ok((opened.cred, target, lifetime, context, native))
        })
        .await;
    let (cred, target, lifetime, context, native) = outcome.map_err(|mut error| {
        if let Error::Gss(gss) = &mut error {
            gss.evidence_forwardable = person.forwardable;
        }
        error
    })?;
    // While one context lives, libkrb5 keeps the parsed krb5.conf; else it parses it four times a token.
    inner.anchor.get_or_init(|| Mutex::new(context));
    Ok(Arc::new(Ticket {
        client: client.clone(),
        spn: spn.clone(),
        cred,
        target,
        native,
        expires: began + usable(lifetime),
    }))
}

/// Fetches the service ticket with a context that is complete after one step, because only a complete one
/// tells whose it is (a mutual one is complete after the backend's answer, too late). Its token is dropped;
/// those that go out are made from the same credential.
fn prove(cred: &Cred, target: &Name, client: &Principal, spn: &Spn) -> Result<ClientCtx, Error> {
    let failed =
        |raw: libgssapi::error::Error| Error::gss(Step::S4u2Proxy, client, Some(spn), raw.into());
    let mut context = ClientCtx::new(
        Some(cred.clone()),
        target.duplicate().map_err(failed)?,
        CtxFlags::empty(),
        Some(GSS_MECH_KRB5),
    );
    context.step(None, None).map_err(failed)?;
    // SECURITY: last look before anything leaves: whom will the backend see?
    let source = context.source_name().map_err(failed)?;
    same_person(Step::S4u2Proxy, client, &source)?;
    Ok(context)
}

/// The realm must be the same to the letter; the name may differ in the case of ASCII letters, because
/// a directory takes `Jane` and `jane` for one account and answers with its own spelling.
fn same_person(step: Step, asked: &Principal, found: &Name) -> Result<(), Error> {
    let text = found
        .display_name()
        .map(|name| name.to_vec())
        .unwrap_or_default();
    let found = String::from_utf8_lossy(&text);
    let same = found.rsplit_once('@').is_some_and(|(name, realm)| {
        realm == asked.realm() && name.eq_ignore_ascii_case(asked.name())
    });
    if same {
        return Ok(());
    }
    Err(Error::IdentityMismatch {
        step,
        asked: asked.clone(),
        found: found.into_owned(),
    })
}

/// How long a ticket is used: a little less than it lives, so that it does not end on its way.
fn usable(lifetime: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(300);
    lifetime.saturating_sub(MARGIN.min(lifetime / 4))
}

fn no_token(step: Step, client: &Principal, spn: &Spn) -> Error {
    let failure = GssFailure {
        major: 0,
        minor: 0,
        text: "the library made no token".to_owned(),
    };
    Error::gss(step, client, Some(spn), failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Name {
        Name::new(text.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).unwrap()
    }

    #[test]
    fn only_the_account_asked_for_is_the_same_person() {
        let asked: Principal = "kg-jane@CONTOSO.TEST".parse().unwrap();
        for same in ["kg-jane@CONTOSO.TEST", "KG-Jane@CONTOSO.TEST"] {
            assert!(
                same_person(Step::S4u2Self, &asked, &named(same)).is_ok(),
                "{same}"
            );
        }
        for other in [
            "svc-gateway@CONTOSO.TEST",
            "kg-jane@contoso.test",
            "kg-jane@FABRIKAM.TEST",
            "kg-jane/admin@CONTOSO.TEST",
            "kg-jane\\@CONTOSO.TEST@FABRIKAM.TEST",
            "kg-jan@CONTOSO.TEST",
        ] {
            let error = same_person(Step::S4u2Self, &asked, &named(other)).unwrap_err();
            assert!(matches!(error, Error::IdentityMismatch { .. }), "{other}");
        }
    }

    #[test]
    fn a_ticket_is_used_less_long_than_it_lives() {
        let minute = Duration::from_secs(60);
        assert_eq!(usable(600 * minute), 595 * minute);
        assert_eq!(usable(4 * minute), 3 * minute);
        assert_eq!(usable(Duration::ZERO), Duration::ZERO);
    }
}
