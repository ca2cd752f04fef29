//! Membership of managed AD groups follows the app roles and Entra groups of the token.
//!
//! Only groups that a mapping names, all of them under `groups_ou`; only accounts that carry our anchor. The
//! account's own `memberOf` is read, never a group's `member`, which comes in ranges.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Needs;
use super::fence;
use super::lookup::Candidate;
use super::managed;
use super::managed::Standing;
use super::refusal::Refusal;
use super::settings::GroupSource;
use super::settings::Settings;
use crate::ldap::Change;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Session;
use crate::model::claims::Claims;
use crate::model::stop::Code;
use crate::model::stop::Side;

/// Managed groups by their place in the settings.
pub(super) type Wanted = BTreeSet<usize>;

/// Which mappings fit the person. Two mappings may name the same group: one that fits is enough.
pub(super) fn wanted(
    settings: &Settings,
    claims: &Claims,
    groups: &[Uuid],
) -> impl Iterator<Item = usize> {
    let fits = |source: &GroupSource| match source {
        GroupSource::Role(role) => claims.roles.contains(role),
        GroupSource::Group(group) => groups.contains(group),
    };
    let all = settings.groups.iter().enumerate();
    all.filter(move |(_, managed)| fits(&managed.from))
        .map(|(place, _)| place)
}

/// What has to change so that `entry` is a member of just the wanted ones among the managed groups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    join: Vec<Dn>,
    leave: Vec<Dn>,
}

fn plan(settings: &Settings, entry: &Entry, wanted: &Wanted) -> Plan {
    let is_in: Vec<Dn> = entry
        .texts("memberOf")
        .filter_map(|dn| dn.parse().ok())
        .collect();
    let goal: Vec<&Dn> = wanted
        .iter()
        .filter_map(|place| settings.groups.get(*place))
        .map(|managed| &managed.group)
        .collect();
    let mut plan = Plan::default();
    for managed in &settings.groups {
        let group = &managed.group;
        let (has, should) = (is_in.contains(group), goal.contains(&group));
        if should && !has && !plan.join.contains(group) {
            plan.join.push(group.clone());
        }
        if has && !should && !plan.leave.contains(group) {
            plan.leave.push(group.clone());
        }
    }
    plan
}

impl Needs {
    /// Makes the account a member of the wanted groups and of no other managed one; true if anything changed.
    pub(super) async fn follow_groups(
        &self,
        account: &Candidate,
        claims: &Claims,
        wanted: &Wanted,
    ) -> Result<bool, Refusal> {
        let entry = &account.entry;
        if self.settings.groups.is_empty()
            || !fence::is_ours(entry, self.is_anchored(entry, claims.person))
        {
            return Ok(false);
        }
        let plan = plan(&self.settings, entry, wanted);
        if plan == Plan::default() {
            return Ok(false);
        }
        let session = self.directory.session_on(&account.server).await?;
        let mut changed = false;
        // Out before in: what somebody may no longer do ends first.
        for (group, joins) in plan
            .leave
            .iter()
            .map(|g| (g, false))
            .chain(plan.join.iter().map(|g| (g, true)))
        {
            self.inside_ou(group)?;
            // SECURITY: as a synchronization looks: a group that became privileged meanwhile would make its members administrators. It is left
            // out, and keeps nobody away from everything else.
            let ou = self.settings.groups_ou.as_ref();
            if let Standing::Refused(why) = managed::look(&session, group, ou).await? {
                tracing::warn!(%group, why, "a managed group is not written to");
                continue;
            }
            changed = true;
            change(&session, group, entry, joins).await?;
            tracing::info!(
                target: "audit",
                event = if joins { "group-joined" } else { "group-left" },
                person = %claims.person,
                dn = %entry.dn,
                group = %group,
            );
        }
        Ok(changed)
    }

    /// SECURITY: checked when the settings were read, and again before each write.
    fn inside_ou(&self, group: &Dn) -> Result<(), Refusal> {
        let inside = |ou: &Dn| group.is_under(ou) && group != ou;
        if self.settings.groups_ou.as_ref().is_some_and(inside) {
            return Ok(());
        }
        let detail = format!("{group} is not under groups_ou");
        Err(Refusal::fail(Code::GroupOutsideOu, Side::Gateway, detail))
    }
}

async fn change(session: &Session, group: &Dn, entry: &Entry, joins: bool) -> Result<(), Refusal> {
    let member = entry.dn.to_string().into_bytes();
    let attribute = "member".parse()?;
    let change = if joins {
        Change::Add(attribute, member)
    } else {
        Change::Delete(attribute, member)
    };
    match session.modify(group, vec![change]).await {
        Ok(()) => Ok(()),
        Err(error) if managed::is_so_already(&error, joins) => Ok(()),
        Err(error) if error.is_connection() => Err(error.into()),
        Err(error) => Err(Refusal::fail(
            Code::DirectoryRefused,
            Side::Directory,
            error.to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::rules::tests::guest;
    use crate::mapping::settings::ManagedGroup;
    use crate::mapping::settings::tests::settings;

    const INTRANET: &str = "CN=Intranet Users,OU=Guest Groups,DC=contoso,DC=test";
    const WIKI: &str = "CN=Wiki Users,OU=Guest Groups,DC=contoso,DC=test";

    fn house() -> Settings {
        let mut settings = settings();
        let managed = |from, group: &str| ManagedGroup {
            from,
            group: group.parse().unwrap(),
        };
        settings.groups = vec![
            managed(GroupSource::Role("Intranet.User".into()), INTRANET),
            managed(GroupSource::Group(Uuid::from_u128(7)), INTRANET),
            managed(GroupSource::Role("Wiki.User".into()), WIKI),
        ];
        settings
    }

    fn member_of(groups: &[&str]) -> Entry {
        let values: Vec<&[u8]> = groups.iter().map(|group| group.as_bytes()).collect();
        Entry::from_parts("CN=x,DC=y".parse().unwrap(), &[("memberOf", &values)])
    }

    #[test]
    fn membership_follows_the_token_and_touches_nothing_else() {
        let mut jane = guest(1);
        jane.roles = vec!["Wiki.User".into()];
        let both: Wanted = wanted(&house(), &jane, &[Uuid::from_u128(7)]).collect();
        assert_eq!(both, Wanted::from([1, 2]));
        let staff = "CN=Printers,OU=Staff,DC=contoso,DC=test";
        let fresh = plan(&house(), &member_of(&[staff]), &both);
        assert_eq!(
            fresh.join,
            [INTRANET.parse().unwrap(), WIKI.parse::<Dn>().unwrap()]
        );
        assert_eq!(fresh.leave, []);
        let lower = INTRANET.to_lowercase();
        assert_eq!(
            plan(&house(), &member_of(&[&lower, WIKI]), &both),
            Plan::default()
        );
        let gone = plan(
            &house(),
            &member_of(&[INTRANET, WIKI, staff]),
            &Wanted::from([2]),
        );
        assert_eq!(
            (gone.join, gone.leave),
            (vec![], vec![INTRANET.parse().unwrap()])
        );
    }
}
