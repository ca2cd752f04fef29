//! The fence: for whom the gateway never asks a ticket, whatever the KDC would allow.
//!
//! Pure: in goes an account as read, out comes a reason. What cannot be read is never taken for "fine".

use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::model::names::Sid;
use crate::model::stop::Code;
use crate::model::stop::Denial;

/// What must be read of an account for [`judge`].
pub const ATTRIBUTES: [&str; 16] = [
    "objectClass",
    "objectSid",
    "objectGUID",
    "sAMAccountName",
    "userPrincipalName",
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "lockoutTime",
    "accountExpires",
    "adminCount",
    "primaryGroupID",
    "tokenGroups",
    "memberOf",
    "adminDescription",
    "msDS-ObjectSoa",
    "cn",
];

// MS-ADTS 2.2.16 userAccountControl bits.
const ACCOUNTDISABLE: i64 = 0x2;
const LOCKOUT: i64 = 0x10;
const NORMAL_ACCOUNT: i64 = 0x200;
const TRUST_ACCOUNTS: i64 = 0x800 | 0x1000 | 0x2000;
const NOT_DELEGATED: i64 = 0x10_0000;

const PROTECTED_USERS: u32 = 525;

/// Well-known relative ids of a domain's privileged groups (MS-DTYP 2.4.2.4).
const PRIVILEGED_RIDS: [(u32, &str); 11] = [
    (498, "Enterprise Read-only Domain Controllers"),
    (512, "Domain Admins"),
    (516, "Domain Controllers"),
    (517, "Cert Publishers"),
    (518, "Schema Admins"),
    (519, "Enterprise Admins"),
    (520, "Group Policy Creator Owners"),
    (521, "Read-only Domain Controllers"),
    (526, "Key Admins"),
    (527, "Enterprise Key Admins"),
    (502, "krbtgt"),
];

/// The same of the builtin domain.
const PRIVILEGED_BUILTIN: [(u32, &str); 7] = [
    (544, "Administrators"),
    (548, "Account Operators"),
    (549, "Server Operators"),
    (550, "Print Operators"),
    (551, "Backup Operators"),
    (552, "Replicator"),
    (557, "Incoming Forest Trust Builders"),
];

/// Accounts that are privileged by themselves.
const PRIVILEGED_ACCOUNTS: [(u32, &str); 3] =
    [(500, "Administrator"), (501, "Guest"), (502, "krbtgt")];

/// Says no, with the reason, to an account for which no ticket may be asked. `now` is Unix time.
///
/// # Errors
/// The first reason found: what kind of object, where it lies, privilege, state.
pub fn judge(account: &Entry, bases: &[Dn], now: i64) -> Result<(), Denial> {
    let dn = account.dn.to_string();
    let deny = |code, why: &str| {
        Err(Denial {
            code,
            detail: format!("{dn}: {why}"),
        })
    };
    let Some(control) = account.number("userAccountControl") else {
        return deny(
            Code::AccountOutsideFence,
            "userAccountControl cannot be read",
        );
    };
    if let Some(why) = no_person(account, control) {
        return deny(Code::AccountOutsideFence, why);
    }
    // Before its place: an account at rest in the disabled OU is refused for what it is.
    if control & ACCOUNTDISABLE != 0 {
        return deny(Code::AccountDisabled, "is disabled");
    }
    if !bases.iter().any(|base| account.dn.is_under(base)) {
        return deny(Code::AccountOutsideFence, "is under none of account_bases");
    }
    privilege(account)?;
    if control & NOT_DELEGATED != 0 {
        return deny(
            Code::AccountNotDelegable,
            "is marked \"sensitive and cannot be delegated\"",
        );
    }
    if is_locked(account) {
        return deny(Code::AccountLocked, "is locked out");
    }
    if has_expired(account, now) {
        return deny(Code::AccountExpired, "accountExpires has passed");
    }
    Ok(())
}

/// Says no to an account that an administrator's order must not change: no person's, not under `places`, or privileged.
/// Its state does not matter, it may be at rest.
///
/// # Errors
/// The first reason found.
pub fn may_change(account: &Entry, places: &[Dn]) -> Result<(), Denial> {
    may_list(account, places)?;
    privilege(account)
}

