//! Managed groups as both sides have them: who belongs into one by the cloud, and whether it is a group to write to.
//!
//! Specification: Graph `groups/{id}/transitiveMembers` flattens nested groups. An app role that is assigned to a group counts for its direct
//! members only, as in Entra's tokens.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Error;
use super::Sync;
use super::world::Cloud;
use super::world::ManagedGroup;
use crate::graph;
use crate::graph::Application;
use crate::graph::Assignment;
use crate::graph::Kind;
use crate::ldap::Dn;
use crate::mapping::managed;
use crate::mapping::managed::Standing;
use crate::mapping::settings::GroupSource;

/// A managed group that is kept.
#[derive(Clone, Debug)]
pub struct KeptGroup {
    /// The AD group.
    pub group: Dn,
    /// Who belongs into it, and how many guests are believed to be behind each source.
    pub from: Vec<(GroupSource, usize)>,
    /// Whether it is made where it is missing.
    pub create: bool,
}

/// What is asked about app roles, once for all groups.
struct Roles {
    client: Uuid,
    asked: Option<(Application, Vec<Assignment>)>,
}

impl KeptGroup {
    /// As Entra Cloud Sync anchors groups; a role's names the application and the role.
    fn anchor(&self, client: Uuid) -> (Uuid, String) {
        match self.from.first() {
            Some((GroupSource::Group(id), _)) => (*id, format!("Group_{id}")),
            Some((GroupSource::Role(role), _)) => (client, format!("AppRole_{client}_{role}")),
            None => (client, String::new()),
        }
    }
}

impl Sync {
    /// Every kept group. A source that is not there or too large is told in the group; without an answer there is none at all.
    pub(super) async fn groups(&self, cloud: &Cloud) -> Result<Vec<ManagedGroup>, Error> {
        let mut roles = Roles {
            client: self.groups.client,
            asked: None,
        };
        let mut all = Vec::new();
        for kept in &self.groups.kept {
            let (exists, mut unusable) = self.on_premises(kept).await?;
            let mut people = BTreeSet::new();
            for (source, most) in &kept.from {
                if unusable.is_some() {
                    break;
                }
                match self.behind(source, cloud, &mut roles).await? {
                    Err(why) => unusable = Some(why),
                    Ok(found) if found.len() > *most => {
                        unusable = Some(format!(
                            "refused: {} holds {} guests, max_members is {most}",
                            named(source),
                            found.len()
                        ));
                    }
                    Ok(found) => people.extend(found),
                }
            }
            if unusable.is_some() {
                people.clear();
            }
            let (source, anchor) = kept.anchor(self.groups.client);
            all.push(ManagedGroup {
                dn: kept.group.to_string(),
                source,
                anchor,
                exists,
                unusable,
                people,
            });
        }
        Ok(all)
    }

    /// Whether it is there, and why it is none to write to.
    async fn on_premises(&self, kept: &KeptGroup) -> Result<(bool, Option<String>), Error> {
        let session = self.tools.directory.session().await?;
        let ou = self.rules.mapping.groups_ou.as_ref();
        Ok(match managed::look(&session, &kept.group, ou).await? {
            Standing::Writable => (true, None),
            Standing::Refused(why) => (true, Some(why)),
            Standing::Missing if !managed::is_inside(&kept.group, ou) => {
                (false, Some(String::from("is not under groups_ou")))
            }
            Standing::Missing if kept.create => (false, None),
            Standing::Missing => (
                false,
                Some(String::from("is not there, and create is not set")),
            ),
        })
    }

    /// The guests behind a source, nobody else; or why that cannot be said.
    async fn behind(
        &self,
        source: &GroupSource,
        cloud: &Cloud,
        roles: &mut Roles,
    ) -> Result<Result<BTreeSet<Uuid>, String>, Error> {
        let found = match source {
            GroupSource::Group(id) => self.nested(*id, cloud).await,
            GroupSource::Role(role) => self.with_role(role, cloud, roles).await,
        };
        match found {
            // SECURITY: a group that was deleted or mistyped is no empty group.
            Err(Error::Graph(error @ graph::Error::ObjectUnknown { .. })) => {
                Ok(Err(error.to_string()))
            }
            found => found.map(|people| {
                people.ok_or_else(|| {
                    format!(
                        "the app registration has no enabled role of that name: {}",
                        named(source)
                    )
                })
            }),
        }
    }

    async fn nested(&self, group: Uuid, cloud: &Cloud) -> Result<Option<BTreeSet<Uuid>>, Error> {
        let mut people = BTreeSet::new();
        let mut pages = self.tools.graph.transitive_members(group)?;
        while let Some(page) = pages.next().await? {
            let ids = page.rows.iter().map(|user| user.id);
            people.extend(ids.filter(|id| cloud.people.contains_key(id)));
        }
        Ok(Some(people))
    }

    async fn with_role(
        &self,
        role: &str,
        cloud: &Cloud,
        roles: &mut Roles,
    ) -> Result<Option<BTreeSet<Uuid>>, Error> {
        let graph = &self.tools.graph;
        if roles.asked.is_none() {
            let application = graph.application(roles.client).await?;
            let mut assigned = Vec::new();
            let mut pages = graph.assigned_to(roles.client)?;
            while let Some(page) = pages.next().await? {
                assigned.extend(page.rows);
            }
            roles.asked = Some((application, assigned));
        }
        let Some((application, assigned)) = &roles.asked else {
            return Ok(None);
        };
        let Some(id) = application.role(role) else {
            return Ok(None);
        };
        let mut people = BTreeSet::new();
        for one in assigned.iter().filter(|one| one.app_role_id == id) {
            match one.principal_type {
                Kind::User => drop(people.insert(one.principal_id)),
                Kind::Group => {
                    let mut pages = graph.members(one.principal_id)?;
                    while let Some(page) = pages.next().await? {
                        people.extend(page.rows.iter().map(|member| member.id));
                    }
                }
                Kind::Other => {}
            }
        }
        people.retain(|oid| cloud.people.contains_key(oid));
        Ok(Some(people))
    }
}

/// The settings' groups, each once however many sources it has.
#[must_use]
pub fn once(mapped: Vec<KeptGroup>) -> Vec<KeptGroup> {
    let mut all: Vec<KeptGroup> = Vec::new();
    for one in mapped {
        match all.iter_mut().find(|known| known.group == one.group) {
            Some(known) => {
                known.from.extend(one.from);
                known.create |= one.create;
            }
            None => all.push(one),
        }
    }
    all
}

fn named(source: &GroupSource) -> String {
    match source {
        GroupSource::Group(id) => format!("entra group {id}"),
        GroupSource::Role(role) => format!("app role {role:?}"),
    }
}
