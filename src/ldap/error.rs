//! What can go wrong with a directory, in LDAP's own words plus what to do about it.

use std::fmt;
use std::time::Duration;

use crate::model::names::HostName;

/// A failed operation. `Clone`, because several waiters may share one failure.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No server is configured or listed in DNS.
    #[error("no domain controller is known: {reason}")]
    NoServer {
        /// Where was looked.
        reason: String,
    },
    /// No connection: TCP, TLS, or no answer to the bind.
    #[error("{server}: {step} failed: {reason}")]
    Unreachable {
        /// The domain controller.
        server: HostName,
        /// The step that failed.
        step: &'static str,
        /// The cause.
        reason: String,
    },
    /// The connection ended while an answer was awaited: a write may or may not have happened.
    #[error("{server}: the connection was lost during {operation}")]
    Lost {
        /// The domain controller.
        server: HostName,
        /// What was asked.
        operation: String,
    },
    /// No answer in time: a write may or may not have happened.
    #[error("{server}: no answer to {operation} within {after:?}")]
    TimedOut {
        /// The domain controller.
        server: HostName,
        /// What was asked.
        operation: String,
        /// The limit.
        after: Duration,
    },
    /// The server answered "no".
    #[error("{server} refused {operation}: {refusal}")]
    Refused {
        /// The domain controller.
        server: HostName,
        /// What was asked, with the DN.
        operation: String,
        /// Code and text.
        refusal: Refusal,
    },
    /// The server's answer is no sound LDAP, or not what was asked for.
    #[error("{server}: {operation}: {reason}")]
    Protocol {
        /// The domain controller.
        server: HostName,
        /// What was asked.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The gateway could not prove who it is (SASL GSSAPI).
    #[error("{server}: Kerberos bind failed: {reason}")]
    Sasl {
        /// The domain controller.
        server: HostName,
        /// Whose fault it is.
        fault: super::bind::SaslFault,
        /// The Kerberos error.
        reason: String,
    },
    /// The answer lies on another server, which is not asked.
    #[error("{server}: {operation}: refers to {url:?}: {reason}")]
    Referral {
        /// The domain controller.
        server: HostName,
        /// What was asked.
        operation: String,
        /// Where it points to.
        url: String,
        /// Why it is not followed, and what to do.
        reason: String,
    },
    /// A password is missing.
    #[error(
        "the bind password of {name:?} is empty: the server would take that for an anonymous bind"
    )]
    EmptyPassword {
        /// The bind name.
        name: String,
    },
    /// The settings cannot work.
    #[error("{what}: {reason}")]
    Setup {
        /// The setting.
        what: String,
        /// Why it cannot work.
        reason: String,
    },
}

impl Error {
    /// The server's result code, if it answered.
    #[must_use]
    pub const fn code(&self) -> Option<ResultCode> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code),
            Self::NoServer { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Protocol { .. }
            | Self::Sasl { .. }
            | Self::Referral { .. }
            | Self::EmptyPassword { .. }
            | Self::Setup { .. } => None,
        }
    }

    /// True when another server, or the same one later, may answer.
    #[must_use]
    pub const fn is_connection(&self) -> bool {
        match self {
            Self::NoServer { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Protocol { .. } => true,
            // RFC 4511 appendix A.2: busy (51), unavailable (52).
            Self::Refused { refusal, .. } => matches!(refusal.code.0, 51 | 52),
            Self::Sasl { .. }
            | Self::Referral { .. }
            | Self::EmptyPassword { .. }
            | Self::Setup { .. } => false,
        }
    }

    /// True when a write may have been carried out although no answer came.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. } | Self::TimedOut { .. } | Self::Protocol { .. }
        )
    }
}

/// A server's "no" (RFC 4511 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The result code.
    pub code: ResultCode,
    /// The server's own text.
    pub diagnostic: String,
}

impl Refusal {
    /// What an administrator can do, where the code or Active Directory's text tells.
    #[must_use]
    pub fn cure(&self) -> Option<&'static str> {
        if let Some(data) = self.ad_data() {
            let known = AD_DATA
                .iter()
                .find(|(code, _)| code.eq_ignore_ascii_case(data));
            if let Some((_, cure)) = known {
                return Some(cure);
            }
        }
        let cure = match self.code.0 {
            3 => {
                "the controller's own time limit (MaxQueryDuration): a smaller directory.page_size, or narrower bases"
            }
            4 => {
                "the controller's own size limit (MaxPageSize, MaxResultSetSize): a smaller directory.page_size"
            }
            // MS-ADTS 3.1.1.5.2.5: of an add, so is the quota of objects told.
            11 => {
                "an administrative limit: of an add, how many objects the gateway's account may own (dsget quota); of a search, MaxResultSetSize: a smaller directory.page_size"
            }
            12 => "the server does not know paged results: is it an Active Directory?",
            8 => "the server wants TLS or signing: use LDAPS",
            16 | 17 => "the schema lacks an attribute: set anchor_attribute = \"adminDescription\"",
            19 => {
                "a value breaks a rule of the directory: its length, or it is taken by another object"
            }
            // Samba's answer to a value above rangeUpper, where Active Directory says 19.
            21 => "a value is malformed, or too long for its attribute",
            32 => "no such object: check the distinguished name, and whether it has replicated",
            34 => "the distinguished name is malformed",
            49 => "check the bind account and its password or keytab",
            50 => "the gateway's account lacks the right: delegate it on the OU (dsacls)",
            53 => "the directory forbids it: password policy, protected object or functional level",
            _ => return None,
        };
        Some(cure)
    }

    /// The sub-code in `…AcceptSecurityContext error, data 52e, v…`.
    fn ad_data(&self) -> Option<&str> {
        let (_, tail) = self.diagnostic.split_once(", data ")?;
        Some(tail.split([',', ' ', '\0']).next().unwrap_or(tail))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        let text = self.diagnostic.trim_end_matches('\0').trim();
        if !text.is_empty() {
            write!(f, ", {text:?}")?;
        }
        match self.cure() {
            Some(cure) => write!(f, " ({cure})"),
            None => Ok(()),
        }
    }
}

