//! The cloud's side, read whole or not at all.
//!
//! A full delta of people, those deleted, and the scope's groups. A page that fails fails the run: from what is missing in half
//! an answer nothing may be concluded.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Error;
use super::Scope;
use super::world::Cloud;
use super::world::Kind;
use super::world::Person;
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
    let mut everybody = BTreeSet::new();
    let mut pages = graph.users_delta(None)?;
    while let Some(page) = pages.next().await? {
        for change in page.rows {
            match change {
                Change::Now(user) => {
                    let again = !everybody.insert(user.id);
                    // Changed while the pages were read: told again, and only what has changed.
                    let person = match person(&user) {
                        Err(Error::Partial { .. }) if again => {
                            person(&graph.user_state(user.id).await?)?
                        }
                        told => told?,
                    };
                    // Members by the thousand are nobody's guests; one with an account was a guest once.
                    if person.kind != Kind::Internal || known.contains(&person.oid) {
                        cloud.people.insert(person.oid, person);
                    } else {
                        cloud.people.remove(&person.oid);
                    }
                }
                Change::Removed(oid, _) => {
                    everybody.remove(&oid);
                    cloud.people.remove(&oid);
                }
            }
        }
    }
    cloud.told = everybody.len();
    let mut pages = graph.deleted_users()?;
    while let Some(page) = pages.next().await? {
        cloud.deleted.extend(page.rows.iter().map(|one| one.id));
    }
    Ok(cloud)
}

async fn in_scope(graph: &Graph, scope: &Scope) -> Result<Option<BTreeSet<Uuid>>, Error> {
    let mut members = BTreeSet::new();
    let mut groups: BTreeSet<Uuid> = BTreeSet::new();
    match scope {
        Scope::All => return Ok(None),
        Scope::Groups(named) => groups.extend(named),
        Scope::Assigned(client) => {
            let mut pages = graph.assigned_to(*client)?;
            while let Some(page) = pages.next().await? {
                for one in page.rows {
                    match one.principal_type {
                        Principal::User => drop(members.insert(one.principal_id)),
                        Principal::Group => drop(groups.insert(one.principal_id)),
                        Principal::Other => {}
                    }
                }
            }
        }
    }
    for group in groups {
        let mut pages = graph.transitive_members(group)?;
        while let Some(page) = pages.next().await? {
            members.extend(page.rows.iter().map(|one| one.id));
        }
    }
    Ok(Some(members))
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
