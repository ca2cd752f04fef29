//! An account that somebody's record names and that was not read may be on another domain controller, which has not told this one yet:
//! then its person has not left.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::Partners;
use super::world::Person;
use super::world::World;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::model::names::HostName;
use crate::sync::Error;

/// Seconds; longer than any usual schedule between sites (180 minutes a hop).
const REPLICATED: i64 = 86_400;

impl Partners {
    /// Accounts that were not read although people's records name them, and that another controller has or may have: why that is so.
    pub(super) async fn elsewhere(&self, world: &World) -> Result<BTreeMap<Uuid, String>, Error> {
        let here: BTreeSet<Uuid> = world.locals.iter().map(|local| local.guid).collect();
        let named = |person: &Person| {
            let record = person.recorded.ours()?;
            (!here.contains(&record.guid)).then(|| (record.guid, is_fresh(person, world.now)))
        };
        let missing: BTreeMap<Uuid, bool> = world.people.values().filter_map(named).collect();
        let mut found = BTreeMap::new();
        if missing.is_empty() {
            return Ok(found);
        }
        for server in self.tools.directory.servers().await? {
            let Err(error) = self.ask(&server, missing.keys(), &mut found).await else {
                continue;
            };
            let why = format!(
                "has been here for less than a day, and {server} cannot be asked for the account: {error}"
            );
            // Who has been there for long has replicated: a controller that is gone for good keeps nobody for ever.
            for (guid, _) in missing.iter().filter(|(_, fresh)| **fresh) {
                found.entry(*guid).or_insert_with(|| why.clone());
            }
        }
        Ok(found)
    }

    async fn ask(
        &self,
        server: &HostName,
        missing: impl Iterator<Item = &Uuid>,
        found: &mut BTreeMap<Uuid, String>,
    ) -> Result<(), Error> {
        let session = self.tools.directory.session_on(server).await?;
        for guid in missing {
            if self.is_there(&session, *guid).await? {
                found.insert(
                    *guid,
                    format!("has an account on {server}, which was not told of yet"),
                );
            }
        }
        Ok(())
    }

    /// Whether a reading there would tell of the account.
    async fn is_there(&self, session: &Session, guid: Uuid) -> Result<bool, Error> {
        let settings = &self.settings;
        let by_guid = Filter::equals_bytes(&"objectGUID".parse()?, &guid.to_bytes_le());
        let in_scope = settings
            .bases
            .iter()
            .map(|base| (base, settings.filter.clone()));
        let anchored = Filter::present(&settings.mapping.anchor);
        let with_anchor = settings.mapping.search_bases();
        let with_anchor = with_anchor
            .into_iter()
            .map(|base| (base, Some(anchored.clone())));
        for (base, and) in in_scope.chain(with_anchor) {
            let mut parts = vec![by_guid.clone()];
            parts.extend(and);
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: Filter::all(&parts),
                attributes: vec![String::from("1.1")],
                limit: 1,
            };
            if !session.search(&search).await?.entries.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// So new in the cloud that the account may be as new.
fn is_fresh(person: &Person, now: i64) -> bool {
    person.created.is_none_or(|at| at > now - REPLICATED)
}
