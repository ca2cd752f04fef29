//! The directory's side: the accounts of the chosen units, and the one account that a step is about.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Partners;
use super::Settings;
use super::world::Anchor;
use super::world::Local;
use super::world::Values;
use crate::ldap;
use crate::ldap::Change;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Paging;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::ldap::Turn;
use crate::lifecycle;
use crate::mapping::fence;
use crate::mapping::names;
use crate::sync::Error;

/// What follows the directory: its attribute, Graph's property, and how much Graph takes (UTF-16 units).
pub const FLOW: [(&str, &str, usize); 8] = [
    ("displayName", "displayName", 256),
    ("givenName", "givenName", 64),
    ("sn", "surname", 64),
    ("company", "companyName", 64),
    ("title", "jobTitle", 128),
    ("department", "department", 64),
    ("mobile", "mobilePhone", 64),
    ("employeeID", "employeeId", 16),
];

/// MS-ADTS 2.2.16.
const ACCOUNTDISABLE: i64 = 0x2;

impl Anchor {
    /// The person it names.
    #[must_use]
    pub const fn oid(&self) -> Option<Uuid> {
        match self {
            Self::Of(oid) => Some(*oid),
            Self::None | Self::Other(_) => None,
        }
    }
}

impl Partners {
    /// Accounts in scope, and all others with an anchor.
    pub(super) async fn locals(&self) -> Result<Vec<Local>, Error> {
        let mut all: BTreeMap<Uuid, Local> = BTreeMap::new();
        let settings = &self.settings;
        for base in &settings.bases {
            let mut parts = people()?;
            parts.extend(settings.filter.clone());
            self.each(base, parts, |entry| self.note(entry, true, &mut all))
                .await?;
        }
        for base in settings.mapping.search_bases() {
            let mut parts = people()?;
            parts.push(Filter::present(&settings.mapping.anchor));
            self.each(base, parts, |entry| self.note(entry, false, &mut all))
                .await?;
        }
        Ok(all.into_values().collect())
    }

    async fn each(
        &self,
        base: &Dn,
        parts: Vec<Filter>,
        mut note: impl FnMut(&Entry),
    ) -> Result<(), Error> {
        let search = Search {
            base: base.clone(),
            scope: Scope::Subtree,
            filter: Filter::all(&parts),
            attributes: self.settings.wanted(),
            limit: 0,
        };
        let mut pages = self.tools.directory.pages(search, Paging::default());
        while let Some(turn) = pages.next().await? {
            if let Turn::Page(found) = turn {
                found.entries.iter().for_each(&mut note);
            }
        }
        Ok(())
    }

    /// The first reading counts: what is in scope is read first.
    fn note(&self, entry: &Entry, in_scope: bool, all: &mut BTreeMap<Uuid, Local>) {
        if let Some(guid) = entry.guid("objectGUID") {
            let settings = &self.settings;
            let now = self.tools.clock.unix();
            all.entry(guid)
                .or_insert_with(|| settings.local(entry, guid, in_scope, now));
        }
    }

    /// The account as it is now, with all that the fence wants to know.
    pub(super) async fn account(&self, guid: Uuid) -> Result<Option<(Session, Entry)>, Error> {
        let session = self.tools.directory.session().await?;
        let by_guid = Filter::equals_bytes(&"objectGUID".parse()?, &guid.to_bytes_le());
        for base in &self.settings.bases {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: by_guid.clone(),
                attributes: vec![String::from("1.1")],
                limit: 1,
            };
            let found = session.search(&search).await?;
            if let Some(one) = found.entries.first() {
                let wanted = self.settings.wanted();
                let mut wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                wanted.push("tokenGroups");
                let entry = session.read(&one.dn, &wanted).await?;
                return Ok(entry.map(|entry| (session, entry)));
            }
        }
        Ok(None)
    }

    /// Writes `User_<oid>` into the account's anchor. One that is there already is left; another one is never replaced.
    pub(super) async fn anchor(&self, guid: Uuid, oid: Uuid) -> Result<(), Error> {
        let Some((session, entry)) = self.account(guid).await? else {
            return Err(Error::Meanwhile(String::from(
                "the account is not there any more",
            )));
        };
        // SECURITY: an anchor makes the account somebody's: none is ever written on a privileged one.
        fence::may_change(&entry, &self.settings.bases).map_err(|denial| {
            lifecycle::Error::Refused {
                dn: entry.dn.to_string(),
                why: denial.detail,
            }
        })?;
        let anchor = &self.settings.mapping.anchor;
        match self.settings.anchor(&entry) {
            Anchor::Of(there) if there == oid => return Ok(()),
            Anchor::None => {}
            Anchor::Of(_) | Anchor::Other(_) => {
                let why = format!("{anchor} of the account holds something else now");
                return Err(Error::Meanwhile(why));
            }
        }
        let value = format!("User_{oid}");
        let filter = Filter::equals(anchor, &value);
        for base in self.settings.mapping.search_bases() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: filter.clone(),
                attributes: vec![String::from("1.1")],
                limit: 1,
            };
            if let Some(other) = session.search(&search).await?.entries.first() {
                let why = format!("the person has another account: {}", other.dn);
                return Err(Error::Meanwhile(why));
            }
        }
        // Added, not replaced: what came meanwhile makes the directory refuse.
        let change = Change::Add(anchor.clone(), value.into_bytes());
        session.modify(&entry.dn, vec![change]).await?;
        tracing::info!(
            target: "audit",
            event = "account-linked",
            dn = %entry.dn,
            %oid,
            dc = %session.server(),
            via = "sync",
        );
        Ok(())
    }
}