/// An LDAP result code (RFC 4511 4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResultCode(pub u32);

impl ResultCode {
    /// success
    pub const SUCCESS: Self = Self(0);
    /// timeLimitExceeded
    pub const TIME_LIMIT: Self = Self(3);
    /// sizeLimitExceeded
    pub const SIZE_LIMIT: Self = Self(4);
    /// referral
    pub const REFERRAL: Self = Self(10);
    /// unavailableCriticalExtension
    pub const NO_EXTENSION: Self = Self(12);
    /// saslBindInProgress
    pub const SASL_IN_PROGRESS: Self = Self(14);
    /// noSuchAttribute
    pub const NO_SUCH_ATTRIBUTE: Self = Self(16);
    /// constraintViolation
    pub const CONSTRAINT: Self = Self(19);
    /// attributeOrValueExists
    pub const VALUE_EXISTS: Self = Self(20);
    /// noSuchObject
    pub const NO_SUCH_OBJECT: Self = Self(32);
    /// insufficientAccessRights
    pub const NO_RIGHTS: Self = Self(50);
    /// unwillingToPerform
    pub const UNWILLING: Self = Self(53);
    /// entryAlreadyExists
    pub const EXISTS: Self = Self(68);

    /// The name in RFC 4511.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "success",
            1 => "operationsError",
            2 => "protocolError",
            3 => "timeLimitExceeded",
            4 => "sizeLimitExceeded",
            7 => "authMethodNotSupported",
            8 => "strongerAuthRequired",
            10 => "referral",
            11 => "adminLimitExceeded",
            12 => "unavailableCriticalExtension",
            13 => "confidentialityRequired",
            14 => "saslBindInProgress",
            16 => "noSuchAttribute",
            17 => "undefinedAttributeType",
            18 => "inappropriateMatching",
            19 => "constraintViolation",
            20 => "attributeOrValueExists",
            21 => "invalidAttributeSyntax",
            32 => "noSuchObject",
            34 => "invalidDNSyntax",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            64 => "namingViolation",
            65 => "objectClassViolation",
            66 => "notAllowedOnNonLeaf",
            67 => "notAllowedOnRDN",
            68 => "entryAlreadyExists",
            69 => "objectClassModsProhibited",
            80 => "other",
            _ => "unknown code",
        }
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// Win32 codes in the text of a refused bind (MS-ERREF 2.2).
const AD_DATA: [(&str, &str); 10] = [
    ("525", "the bind account does not exist"),
    (
        "52e",
        "wrong password, or a keytab older than the account's password",
    ),
    ("530", "the bind account may not log on at this hour"),
    ("531", "the bind account may not log on from this machine"),
    ("532", "the bind account's password has expired"),
    ("533", "the bind account is disabled"),
    ("701", "the bind account has expired"),
    ("773", "the bind account must change its password first"),
    ("775", "the bind account is locked out"),
    (
        "35b",
        "the server demands channel binding: something between terminates TLS, or a proxy stands in front of the controller",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_directory_text_becomes_plain_words() {
        let refused = Error::Refused {
            server: "dc1.contoso.test".parse().unwrap(),
            operation: "bind as svc-gateway".into(),
            refusal: Refusal {
                code: ResultCode(49),
                diagnostic: "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 52e, v3839\0".into(),
            },
        };
        let text = refused.to_string();
        assert!(
            text.starts_with(
                "dc1.contoso.test refused bind as svc-gateway: invalidCredentials (49)"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("(wrong password, or a keytab older than the account's password)"),
            "{text}"
        );
    }

    #[test]
    fn only_an_unanswered_write_is_in_doubt() {
        let server: HostName = "dc1".parse().unwrap();
        let lost = Error::Lost {
            server: server.clone(),
            operation: "add".into(),
        };
        assert!(lost.outcome_unknown() && lost.is_connection());
        let refused = Error::Refused {
            server,
            operation: "add".into(),
            refusal: Refusal {
                code: ResultCode::EXISTS,
                diagnostic: String::new(),
            },
        };
        assert!(!refused.outcome_unknown() && !refused.is_connection());
    }
}
