//! What Graph lets an application write: invitations, people, memberships, assignments; and what is read beside it.
//!
//! As documented: 201 with the object, 204 without one, 400 `Request_BadRequest` for what is there already, 403
//! `Authorization_RequestDenied` without the permission, 404 for what is not there.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::entra::Emulator;
use crate::entra::graph::{No, answered, narrowed, properties, unknown};
use crate::entra::graph_sync::role_id;
use crate::entra::params::Params;
use crate::entra::world::{Account, World};
use crate::people::{Origin, Person, ROLES};

/// 201 with a body, 204 without.
fn written(result: Result<Option<Value>, No>, headers: &HeaderMap) -> Response {
    match result {
        Ok(Some(body)) => {
            let mut response = answered(Ok(body), headers);
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(no) => answered(Err(no), headers),
    }
}

fn read(body: &[u8]) -> Result<Value, No> {
    serde_json::from_slice(body).map_err(|_| No::bad("Unable to read JSON request payload."))
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_default().to_owned()
}

/// POST `/graph/v1.0/invitations`.
pub async fn invite(
    State(emulator): State<Arc<Emulator>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    written(emulator.invite(&body, &headers).map(Some), &headers)
}

/// PATCH `/graph/v1.0/users/{id}`.
pub async fn change_user(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    written(
        emulator.change_user(&id, &body, &headers).map(|()| None),
        &headers,
    )
}

/// DELETE `/graph/v1.0/users/{id}`.
pub async fn delete_user(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let deleted = emulator
        .may_write(&headers, "User.ReadWrite.All")
        .and_then(|()| {
            let mut world = emulator.world();
            let position = position(&world.accounts, &id).ok_or_else(|| No::missing(&id))?;
            let account = world.accounts.remove(position);
            world.deleted.push(account);
            Ok(None)
        });
    written(deleted, &headers)
}

/// POST `/graph/v1.0/directory/deletedItems/{id}/restore`.
pub async fn restore(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let restored = emulator
        .may_write(&headers, "User.ReadWrite.All")
        .and_then(|()| {
            let mut world = emulator.world();
            let position = position(&world.deleted, &id).ok_or_else(|| No::missing(&id))?;
            let account = world.deleted.remove(position);
            let body = json!({"@odata.type": "#microsoft.graph.user", "id": account.person.oid});
            world.accounts.push(account);
            Ok(body)
        });
    answered(restored, &headers)
}

/// GET `/graph/v1.0/groups/{id}/members`.
pub async fn members(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    answered(emulator.direct_members(&id, &params, &headers), &headers)
}

/// POST `/graph/v1.0/groups/{id}/members/$ref`.
pub async fn add_member(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    written(
        emulator.add_member(&id, &body, &headers).map(|()| None),
        &headers,
    )
}

/// GET `/graph/v1.0/servicePrincipals(appId='…')`.
pub async fn service_principal(
    State(emulator): State<Arc<Emulator>>,
    Path(principal): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Response {
    if !principal.starts_with("servicePrincipals(") {
        return unknown(uri, headers).await;
    }
    let found = emulator
        .graph_allowed(&headers, &["Application.Read.All"])
        .and_then(|()| {
            if principal != format!("servicePrincipals(appId='{}')", emulator.client_id) {
                return Err(No::missing(&principal));
            }
            let roles = ROLES.iter().map(|role| {
            json!({"id": role_id(role), "value": role, "isEnabled": true, "displayName": role})
        });
            let roles: Vec<Value> = roles.collect();
            Ok(json!({"id": SERVICE_PRINCIPAL, "appRoles": roles}))
        });
    answered(found, &headers)
}

/// POST `/graph/v1.0/servicePrincipals/{id}/appRoleAssignedTo`.
pub async fn assign(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    written(emulator.assign(&id, &body, &headers).map(Some), &headers)
}

/// The object id of the application's service principal.
const SERVICE_PRINCIPAL: &str = "dddddddd-0000-4000-8000-00000000000d";

fn position(accounts: &[Account], id: &str) -> Option<usize> {
    accounts.iter().position(|account| account.person.oid == id)
}

impl Emulator {
    fn may_write(&self, headers: &HeaderMap, needed: &str) -> Result<(), No> {
        // "Directory.Read.All" reads everything and writes nothing.
        self.graph_has(headers, needed)
    }

    fn invite(&self, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        self.may_write(headers, "User.Invite.All")?;
        let body = read(body)?;
        let address = text(&body, "invitedUserEmailAddress");
        let refused = |message: &str| No(StatusCode::BAD_REQUEST, "BadRequest", message.to_owned());
        if text(&body, "inviteRedirectUrl").is_empty() {
            return Err(refused(
                "Invalid invitation: inviteRedirectUrl is required.",
            ));
        }
        if address.split('@').filter(|part| !part.is_empty()).count() != 2 {
            return Err(refused("The invited user's email address is invalid."));
        }
        let mut world = self.world();
        let oid = match body["invitedUser"]["id"].as_str() {
            Some(id) => convert(&mut world, id, &address)?,
            None => new_guest(&mut world, &address, &body)?,
        };
        let invitation = json!({
            "@odata.context": format!("{}/graph/v1.0/$metadata#invitations/$entity", self.public_url),
            "id": uuid::Uuid::new_v4(),
            "inviteRedeemUrl": format!("{}/redeem?rd=x", self.public_url),
            "invitedUserDisplayName": body["invitedUserDisplayName"],
            "invitedUserType": body["invitedUserType"].as_str().unwrap_or("Guest"),
            "invitedUserEmailAddress": address,
            "sendInvitationMessage": body["sendInvitationMessage"].as_bool().unwrap_or_default(),
            "invitedUserMessageInfo": body["invitedUserMessageInfo"],
            "inviteRedirectUrl": body["inviteRedirectUrl"],
            "status": "PendingAcceptance",
            "invitedUser": {"id": oid},
        });
        world.invitations.push(invitation.clone());
        Ok(invitation)
    }

    fn change_user(&self, id: &str, body: &[u8], headers: &HeaderMap) -> Result<(), No> {
        self.may_write(headers, "User.ReadWrite.All")?;
        let body = read(body)?;
        let Value::Object(changes) = body else {
            return Err(No::bad("Unable to read JSON request payload."));
        };
        let mut world = self.world();
        let position = position(&world.accounts, id).ok_or_else(|| No::missing(id))?;
        let account = &mut world.accounts[position];
        if account.onprem_sid.is_some() || account.person.onprem_account.is_some() {
            return Err(No::bad(
                "Unable to update the specified properties for on-premises mastered Directory Sync objects \
                 or objects currently undergoing migration.",
            ));
        }
        for (name, value) in changes {
            change(account, &name, value)?;
        }
        Ok(())
    }

    fn direct_members(&self, id: &str, params: &Params, headers: &HeaderMap) -> Result<Value, No> {
        self.graph_allowed(headers, &["GroupMember.Read.All"])?;
        let world = self.world();
        if !crate::entra::graph_sync::groups(&world).contains(id) {
            return Err(No::missing(id));
        }
        let selected = ["id".to_owned()];
        let inside = world
            .accounts
            .iter()
            .filter(|account| account.person.groups.iter().any(|group| group == id));
        let rows = inside.map(|account| {
            let mut user = narrowed(properties(account), &selected);
            user.insert("@odata.type".to_owned(), json!("#microsoft.graph.user"));
            Value::from(user)
        });
        self.listed(
            &world,
            rows.collect(),
            params,
            &format!("groups/{id}/members"),
        )
    }

    fn add_member(&self, group: &str, body: &[u8], headers: &HeaderMap) -> Result<(), No> {
        self.may_write(headers, "GroupMember.ReadWrite.All")?;
        let body = read(body)?;
        let link = text(&body, "@odata.id");
        let oid = link
            .strip_prefix(&format!("{}/graph/v1.0/directoryObjects/", self.public_url))
            .ok_or_else(|| No::bad("Invalid URL format specified in payload."))?
            .to_owned();
        let mut world = self.world();
        if !crate::entra::graph_sync::groups(&world).contains(group) {
            return Err(No::missing(group));
        }
        let position = position(&world.accounts, &oid).ok_or_else(|| No::missing(&oid))?;
        let groups = &mut world.accounts[position].person.groups;
        if groups.iter().any(|one| one == group) {
            return Err(No::bad(
                "One or more added object references already exist for the following modified \
                 properties: 'members'.",
            ));
        }
        groups.push(group.to_owned());
        Ok(())
    }

    fn assign(&self, principal: &str, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        self.may_write(headers, "AppRoleAssignment.ReadWrite.All")?;
        let body = read(body)?;
        let (oid, wanted) = (text(&body, "principalId"), text(&body, "appRoleId"));
        if principal != SERVICE_PRINCIPAL || text(&body, "resourceId") != principal {
            return Err(No::missing(principal));
        }
        let Some(role) = ROLES.iter().find(|role| role_id(role) == wanted) else {
            return Err(No::bad(
                "Permission being assigned was not found on application.",
            ));
        };
        let mut world = self.world();
        let position = position(&world.accounts, &oid).ok_or_else(|| No::missing(&oid))?;
        let roles = &mut world.accounts[position].person.roles;
        if roles.iter().any(|one| one == role) {
            return Err(No::bad(
                "Permission being assigned already exists on the object",
            ));
        }
        roles.push((*role).to_owned());
        Ok(json!({
            "id": uuid::Uuid::new_v4().simple().to_string(),
            "appRoleId": wanted,
            "principalId": oid,
            "principalType": "User",
            "resourceId": principal,
        }))
    }
}

fn new_guest(world: &mut World, address: &str, body: &Value) -> Result<String, No> {
    let there = world
        .accounts
        .iter()
        .find(|account| account.person.mail.eq_ignore_ascii_case(address));
    if let Some(account) = there {
        if account.person.origin == Origin::Own {
            let text = format!(
                "The invited user already exists in the directory as object ID: {}. They can use that \
                 account to sign in to shared apps and resources.",
                account.person.oid
            );
            return Err(No(StatusCode::BAD_REQUEST, "BadRequest", text));
        }
        // Invited again: the same person.
        return Ok(account.person.oid.clone());
    }
    let name = text(body, "invitedUserDisplayName");
    let mut account = Account::from(Person {
        login: address.to_owned(),
        what: "Guest invited through Graph".to_owned(),
        oid: uuid::Uuid::new_v4().to_string(),
        name: if name.is_empty() {
            address.to_owned()
        } else {
            name
        },
        mail: address.to_owned(),
        named_in_tokens: true,
        origin: Origin::EntraTenant,
        guest: text(body, "invitedUserType") != "Member",
        enabled: true,
        roles: Vec::new(),
        groups: Vec::new(),
        onprem_account: None,
        pending: true,
        deleted: false,
        load: false,
    });
    // An invitation knows the display name alone.
    account.written.extend([
        ("givenName".to_owned(), Value::Null),
        ("surname".to_owned(), Value::Null),
        ("createdDateTime".to_owned(), json!(now())),
        ("externalUserStateChangeDateTime".to_owned(), json!(now())),
    ]);
    let oid = account.person.oid.clone();
    world.accounts.push(account);
    Ok(oid)
}

fn convert(world: &mut World, id: &str, address: &str) -> Result<String, No> {
    let position = position(&world.accounts, id).ok_or_else(|| No::missing(id))?;
    let account = &mut world.accounts[position];
    let refused = |message: &str| No(StatusCode::BAD_REQUEST, "BadRequest", message.to_owned());
    if account.onprem_sid.is_some() || account.person.onprem_account.is_some() {
        return Err(refused(
            "The user is synchronized from on-premises and cannot be invited.",
        ));
    }
    let upn = account.person.upn();
    account.person.mail = address.to_owned();
    account.person.login = address.to_owned();
    account.person.origin = Origin::EntraTenant;
    account.person.pending = true;
    account
        .written
        .insert("userPrincipalName".to_owned(), json!(upn));
    Ok(id.to_owned())
}

fn change(account: &mut Account, name: &str, value: Value) -> Result<(), No> {
    let refused = || {
        No::bad(format!(
            "Invalid value specified for property '{name}' of resource 'User'."
        ))
    };
    match name {
        "accountEnabled" => account.person.enabled = value.as_bool().ok_or_else(refused)?,
        "userType" => account.person.guest = value.as_str().ok_or_else(refused)? == "Guest",
        "displayName" => account.person.name = value.as_str().ok_or_else(refused)?.to_owned(),
        "mail" => account.person.mail = value.as_str().ok_or_else(refused)?.to_owned(),
        "employeeId" if value.as_str().is_some_and(|text| text.len() > 16) => return Err(refused()),
        "givenName" | "surname" | "companyName" | "jobTitle" | "department" | "mobilePhone"
        | "employeeId" => {
            if value.as_str().is_some_and(str::is_empty) {
                return Err(refused());
            }
            account.written.insert(name.to_owned(), value);
        }
        "onPremisesExtensionAttributes" => {
            let mut all = account
                .written
                .get(name)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_else(Map::new);
            all.extend(value.as_object().ok_or_else(refused)?.clone());
            account.written.insert(name.to_owned(), Value::Object(all));
        }
        _ => {
            return Err(No::bad(format!(
                "Property '{name}' is read-only and cannot be set."
            )));
        }
    }
    Ok(())
}

fn now() -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time::OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}
