//! Why there is no account: like a [`Stop`], but it can be told to every visitor who waited for it.

use crate::ldap;
use crate::ldap::SaslFault;
use crate::model::stop::Code;
use crate::model::stop::Denial;
use crate::model::stop::Fault;
use crate::model::stop::Side;
use crate::model::stop::Stop;

/// A denial or a fault, shared by those who waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Deny(Denial),
    Fail(Fault),
}

impl Refusal {
    pub(super) fn deny(code: Code, detail: impl Into<String>) -> Self {
        Self::Deny(Denial {
            code,
            detail: detail.into(),
        })
    }

    pub(super) fn fail(code: Code, side: Side, detail: impl Into<String>) -> Self {
        Self::Fail(Fault {
            code,
            side,
            detail: detail.into(),
        })
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Deny(denial)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Deny(denial) => Self::Deny(denial),
            Refusal::Fail(fault) => Self::Fail(fault),
        }
    }
}

impl From<ldap::Error> for Refusal {
    fn from(error: ldap::Error) -> Self {
        let sasl = match &error {
            ldap::Error::Sasl { fault, .. } => *fault,
            ldap::Error::NoServer { .. }
            | ldap::Error::Unreachable { .. }
            | ldap::Error::Lost { .. }
            | ldap::Error::TimedOut { .. }
            | ldap::Error::Protocol { .. }
            | ldap::Error::Refused { .. }
            | ldap::Error::Referral { .. }
            | ldap::Error::EmptyPassword { .. }
            | ldap::Error::Setup { .. } => SaslFault::Other,
        };
        // The bind is made with the gateway's own ticket: what is wrong with that is not the directory's fault.
        let (code, side) = match sasl {
            SaslFault::Keytab => (Code::KeytabUnusable, Side::Gateway),
            SaslFault::Kdc => (Code::KdcUnreachable, Side::Kdc),
            SaslFault::Other if error.is_connection() => {
                (Code::DirectoryUnreachable, Side::Directory)
            }
            SaslFault::Other => (Code::DirectoryRefused, Side::Directory),
        };
        Self::fail(code, side, error.to_string())
    }
}
