//! The control API, for tests. JSON in, JSON out; 400 `{"error"}` for a body it does not
//! understand, 404 for a person or key that is not there. Names are logins or object ids.
//!
//! | Request | Body | Effect |
//! |---|---|---|
//! | GET `/_control/` | | this table's first column |
//! | GET `/_control/counters` | | requests seen by endpoint: metadata, jwks, authorize, token, logout, graph, other |
//! | DELETE `/_control/counters` | | back to zero |
//! | GET `/_control/keys` | | `{"keys":[{kid,published,signing}],"foreign_kid"}` |
//! | POST `/_control/keys/rotate` | `{"retire_old":false,"publish":true}` | a new key signs; the old one leaves the set, or stays; the new one can stay unpublished |
//! | POST `/_control/keys/sign-with` | `{"kid"}` | another key of the ring signs |
//! | POST `/_control/keys/publish` | `{"kid","published":true}` | puts a key into the set or takes it out |
//! | POST `/_control/keys/remove` | `{"kid"}` | takes a key out of the set |
//! | GET `/_control/people` | | everybody, with object id, groups, roles |
//! | POST `/_control/people` | `{"login","like",…}` | a new person like another one, with a new object id; further members as below |
//! | POST `/_control/people/{name}` | any of `enabled, roles, groups, name, mail, guest, origin, named_in_tokens, onprem_sid, oid, claims, pending, properties` | changes a person; `properties` are what Graph tells of them, `claims` go into every token, null removes |
//! | DELETE `/_control/people/{name}` | | deletes the person in the cloud, restorable |
//! | GET `/_control/invitations` | | those sent through Graph, as answered |
//! | GET `/_control/subscriptions` | | who is told of changes, secrets included |
//! | DELETE `/_control/subscriptions` | | all go, and their owners are told so |
//! | GET `/_control/deleted` | | the deleted |
//! | POST `/_control/deleted/{name}` | | restores a deleted person |
//! | DELETE `/_control/deleted/{name}` | | deletes them for ever |
//! | POST `/_control/groups/{id}` | `{"name","groups"}` | names a group, puts groups into it |
//! | POST `/_control/graph` | any of `page_size, links, host, empty, replay, late`, or `{}` for the usual | how pages and deltas look; `links` right, cycle, endless, foreign (to `host`), beta, missing |
//! | POST `/_control/graph/expire` | | as if all delta tokens were seven days old |
//! | POST `/_control/people-sids` | `{login: SID}` | sets `onprem_sid` |
//! | POST `/_control/revoke` | `{"login"}` or `{}` for all | revokes refresh tokens and sign-ins (AADSTS50173) |
//! | POST `/_control/faults` | `{"endpoint","kind",…}` | see [`crate::entra::faults::Fault`]: kinds status (`status`), throttle (`retry_after`, `retry_date`), hang, slow (`ms`), garbage, html, close, lost, mute, truncate, oversize (`bytes`), redirect (`location`); `count`, `only` (method and path begin so) |
//! | GET `/_control/faults` | | `{"left"}`: how many requests are still to fail |
//! | DELETE `/_control/faults` | | none any more |
//! | POST `/_control/clock` | `{"offset_seconds"}` | shifts iat, nbf, exp of new tokens |
//! | POST `/_control/mint` | `{"base":{"login","kind","nonce","sid","scope"},…}` | a token: `kind` id-v2 (usual), access-v2, access-v1, app-v2, app-v1; without `base`, only the claims given; the rest as next |
//! | POST `/_control/next-id-token` | `{"login","count":1,"claims","header","sign","kid","alg","tamper"}` | the next ID tokens differ: `claims` and `header` are merged, null removes; `sign` right, foreign, none, hs256, tampered, empty, garbled; `kid` signs with that key of the ring; `alg` RS256, RS384, RS512, PS256 |
//! | DELETE `/_control/next-id-token` | | no differences any more |
//! | POST `/_control/settings` | any of `redirect_uris, logout_uris, post_logout_uris` (replace), `add_redirect_uris, add_logout_uris, add_post_logout_uris`, `assignment_required, pkce_required, refresh_single_use, code_seconds, refresh_seconds, id_token_seconds, access_token_seconds, graph_roles` | changes the registration |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::entra::Emulator;
use crate::entra::client_auth::Proof;
use crate::entra::faults::{ENDPOINTS, Fault, Faults};
use crate::entra::graph_sync::Orders;
use crate::entra::keys::SigningKey;
use crate::entra::scope::{Resource, Scope};
use crate::entra::tokens::{Object, Occasion, Seal};
use crate::entra::world::{Account, NextIdToken, World};
use crate::people::Origin;

