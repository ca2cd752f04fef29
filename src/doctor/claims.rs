//! What a token would say of a person, as far as it can be known without one.
//!
//! From Graph: type, state, SID, names, membership of the groups that matter. Not from Graph: app roles (that
//! would take more permissions than the gateway should have) and the home tenant; both can be assumed with
//! options. Without Graph: from the account that is anchored to the person.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::assembly;
use crate::graph;
use crate::graph::Graph;
use crate::graph::User;
use crate::ldap::Directory;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::model::application::Application;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::claims::Home;
use crate::model::names::PersonId;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::oidc::Issuer;

use super::walk::Visit;
use super::world::World;

/// Claims, and where they come from.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) claims: Claims,
    pub(super) source: String,
}

pub(super) async fn find(
    world: &World,
    directory: Option<&Directory>,
    app: &Application,
    visit: &Visit,
) -> Result<Known, Stop> {
    match connect(world).await? {
        Some(graph) => from_graph(world, &graph, app, visit).await,
        None => from_directory(world, directory, visit).await,
    }
}

async fn connect(world: &World) -> Result<Option<Graph>, Stop> {
    if world.config.issuer.graph.is_none() {
        return Ok(None);
    }
    let fault = |why: String| Stop::fail(Code::IssuerMisconfigured, Side::Issuer, why);
    let settings =
        assembly::oidc_settings(&world.config).map_err(|error| fault(error.to_string()))?;
    let issuer = Issuer::new(settings, world.clock).map_err(|error| fault(error.to_string()))?;
    assembly::graph(&world.config, &Arc::new(issuer)).map_err(|error| fault(error.to_string()))
}

async fn from_graph(
    world: &World,
    graph: &Graph,
    app: &Application,
    visit: &Visit,
) -> Result<Known, Stop> {
    let asked = match visit.person.parse::<Uuid>() {
        Ok(oid) => graph.user(oid).await,
        Err(_) => graph.user_by_upn(&visit.person).await,
    };
    let user = asked.map_err(|error| unknown(&visit.person, &error))?;
    // The issuer would refuse the sign-in.
    if user.account_enabled == Some(false) {
        let detail = format!("{} is disabled at the identity provider", user.id);
        return Err(Stop::deny(Code::PersonDisabled, detail));
    }
    let rules = app
        .access
        .allow
        .iter()
        .chain(&app.access.deny)
        .filter_map(|rule| rule.group);
    let mapped = world
        .config
        .mapping
        .iter()
        .flat_map(|mapping| &mapping.groups);
    let named: BTreeSet<Uuid> = rules
        .chain(mapped.filter_map(|mapping| mapping.group))
        .collect();
    let named: Vec<Uuid> = named.into_iter().collect();
    let mut groups = match named.is_empty() {
        true => Vec::new(),
        false => graph
            .check_member_groups(user.id, &named)
            .await
            .map_err(|error| Stop::fail(Code::GroupsUnknown, Side::Issuer, error.to_string()))?,
    };
    groups.extend(&visit.groups);
    let source = told(&user, groups.len(), visit);
    let claims = of_user(world, user, groups, visit);
    Ok(Known { claims, source })
}

fn unknown(person: &str, error: &graph::Error) -> Stop {
    match error {
        graph::Error::UserUnknown(_) => Stop::deny(
            Code::SignInRefused,
            format!(
                "the identity provider knows no {person} (object id, or UPN as in the tenant: name_home.example#EXT#@…)"
            ),
        ),
        graph::Error::Refused { .. } | graph::Error::PermissionMissing { .. } => Stop::fail(
            Code::IssuerMisconfigured,
            Side::Issuer,
            format!("{error}: application permission User.Read.All"),
        ),
        graph::Error::Setting(_)
        | graph::Error::Token(_)
        | graph::Error::Unreachable(_)
        | graph::Error::Throttled { .. }
        | graph::Error::ObjectUnknown { .. }
        | graph::Error::ResyncNeeded { .. }
        | graph::Error::ForeignLink(_)
        | graph::Error::Endless { .. }
        | graph::Error::Page { .. }
        | graph::Error::Answer(_) => {
            Stop::fail(Code::IssuerUnreachable, Side::Issuer, error.to_string())
        }
    }
}

fn told(user: &User, groups: usize, visit: &Visit) -> String {
    let kind = user.user_type.as_deref().unwrap_or("of unknown type");
    let synced = user.on_premises_security_identifier.as_deref();
    let synced = synced.map_or_else(String::new, |sid| format!(", synced as {sid}"));
    let assumed = match visit.roles.as_slice() {
        [] => String::from("app roles are not known (assume some with --role)"),
        roles => format!("app roles assumed: {}", roles.join(", ")),
    };
    format!(
        "{} by Graph: {kind}{synced}, in {groups} of the groups that matter; {assumed}",
        user.id
    )
}

