//! Is the person still welcome at the issuer? Asked again every `recheck`, in the background before it is due.
//!
//! One asks, all others wait for the same answer: in this process by single flight, between replicas by a lease in the
//! store. The question runs in a task of its own, so that a visitor who goes away does not lose a refresh token that the
//! issuer has already replaced.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Inner;
use super::reason;
use super::seal::Purpose;
use super::session::Standing;
use super::session::seconds;
use crate::model::claims::Claims;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::oidc;
use crate::store::records::EndReason;
use crate::store::records::Lease;
use crate::store::records::Renewal;
use crate::store::records::SignIn;
use crate::store::records::Whose;

/// How a renewal ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The person is welcome; this is what the issuer says now.
    Renewed(Arc<Standing>),
    /// The person is not welcome any more.
    Refused(String),
    /// The sign-in was ended meanwhile by somebody else.
    Ended,
    /// No answer that means anything: the issuer, our registration or our store is in trouble.
    Unknown(String),
}

impl Inner {
    /// The standing as it may be used for this request.
    ///
    /// # Errors
    /// `person-disabled`, `session-ended`, `issuer-unreachable`.
    pub(super) async fn still_welcome(
        self: &Arc<Self>,
        standing: Arc<Standing>,
    ) -> Result<Arc<Standing>, Stop> {
        let age = self.clock.unix().saturating_sub(standing.checked);
        let due = seconds(self.settings.recheck);
        let last = due.saturating_add(seconds(self.settings.issuer_grace));
        if age < due / 5 * 4 {
            return Ok(standing);
        }
        if !standing.renewable {
            return if age < last {
                Ok(standing)
            } else {
                Err(Stop::deny(
                    Code::SessionExpired,
                    "the issuer gave no refresh token, and the grace is over",
                ))
            };
        }
        if age < due {
            self.renew_in_background(standing.id);
            return Ok(standing);
        }
        match self.renewal(standing.id).await {
            Outcome::Renewed(fresh) => Ok(fresh),
            Outcome::Refused(detail) => Err(Stop::deny(Code::PersonDisabled, detail)),
            Outcome::Ended => Err(Stop::deny(Code::SessionEnded, "ended during its renewal")),
            Outcome::Unknown(detail) if age < last => {
                tracing::warn!(
                    detail,
                    age,
                    "sign-in not renewed, it goes on for the grace time"
                );
                Ok(standing)
            }
            Outcome::Unknown(detail) => {
                Err(Stop::fail(Code::IssuerUnreachable, Side::Issuer, detail))
            }
        }
    }

    fn renew_in_background(self: &Arc<Self>, id: uuid::Uuid) {
        if !self.renewals.contains_key(&id) {
            let inner = Arc::clone(self);
            tokio::spawn(async move { inner.renewal(id).await });
        }
    }

    /// One renewal at a time for a sign-in; its outcome is remembered for a moment.
    async fn renewal(self: &Arc<Self>, id: uuid::Uuid) -> Outcome {
        let inner = Arc::clone(self);
        self.renewals
            .get_with(id, async move {
                let task = tokio::spawn(async move { inner.renew(id).await });
                task.await
                    .unwrap_or_else(|e| Outcome::Unknown(format!("renewal ended early: {e}")))
            })
            .await
    }

    async fn renew(&self, id: uuid::Uuid) -> Outcome {
        let lease = Lease {
            name: format!("renew:{id}"),
            holder: self.process.clone(),
            until: self.clock.unix_after(LEASE),
        };
        for _ in 0..LOSER_LOOKS {
            match self.store.take_lease(&lease, self.clock.unix()).await {
                Ok(true) => {
                    let outcome = self.renew_under_lease(id).await;
                    // A lease that is not given back runs out by itself.
                    drop(self.store.give_lease_back(&lease.name, &lease.holder).await);
                    return outcome;
                }
                // Another replica is at it: its result will be in the store.
                Ok(false) => tokio::time::sleep(LOSER_PAUSE).await,
                Err(error) => return Outcome::Unknown(error.to_string()),
            }
        }
        Outcome::Unknown("another replica holds the renewal and does not finish".to_owned())
    }

