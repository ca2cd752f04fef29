//! The Graph calls the gateway uses, with Graph's errors and paging.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Json, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::entra::Emulator;
use crate::entra::params::Params;
use crate::entra::world::{Account, GraphGrant};
use crate::people::{INITIAL_DOMAIN, Origin};

/// An error in Graph's format.
pub fn error(status: StatusCode, code: &str, message: &str, headers: &HeaderMap) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let client = headers
        .get("client-request-id")
        .and_then(|value| value.to_str().ok());
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let date = time::OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default();
    let body = json!({
        "error": {
            "code": code,
            "message": message,
            "innerError": {
                "date": date,
                "request-id": id,
                "client-request-id": client.unwrap_or(&id),
            }
        }
    });
    let mut response = (status, Json(body)).into_response();
    traced(&mut response, &id, headers);
    response
}

/// The two ids by which Microsoft's support finds a call.
fn traced(response: &mut Response, id: &str, asked: &HeaderMap) {
    let client = asked.get("client-request-id").cloned();
    if let Ok(id) = HeaderValue::from_str(id) {
        let client = client.unwrap_or_else(|| id.clone());
        response.headers_mut().insert("client-request-id", client);
        response.headers_mut().insert("request-id", id);
    }
}

/// Why a call is not answered; becomes a response.
pub struct No(pub StatusCode, pub &'static str, pub String);

impl No {
    pub fn bad(message: impl Into<String>) -> Self {
        Self(
            StatusCode::BAD_REQUEST,
            "Request_BadRequest",
            message.into(),
        )
    }

    pub fn missing(id: &str) -> Self {
        let text = format!(
            "Resource '{id}' does not exist or one of its queried reference-property objects are \
             not present."
        );
        Self(StatusCode::NOT_FOUND, "Request_ResourceNotFound", text)
    }

    fn denied() -> Self {
        let text = "Insufficient privileges to complete the operation.";
        Self(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            text.to_owned(),
        )
    }

    fn token(text: &str) -> Self {
        Self(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            text.to_owned(),
        )
    }
}

pub fn answered(result: Result<Value, No>, headers: &HeaderMap) -> Response {
    match result {
        Ok(body) => {
            let kind = "application/json;odata.metadata=minimal;odata.streaming=true;\
                        IEEE754Compatible=false;charset=utf-8";
            let mut response = ([("content-type", kind)], body.to_string()).into_response();
            traced(&mut response, &uuid::Uuid::new_v4().to_string(), headers);
            response
        }
        Err(No(status, code, message)) => {
            let mut response = error(status, code, &message, headers);
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

/// GET `/graph/v1.0/users/{id}`.
pub async fn user(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.graph_user(&id, &params, &headers), &headers)
}

/// GET `/graph/v1.0/users`.
pub async fn users(
    State(emulator): State<Arc<Emulator>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.graph_users(&params, &headers), &headers)
}

/// POST `…/checkMemberGroups`.
pub async fn check_member_groups(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answered(emulator.graph_check(&id, &body, &headers), &headers)
}

/// POST `…/getMemberGroups` and `…/getMemberObjects`.
pub async fn member_groups(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answered(emulator.graph_groups(&id, &body, &headers), &headers)
}

/// `/graph/oidc/userinfo`, with the token of a person.
pub async fn userinfo(State(emulator): State<Arc<Emulator>>, headers: HeaderMap) -> Response {
    let result = emulator.graph_token(&headers).and_then(|grant| {
        let oid = grant.oid.ok_or_else(No::denied)?;
        let world = emulator.world();
        let account = world.account(&oid).ok_or_else(|| No::missing(&oid))?;
        let person = &account.person;
        let mut body = json!({
            "sub": emulator.pairwise(&person.oid, &emulator.client_id),
            "name": person.name,
        });
        if person.named_in_tokens {
            body["email"] = json!(person.mail);
        }
        Ok(body)
    });
    answered(result, &headers)
}

/// Everything else: Graph's words below `/graph`, a plain 404 elsewhere.
pub async fn unknown(uri: http::Uri, headers: HeaderMap) -> Response {
    match uri.path().strip_prefix("/graph/v1.0/") {
        Some(rest) => {
            let segment = rest.split('/').next().unwrap_or_default();
            let text = format!("Resource not found for the segment '{segment}'.");
            error(StatusCode::BAD_REQUEST, "BadRequest", &text, &headers)
        }
        None => (StatusCode::NOT_FOUND, "no such page in the emulator\n").into_response(),
    }
}

impl Emulator {
    fn graph_token(&self, headers: &HeaderMap) -> Result<GraphGrant, No> {
        let value = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|text| text.strip_prefix("Bearer ")) else {
            return Err(No::token("Access token is empty."));
        };
        let grant = self.world().graph_tokens.get(token).cloned();
        let grant =
            grant.ok_or_else(|| No::token("Access token validation failure. Invalid audience."))?;
        if grant.ends < Instant::now() {
            return Err(No::token(
                "Lifetime validation failed, the token is expired.",
            ));
        }
        Ok(grant)
    }

    /// Application permissions: a token of a person has none of them.
    pub fn graph_allowed(&self, headers: &HeaderMap, needed: &[&str]) -> Result<(), No> {
        let grant = self.graph_token(headers)?;
        let all = grant.roles.iter().any(|role| role == "Directory.Read.All");
        let has = |need: &&str| grant.roles.iter().any(|role| role == need);
        if grant.oid.is_none() && (all || needed.iter().all(has)) {
            Ok(())
        } else {
            Err(No::denied())
        }
    }

    /// One permission, held by the application itself.
    pub fn graph_has(&self, headers: &HeaderMap, needed: &str) -> Result<(), No> {
        let grant = self.graph_token(headers)?;
        if grant.oid.is_none() && grant.roles.iter().any(|role| role == needed) {
            return Ok(());
        }
        Err(No::denied())
    }

    fn graph_user(&self, id: &str, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["User.Read.All"])?;
        let selected = selection(params)?;
        let world = self.world();
        let account = world.account(id).ok_or_else(|| No::missing(id))?;
        let mut body = narrowed(properties(account), &selected);
        let what = if params.get("$select").is_some() {
            format!("users({})/$entity", selected.join(","))
        } else {
            "users/$entity".to_owned()
        };
        let context = format!("{}/graph/v1.0/$metadata#{what}", self.public_url);
        body.insert("@odata.context".to_owned(), json!(context));
        Ok(Value::from(body))
    }

    fn graph_users(&self, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["User.Read.All"])?;
        let selected = selection(params)?;
        let filter = params.get("$filter").map(condition).transpose()?;
        let number = |name: &str, usual: usize| {
            params.get(name).map_or(Ok(usual), |text| {
                text.parse()
                    .map_err(|_| No::bad(format!("Invalid value for {name}.")))
            })
        };
        let top = number("$top", 100)?;
        if !(1..=999).contains(&top) {
            return Err(No::bad(
                "Invalid page size specified: must be between 1 and 999 inclusive.",
            ));
        }
        let skip = number("$skiptoken", 0)?;
        let world = self.world();
        let all: Vec<_> = world
            .accounts
            .iter()
            .map(properties)
            .filter(|user| {
                filter
                    .as_ref()
                    .is_none_or(|(name, value)| user.get(name) == Some(value))
            })
            .collect();
        let total = all.len();
        let page = all
            .into_iter()
            .skip(skip)
            .take(top)
            .map(|user| narrowed(user, &selected));
        let mut body = json!({
            "@odata.context": format!("{}/graph/v1.0/$metadata#users", self.public_url),
            "value": page.collect::<Vec<_>>(),
        });
        if params.get("$count") == Some("true")
            && skip == 0
            && headers.contains_key("consistencylevel")
        {
            body["@odata.count"] = json!(total);
        }
        if skip + top < total {
            let kept = params.encoded_without("$skiptoken");
            let next = format!(
                "{}/graph/v1.0/users?{kept}&$skiptoken={}",
                self.public_url,
                skip + top
            );
            body["@odata.nextLink"] = json!(next);
        }
        Ok(body)
    }

    fn graph_check(&self, id: &str, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["User.Read.All", "GroupMember.Read.All"])?;
        let body: Value = serde_json::from_slice(body)
            .map_err(|_| No::bad("Unable to read JSON request payload."))?;
        let Some(asked) = body["groupIds"].as_array() else {
            return Err(No::bad("The parameter 'groupIds' is required."));
        };
        if asked.is_empty() || asked.len() > 20 {
            return Err(No::bad("The number of group IDs must be between 1 and 20."));
        }
        let world = self.world();
        let account = world.account(id).ok_or_else(|| No::missing(id))?;
        let groups = &account.person.groups;
        let member = asked.iter().filter(|id| {
            groups
                .iter()
                .any(|group| Some(group.as_str()) == id.as_str())
        });
        Ok(self.strings(&member.cloned().collect::<Vec<_>>()))
    }

    fn graph_groups(&self, id: &str, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["User.Read.All", "GroupMember.Read.All"])?;
        let body: Value = serde_json::from_slice(body)
            .map_err(|_| No::bad("Unable to read JSON request payload."))?;
        if !body["securityEnabledOnly"].is_boolean() {
            return Err(No::bad("The parameter 'securityEnabledOnly' is required."));
        }
        let world = self.world();
        let account = world.account(id).ok_or_else(|| No::missing(id))?;
        Ok(self.strings(
            &account
                .person
                .groups
                .iter()
                .map(|group| json!(group))
                .collect::<Vec<_>>(),
        ))
    }

    fn strings(&self, value: &[Value]) -> Value {
        let context = format!(
            "{}/graph/v1.0/$metadata#Collection(Edm.String)",
            self.public_url
        );
        json!({ "@odata.context": context, "value": value })
    }
}

