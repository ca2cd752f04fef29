//! Who joins and leaves managed groups: pure.
//!
//! Only accounts of ours are ever counted, put in or taken out; who else is a member of the AD group is not even read. About a group whose
//! source could not be read whole, is too large or is none to write to, nothing is concluded.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::plan;
use super::plan::LeftAlone;
use super::plan::Plan;
use super::step::Act;
use super::step::Step;
use super::step::Why;
use super::world::Disabled;
use super::world::LocalAccount;
use super::world::ManagedGroup;
use super::world::World;
use crate::ldap::Dn;
use crate::mapping::shadow::Flow;

/// Adds to `plan`, which says what becomes of the accounts themselves. `accounts`: those of people who have just one.
pub(super) fn add(world: &World, accounts: &[LocalAccount], plan: &mut Plan) {
    for group in &world.groups {
        offer(group, plan);
    }
    let mut fates: BTreeMap<Uuid, Fate> = BTreeMap::new();
    let mut made = Vec::new();
    for step in &plan.steps {
        let fate = match &step.act {
            Act::Disable | Act::Delete => Fate::Goes,
            Act::Restore => Fate::Returns,
            Act::Create { .. } => {
                made.push(step.clone());
                continue;
            }
            // Which groups an adopted account is in is known once it is ours: the next run looks.
            Act::Move { .. }
            | Act::Adopt { .. }
            | Act::Update { .. }
            | Act::Join { .. }
            | Act::Leave { .. }
            | Act::MakeGroup { .. } => continue,
        };
        fates.insert(step.oid, fate);
    }
    let mut steps = Vec::new();
    for account in accounts.iter().filter(|one| one.untouchable.is_none()) {
        let who = Who {
            oid: account.oid,
            sam: &account.sam,
            name: name(world, account),
        };
        let has = &account.groups;
        match (fates.get(&account.oid), &account.disabled) {
            // Taken out with the step itself, or gone with the account.
            (Some(Fate::Goes), _) => {}
            (Some(Fate::Returns), _) => {
                let has = has.union(&account.kept).cloned().collect();
                follow(world, &who, &has, &mut steps);
            }
            (None, None) => follow(world, &who, has, &mut steps),
            (None, Some(Disabled::ByUs(..))) => {
                steps.extend(has.iter().map(|group| who.leaves(group, Why::AtRest)));
            }
            // What somebody else has disabled is somebody else's.
            (None, Some(Disabled::ByOthers(_))) => {}
        }
    }
    for step in &made {
        let who = Who {
            oid: step.oid,
            sam: &step.sam,
            name: step.name.clone(),
        };
        follow(world, &who, &BTreeSet::new(), &mut steps);
    }
    plan.steps.extend(steps);
}

enum Fate {
    Goes,
    Returns,
}

struct Who<'a> {
    oid: Uuid,
    sam: &'a str,
    name: String,
}

impl Who<'_> {
    fn step(&self, act: Act, why: Why) -> Step {
        Step {
            act,
            oid: self.oid,
            sam: self.sam.to_owned(),
            name: self.name.clone(),
            why,
        }
    }

    fn leaves(&self, group: &str, why: Why) -> Step {
        let group = group.to_owned();
        self.step(Act::Leave { group }, why)
    }
}

/// The group itself: made, or left alone with the reason.
fn offer(group: &ManagedGroup, plan: &mut Plan) {
    let name = group.dn.parse::<Dn>().ok();
    let name = name.as_ref().and_then(Dn::leaf).unwrap_or_default();
    if let Some(why) = &group.unusable {
        plan.left_alone.push(LeftAlone {
            oid: group.source,
            sam: name.to_owned(),
            why: format!("{}: {why}", group.dn),
        });
    } else if !group.exists {
        plan.steps.push(Step {
            act: Act::MakeGroup {
                group: group.dn.clone(),
                anchor: group.anchor.clone(),
            },
            oid: group.source,
            sam: name.to_owned(),
            name: name.to_owned(),
            why: Why::GroupMissing,
        });
    }
}

fn follow(world: &World, who: &Who<'_>, has: &BTreeSet<String>, steps: &mut Vec<Step>) {
    for group in world.groups.iter().filter(|one| one.unusable.is_none()) {
        let (is_in, belongs) = (has.contains(&group.dn), group.people.contains(&who.oid));
        if belongs && !is_in {
            let group = group.dn.clone();
            steps.push(who.step(Act::Join { group }, Why::InGroup));
        }
        if is_in && !belongs {
            steps.push(who.leaves(&group.dn, Why::NotInGroup));
        }
    }
}

fn name(world: &World, account: &LocalAccount) -> String {
    let person = world.cloud.people.get(&account.oid);
    let name = person.and_then(|person| person.values.get(&Flow::DisplayName));
    let name = name.or_else(|| account.values.get(&Flow::DisplayName));
    plan::shown(name)
}
