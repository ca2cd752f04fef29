//! Accounts that other tools have made for guests: which are whose, and which are taken over. Pure.
//!
//! In: accounts in the guests' OU without our anchor ([`Stranger`]), the cloud's people. Out: pairs to be joined by our anchor, and
//! findings: orphans, doubles, and whatever else somebody has to look at. Nothing is ever done about a finding.
//!
//! | Tool | Its shape | What it proves |
//! |---|---|---|
//! | MIM 2016 | `cn` is the object id | the id |
//! | script 1.0 | UPN; and `description` = UPN, or `cn` and `sAMAccountName` = its first 20 characters | the UPN |
//! | script 2.0 | UPN; and one of its two descriptions, or `cn` = the UPN up to `#` | the UPN |
//! | Cloud Sync | `msDS-ExternalDirectoryObjectId` = `User_<oid>` | the id |
//! | a hand | `adminDescription` = `User_<oid>`, against Entra Connect | the id |
//!
//! Cloud Sync's attribute is the usual anchor: then its accounts are ours from the start and no strangers at all.
//!
//! # Why
//! - SECURITY: an object id is given by Entra and never twice. A UPN is free again once its guest is deleted, and comes back to
//!   whoever is invited under that address next: it counts only for a person who was in the tenant before the account was made,
//!   and only in the form that the tenant makes itself. Mail, names and aliases, which people choose, count for nothing.
//! - Whoever an account may belong to gets no second one, even when nothing is adopted: two accounts for one person are worse
//!   than none.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::world::LocalAccount;
use super::world::Person;
use super::world::World;
use crate::mapping::rules;
use crate::mapping::shadow::Flow;
use crate::mapping::shadow::Values;

/// What script 2.0 writes into `description`: of those in use, and of those that wait to be removed.
const SCRIPT_2: [&str; 2] = [
    "Shadow account of Azure AD guest account",
    "Disabled pending removal",
];
/// Both scripts cut names to this.
const SHORT: usize = 20;
/// `cn` (MS-ADA: rangeUpper).
const LONGEST_CN: usize = 64;

/// A tool's way to make accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Microsoft Identity Manager with the Graph connector.
    Mim,
    /// Microsoft's PowerShell script, 1.0.
    #[serde(rename = "script-1")]
    Script1,
    /// Microsoft's PowerShell script, 2.0.
    #[serde(rename = "script-2")]
    Script2,
    /// Entra Cloud Sync, where another attribute is our anchor.
    CloudSync,
    /// `adminDescription` names the person, where another attribute is our anchor.
    AdminDescription,
}

impl Shape {
    /// For people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Mim => "MIM: its name is the object id",
            Self::Script1 => "PowerShell script 1.0: sign-in name and description or short name",
            Self::Script2 => "PowerShell script 2.0: sign-in name and description or name",
            Self::CloudSync => "Cloud Sync: msDS-ExternalDirectoryObjectId",
            Self::AdminDescription => "adminDescription names the object id",
        }
    }
}

/// An account in the guests' OU without our anchor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// `sAMAccountName`.
    pub sam: String,
    /// The distinguished name.
    pub dn: String,
    /// `cn`.
    pub cn: String,
    /// `description`.
    pub description: Option<String>,
    /// The ids in anchors that other tools write.
    pub anchors: Vec<(Shape, Uuid)>,
    /// Another system is its source of authority.
    pub owned: bool,
    /// Why it is nothing to be changed, if so.
    pub untouchable: Option<String>,
    /// Whether it is disabled.
    pub disabled: bool,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// What it holds of the values that may change.
    pub values: Values,
}

/// What somebody has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub found: Found,
    /// The account.
    pub sam: String,
    /// Its distinguished name.
    pub dn: String,
    /// The tool that made it, as far as its shape shows.
    pub shape: Option<Shape>,
    /// Whom it names, by object id.
    pub people: Vec<Uuid>,
    /// Why nothing is done.
    pub why: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// An account without a person.
    Orphan,
    /// Two accounts for one person, or one that names two.
    Double,
    /// Another system's.
    Owned,
    /// Not to be changed, or not proven to be the person's.
    Refused,
    /// Its person is not to have an account.
    Unwanted,
    /// It would be adopted, if that were switched on.
    Adoptable,
}

impl Found {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Double => "double",
            Self::Owned => "owned",
            Self::Refused => "refused",
            Self::Unwanted => "unwanted",
            Self::Adoptable => "adoptable",
        }
    }
}

/// An account and the person it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    pub stranger: &'a Stranger,
    pub person: &'a Person,
    pub shape: Shape,
    pub evidence: String,
}

/// What became of the strangers.
#[derive(Debug, Default)]
pub(super) struct Judgement<'a> {
    pub pairs: Vec<Pair<'a>>,
    pub findings: Vec<Finding>,
    /// People who may have an account already: none is made for them.
    pub spoken_for: BTreeSet<Uuid>,
}

