//! Managed groups and the accounts in them: out when an account goes to rest, back in when it returns, and what a synchronization wants.
//!
//! Only groups that `[[mapping.groups]]` names, and only accounts of ours. What an account was taken out of stands on the account itself
//! ([`managed::MEMORY`]), written before it is taken out and deleted once it is back: so whoever restores it, from wherever and without
//! asking the cloud, gives back what it had. Groups that somebody put it into by hand stay its own all the time.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Error;
use super::Lifecycle;
use super::Order;
use super::shadow;
use crate::ldap;
use crate::ldap::Attribute;
use crate::ldap::Change;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::mapping::fence;
use crate::mapping::managed;
use crate::mapping::managed::Standing;

/// Accounts written to a group at a time. A controller applies a modify as one transaction and advises at most 5 000 values in it (AD
/// maximum limits); a hundred also keep the search that looks at them again within every server's limit of a filter.
pub const MEMBERS_AT_A_TIME: usize = 100;

/// What is done about membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// In.
    Join,
    /// Out, for good: it is not given back either.
    Leave,
    /// Out, and given back when the account is restored.
    Strip,
}

/// What came of each account.
pub type Written = Vec<(Uuid, Result<(), Error>)>;

impl Lifecycle {
    /// Puts the accounts of these people into `group`, or takes them out; at most [`MEMBERS_AT_A_TIME`].
    ///
    /// # Errors
    /// The group is none to write to, or the directory does not answer. What is wrong with one account stands in its own answer.
    pub async fn write_members(
        &self,
        group: &Dn,
        people: &[Uuid],
        what: Membership,
        order: &Order,
    ) -> Result<Written, Error> {
        let session = self.tools.directory.session().await?;
        self.writable(&session, group).await?;
        let found = self.anchored(&session, people).await?;
        let mut written: Written = Vec::new();
        let mut sound: Vec<(Uuid, &Entry)> = Vec::new();
        for oid in people {
            let entries = found.get(oid).map(Vec::as_slice).unwrap_or_default();
            match self.fit(*oid, entries, what) {
                Ok(entry) => sound.push((*oid, entry)),
                Err(error) => written.push((*oid, Err(error))),
            }
        }
        if what == Membership::Strip {
            for (_, entry) in &sound {
                self.remember(&session, entry, std::slice::from_ref(group))
                    .await?;
            }
        }
        let joins = what == Membership::Join;
        // Who is so already is not written again: one such value would refuse the whole batch.
        let new = |entry: &Entry| self.held(entry).contains(group) != joins;
        let names = sound.iter().filter(|(_, entry)| new(entry));
        let names: Vec<&Dn> = names.map(|(_, entry)| &entry.dn).collect();
        let whole = write(&session, group, &names, joins).await;
        for (oid, entry) in sound {
            let done = match &whole {
                Ok(()) => Ok(()),
                Err(error) if error.is_connection() => Err(error.clone()),
                // All or nothing: one that cannot be written hides what could be done for the others.
                Err(_) => one(&session, group, &entry.dn, joins).await,
            };
            let mut done = done.map_err(Error::from);
            self.tell_membership(group, entry, joins, order, &done);
            if done.is_ok() && what == Membership::Leave {
                done = self.forget_group(&session, entry, group).await;
            }
            written.push((oid, done));
        }
        Ok(written)
    }

    /// The managed groups that the account is in.
    pub(super) fn held(&self, entry: &Entry) -> Vec<Dn> {
        self.managed_among(entry, "memberOf")
    }

    /// The managed groups that it was taken out of.
    pub(super) fn kept(&self, entry: &Entry) -> Vec<Dn> {
        self.managed_among(entry, managed::MEMORY)
    }

    fn managed_among(&self, entry: &Entry, attribute: &str) -> Vec<Dn> {
        let named: Vec<Dn> = entry
            .texts(attribute)
            .filter_map(|dn| dn.parse().ok())
            .collect();
        let mut all: Vec<Dn> = Vec::new();
        for managed in &self.settings.groups {
            let group = &managed.group;
            if named.contains(group) && !all.contains(group) {
                all.push(group.clone());
            }
        }
        all
    }

    /// What the account's memory holds once `groups` are its managed ones: other values there are somebody else's.
    pub(super) fn memory(&self, entry: &Entry, groups: &[Dn]) -> Vec<Vec<u8>> {
        let kept = self.kept(entry);
        let others = entry.texts(managed::MEMORY).filter(|text| {
            let dn = text.parse::<Dn>();
            !dn.is_ok_and(|dn| kept.contains(&dn))
        });
        let others = others.map(|text| text.as_bytes().to_vec());
        let ours = groups.iter().map(|dn| dn.to_string().into_bytes());
        others.chain(ours).collect()
    }

    /// Takes the account, that lies at `dn` now, out of the managed groups it is in; remembered first.
    pub(super) async fn strip(
        &self,
        session: &Session,
        entry: &Entry,
        dn: &Dn,
        order: &Order,
    ) -> Result<bool, Error> {
        let held = self.held(entry);
        if fence::is_disabled(entry) {
            let mut here = entry.clone();
            here.dn = dn.clone();
            self.remember(session, &here, &held).await?;
        }
        for group in &held {
            let done = one(session, group, dn, false).await.map_err(Error::from);
            self.tell_membership(group, entry, false, order, &done);
            done?;
        }
        Ok(!held.is_empty())
    }