fn of_user(world: &World, user: User, groups: Vec<Uuid>, visit: &Visit) -> Claims {
    let upn = user.user_principal_name;
    // Graph does not tell the home tenant; the UPN's form tells that there is another one.
    let elsewhere = upn
        .as_deref()
        .is_some_and(|upn| upn.to_ascii_uppercase().contains("#EXT#@"));
    let home = match visit.home_tenant {
        Some(tenant) if tenant != world.config.issuer.tenant => Home::Tenant(tenant),
        Some(_) => Home::Own,
        None if elsewhere => Home::Provider(String::from("not told by Graph")),
        None => Home::Own,
    };
    Claims {
        person: PersonId {
            tid: world.config.issuer.tenant,
            oid: user.id,
        },
        home,
        guest: user
            .user_type
            .map(|kind| kind.eq_ignore_ascii_case("Guest")),
        display_name: user.display_name,
        given_name: user.given_name,
        family_name: user.surname,
        email: user.mail,
        upn,
        preferred_username: None,
        roles: visit.roles.clone(),
        groups: Groups::Listed(groups),
        onprem_sid: user
            .on_premises_security_identifier
            .and_then(|sid| sid.parse().ok()),
        session_id: None,
        login_hint: None,
    }
}

/// Without Graph an object id is taken as it is, and a UPN leads to the person by way of the account.
async fn from_directory(
    world: &World,
    directory: Option<&Directory>,
    visit: &Visit,
) -> Result<Known, Stop> {
    let assumed =
        "issuer.graph is not configured: nothing is known but what was assumed with options";
    if let Ok(oid) = visit.person.parse::<Uuid>() {
        let claims = bare(world, oid, visit);
        return Ok(Known {
            claims,
            source: String::from(assumed),
        });
    }
    let account = match directory {
        Some(directory) => by_upn(world, directory, &visit.person).await?,
        None => None,
    };
    let Some(account) = account else {
        let detail = format!(
            "no account has the UPN {}; without Graph give the object id",
            visit.person
        );
        return Err(Stop::deny(Code::AccountMissing, detail));
    };
    let anchor = world
        .config
        .mapping
        .as_ref()
        .map(|mapping| mapping.anchor_attribute.as_str());
    let oid = anchor.and_then(|name| account.text(name)?.strip_prefix("User_")?.parse().ok());
    let mut claims = bare(world, oid.unwrap_or_default(), visit);
    claims.upn = Some(visit.person.clone());
    claims.guest = Some(oid.is_some());
    if oid.is_none() {
        claims.home = Home::Own;
        claims.onprem_sid = account.sid("objectSid");
    }
    let source = format!("by the account {}; {assumed}", account.dn);
    Ok(Known { claims, source })
}

fn bare(world: &World, oid: Uuid, visit: &Visit) -> Claims {
    let home = match visit.home_tenant {
        Some(tenant) if tenant == world.config.issuer.tenant => Home::Own,
        Some(tenant) => Home::Tenant(tenant),
        None => Home::Provider(String::from("unknown")),
    };
    Claims {
        person: PersonId {
            tid: world.config.issuer.tenant,
            oid,
        },
        home,
        guest: None,
        display_name: None,
        given_name: None,
        family_name: None,
        email: None,
        upn: None,
        preferred_username: None,
        roles: visit.roles.clone(),
        groups: Groups::Listed(visit.groups.clone()),
        onprem_sid: None,
        session_id: None,
        login_hint: None,
    }
}

async fn by_upn(world: &World, directory: &Directory, upn: &str) -> Result<Option<Entry>, Stop> {
    let fault = |error: crate::ldap::Error| {
        Stop::fail(
            Code::DirectoryUnreachable,
            Side::Directory,
            error.to_string(),
        )
    };
    let Some(mapping) = &world.config.mapping else {
        return Ok(None);
    };
    let name = "userPrincipalName".parse().map_err(fault)?;
    for base in &mapping.account_bases {
        let search = Search {
            base: base.parse().map_err(fault)?,
            scope: Scope::Subtree,
            filter: Filter::equals(&name, upn),
            attributes: vec![String::from("objectSid"), mapping.anchor_attribute.clone()],
            limit: 2,
        };
        let found = directory.search(&search).await.map_err(fault)?;
        if let Some(entry) = found.entries.into_iter().next() {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}
