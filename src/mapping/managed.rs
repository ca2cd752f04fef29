//! Managed groups: the fence around what may be joined in people's names, and what a group made by Kerbgate is.
//!
//! In goes a group as read, out comes a reason; [`look`] reads it, and the groups around it. What lies outside `groups_ou`, is built in, well known or privileged is never
//! written to, whatever the configuration names.

use super::fence;
use crate::ldap;
use crate::ldap::Attribute;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::ResultCode;
use crate::ldap::Session;

/// What must be read of a group for [`refusal`].
pub const ATTRIBUTES: [&str; 7] = [
    "objectClass",
    "objectSid",
    "groupType",
    "adminCount",
    "isCriticalSystemObject",
    "msDS-ObjectSoa",
    "memberOf",
];

/// Where an account at rest remembers the managed groups that it was taken out of: DNs that the directory itself keeps right when a
/// group is moved or renamed, on the account itself, where any replica and any command finds them.
pub const MEMORY: &str = "seeAlso";

/// MS-ADTS 2.2.12: ACCOUNT_GROUP and SECURITY_ENABLED, as a signed number. Global: its members are of this domain (the guests' OU is),
/// it may stand in access lists of every domain, and its members do not burden the global catalog as a universal group's do.
const GLOBAL_SECURITY: i32 = 0x2 | i32::MIN;
/// MS-ADTS 2.2.12: BUILTIN_LOCAL_GROUP, APP_BASIC_GROUP, APP_QUERY_GROUP.
const NOT_OURS: i64 = 0x1 | 0x10 | 0x20;
/// Accounts and groups that somebody made have larger relative ids (MS-DTYP 2.4.2.4).
const FIRST_FREE_RID: u32 = 1000;

/// Why nobody is ever put into this group or taken out of it, if so.
#[must_use]
pub fn refusal(group: &Entry, groups_ou: Option<&Dn>) -> Option<String> {
    let no = |why: &str| Some(String::from(why));
    if !is_inside(&group.dn, groups_ou) {
        return no("is not under groups_ou");
    }
    if !group.has("objectClass", "group") {
        return no("is no group");
    }
    let Some(sid) = group.sid("objectSid") else {
        return no("objectSid cannot be read");
    };
    let Some(kind) = group.number("groupType") else {
        return no("groupType cannot be read");
    };
    // SECURITY: a privileged group that was moved or linked into groups_ou would make its members administrators.
    if kind & NOT_OURS != 0 || !sid.as_str().starts_with("S-1-5-21-") || sid.rid() < FIRST_FREE_RID
    {
        return no("is a built-in or well-known group");
    }
    let critical = group.text("isCriticalSystemObject");
    if critical.is_some_and(|text| text.eq_ignore_ascii_case("TRUE")) {
        return no("is a critical system object");
    }
    if group.number("adminCount").is_some_and(|count| count != 0) {
        return no("is privileged: adminCount is set");
    }
    if !group.values("msDS-ObjectSoa").is_empty() {
        return no("its source of authority (msDS-ObjectSoa) is another system");
    }
    None
}

/// A group as the directory has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Missing,
    /// One to write to.
    Writable,
    /// Never to be written to, with the reason.
    Refused(String),
}

/// Reads the group, and the groups that it is in however indirectly: SDProp marks those that are privileged by that (`adminCount`) only
/// once an hour, and controllers compute `tokenGroups` of people, not of groups.
///
/// # Errors
/// No answer.
pub async fn look(
    session: &Session,
    group: &Dn,
    groups_ou: Option<&Dn>,
) -> Result<Standing, ldap::Error> {
    let Some(entry) = session.read(group, &ATTRIBUTES).await? else {
        return Ok(Standing::Missing);
    };
    if let Some(why) = refusal(&entry, groups_ou) {
        return Ok(Standing::Refused(why));
    }
    let mut seen = vec![group.clone()];
    let mut open = outer(&entry);
    while let Some(dn) = open.pop() {
        if seen.contains(&dn) {
            continue;
        }
        if seen.len() > MOST_OUTER {
            let why = format!("is nested in more than {MOST_OUTER} groups");
            return Ok(Standing::Refused(why));
        }
        let Some(entry) = session.read(&dn, &ATTRIBUTES).await? else {
            let why = format!("is a member of {dn}, which cannot be read");
            return Ok(Standing::Refused(why));
        };
        if let Some(name) = privileged(&entry) {
            let why = format!("is privileged: it is a member of {name}");
            return Ok(Standing::Refused(why));
        }
        open.extend(outer(&entry));
        seen.push(dn);
    }
    Ok(Standing::Writable)
}

fn outer(group: &Entry) -> Vec<Dn> {
    let names = group.texts("memberOf");
    names.filter_map(|dn| dn.parse().ok()).collect()
}

/// What makes the members of such a group privileged.
fn privileged(group: &Entry) -> Option<String> {
    let Some(sid) = group.sid("objectSid") else {
        return Some(format!("{}, whose objectSid cannot be read", group.dn));
    };
    if let Some(name) = fence::privileged_group(&sid) {
        return Some(String::from(name));
    }
    let marked = group.number("adminCount").is_some_and(|count| count != 0);
    marked.then(|| format!("{}, which has adminCount set", group.dn))
}

