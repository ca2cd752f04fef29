//! What has to be done about partners in the cloud: pure. The world goes in, steps come out, always in the same order.
//!
//! # Why
//! - Whose a person in the cloud is, the record says, never an address alone: addresses are given to successors, and whoever can
//!   choose one would choose an account. What only an address connects needs somebody's decision, and is told of, not linked.
//! - Only who carries our record is ever disabled or deleted. Whoever was disabled in the cloud by somebody else stays so.
//! - A plan that was carried out leaves a world whose plan is empty (`plan_tests.rs`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::record::Recorded;
use super::step::Act;
use super::step::Edit;
use super::step::Step;
use super::step::Why;
use super::world::Anchor;
use super::world::Local;
use super::world::Person;
use super::world::World;
use crate::mapping::names;
use crate::sync::saved::Planned as _;

/// What is done for a partner.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether people who are not in the cloud are invited.
    pub invite: bool,
    /// Most invitations of a run.
    pub invitations: usize,
    /// Whether internal accounts become invited ones.
    pub convert: bool,
    /// Groups to be a member of.
    pub groups: Vec<Uuid>,
    /// Applications to be assigned to: client id and role.
    pub assign: Vec<(Uuid, String)>,
    /// How long a disabled person rests before they are deleted.
    pub delete_after: Option<Duration>,
    /// Graph's names of the properties that follow the directory.
    pub flow: Vec<&'static str>,
    /// The directory attribute that holds `User_<oid>`, as it is told of.
    pub anchor: String,
}

/// What a run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it is done.
    pub steps: Vec<Step>,
    /// What is not done, and why.
    pub left_alone: Vec<LeftAlone>,
    /// People who carry our record and can sign in: what the brake's share is taken of.
    pub in_use: usize,
}

/// An account or a person for whom something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The account's `objectGUID`.
    pub guid: Uuid,
    /// The person's object id, where there is one.
    pub oid: Option<Uuid>,
    /// The account.
    pub account: String,
    /// Whether somebody has to decide; otherwise it is as it should be.
    pub needs_decision: bool,
    /// Why.
    pub why: String,
}

impl Plan {
    /// How many people it takes access from.
    #[must_use]
    pub fn removals(&self) -> usize {
        Step::removals(&self.steps)
    }
}

/// Why a run begun at most so long before a person was made may have made them: clocks differ.
const APART: i64 = 300;
/// Seconds from the journal's line to the person: a question before, and the invitation itself, wait half an hour each for Graph's budget.
const SENT_WITHIN: i64 = 3600 + APART;

/// Of a display name, as Graph takes it.
const LONGEST_NAME: usize = 256;

/// The plan for `world`.
#[must_use]
pub fn plan(world: &World, rules: &Rules) -> Plan {
    let mut by_address: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_anchor: BTreeMap<Uuid, Vec<&Local>> = BTreeMap::new();
    let mut by_record: BTreeMap<Uuid, Vec<&Person>> = BTreeMap::new();
    for local in &world.locals {
        if let Some(address) = local.address.as_deref().filter(|_| local.in_scope) {
            *by_address.entry(address).or_default() += 1;
        }
        if let Anchor::Of(oid) = local.anchor {
            by_anchor.entry(oid).or_default().push(local);
        }
    }
    for person in world.people.values().chain(world.deleted.values()) {
        if let Some(record) = person.recorded.ours() {
            by_record.entry(record.guid).or_default().push(person);
        }
    }
    let desk = Desk {
        world,
        rules,
        by_address,
        by_anchor,
        by_record,
    };
    let mut plan = Plan::default();
    let found: Vec<(&Local, Found<'_>)> = world
        .locals
        .iter()
        .map(|local| (local, desk.person_of(local)))
        .collect();
    let mut whose: BTreeMap<Uuid, usize> = BTreeMap::new();
    for (_, found) in &found {
        if let Found::Person(person, _) = found {
            *whose.entry(person.oid).or_default() += 1;
        }
    }
    for (local, found) in found {
        match found {
            Found::Person(person, _) if whose.get(&person.oid).is_some_and(|n| *n > 1) => {
                plan.left_alone.push(LeftAlone {
                    guid: local.guid,
                    oid: Some(person.oid),
                    account: local.sam.clone(),
                    needs_decision: true,
                    why: format!("several accounts in scope fit {}", person.oid),
                });
            }
            Found::Nobody => desk.nobody(local, &mut plan),
            Found::Person(person, why) => desk.both(local, person, why, &mut plan),
            Found::Not { oid, decide, why } => plan.left_alone.push(LeftAlone {
                guid: local.guid,
                oid,
                account: local.sam.clone(),
                needs_decision: decide,
                why,
            }),
            Found::NotOurs => {}
        }
    }
    desk.orphans(&mut plan);
    plan.steps.sort_by_key(|step| (step.act.rank(), step.guid));
    plan.left_alone
        .sort_by_key(|left| (!left.needs_decision, left.guid));
    desk.hold_back(&mut plan);
    plan
}

/// Who in the cloud an account belongs to.
enum Found<'a> {
    /// Nobody yet.
    Nobody,
    /// This person; and why the record has to be written, if it has to.
    Person(&'a Person, Option<Why>),
    /// Not to be told, or not to be touched.
    Not {
        oid: Option<Uuid>,
        decide: bool,
        why: String,
    },
    /// None of our business: not in scope, and no record in the cloud.
    NotOurs,
}

fn decide<'a>(oid: Option<Uuid>, why: String) -> Found<'a> {
    Found::Not {
        oid,
        decide: true,
        why,
    }
}

struct Desk<'a> {
    world: &'a World,
    rules: &'a Rules,
    by_address: BTreeMap<&'a str, usize>,
    by_anchor: BTreeMap<Uuid, Vec<&'a Local>>,
    by_record: BTreeMap<Uuid, Vec<&'a Person>>,
}