/// The part of [`may_change`] that can be told from a list, where controllers leave `tokenGroups` out.
///
/// # Errors
/// The first reason found.
pub fn may_list(account: &Entry, places: &[Dn]) -> Result<(), Denial> {
    let deny = |why: &str| {
        Err(Denial {
            code: Code::AccountOutsideFence,
            detail: String::from(why),
        })
    };
    let Some(control) = account.number("userAccountControl") else {
        return deny("userAccountControl cannot be read");
    };
    if let Some(why) = no_person(account, control) {
        return deny(why);
    }
    if !places.iter().any(|place| account.dn.is_under(place)) {
        return deny("is in none of the guests' units");
    }
    Ok(())
}

/// Whether the account is disabled; one whose state cannot be read counts as that.
#[must_use]
pub fn is_disabled(account: &Entry) -> bool {
    account
        .number("userAccountControl")
        .is_none_or(|control| control & ACCOUNTDISABLE != 0)
}

/// `userAccountControl` of the account with the bit for "disabled" set or not, all else as it is.
#[must_use]
pub fn control(account: &Entry, disabled: bool) -> i64 {
    let now = account
        .number("userAccountControl")
        .unwrap_or(NORMAL_ACCOUNT);
    if disabled {
        now | ACCOUNTDISABLE
    } else {
        now & !ACCOUNTDISABLE
    }
}

/// Why this is no person's account, if it is none.
fn no_person(account: &Entry, control: i64) -> Option<&'static str> {
    if !account.has("objectClass", "user") {
        return Some("is no user object");
    }
    let machine = [
        "computer",
        "msDS-ManagedServiceAccount",
        "msDS-GroupManagedServiceAccount",
        "msDS-DelegatedManagedServiceAccount",
    ];
    if machine
        .iter()
        .any(|class| account.has("objectClass", class))
    {
        return Some("is a computer or a managed service account");
    }
    let sam = account.text("sAMAccountName").unwrap_or("$");
    if control & TRUST_ACCOUNTS != 0 || control & NORMAL_ACCOUNT == 0 || sam.ends_with('$') {
        return Some("is no normal account");
    }
    None
}

fn privilege(account: &Entry) -> Result<(), Denial> {
    let dn = account.dn.to_string();
    let deny = |code, why: String| {
        Err(Denial {
            code,
            detail: format!("{dn}: {why}"),
        })
    };
    if account.number("adminCount").is_some_and(|count| count != 0) {
        return deny(Code::AccountPrivileged, String::from("adminCount is set"));
    }
    let Some(sid) = account.sid("objectSid") else {
        return deny(
            Code::AccountOutsideFence,
            String::from("objectSid cannot be read"),
        );
    };
    if let Some((_, name)) = PRIVILEGED_ACCOUNTS
        .iter()
        .find(|(rid, _)| *rid == sid.rid())
    {
        return deny(
            Code::AccountPrivileged,
            format!("is the built-in {name} account"),
        );
    }
    let token = account.values("tokenGroups");
    // Everybody is in at least one group: an empty answer means that it may not be read.
    if token.is_empty() {
        return deny(
            Code::AccountOutsideFence,
            String::from("tokenGroups cannot be read: grant the gateway read access"),
        );
    }
    let mut groups = Vec::new();
    for bytes in token {
        let Ok(group) = Sid::from_bytes(bytes) else {
            return deny(
                Code::AccountOutsideFence,
                String::from("tokenGroups is malformed"),
            );
        };
        groups.push(group);
    }
    let primary = account
        .number("primaryGroupID")
        .and_then(|rid| u32::try_from(rid).ok());
    let protected = groups
        .iter()
        .any(|group| in_domain(group) && group.rid() == PROTECTED_USERS);
    if protected || primary == Some(PROTECTED_USERS) {
        return deny(
            Code::AccountProtected,
            String::from("is a member of Protected Users"),
        );
    }
    let named = groups.iter().find_map(privileged_group).or_else(|| {
        let primary = primary?;
        let known = PRIVILEGED_RIDS.iter().find(|(rid, _)| *rid == primary)?;
        Some(known.1)
    });
    match named {
        Some(name) => deny(Code::AccountPrivileged, format!("is a member of {name}")),
        None => Ok(()),
    }
}

