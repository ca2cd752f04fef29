//! The checks by number and name. Both are part of the product: runbooks and dashboards name them.

use super::report::Finding;
use super::report::State;

/// One kind of check; what it found is a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable number, the order of the report.
    pub number: u16,
    /// Stable kebab-case name.
    pub name: &'static str,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $constant:ident $number:literal $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Check = Check { number: $number, name: $name };)*

        /// All checks, in the report's order.
        pub const ALL: &[Check] = &[$($constant),*];
    };
}

checks! {
    /// The keys that seal sessions, and the folder they live in.
    SESSION_KEY 1 "session-key";
    /// Private keys are readable by the gateway alone.
    FILE_MODES 2 "file-modes";
    /// A certificate covers the published host and is good for a while.
    CERTIFICATE 3 "certificate";
    /// A host has an address.
    NAME 4 "name-resolution";
    /// Metadata names the configured issuer; its keys are there.
    ISSUER 5 "issuer-metadata";
    /// The issuer's clock and ours.
    ISSUER_CLOCK 6 "issuer-clock";
    /// The issuer knows the gateway by its secret or certificate.
    CLIENT_CREDENTIAL 7 "client-credential";
    /// Graph answers about groups.
    GRAPH 8 "graph-permission";
    /// A KDC answers, and its clock.
    KDC 9 "kdc";
    /// The keytab is readable, ours, and has strong keys.
    KEYTAB 10 "keytab";
    /// The KDC gives the gateway a ticket.
    TICKET 11 "gateway-ticket";
    /// A domain controller answers LDAPS and takes the bind.
    DIRECTORY 12 "directory";
    /// Its clock and ours.
    DIRECTORY_CLOCK 13 "directory-clock";
    /// The keytab's key version is the account's.
    KEY_VERSION 14 "keytab-version";
    /// The account's encryption types and the keytab's.
    ENCTYPES 15 "encryption-types";
    /// The gateway's account has an SPN, without which there is no protocol transition.
    GATEWAY_SPN 16 "gateway-spn";
    /// The gateway's account is enabled and no more than it must be.
    GATEWAY_ACCOUNT 17 "gateway-account";
    /// `krbtgt` is not marked sensitive.
    KRBTGT 18 "krbtgt";
    /// The schema knows the anchor attribute.
    ANCHOR 19 "anchor-attribute";
    /// The gateway can make and delete an account in the guests' OU.
    GUEST_OU 20 "guests-ou-rights";
    /// The gateway can write the members of mapped groups.
    GROUPS 21 "group-rights";
    /// Accounts that the fence keeps out although they lie under `account_bases`.
    UNTOUCHABLE 22 "untouchable-accounts";
    /// A backend's SPN is registered exactly once.
    BACKEND_SPN 23 "backend-spn";
    /// The gateway may delegate to it.
    DELEGATION 24 "delegation";
    /// Classic delegation covers people who signed in elsewhere.
    TRANSITION 25 "protocol-transition";
    /// The backend answers.
    BACKEND 26 "backend-reachable";
    /// It asks for Negotiate.
    NEGOTIATE 27 "backend-negotiate";
    /// It accepts a ticket in somebody's name.
    TOKEN 28 "token-accepted";
}

impl Check {
    /// As it should be.
    #[must_use]
    pub fn ok(self, subject: impl Into<String>, proof: impl Into<String>) -> Finding {
        Finding::ok(self.number, self.name, subject, proof)
    }

    /// Wrong.
    #[must_use]
    pub fn fault(
        self,
        subject: impl Into<String>,
        proof: impl Into<String>,
        mend: Mend,
    ) -> Finding {
        self.ok(subject, proof)
            .but(State::Fault, mend.cause, mend.fix)
    }

    /// Works, but should be looked at.
    #[must_use]
    pub fn warning(
        self,
        subject: impl Into<String>,
        proof: impl Into<String>,
        mend: Mend,
    ) -> Finding {
        self.ok(subject, proof)
            .but(State::Warning, mend.cause, mend.fix)
    }

    /// Not checked, and why.
    #[must_use]
    pub fn skipped(self, subject: impl Into<String>, why: impl Into<String>) -> Finding {
        self.ok(subject, "not checked").but(State::Skipped, why, "")
    }
}

/// Why it is not as it should be, and the command that mends it.
#[derive(Clone, Debug)]
pub struct Mend {
    cause: String,
    fix: String,
}

/// Why, and the command that mends it.
pub fn mend(cause: impl Into<String>, fix: impl Into<String>) -> Mend {
    Mend {
        cause: cause.into(),
        fix: fix.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_are_kebab_case() {
        for (at, check) in ALL.iter().enumerate() {
            assert_eq!(usize::from(check.number), at + 1, "{}", check.name);
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'-';
            assert!(check.name.bytes().all(plain), "{}", check.name);
        }
    }
}
