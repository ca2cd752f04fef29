//! Emulator of Microsoft Entra ID: OpenID Connect for one tenant and the few Graph calls the
//! gateway uses, in Microsoft's documented formats, refusing what Entra refuses.
//!
//! With P the public URL and R the tenant id:
//!
//! | URL | What |
//! |---|---|
//! | `P/R/v2.0/.well-known/openid-configuration` | v2 metadata, issuer `P/R/v2.0` |
//! | `P/R/.well-known/openid-configuration` | v1 metadata, issuer `P/sts/R/` (sts.windows.net) |
//! | `P/common/v2.0/…`, `P/organizations/v2.0/…` | metadata with the issuer `P/{tenantid}/v2.0` |
//! | `P/R/discovery/v2.0/keys`, `P/R/discovery/keys` | signing keys |
//! | `P/R/oauth2/v2.0/authorize`, `…/token`, `…/logout` | the flows |
//! | `P/graph/v1.0/users…`, `P/graph/oidc/userinfo` | Graph, as sign-ins ask it |
//! | `P/graph/v1.0/{users,groups}/delta`, `…/transitiveMembers/…`, `…/deletedItems/…`, `…/appRoleAssignedTo` | Graph, as a synchronization asks it |
//! | `P/_control/…` | for tests only, see [`control`] |
//!
//! The sign-in page is a plain form: one submit button a person, `name="login"`. It lists the
//! people for load only when the authorize request has `all=1`; their logins are accepted anyway.
//!
//! Differences from Entra, all on purpose: passwords, consent, and multi-factor do not exist; a
//! missing PKCE challenge is refused although Entra lets a confidential client go without;
//! the audience of v2 API tokens is the application id URI unless `--api-client-id` is given.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "development part: a mistake here should fail its test loudly"
)]

mod authorize;
mod client_auth;
pub mod control;
mod error;
mod faults;
mod graph;
mod graph_sync;
mod graph_write;
mod keys;
mod logout;
mod metadata;
mod pages;
mod params;
mod scope;
mod subscriptions;
mod token_endpoint;
mod tokens;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use crate::entra::client_auth::RegisteredCertificate;
use crate::entra::world::World;
use crate::serve::{Bound, Common, Failure, block_on};

/// Options of `kerbgate-lab entra`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    options: Box<Options>,
}

#[derive(clap::Args, Debug)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// URL under which clients see the emulator; `{port}` becomes the bound port.
    #[arg(long)]
    public_url: String,
    /// Tenant id.
    #[arg(long, default_value = crate::people::TENANT)]
    tenant: String,
    /// The registered application.
    #[arg(long, default_value = "cccccccc-0000-4000-8000-00000000000c")]
    client_id: String,
    /// Its secret; without one, only a client assertion signs it in.
    #[arg(long)]
    client_secret: Option<String>,
    /// Its certificate (PEM), for client assertions.
    #[arg(long)]
    client_cert: Vec<PathBuf>,
    /// A registered redirect URI.
    #[arg(long)]
    redirect_uri: Vec<String>,
    /// A registered front-channel logout URL.
    #[arg(long)]
    logout_uri: Vec<String>,
    /// A registered address to come back to after sign-out.
    #[arg(long)]
    post_logout_uri: Vec<String>,
    /// JSON object from login to SID, for `onprem_sid`.
    #[arg(long)]
    people_sids: Option<PathBuf>,
    /// Application id URI of the API.
    #[arg(long, default_value = "api://kerbgate")]
    api_audience: String,
    /// Client id of the API: makes it the audience of v2 API tokens, as Entra does.
    #[arg(long)]
    api_client_id: Option<String>,
    /// Refuse people without an assignment (AADSTS50105) instead of leaving it to the gateway.
    #[arg(long)]
    assignment_required: bool,
    /// So many guests and nobody else; the same ones each time.
    #[arg(long, default_value_t = 0)]
    crowd: u32,
}

/// What does not change while the emulator runs, and the world that does.
pub struct Emulator {
    public_url: String,
    tenant: String,
    client_id: String,
    client_secret: Option<String>,
    client_certs: Vec<RegisteredCertificate>,
    api_audience: String,
    api_client_id: Option<String>,
    world: Mutex<World>,
}

impl Emulator {
    fn world(&self) -> MutexGuard<'_, World> {
        // A handler that panicked has failed its own request only.
        self.world
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn issuer_v2(&self) -> String {
        format!("{}/{}/v2.0", self.public_url, self.tenant)
    }

    fn issuer_v1(&self) -> String {
        format!("{}/sts/{}/", self.public_url, self.tenant)
    }

    fn secure(&self) -> bool {
        self.public_url.starts_with("https:")
    }
}

/// Serves until told to end.
pub fn run(args: Args) -> Result<(), Failure> {
    block_on(serve(*args.options))
}