/// All properties there are; Graph sends few of them unless asked.
pub fn properties(account: &Account) -> Map<String, Value> {
    let person = &account.person;
    let external = person.origin != Origin::Own;
    let (given, surname) = person.name.split_once(' ').unwrap_or((&person.name, ""));
    let synced = account.onprem_sid.is_some() || person.onprem_account.is_some();
    let of_synced = |value: Value| if synced { value } else { Value::Null };
    let principal = json!({
        "signInType": "userPrincipalName",
        "issuer": INITIAL_DOMAIN,
        "issuerAssignedId": person.upn(),
    });
    let federated = |issuer: &str| {
        let id = (issuer == "mail").then_some(&person.mail);
        json!({ "signInType": "federated", "issuer": issuer, "issuerAssignedId": id })
    };
    let identities = match person.origin {
        Origin::Own => json!([principal]),
        Origin::EntraTenant => json!([federated("ExternalAzureAD"), principal]),
        Origin::MicrosoftAccount => json!([federated("MicrosoftAccount"), principal]),
        Origin::OneTimePasscode => json!([federated("mail"), principal]),
    };
    let mail = (person.named_in_tokens).then_some(&person.mail);
    let body = json!({
        "id": person.oid,
        "userPrincipalName": person.upn(),
        "displayName": person.name,
        "givenName": given,
        "surname": surname,
        "mail": mail,
        "otherMails": mail.into_iter().collect::<Vec<_>>(),
        "businessPhones": [],
        "jobTitle": null,
        "mobilePhone": null,
        "officeLocation": null,
        "preferredLanguage": null,
        "companyName": null,
        "employeeType": null,
        "employeeId": null,
        "department": null,
        "onPremisesImmutableId": null,
        "onPremisesExtensionAttributes": {"extensionAttribute1": null, "extensionAttribute14": null},
        "userType": if person.guest { "Guest" } else { "Member" },
        "accountEnabled": person.enabled,
        "creationType": external.then_some("Invitation"),
        "externalUserState": external.then_some(if person.pending { "PendingAcceptance" } else { "Accepted" }),
        "externalUserStateChangeDateTime": external.then_some("2026-01-01T00:00:00Z"),
        "identities": identities,
        "createdDateTime": "2026-01-01T00:00:00Z",
        "signInSessionsValidFromDateTime": "2026-01-01T00:00:00Z",
        "refreshTokensValidFromDateTime": "2026-01-01T00:00:00Z",
        "onPremisesSyncEnabled": of_synced(json!(true)),
        "onPremisesSamAccountName": of_synced(json!(person.onprem_account)),
        "onPremisesSecurityIdentifier": of_synced(json!(account.onprem_sid)),
        "onPremisesDomainName": of_synced(json!("contoso.test")),
        "onPremisesUserPrincipalName": of_synced(json!(person.onprem_account.as_ref()
            .map(|account| format!("{account}@contoso.test")))),
    });
    if let Value::Object(mut map) = body {
        map.extend(account.written.clone());
        map
    } else {
        Map::new()
    }
}

