//! The cloud's side, read whole or not at all.
//!
//! A full delta of people, those deleted, and the scope's groups. A page that fails fails the run: from what is missing in half
//! an answer nothing may be concluded.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::Error;
use super::Scope;
use super::world::Cloud;
use super::world::Kind;
use super::world::Person;
use crate::graph;
use crate::graph::Change;
use crate::graph::Graph;
use crate::graph::Kind as Principal;
use crate::graph::Told;
use crate::graph::UserState;
use crate::mapping::shadow::Flow;
use crate::mapping::shadow::Values;

/// Everybody who may need an account, and whoever of `known` the tenant still knows.
///
/// # Errors
/// Graph gave no answer, or only part of one.
pub(super) async fn read(
    graph: &Graph,
    scope: &Scope,
    known: &BTreeSet<Uuid>,
) -> Result<Cloud, Error> {
    let mut cloud = Cloud {
        scope: in_scope(graph, scope).await?,
        ..Cloud::default()
    };
    let mut told = Everybody::default();
    let mut pages = graph.users_delta(None)?;
    while let Some(page) = pages.next().await? {
        for change in page.rows {
            told.hear(change, known)?;
        }
    }
    for oid in std::mem::take(&mut told.doubtful) {
        match graph.user_state(oid).await {
            Ok(user) => told.remember(person(&user)?, known),
            Err(graph::Error::UserUnknown(_)) => told.forget(oid),
            Err(error) => return Err(error.into()),
        }
    }
    cloud.told = told.all.len();
    cloud.people = told.people;
    let mut pages = graph.deleted_users()?;
    while let Some(page) = pages.next().await? {
        cloud.deleted.extend(page.rows.iter().map(|one| one.id));
    }
    Ok(cloud)
}

/// What the pages of one delta have told.
///
/// Graph tells of some people twice, and in no order: who changes while the pages are read comes again, with what has changed, and an older
/// word may come after a newer one. Whom it tells of in two ways is asked about once more, alone; so is a guest, or who has an account, if
/// it leaves out what decides: what was never set is not told in a delta (`userType` of accounts from before 2014).
#[derive(Default)]
struct Everybody {
    all: BTreeSet<Uuid>,
    people: BTreeMap<Uuid, Person>,
    removed: BTreeSet<Uuid>,
    doubtful: BTreeSet<Uuid>,
}

impl Everybody {
    fn hear(&mut self, change: Change<UserState>, known: &BTreeSet<Uuid>) -> Result<(), Error> {
        let oid = match change {
            Change::Now(user) => match person(&user) {
                Ok(person) if self.fits(&person, known) => {
                    self.remember(person, known);
                    return Ok(());
                }
                // Nobody's guest by any sign, and without an account: no matter what else they are.
                Err(Error::Partial { .. })
                    if user.user_type == Told::Nothing
                        && !is_external(&user)
                        && !known.contains(&user.id) =>
                {
                    self.all.insert(user.id);
                    return Ok(());
                }
                Ok(_) | Err(Error::Partial { .. }) => user.id,
                Err(error) => return Err(error),
            },
            Change::Removed(oid, _) => {
                self.removed.insert(oid);
                if !self.all.contains(&oid) {
                    return Ok(());
                }
                oid
            }
        };
        self.all.insert(oid);
        self.doubtful.insert(oid);
        // Pages by the thousand without what decides are no answer.
        if self.doubtful.len() > MOST_DOUBTFUL {
            let what = format!("a word that agrees with the others; so are {MOST_DOUBTFUL} more");
            return Err(Error::Partial { oid, what });
        }
        Ok(())
    }

    /// Whether this is the first word about somebody, or the same again.
    fn fits(&self, person: &Person, known: &BTreeSet<Uuid>) -> bool {
        if self.removed.contains(&person.oid) || self.doubtful.contains(&person.oid) {
            return false;
        }
        match self.people.get(&person.oid) {
            Some(before) => before == person,
            None => !self.all.contains(&person.oid) || !is_kept(person, known),
        }
    }

    fn remember(&mut self, person: Person, known: &BTreeSet<Uuid>) {
        self.all.insert(person.oid);
        if is_kept(&person, known) {
            self.people.insert(person.oid, person);
        } else {
            self.people.remove(&person.oid);
        }
    }