impl<'a> Desk<'a> {
    fn person_of(&self, local: &'a Local) -> Found<'a> {
        let recorded = self.by_record.get(&local.guid);
        if !local.in_scope && recorded.is_none() {
            return Found::NotOurs;
        }
        if let Some(why) = local.untouchable.clone() {
            return Found::Not {
                oid: None,
                decide: false,
                why,
            };
        }
        if let Some([one, other, ..]) = recorded.map(Vec::as_slice) {
            let why = format!(
                "two people in the cloud are recorded as this account's: {} and {}",
                one.oid, other.oid
            );
            return decide(None, why);
        }
        let recorded = recorded.and_then(|people| people.first().copied());
        match &local.anchor {
            Anchor::Of(oid) => self.anchored(local, *oid, recorded),
            Anchor::Other(text) => decide(
                None,
                format!(
                    "{} of the account holds {text:?}, which names nobody",
                    self.rules.anchor
                ),
            ),
            Anchor::None => match recorded {
                Some(person) => self.recorded(local, person),
                None => self.unknown(local),
            },
        }
    }

    /// The account names a person.
    fn anchored(&self, local: &Local, oid: Uuid, recorded: Option<&'a Person>) -> Found<'a> {
        if let Some([one, other, ..]) = self.by_anchor.get(&oid).map(Vec::as_slice) {
            let why = format!(
                "two accounts are anchored to this person: {} and {}",
                one.dn, other.dn
            );
            return decide(Some(oid), why);
        }
        if let Some(person) = recorded.filter(|person| person.oid != oid) {
            let why = format!(
                "the account is anchored to {oid}, but {} is recorded as its person",
                person.oid
            );
            return decide(Some(oid), why);
        }
        let world = self.world;
        let Some(person) = world.people.get(&oid).or_else(|| world.deleted.get(&oid)) else {
            let why = format!(
                "the account is anchored to {oid}, whom the tenant does not know any more: to have the person invited anew, \
                 empty {} of the account",
                self.rules.anchor
            );
            return decide(Some(oid), why);
        };
        match &person.recorded {
            Recorded::Ours(record) if record.guid == local.guid => Found::Person(person, None),
            Recorded::Ours(record) => decide(
                Some(oid),
                format!(
                    "the account is anchored to {oid}, who is recorded as another account's: {}",
                    record.guid
                ),
            ),
            Recorded::Other(text) => decide(
                Some(oid),
                format!("the record's attribute of {oid} holds something else: {text:?}"),
            ),
            Recorded::Nothing if person.synced => synced(oid),
            // SECURITY: a domain may let its people write the anchor of their own account (msDS-ExternalDirectoryObjectId
            // belongs to Personal-Information). Whom one names in it is nobody's until the address, which is given, agrees.
            Recorded::Nothing if !same_address(local, person) => {
                let why = format!(
                    "the account is anchored to {oid}, who has another address and no record: make the addresses the same, if it is \
                     the same person"
                );
                decide(Some(oid), why)
            }
            Recorded::Nothing => Found::Person(person, Some(Why::Unfinished)),
        }
    }

    /// A person names the account.
    fn recorded(&self, local: &Local, person: &'a Person) -> Found<'a> {
        if let Some(found) = self.has_other(person) {
            return found;
        }
        // SECURITY: who may write the record in the cloud does not choose an account by it: the address must be its own, too.
        if same_address(local, person) {
            return Found::Person(person, Some(Why::Unfinished));
        }
        let why = format!(
            "{} is recorded as this account's person, but has another address, and the account is not anchored",
            person.oid
        );
        decide(Some(person.oid), why)
    }

    /// Neither names the other.
    fn unknown(&self, local: &Local) -> Found<'a> {
        let Some(address) = local.address.as_deref() else {
            return Found::Not {
                oid: None,
                decide: local.enabled,
                why: String::from("has no address to sign in with"),
            };
        };
        if self.by_address.get(address).copied().unwrap_or_default() > 1 {
            let why = format!("several accounts in scope have the address {address:?}");
            return decide(None, why);
        }
        let fits = |person: &&Person| person.addresses.contains(address);
        let candidates: Vec<&Person> = self.world.people.values().filter(fits).collect();
        let person = match candidates.as_slice() {
            [] => {
                return match self.world.deleted.values().find(fits) {
                    Some(gone) => decide(
                        Some(gone.oid),
                        format!(
                            "{} with the address {address:?} was deleted in the cloud: restore them, or delete them for ever",
                            gone.oid
                        ),
                    ),
                    None => Found::Nobody,
                };
            }
            [one] => *one,
            [one, other, ..] => {
                let why = format!(
                    "two people in the cloud have the address {address:?}: {} and {}",
                    one.oid, other.oid
                );
                return decide(None, why);
            }
        };
        if let Some(found) = self.has_other(person) {
            return found;
        }
        if person.synced {
            return synced(person.oid);
        }
        match &person.recorded {
            Recorded::Ours(record) => {
                let why = format!(
                    "{} has the address {address:?} and is recorded as another account's: {}",
                    person.oid, record.guid
                );
                return decide(Some(person.oid), why);
            }
            Recorded::Other(text) => {
                let why = format!(
                    "the record's attribute of {} holds something else: {text:?}",
                    person.oid
                );
                return decide(Some(person.oid), why);
            }
            Recorded::Nothing => {}
        }
        if let Some(why) = self.second_fact(local, person) {
            return Found::Person(person, Some(why));
        }
        let (anchor, oid) = (&self.rules.anchor, person.oid);
        let why = format!(
            "{oid} has the address {address:?}, and nothing else says that it is the same person: if it is, write User_{oid} into \
             {anchor} of the account"
        );
        decide(Some(oid), why)
    }

    /// Another account is the person's already: a shadow account, mostly.
    fn has_other(&self, person: &Person) -> Option<Found<'a>> {
        let other = self.by_anchor.get(&person.oid)?.first()?;
        let why = format!("{} has another account: {}", person.oid, other.dn);
        Some(decide(Some(person.oid), why))
    }

    /// What says, beside the address, that the person is the account's.
    fn second_fact(&self, local: &Local, person: &Person) -> Option<Why> {
        if let Some(making) = self.world.making.get(&local.guid) {
            // SECURITY: not for ever. An invitation that Graph refused stands there as well, and whoever somebody else invites under the
            // address next month is not of our making.
            let then = making.since - APART..=making.since + SENT_WITHIN;
            let made = person.invited && person.created.is_some_and(|at| then.contains(&at));
            match making.id {
                Some(id) if id == person.oid => return Some(Why::Invited),
                None if made => return Some(Why::Invited),
                Some(_) | None => {}
            }
        }
        // Entra Connect writes the octets as the directory has them (MS-DTYP 2.3.4.2).
        let immutable = STANDARD.encode(local.guid.to_bytes_le());
        let sid = local.sid.as_ref().map(ToString::to_string);
        if person.immutable_id.as_deref() == Some(&immutable)
            || (sid.is_some() && person.sid == sid)
        {
            return Some(Why::SameObject);
        }
        let employee = person.values.get("employeeId");
        (employee.is_some() && employee == local.employee_id.as_ref()).then_some(Why::SameEmployee)
    }

    fn nobody(&self, local: &Local, plan: &mut Plan) {
        if !local.enabled {
            return;
        }
        let Some(address) = local.address.clone() else {
            return;
        };
        if !self.rules.invite {
            plan.left_alone.push(LeftAlone {
                guid: local.guid,
                oid: None,
                account: local.sam.clone(),
                needs_decision: false,
                why: String::from(
                    "nobody in the cloud, and nobody is invited (create = \"never\")",
                ),
            });
            return;
        }
        let invite = Act::Invite {
            address,
            user_type: local.user_type.to_owned(),
        };
        let mut acts = vec![(invite, Why::New)];
        acts.extend(self.access(None));
        plan.steps.extend(
            acts.into_iter()
                .map(|(act, why)| step(local, None, act, why)),
        );
    }

    fn both(&self, local: &Local, person: &Person, link: Option<Why>, plan: &mut Plan) {
        let deleted = self.world.deleted.contains_key(&person.oid);
        if person.enabled && !deleted && link.is_none() {
            plan.in_use += 1;
        }
        let rests = person
            .recorded
            .ours()
            .and_then(|record| record.rests.as_ref());
        let wanted = local.in_scope && local.enabled;
        let unwanted = if local.in_scope {
            Why::DisabledOnPremises
        } else {
            Why::LeftScope
        };
        let acts = match (wanted, rests) {
            (true, None) if deleted || !person.enabled => {
                let what = if deleted { "deleted" } else { "disabled" };
                plan.left_alone.push(LeftAlone {
                    guid: local.guid,
                    oid: Some(person.oid),
                    account: local.sam.clone(),
                    needs_decision: false,
                    why: format!("{what} in the cloud by somebody else"),
                });
                Vec::new()
            }
            (true, rests) => {
                if person.external && !same_address(local, person) {
                    plan.left_alone.push(LeftAlone {
                        guid: local.guid,
                        oid: Some(person.oid),
                        account: local.sam.clone(),
                        needs_decision: true,
                        why: String::from(
                            "the address is another one now, and in the cloud the person still signs in with the old one: reset their \
                             redemption there, if that is right",
                        ),
                    });
                }
                let mut acts = Vec::new();
                if deleted {
                    acts.push((Act::Undelete, Why::Back));
                }
                if rests.is_some() {
                    acts.push((Act::Enable, Why::Back));
                }
                acts.extend(link.map(|why| (Act::Link, why)));
                acts.extend(self.convert(local, person, plan));
                acts.extend(self.update(local, person));
                acts.extend(self.access(Some(person.oid)));
                acts
            }
            // Nobody is linked only to be disabled.
            (false, _) if link.is_some() => Vec::new(),
            (false, _) => self.out(person, unwanted),
        };
        let steps = acts
            .into_iter()
            .map(|(act, why)| step(local, Some(person.oid), act, why));
        plan.steps.extend(steps);
    }

    /// People whose account is not there any more.
    fn orphans(&self, plan: &mut Plan) {
        let known: BTreeSet<Uuid> = self.world.locals.iter().map(|local| local.guid).collect();
        for (guid, people) in &self.by_record {
            if known.contains(guid) {
                continue;
            }
            for person in people {
                let deleted = self.world.deleted.contains_key(&person.oid);
                if person.enabled && !deleted {
                    plan.in_use += 1;
                }
                if let Some(why) = self.world.elsewhere.get(guid) {
                    plan.left_alone.push(LeftAlone {
                        guid: *guid,
                        oid: Some(person.oid),
                        account: String::new(),
                        needs_decision: false,
                        why: why.clone(),
                    });
                    continue;
                }
                let name = person.values.get("displayName");
                let name = name.and_then(|name| names::clip(name, LONGEST_NAME));
                let name = name.unwrap_or_default();
                let acts = self.out(person, Why::Gone).into_iter();
                plan.steps.extend(acts.map(|(act, why)| Step {
                    act,
                    guid: *guid,
                    oid: Some(person.oid),
                    account: String::new(),
                    name: name.clone(),
                    why,
                }));
            }
        }
    }

    /// Out, and after a while away.
    fn out(&self, person: &Person, why: Why) -> Vec<(Act, Why)> {
        if person.synced || self.world.deleted.contains_key(&person.oid) {
            return Vec::new();
        }
        let rests = person
            .recorded
            .ours()
            .and_then(|record| record.rests.as_ref());
        match rests {
            _ if person.enabled => vec![(Act::Disable, why)],
            Some((since, _)) if self.is_over(*since) => vec![(Act::Delete, Why::RestOver)],
            Some(_) | None => Vec::new(),
        }
    }

    fn is_over(&self, since: i64) -> bool {
        let span = self.rules.delete_after;
        let span = span.map(|span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
        span.is_some_and(|span| self.world.now.saturating_sub(since) >= span)
    }

    fn convert(&self, local: &Local, person: &Person, plan: &mut Plan) -> Option<(Act, Why)> {
        if person.external || !self.rules.convert {
            return None;
        }
        let address = local.address.clone()?;
        if person.has_onprem_upn {
            plan.left_alone.push(LeftAlone {
                guid: local.guid,
                oid: Some(person.oid),
                account: local.sam.clone(),
                needs_decision: true,
                why: String::from("cannot be converted: onPremisesUserPrincipalName is filled, and graph refuses such accounts"),
            });
            return None;
        }
        Some((Act::Convert { address }, Why::Internal))
    }

    fn update(&self, local: &Local, person: &Person) -> Option<(Act, Why)> {
        let edits = self.rules.flow.iter().filter_map(|property| {
            let (from, to) = (person.values.get(*property), local.values.get(*property));
            // Graph wants a display name of everybody.
            let kept = *property == "displayName" && to.is_none();
            (from != to && !kept).then(|| Edit {
                property: (*property).to_owned(),
                from: from.cloned(),
                to: to.cloned(),
            })
        });
        let mut changes: Vec<Edit> = edits.collect();
        if !person.user_type.eq_ignore_ascii_case(local.user_type) {
            changes.push(Edit {
                property: String::from("userType"),
                from: Some(person.user_type.clone()),
                to: Some(local.user_type.to_owned()),
            });
        }
        (!changes.is_empty()).then_some((Act::Update { changes }, Why::Changed))
    }

    /// Groups and applications; `None` = nobody yet, who is in none.
    fn access(&self, oid: Option<Uuid>) -> Vec<(Act, Why)> {
        let world = self.world;
        let groups = self.rules.groups.iter().filter(|group| {
            let members = world.members.get(group);
            !members
                .zip(oid)
                .is_some_and(|(members, oid)| members.contains(&oid))
        });
        let joins = groups.map(|group| (Act::Join { group: *group }, Why::NotMember));
        let missing = self.rules.assign.iter().filter(|one| {
            let assigned = world.assigned.get(one);
            !assigned
                .zip(oid)
                .is_some_and(|(people, oid)| people.contains(&oid))
        });
        let assigns = missing.map(|(application, role)| {
            let (application, role) = (*application, role.clone());
            (Act::Assign { application, role }, Why::NotAssigned)
        });
        joins.chain(assigns).collect()
    }

    /// More invitations than a run may send wait for the next one, with all that follows from them.
    fn hold_back(&self, plan: &mut Plan) {
        let invited = plan
            .steps
            .iter()
            .filter(|step| matches!(step.act, Act::Invite { .. }));
        let late: Vec<Step> = invited.skip(self.rules.invitations).cloned().collect();
        let whose: BTreeSet<Uuid> = late.iter().map(|step| step.guid).collect();
        plan.steps.retain(|step| !whose.contains(&step.guid));
        plan.left_alone
            .extend(late.into_iter().map(|step| LeftAlone {
                guid: step.guid,
                oid: None,
                account: step.account,
                needs_decision: false,
                why: format!(
                    "waits for the next run: {} invitations a run",
                    self.rules.invitations
                ),
            }));
    }
}

fn same_address(local: &Local, person: &Person) -> bool {
    let address = local.address.as_ref();
    address.is_some_and(|address| person.addresses.contains(address))
}

fn synced<'a>(oid: Uuid) -> Found<'a> {
    let why = format!(
        "{oid} is kept by Entra Connect: take the account out of its scope, or out of this one"
    );
    decide(Some(oid), why)
}

fn step(local: &Local, oid: Option<Uuid>, act: Act, why: Why) -> Step {
    Step {
        act,
        guid: local.guid,
        oid,
        account: local.sam.clone(),
        name: local.values.get("displayName").cloned().unwrap_or_default(),
        why,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
