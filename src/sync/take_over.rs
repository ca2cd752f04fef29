//! Accounts of other tools: how they are read, and how one becomes ours.

use uuid::Uuid;

use super::BY;
use super::Error;
use super::Sync;
use super::adopt;
use super::adopt::Shape;
use super::adopt::Stranger;
use super::step::Step;
use super::world::Place;
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
use crate::mapping::rules;
use crate::mapping::shadow;
use crate::mapping::shadow::Flow;
use crate::model::names::PersonId;

/// Attributes in which other tools write `User_<oid>`.
const ANCHORS: [(&str, Shape); 2] = [
    ("msDS-ExternalDirectoryObjectId", Shape::CloudSync),
    ("adminDescription", Shape::AdminDescription),
];

impl Sync {
    /// Accounts in the guests' OU without our anchor.
    pub(super) async fn strangers(&self) -> Result<Vec<Stranger>, Error> {
        let mapping = &self.rules.mapping;
        let Some(ou) = &mapping.guests_ou else {
            return Ok(Vec::new());
        };
        let search = Search {
            base: ou.clone(),
            scope: Scope::Subtree,
            filter: Filter::all(&[
                Filter::equals(&"objectCategory".parse()?, "person"),
                Filter::equals(&"objectClass".parse()?, "user"),
                Filter::not(&Filter::present(&mapping.anchor)),
            ]),
            attributes: self.wanted_of_strangers(false),
            limit: 0,
        };
        let mut strangers: Vec<Stranger> = Vec::new();
        let mut pages = self.tools.directory.pages(search, Paging::default());
        while let Some(turn) = pages.next().await? {
            match turn {
                Turn::Page(found) => {
                    // The disabled OU may lie inside the guests' OU.
                    let here = found
                        .entries
                        .iter()
                        .filter(|entry| self.is_guests(&entry.dn));
                    strangers.extend(here.map(|entry| self.stranger(entry)));
                }
                Turn::Restarted(_) => strangers.clear(),
            }
        }
        Ok(strangers)
    }

    fn is_guests(&self, dn: &Dn) -> bool {
        self.place(dn) == Place::Guests
    }

    fn wanted_of_strangers(&self, alone: bool) -> Vec<String> {
        let mut all = self.wanted();
        let more = ANCHORS.iter().map(|(name, _)| *name).chain(["description"]);
        all.extend(more.map(String::from));
        if alone {
            all.push(String::from("tokenGroups"));
        }
        all.sort();
        all.dedup();
        all
    }

    fn stranger(&self, entry: &Entry) -> Stranger {
        let text = |name: &str| entry.text(name).map(String::from);
        let anchor = &self.rules.mapping.anchor;
        let anchors = ANCHORS.iter().flat_map(|(name, shape)| {
            let others = entry.texts(name).filter_map(super::accounts::oid_of);
            others.map(|oid| (*shape, oid))
        });
        let value = |flow: Flow| text(flow.as_str()).map(|value| (flow, value));
        let owned = !fence::is_ours(entry, true);
        Stranger {
            sam: text("sAMAccountName").unwrap_or_default(),
            dn: entry.dn.to_string(),
            cn: text("cn").unwrap_or_default(),
            description: text("description"),
            anchors: anchors.collect(),
            owned,
            untouchable: if entry.values(anchor.as_str()).is_empty() {
                self.untouchable(entry, Uuid::nil(), self.place(&entry.dn))
            } else {
                Some(String::from("carries an anchor already"))
            },
            disabled: fence::is_disabled(entry),
            created: entry.time("whenCreated"),
            values: Flow::ALL.into_iter().filter_map(value).collect(),
        }
    }

    /// One account becomes the person's, if it still is what the plan saw.
    pub(super) async fn take_over(
        &self,
        step: &Step,
        shape: Shape,
        evidence: &str,
        dn: &str,
    ) -> Result<(), Error> {
        let mapping = &self.rules.mapping;
        let person = PersonId {
            tid: self.tenant,
            oid: step.oid,
        };
        let dn: Dn = dn.parse()?;
        let session = self.tools.directory.session().await?;
        let entry = self.read_stranger(&session, &dn).await?;
        let anchor = mapping.anchor.as_str();
        let ours = |entry: &Entry| {
            let mut anchors = entry.texts(anchor);
            anchors.any(|value| rules::is_anchor_of(value, person))
        };
        // A sign-in, or a run that was cut off.
        if ours(&entry) {
            return Ok(());
        }
        let now = self.stranger(&entry);
        if now.sam != step.sam || !adopt::still_shows(&now, shape, evidence) {
            return Err(Error::Meanwhile(format!("{dn} is not as it was planned")));
        }
        self.only_one(&session, person).await?;
        let refused = |why: String| lifecycle::Error::Refused {
            dn: dn.to_string(),
            why,
        };
        if let Some(why) = now.untouchable {
            return Err(refused(why).into());
        }
        // SECURITY: only inside the guests' OU, nobody privileged, nothing that could not be used.
        let inside: Vec<Dn> = mapping.guests_ou.iter().cloned().collect();
        if !self.is_guests(&entry.dn) {
            return Err(refused(String::from("lies outside the guests' OU")).into());
        }
        fence::judge(&entry, &inside, self.tools.clock.unix())
            .map_err(|denial| refused(format!("{} [{}]", denial.detail, denial.code)))?;
        let changes = shadow::stamp(&mapping.anchor, person, &entry)?;
        session.modify(&entry.dn, changes).await?;
        let stamped = self.read_stranger(&session, &dn).await?;
        if !ours(&stamped) {
            let why = String::from("the anchor was written, but is not there");
            return Err(refused(why).into());
        }
        tracing::info!(
            target: "audit",
            event = "account-adopted",
            person = %person,
            sam = step.sam,
            dn = %dn,
            dc = %session.server(),
            shape = shape.sentence(),
            by = BY,
            via = "sync",
        );
        self.remember(person, &stamped, session.server().as_str())
            .await;
        Ok(())
    }

    async fn read_stranger(&self, session: &Session, dn: &Dn) -> Result<Entry, Error> {
        let wanted = self.wanted_of_strangers(true);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let entry = session.read(dn, &wanted).await?;
        entry.ok_or_else(|| Error::Meanwhile(format!("{dn} is gone")))
    }

    /// SECURITY: a first visit may have made an account since the plan was; nobody gets two.
    async fn only_one(&self, session: &Session, person: PersonId) -> Result<(), Error> {
        let mapping = &self.rules.mapping;
        for base in mapping.search_bases() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: Filter::equals(&mapping.anchor, &rules::anchor_value(person)),
                attributes: vec![String::from("1.1")],
                limit: 1,
            };
            if let Some(entry) = session.search(&search).await?.entries.first() {
                let why = format!("its person has the account {} now", entry.dn);
                return Err(Error::Meanwhile(why));
            }
        }
        Ok(())
    }
}
