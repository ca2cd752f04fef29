//! Why a walk through the corridor ended early: one table for the visitor, the log and the docs.
//!
//! A *denial* means the system works and says no; a *fault* means something is broken. Every one has a
//! stable kebab-case [`Code`], part of the product: tickets and dashboards may rely on it.

use std::fmt;
use std::time::Duration;

use http::Response;
use http::StatusCode;

use super::body::Body;

/// The end of a walk before its last room.
#[derive(Debug)]
pub enum Stop {
    /// An answer that is no refusal: a redirect to the sign-in, a page of our own.
    Reply(Box<Response<Body>>),
    /// The system works and says no.
    Deny(Denial),
    /// Something is broken.
    Fail(Fault),
    /// The system works and says not now.
    Later {
        /// Why.
        denial: Denial,
        /// When it makes sense to come back.
        after: Duration,
    },
    /// The account is being made; the visitor waits and comes back by itself.
    Wait {
        /// When to come back.
        again_in: Duration,
    },
}

/// A "no", with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable reason.
    pub code: Code,
    /// What exactly, for log and audit: names and values, never a secret. Not shown to the visitor.
    pub detail: String,
}

/// Something broken, with its reason and its side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The stable reason.
    pub code: Code,
    /// Whose side is at fault.
    pub side: Side,
    /// What exactly, for the log: names and values, never a secret. Not shown to the visitor.
    pub detail: String,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The visitor's request.
    Client,
    /// The identity provider.
    Issuer,
    /// The directory (LDAP).
    Directory,
    /// The KDC.
    Kdc,
    /// The published application.
    Backend,
    /// Kerbgate itself or its store.
    Gateway,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Issuer => "issuer",
            Self::Directory => "directory",
            Self::Kdc => "kdc",
            Self::Backend => "backend",
            Self::Gateway => "gateway",
        })
    }
}

impl Stop {
    /// A denial for `code`.
    pub fn deny(code: Code, detail: impl Into<String>) -> Self {
        Self::Deny(Denial {
            code,
            detail: detail.into(),
        })
    }

    /// A fault on `side` for `code`.
    pub fn fail(code: Code, side: Side, detail: impl Into<String>) -> Self {
        Self::Fail(Fault {
            code,
            side,
            detail: detail.into(),
        })
    }

    /// A denial for `code` that is over `after` a while.
    pub fn later(code: Code, detail: impl Into<String>, after: Duration) -> Self {
        let detail = detail.into();
        Self::Later {
            denial: Denial { code, detail },
            after,
        }
    }

    /// An answer that is no refusal.
    #[must_use]
    pub fn reply(response: Response<Body>) -> Self {
        Self::Reply(Box::new(response))
    }
}

macro_rules! codes {
    ($($name:ident $text:literal $status:ident, $check:literal;)*) => {
        /// A stable reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = concat!("`", $text, "`: ", $check)]
                $name,
            )*
        }

        impl Code {
            /// All codes, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kebab-case name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status of the answer.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// What an administrator should look at.
            #[must_use]
            pub const fn check(self) -> &'static str {
                match self { $(Self::$name => $check),* }
            }
        }
    };
}

