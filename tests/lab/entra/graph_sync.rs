//! The Graph calls of a synchronization: deltas of users and groups, a group's people, the deleted, the assigned.
//!
//! A delta compares the world with what it was when its token was made, so it tells of every change, however made. What
//! Graph does on bad days is ordered by `POST /_control/graph` ([`Orders`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::entra::Emulator;
use crate::entra::graph::{self, No, answered, narrowed, properties, selection};
use crate::entra::params::Params;
use crate::entra::world::{Account, World};
use crate::people::{EMPLOYEES, INTRANET_GUESTS, PARTNERS};

/// What Graph is to do from now on.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    /// Entries on a page.
    pub page_size: usize,
    /// Where the next nextLink or deltaLink leads.
    links: Links,
    /// The host of `links: foreign`.
    host: String,
    /// A full delta finds nobody: a tenant that lost its people, or a bug.
    empty: bool,
    /// Each entry comes twice, an outdated one first; the first entry comes again at the end.
    replay: bool,
    /// Everybody is told of again, and after each entry comes an outdated one: disabled who is enabled, and the other way round.
    late: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Links {
    Right,
    /// To the page just read.
    Cycle,
    /// Page after page, each of them new.
    Endless,
    /// To `host`.
    Foreign,
    /// To the beta version.
    Beta,
    /// There is none.
    Missing,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            page_size: 100,
            links: Links::Right,
            host: "https://evil.example".to_owned(),
            empty: false,
            replay: false,
            late: false,
        }
    }
}

/// What is remembered between the pages.
#[derive(Default)]
pub struct Sync {
    pub orders: Orders,
    /// By skip token, without the position.
    rounds: HashMap<String, Arc<Round>>,
    /// By delta token.
    snapshots: HashMap<String, Arc<Snapshot>>,
    /// Display names of groups.
    pub names: BTreeMap<String, String>,
    /// Groups inside groups.
    pub nested: BTreeMap<String, BTreeSet<String>>,
}

impl Sync {
    /// As if seven days had passed.
    pub fn expire(&mut self) {
        self.rounds.clear();
        self.snapshots.clear();
    }
}

struct Round {
    entries: Vec<Value>,
    /// The delta link's token, given with the last page.
    then: String,
}

/// What the asker knows: hashes only, for tenants with many people.
struct Snapshot {
    of: Of,
    selected: Vec<String>,
    only: Vec<String>,
    /// For each id, a hash for each selected property.
    known: BTreeMap<String, Vec<u64>>,
    members: BTreeMap<String, BTreeSet<(String, bool)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Users,
    Groups,
}

impl Of {
    fn path(self) -> &'static str {
        match self {
            Self::Users => "users/delta",
            Self::Groups => "groups/delta",
        }
    }
}

/// GET `/graph/v1.0/users/delta`.
pub async fn users_delta(
    State(emulator): State<Arc<Emulator>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    emulator.delta(Of::Users, &params, &headers)
}

/// GET `/graph/v1.0/groups/delta`.
pub async fn groups_delta(
    State(emulator): State<Arc<Emulator>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    emulator.delta(Of::Groups, &params, &headers)
}

/// GET `/graph/v1.0/groups/{id}/transitiveMembers/microsoft.graph.user`.
pub async fn transitive_members(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.members(&id, &params, &headers), &headers)
}

/// GET `/graph/v1.0/directory/deletedItems/microsoft.graph.user`.
pub async fn deleted_items(
    State(emulator): State<Arc<Emulator>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.deleted_items(&params, &headers), &headers)
}

/// GET `/graph/v1.0/servicePrincipals(appId='…')/appRoleAssignedTo`.
pub async fn assigned_to(
    State(emulator): State<Arc<Emulator>>,
    Path(principal): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.assigned(&principal, &params, &headers), &headers)
}

impl Emulator {
    fn delta(&self, of: Of, params: &Params, headers: &HeaderMap) -> Response {
        match self.delta_page(of, params, headers) {
            Err(No(StatusCode::GONE, code, text)) => {
                let mut response = graph::error(StatusCode::GONE, code, &text, headers);
                let begin = format!("{}/graph/v1.0/{}", self.public_url, of.path());
                if let Ok(begin) = HeaderValue::from_str(&begin) {
                    response.headers_mut().insert(LOCATION, begin);
                }
                response
            }
            other => answered(other, headers),
        }
    }