async fn serve(args: Options) -> Result<(), Failure> {
    let bound = Bound::new(&args.common).await?;
    let port = bound.address()?.port().to_string();
    let public_url = args.public_url.replace("{port}", &port);
    let emulator = Arc::new(emulator(args, public_url.clone()).await?);
    bound
        .serve(router(emulator), &public_url, Arc::new(AtomicU64::new(0)))
        .await
}

async fn emulator(args: Options, public_url: String) -> Result<Emulator, Failure> {
    let sids: BTreeMap<String, String> = match &args.people_sids {
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| told(path, &error))?;
            serde_json::from_slice(&text).map_err(|error| told(path, &error))?
        }
        None => BTreeMap::new(),
    };
    let mut client_certs = Vec::new();
    for path in &args.client_cert {
        let pem = std::fs::read(path).map_err(|error| told(path, &error))?;
        client_certs.push(RegisteredCertificate::new(&pem).map_err(|error| told(path, &error))?);
    }
    let mut world = World::new(keys::KeyRing::generate(3).await?, &sids);
    world.add_crowd(args.crowd);
    world.registration.redirect_uris = args.redirect_uri;
    world.registration.logout_uris = args.logout_uri;
    world.registration.post_logout_uris = args.post_logout_uri;
    world.registration.assignment_required = args.assignment_required;
    Ok(Emulator {
        public_url: public_url.trim_end_matches('/').to_owned(),
        tenant: args.tenant,
        client_id: args.client_id,
        client_secret: args.client_secret,
        client_certs,
        api_audience: args.api_audience,
        api_client_id: args.api_client_id,
        world: Mutex::new(world),
    })
}

fn told(path: &std::path::Path, error: &dyn std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display()).into()
}

fn router(emulator: Arc<Emulator>) -> Router {
    Router::new()
        .route(
            "/{tenant}/v2.0/.well-known/openid-configuration",
            get(metadata::v2),
        )
        .route(
            "/{tenant}/.well-known/openid-configuration",
            get(metadata::v1),
        )
        .route("/{tenant}/discovery/v2.0/keys", get(metadata::keys_v2))
        .route("/{tenant}/discovery/keys", get(metadata::keys_v1))
        .route("/{tenant}/oauth2/v2.0/authorize", any(authorize::authorize))
        .route("/{tenant}/login", post(authorize::sign_in))
        .route("/{tenant}/oauth2/v2.0/token", post(token_endpoint::token))
        .route("/{tenant}/oauth2/v2.0/logout", any(logout::logout))
        .route("/graph/oidc/userinfo", any(graph::userinfo))
        .route("/graph/v1.0/users", get(graph::users))
        .route("/graph/v1.0/users/delta", get(graph_sync::users_delta))
        .route("/graph/v1.0/groups/delta", get(graph_sync::groups_delta))
        .route(
            "/graph/v1.0/groups/{id}/transitiveMembers/microsoft.graph.user",
            get(graph_sync::transitive_members),
        )
        .route(
            "/graph/v1.0/directory/deletedItems/microsoft.graph.user",
            get(graph_sync::deleted_items),
        )
        .route(
            "/graph/v1.0/{principal}/appRoleAssignedTo",
            get(graph_sync::assigned_to),
        )
        .route(
            "/graph/v1.0/users/{id}",
            get(graph::user)
                .patch(graph_write::change_user)
                .delete(graph_write::delete_user),
        )
        .merge(subscriptions::router())
        .route("/graph/v1.0/invitations", post(graph_write::invite))
        .route("/graph/v1.0/groups/{id}/members", get(graph_write::members))
        .route(
            "/graph/v1.0/groups/{id}/members/$ref",
            post(graph_write::add_member),
        )
        .route(
            "/graph/v1.0/directory/deletedItems/{id}/restore",
            post(graph_write::restore),
        )
        .route(
            "/graph/v1.0/{principal}",
            get(graph_write::service_principal),
        )
        .route(
            "/graph/v1.0/servicePrincipals/{id}/appRoleAssignedTo",
            post(graph_write::assign),
        )
        .route(
            "/graph/v1.0/users/{id}/checkMemberGroups",
            post(graph::check_member_groups),
        )
        .route(
            "/graph/v1.0/users/{id}/getMemberGroups",
            post(graph::member_groups),
        )
        .route(
            "/graph/v1.0/users/{id}/getMemberObjects",
            post(graph::member_groups),
        )
        .route("/", get(pages::front))
        .route("/_control/", get(control::table))
        .nest("/_control", control::router())
        .fallback(graph::unknown)
        .layer(from_fn_with_state(
            Arc::clone(&emulator),
            faults::count_and_fail,
        ))
        .with_state(emulator)
}