/// What an account's marks say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    Id(Shape, Uuid),
    /// In lower case; without a shape it proves nothing.
    Upn(Option<Shape>, String),
}

/// Whether `stranger` still has the marks of `shape` that named the person by `evidence`.
pub(super) fn still_shows(stranger: &Stranger, shape: Shape, evidence: &str) -> bool {
    claims(stranger).into_iter().any(|claim| match claim {
        Claim::Id(is, id) => is == shape && id.to_string() == evidence,
        Claim::Upn(is, upn) => is == Some(shape) && upn == evidence,
    })
}

fn claims(stranger: &Stranger) -> Vec<Claim> {
    let mut claims: Vec<Claim> = stranger
        .anchors
        .iter()
        .map(|(shape, id)| Claim::Id(*shape, *id))
        .collect();
    let named = stranger.cn.parse::<Uuid>().ok();
    if let Some(id) = named.filter(|_| stranger.cn.len() == 36) {
        claims.push(Claim::Id(Shape::Mim, id));
    }
    let upn = stranger.values.get(&Flow::UserPrincipalName);
    if let Some(upn) = upn.filter(|upn| rules::is_guest_upn(upn)) {
        let upn = upn.to_lowercase();
        claims.push(Claim::Upn(script(stranger, &upn), upn));
    }
    claims
}

/// Which script has left its marks on an account with this UPN.
fn script(stranger: &Stranger, upn: &str) -> Option<Shape> {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let (cn, sam) = (stranger.cn.to_lowercase(), stranger.sam.to_lowercase());
    let description = stranger.description.as_deref().unwrap_or_default();
    let short = cut(upn, SHORT);
    let before = upn.split('#').next().unwrap_or_default();
    if SCRIPT_2.contains(&description) {
        Some(Shape::Script2)
    } else if description.to_lowercase() == upn || (cn == short && sam == short) {
        Some(Shape::Script1)
    } else {
        (cn == cut(before, LONGEST_CN)).then_some(Shape::Script2)
    }
}

/// Who is whose. `anchored`: who has an account with our anchor; `unwanted`: why a person is not to have one, if so.
pub(super) fn judge<'a>(
    world: &'a World,
    anchored: &BTreeMap<Uuid, Vec<&LocalAccount>>,
    adopt: bool,
    unwanted: &dyn Fn(Uuid) -> Option<&'static str>,
) -> Judgement<'a> {
    let bench = Bench::new(world, anchored, adopt);
    let mut judgement = Judgement::default();
    for named in &bench.all {
        judgement.spoken_for.extend(&named.people);
        match bench.one(named, unwanted) {
            Ok(pair) => judgement.pairs.push(pair),
            Err((found, why)) => judgement.findings.push(Finding {
                found,
                sam: named.stranger.sam.clone(),
                dn: named.stranger.dn.clone(),
                shape: named.proof.as_ref().map(|(shape, _, _)| *shape),
                people: named.people.union(&named.ghosts).copied().collect(),
                why,
            }),
        }
    }
    judgement.findings.sort_by(|a, b| a.dn.cmp(&b.dn));
    judgement
}

/// A stranger and whom its marks name.
struct Named<'a> {
    stranger: &'a Stranger,
    /// Those who are guests of the tenant.
    people: BTreeSet<Uuid>,
    /// Ids of nobody, or of nobody's guest.
    ghosts: BTreeSet<Uuid>,
    /// The strongest mark: shape, what it says, and whether that is an id.
    proof: Option<(Shape, String, bool)>,
}

struct Bench<'a, 'b> {
    world: &'a World,
    anchored: &'b BTreeMap<Uuid, Vec<&'b LocalAccount>>,
    adopt: bool,
    all: Vec<Named<'a>>,
    /// How many strangers name a person.
    times: BTreeMap<Uuid, usize>,
}

impl<'a, 'b> Bench<'a, 'b> {
    fn new(
        world: &'a World,
        anchored: &'b BTreeMap<Uuid, Vec<&'b LocalAccount>>,
        adopt: bool,
    ) -> Self {
        let claimed: Vec<(&Stranger, Vec<Claim>)> = world
            .strangers
            .iter()
            .map(|one| (one, claims(one)))
            .collect();
        // Of a hundred thousand people, only those whom somebody's UPN names are kept by it.
        let mut by_upn: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
        for (_, claims) in &claimed {
            by_upn.extend(claims.iter().filter_map(|claim| match claim {
                Claim::Upn(_, upn) => Some((upn.as_str(), Vec::new())),
                Claim::Id(..) => None,
            }));
        }
        if !by_upn.is_empty() {
            for person in world.cloud.people.values() {
                let upn = person.upn.as_deref().unwrap_or_default().to_lowercase();
                if let Some(people) = by_upn.get_mut(upn.as_str()) {
                    people.push(person.oid);
                }
            }
        }
        let mut times = BTreeMap::new();
        let mut all = Vec::with_capacity(claimed.len());
        for (stranger, claims) in &claimed {
            let named = named(world, stranger, claims, &by_upn);
            for oid in &named.people {
                *times.entry(*oid).or_insert(0) += 1;
            }
            all.push(named);
        }
        Self {
            world,
            anchored,
            adopt,
            all,
            times,
        }
    }

