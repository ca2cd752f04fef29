//! What can go wrong between us, the KDC and a backend, in Kerberos' own words.

use std::fmt;
use std::time::Duration;

use crate::model::names::Principal;
use crate::model::names::Spn;

use super::diagnose::Diagnosis;
use super::diagnose::Kind;
use super::diagnose::diagnose;
use super::ffi::GssFailure;
use super::keytab::KeytabError;
use super::spnego::BadAnswer;

/// Where on the way to a backend a call stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The gateway's own ticket from its keytab (AS exchange).
    AcquireTgt,
    /// Protocol transition: a ticket to ourselves in the client's name (MS-SFU 3.1.5.1.1).
    S4u2Self,
    /// Constrained delegation: the client's ticket to the backend (MS-SFU 3.1.5.2.1).
    S4u2Proxy,
    /// A further token from a ticket already held (AP-REQ), or a service ticket of the gateway's own.
    InitContext,
    /// The backend's proof that it knows the service's key (AP-REP).
    MutualAuth,
    /// The backend did not take the token.
    BackendRefused,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AcquireTgt => "acquire-tgt",
            Self::S4u2Self => "s4u2self",
            Self::S4u2Proxy => "s4u2proxy",
            Self::InitContext => "init-context",
            Self::MutualAuth => "mutual-auth",
            Self::BackendRefused => "backend-refused",
        })
    }
}

/// A call that GSS-API refused, with everything an operator needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GssError {
    /// Where.
    pub step: Step,
    /// In whose name.
    pub principal: Principal,
    /// Towards which service.
    pub spn: Option<Spn>,
    /// GSS-API major status.
    pub major: u32,
    /// Minor status: a krb5 error code.
    pub minor: u32,
    /// libkrb5's words, made on the thread that made the call.
    pub text: String,
    /// Whether the evidence ticket was forwardable, where known (only at [`Step::S4u2Proxy`]).
    pub evidence_forwardable: Option<bool>,
}

/// `ERROR_TABLE_BASE_krb5`: krb5 error codes are this plus the number in RFC 4120 7.5.9, library errors above 127.
const KRB5_BASE: i32 = -1_765_328_384;

/// `ERROR_TABLE_BASE_asn1`: the answer could not be decoded.
const ASN1_BASE: i32 = 1_859_794_432;

impl GssError {
    fn is_malformed(&self) -> bool {
        (ASN1_BASE..ASN1_BASE + 256).contains(&self.minor.cast_signed())
    }

    /// The offset of the minor status in the krb5 error table: a KDC's error code up to 127, one of libkrb5's
    /// own above.
    #[must_use]
    pub fn krb5_offset(&self) -> Option<u8> {
        let minor = self.minor.cast_signed();
        minor
            .checked_sub(KRB5_BASE)
            .and_then(|n| u8::try_from(n).ok())
    }

    /// The KDC's or acceptor's error code (RFC 4120 7.5.9), if it was one of them that refused.
    #[must_use]
    pub fn kdc_code(&self) -> Option<u8> {
        self.krb5_offset().filter(|n| (1..128).contains(n))
    }
}

