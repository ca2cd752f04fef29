//! Checks of the identity provider: metadata, keys, clock, our registration there, Graph.

use std::sync::Arc;

use http::header;
use uuid::Uuid;

use crate::assembly;
use crate::graph;
use crate::model::clock;
use crate::model::clock::Clock;
use crate::oidc;
use crate::oidc::Issuer;

use super::check;
use super::check::mend;
use super::report::Finding;
use super::world;
use super::world::World;
use super::world::timed;

/// The issuer's side, in order.
pub(super) async fn examine(world: &World) -> Vec<Finding> {
    let name = world.config.issuer.issuer.as_str();
    let built = assembly::oidc_settings(&world.config).map_err(|error| error.to_string());
    let issuer = built
        .and_then(|settings| Issuer::new(settings, world.clock).map_err(|error| error.to_string()));
    let issuer = match issuer {
        Ok(issuer) => Arc::new(issuer),
        Err(error) => {
            let broken = check::ISSUER.fault(
                name,
                error,
                mend("the settings cannot be used", "correct [issuer]"),
            );
            return vec![broken];
        }
    };
    let metadata = timed(check::ISSUER, name, metadata(world, &issuer)).await;
    if !issuer.is_ready() {
        let why = "the issuer's metadata is not known (check 5)";
        let rest = [check::ISSUER_CLOCK, check::CLIENT_CREDENTIAL, check::GRAPH];
        let skipped = rest.into_iter().map(|check| check.skipped(name, why));
        return [metadata].into_iter().chain(skipped).collect();
    }
    let (clock, credential, graph) = tokio::join!(
        timed(check::ISSUER_CLOCK, name, clock(world, &issuer)),
        timed(check::CLIENT_CREDENTIAL, name, credential(world, &issuer)),
        timed(check::GRAPH, name, graph(world, &issuer)),
    );
    vec![metadata, clock, credential, graph]
}

async fn metadata(world: &World, issuer: &Issuer) -> Finding {
    let name = issuer.name();
    let url = &world.config.issuer.metadata;
    let error = match issuer.refresh().await {
        Ok(()) => return check::ISSUER.ok(name, format!("{url}: issuer as configured, keys read")),
        Err(error) => error,
    };
    let fix = match &error {
        oidc::Error::IssuerMismatch { found, .. } => {
            format!("set in [issuer]: issuer = {found:?}, if that is the provider you mean")
        }
        oidc::Error::Unreachable { .. } => {
            format!(
                "curl -v {url}\na private authority goes into issuer.ca_file, a name without DNS into [hosts]"
            )
        }
        oidc::Error::Status { .. } => String::from(
            "compare issuer.tenant and issuer.authority with the app registration's \"Endpoints\"",
        ),
        oidc::Error::Setting { .. }
        | oidc::Error::Answer { .. }
        | oidc::Error::Refused(_)
        | oidc::Error::Token(_) => format!("curl -v {url}"),
    };
    check::ISSUER.fault(name, error.to_string(), mend("nobody can sign in", fix))
}

async fn clock(world: &World, issuer: &Issuer) -> Finding {
    let name = issuer.name();
    let answer = issuer
        .http()
        .get(world.config.issuer.metadata.clone())
        .send()
        .await;
    let date = answer.ok().and_then(|answer| {
        let text = answer.headers().get(header::DATE)?.to_str().ok()?;
        clock::http_date(text)
    });
    let Some(date) = date else {
        return check::ISSUER_CLOCK.skipped(name, "its answer has no Date");
    };
    let skew = date.saturating_sub(Clock::System.unix());
    world::clock(check::ISSUER_CLOCK, name, skew, world.config.issuer.skew)
}