type Answer = Result<Json<Value>, No>;

/// Why an order was not carried out.
pub struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

fn bad(text: impl std::fmt::Display) -> No {
    No(StatusCode::BAD_REQUEST, text.to_string())
}

fn missing(what: &str, name: &str) -> No {
    No(StatusCode::NOT_FOUND, format!("no {what} {name}"))
}

/// Reads a body without asking for a content type: curl stays short.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, No> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(bad)
}

fn done() -> Answer {
    Ok(Json(json!({ "ok": true })))
}

/// All of `/_control`.
pub fn router() -> Router<Arc<Emulator>> {
    Router::new()
        .route("/", get(table))
        .route("/counters", get(counters).delete(reset_counters))
        .route("/keys", get(keys))
        .route("/keys/rotate", post(rotate))
        .route("/keys/sign-with", post(sign_with))
        .route("/keys/publish", post(publish))
        .route("/keys/remove", post(remove))
        .route("/people", get(people).post(add_person))
        .route("/people/{name}", post(change_person).delete(delete_person))
        .route("/invitations", get(invitations))
        .route(
            "/subscriptions",
            get(subscriptions).delete(drop_subscriptions),
        )
        .route("/deleted", get(deleted))
        .route("/deleted/{name}", post(restore).delete(purge))
        .route("/groups/{id}", post(group))
        .route("/graph", post(graph_orders))
        .route("/graph/expire", post(expire))
        .route("/people-sids", post(people_sids))
        .route("/revoke", post(revoke))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/clock", post(clock))
        .route("/mint", post(mint))
        .route(
            "/next-id-token",
            post(next_id_token).delete(clear_next_id_token),
        )
        .route("/settings", post(settings))
}

/// `/_control/`: what there is.
pub async fn table() -> Json<Value> {
    Json(json!([
        "GET /_control/counters",
        "DELETE /_control/counters",
        "GET /_control/keys",
        "POST /_control/keys/rotate",
        "POST /_control/keys/sign-with",
        "POST /_control/keys/publish",
        "POST /_control/keys/remove",
        "GET /_control/people",
        "POST /_control/people",
        "POST /_control/people/{name}",
        "DELETE /_control/people/{name}",
        "GET /_control/invitations",
        "GET /_control/subscriptions",
        "DELETE /_control/subscriptions",
        "GET /_control/deleted",
        "POST /_control/deleted/{name}",
        "DELETE /_control/deleted/{name}",
        "POST /_control/groups/{id}",
        "POST /_control/graph",
        "POST /_control/graph/expire",
        "POST /_control/people-sids",
        "POST /_control/revoke",
        "GET /_control/faults",
        "POST /_control/faults",
        "DELETE /_control/faults",
        "POST /_control/clock",
        "POST /_control/mint",
        "POST /_control/next-id-token",
        "DELETE /_control/next-id-token",
        "POST /_control/settings"
    ]))
}

async fn counters(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    let world = emulator.world();
    let all = ENDPOINTS.map(|name| {
        (
            name.to_owned(),
            json!(world.counters.get(name).copied().unwrap_or_default()),
        )
    });
    Json(Value::Object(all.into_iter().collect()))
}

async fn reset_counters(State(emulator): State<Arc<Emulator>>) -> Answer {
    emulator.world().counters.clear();
    done()
}

async fn keys(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(emulator.world().keys.described())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    retire_old: bool,
    #[serde(default = "yes")]
    publish: bool,
}

fn yes() -> bool {
    true
}