// name, stable text, status, what the administrator should check.
// The visitor's sentence lives in the pages' language files, one for each code; a test holds that.
codes! {
    // listener and route
    BadRequest "bad-request" BAD_REQUEST, "the client sent a request that HTTP forbids or that could be read in two ways";
    TargetRefused "target-refused" BAD_REQUEST, "the path holds an encoded slash, a backslash, `..;` or a bad escape: such a path could mean two things to two programs";
    HostUnknown "host-unknown" NOT_FOUND, "no application is published under this host name; compare with `published_url`";
    PathUnknown "path-unknown" NOT_FOUND, "the host is published, but not this path";
    ResourceElsewhere "resource-elsewhere" BAD_GATEWAY, "`Destination` or `If` names a resource that is not at the same address of the same application: COPY and MOVE lead nowhere else (RFC 4918 9.8.5)";
    HostMismatch "host-mismatch" MISDIRECTED_REQUEST, "`:authority` and `Host` disagree, or name no host (two programs would read two hosts); or the connection was made for a host with another certificate";
    MethodRefused "method-refused" METHOD_NOT_ALLOWED, "TRACE (TRACK) and CONNECT are never forwarded";
    UpgradeRefused "upgrade-refused" NOT_IMPLEMENTED, "the application does not allow protocol upgrades";
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE, "the request body is above the application's `max_body`";
    HeaderTooLarge "header-too-large" REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's headers are above the listener's limit";
    ClientGone "client-gone" BAD_REQUEST, "the client went away in the middle of its request; nobody reads the answer";
    AddressDenied "address-denied" FORBIDDEN, "`[addresses]` of the gateway or of the application keeps the client's address out";
    ForwardedRefused "forwarded-refused" BAD_REQUEST, "a listed proxy's Forwarded or X-Forwarded-For names no address; see `listener.forwarded_from`";
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS, "a rate in `[rates]` of the gateway or of the application is used up; the log names it";
    TooManyConcurrent "too-many-concurrent" TOO_MANY_REQUESTS, "as many requests as `[rates]` allows are being served for this person or address";
    TotalTimeout "total-timeout" GATEWAY_TIMEOUT, "the request took longer than the application's `total`";
    Maintenance "maintenance" SERVICE_UNAVAILABLE, "the application, or the whole gateway, has a `[maintenance]` section; remove it to open again";
    RequestTimeout "request-timeout" REQUEST_TIMEOUT, "the client stopped sending";
    // authn
    SignInRequired "sign-in-required" UNAUTHORIZED, "no session; a page navigation would have been sent to sign-in";
    SessionExpired "session-expired" UNAUTHORIZED, "the session's idle or absolute lifetime ended";
    FormNotKept "form-not-kept" UNAUTHORIZED, "the session had ended, and the form could not be kept: it is larger than the application's `keep_form`, was not sent by the application's own page, or the store keeps too many";
    FormOfAnother "form-of-another" CONFLICT, "a form was kept for one person, and another one signed in; it was discarded";
    SessionEnded "session-ended" UNAUTHORIZED, "the person signed out, or an administrator ended the session";
    CookieDuplicate "cookie-duplicate" BAD_REQUEST, "two cookies of the same name: one of them was planted; clear the site's cookies";
    SignInStateUnknown "sign-in-state-unknown" BAD_REQUEST, "the sign-in was already used, is older than its limit, or began in another browser";
    SignInParameterDuplicate "sign-in-parameter-duplicate" BAD_REQUEST, "a security parameter came twice";
    SignInRefused "sign-in-refused" FORBIDDEN, "the identity provider refused; its error code is in the log";
    SignInCodeRefused "sign-in-code-refused" BAD_REQUEST, "the token endpoint refused the authorization code";
    SignInLoop "sign-in-loop" BAD_REQUEST, "three sign-ins in a row did not lead to a session: does the browser refuse cookies?";
    HandoverRefused "handover-refused" BAD_REQUEST, "the hand-over code was used, is too old, or belongs to another browser or host";
    IssuerUnreachable "issuer-unreachable" SERVICE_UNAVAILABLE, "metadata, keys or token endpoint of the issuer did not answer";
    IssuerMisconfigured "issuer-misconfigured" BAD_GATEWAY, "the issuer's metadata does not fit the configuration (issuer, client id, secret)";
    TokenMalformed "token-malformed" UNAUTHORIZED, "the token is not a JWT of three base64url parts";
    TokenAlgorithmRefused "token-algorithm-refused" UNAUTHORIZED, "the token's `alg` is not the configured one";
    TokenKeyUnknown "token-key-unknown" UNAUTHORIZED, "no published key has the token's `kid`";
    TokenSignatureBad "token-signature-bad" UNAUTHORIZED, "the signature does not fit the token";
    TokenIssuerWrong "token-issuer-wrong" UNAUTHORIZED, "`iss` or `tid` is not the configured tenant's";
    TokenAudienceWrong "token-audience-wrong" UNAUTHORIZED, "`aud` or `azp` is not ours";
    TokenExpired "token-expired" UNAUTHORIZED, "`exp` has passed; compare the clocks";
    TokenNotYetValid "token-not-yet-valid" UNAUTHORIZED, "`nbf` or `iat` lies in the future; compare the clocks";
    TokenNonceWrong "token-nonce-wrong" UNAUTHORIZED, "`nonce` is not the one of this sign-in";
    TokenClaimMissing "token-claim-missing" UNAUTHORIZED, "`tid`, `oid` or another required claim is absent: is the `profile` scope granted?";
    TokenWithoutPerson "token-without-person" FORBIDDEN, "an app-only token names no person to act for";
    BearerNotAccepted "bearer-not-accepted" UNAUTHORIZED, "this application has no bearer audience configured";
    PersonDisabled "person-disabled" FORBIDDEN, "the identity provider no longer renews this person's sign-in: disabled, deleted or revoked";
    StoreUnavailable "store-unavailable" SERVICE_UNAVAILABLE, "the session store does not answer; see the log for its path and error";
    Overloaded "overloaded" SERVICE_UNAVAILABLE, "a bounded queue is full; the log names it";
    // authz
    NotAllowed "not-allowed" FORBIDDEN, "no `allow` rule of the application fits: app role, group, tenant or kind of person";
    DenyRule "deny-rule" FORBIDDEN, "a `deny` rule of the application fits";
    GuestsDenied "guests-denied" FORBIDDEN, "the application has `guests = \"deny\"`";
    TenantDenied "tenant-denied" FORBIDDEN, "the person's home tenant is not in `home_tenants`";
    GroupsUnknown "groups-unknown" SERVICE_UNAVAILABLE, "the token has a group overage and Graph could not be asked";
    ForeignOrigin "foreign-origin" FORBIDDEN, "the request carries a session but comes from another site's page";
    // mapping
    AccountMissing "account-missing" FORBIDDEN, "no account with the person's anchor or SID under `account_bases`";
    AccountAmbiguous "account-ambiguous" FORBIDDEN, "several accounts carry the same anchor or SID: remove the wrong one's";
    AccountDisabled "account-disabled" FORBIDDEN, "the account is disabled";
    AccountLocked "account-locked" FORBIDDEN, "the account is locked out";
    AccountExpired "account-expired" FORBIDDEN, "`accountExpires` has passed";
    AccountOutsideFence "account-outside-fence" FORBIDDEN, "the account is not under `account_bases`, or is no user account";
    AccountPrivileged "account-privileged" FORBIDDEN, "adminCount = 1 or member of a privileged group: never impersonated";
    AccountProtected "account-protected" FORBIDDEN, "member of Protected Users: never impersonated";
    AccountNotDelegable "account-not-delegable" FORBIDDEN, "marked \"sensitive and cannot be delegated\"";
    AccountConflict "account-conflict" FORBIDDEN, "an object without the person's anchor holds the shadow account's name";
    ProvisioningDenied "provisioning-denied" FORBIDDEN, "there is no account and the application's `guests` is not \"provision\"";
    ProvisioningFailed "provisioning-failed" SERVICE_UNAVAILABLE, "the directory refused to make the account: rights on the OU, quota, schema; see the log";
    DirectoryUnreachable "directory-unreachable" SERVICE_UNAVAILABLE, "no domain controller answered LDAPS";
    DirectoryRefused "directory-refused" SERVICE_UNAVAILABLE, "the directory refused bind or search; see the log";
    GroupOutsideOu "group-outside-ou" SERVICE_UNAVAILABLE, "a mapped AD group is not under `groups_ou`";
    // sso
    KdcUnreachable "kdc-unreachable" SERVICE_UNAVAILABLE, "no KDC of the realm answered";
    KdcBusy "kdc-busy" SERVICE_UNAVAILABLE, "all Kerberos threads are busy and the queue is full";
    KeytabUnusable "keytab-unusable" SERVICE_UNAVAILABLE, "the gateway's keytab is unreadable, of another account, or older than the account's password";
    PrincipalUnknown "principal-unknown" BAD_GATEWAY, "the KDC does not know the account (not yet replicated?)";
    SpnUnknown "spn-unknown" BAD_GATEWAY, "the backend's SPN is registered on no account, or on two";
    DelegationRefused "delegation-refused" BAD_GATEWAY, "the KDC refuses delegation to the SPN: msDS-AllowedToDelegateTo, RBCD, protocol transition";
    KdcRefused "kdc-refused" BAD_GATEWAY, "the KDC refused; `kerbgate doctor` names the cause";
    ClockSkew "clock-skew" SERVICE_UNAVAILABLE, "clocks differ by more than five minutes";
    IdentityMismatch "identity-mismatch" BAD_GATEWAY, "the ticket names somebody else than asked for; nothing was sent";
    // forward
    BackendUnreachable "backend-unreachable" BAD_GATEWAY, "the backend refuses or drops connections";
    BackendTls "backend-tls" BAD_GATEWAY, "the backend's certificate does not verify: name, authority or date";
    BackendTimeout "backend-timeout" GATEWAY_TIMEOUT, "the backend did not begin to answer in time";
    BackendQueueFull "backend-queue-full" SERVICE_UNAVAILABLE, "every server has its `max_connections`, and `[balance.queue] length` requests wait: the servers are slow, or too few";
    BackendQueueTimeout "backend-queue-timeout" SERVICE_UNAVAILABLE, "every server had its `max_connections` for as long as `[balance.queue] timeout`: the servers are slow, or too few";
    BackendProtocol "backend-protocol" BAD_GATEWAY, "the backend's answer is no sound HTTP";
    TicketRefused "ticket-refused" BAD_GATEWAY, "the backend answered 401 to the ticket: SPN on the wrong account, old keytab, kernel-mode authentication, clock";
    Internal "internal-error" INTERNAL_SERVER_ERROR, "a defect in Kerbgate; the log has the details";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_refusals() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} twice");
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{text}"
            );
            assert!(code.status().as_u16() >= 400, "{text}");
            assert!(!code.check().is_empty(), "{text}");
        }
    }
}