    fn forget(&mut self, oid: Uuid) {
        self.all.remove(&oid);
        self.people.remove(&oid);
    }
}

/// Members by the thousand are nobody's guests; one with an account was a guest once.
fn is_kept(person: &Person, known: &BTreeSet<Uuid>) -> bool {
    person.kind != Kind::Internal || known.contains(&person.oid)
}

/// People whom one reading may tell of in two ways: each is a question of its own.
const MOST_DOUBTFUL: usize = 10_000;

async fn in_scope(graph: &Graph, scope: &Scope) -> Result<Option<BTreeSet<Uuid>>, Error> {
    let mut people = BTreeSet::new();
    match scope {
        Scope::All => return Ok(None),
        Scope::Groups(named) => {
            for group in named {
                let mut pages = graph.transitive_ids(*group)?;
                while let Some(page) = pages.next().await? {
                    people.extend(page.rows.iter().map(|one| one.id));
                }
            }
        }
        Scope::Assigned(client) => {
            let mut groups = BTreeSet::new();
            let mut pages = graph.assigned_to(*client)?;
            while let Some(page) = pages.next().await? {
                for one in page.rows {
                    match one.principal_type {
                        Principal::User => drop(people.insert(one.principal_id)),
                        Principal::Group => drop(groups.insert(one.principal_id)),
                        Principal::Other => {}
                    }
                }
            }
            // Entra assigns nobody through a group inside the group.
            for group in groups {
                let mut pages = graph.members(group)?;
                while let Some(page) = pages.next().await? {
                    people.extend(page.rows.iter().map(|one| one.id));
                }
            }
        }
    }
    Ok(Some(people))
}

/// A person as a plan sees them.
fn person(user: &UserState) -> Result<Person, Error> {
    // SECURITY: without these a person would look like somebody who has left.
    let missing = |what: &str| Error::Partial {
        oid: user.id,
        what: String::from(what),
    };
    let enabled = *user
        .account_enabled
        .value()
        .ok_or_else(|| missing("accountEnabled"))?;
    let guest = match &user.user_type {
        Told::Value(kind) => kind.eq_ignore_ascii_case("Guest"),
        // Accounts from before 2014 have none, and are members.
        Told::Empty => false,
        Told::Nothing => return Err(missing("userType")),
    };
    let kind = match (guest, is_external(user)) {
        (true, _) => Kind::Guest,
        (false, true) => Kind::ExternalMember,
        (false, false) => Kind::Internal,
    };
    let state = user.external_user_state.value();
    let waits = state.is_some_and(|state| state == "PendingAcceptance");
    let since = moment(user.external_user_state_change_date_time.value());
    Ok(Person {
        oid: user.id,
        kind,
        enabled,
        pending: waits.then_some(since),
        created: moment(user.created_date_time.value()),
        synced: user.on_premises_sync_enabled == Told::Value(true),
        upn: user.user_principal_name.value().cloned(),
        values: values(user),
    })
}

fn moment(text: Option<&String>) -> Option<i64> {
    text.and_then(|text| super::moment(text))
}

/// Signs in elsewhere: an identity of another issuer, or an invitation.
fn is_external(user: &UserState) -> bool {
    let federated = user.identities.value().is_some_and(|all| {
        all.iter().any(|one| {
            let kind = one.sign_in_type.as_deref().unwrap_or_default();
            kind.eq_ignore_ascii_case("federated")
        })
    });
    federated
        || user
            .creation_type
            .value()
            .is_some_and(|made| made == "Invitation")
}

fn values(user: &UserState) -> Values {
    let told = [
        (Flow::DisplayName, &user.display_name),
        (Flow::GivenName, &user.given_name),
        (Flow::Sn, &user.surname),
        (Flow::Mail, &user.mail),
        (Flow::Company, &user.company_name),
        (Flow::Mobile, &user.mobile_phone),
        (Flow::EmployeeType, &user.employee_type),
    ];
    let known = told.into_iter();
    known
        .filter_map(|(flow, value)| Some((flow, value.value()?.clone())))
        .collect()
}