    fn delta_page(&self, of: Of, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        let needed = match of {
            Of::Users => "User.Read.All",
            Of::Groups => "GroupMember.Read.All",
        };
        self.graph_allowed(headers, &[needed])?;
        for refused in ["$top", "$orderby", "$expand", "$search"] {
            if params.get(refused).is_some() {
                let text = format!("The query option '{refused}' is not supported for delta.");
                return Err(No(StatusCode::BAD_REQUEST, "BadRequest", text));
            }
        }
        let mut world = self.world();
        let gone = || {
            let text = "The sync state generation is not found; continuing is impossible.";
            No(StatusCode::GONE, "syncStateNotFound", text.to_owned())
        };
        let (round, position) = if let Some(token) = params.get("$skiptoken") {
            let (token, position) = token.split_once('.').ok_or_else(gone)?;
            let round = world.sync.rounds.get(token).cloned().ok_or_else(gone)?;
            (
                (token.to_owned(), round),
                position.parse().map_err(|_| gone())?,
            )
        } else {
            let before = match params.get("$deltatoken") {
                None | Some("latest") => None,
                Some(token) => Some(world.sync.snapshots.get(token).cloned().ok_or_else(gone)?),
            };
            if before.as_ref().is_some_and(|before| before.of != of) {
                return Err(gone());
            }
            let latest = params.get("$deltatoken") == Some("latest");
            (begin(&mut world, of, params, before.as_deref(), latest)?, 0)
        };
        Ok(self.delta_body(&world, of, &round, position))
    }

    fn delta_body(
        &self,
        world: &World,
        of: Of,
        (token, round): &(String, Arc<Round>),
        position: usize,
    ) -> Value {
        let orders = &world.sync.orders;
        let end = position + orders.page_size.max(1);
        let page: Vec<&Value> = round
            .entries
            .iter()
            .skip(position)
            .take(end - position)
            .collect();
        let kind = of.path().split('/').next().unwrap_or_default();
        let mut body = json!({
            "@odata.context": format!("{}/graph/v1.0/$metadata#{kind}", self.public_url),
            "value": page,
        });
        let base = format!("{}/graph/v1.0/{}", self.public_url, of.path());
        let more = end < round.entries.len() || matches!(orders.links, Links::Endless);
        let (name, right) = if more {
            (
                "@odata.nextLink",
                format!("{base}?$skiptoken={token}.{end}"),
            )
        } else {
            (
                "@odata.deltaLink",
                format!("{base}?$deltatoken={}", round.then),
            )
        };
        let here = format!("{base}?$skiptoken={token}.{position}");
        if let Some((name, link)) = self.bent(orders, name, right, here) {
            body[name] = json!(link);
        }
        body
    }

    /// A link as it is ordered to be.
    fn bent(
        &self,
        orders: &Orders,
        name: &'static str,
        right: String,
        here: String,
    ) -> Option<(&'static str, String)> {
        match orders.links {
            Links::Right | Links::Endless => Some((name, right)),
            Links::Cycle => Some(("@odata.nextLink", here)),
            Links::Foreign => Some((name, right.replacen(&self.public_url, &orders.host, 1))),
            Links::Beta => Some((name, right.replacen("/v1.0/", "/beta/", 1))),
            Links::Missing => None,
        }
    }