fn people() -> Result<Vec<Filter>, ldap::Error> {
    Ok(vec![
        Filter::equals(&"objectCategory".parse()?, "person"),
        Filter::equals(&"objectClass".parse()?, "user"),
    ])
}

impl Settings {
    fn wanted(&self) -> Vec<String> {
        let fence = fence::ATTRIBUTES
            .into_iter()
            .filter(|name| *name != "tokenGroups");
        let rules = self
            .type_rules
            .iter()
            .filter_map(|rule| rule.attribute.as_ref());
        let named = [&self.mapping.anchor, &self.sign_in]
            .into_iter()
            .chain(rules);
        let flow = FLOW.iter().map(|(name, _, _)| *name);
        let mut all: Vec<String> = fence.chain(flow).map(String::from).collect();
        all.extend(named.map(|name| name.as_str().to_owned()));
        all.sort();
        all.dedup();
        all
    }

    fn anchor(&self, entry: &Entry) -> Anchor {
        let mut values = entry.texts(self.mapping.anchor.as_str());
        let Some(text) = values.next() else {
            return Anchor::None;
        };
        let oid = text.split_at_checked(5).and_then(|(kind, oid)| {
            kind.eq_ignore_ascii_case("User_")
                .then(|| oid.parse().ok())?
        });
        oid.map_or_else(
            || Anchor::Other(text.chars().take(100).collect()),
            Anchor::Of,
        )
    }

    pub(super) fn local(&self, entry: &Entry, guid: Uuid, in_scope: bool, now: i64) -> Local {
        let control = entry.number("userAccountControl");
        let expires = entry.file_time("accountExpires");
        let values = FLOW.iter().filter_map(|(name, property, longest)| {
            let text = entry.text(name)?;
            // Half a number is another one.
            if *name == "employeeID" && text.chars().count() > *longest {
                return None;
            }
            let value = names::clip(text, *longest)?;
            Some(((*property).to_owned(), value))
        });
        let address = entry.text(self.sign_in.as_str()).and_then(address);
        Local {
            guid,
            sid: entry.sid("objectSid"),
            sam: entry.text("sAMAccountName").unwrap_or_default().to_owned(),
            dn: entry.dn.to_string(),
            address,
            enabled: control.is_some_and(|control| control & ACCOUNTDISABLE == 0)
                && expires.is_none_or(|at| at > now),
            in_scope,
            anchor: self.anchor(entry),
            employee_id: entry.text("employeeID").map(String::from),
            user_type: self.user_type_of(entry),
            values: values.collect::<Values>(),
            untouchable: in_scope.then(|| self.untouchable(entry)).flatten(),
        }
    }

    fn untouchable(&self, entry: &Entry) -> Option<String> {
        let mapping = &self.mapping;
        let mut units = mapping.guests_ou.iter().chain(&mapping.disabled_ou);
        if units.any(|ou| entry.dn.is_under(ou)) {
            return Some(String::from("lies in the guests' units"));
        }
        // The rest of privilege shows only when the account is read alone: the step that links looks at that.
        if entry.number("adminCount").is_some_and(|count| count != 0) {
            return Some(String::from("is privileged: adminCount is set"));
        }
        fence::may_list(entry, &self.bases)
            .err()
            .map(|denial| denial.detail)
    }

    fn user_type_of(&self, entry: &Entry) -> &'static str {
        let fits = |rule: &&super::TypeRule| {
            let lies = rule.under.as_ref().is_none_or(|ou| entry.dn.is_under(ou));
            let says = rule.attribute.as_ref().is_none_or(|attribute| {
                let mut values = entry.texts(attribute.as_str());
                values.any(|value| value.eq_ignore_ascii_case(&rule.value))
            });
            lies && says
        };
        let rule = self.type_rules.iter().find(fits);
        rule.map_or(self.user_type, |rule| rule.user_type).as_str()
    }
}

/// `text` if somebody can sign in with it: one `@`, a domain with a dot, nothing that no address has.
fn address(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (name, domain) = text.split_once('@')?;
    let plain = |c: char| c.is_alphanumeric() || "!#$%&'*+-./=?^_`{|}~".contains(c);
    let sound = !name.is_empty()
        && text.chars().count() <= 254
        && text.chars().filter(|c| *c != '@').all(plain)
        && domain.split('.').count() > 1
        && domain.split('.').all(|label| !label.is_empty());
    (sound && !domain.contains('@')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_address_is_signed_in_with() {
        assert_eq!(
            address(" Pia@Fabrikam.example "),
            Some("pia@fabrikam.example".into())
        );
        assert_eq!(
            address("o'neil+x@fabrikam.example"),
            Some("o'neil+x@fabrikam.example".into())
        );
        for no in [
            "",
            "pia",
            "pia@",
            "@x.example",
            "a@b@c.example",
            "pia@localhost",
            "p a@x.example",
            "p\0@x.example",
            "<p@x.example>",
            "p@x..example",
            "p@x.example.",
            "p,q@x.example",
            "p@x.example\u{202e}",
        ] {
            assert_eq!(address(no), None, "{no:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            if let Some(address) = address(&text) {
                prop_assert!(!address.contains(|c: char| c.is_control() || c.is_whitespace()));
            }
        }
    }
}