/// More than any group that guests are put into.
const MOST_OUTER: usize = 64;

/// Whether the name lies under `groups_ou`, and is not that unit itself.
#[must_use]
pub fn is_inside(group: &Dn, groups_ou: Option<&Dn>) -> bool {
    groups_ou.is_some_and(|ou| group.is_under(ou) && group != ou)
}

/// An attribute of a new object.
pub type NewAttribute = (Attribute, Vec<Vec<u8>>);

/// The attributes of a new group that carries `anchor`.
///
/// # Errors
/// Its name is none that a group can be known by.
pub fn attributes(
    group: &Dn,
    anchor: (&Attribute, &str),
) -> Result<Vec<NewAttribute>, ldap::Error> {
    let sam: String = group
        .leaf()
        .unwrap_or_default()
        .chars()
        .map(|c| if FORBIDDEN.contains(c) { '_' } else { c })
        .collect();
    let pair = |name: &str, value: &str| -> Result<_, ldap::Error> {
        Ok((name.parse::<Attribute>()?, vec![value.as_bytes().to_vec()]))
    };
    Ok(vec![
        pair("objectClass", "group")?,
        pair("sAMAccountName", &sam)?,
        pair("groupType", &GLOBAL_SECURITY.to_string())?,
        pair("description", "Made and kept by Kerbgate")?,
        pair(anchor.0.as_str(), anchor.1)?,
    ])
}

/// MS-ADTS 3.1.1.6: what no `sAMAccountName` may hold.
const FORBIDDEN: &str = "\"/\\[]:;|=,+*?<>@";

/// Another node was faster. Joining: attributeOrValueExists, or Active Directory's entryAlreadyExists.
/// Leaving: noSuchAttribute, or Active Directory's unwillingToPerform with ERROR_MEMBER_NOT_IN_GROUP.
#[must_use]
pub fn is_so_already(error: &ldap::Error, joins: bool) -> bool {
    let ldap::Error::Refused { refusal, .. } = error else {
        return false;
    };
    if joins {
        return matches!(refusal.code, ResultCode::VALUE_EXISTS | ResultCode::EXISTS);
    }
    refusal.code == ResultCode::NO_SUCH_ATTRIBUTE
        || (refusal.code == ResultCode::UNWILLING
            && NOT_A_MEMBER
                .iter()
                .any(|text| refusal.diagnostic.contains(text)))
}

/// Active Directory's, and Samba's for one who was a member before (its repl_meta_data.c).
const NOT_A_MEMBER: [&str; 2] = ["00000561", "already deleted for target GUID"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Sid;

    fn group(more: &[(&str, &[u8])]) -> Entry {
        let sid = "S-1-5-21-1-2-3-1104".parse::<Sid>().unwrap().to_bytes();
        let usual: [(&str, &[u8]); 3] = [
            ("objectClass", b"group"),
            ("objectSid", &sid),
            ("groupType", b"-2147483646"),
        ];
        let mut all: Vec<(&str, &[u8])> = usual.to_vec();
        for (name, value) in more {
            all.retain(|(known, _)| known != name);
            all.push((name, value));
        }
        let values: Vec<[&[u8]; 1]> = all.iter().map(|(_, value)| [*value]).collect();
        let pairs: Vec<(&str, &[&[u8]])> = all
            .iter()
            .zip(&values)
            .map(|((name, _), value)| (*name, value.as_slice()))
            .collect();
        Entry::from_parts("CN=x,OU=Guest Groups,DC=y".parse().unwrap(), &pairs)
    }

    #[test]
    fn privileged_and_foreign_groups_are_refused() {
        let ou: Dn = "OU=Guest Groups,DC=y".parse().unwrap();
        assert_eq!(refusal(&group(&[]), Some(&ou)), None);
        assert!(refusal(&group(&[]), None).is_some());
        assert!(refusal(&group(&[]), Some(&"OU=Other,DC=y".parse().unwrap())).is_some());
        let sid = |text: &str| text.parse::<Sid>().unwrap().to_bytes();
        let (admins, builtin) = (sid("S-1-5-21-1-2-3-512"), sid("S-1-5-32-544"));
        let cases: [(&str, &[u8]); 7] = [
            ("objectClass", b"user"),
            ("objectSid", &admins),
            ("objectSid", &builtin),
            ("groupType", b"-2147483643"),
            ("isCriticalSystemObject", b"TRUE"),
            ("adminCount", b"1"),
            ("msDS-ObjectSoa", b"aaaa"),
        ];
        for (name, value) in cases {
            assert!(
                refusal(&group(&[(name, value)]), Some(&ou)).is_some(),
                "{name}"
            );
        }
        assert_eq!(privileged(&group(&[])), None);
        for (name, value) in [
            ("objectSid", admins.as_slice()),
            ("objectSid", builtin.as_slice()),
            ("objectSid", b"?".as_slice()),
            ("adminCount", b"1".as_slice()),
        ] {
            assert!(privileged(&group(&[(name, value)])).is_some(), "{name}");
        }
    }

    #[test]
    fn a_new_group_is_global_and_for_security() {
        assert_eq!(GLOBAL_SECURITY, -2_147_483_646);
    }
}
