//! Why there is no account: like a [`Stop`], but it can be told to every visitor who waited for it.

use crate::ldap;
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
        let code = if error.is_connection() {
            Code::DirectoryUnreachable
        } else {
            Code::DirectoryRefused
        };
        Self::fail(code, Side::Directory, error.to_string())
    }
}
