//! The tools' errors in the words of the corridor: one place, so that a code means one thing.

use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::oidc;
use crate::oidc::TokenError;
use crate::store;

/// The store's failure. Denying is the only safe answer: state, code and session cannot be checked.
pub(super) fn store(error: &store::Error) -> Stop {
    tracing::error!(%error, "store");
    Stop::fail(Code::StoreUnavailable, Side::Gateway, error.to_string())
}

/// A defect of ours.
pub(super) fn internal(detail: &str) -> Stop {
    Stop::fail(Code::Internal, Side::Gateway, detail)
}

/// The code for a token that is not believed.
pub(super) const fn token_code(error: &TokenError) -> Code {
    match error {
        TokenError::Malformed(_) | TokenError::ClaimBad(_) => Code::TokenMalformed,
        TokenError::AlgorithmRefused(_) => Code::TokenAlgorithmRefused,
        TokenError::KeyUnknown(_) | TokenError::KeyAmbiguous => Code::TokenKeyUnknown,
        TokenError::SignatureBad => Code::TokenSignatureBad,
        TokenError::IssuerWrong(_) | TokenError::TenantWrong(_) | TokenError::VersionWrong(_) => {
            Code::TokenIssuerWrong
        }
        TokenError::AudienceWrong(_) | TokenError::AuthorizedPartyWrong(_) => {
            Code::TokenAudienceWrong
        }
        TokenError::Expired { .. } => Code::TokenExpired,
        TokenError::NotYetValid { .. } => Code::TokenNotYetValid,
        TokenError::NonceWrong => Code::TokenNonceWrong,
        TokenError::ClaimMissing(_) => Code::TokenClaimMissing,
        TokenError::WithoutPerson => Code::TokenWithoutPerson,
    }
}

/// The issuer's failure while somebody signs in.
pub(super) fn issuer(error: &oidc::Error) -> Stop {
    let detail = error.to_string();
    match error {
        oidc::Error::Token(token) => Stop::deny(token_code(token), detail),
        oidc::Error::Unreachable { .. } | oidc::Error::Status { .. } => {
            Stop::fail(Code::IssuerUnreachable, Side::Issuer, detail)
        }
        oidc::Error::Answer { .. }
        | oidc::Error::IssuerMismatch { .. }
        | oidc::Error::Setting { .. } => {
            Stop::fail(Code::IssuerMisconfigured, Side::Issuer, detail)
        }
        oidc::Error::Refused(refusal) => {
            if refusal.is_temporary() {
                Stop::fail(Code::IssuerUnreachable, Side::Issuer, detail)
            } else if refusal
                .codes
                .iter()
                .any(|code| PERSON_REFUSED.contains(code))
            {
                Stop::deny(Code::SignInRefused, detail)
            } else if refusal.is_about_the_person() {
                Stop::deny(Code::SignInCodeRefused, detail)
            } else {
                // invalid_client, unauthorized_client, invalid_scope: our registration.
                Stop::fail(Code::IssuerMisconfigured, Side::Issuer, detail)
            }
        }
    }
}

/// Entra's numbers that speak of the person, not of the code: disabled, locked, not assigned, blocked by policy, no such
/// user in the tenant.
const PERSON_REFUSED: &[u32] = &[50_020, 50_034, 50_053, 50_057, 50_105, 53_000, 53_003];
