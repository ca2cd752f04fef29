//! Who has left: Graph is asked, nobody is touched.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::Error;
use super::Watch;
use super::mark::Mark;
use crate::graph;
use crate::graph::Change;
use crate::graph::Link;
use crate::graph::Then;
use crate::model::claims::Groups;
use crate::store::records::SignIn;

/// Who is signed in.
pub(super) type Live = Vec<SignIn>;

/// Who is in the groups that decide, nested ones included.
pub(super) type Members = BTreeMap<Uuid, BTreeSet<Uuid>>;

/// What people's delta told.
pub(super) struct Told {
    /// Who was disabled or deleted; absent = that is not known, and everybody has to be asked about.
    gone: Option<BTreeSet<Uuid>>,
    link: Link,
}

impl Watch {
    /// What happened since the mark. Asked before it is read who is signed in: whoever comes in between is among them.
    pub(super) async fn told(&self, mark: &Mark) -> Result<Told, Error> {
        let (tenant, now) = (self.settings.tenant, self.tools.clock.unix());
        if let Some(link) = mark.link(&self.tools.graph, tenant, now) {
            match self.pages(Some(link)).await {
                Ok((gone, link)) => {
                    let gone = Some(gone);
                    return Ok(Told { gone, link });
                }
                Err(Error::Graph(error @ graph::Error::ResyncNeeded { .. })) => {
                    tracing::info!(%error, "everybody who is signed in is asked about");
                }
                Err(error) => return Err(error),
            }
        }
        // The link first: whoever leaves while the others are asked about is told of next time.
        let (_, link) = self.pages(None).await?;
        Ok(Told { gone: None, link })
    }

    /// Those among `live` who were disabled or deleted; the mark goes on.
    pub(super) async fn gone(
        &self,
        told: &Told,
        mark: &mut Mark,
        live: &Live,
    ) -> Result<BTreeSet<Uuid>, Error> {
        let mut people: BTreeSet<Uuid> = live.iter().map(|one| one.claims.person.oid).collect();
        if let Some(gone) = &told.gone {
            people.retain(|oid| gone.contains(oid));
        }
        let gone = if told.gone.is_none() || people.len() > MANY {
            self.really_gone(&people).await?
        } else {
            people
        };
        mark.go_on_from(&told.link, self.settings.tenant, self.tools.clock.unix());
        Ok(gone)
    }

    async fn pages(&self, from: Option<Link>) -> Result<(BTreeSet<Uuid>, Link), Error> {
        let mut gone = BTreeSet::new();
        let mut link = None;
        let mut pages = self.tools.graph.leavers(from)?;
        while let Some(page) = pages.next().await? {
            for change in page.rows {
                match change {
                    Change::Removed(oid, _) => {
                        gone.insert(oid);
                    }
                    // The later word counts.
                    Change::Now(user) => match user.account_enabled.value() {
                        Some(false) => drop(gone.insert(user.id)),
                        Some(true) => drop(gone.remove(&user.id)),
                        None => {}
                    },
                }
            }
            match page.then {
                Then::Delta(next) => link = Some(next),
                Then::Page(_) | Then::End => {}
            }
        }
        Ok((gone, link.ok_or(Error::NoLink)?))
    }

    /// Those of `people` who are disabled or not there, each asked about.
    async fn really_gone(&self, people: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, Error> {
        let mut gone = BTreeSet::new();
        for oid in people {
            match self.tools.graph.is_enabled(*oid).await {
                // Half an answer says nothing about anybody.
                Ok(Some(true) | None) => {}
                Ok(Some(false)) | Err(graph::Error::UserUnknown(_)) => {
                    gone.insert(*oid);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(gone)
    }

    /// Everybody in the groups that decide.
    pub(super) async fn members(&self) -> Result<Members, Error> {
        let mut all = Members::new();
        for group in self.settings.admitting.union(&self.settings.barring) {
            let mut members = BTreeSet::new();
            let mut pages = self.tools.graph.transitive_ids(*group)?;
            loop {
                match pages.next().await {
                    Ok(Some(page)) => members.extend(page.rows.iter().map(|one| one.id)),
                    // A group that was deleted has no members.
                    Ok(None) | Err(graph::Error::ObjectUnknown { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            all.insert(*group, members);
        }
        Ok(all)
    }

    /// The group that somebody's token is wrong about, if there is one.
    pub(super) fn changed_group(&self, sign_in: &SignIn, members: &Members) -> Option<Uuid> {
        // In more groups than a token holds: then Graph is asked at each decision, and remembered for one recheck.
        let Groups::Listed(listed) = &sign_in.claims.groups else {
            return None;
        };
        let oid = sign_in.claims.person.oid;
        let is_in = |group: &Uuid| members.get(group).is_some_and(|all| all.contains(&oid));
        let lost = |group: &&Uuid| listed.contains(group) && !is_in(group);
        let caught = |group: &&Uuid| !listed.contains(group) && is_in(group);
        let lost = self.settings.admitting.iter().find(lost);
        lost.or_else(|| self.settings.barring.iter().find(caught))
            .copied()
    }
}

/// So many people may seem to have left between two rounds before each of them is asked about.
const MANY: usize = 20;
