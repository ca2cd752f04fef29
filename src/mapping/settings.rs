//! What the room is told, checked before anything is asked of a directory.

use std::time::Duration;

use uuid::Uuid;

use crate::ldap::Attribute;
use crate::ldap::Dn;
use crate::model::names::Realm;

/// How people become accounts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Kerberos realm of the domain.
    pub realm: Realm,
    /// The fence: only accounts under these are ever acted for.
    pub account_bases: Vec<Dn>,
    /// Where shadow accounts are made; absent = none are made and none adopted.
    pub guests_ou: Option<Dn>,
    /// Where shadow accounts rest after their person has left; searched, never acted for.
    pub disabled_ou: Option<Dn>,
    /// Where managed groups live.
    pub groups_ou: Option<Dn>,
    /// The attribute that holds `User_<oid>`.
    pub anchor: Attribute,
    /// First characters of every shadow account's `sAMAccountName`: one to six of `a-z0-9-`.
    pub sam_prefix: String,
    /// Where a shadow account's `userPrincipalName` comes from.
    pub upn: UpnRule,
    /// Whether accounts that MIM or Microsoft's script made are taken over.
    pub adopt: bool,
    /// App roles and groups that become AD groups.
    pub groups: Vec<ManagedGroup>,
    /// How long an account is believed before the directory is asked again.
    pub cache: Duration,
    /// How long a visitor waits on the line before the waiting page is shown.
    pub patience: Duration,
}

/// Where a shadow account's `userPrincipalName` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpnRule {
    /// The cloud UPN; a token without one leaves `<sam>@<realm>`.
    CloudUpn,
    /// `<sam>@<suffix>`.
    Suffix(String),
}

/// An app role or an Entra group that becomes membership of an AD group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedGroup {
    /// What the person must have.
    pub from: GroupSource,
    /// The AD group, under `groups_ou`.
    pub group: Dn,
}

/// What makes a person a member of a managed group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSource {
    /// An app role's value.
    Role(String),
    /// An Entra group's object id.
    Group(Uuid),
}

/// Settings that contradict each other.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("mapping.{key}: {reason}")]
pub struct BadSettings {
    /// The key in the configuration.
    pub key: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl Settings {
    /// Checks what only shows when the values stand together.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), BadSettings> {
        let bad = |key, reason: String| Err(BadSettings { key, reason });
        if self.account_bases.is_empty() {
            return bad(
                "account_bases",
                String::from("is empty: nobody could be acted for"),
            );
        }
        if let Some(ou) = &self.guests_ou
            && !self.account_bases.iter().any(|base| ou.is_under(base))
        {
            return bad("guests_ou", format!("{ou} is under none of account_bases"));
        }
        // Everybody would lie where the disabled lie: nobody could be laid to rest, nor brought back.
        if let (Some(guests), Some(rest)) = (&self.guests_ou, &self.disabled_ou)
            && guests.is_under(rest)
        {
            return bad("disabled_ou", format!("guests_ou lies in it: {rest}"));
        }
        if self.adopt && self.guests_ou.is_none() {
            return bad(
                "adopt",
                String::from("wants guests_ou: only accounts in it are adopted"),
            );
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=6).contains(&self.sam_prefix.len()) || !self.sam_prefix.bytes().all(plain) {
            return bad(
                "sam_prefix",
                format!("{:?} is not one to six of a-z, 0-9 and -", self.sam_prefix),
            );
        }
        // SECURITY: a mapping that names a group elsewhere would let a token's claim write membership there.
        for managed in &self.groups {
            let inside = |ou: &Dn| managed.group.is_under(ou) && managed.group != *ou;
            if !self.groups_ou.as_ref().is_some_and(inside) {
                return bad(
                    "groups",
                    format!("{} is not under groups_ou", managed.group),
                );
            }
        }
        Ok(())
    }

    /// Every base to search in, none of them under another.
    #[must_use]
    pub fn search_bases(&self) -> Vec<&Dn> {
        let mut bases: Vec<&Dn> = Vec::new();
        let all = self
            .account_bases
            .iter()
            .chain(&self.guests_ou)
            .chain(&self.disabled_ou);
        for base in all {
            if !bases.iter().any(|known| base.is_under(known)) {
                bases.retain(|known| !known.is_under(base));
                bases.push(base);
            }
        }
        bases
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> Settings {
        let dn = |text: &str| text.parse::<Dn>().unwrap();
        Settings {
            realm: "CONTOSO.TEST".parse().unwrap(),
            account_bases: vec![
                dn("OU=Guests,DC=contoso,DC=test"),
                dn("OU=Staff,DC=contoso,DC=test"),
            ],
            guests_ou: Some(dn("OU=Guests,DC=contoso,DC=test")),
            disabled_ou: Some(dn("OU=Disabled Guests,DC=contoso,DC=test")),
            groups_ou: Some(dn("OU=Guest Groups,DC=contoso,DC=test")),
            anchor: "msDS-ExternalDirectoryObjectId".parse().unwrap(),
            sam_prefix: String::from("kg-"),
            upn: UpnRule::CloudUpn,
            adopt: false,
            groups: Vec::new(),
            cache: Duration::from_secs(60),
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(settings().check(), Ok(()));
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err().key
        };
        assert_eq!(wrong(|s| s.account_bases.clear()), "account_bases");
        assert_eq!(
            wrong(|s| s.guests_ou = Some("OU=X,DC=contoso,DC=test".parse().unwrap())),
            "guests_ou"
        );
        assert_eq!(
            wrong(|s| s.disabled_ou = s.guests_ou.clone()),
            "disabled_ou"
        );
        assert_eq!(
            wrong(|s| s.disabled_ou = Some("DC=contoso,DC=test".parse().unwrap())),
            "disabled_ou"
        );
        assert_eq!(wrong(|s| s.sam_prefix = "KG".into()), "sam_prefix");
        for elsewhere in [
            "CN=Domain Admins,CN=Users,DC=contoso,DC=test",
            "CN=x\\,OU=Guest Groups,DC=contoso,DC=test",
            "OU=Guest Groups,DC=contoso,DC=test",
        ] {
            let mut settings = settings();
            settings.groups.push(ManagedGroup {
                from: GroupSource::Role("r".into()),
                group: elsewhere.parse().unwrap(),
            });
            assert_eq!(settings.check().unwrap_err().key, "groups", "{elsewhere}");
        }
    }

    #[test]
    fn no_base_is_searched_twice() {
        let mut settings = settings();
        settings
            .account_bases
            .push("DC=contoso,DC=test".parse().unwrap());
        let bases = settings.search_bases();
        assert_eq!(bases.len(), 1);
        assert_eq!(bases[0].to_string(), "DC=contoso,DC=test");
    }
}
