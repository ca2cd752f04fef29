//! From a code and the step at which it came to cause, check and the command that fixes it.
//!
//! One table feeds the log, the error page's code, `kerbgate doctor` and the documentation. The same code
//! means different things at different steps: 6 (client unknown) is the gateway's account while the ticket
//! from the keytab is fetched, and the guest's shadow account one step later. Sources: RFC 4120 7.5.9,
//! MS-SFU, Microsoft's troubleshooting of application proxy and KCD, and what Samba's KDC was seen to answer.

use super::error::Error;
use super::error::GssError;
use super::error::Step;
use super::error::Step::AcquireTgt;
use super::error::Step::BackendRefused;
use super::error::Step::InitContext;
use super::error::Step::MutualAuth;
use super::error::Step::S4u2Proxy;
use super::error::Step::S4u2Self;

/// The coarse reason; the corridor turns each into one of its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No KDC answered in time.
    KdcUnreachable,
    /// Our own queue is full.
    Busy,
    /// The gateway cannot log in with its keytab.
    KeytabUnusable,
    /// The KDC does not know the client.
    PrincipalUnknown,
    /// The client's account may not log on: disabled, locked, expired, policy.
    PrincipalRefused,
    /// The SPN belongs to nobody, or to two.
    SpnUnknown,
    /// The KDC refuses delegation.
    DelegationRefused,
    /// The KDC refused for another reason.
    KdcRefused,
    /// Clocks differ.
    ClockSkew,
    /// A ticket in another name than asked for.
    IdentityMismatch,
    /// The backend did not take the ticket or did not prove who it is.
    TicketRefused,
    /// The gateway was set up or behaves wrongly.
    Gateway,
}

/// A cause with its remedy, names filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Stable kebab-case code.
    pub code: &'static str,
    /// The coarse reason.
    pub kind: Kind,
    /// What has happened, in one sentence.
    pub cause: String,
    /// What to look at.
    pub check: String,
    /// Commands that fix it (PowerShell or Windows tools unless said otherwise); empty if there is none.
    pub fix: String,
}

/// What else the table knows: other systems' names for the same trouble.
#[derive(Debug)]
pub struct Row {
    /// Stable kebab-case code.
    pub code: &'static str,
    /// The coarse reason.
    pub kind: Kind,
    /// The steps at which the row applies; empty: at every step.
    steps: &'static [Step],
    /// Offsets in the krb5 error table: up to 127 the code of RFC 4120 7.5.9, above it libkrb5's own.
    offsets: &'static [u8],
    /// Names under which SSPI, event logs and Microsoft's pages know it.
    pub aliases: &'static [&'static str],
    cause: &'static str,
    check: &'static str,
    fix: &'static str,
}

/// The row that another system's name stands for: an SSPI code, an event id, a Kerberos error's name.
#[must_use]
pub fn by_alias(alias: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.code == alias
            || row
                .aliases
                .iter()
                .any(|known| known.eq_ignore_ascii_case(alias))
    })
}

/// The row with this code.
#[must_use]
pub fn by_code(code: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.code == code)
}

/// Every row, for the documentation.
#[must_use]
pub const fn table() -> &'static [Row] {
    ROWS
}

impl Row {
    /// The row with its names filled in: `{client}`, `{client_name}`, `{spn}`, `{host}`, `{realm}`, `{gateway}`.
    #[must_use]
    pub fn fill(&self, names: &Names<'_>) -> Diagnosis {
        Diagnosis {
            code: self.code,
            kind: self.kind,
            cause: names.fill(self.cause),
            check: names.fill(self.check),
            fix: names.fill(self.fix),
        }
    }
}

/// The names that a check or command mentions. What is not known stays as `<placeholder>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// The client, `name@REALM`.
    pub client: Option<&'a str>,
    /// The service.
    pub spn: Option<&'a str>,
    /// The gateway's account, `sAMAccountName`.
    pub gateway: Option<&'a str>,
}

impl Names<'_> {
    fn fill(&self, template: &str) -> String {
        let (name, realm) = self
            .client
            .and_then(|client| client.rsplit_once('@'))
            .unwrap_or(("<account>", "<REALM>"));
        let spn = self.spn.unwrap_or("<spn>");
        let host = spn
            .split_once('/')
            .map_or("<backend host>", |(_, host)| host);
        template
            .replace("{client_name}", name)
            .replace("{client}", self.client.unwrap_or("<account>@<REALM>"))
            .replace("{spn}", spn)
            .replace("{host}", host)
            .replace("{realm}", realm)
            .replace("{gateway}", self.gateway.unwrap_or("<gateway account>"))
    }
}