pub fn selection(params: &Params) -> Result<Vec<String>, No> {
    let Some(text) = params.get("$select") else {
        return Ok(USUAL.iter().map(|&name| name.to_owned()).collect());
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| !ALL.contains(&name.as_str())) {
        Some(wrong) => Err(No(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            format!("Could not find a property named '{wrong}' on type 'microsoft.graph.user'."),
        )),
        None => Ok(names),
    }
}

pub fn narrowed(mut user: Map<String, Value>, selected: &[String]) -> Map<String, Value> {
    user.retain(|name, _| selected.iter().any(|wanted| wanted == name));
    user
}

/// `name eq value`: the only filters the gateway has use for.
fn condition(text: &str) -> Result<(String, Value), No> {
    let unsupported = || {
        No(
            StatusCode::BAD_REQUEST,
            "Request_UnsupportedQuery",
            "Unsupported or invalid query filter clause specified.".to_owned(),
        )
    };
    let (name, value) = text.split_once(" eq ").ok_or_else(unsupported)?;
    let value = match value.trim() {
        "true" => json!(true),
        "false" => json!(false),
        quoted => {
            let inner = quoted
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''));
            json!(inner.ok_or_else(unsupported)?.replace("''", "'"))
        }
    };
    let name = name.trim();
    let known = [
        "userType",
        "accountEnabled",
        "id",
        "userPrincipalName",
        "mail",
        "displayName",
    ];
    if known.contains(&name) {
        Ok((name.to_owned(), value))
    } else {
        Err(unsupported())
    }
}

/// What comes without `$select`.
const USUAL: [&str; 11] = [
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
];

/// What may be selected.
const ALL: [&str; 32] = [
    "employeeType",
    "employeeId",
    "department",
    "onPremisesImmutableId",
    "onPremisesExtensionAttributes",
    "id",
    "userPrincipalName",
    "displayName",
    "givenName",
    "surname",
    "mail",
    "otherMails",
    "businessPhones",
    "jobTitle",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "companyName",
    "userType",
    "accountEnabled",
    "creationType",
    "externalUserState",
    "externalUserStateChangeDateTime",
    "identities",
    "createdDateTime",
    "signInSessionsValidFromDateTime",
    "refreshTokensValidFromDateTime",
    "onPremisesSyncEnabled",
    "onPremisesSamAccountName",
    "onPremisesSecurityIdentifier",
    "onPremisesDomainName",
    "onPremisesUserPrincipalName",
];
