//! An account that is not here may be on another domain controller: it was made there and has not come yet. It is not missing, and a
//! second one would be a conflict that replication resolves by renaming one of them.
//!
//! Every account that is made is remembered in the store with the controller that made it. Before one is planned anew, that one is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Error;
use super::Sync;
use super::plan::LeftAlone;
use super::plan::Plan;
use super::step::Act;
use super::step::Step;
use crate::ldap;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::mapping::rules;
use crate::model::names::HostName;
use crate::model::names::PersonId;

/// Longer than any usual schedule between sites (180 minutes a hop): what was made before has come, or was deleted since.
const REPLICATED: Duration = Duration::from_secs(86_400);

impl Sync {
    /// Takes out of `plan` who has an account that `server` does not know yet.
    pub(super) async fn wait_for_replication(
        &self,
        plan: &mut Plan,
        server: &HostName,
    ) -> Result<(), Error> {
        let mut waiting = Vec::new();
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in std::mem::take(&mut plan.steps) {
            match self.elsewhere(&step, server).await? {
                None => steps.push(step),
                Some(why) => {
                    waiting.push(step.oid);
                    plan.left_alone.push(LeftAlone {
                        oid: step.oid,
                        sam: step.sam,
                        why,
                    });
                }
            }
        }
        // Memberships of an account that is not made are not written either.
        let waits: BTreeSet<_> = waiting.into_iter().collect();
        steps.retain(|step: &Step| !waits.contains(&step.oid));
        plan.steps = steps;
        Ok(())
    }

    /// Why `step` would make a second account, if so.
    async fn elsewhere(&self, step: &Step, server: &HostName) -> Result<Option<String>, Error> {
        let (Act::Create { .. }, Some(store)) = (&step.act, &self.tools.store) else {
            return Ok(None);
        };
        let person = PersonId {
            tid: self.tenant,
            oid: step.oid,
        };
        let Some(link) = store.account_link(person).await? else {
            return Ok(None);
        };
        let Ok(maker) = link.dc.parse::<HostName>() else {
            return Ok(None);
        };
        if maker == *server {
            return Ok(None);
        }
        // SECURITY: only who is a domain controller by configuration or DNS is bound to, whatever was noted once.
        let known = self.tools.directory.servers().await?.contains(&maker);
        let asked = if known {
            self.is_on(&maker, person).await
        } else {
            let reason = String::from("it is none of the domain controllers any more");
            Err(Error::Directory(ldap::Error::NoServer { reason }))
        };
        match asked {
            Ok(true) => Ok(Some(format!(
                "was made on {maker}, and {server} has not heard of it yet"
            ))),
            Ok(false) => Ok(None),
            Err(_) if self.tools.clock.unix() > link.created + seconds() => Ok(None),
            Err(error) => Ok(Some(format!(
                "was made on {maker} less than a day ago; {server} has not heard of it, and {maker} cannot be asked: {error}"
            ))),
        }
    }

    async fn is_on(&self, server: &HostName, person: PersonId) -> Result<bool, Error> {
        let mapping = &self.rules.mapping;
        let session = self.tools.directory.session_on(server).await?;
        for base in mapping.search_bases() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: Filter::equals(&mapping.anchor, &rules::anchor_value(person)),
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

fn seconds() -> i64 {
    i64::try_from(REPLICATED.as_secs()).unwrap_or(i64::MAX)
}