/// The diagnosis of an error, the gateway's account not being known.
pub(super) fn diagnose(error: &Error) -> Diagnosis {
    diagnose_as(error, None)
}

/// The diagnosis of an error, with the gateway's account named in commands.
#[must_use]
pub fn diagnose_as(error: &Error, gateway: Option<&str>) -> Diagnosis {
    let (row, client, spn) = match error {
        Error::Gss(gss) => (
            row_of(gss),
            Some(gss.principal.as_str()),
            gss.spn.as_ref().map(|spn| spn.as_str()),
        ),
        Error::Keytab(_) => (named("keytab-unusable"), None, None),
        Error::Setup { .. } => (named("ambient-credentials"), None, None),
        Error::Busy { .. } => (named("kerberos-busy"), None, None),
        Error::Deadline { principal, .. } => (named("kdc-timeout"), Some(principal.as_str()), None),
        Error::KdcUnreachable { .. } => (named("kdc-unreachable"), None, None),
        Error::IdentityMismatch { asked, .. } => {
            (named("identity-mismatch"), Some(asked.as_str()), None)
        }
        Error::MechanismMissing { principal, .. } => {
            (named("mechanism-missing"), Some(principal.as_str()), None)
        }
        Error::Purged { principal } => (named("tickets-purged"), Some(principal.as_str()), None),
        Error::BackendUnproved { spn, principal, .. } => (
            named("backend-unproved"),
            Some(principal.as_str()),
            Some(spn.as_str()),
        ),
    };
    // At the step of its own ticket the client *is* the gateway.
    let own = match error.step() {
        Some(AcquireTgt) => client.and_then(|name| name.split_once('@').map(|(name, _)| name)),
        Some(S4u2Self | S4u2Proxy | InitContext | MutualAuth | BackendRefused) | None => None,
    };
    row.fill(&Names {
        client,
        spn,
        gateway: gateway.or(own),
    })
}

fn row_of(error: &GssError) -> &'static Row {
    const BADOPTION: u8 = 13;
    let Some(offset) = error.krb5_offset() else {
        return named("gss-failure");
    };
    // The evidence tells apart what the KDC's one code does not.
    if error.step == S4u2Proxy && offset == BADOPTION && error.evidence_forwardable == Some(false) {
        return named("evidence-not-forwardable");
    }
    row_at(error.step, offset).unwrap_or_else(|| named("kdc-refused"))
}

fn row_at(step: Step, offset: u8) -> Option<&'static Row> {
    ROWS.iter()
        .filter(|row| row.offsets.contains(&offset))
        .find(|row| row.steps.is_empty() || row.steps.contains(&step))
}

fn named(code: &str) -> &'static Row {
    by_code(code).unwrap_or(&LAST)
}

const LAST: Row = Row {
    code: "gss-failure",
    kind: Kind::KdcRefused,
    steps: &[],
    offsets: &[],
    aliases: &[],
    cause: "libkrb5 failed for a reason that has no row of its own",
    check: "the text of the error; KRB5_TRACE=/dev/stderr with kerbgate doctor shows every packet",
    fix: "",
};

