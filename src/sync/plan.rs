//! What has to be done: pure. The world goes in, steps come out, always in the same order.
//!
//! Nothing is planned for an account that does not carry our anchor, that the fence keeps us from, or that somebody else has
//! disabled. A plan that was carried out leaves a world whose plan is empty (`plan_tests.rs`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::adopt;
use super::adopt::Finding;
use super::adopt::Pair;
use super::membership;
use super::step::Act;
use super::step::Edit;
use super::step::Step;
use super::step::Where;
use super::step::Why;
use super::world::Disabled;
use super::world::Kind;
use super::world::LocalAccount;
use super::world::Person;
use super::world::Place;
use super::world::World;
use crate::mapping::names;
use crate::mapping::settings::Settings;
use crate::mapping::shadow::Flow;
use crate::mapping::shadow::Values;
use crate::model::names::PersonId;

/// Who gets an account, and for how long.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The mapping's: names, places.
    pub mapping: Settings,
    /// Whether members from elsewhere count as guests.
    pub external_members: bool,
    /// Whether those get one who have not redeemed their invitation yet.
    pub pending: bool,
    /// How long an invitation may wait before its account is disabled.
    pub redeem_within: Option<Duration>,
    /// How long nothing may happen to an account.
    pub unseen_after: Option<Duration>,
    /// How long a disabled account rests before it is deleted.
    pub delete_after: Option<Duration>,
    /// Which attributes follow the cloud.
    pub flow: Vec<Flow>,
    /// Whether accounts that other tools have made are taken over.
    pub adopt: bool,
}

/// What a run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it is done.
    pub steps: Vec<Step>,
    /// What a plan could have touched and does not.
    pub left_alone: Vec<LeftAlone>,
    /// Accounts of other tools that somebody has to look at.
    pub findings: Vec<Finding>,
    /// Accounts that are kept by us and can be used now: what the brake's share is taken of.
    pub in_use: usize,
}

/// An account or a person for whom nothing is planned, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The person's object id.
    pub oid: Uuid,
    /// The account.
    pub sam: String,
    /// Why.
    pub why: String,
}

impl Plan {
    /// [`removals`] of its steps.
    #[must_use]
    pub fn removals(&self) -> usize {
        removals(&self.steps)
    }
}

/// From how many people they take an account, or membership of managed groups: people and not memberships, because one who loses
/// five groups is one person who calls the help desk. Who loses the account loses its groups with it, and counts once. Taking groups
/// from an account at rest takes nothing from anybody.
#[must_use]
pub fn removals(steps: &[Step]) -> usize {
    let of = |fits: &dyn Fn(&Step) -> bool| -> BTreeSet<Uuid> {
        let steps = steps.iter().filter(|step| fits(step));
        steps.map(|step| step.oid).collect()
    };
    let returns = of(&|step| step.act == Act::Restore);
    let leaves = |step: &Step| matches!(step.act, Act::Leave { .. }) && step.why == Why::NotInGroup;
    let removed = of(&|step| step.act.removes());
    let left = of(&|step| leaves(step) && !returns.contains(&step.oid));
    let goes = steps.iter().filter(|step| step.act.removes()).count();
    goes + left.difference(&removed).count()
}

/// What the cloud wants of a person's account.
#[derive(Clone, Copy)]
enum Verdict<'a> {
    Wanted(&'a Person),
    Unwanted(Why),
    /// Not yet: none is made, one that is there is kept.
    NotYet,
}

/// The plan for `world`.
#[must_use]
pub fn plan(world: &World, rules: &Rules) -> Plan {
    let mut accounts: BTreeMap<Uuid, Vec<&LocalAccount>> = BTreeMap::new();
    for account in &world.accounts {
        accounts.entry(account.oid).or_default().push(account);
    }
    let desk = Desk { world, rules };
    let mut plan = Plan::default();
    for (oid, of_person) in &accounts {
        match of_person.as_slice() {
            [one] => desk.account(one, &mut plan),
            several => {
                let names: Vec<&str> = several.iter().map(|one| one.dn.as_str()).collect();
                plan.left_alone.push(LeftAlone {
                    oid: *oid,
                    sam: several
                        .first()
                        .map_or_else(String::new, |one| one.sam.clone()),
                    why: format!("several accounts carry this anchor: {}", names.join("; ")),
                });
            }
        }
    }
    let others = adopt::judge(world, &accounts, rules.adopt, &|oid| desk.unwanted(oid));
    plan.steps
        .extend(others.pairs.iter().flat_map(|pair| desk.adopt(pair)));
    plan.findings = others.findings;
    for person in world.cloud.people.values() {
        if !accounts.contains_key(&person.oid)
            && !others.spoken_for.contains(&person.oid)
            && let Verdict::Wanted(person) = desk.verdict(person.oid)
        {
            plan.steps.push(desk.create(person));
        }
    }
    let single = |all: &Vec<&LocalAccount>| match all.as_slice() {
        [one] => Some((*one).clone()),
        _ => None,
    };
    let single: Vec<LocalAccount> = accounts.values().filter_map(single).collect();
    membership::add(world, &single, &mut plan);
    let key = |step: &Step| {
        let group = step.act.group().unwrap_or_default().to_owned();
        (step.act.rank(), group, step.why.as_str(), step.oid)
    };
    plan.steps.sort_by_cached_key(key);
    plan
}