impl fmt::Display for GssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.step, self.principal)?;
        if let Some(spn) = &self.spn {
            write!(f, " to {spn}")?;
        }
        write!(f, ": {}", self.text)?;
        match self.kdc_code() {
            Some(code) => write!(f, " (KDC error {code})"),
            None => write!(
                f,
                " (major {:#x}, minor {})",
                self.major,
                self.minor.cast_signed()
            ),
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The keytab is unusable.
    #[error(transparent)]
    Keytab(#[from] KeytabError),
    /// The process was not started as [`super::environment`] demands, or the runtime folder is unusable.
    #[error("{what}: {reason}")]
    Setup {
        /// What was looked at.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Every thread is busy and the queue is full.
    #[error("all {threads} Kerberos threads are busy and {queued} calls wait, which is the limit")]
    Busy {
        /// Threads of the lane.
        threads: usize,
        /// Calls that wait.
        queued: usize,
    },
    /// No answer in time. libkrb5 cannot be interrupted; its thread comes back later.
    #[error("{step} for {principal}: no answer within {} ms", after.as_millis())]
    Deadline {
        /// Where.
        step: Step,
        /// In whose name.
        principal: Principal,
        /// How long was waited.
        after: Duration,
    },
    /// No KDC of the realm answers.
    #[error("no KDC of {realm} answers: {kdcs}")]
    KdcUnreachable {
        /// The realm.
        realm: String,
        /// Each KDC with what its probe met.
        kdcs: String,
    },
    /// GSS-API refused.
    #[error("{0}")]
    Gss(Box<GssError>),
    /// A ticket in another name than asked for. Nothing was sent.
    #[error("{step}: asked for {asked}, but the ticket names {found}; nothing was sent")]
    IdentityMismatch {
        /// Where it was noticed.
        step: Step,
        /// Who was asked for.
        asked: Principal,
        /// Who the ticket names.
        found: String,
    },
    /// A credential without the mechanism that was asked for.
    #[error("{step} for {principal}: the credential does not cover the Kerberos mechanism")]
    MechanismMissing {
        /// Where.
        step: Step,
        /// In whose name.
        principal: Principal,
    },
    /// The person's tickets were purged while this one was being fetched.
    #[error("the tickets of {principal} were purged while one was being fetched")]
    Purged {
        /// Whose.
        principal: Principal,
    },
    /// The backend did not prove who it is.
    #[error("mutual authentication with {spn} for {principal}: {reason}")]
    BackendUnproved {
        /// Towards which service.
        spn: Spn,
        /// In whose name.
        principal: Principal,
        /// What its answer was.
        reason: BadAnswer,
    },
}

impl Error {
    pub(super) fn gss(
        step: Step,
        principal: &Principal,
        spn: Option<&Spn>,
        failure: GssFailure,
    ) -> Self {
        Self::Gss(Box::new(GssError {
            step,
            principal: principal.clone(),
            spn: spn.cloned(),
            major: failure.major,
            minor: failure.minor,
            text: failure.text,
            evidence_forwardable: None,
        }))
    }

    /// Cause, what to check, and the command that fixes it.
    #[must_use]
    pub fn diagnosis(&self) -> Diagnosis {
        diagnose(self)
    }

    /// The coarse reason.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.diagnosis().kind
    }

    /// Where on the way it happened, if on the way at all.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Gss(error) => Some(error.step),
            Self::Deadline { step, .. }
            | Self::IdentityMismatch { step, .. }
            | Self::MechanismMissing { step, .. } => Some(*step),
            Self::BackendUnproved { .. } => Some(Step::MutualAuth),
            Self::KdcUnreachable { .. }
            | Self::Keytab(_)
            | Self::Setup { .. }
            | Self::Busy { .. }
            | Self::Purged { .. } => None,
        }
    }

    /// Whether no KDC was reached, or what was reached does not talk as one, so that another one might answer.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        // "Invalid message type": neither a reply nor a KRB-ERROR.
        const MSG_TYPE: u8 = 40;
        const UNREACH: u8 = 156;
        const REALM_CANT_RESOLVE: u8 = 220;
        const SVC_UNAVAILABLE: u8 = 29;
        match self {
            Self::KdcUnreachable { .. } | Self::Deadline { .. } => true,
            Self::Gss(error) => {
                error.is_malformed()
                    || matches!(
                        error.krb5_offset(),
                        Some(MSG_TYPE | UNREACH | REALM_CANT_RESOLVE | SVC_UNAVAILABLE)
                    )
            }
            Self::Keytab(_)
            | Self::Setup { .. }
            | Self::Busy { .. }
            | Self::IdentityMismatch { .. }
            | Self::MechanismMissing { .. }
            | Self::Purged { .. }
            | Self::BackendUnproved { .. } => false,
        }
    }

    /// Whether the same question gives the same answer for the next seconds: only then it is remembered.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Gss(_) => !self.is_unreachable(),
            Self::IdentityMismatch { .. } | Self::MechanismMissing { .. } => true,
            Self::Keytab(_)
            | Self::Setup { .. }
            | Self::Busy { .. }
            | Self::Deadline { .. }
            | Self::KdcUnreachable { .. }
            | Self::Purged { .. }
            | Self::BackendUnproved { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn kdc_error(step: Step, code: u8) -> GssError {
        GssError {
            step,
            principal: "emma.employee@CONTOSO.TEST".parse().unwrap(),
            spn: Some("HTTP/intranet.contoso.test".parse().unwrap()),
            major: 0x000d_0000,
            minor: (KRB5_BASE + i32::from(code)).cast_unsigned(),
            text: "KDC can't fulfill requested option".to_owned(),
            evidence_forwardable: None,
        }
    }

    #[test]
    fn the_kdcs_code_is_read_out_of_the_minor_status() {
        let error = kdc_error(Step::S4u2Proxy, 13);
        assert_eq!(error.kdc_code(), Some(13));
        assert_eq!(
            error.to_string(),
            "s4u2proxy for emma.employee@CONTOSO.TEST to HTTP/intranet.contoso.test: \
             KDC can't fulfill requested option (KDC error 13)"
        );
        let library = kdc_error(Step::AcquireTgt, 156);
        assert_eq!(
            (library.kdc_code(), library.krb5_offset()),
            (None, Some(156))
        );
        assert!(Error::Gss(Box::new(library)).is_unreachable());
        let nonsense = kdc_error(Step::S4u2Self, 40);
        assert!(Error::Gss(Box::new(nonsense)).is_unreachable());
        let undecodable = GssError {
            minor: ASN1_BASE.cast_unsigned() + 6,
            ..kdc_error(Step::S4u2Self, 6)
        };
        assert!(Error::Gss(Box::new(undecodable)).is_unreachable());
        let foreign = GssError {
            minor: 22,
            ..kdc_error(Step::S4u2Self, 6)
        };
        assert_eq!(foreign.krb5_offset(), None);
    }
}