pub(super) fn privileged_group(group: &Sid) -> Option<&'static str> {
    let table: &[(u32, &'static str)] = if in_domain(group) {
        &PRIVILEGED_RIDS
    } else if group.as_str().starts_with("S-1-5-32-") {
        &PRIVILEGED_BUILTIN
    } else {
        return None;
    };
    let known = table.iter().find(|(rid, _)| *rid == group.rid())?;
    Some(known.1)
}

/// Any domain's: Enterprise Admins live in the forest's root domain.
fn in_domain(group: &Sid) -> bool {
    group.as_str().starts_with("S-1-5-21-")
}

/// Whether the account is locked out now.
#[must_use]
pub fn is_locked(account: &Entry) -> bool {
    match account.number("msDS-User-Account-Control-Computed") {
        // Computed by the controller: knows how long a lock-out lasts.
        Some(computed) => computed & LOCKOUT != 0,
        None => account.number("lockoutTime").is_some_and(|time| time != 0),
    }
}

/// Whether `accountExpires` has passed; 0 and the largest number mean never (MS-ADTS 2.2.24).
#[must_use]
pub fn has_expired(account: &Entry, now: i64) -> bool {
    account
        .file_time("accountExpires")
        .is_some_and(|time| time <= now)
}

/// Whether the gateway may write to this object: it carries the person's anchor, and its source of authority
/// is not set to another system (`msDS-ObjectSoa`, Entra's object enforcement).
#[must_use]
pub fn is_ours(account: &Entry, anchored: bool) -> bool {
    anchored && account.values("msDS-ObjectSoa").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const JANE: &str = "CN=kg-jane,OU=Guests,DC=contoso,DC=test";

    struct Sketch(Vec<(String, Vec<Vec<u8>>)>, &'static str);

    impl Sketch {
        fn jane() -> Self {
            Self(Vec::new(), JANE)
                .with("objectClass", &["top", "person", "user"])
                .with("sAMAccountName", &["kg-jane"])
                .with("userAccountControl", &["328192"])
                .with("primaryGroupID", &["513"])
                .sids("objectSid", &["S-1-5-21-1-2-3-1104"])
                .sids("tokenGroups", &["S-1-5-21-1-2-3-513", "S-1-5-32-545"])
        }

        fn with(mut self, name: &str, values: &[&str]) -> Self {
            self.0.retain(|(known, _)| known != name);
            let values = values
                .iter()
                .map(|value| value.as_bytes().to_vec())
                .collect();
            self.0.push((name.to_owned(), values));
            self
        }

        fn sids(mut self, name: &str, values: &[&str]) -> Self {
            self.0.retain(|(known, _)| known != name);
            let bytes = |text: &&str| text.parse::<Sid>().unwrap().to_bytes();
            self.0
                .push((name.to_owned(), values.iter().map(bytes).collect()));
            self
        }

        fn code(&self) -> &'static str {
            let owned: Vec<(&str, Vec<&[u8]>)> = self
                .0
                .iter()
                .map(|(name, values)| (name.as_str(), values.iter().map(Vec::as_slice).collect()))
                .collect();
            let parts: Vec<(&str, &[&[u8]])> = owned
                .iter()
                .map(|(name, values)| (*name, values.as_slice()))
                .collect();
            let entry = Entry::from_parts(self.1.parse().unwrap(), &parts);
            let bases = ["OU=Guests,DC=contoso,DC=test".parse().unwrap()];
            judge(&entry, &bases, NOW).map_or_else(|denial| denial.code.as_str(), |()| "ok")
        }
    }

    #[test]
    fn a_plain_shadow_account_passes() {
        assert_eq!(Sketch::jane().code(), "ok");
        let never = i64::MAX.to_string();
        for filetime in ["0", never.as_str(), "999999999999999999"] {
            assert_eq!(
                Sketch::jane().with("accountExpires", &[filetime]).code(),
                "ok"
            );
        }
        let was_locked = Sketch::jane()
            .with("lockoutTime", &["133000000000000000"])
            .with("msDS-User-Account-Control-Computed", &["0"]);
        assert_eq!(was_locked.code(), "ok", "the lock-out has run out");
    }

    #[test]
    fn state_is_refused_with_its_own_reason() {
        let jane = Sketch::jane;
        assert_eq!(
            jane().with("userAccountControl", &["328194"]).code(),
            "account-disabled"
        );
        assert_eq!(
            jane().with("userAccountControl", &["1376768"]).code(),
            "account-not-delegable"
        );
        assert_eq!(
            jane().with("lockoutTime", &["133000000000000000"]).code(),
            "account-locked"
        );
        let computed = jane().with("msDS-User-Account-Control-Computed", &["16"]);
        assert_eq!(computed.code(), "account-locked");
        assert_eq!(
            jane()
                .with("accountExpires", &["133000000000000000"])
                .code(),
            "account-expired"
        );
    }

    #[test]
    fn privilege_is_refused_however_it_is_held() {
        let jane = Sketch::jane;
        assert_eq!(
            jane().with("adminCount", &["1"]).code(),
            "account-privileged"
        );
        for rid in [498, 512, 516, 517, 518, 519, 520, 521, 526, 527] {
            let group = format!("S-1-5-21-9-9-9-{rid}");
            let member = jane().sids("tokenGroups", &["S-1-5-21-1-2-3-513", &group]);
            assert_eq!(member.code(), "account-privileged", "{rid}");
            let primary = jane().with("primaryGroupID", &[&rid.to_string()]);
            assert_eq!(primary.code(), "account-privileged", "primary {rid}");
        }
        for rid in [544, 548, 549, 550, 551, 552, 557] {
            let group = format!("S-1-5-32-{rid}");
            assert_eq!(
                jane().sids("tokenGroups", &[&group]).code(),
                "account-privileged",
                "{rid}"
            );
        }
        for rid in [500, 501, 502] {
            let own = format!("S-1-5-21-1-2-3-{rid}");
            assert_eq!(
                jane().sids("objectSid", &[&own]).code(),
                "account-privileged",
                "{rid}"
            );
        }
        assert_eq!(
            jane().sids("tokenGroups", &["S-1-5-21-1-2-3-525"]).code(),
            "account-protected"
        );
        assert_eq!(
            jane().with("primaryGroupID", &["525"]).code(),
            "account-protected"
        );
    }

    #[test]
    fn what_is_elsewhere_or_no_person_is_outside() {
        let mut outside = Sketch::jane();
        outside.1 = "CN=x\\,OU=Guests,DC=contoso,DC=test";
        assert_eq!(outside.code(), "account-outside-fence");
        let at_rest = outside.with("userAccountControl", &["328194"]);
        assert_eq!(at_rest.code(), "account-disabled");
        for class in ["computer", "msDS-GroupManagedServiceAccount"] {
            let machine = Sketch::jane().with("objectClass", &["top", "user", class]);
            assert_eq!(machine.code(), "account-outside-fence", "{class}");
        }
        let contact = Sketch::jane().with("objectClass", &["top", "person", "contact"]);
        assert_eq!(contact.code(), "account-outside-fence");
        assert_eq!(
            Sketch::jane().with("sAMAccountName", &["pc1$"]).code(),
            "account-outside-fence"
        );
        assert_eq!(
            Sketch::jane().with("userAccountControl", &["4096"]).code(),
            "account-outside-fence"
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_fine() {
        for hidden in [
            "userAccountControl",
            "tokenGroups",
            "objectSid",
            "sAMAccountName",
            "objectClass",
        ] {
            let mut sketch = Sketch::jane();
            sketch.0.retain(|(name, _)| name != hidden);
            assert_eq!(sketch.code(), "account-outside-fence", "{hidden}");
        }
    }
}