async fn rotate(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let order: Rotate = read(&body)?;
    let key = SigningKey::generate()
        .await
        .map_err(|error| No(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let kid = key.kid.clone();
    let mut world = emulator.world();
    let old = world.keys.current().kid.clone();
    world.keys.add(key, order.publish);
    world.keys.sign_with(&kid);
    if order.retire_old {
        world.keys.publish(&old, false);
    }
    Ok(Json(json!({ "kid": kid, "old_kid": old })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kid {
    kid: String,
    #[serde(default = "yes")]
    published: bool,
}

async fn sign_with(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let Kid { kid, .. } = read(&body)?;
    if emulator.world().keys.sign_with(&kid) {
        done()
    } else {
        Err(missing("key", &kid))
    }
}

async fn publish(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let Kid { kid, published } = read(&body)?;
    if emulator.world().keys.publish(&kid, published) {
        done()
    } else {
        Err(missing("key", &kid))
    }
}

async fn remove(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let Kid { kid, .. } = read(&body)?;
    if emulator.world().keys.publish(&kid, false) {
        done()
    } else {
        Err(missing("key", &kid))
    }
}

fn described(account: &Account) -> Value {
    let person = &account.person;
    json!({
        "login": person.login,
        "what": person.what,
        "oid": person.oid,
        "name": person.name,
        "mail": person.mail,
        "upn": person.upn(),
        "guest": person.guest,
        "enabled": person.enabled,
        "roles": person.roles,
        "groups": person.groups,
        "onprem_sid": account.onprem_sid,
        "load": person.load,
        "pending": person.pending,
        "properties": account.written,
    })
}

async fn people(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(emulator.world().accounts.iter().map(described).collect())
}

/// What may change about a person.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    enabled: Option<bool>,
    roles: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    name: Option<String>,
    mail: Option<String>,
    guest: Option<bool>,
    origin: Option<Origin>,
    named_in_tokens: Option<bool>,
    onprem_sid: Option<String>,
    oid: Option<String>,
    claims: Option<Object>,
    pending: Option<bool>,
    properties: Option<Object>,
}

impl Change {
    fn apply(self, account: &mut Account) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        let person = &mut account.person;
        set(&mut person.enabled, self.enabled);
        set(&mut person.roles, self.roles);
        set(&mut person.groups, self.groups);
        set(&mut person.name, self.name);
        set(&mut person.mail, self.mail);
        set(&mut person.guest, self.guest);
        set(&mut person.origin, self.origin);
        set(&mut person.named_in_tokens, self.named_in_tokens);
        set(&mut person.oid, self.oid);
        set(&mut person.pending, self.pending);
        set(&mut account.claims, self.claims);
        account.written.extend(self.properties.unwrap_or_default());
        if self.onprem_sid.is_some() {
            account.onprem_sid = self.onprem_sid;
        }
    }
}

/// Takes members out of a body whose rest is of another, strict type.
fn split<T: DeserializeOwned>(body: &[u8], names: &[&str]) -> Result<(Object, T), No> {
    let mut rest: Object = read(body)?;
    let taken = names
        .iter()
        .filter_map(|&name| rest.remove_entry(name))
        .collect();
    let rest = serde_json::from_value(Value::Object(rest)).map_err(bad)?;
    Ok((taken, rest))
}

fn text(object: &Object, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

async fn add_person(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let (named, change): (_, Change) = split(&body, &["login", "like"])?;
    let login = text(&named, "login").ok_or_else(|| bad("login is missing"))?;
    let like = text(&named, "like").unwrap_or_else(|| "jane@fabrikam.example".to_owned());
    let mut world = emulator.world();
    if world.account(&login).is_some() {
        return Err(No(
            StatusCode::CONFLICT,
            format!("{login} is there already"),
        ));
    }
    let mut account = world
        .account(&like)
        .ok_or_else(|| missing("person", &like))?
        .clone();
    account.person.oid = uuid::Uuid::new_v4().to_string();
    account.person.mail.clone_from(&login);
    account.person.login = login;
    account.person.onprem_account = None;
    account.onprem_sid = None;
    account.tokens_valid_from = None;
    account.written.clear();
    change.apply(&mut account);
    let answer = described(&account);
    world.accounts.push(account);
    Ok(Json(answer))
}

async fn change_person(
    State(emulator): State<Arc<Emulator>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let change: Change = read(&body)?;
    let mut world = emulator.world();
    let account = world
        .account_mut(&name)
        .ok_or_else(|| missing("person", &name))?;
    change.apply(account);
    let (told, oid) = (described(account), account.person.oid.clone());
    drop(world);
    emulator.tell("users", &oid, "updated");
    emulator.tell("groups", &oid, "updated");
    Ok(Json(told))
}

async fn delete_person(State(emulator): State<Arc<Emulator>>, Path(name): Path<String>) -> Answer {
    let mut world = emulator.world();
    let oid = world
        .account(&name)
        .ok_or_else(|| missing("person", &name))?
        .person
        .oid
        .clone();
    let (gone, left) = std::mem::take(&mut world.accounts)
        .into_iter()
        .partition(|account| account.person.oid == oid);
    world.accounts = left;
    let gone: Vec<Account> = gone;
    world.deleted.extend(gone);
    drop(world);
    emulator.tell("users", &oid, "deleted");
    done()
}

async fn subscriptions(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(json!(emulator.world().subscriptions))
}

async fn drop_subscriptions(State(emulator): State<Arc<Emulator>>) -> Answer {
    emulator.drop_subscriptions();
    done()
}

async fn invitations(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(json!(emulator.world().invitations))
}

async fn deleted(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(emulator.world().deleted.iter().map(described).collect())
}

fn take_deleted(world: &mut World, name: &str) -> Result<Account, No> {
    let position = world.deleted.iter().position(|account| account.is(name));
    let position = position.ok_or_else(|| missing("deleted person", name))?;
    Ok(world.deleted.remove(position))
}

async fn restore(State(emulator): State<Arc<Emulator>>, Path(name): Path<String>) -> Answer {
    let mut world = emulator.world();
    let account = take_deleted(&mut world, &name)?;
    world.accounts.push(account);
    done()
}

async fn purge(State(emulator): State<Arc<Emulator>>, Path(name): Path<String>) -> Answer {
    take_deleted(&mut emulator.world(), &name)?;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: Option<String>,
    groups: Option<std::collections::BTreeSet<String>>,
}

async fn group(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let Group { name, groups } = read(&body)?;
    let sync = &mut emulator.world().sync;
    if let Some(name) = name {
        sync.names.insert(id.clone(), name);
    }
    if let Some(groups) = groups {
        sync.nested.insert(id, groups);
    }
    done()
}

async fn graph_orders(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let orders: Orders = read(&body)?;
    emulator.world().sync.orders = orders;
    done()
}

async fn expire(State(emulator): State<Arc<Emulator>>) -> Answer {
    emulator.world().sync.expire();
    done()
}

async fn people_sids(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let sids: BTreeMap<String, String> = read(&body)?;
    emulator.world().set_sids(&sids);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    login: Option<String>,
}

async fn revoke(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let Whose { login } = read(&body)?;
    let mut world = emulator.world();
    let now = Some(Instant::now());
    match login {
        Some(login) => {
            let account = world
                .account_mut(&login)
                .ok_or_else(|| missing("person", &login))?;
            account.tokens_valid_from = now;
        }
        None => world
            .accounts
            .iter_mut()
            .for_each(|account| account.tokens_valid_from = now),
    }
    done()
}

async fn add_fault(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let fault: Fault = read(&body)?;
    if !ENDPOINTS.contains(&fault.endpoint.as_str()) {
        return Err(bad(format!(
            "no endpoint {}; there are {ENDPOINTS:?}",
            fault.endpoint
        )));
    }
    emulator.world().faults.add(fault);
    done()
}

async fn faults(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(json!({ "left": emulator.world().faults.left() }))
}

async fn clear_faults(State(emulator): State<Arc<Emulator>>) -> Answer {
    emulator.world().faults = Faults::default();
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offset {
    offset_seconds: i64,
}

async fn clock(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let Offset { offset_seconds } = read(&body)?;
    emulator.world().clock_offset = offset_seconds;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    #[serde(default)]
    login: String,
    #[serde(default)]
    kind: Kind,
    nonce: Option<String>,
    sid: Option<String>,
    scope: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    IdV2,
    AccessV2,
    AccessV1,
    AppV2,
    AppV1,
}

async fn mint(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let (taken, seal): (_, Seal) = split(&body, &["base"])?;
    let world = emulator.world();
    let claims = match taken.get("base") {
        Some(base) => {
            let base: Base = serde_json::from_value(base.clone()).map_err(bad)?;
            base_claims(&emulator, &world, &base)?
        }
        None => Object::new(),
    };
    let token = world.seal(claims, &Object::new(), &seal).map_err(bad)?;
    Ok(Json(json!({ "token": token })))
}

fn base_claims(emulator: &Emulator, world: &World, base: &Base) -> Result<Object, No> {
    let resource = match base.kind {
        Kind::AppV2 => Some(Resource::ApiV2),
        Kind::AppV1 => Some(Resource::ApiV1),
        Kind::IdV2 | Kind::AccessV2 | Kind::AccessV1 => None,
    };
    if let Some(resource) = resource {
        return Ok(emulator.app_claims(world, resource, Proof::Secret, 3600));
    }
    let account = world
        .account(&base.login)
        .ok_or_else(|| missing("person", &base.login))?;
    let own = |resource: &str| format!("{resource}/access");
    let v1 = format!("{}-v1", emulator.api_audience);
    let usual = match base.kind {
        Kind::AccessV2 => own(&emulator.api_audience),
        Kind::AccessV1 => own(&v1),
        Kind::IdV2 | Kind::AppV2 | Kind::AppV1 => "openid profile email".to_owned(),
    };
    let asked = base.scope.as_deref().unwrap_or(&usual);
    let scope = Scope::parse(emulator, asked).map_err(|error| bad(error.text))?;
    let fresh = uuid::Uuid::new_v4().to_string();
    let occasion = Occasion {
        account,
        scope: &scope,
        nonce: base.nonce.as_deref(),
        sid: base.sid.as_deref().unwrap_or(&fresh),
        proof: Proof::Secret,
    };
    Ok(match base.kind {
        Kind::AccessV2 => emulator.access_claims_v2(world, &occasion, 3600),
        Kind::AccessV1 => emulator.access_claims_v1(world, &occasion, &v1, 3600),
        Kind::IdV2 | Kind::AppV2 | Kind::AppV1 => emulator.id_claims(world, &occasion),
    })
}

async fn next_id_token(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    let (taken, seal): (_, Seal) = split(&body, &["login", "count"])?;
    let count = taken.get("count").and_then(Value::as_u64).unwrap_or(1);
    let next = NextIdToken {
        login: text(&taken, "login"),
        count: u32::try_from(count).unwrap_or(u32::MAX),
        seal,
    };
    emulator.world().next_id_tokens.push(next);
    done()
}

async fn clear_next_id_token(State(emulator): State<Arc<Emulator>>) -> Answer {
    emulator.world().next_id_tokens.clear();
    done()
}

/// What may change about the registration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Settings {
    redirect_uris: Option<Vec<String>>,
    logout_uris: Option<Vec<String>>,
    post_logout_uris: Option<Vec<String>>,
    add_redirect_uris: Vec<String>,
    add_logout_uris: Vec<String>,
    add_post_logout_uris: Vec<String>,
    assignment_required: Option<bool>,
    pkce_required: Option<bool>,
    refresh_single_use: Option<bool>,
    code_seconds: Option<u64>,
    refresh_seconds: Option<u64>,
    id_token_seconds: Option<i64>,
    access_token_seconds: Option<i64>,
    graph_roles: Option<Vec<String>>,
}

async fn settings(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Answer {
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    let order: Settings = read(&body)?;
    let mut world = emulator.world();
    let registration = &mut world.registration;
    set(&mut registration.redirect_uris, order.redirect_uris);
    set(&mut registration.logout_uris, order.logout_uris);
    set(&mut registration.post_logout_uris, order.post_logout_uris);
    registration.redirect_uris.extend(order.add_redirect_uris);
    registration.logout_uris.extend(order.add_logout_uris);
    registration
        .post_logout_uris
        .extend(order.add_post_logout_uris);
    set(
        &mut registration.assignment_required,
        order.assignment_required,
    );
    set(&mut registration.pkce_required, order.pkce_required);
    set(
        &mut registration.refresh_single_use,
        order.refresh_single_use,
    );
    set(
        &mut registration.code_lifetime,
        order.code_seconds.map(Duration::from_secs),
    );
    set(
        &mut registration.refresh_lifetime,
        order.refresh_seconds.map(Duration::from_secs),
    );
    set(&mut registration.id_token_seconds, order.id_token_seconds);
    if order.access_token_seconds.is_some() {
        registration.access_token_seconds = order.access_token_seconds;
    }
    set(&mut registration.graph_roles, order.graph_roles);
    Ok(Json(json!({
        "redirect_uris": registration.redirect_uris,
        "logout_uris": registration.logout_uris,
        "post_logout_uris": registration.post_logout_uris,
    })))
}