    fn members(&self, id: &str, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["GroupMember.Read.All"])?;
        if params.get("$count") == Some("true") && !headers.contains_key("consistencylevel") {
            return Err(No(
                StatusCode::BAD_REQUEST,
                "Request_UnsupportedQuery",
                "$count needs the header 'ConsistencyLevel: eventual'.".to_owned(),
            ));
        }
        let mut selected = selection(params)?;
        if self.graph_allowed(headers, &["User.Read.All"]).is_err() {
            // Graph shows that somebody is there and nothing of them.
            selected.retain(|name| name == "id");
        }
        let world = self.world();
        if !groups(&world).contains(id) {
            return Err(No::missing(id));
        }
        let inside = with_nested(&world, id);
        let rows = world
            .accounts
            .iter()
            .filter(|account| account.person.groups.iter().any(|g| inside.contains(g)))
            .map(|account| {
                let mut user = narrowed(properties(account), &selected);
                user.insert("@odata.type".to_owned(), json!("#microsoft.graph.user"));
                Value::from(user)
            });
        let path = format!("groups/{id}/transitiveMembers/microsoft.graph.user");
        self.listed(&world, rows.collect(), params, &path)
    }

    fn deleted_items(&self, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["User.Read.All"])?;
        let world = self.world();
        let rows = world.deleted.iter().map(|account| {
            let mut user = properties(account);
            user.insert("deletedDateTime".to_owned(), json!("2026-11-01T10:00:00Z"));
            // Graph makes room for a successor of the same name.
            let upn = format!(
                "{}{}",
                account.person.oid.replace('-', ""),
                account.person.upn()
            );
            user.insert("userPrincipalName".to_owned(), json!(upn));
            let selected: Vec<String> = params
                .get("$select")
                .unwrap_or("id,userPrincipalName,displayName,deletedDateTime")
                .split(',')
                .map(str::to_owned)
                .collect();
            Value::from(narrowed(user, &selected))
        });
        let path = "directory/deletedItems/microsoft.graph.user";
        self.listed(&world, rows.collect(), params, path)
    }

    fn assigned(&self, principal: &str, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["Application.Read.All"])?;
        if principal != format!("servicePrincipals(appId='{}')", self.client_id) {
            return Err(No::missing(principal));
        }
        let world = self.world();
        let row = |id: &str, kind: &str, role: &str| {
            json!({
                "id": token(&(id, role)),
                "principalId": id,
                "principalType": kind,
                "appRoleId": role_id(role),
                "resourceDisplayName": "Kerbgate",
            })
        };
        let people = world.accounts.iter().flat_map(|account| {
            let person = &account.person;
            person
                .roles
                .iter()
                .map(|role| row(&person.oid, "User", role))
        });
        let group = std::iter::once(row(INTRANET_GUESTS, "Group", ""));
        let path = format!("{principal}/appRoleAssignedTo");
        self.listed(&world, group.chain(people).collect(), params, &path)
    }

    pub fn listed(
        &self,
        world: &World,
        rows: Vec<Value>,
        params: &Params,
        path: &str,
    ) -> Result<Value, No> {
        let number = |name: &str, usual: usize| {
            params.get(name).map_or(Ok(usual), |text| {
                text.parse()
                    .map_err(|_| No::bad(format!("Invalid value for {name}.")))
            })
        };
        let top: usize = number("$top", 100)?;
        if !(1..=999).contains(&top) {
            return Err(No::bad("Invalid page size specified."));
        }
        let orders = &world.sync.orders;
        let (top, skip) = (top.min(orders.page_size.max(1)), number("$skiptoken", 0)?);
        let total = rows.len();
        let page: Vec<Value> = rows.into_iter().skip(skip).take(top).collect();
        let mut body = json!({
            "@odata.context": format!("{}/graph/v1.0/$metadata#directoryObjects", self.public_url),
            "value": page,
        });
        if params.get("$count") == Some("true") && skip == 0 {
            body["@odata.count"] = json!(total);
        }
        let kept = params.encoded_without("$skiptoken");
        let link = |to: usize| {
            format!(
                "{}/graph/v1.0/{path}?{kept}&$skiptoken={to}",
                self.public_url
            )
        };
        if skip + top < total
            && let Some((name, link)) =
                self.bent(orders, "@odata.nextLink", link(skip + top), link(skip))
        {
            body[name] = json!(link);
        }
        Ok(body)
    }
}