    /// Puts the account into the managed groups that it remembers. One that is gone, or that nobody may be put into any more, is left
    /// out: that must not keep a person away from everything else.
    pub(super) async fn give_back(
        &self,
        session: &Session,
        entry: &Entry,
        order: &Order,
    ) -> Result<bool, Error> {
        let mut changed = false;
        for group in &self.kept(entry) {
            let done = match self.writable(session, group).await {
                Ok(()) => one(session, group, &entry.dn, true)
                    .await
                    .map_err(Error::from),
                Err(Error::Refused { dn, why }) => {
                    tracing::warn!(group = %dn, why, "a group is not given back");
                    continue;
                }
                Err(error) => Err(error),
            };
            self.tell_membership(group, entry, true, order, &done);
            done?;
            changed = true;
        }
        Ok(changed)
    }

    /// Adds to what the account remembers.
    async fn remember(
        &self,
        session: &Session,
        entry: &Entry,
        groups: &[Dn],
    ) -> Result<(), ldap::Error> {
        let kept = self.kept(entry);
        let new = groups.iter().filter(|group| !kept.contains(group));
        let new: Vec<Vec<u8>> = new.map(|dn| dn.to_string().into_bytes()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let change = Change::AddAll(managed::MEMORY.parse()?, new);
        session.modify(&entry.dn, vec![change]).await
    }

    async fn forget_group(
        &self,
        session: &Session,
        entry: &Entry,
        group: &Dn,
    ) -> Result<(), Error> {
        let kept = self.kept(entry);
        if !kept.contains(group) {
            return Ok(());
        }
        let left: Vec<Dn> = kept.into_iter().filter(|one| one != group).collect();
        let change = Change::Replace(managed::MEMORY.parse()?, self.memory(entry, &left));
        Ok(session.modify(&entry.dn, vec![change]).await?)
    }

    /// SECURITY: looked at before each write, not when the configuration was read: a group can become privileged meanwhile.
    async fn writable(&self, session: &Session, group: &Dn) -> Result<(), Error> {
        let refused = |why: String| Error::Refused {
            dn: group.to_string(),
            why,
        };
        if !self.settings.groups.iter().any(|one| one.group == *group) {
            return Err(refused(String::from("is no group of [[mapping.groups]]")));
        }
        match managed::look(session, group, self.settings.groups_ou.as_ref()).await? {
            Standing::Writable => Ok(()),
            Standing::Missing => Err(refused(String::from("is not there"))),
            Standing::Refused(why) => Err(refused(why)),
        }
    }

    /// The accounts with these people's anchors in the guests' units.
    async fn anchored(
        &self,
        session: &Session,
        people: &[Uuid],
    ) -> Result<BTreeMap<Uuid, Vec<Entry>>, Error> {
        let anchor: &Attribute = &self.settings.anchor;
        let filters = people
            .iter()
            .map(|oid| Filter::equals(anchor, &shadow::anchor(*oid)));
        let filter = Filter::any(&filters.collect::<Vec<_>>());
        let mut all: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
        for base in self.places() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: filter.clone(),
                attributes: self.wanted(false),
                limit: 0,
            };
            for entry in session.search(&search).await?.entries {
                if let Some(oid) = self.oid(&entry) {
                    all.entry(oid).or_default().push(entry);
                }
            }
        }
        Ok(all)
    }

    /// The one account of the person, if this may be done to it.
    fn fit<'a>(
        &self,
        oid: Uuid,
        entries: &'a [Entry],
        what: Membership,
    ) -> Result<&'a Entry, Error> {
        let asked = super::Asked::Anchor(oid).to_string();
        let [entry] = entries else {
            let names = shadow::joined(entries.iter().map(|entry| entry.dn.to_string()));
            return Err(if entries.is_empty() {
                let bases = shadow::joined(self.places().into_iter().map(ToString::to_string));
                Error::NotFound { asked, bases }
            } else {
                Error::Ambiguous { asked, names }
            });
        };
        let disabled = fence::is_disabled(entry);
        // SECURITY: only what carries our anchor and lies in our units; employees and their groups are nobody's business here.
        let unfit = || match what {
            Membership::Join if disabled => Some(String::from("is disabled: it joins no group")),
            Membership::Strip if !disabled => Some(String::from("is not at rest any more")),
            Membership::Join | Membership::Leave | Membership::Strip => None,
        };
        let why = self.untouchable(entry, false).or_else(unfit);
        why.map_or(Ok(entry), |why| {
            Err(Error::Refused {
                dn: entry.dn.to_string(),
                why,
            })
        })
    }

    fn tell_membership(
        &self,
        group: &Dn,
        entry: &Entry,
        joins: bool,
        order: &Order,
        done: &Result<(), Error>,
    ) {
        let people = self.people(entry);
        tracing::info!(
            target: "audit",
            event = if joins { "group-joined" } else { "group-left" },
            person = shadow::joined(people.iter().map(ToString::to_string)),
            sam = entry.text("sAMAccountName").unwrap_or_default(),
            dn = %entry.dn,
            group = %group,
            by = order.by,
            reason = order.why,
            outcome = done.as_ref().err().map_or_else(|| String::from("done"), ToString::to_string),
            via = order.via,
        );
    }
}

async fn one(session: &Session, group: &Dn, who: &Dn, joins: bool) -> Result<(), ldap::Error> {
    match write(session, group, &[who], joins).await {
        Err(error) if managed::is_so_already(&error, joins) => Ok(()),
        done => done,
    }
}

async fn write(session: &Session, group: &Dn, who: &[&Dn], joins: bool) -> Result<(), ldap::Error> {
    if who.is_empty() {
        return Ok(());
    }
    let values = who.iter().map(|dn| dn.to_string().into_bytes()).collect();
    let member: Attribute = "member".parse()?;
    let change = if joins {
        Change::AddAll(member, values)
    } else {
        Change::DeleteAll(member, values)
    };
    session.modify(group, vec![change]).await
}
