//! The directory's side: every account with our anchor, read page by page.
//!
//! All bases are searched, not only the guests' OU: whoever has an account elsewhere gets no second one.

use std::collections::BTreeSet;
use std::collections::HashSet;

use uuid::Uuid;

use super::BY;
use super::Error;
use super::Sync;
use super::world::Disabled;
use super::world::LocalAccount;
use super::world::Place;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Paging;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Turn;
use crate::lifecycle::Mark;
use crate::mapping::fence;
use crate::mapping::managed;
use crate::mapping::names;
use crate::mapping::shadow::Flow;
use crate::model::names::PersonId;

impl Sync {
    pub(super) async fn accounts(&self) -> Result<Vec<LocalAccount>, Error> {
        let mut accounts = Vec::new();
        let mut told: HashSet<Uuid> = HashSet::new();
        for base in self.rules.mapping.search_bases() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: Filter::all(&[
                    Filter::equals(&"objectCategory".parse()?, "person"),
                    Filter::equals(&"objectClass".parse()?, "user"),
                    Filter::present(&self.rules.mapping.anchor),
                ]),
                attributes: self.wanted(),
                limit: 0,
            };
            let mut pages = self.tools.directory.pages(search, Paging::default());
            while let Some(turn) = pages.next().await? {
                let found = match turn {
                    Turn::Page(found) => found,
                    Turn::Restarted(_) => continue,
                };
                // Asked again from the start, a controller tells of some twice.
                let new = found.entries.iter().filter(|entry| {
                    let guid = entry.guid("objectGUID");
                    guid.is_some_and(|guid| told.insert(guid))
                });
                accounts.extend(new.filter_map(|entry| self.account(entry)));
            }
        }
        if self.rules.unseen_after.is_some() {
            self.add_use(&mut accounts).await?;
        }
        Ok(accounts)
    }

    /// When the gateway last saw the people themselves.
    async fn add_use(&self, accounts: &mut [LocalAccount]) -> Result<(), Error> {
        let Some(store) = &self.tools.store else {
            return Ok(());
        };
        for account in accounts {
            let person = PersonId {
                tid: self.tenant,
                oid: account.oid,
            };
            let seen = store.person_seen(person, self.tools.clock.unix()).await?;
            account.last_seen = account.last_seen.max(seen.last);
        }
        Ok(())
    }

    pub(super) fn wanted(&self) -> Vec<String> {
        let fence = fence::ATTRIBUTES
            .into_iter()
            .filter(|name| *name != "tokenGroups");
        let more = [
            self.rules.mapping.anchor.as_str(),
            "info",
            managed::MEMORY,
            "whenCreated",
            "whenChanged",
            "lastLogonTimestamp",
        ];
        let mut all: Vec<String> = fence.chain(more).map(String::from).collect();
        all.extend(Flow::ALL.map(|flow| flow.as_str().to_owned()));
        all.sort();
        all.dedup();
        all
    }

    fn account(&self, entry: &Entry) -> Option<LocalAccount> {
        let anchor = self.rules.mapping.anchor.as_str();
        let oid = entry.texts(anchor).find_map(oid_of)?;
        let sam = entry.text("sAMAccountName").unwrap_or_default().to_owned();
        let place = self.place(&entry.dn);
        let text = |flow: Flow| {
            entry
                .text(flow.as_str())
                .map(|text| (flow, text.to_owned()))
        };
        let times = ["whenCreated", "whenChanged"].into_iter();
        let last_seen = times.filter_map(|name| entry.time(name)).max();
        Some(LocalAccount {
            untouchable: self.untouchable(entry, oid, place),
            oid,
            sam,
            dn: entry.dn.to_string(),
            place,
            disabled: fence::is_disabled(entry).then(|| by_whom(entry)),
            values: Flow::ALL.into_iter().filter_map(text).collect(),
            groups: self.managed_in(entry, "memberOf"),
            kept: self.managed_in(entry, managed::MEMORY),
            last_seen: last_seen.max(entry.file_time("lastLogonTimestamp")),
        })
    }

    /// Managed groups among the values. Read of the account and not of the group, so that a group may have as many other members as it
    /// likes.
    fn managed_in(&self, entry: &Entry, attribute: &str) -> BTreeSet<String> {
        let managed = &self.rules.mapping.groups;
        let named: Vec<Dn> = entry
            .texts(attribute)
            .filter_map(|dn| dn.parse().ok())
            .collect();
        let among = managed.iter().filter(|one| named.contains(&one.group));
        // The first spelling in the settings: two mappings of one group are one group.
        let first = |dn: &Dn| managed.iter().find(|one| one.group == *dn);
        among
            .filter_map(|one| Some(first(&one.group)?.group.to_string()))
            .collect()
    }

    pub(super) fn place(&self, dn: &Dn) -> Place {
        let under = |ou: &Option<Dn>| ou.as_ref().is_some_and(|ou| dn.is_under(ou));
        let mapping = &self.rules.mapping;
        // The disabled OU may lie inside the guests' OU.
        if under(&mapping.disabled_ou) {
            Place::Rest
        } else if under(&mapping.guests_ou) {
            Place::Guests
        } else {
            Place::Elsewhere
        }
    }

    pub(super) fn untouchable(&self, entry: &Entry, oid: Uuid, place: Place) -> Option<String> {
        if place == Place::Elsewhere {
            return Some(format!("lies outside the guests' units: {}", entry.dn));
        }
        if !fence::is_ours(entry, true) {
            return Some(String::from(
                "its source of authority (msDS-ObjectSoa) is another system",
            ));
        }
        // The anchor says nothing of the tenant; the name of an account that we made does.
        let sam = entry.text("sAMAccountName").unwrap_or_default();
        let made_for = |tid: &Uuid| {
            let person = PersonId { tid: *tid, oid };
            names::sam(&self.rules.mapping.sam_prefix, person).eq_ignore_ascii_case(sam)
        };
        if !self.other_tenants.is_empty() && !made_for(&self.tenant) {
            let why = match self.other_tenants.iter().find(|tid| made_for(tid)) {
                Some(tid) => format!("belongs to a person of tenant {tid}"),
                None => String::from("its tenant is not certain: several are accepted"),
            };
            return Some(why);
        }
        // The rest of privilege shows only when the account is read alone: every step looks at that before it writes.
        if entry.number("adminCount").is_some_and(|count| count != 0) {
            return Some(String::from("is privileged: adminCount is set"));
        }
        let places: Vec<Dn> = self.places().cloned().collect();
        fence::may_list(entry, &places)
            .err()
            .map(|denial| denial.detail)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Dn> {
        let mapping = &self.rules.mapping;
        mapping.guests_ou.iter().chain(&mapping.disabled_ou)
    }
}

/// The object id in an anchor's value.
pub(super) fn oid_of(anchor: &str) -> Option<Uuid> {
    let (kind, oid) = anchor.split_at_checked(5)?;
    kind.eq_ignore_ascii_case("User_")
        .then(|| oid.parse().ok())?
}

fn by_whom(entry: &Entry) -> Disabled {
    match entry.text("info").and_then(Mark::read) {
        Some(mark) if mark.by == BY => Disabled::ByUs(super::moment(&mark.since), mark.why),
        Some(mark) => Disabled::ByOthers(format!("{} by {}", mark.since, mark.by)),
        None => Disabled::ByOthers(String::from("by somebody")),
    }
}