struct Desk<'a> {
    world: &'a World,
    rules: &'a Rules,
}

impl<'a> Desk<'a> {
    fn verdict(&self, oid: Uuid) -> Verdict<'a> {
        let cloud = &self.world.cloud;
        let Some(person) = cloud.people.get(&oid) else {
            return Verdict::Unwanted(if cloud.deleted.contains(&oid) {
                Why::DeletedInCloud
            } else {
                Why::LeftTenant
            });
        };
        if !person.enabled {
            return Verdict::Unwanted(Why::DisabledInCloud);
        }
        if person.synced {
            return Verdict::Unwanted(Why::OnPremises);
        }
        match person.kind {
            Kind::Internal => return Verdict::Unwanted(Why::BecameInternal),
            Kind::ExternalMember if !self.rules.external_members => {
                return Verdict::Unwanted(Why::BecameMember);
            }
            Kind::ExternalMember | Kind::Guest => {}
        }
        if cloud
            .scope
            .as_ref()
            .is_some_and(|scope| !scope.contains(&oid))
        {
            return Verdict::Unwanted(Why::LeftScope);
        }
        let Some(since) = person.pending else {
            return Verdict::Wanted(person);
        };
        match since {
            Some(since) if self.is_over(since, self.rules.redeem_within) => {
                Verdict::Unwanted(Why::NeverRedeemed)
            }
            _ if self.rules.pending => Verdict::Wanted(person),
            _ => Verdict::NotYet,
        }
    }

    fn unwanted(&self, oid: Uuid) -> Option<&'static str> {
        match self.verdict(oid) {
            Verdict::Wanted(_) => None,
            Verdict::Unwanted(why) => Some(why.sentence()),
            Verdict::NotYet => Some("has not redeemed the invitation yet"),
        }
    }

    fn is_over(&self, since: i64, span: Option<Duration>) -> bool {
        let span = span.map(|span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
        span.is_some_and(|span| self.world.now.saturating_sub(since) >= span)
    }

    fn account(&self, account: &LocalAccount, plan: &mut Plan) {
        let leave = |why: String| LeftAlone {
            oid: account.oid,
            sam: account.sam.clone(),
            why,
        };
        let verdict = self.verdict(account.oid);
        if let Some(why) = &account.untouchable {
            // Another tool's accounts elsewhere are nobody's news, unless it is why somebody gets none here.
            if account.place != Place::Elsewhere || matches!(verdict, Verdict::Wanted(_)) {
                plan.left_alone.push(leave(why.clone()));
            }
            return;
        }
        if account.disabled.is_none() {
            plan.in_use += 1;
        }
        let acts = match (&account.disabled, verdict) {
            (None, Verdict::Unwanted(why)) => vec![(Act::Disable, why)],
            (None, Verdict::NotYet | Verdict::Wanted(_)) if self.unseen(account) => {
                vec![(Act::Disable, Why::Unseen)]
            }
            (None, Verdict::NotYet) => self.home(account),
            (None, Verdict::Wanted(person)) => {
                let mut acts = self.home(account);
                acts.extend(self.update(&account.sam, &account.values, person));
                acts
            }
            // Whoever was not seen for long comes back by an administrator's word, not by the next run.
            (Some(Disabled::ByUs(_, why)), Verdict::Wanted(person))
                if why != Why::Unseen.as_str() =>
            {
                let mut acts = vec![(Act::Restore, Why::Back)];
                acts.extend(self.update(&account.sam, &account.values, person));
                acts
            }
            (Some(Disabled::ByUs(since, _)), verdict) => self.at_rest(account, *since, verdict),
            (Some(Disabled::ByOthers(_)), Verdict::NotYet) => Vec::new(),
            (Some(Disabled::ByOthers(who)), _) => {
                plan.left_alone
                    .push(leave(format!("disabled {who}, not by a synchronization")));
                Vec::new()
            }
        };
        let person = self.world.cloud.people.get(&account.oid);
        let name = person.and_then(|person| person.values.get(&Flow::DisplayName));
        let name = name.or_else(|| account.values.get(&Flow::DisplayName));
        plan.steps.extend(acts.into_iter().map(|(act, why)| Step {
            act,
            oid: account.oid,
            sam: account.sam.clone(),
            name: shown(name),
            why,
        }));
    }

    /// An enabled account belongs into the guests' OU.
    fn home(&self, account: &LocalAccount) -> Vec<(Act, Why)> {
        match account.place {
            Place::Rest => {
                let to = Where::GuestsOu;
                vec![(Act::Move { to }, Why::Misplaced)]
            }
            Place::Guests | Place::Elsewhere => Vec::new(),
        }
    }

    fn at_rest(
        &self,
        account: &LocalAccount,
        since: Option<i64>,
        verdict: Verdict<'_>,
    ) -> Vec<(Act, Why)> {
        let over = since.is_some_and(|since| self.is_over(since, self.rules.delete_after));
        match verdict {
            Verdict::Unwanted(_) if over => return vec![(Act::Delete, Why::RestOver)],
            Verdict::Unwanted(_) | Verdict::Wanted(_) | Verdict::NotYet => {}
        }
        if account.place == Place::Guests && self.rules.mapping.disabled_ou.is_some() {
            let to = Where::DisabledOu;
            return vec![(Act::Move { to }, Why::Misplaced)];
        }
        Vec::new()
    }

    fn unseen(&self, account: &LocalAccount) -> bool {
        let since = account.last_seen;
        since.is_some_and(|since| self.is_over(since, self.rules.unseen_after))
    }

    fn update(&self, sam: &str, values: &Values, person: &Person) -> Option<(Act, Why)> {
        let wanted = self.values(person, sam);
        let edits = self.rules.flow.iter().filter_map(|&flow| {
            let (from, to) = (values.get(&flow), wanted.get(&flow));
            // A sign-in writes the home tenant, which Graph does not know: nothing told is nothing to write.
            if from == to || (to.is_none() && flow == Flow::Company) {
                return None;
            }
            Some(Edit {
                attribute: flow,
                from: from.cloned(),
                to: to.cloned(),
            })
        });
        let mut changes: Vec<Edit> = edits.collect();
        changes.sort_by_key(|edit| edit.attribute);
        (!changes.is_empty()).then_some((Act::Update { changes }, Why::Changed))
    }

    /// The account becomes ours, and then holds what ours hold.
    fn adopt(&self, pair: &Pair<'_>) -> Vec<Step> {
        let (account, person) = (pair.stranger, pair.person);
        let adopt = Act::Adopt {
            shape: pair.shape,
            evidence: pair.evidence.clone(),
            dn: account.dn.clone(),
        };
        let mut acts = vec![(adopt, Why::MadeElsewhere)];
        acts.extend(self.update(&account.sam, &account.values, person));
        let name = person.values.get(&Flow::DisplayName);
        let name = name.or_else(|| account.values.get(&Flow::DisplayName));
        let step = |(act, why)| Step {
            act,
            oid: person.oid,
            sam: account.sam.clone(),
            name: shown(name),
            why,
        };
        acts.into_iter().map(step).collect()
    }

    fn create(&self, person: &Person) -> Step {
        let id = PersonId {
            tid: self.world.tenant,
            oid: person.oid,
        };
        let sam = names::sam(&self.rules.mapping.sam_prefix, id);
        let mut values = self.values(person, &sam);
        values.retain(|flow, _| *flow == Flow::UserPrincipalName || self.rules.flow.contains(flow));
        Step {
            name: shown(person.values.get(&Flow::DisplayName)),
            act: Act::Create { values },
            oid: person.oid,
            sam,
            why: Why::New,
        }
    }

    fn values(&self, person: &Person, sam: &str) -> Values {
        person.wanted(&self.rules.mapping, self.world.tenant, sam)
    }
}

/// A name as plans and the journal hold it: whoever prints such a file has nothing in it that moves the cursor.
pub(super) fn shown(name: Option<&String>) -> String {
    name.and_then(|name| Flow::DisplayName.fit(name))
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