/// The entries of a new round, and the snapshot that its delta link will stand for.
fn begin(
    world: &mut World,
    of: Of,
    params: &Params,
    before: Option<&Snapshot>,
    latest: bool,
) -> Result<(String, Arc<Round>), No> {
    let (selected, only) = match before {
        Some(before) => (before.selected.clone(), before.only.clone()),
        None => (chosen(of, params)?, only(params)?),
    };
    let empty = Snapshot {
        of,
        selected,
        only,
        known: BTreeMap::new(),
        members: BTreeMap::new(),
    };
    let (now, mut entries) = match of {
        Of::Users => users_since(world, before.unwrap_or(&empty)),
        Of::Groups => groups_since(world, before.unwrap_or(&empty)),
    };
    if latest || (before.is_none() && world.sync.orders.empty) {
        entries.clear();
    }
    if world.sync.orders.replay {
        entries = replayed(&entries);
    }
    if world.sync.orders.late {
        if of == Of::Users && !latest {
            let selected = empty.selected.clone();
            (_, entries) = users_since(world, &Snapshot { selected, ..empty });
        }
        entries = entries.iter().flat_map(late).collect();
    }
    let then = uuid::Uuid::new_v4().simple().to_string();
    let name = uuid::Uuid::new_v4().simple().to_string();
    world.sync.snapshots.insert(then.clone(), Arc::new(now));
    let round = Arc::new(Round { entries, then });
    world.sync.rounds.insert(name.clone(), Arc::clone(&round));
    Ok((name, round))
}

fn chosen(of: Of, params: &Params) -> Result<Vec<String>, No> {
    match of {
        Of::Users => selection(params),
        Of::Groups => Ok(params
            .get("$select")
            .unwrap_or("displayName")
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect()),
    }
}

/// `id eq 'a' or id eq 'b'`, at most fifty.
fn only(params: &Params) -> Result<Vec<String>, No> {
    let Some(filter) = params.get("$filter") else {
        return Ok(Vec::new());
    };
    let id = |part: &str| {
        let quoted = part.trim().strip_prefix("id eq '")?.strip_suffix('\'')?;
        Some(quoted.to_owned())
    };
    let ids: Option<Vec<String>> = filter.split(" or ").map(id).collect();
    match ids {
        Some(ids) if ids.len() <= 50 => Ok(ids),
        Some(_) | None => Err(No(
            StatusCode::BAD_REQUEST,
            "Request_UnsupportedQuery",
            "A delta can be filtered by at most 50 ids and by nothing else.".to_owned(),
        )),
    }
}

fn users_since(world: &World, before: &Snapshot) -> (Snapshot, Vec<Value>) {
    let mut known = BTreeMap::new();
    let mut entries = Vec::new();
    let wanted =
        |account: &&Account| before.only.is_empty() || before.only.contains(&account.person.oid);
    for account in world.accounts.iter().filter(wanted) {
        let oid = account.person.oid.clone();
        let all = properties(account);
        let hashes: Vec<u64> = before
            .selected
            .iter()
            .map(|name| hash(&all.get(name).map(ToString::to_string)))
            .collect();
        let earlier = before.known.get(&oid);
        if earlier != Some(&hashes) {
            // Only what has changed, as Graph mostly does.
            let differs = |position: usize| {
                earlier.is_none_or(|earlier| earlier.get(position) != hashes.get(position))
            };
            let mut entry: Map<String, Value> = before
                .selected
                .iter()
                .enumerate()
                .filter(|(position, _)| differs(*position))
                .filter_map(|(_, name)| Some((name.clone(), all.get(name)?.clone())))
                // What was never set is not told at all; what was emptied since is told as null.
                .filter(|(_, value)| earlier.is_some() || !value.is_null())
                .collect();
            entry.insert("id".to_owned(), json!(oid));
            entries.push(Value::from(entry));
        }
        known.insert(oid, hashes);
    }
    for oid in before.known.keys().filter(|oid| !known.contains_key(*oid)) {
        let restorable = world.deleted.iter().any(|gone| gone.person.oid == *oid);
        let reason = if restorable { "changed" } else { "deleted" };
        entries.push(json!({"id": oid, "@removed": {"reason": reason}}));
    }
    let now = Snapshot {
        of: Of::Users,
        selected: before.selected.clone(),
        only: before.only.clone(),
        known,
        members: BTreeMap::new(),
    };
    (now, entries)
}

