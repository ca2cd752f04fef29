//! The cloud's side, read whole or not at all: people who may be partners, groups, applications.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Settings;
use super::record::Recorded;
use super::world::Local;
use super::world::Person;
use super::world::Values;
use super::world::World;
use crate::graph::Graph;
use crate::graph::Kind;
use crate::graph::Known;
use crate::graph::Pages;
use crate::sync::Error;

/// Reads into `world` whoever may be one of `world.locals`, and where they belong.
///
/// # Errors
/// Graph gave no answer, or only part of one.
pub(super) async fn read(
    graph: &Graph,
    settings: &Settings,
    world: &mut World,
) -> Result<(), Error> {
    let sought = Sought::of(&world.locals);
    let everybody = graph.everybody()?;
    (world.people, world.told) = people(everybody, settings, &sought, None).await?;
    // Of the deleted Graph need not tell it, and it decides nothing.
    let deleted = graph.known_deleted()?;
    (world.deleted, _) = people(deleted, settings, &sought, Some(false)).await?;
    for group in &settings.rules.groups {
        let mut members = BTreeSet::new();
        let mut pages = graph.members(*group)?;
        while let Some(page) = pages.next().await? {
            members.extend(page.rows.iter().map(|one| one.id));
        }
        world.members.insert(*group, members);
    }
    for (client, role) in &settings.rules.assign {
        let people = assigned(graph, *client, role).await?;
        world.assigned.insert((*client, role.clone()), people);
    }
    Ok(())
}

async fn assigned(graph: &Graph, client: Uuid, role: &str) -> Result<BTreeSet<Uuid>, Error> {
    let application = graph.application(client).await?;
    let Some(role_id) = application.role(role) else {
        let why = format!("sync.partners.assign: application {client} has no app role {role:?}");
        return Err(Error::Setup(why));
    };
    let mut people = BTreeSet::new();
    let mut pages = graph.assigned_to(client)?;
    while let Some(page) = pages.next().await? {
        let users = page
            .rows
            .iter()
            .filter(|one| one.principal_type == Kind::User);
        people.extend(
            users
                .filter(|one| one.app_role_id == role_id)
                .map(|one| one.principal_id),
        );
    }
    Ok(people)
}

/// What makes somebody in a tenant of thousands worth remembering.
struct Sought<'a> {
    addresses: BTreeSet<&'a str>,
    oids: BTreeSet<Uuid>,
}

impl<'a> Sought<'a> {
    fn of(locals: &'a [Local]) -> Self {
        Self {
            addresses: locals
                .iter()
                .filter_map(|one| one.address.as_deref())
                .collect(),
            oids: locals.iter().filter_map(|one| one.anchor.oid()).collect(),
        }
    }

    fn wants(&self, person: &Person) -> bool {
        person.recorded.ours().is_some()
            || self.oids.contains(&person.oid)
            || person
                .addresses
                .iter()
                .any(|address| self.addresses.contains(address.as_str()))
    }
}

async fn people(
    mut pages: Pages<Known>,
    settings: &Settings,
    sought: &Sought<'_>,
    enabled: Option<bool>,
) -> Result<(BTreeMap<Uuid, Person>, usize), Error> {
    let (mut people, mut told) = (BTreeMap::new(), 0);
    while let Some(page) = pages.next().await? {
        told += page.rows.len();
        for mut known in page.rows {
            known.account_enabled = known.account_enabled.or(enabled);
            let person = person(&known, settings)?;
            if sought.wants(&person) {
                people.insert(person.oid, person);
            }
        }
    }
    Ok((people, told))
}

/// Somebody as a plan sees them.
///
/// # Errors
/// The answer leaves out what decides.
pub(super) fn person(known: &Known, settings: &Settings) -> Result<Person, Error> {
    // SECURITY: without it a person would look like somebody who was disabled.
    let enabled = known.account_enabled.ok_or_else(|| Error::Partial {
        oid: known.id,
        what: String::from("accountEnabled"),
    })?;
    let invited = known.creation_type.as_deref() == Some("Invitation");
    let identities = known.identities.as_deref().unwrap_or_default();
    let federated = identities.iter().any(|one| {
        let kind = one.sign_in_type.as_deref().unwrap_or_default();
        kind.eq_ignore_ascii_case("federated")
    });
    let attributes = known.on_premises_extension_attributes.as_ref();
    let text = attributes
        .and_then(|all| all.get(&settings.record))
        .and_then(Value::as_str);
    let recorded = Recorded::read(text, settings.realm());
    let synced = known.on_premises_sync_enabled == Some(true);
    Ok(Person {
        oid: known.id,
        external: invited || federated || known.external_user_state.is_some(),
        enabled,
        // Accounts from before 2014 have none, and are members.
        user_type: known
            .user_type
            .clone()
            .unwrap_or_else(|| String::from("Member")),
        recorded,
        synced,
        has_onprem_upn: known.on_premises_user_principal_name.is_some(),
        created: known.created_date_time.map(OffsetDateTime::unix_timestamp),
        invited,
        immutable_id: known.on_premises_immutable_id.clone(),
        sid: known.on_premises_security_identifier.clone(),
        addresses: addresses(known),
        values: values(known),
    })
}

fn addresses(known: &Known) -> BTreeSet<String> {
    let others = known.other_mails.iter().flatten();
    let identities = known.identities.iter().flatten();
    let all = [&known.mail, &known.user_principal_name];
    let named = all.into_iter().flatten().chain(others);
    let named = named.chain(identities.filter_map(|one| one.issuer_assigned_id.as_ref()));
    named.map(|address| address.trim().to_lowercase()).collect()
}

fn values(known: &Known) -> Values {
    let told = [
        ("displayName", &known.display_name),
        ("givenName", &known.given_name),
        ("surname", &known.surname),
        ("companyName", &known.company_name),
        ("jobTitle", &known.job_title),
        ("department", &known.department),
        ("mobilePhone", &known.mobile_phone),
        ("employeeId", &known.employee_id),
    ];
    let filled = told.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref().filter(|value| !value.is_empty())?;
        Some((name.to_owned(), value.clone()))
    });
    filled.collect()
}