const ROWS: &[Row] = &[
    // The gateway's own ticket.
    Row {
        code: "gateway-account-unknown",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[6],
        aliases: &["KDC_ERR_C_PRINCIPAL_UNKNOWN at AS-REQ"],
        cause: "the realm has no account with the gateway's principal",
        check: "that `principal` in the configuration is the gateway account's sAMAccountName@{realm}, in the same spelling as in the keytab",
        fix: "Get-ADUser -Identity {gateway} -Properties ServicePrincipalName,Enabled",
    },
    Row {
        code: "gateway-account-revoked",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[18, 1],
        aliases: &["KDC_ERR_CLIENT_REVOKED at AS-REQ"],
        cause: "the gateway's account is disabled, locked or expired",
        check: "the account's state in the directory",
        fix: "Enable-ADAccount {gateway}; Unlock-ADAccount {gateway}; Clear-ADAccountExpiration {gateway}",
    },
    Row {
        code: "gateway-password-expired",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[23],
        aliases: &["KDC_ERR_KEY_EXPIRED at AS-REQ"],
        cause: "the password of the gateway's account has expired",
        check: "pwdLastSet and the domain's password policy",
        fix: "Set-ADUser {gateway} -PasswordNeverExpires $true",
    },
    Row {
        code: "gateway-keytab-stale",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[24, 31, 210],
        aliases: &["KDC_ERR_PREAUTH_FAILED", "event 4771 0x18"],
        cause: "the key in the keytab is not the account's: the password was changed after the keytab was made",
        check: "the keytab's key version (klist -kte) against msDS-KeyVersionNumber of {gateway}; a keytab must be made after the last change of the password and of msDS-SupportedEncryptionTypes",
        fix: "ktpass /out gateway.keytab /princ {gateway}@{realm} /mapuser {gateway} /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass *\nsamba-tool domain exportkeytab gateway.keytab --principal={gateway}   (Samba)",
    },
    Row {
        code: "keytab-unusable",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[181, 184, 230, 235],
        aliases: &["KRB5_KT_NOTFOUND"],
        cause: "the keytab cannot be read, is no keytab, or has no usable key of the gateway's principal",
        check: "the file named in the error: owner, mode 0600, principal and key types (klist -kte)",
        fix: "chown kerbgate: gateway.keytab; chmod 0600 gateway.keytab",
    },
    Row {
        code: "gateway-enctype-unsupported",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[14, 150, 237],
        aliases: &["0x80090342 at logon", "SEC_E_KDC_UNKNOWN_ETYPE at logon"],
        cause: "the KDC and the keytab have no encryption type in common: the account has no AES keys",
        check: "msDS-SupportedEncryptionTypes of {gateway} (24 = AES128 and AES256), set *before* the password was last set",
        fix: "Set-ADUser {gateway} -KerberosEncryptionType AES128,AES256\nthen set its password again and make a new keytab",
    },
    Row {
        code: "gateway-account-policy",
        kind: Kind::KeytabUnusable,
        steps: &[AcquireTgt],
        offsets: &[12, 9],
        aliases: &["KDC_ERR_POLICY at AS-REQ"],
        cause: "a policy forbids the gateway's account to log on from here now",
        check: "logon hours, logon workstations and authentication policy silo of {gateway}",
        fix: "Get-ADUser {gateway} -Properties logonHours,userWorkstations,msDS-AssignedAuthNPolicySilo",
    },
    Row {
        code: "preauth-required",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[25],
        aliases: &["KDC_ERR_PREAUTH_REQUIRED", "event 4768 0x19"],
        cause: "the KDC's normal first answer; nothing is wrong unless it is the last one",
        check: "nothing: the client answers it by itself",
        fix: "",
    },
    // Protocol transition.
    Row {
        code: "principal-unknown",
        kind: Kind::PrincipalUnknown,
        steps: &[S4u2Self],
        offsets: &[6],
        aliases: &["KDC_ERR_C_PRINCIPAL_UNKNOWN", "0x6", "event 4768 0x6"],
        cause: "the KDC knows no account {client}: deleted, renamed, or made a moment ago on another domain controller",
        check: "that the account exists on the domain controller that was asked; replication takes seconds within a site and longer between sites",
        fix: "Get-ADUser -Identity {client_name} -Server <KDC>\nrepadmin /syncall",
    },
    Row {
        code: "gateway-without-spn",
        kind: Kind::SpnUnknown,
        steps: &[S4u2Self],
        offsets: &[7],
        aliases: &["KDC_ERR_S_PRINCIPAL_UNKNOWN at S4U2Self"],
        cause: "the gateway's own account has no SPN, so no ticket can be made out to it",
        check: "servicePrincipalName of {gateway}: S4U2Self needs at least one",
        fix: "setspn -S HTTP/<gateway host> {gateway}",
    },
    Row {
        code: "protocol-transition-refused",
        kind: Kind::DelegationRefused,
        steps: &[S4u2Self],
        offsets: &[13],
        aliases: &["KDC_ERR_BADOPTION at S4U2Self"],
        cause: "the KDC does not make out tickets in other people's names for the gateway's account",
        check: "that the account is a user or managed service account with an SPN and that delegation is \"any authentication protocol\"",
        fix: "Set-ADAccountControl {gateway} -TrustedToAuthForDelegation $true",
    },
    Row {
        code: "principal-revoked",
        kind: Kind::PrincipalRefused,
        steps: &[S4u2Self, S4u2Proxy],
        offsets: &[18, 1, 2],
        aliases: &["KDC_ERR_CLIENT_REVOKED", "0x12", "event 4768 0x12"],
        cause: "the account is disabled, locked or expired",
        check: "the state of {client_name}; for a guest also whether the guest was disabled in the cloud and the account followed",
        fix: "Enable-ADAccount {client_name}; Unlock-ADAccount {client_name}; Clear-ADAccountExpiration {client_name}",
    },
    Row {
        code: "principal-password-expired",
        kind: Kind::PrincipalRefused,
        steps: &[S4u2Self, S4u2Proxy],
        offsets: &[23],
        aliases: &["KDC_ERR_KEY_EXPIRED", "0x17"],
        cause: "the account's password has expired or must be changed; a domain controller checks that for S4U as well",
        check: "userAccountControl of {client_name}: a shadow account needs 328192 (smart card required, password never expires); 262656 lacks the second half",
        fix: "Set-ADUser {client_name} -PasswordNeverExpires $true -ChangePasswordAtLogon $false",
    },
    Row {
        code: "principal-policy",
        kind: Kind::PrincipalRefused,
        steps: &[S4u2Self, S4u2Proxy],
        offsets: &[12],
        aliases: &["KDC_ERR_POLICY", "0xC", "SEC_E_LOGON_DENIED", "0x8009030c"],
        cause: "a policy forbids the account to log on: disabled, logon hours, workstation restriction, authentication policy silo",
        check: "state, logon hours, logon workstations and silo of {client_name}",
        fix: "Get-ADUser {client_name} -Properties Enabled,logonHours,userWorkstations,msDS-AssignedAuthNPolicySilo",
    },
    Row {
        code: "principal-not-unique",
        kind: Kind::PrincipalUnknown,
        steps: &[S4u2Self],
        offsets: &[8],
        aliases: &["KDC_ERR_PRINCIPAL_NOT_UNIQUE at S4U2Self"],
        cause: "two accounts answer to the name: a userPrincipalName equals another account's implicit one",
        check: "every account whose sAMAccountName or userPrincipalName is {client}",
        fix: "Get-ADObject -LDAPFilter '(|(sAMAccountName={client_name})(userPrincipalName={client}))'",
    },
    // Constrained delegation.
    Row {
        code: "spn-unknown",
        kind: Kind::SpnUnknown,
        steps: &[S4u2Proxy, InitContext],
        offsets: &[7, 155],
        aliases: &[
            "KDC_ERR_S_PRINCIPAL_UNKNOWN",
            "0x7",
            "SEC_E_TARGET_UNKNOWN",
            "0x80090303",
            "event 13019",
            "event 12027",
            "page: The website cannot display the page",
        ],
        cause: "no account has the SPN, or two have it",
        check: "who owns {spn}: exactly one account, the one under which the backend's service runs; with a port only if the client asks with one; an alias (CNAME) is a different SPN",
        fix: "setspn -Q {spn}\nsetspn -X\nsetspn -S {spn} <account of the backend's service>",
    },
    Row {
        code: "spn-duplicate",
        kind: Kind::SpnUnknown,
        steps: &[S4u2Proxy, InitContext],
        offsets: &[8],
        aliases: &["KDC_ERR_PRINCIPAL_NOT_UNIQUE", "0x8", "event 11"],
        cause: "several accounts have the SPN; several servers of one application need one account in common",
        check: "every owner of {spn}",
        fix: "setspn -X\nsetspn -D {spn} <the wrong account>",
    },
    Row {
        code: "delegation-refused",
        kind: Kind::DelegationRefused,
        steps: &[S4u2Proxy],
        offsets: &[13],
        aliases: &[
            "KDC_ERR_BADOPTION",
            "0xD",
            "SEC_E_NO_CREDENTIALS",
            "0x8009030e",
            "event 24029",
            "page: Incorrect Kerberos constrained delegation configuration",
        ],
        cause: "the KDC refuses delegation: the SPN is on nobody's list, or the account must not be delegated",
        check: "1. classic: {spn} is in msDS-AllowedToDelegateTo of {gateway}; or resource-based: {gateway} is in msDS-AllowedToActOnBehalfOfOtherIdentity of the backend's account. 2. delegation is \"any authentication protocol\", not \"Kerberos only\". 3. {client_name} is not marked \"sensitive and cannot be delegated\" and not in Protected Users. 4. krbtgt is not marked so either. A change takes up to 15 minutes: KDCs cache refusals and replicate.",
        fix: "Set-ADUser {gateway} -Add @{'msDS-AllowedToDelegateTo'='{spn}'}; Set-ADAccountControl {gateway} -TrustedToAuthForDelegation $true\nor: Set-ADUser <backend's account> -PrincipalsAllowedToDelegateToAccount {gateway}\nSamba: samba-tool delegation add-service {gateway} {spn}; samba-tool delegation for-any-protocol {gateway} on",
    },
    Row {
        code: "evidence-not-forwardable",
        kind: Kind::DelegationRefused,
        steps: &[S4u2Proxy],
        offsets: &[221],
        aliases: &["KRB5_TKT_NOT_FORWARDABLE"],
        cause: "the ticket that proves the client to the KDC is not forwardable, so it refuses delegation",
        check: "1. {client_name} is not marked \"sensitive and cannot be delegated\" and not in Protected Users. 2. delegation of {gateway} is \"any authentication protocol\" (TrustedToAuthForDelegation). 3. krbtgt is not marked as not delegable (clear it and restart the domain controllers).",
        fix: "Get-ADUser {client_name} -Properties AccountNotDelegated,MemberOf\nSet-ADAccountControl {gateway} -TrustedToAuthForDelegation $true\nSet-ADAccountControl krbtgt -AccountNotDelegated $false",
    },
    Row {
        code: "backend-enctype-unsupported",
        kind: Kind::KdcRefused,
        steps: &[S4u2Self, S4u2Proxy, InitContext],
        offsets: &[14, 150, 237],
        aliases: &[
            "KDC_ERR_ETYPE_NOSUPP",
            "0xE",
            "SEC_E_KDC_UNKNOWN_ETYPE",
            "0x80090342",
        ],
        cause: "the service's account has no AES keys, and RC4 is off",
        check: "msDS-SupportedEncryptionTypes of the account that owns {spn} (24 = AES), and that its password was set after that",
        fix: "Set-ADUser <backend's account> -KerberosEncryptionType AES128,AES256\nthen set its password again; on the backend make a new keytab or restart its service",
    },
    Row {
        code: "backend-account-revoked",
        kind: Kind::KdcRefused,
        steps: &[S4u2Proxy, InitContext],
        offsets: &[19],
        aliases: &["KDC_ERR_SERVICE_REVOKED"],
        cause: "the account that owns the SPN is disabled or locked",
        check: "the owner of {spn}",
        fix: "setspn -Q {spn}\nEnable-ADAccount <backend's account>",
    },
    Row {
        code: "evidence-invalid",
        kind: Kind::KdcRefused,
        steps: &[S4u2Proxy],
        offsets: &[31, 41],
        aliases: &["KRB_AP_ERR_BAD_INTEGRITY at S4U2Proxy"],
        cause: "the KDC cannot decrypt the evidence ticket: the gateway's password was changed since it was made",
        check: "whether {gateway} was re-keyed; the gateway fetches new tickets as soon as the keytab file changes",
        fix: "install the new keytab of {gateway}",
    },
    // The backend.
    Row {
        code: "spn-on-wrong-account",
        kind: Kind::TicketRefused,
        steps: &[BackendRefused],
        offsets: &[31, 35, 41, 44, 45],
        aliases: &[
            "KRB_AP_ERR_MODIFIED",
            "0x29",
            "SEC_E_WRONG_PRINCIPAL",
            "0x80090322",
            "event 4 Security-Kerberos",
        ],
        cause: "the ticket is encrypted for another account than the one under which the backend runs, or for an older password of it",
        check: "the owner of {spn} against the identity of the backend's service; IIS with kernel-mode authentication uses the machine account unless useAppPoolCredentials is true; a keytab on the backend must have the account's newest key version",
        fix: "setspn -Q {spn}\nappcmd set config /section:windowsAuthentication /useAppPoolCredentials:true",
    },
    Row {
        code: "backend-refused-ticket",
        kind: Kind::TicketRefused,
        steps: &[BackendRefused],
        offsets: &[],
        aliases: &["event 12008", "event 13022", "401 to Negotiate"],
        cause: "the backend answered 401 to a Kerberos ticket",
        check: "on the backend: Negotiate stands above NTLM in the providers; the service's account owns {spn}; kernel-mode authentication; Extended Protection (switch it off as a test); clock; its own log",
        fix: "setspn -Q {spn}\nappcmd list config /section:windowsAuthentication",
    },
    Row {
        code: "backend-offers-ntlm-only",
        kind: Kind::TicketRefused,
        steps: &[BackendRefused],
        offsets: &[],
        aliases: &["TlRMTVNTUAAB"],
        cause: "the backend offers NTLM and no Negotiate; Kerberos cannot be used with it",
        check: "the providers of Windows authentication on the backend: Negotiate must be enabled and first",
        fix: "appcmd set config /section:windowsAuthentication /+providers.[value='Negotiate']",
    },
    Row {
        code: "backend-header-too-long",
        kind: Kind::TicketRefused,
        steps: &[BackendRefused],
        offsets: &[],
        aliases: &["HTTP 400 request header too long"],
        cause: "the ticket is too long for the backend: the account is in very many groups",
        check: "the number of groups of {client_name}; MaxFieldLength and MaxRequestBytes of http.sys, LimitRequestFieldSize of Apache",
        fix: "reg add HKLM\\SYSTEM\\CurrentControlSet\\Services\\HTTP\\Parameters /v MaxFieldLength /t REG_DWORD /d 65534",
    },
    Row {
        code: "backend-unproved",
        kind: Kind::TicketRefused,
        steps: &[MutualAuth],
        offsets: &[31, 36, 41, 147, 158],
        aliases: &["KRB5_MUTUAL_FAILED"],
        cause: "the backend took the ticket but did not prove that it holds the service's key",
        check: "whether something between us and the backend answers in its place; whether the backend sends WWW-Authenticate with its 200",
        fix: "",
    },
    Row {
        code: "ticket-replayed",
        kind: Kind::TicketRefused,
        steps: &[MutualAuth, BackendRefused],
        offsets: &[34],
        aliases: &["KRB_AP_ERR_REPEAT"],
        cause: "the backend has seen this very token before",
        check: "whether something between us and the backend sends requests twice",
        fix: "",
    },
    // At every step.
    Row {
        code: "clock-skew",
        kind: Kind::ClockSkew,
        steps: &[],
        offsets: &[32, 33, 37, 148],
        aliases: &["KRB_AP_ERR_SKEW", "0x25", "SEC_E_TIME_SKEW", "0x80090324"],
        cause: "clocks differ by more than five minutes",
        check: "the clocks of the gateway, the domain controllers and the backend",
        fix: "chronyc tracking\nw32tm /query /status; w32tm /resync",
    },
    Row {
        code: "response-too-big",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[52],
        aliases: &["KRB_ERR_RESPONSE_TOO_BIG", "0x34"],
        cause: "the KDC's answer does not fit a datagram",
        check: "that TCP port 88 is open between the gateway and every domain controller",
        fix: "Test-NetConnection <KDC> -Port 88",
    },
    Row {
        code: "kdc-generic",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[60],
        aliases: &["KRB_ERR_GENERIC", "0x3C"],
        cause: "the KDC failed for a reason it keeps to itself",
        check: "the domain controller's System and Security logs (4768 for logon, 4769 for tickets; \"Transited services\" set means delegation)",
        fix: "Get-WinEvent -ComputerName <KDC> -FilterHashtable @{LogName='Security';Id=4768,4769,4771} -MaxEvents 20",
    },
    Row {
        code: "wrong-realm",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[68, 154, 185],
        aliases: &["KDC_ERR_WRONG_REALM", "0x44", "KRB5_REALM_UNKNOWN"],
        cause: "the name belongs to another realm than the one that was asked",
        check: "the realm of {client} and of {spn}; for a trusted domain list its KDCs, and note that classic constrained delegation does not cross domains while resource-based does",
        fix: "nltest /domain_trusts",
    },
    Row {
        code: "gateway-keys-changed",
        kind: Kind::KeytabUnusable,
        steps: &[S4u2Self],
        offsets: &[20, 24, 31, 41],
        aliases: &["KDC_ERR_TGT_REVOKED"],
        cause: "the KDC no longer takes the gateway's own ticket: its account or the realm's key changed",
        check: "whether {gateway} was re-keyed or krbtgt reset; a fresh ticket is fetched on the next call",
        fix: "install the new keytab of {gateway}",
    },
    Row {
        code: "kdc-unreachable",
        kind: Kind::KdcUnreachable,
        steps: &[],
        offsets: &[29, 156, 220],
        aliases: &[
            "KRB5_KDC_UNREACH",
            "KDC_ERR_SVC_UNAVAILABLE",
            "SEC_E_NO_AUTHENTICATING_AUTHORITY",
            "0x80090311",
        ],
        cause: "no KDC of the realm answers on TCP port 88",
        check: "name resolution of the KDCs, firewall and IDS between the gateway and every domain controller, referral domains included",
        fix: "kerbgate doctor\nTest-NetConnection <KDC> -Port 88",
    },
    Row {
        code: "kdc-timeout",
        kind: Kind::KdcUnreachable,
        steps: &[],
        offsets: &[],
        aliases: &["page: connector timed out"],
        cause: "the KDC accepted the question and did not answer in time",
        check: "load of the domain controllers, and packet filters that let a connection be made but no data through",
        fix: "kerbgate doctor",
    },
    Row {
        code: "kdc-answer-forged",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[147, 36],
        aliases: &["KRB5_KDCREP_MODIFIED"],
        cause: "the KDC's answer does not fit the question: a KDC without S4U, or somebody in between",
        check: "which KDC answered, and that it is a domain controller",
        fix: "kerbgate doctor",
    },
    Row {
        code: "kdc-refused",
        kind: Kind::KdcRefused,
        steps: &[],
        offsets: &[],
        aliases: &["event 4769"],
        cause: "the KDC refused with a code that has no row of its own",
        check: "the code in RFC 4120 7.5.9, and the domain controller's log (4769 with \"Transited services\" set is S4U2Proxy)",
        fix: "",
    },
    // Ourselves.
    Row {
        code: "kerberos-busy",
        kind: Kind::Busy,
        steps: &[],
        offsets: &[],
        aliases: &[],
        cause: "more people arrive than the KDC serves: all Kerberos threads are busy and the queue is full",
        check: "the KDC's answer times in /metrics; then `threads` and `queue`",
        fix: "",
    },
    Row {
        code: "identity-mismatch",
        kind: Kind::IdentityMismatch,
        steps: &[],
        offsets: &[],
        aliases: &[],
        cause: "the ticket names somebody else than asked for; it was thrown away",
        check: "whether the KDC supports S4U (one that does not returns the gateway's own ticket), and whether {client_name} is the account's sAMAccountName",
        fix: "Get-ADUser -Identity {client_name}",
    },
    Row {
        code: "mechanism-missing",
        kind: Kind::Gateway,
        steps: &[],
        offsets: &[],
        aliases: &[],
        cause: "libkrb5 gave a credential without the Kerberos mechanism; it was thrown away",
        check: "interposers in /etc/gss/mech.d (gssproxy)",
        fix: "ls /etc/gss/mech.d",
    },
    Row {
        code: "tickets-purged",
        kind: Kind::Gateway,
        steps: &[],
        offsets: &[],
        aliases: &[],
        cause: "access was withdrawn while the ticket was being fetched",
        check: "nothing: the next request fetches a new one, or is refused",
        fix: "",
    },
    Row {
        code: "ambient-credentials",
        kind: Kind::Gateway,
        steps: &[],
        offsets: &[195, 141, 135, 136],
        aliases: &["KRB5_FCC_NOFILE"],
        cause: "the process has a Kerberos environment that is not the gateway's own",
        check: "KRB5_CONFIG, KRB5CCNAME, KRB5_KTNAME and KRB5_CLIENT_KTNAME of the process, and that its runtime folder is writable",
        fix: "systemctl restart kerbgate",
    },
    Row {
        code: "spn-not-configured",
        kind: Kind::SpnUnknown,
        steps: &[BackendRefused],
        offsets: &[],
        aliases: &["event 13020"],
        cause: "the application has no SPN configured",
        check: "`spn` under [sso.kerberos] of the application",
        fix: "kerbgate check",
    },
    Row {
        code: "identity-missing",
        kind: Kind::PrincipalUnknown,
        steps: &[BackendRefused],
        offsets: &[],
        aliases: &[
            "event 13016",
            "page: Forbidden: make sure the user is defined in on-premises AD",
        ],
        cause: "there is no on-premises account to ask a ticket for",
        check: "the person's shadow account, and that the gateway may read it",
        fix: "kerbgate explain --person <oid> --app <name>",
    },
    LAST,
];

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