async fn credential(world: &World, issuer: &Issuer) -> Finding {
    let name = issuer.name();
    let client = &world.config.issuer.client_id;
    let Err(error) = issuer.app_token(&world.config.issuer.graph_scope).await else {
        return check::CLIENT_CREDENTIAL.ok(name, format!("{client} was given a token"));
    };
    let oidc::Error::Refused(refusal) = &error else {
        let cause = "the token endpoint does not answer as it should";
        return check::CLIENT_CREDENTIAL.fault(name, error.to_string(), mend(cause, ""));
    };
    let numbers = &refusal.codes;
    let known = ENTRA.iter().find(|(number, ..)| numbers.contains(number));
    if let Some((_, cause, fix)) = known {
        let fix = fix.replace("{client}", client);
        return check::CLIENT_CREDENTIAL.fault(name, error.to_string(), mend(*cause, fix));
    }
    // RFC 6749 5.2: anything but these two means that the client itself was recognized.
    if matches!(refusal.error.as_str(), "invalid_client" | "invalid_request") {
        let fix = format!(
            "compare issuer.client_id ({client}) and the secret's *value* (not its id) with the registration"
        );
        let mend = mend("the issuer does not accept the gateway's credential", fix);
        return check::CLIENT_CREDENTIAL.fault(name, error.to_string(), mend);
    }
    let cause = "the credential was accepted, but the grant client_credentials is not allowed";
    let fix = "needed for Graph only; without group policies nothing has to be done";
    check::CLIENT_CREDENTIAL.warning(name, error.to_string(), mend(cause, fix))
}

/// Entra's numbers for a credential it does not take.
const ENTRA: [(u32, &str, &str); 6] = [
    (
        7_000_215,
        "the client secret is wrong",
        "New-MgApplicationPassword (Entra: App registrations > Certificates & secrets), then write its *value* into the file of issuer.client_secret_file",
    ),
    (
        7_000_222,
        "the client secret has expired",
        "make a new one (Certificates & secrets) and write its value into the file of issuer.client_secret_file",
    ),
    (
        700_016,
        "the tenant knows no application {client}",
        "compare issuer.client_id = \"{client}\" and issuer.tenant with the registration's overview page",
    ),
    (
        700_027,
        "the certificate is not the one that was uploaded, or has expired",
        "upload the certificate of issuer.client_certificate (Certificates & secrets > Certificates)",
    ),
    (90_002, "the tenant does not exist", "correct issuer.tenant"),
    (
        7_000_218,
        "the issuer wants a secret or certificate and got none",
        "set issuer.client_secret_file, or client_certificate and client_key",
    ),
];

async fn graph(world: &World, issuer: &Arc<Issuer>) -> Finding {
    let rules = world
        .applications
        .iter()
        .flat_map(|app| app.access.allow.iter().chain(&app.access.deny));
    let mapped = world
        .config
        .mapping
        .iter()
        .flat_map(|mapping| &mapping.groups);
    let named = rules
        .filter_map(|rule| rule.group)
        .chain(mapped.filter_map(|mapping| mapping.group))
        .next();
    let Some(group) = named else {
        return check::GRAPH.skipped("", "no policy and no mapping names a group");
    };
    let graph = match assembly::graph(&world.config, issuer) {
        Ok(Some(graph)) => graph,
        Ok(None) => {
            let fix = "set issuer.graph = \"https://graph.microsoft.com/v1.0\"";
            let cause = "people in more than 200 groups will be refused";
            return check::GRAPH.warning("", "issuer.graph is not configured", mend(cause, fix));
        }
        Err(error) => {
            return check::GRAPH.fault(
                "",
                error.to_string(),
                mend("the settings cannot be used", ""),
            );
        }
    };
    let base = world
        .config
        .issuer
        .graph
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    // Nobody has this id: permission is judged before existence.
    match graph.check_member_groups(Uuid::from_u128(1), &[group]).await {
        Ok(_) | Err(graph::Error::UserUnknown(_)) => check::GRAPH.ok(base, "answers about groups"),
        Err(error @ (graph::Error::Refused { .. } | graph::Error::PermissionMissing { .. })) => check::GRAPH.fault(
            base,
            error.to_string(),
            mend(
                "the registration lacks an application permission; people in more than 200 groups are refused",
                "App registrations > API permissions > Microsoft Graph > Application permissions: GroupMember.Read.All and User.Read.All, then \"Grant admin consent\"",
            ),
        ),
        Err(
            error @ (graph::Error::Setting(_)
            | graph::Error::Token(_)
            | graph::Error::Unreachable(_)
            | graph::Error::Throttled { .. }
            | graph::Error::ObjectUnknown { .. }
            | graph::Error::ResyncNeeded { .. }
            | graph::Error::ForeignLink(_)
            | graph::Error::Endless { .. }
            | graph::Error::Page { .. }
            | graph::Error::Answer(_)),
        ) => check::GRAPH.fault(base, error.to_string(), mend("Graph gives no answer", "see checks 5 and 7")),
    }
}
