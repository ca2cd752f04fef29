//! What can be wrong at the issuer, or with a token.

/// A failure towards the issuer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot work.
    #[error("{setting} = {value:?}: {why}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value; never a secret.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// No answer.
    #[error("{url} does not answer: {cause}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why it failed, from the innermost cause.
        cause: String,
    },
    /// An answer with a status that is no success.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is too large, or is not what was asked for.
    #[error("{url} answered something unusable: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Metadata that names another issuer than the configured one.
    #[error("metadata at {url} names the issuer {found:?}, configured is {wanted:?}")]
    IssuerMismatch {
        /// The metadata's address.
        url: String,
        /// `issuer` as found.
        found: String,
        /// `issuer` as configured.
        wanted: String,
    },
    /// The token endpoint refused (RFC 6749 5.2).
    #[error("the token endpoint refused: {0}")]
    Refused(Refusal),
    /// A token that is not to be believed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A refusal by the token endpoint or the authorization endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `error` (RFC 6749 5.2), such as `invalid_grant`.
    pub error: String,
    /// Entra's numbers, such as 50057 of `AADSTS50057`.
    pub codes: Vec<u32>,
    /// Entra's `trace_id`, for a support request.
    pub trace: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)?;
        for code in &self.codes {
            write!(f, " AADSTS{code}")?;
        }
        match &self.trace {
            Some(trace) => write!(f, " (trace {trace})"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// True when the person's grant itself is refused: disabled, deleted, revoked, password changed. False when only our
    /// own registration (client id, secret) or a temporary condition is the cause.
    #[must_use]
    pub fn is_about_the_person(&self) -> bool {
        // RFC 6749 5.2 invalid_grant; OpenID Connect Core 3.1.2.6 for the interactive ones.
        matches!(
            self.error.as_str(),
            "invalid_grant" | "interaction_required" | "login_required" | "consent_required"
        )
    }

    /// True when the issuer asks to come back later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.error.as_str(),
            "temporarily_unavailable" | "server_error"
        )
    }
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT of three base64url parts, or larger than the limit.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is not the configured one.
    #[error("the token's alg {0:?} is not RS256")]
    AlgorithmRefused(String),
    /// No published key has the token's `kid`.
    #[error("no published key has the kid {0:?}")]
    KeyUnknown(String),
    /// The token has no `kid` and the issuer has several keys.
    #[error("the token has no kid and the issuer publishes several keys")]
    KeyAmbiguous,
    /// The signature does not fit.
    #[error("the signature does not fit the token")]
    SignatureBad,
    /// `iss` is not the configured issuer.
    #[error("iss {0:?} is not the configured issuer")]
    IssuerWrong(String),
    /// `tid` is not an allowed tenant.
    #[error("tid {0:?} is not an allowed tenant")]
    TenantWrong(String),
    /// `aud` is not ours.
    #[error("aud {0:?} is not ours")]
    AudienceWrong(String),
    /// Several audiences, and `azp` is not our client id.
    #[error("azp {0:?} is not our client id")]
    AuthorizedPartyWrong(String),
    /// `exp` has passed.
    #[error("exp {exp} has passed, now is {now}")]
    Expired {
        /// `exp`.
        exp: i64,
        /// Our clock.
        now: i64,
    },
    /// `nbf` or `iat` lies in the future.
    #[error("{claim} {at} lies in the future, now is {now}")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Its value.
        at: i64,
        /// Our clock.
        now: i64,
    },
    /// `nonce` is not the one of this sign-in.
    #[error("the nonce is not the one of this sign-in")]
    NonceWrong,
    /// A required claim is absent.
    #[error("the claim {0} is absent")]
    ClaimMissing(&'static str),
    /// A claim has a value of the wrong kind.
    #[error("the claim {0} has a value of the wrong kind")]
    ClaimBad(&'static str),
    /// An app-only token.
    #[error("an app-only token names no person")]
    WithoutPerson,
    /// `ver` is none that is configured.
    #[error("tokens of version {0:?} are not configured")]
    VersionWrong(String),
}

impl TokenError {
    /// `IssuerWrong`, with a bounded copy of what was found.
    #[must_use]
    pub fn issuer(found: &str) -> Self {
        Self::IssuerWrong(bounded(found))
    }
}

/// A copy for the log: values from the network may be long and hold control characters.
#[must_use]
pub fn bounded(value: &str) -> String {
    value
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}