    fn one(
        &self,
        named: &Named<'a>,
        unwanted: &dyn Fn(Uuid) -> Option<&'static str>,
    ) -> Result<Pair<'a>, (Found, String)> {
        let stranger = named.stranger;
        let refused = |why: &str| (Found::Refused, String::from(why));
        if stranger.owned {
            let why = "its source of authority (msDS-ObjectSoa) is another system";
            return Err((Found::Owned, String::from(why)));
        }
        if let Some(why) = &stranger.untouchable {
            return Err((Found::Refused, why.clone()));
        }
        let person = self.person(named)?;
        let Some((shape, evidence, by_id)) = &named.proof else {
            return Err(refused(
                "carries the person's sign-in name, but no mark of a tool that is known",
            ));
        };
        // SECURITY: whoever came later cannot be the one it was made for, whatever they are called.
        let before = person.created.zip(stranger.created);
        if !by_id && before.is_none_or(|(person, account)| person > account) {
            return Err(refused(
                "its person is younger than the account: somebody else had this sign-in name before",
            ));
        }
        if let Some(why) = unwanted(person.oid) {
            return Err((Found::Unwanted, format!("of its person: {why}")));
        }
        if stranger.disabled {
            return Err(refused(
                "is disabled: enable it to have it adopted, or delete it",
            ));
        }
        if !self.adopt {
            let why = "was made for a guest in scope, who gets no second one; sync.guests.adopt = true takes it over";
            return Err((Found::Adoptable, String::from(why)));
        }
        Ok(Pair {
            stranger,
            person,
            shape: *shape,
            evidence: evidence.clone(),
        })
    }

    /// The one person an account names, if it is the only one to name them.
    fn person(&self, named: &Named<'a>) -> Result<&'a Person, (Found, String)> {
        let mut people = named.people.iter();
        let (first, second) = (
            people.next(),
            people.next().or_else(|| named.ghosts.first()),
        );
        let cloud = &self.world.cloud;
        let oid = match (first, second) {
            (Some(oid), None) => oid,
            (Some(_), Some(_)) => {
                let why = "its marks name different people";
                return Err((Found::Double, String::from(why)));
            }
            (None, Some(ghost)) if cloud.deleted.contains(ghost) => {
                let why = format!("its person {ghost} is deleted in the cloud, restorable there");
                return Err((Found::Orphan, why));
            }
            (None, Some(ghost)) => {
                let why = format!("the tenant knows no guest {ghost}");
                return Err((Found::Orphan, why));
            }
            (None, None) => {
                let why = "no guest of the tenant belongs to it";
                return Err((Found::Orphan, String::from(why)));
            }
        };
        if let Some(theirs) = self.anchored.get(oid).and_then(|all| all.first()) {
            let why = format!("its person has the account {} already", theirs.dn);
            return Err((Found::Double, why));
        }
        if self.times.get(oid).is_some_and(|times| *times > 1) {
            let others = self.all.iter().filter(|one| {
                one.people.contains(oid) && !std::ptr::eq(one.stranger, named.stranger)
            });
            let others: Vec<&str> = others.map(|one| one.stranger.dn.as_str()).collect();
            let why = format!("its person is also named by {}", others.join("; "));
            return Err((Found::Double, why));
        }
        let known = cloud.people.get(oid);
        known.ok_or_else(|| (Found::Orphan, format!("the tenant knows no guest {oid}")))
    }
}

fn named<'a>(
    world: &World,
    stranger: &'a Stranger,
    claims: &[Claim],
    by_upn: &BTreeMap<&str, Vec<Uuid>>,
) -> Named<'a> {
    let mut named = Named {
        stranger,
        people: BTreeSet::new(),
        ghosts: BTreeSet::new(),
        proof: None,
    };
    for claim in claims {
        let proof = match claim {
            Claim::Id(shape, id) => {
                if world.cloud.people.contains_key(id) {
                    named.people.insert(*id);
                } else {
                    named.ghosts.insert(*id);
                }
                Some((*shape, id.to_string(), true))
            }
            Claim::Upn(shape, upn) => {
                let people = by_upn.get(upn.as_str());
                named.people.extend(people.into_iter().flatten());
                shape.map(|shape| (shape, upn.clone(), false))
            }
        };
        // Claims come with the stronger ones first.
        named.proof = named.proof.or(proof);
    }
    named
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