    async fn renew_under_lease(&self, id: uuid::Uuid) -> Outcome {
        let began = Instant::now();
        let record = match self.store.sign_in(id).await {
            Ok(Some(record)) if record.ended.is_none() => record,
            Ok(_) => {
                self.sessions.forget_sign_in(id);
                return Outcome::Ended;
            }
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        let age = self.clock.unix().saturating_sub(record.checked);
        if age < seconds(self.settings.recheck) / 5 * 4 {
            return Outcome::Renewed(self.sessions.renewed(record, began)); // somebody else has just done it
        }
        match self.ask_issuer(&record).await {
            Ok((claims, refresh_token)) => self.keep(record, claims, refresh_token, began).await,
            Err(Asked::Refused(detail)) => {
                tracing::info!(%detail, person = %record.claims.person, "the issuer renews no longer");
                match self
                    .end(&Whose::SignIn(id), EndReason::PersonDisabled)
                    .await
                {
                    Ok(_) => Outcome::Refused(detail),
                    Err(_) => Outcome::Refused(format!("{detail}; the store could not note it")),
                }
            }
            Err(Asked::NoAnswer(detail)) => Outcome::Unknown(detail),
        }
    }

    async fn ask_issuer(&self, record: &SignIn) -> Result<(Claims, Option<String>), Asked> {
        let no_answer = |detail: String| Asked::NoAnswer(detail);
        let name = record.id.to_string();
        let sealed = record.refresh_token.as_deref().unwrap_or_default();
        let token = self
            .keyring
            .open(Purpose::RefreshToken, &name, sealed)
            .map_err(|e| no_answer(format!("refresh token of {name}: {e}")))?;
        let tokens = self.issuer.renew(&token).await.map_err(|e| {
            if let oidc::Error::Refused(refusal) = &e
                && refusal.is_about_the_person()
            {
                return Asked::Refused(e.to_string());
            }
            no_answer(e.to_string())
        })?;
        let claims = self
            .issuer
            .validate_id_token(tokens.id_token.expose(), None)
            .await
            .map_err(|e| no_answer(e.to_string()))?;
        // OpenID Connect Core 12.2: the renewed token must speak of the same person.
        if claims.person != record.claims.person {
            return Err(Asked::Refused(format!(
                "the renewal speaks of {}, the sign-in is of {}",
                claims.person, record.claims.person
            )));
        }
        let refresh_token = match &tokens.refresh_token {
            Some(fresh) => Some(
                self.keyring
                    .seal(Purpose::RefreshToken, &name, fresh.expose())
                    .map_err(|e| no_answer(e.to_string()))?,
            ),
            None => record.refresh_token.clone(),
        };
        Ok((claims, refresh_token))
    }

    async fn keep(
        &self,
        mut record: SignIn,
        mut claims: Claims,
        refresh_token: Option<String>,
        began: Instant,
    ) -> Outcome {
        // These name the session at the issuer, which a renewal does not change and need not repeat.
        claims.session_id = claims
            .session_id
            .or_else(|| record.claims.session_id.take());
        claims.login_hint = claims
            .login_hint
            .or_else(|| record.claims.login_hint.take());
        let renewal = Renewal {
            id: record.id,
            claims: claims.clone(),
            refresh_token: refresh_token.clone(),
            checked: self.clock.unix(),
        };
        match self.store.renew_sign_in(&renewal).await {
            Ok(true) => {
                record.claims = claims;
                record.refresh_token = refresh_token;
                record.checked = renewal.checked;
                Outcome::Renewed(self.sessions.renewed(record, began))
            }
            Ok(false) => {
                self.sessions.forget_sign_in(record.id);
                Outcome::Ended
            }
            Err(error) => {
                drop(reason::store(&error));
                Outcome::Unknown(error.to_string())
            }
        }
    }
}

enum Asked {
    Refused(String),
    NoAnswer(String),
}

const LEASE: Duration = Duration::from_secs(30);
const LOSER_LOOKS: usize = 40;
const LOSER_PAUSE: Duration = Duration::from_millis(250);