fn groups_since(world: &World, before: &Snapshot) -> (Snapshot, Vec<Value>) {
    let mut known = BTreeMap::new();
    let mut members = BTreeMap::new();
    let mut entries = Vec::new();
    let with_members = before.selected.iter().any(|name| name == "members");
    let nobody = BTreeSet::new();
    for group in groups(world) {
        if !before.only.is_empty() && !before.only.contains(&group) {
            continue;
        }
        let name = name_of(world, &group);
        let now = vec![hash(&name)];
        let inside = direct(world, &group);
        let earlier = before.members.get(&group).unwrap_or(&nobody);
        let came = inside.difference(earlier).map(|(id, is_group)| {
            let kind = if *is_group { "group" } else { "user" };
            json!({"@odata.type": format!("#microsoft.graph.{kind}"), "id": id})
        });
        let left = earlier
            .difference(&inside)
            .map(|(id, _)| json!({"id": id, "@removed": {"reason": "deleted"}}));
        let changes: Vec<Value> = came.chain(left).collect();
        let renamed = before.known.get(&group) != Some(&now);
        // A large group comes in several entries.
        let mut parts: Vec<&[Value]> = changes.chunks(20).filter(|_| with_members).collect();
        if parts.is_empty() && renamed {
            parts.push(&[]);
        }
        for part in parts {
            let mut entry = json!({"id": group, "displayName": name});
            if !part.is_empty() {
                entry["members@delta"] = json!(part);
            }
            entries.push(entry);
        }
        known.insert(group.clone(), now);
        members.insert(group, inside);
    }
    for group in before.known.keys().filter(|id| !known.contains_key(*id)) {
        entries.push(json!({"id": group, "@removed": {"reason": "deleted"}}));
    }
    let now = Snapshot {
        of: Of::Groups,
        selected: before.selected.clone(),
        only: before.only.clone(),
        known,
        members,
    };
    (now, entries)
}

/// Every entry twice, an outdated one first, and the first once more.
fn replayed(entries: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in entries {
        if entry.get("displayName").is_some() {
            let mut outdated = entry.clone();
            outdated["displayName"] = json!("Outdated");
            all.push(outdated);
        }
        all.push(entry.clone());
    }
    all.extend(entries.first().cloned());
    all
}

/// The entry, and after it what was true before.
fn late(entry: &Value) -> Vec<Value> {
    let mut all = vec![entry.clone()];
    if let Some(enabled) = entry["accountEnabled"].as_bool() {
        let mut outdated = entry.clone();
        outdated["accountEnabled"] = json!(!enabled);
        all.push(outdated);
    }
    all
}

pub fn groups(world: &World) -> BTreeSet<String> {
    let of_people = world
        .accounts
        .iter()
        .flat_map(|account| account.person.groups.iter().cloned());
    let fixed = [INTRANET_GUESTS, PARTNERS, EMPLOYEES].map(str::to_owned);
    let named = world.sync.names.keys().cloned();
    of_people.chain(fixed).chain(named).collect()
}

fn name_of(world: &World, group: &str) -> String {
    let given = world.sync.names.get(group).cloned();
    given.unwrap_or_else(|| match group {
        INTRANET_GUESTS => "Intranet guests".to_owned(),
        PARTNERS => "Partners".to_owned(),
        EMPLOYEES => "Employees".to_owned(),
        other => format!("Group {other}"),
    })
}

/// Direct members: the id, and whether it is a group.
fn direct(world: &World, group: &str) -> BTreeSet<(String, bool)> {
    let people = world
        .accounts
        .iter()
        .filter(|account| account.person.groups.iter().any(|one| one == group))
        .map(|account| (account.person.oid.clone(), false));
    let nested = world.sync.nested.get(group).into_iter().flatten();
    people
        .chain(nested.map(|inner| (inner.clone(), true)))
        .collect()
}

/// The group and all groups inside it, at any depth; circles are allowed.
fn with_nested(world: &World, group: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open = vec![group.to_owned()];
    while let Some(group) = open.pop() {
        if all.insert(group.clone()) {
            open.extend(world.sync.nested.get(&group).into_iter().flatten().cloned());
        }
    }
    all
}

/// The app role's id: the same for the same name; none for "just assigned".
pub fn role_id(role: &str) -> String {
    if role.is_empty() {
        return uuid::Uuid::nil().to_string();
    }
    uuid::Uuid::from_u128(u128::from(hash(&role))).to_string()
}

fn token(of: &impl Hash) -> String {
    format!("{:016x}", hash(of))
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
