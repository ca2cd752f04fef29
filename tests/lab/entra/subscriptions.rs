//! Change notifications of Graph: subscriptions with the validation handshake, and the notifications themselves.
//!
//! As documented: the URL is asked to say back `validationToken` as text/plain before a subscription exists; what is told holds
//! ids only; `clientState` comes with each; lifecycle notifications go to an URL of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{patch, post};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::entra::Emulator;
use crate::entra::graph::{No, answered};

/// Graph's limit for people and groups.
const LONGEST: time::Duration = time::Duration::minutes(41_760);

/// What somebody wants to be told.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    pub id: String,
    resource: String,
    change_type: String,
    notification_url: String,
    lifecycle_notification_url: Option<String>,
    expiration_date_time: String,
    client_state: Option<String>,
}

/// Graph's part of it.
pub fn router() -> Router<Arc<Emulator>> {
    let prefix = "/graph/v1.0/subscriptions";
    Router::new()
        .route(prefix, post(subscribe))
        .route(&format!("{prefix}/{{id}}"), patch(prolong))
}

/// POST `/graph/v1.0/subscriptions`.
pub async fn subscribe(
    State(emulator): State<Arc<Emulator>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made = emulator.subscribe(&body, &headers).await;
    let is_made = made.is_ok();
    let mut response = answered(made, &headers);
    if is_made {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

/// PATCH `/graph/v1.0/subscriptions/{id}`.
pub async fn prolong(
    State(emulator): State<Arc<Emulator>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answered(emulator.prolong(&id, &body, &headers), &headers)
}

impl Emulator {
    async fn subscribe(&self, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        let wanted = read(body)?;
        let text = |name: &str| wanted[name].as_str().map(str::to_owned);
        let needs = |name: &str| text(name).ok_or_else(|| No::bad(format!("{name} is missing.")));
        let resource = needs("resource")?;
        self.graph_allowed(headers, &[permission(&resource)?])?;
        let url = needs("notificationUrl")?;
        if !url.starts_with("https://") {
            return Err(No::bad("The notification URL must be https."));
        }
        let subscription = Subscription {
            id: uuid::Uuid::new_v4().to_string(),
            resource,
            change_type: needs("changeType")?,
            lifecycle_notification_url: text("lifecycleNotificationUrl"),
            expiration_date_time: until(&needs("expirationDateTime")?)?,
            client_state: text("clientState").filter(|state| state.len() <= 128),
            notification_url: url,
        };
        validate(&subscription.notification_url).await?;
        let mut told = serde_json::to_value(&subscription).unwrap_or_default();
        // Graph does not say it back.
        told["clientState"] = Value::Null;
        self.world().subscriptions.push(subscription);
        Ok(told)
    }

    fn prolong(&self, id: &str, body: &[u8], headers: &HeaderMap) -> Result<Value, No> {
        let of = self.world();
        let resource = of.subscriptions.iter().find(|one| one.id == id);
        let resource = resource.map(|one| one.resource.clone());
        drop(of);
        let resource = resource.ok_or_else(|| No::missing(id))?;
        self.graph_allowed(headers, &[permission(&resource)?])?;
        let wanted = read(body)?;
        let text = wanted["expirationDateTime"].as_str().unwrap_or_default();
        let until = until(text)?;
        let mut world = self.world();
        let known = world.subscriptions.iter_mut().find(|one| one.id == id);
        let known = known.ok_or_else(|| No::missing(id))?;
        known.expiration_date_time = until;
        Ok(json!({"id": id, "expirationDateTime": known.expiration_date_time}))
    }

    /// Tells whoever wants to know that something about `id` has changed.
    pub fn tell(self: &Arc<Self>, resource: &str, id: &str, change: &str) {
        let kind = if resource == "users" { "User" } else { "Group" };
        let notices = self.notices(resource, |one| {
            json!({
                "subscriptionId": one.id,
                "subscriptionExpirationDateTime": one.expiration_date_time,
                "changeType": change,
                "resource": format!("{kind}s/{id}"),
                "clientState": one.client_state,
                "tenantId": self.tenant,
                "resourceData": {
                    "@odata.type": format!("#Microsoft.Graph.{kind}"),
                    "@odata.id": format!("{kind}s/{id}"),
                    "id": id,
                    "organizationId": self.tenant,
                },
            })
        });
        send(notices);
    }

    /// All subscriptions go, and their owners are told.
    pub fn drop_subscriptions(self: &Arc<Self>) {
        let mut notices = Vec::new();
        for resource in ["users", "groups"] {
            notices.extend(self.notices(resource, |one| {
                json!({
                    "subscriptionId": one.id,
                    "subscriptionExpirationDateTime": one.expiration_date_time,
                    "tenantId": self.tenant,
                    "clientState": one.client_state,
                    "lifecycleEvent": "subscriptionRemoved",
                })
            }));
        }
        self.world().subscriptions.clear();
        send(notices);
    }

    fn notices(
        &self,
        resource: &str,
        notice: impl Fn(&Subscription) -> Value,
    ) -> Vec<(String, Value)> {
        let world = self.world();
        let all = world.subscriptions.iter();
        all.filter(|one| one.resource == resource)
            .map(|one| {
                (
                    one.notification_url.clone(),
                    json!({"value": [notice(one)]}),
                )
            })
            .collect()
    }
}

/// What subscribing to it takes: more than reading members.
fn permission(resource: &str) -> Result<&'static str, No> {
    match resource {
        "users" => Ok("User.Read.All"),
        "groups" => Ok("Group.Read.All"),
        other => Err(No::bad(format!("Unsupported resource {other}."))),
    }
}

fn read(body: &[u8]) -> Result<Value, No> {
    serde_json::from_slice(body).map_err(|_| No::bad("Unable to read JSON request payload."))
}

fn until(text: &str) -> Result<String, No> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| No::bad("expirationDateTime is no time."))?;
    let now = OffsetDateTime::now_utc();
    if time <= now || time - now > LONGEST {
        let text = "Subscription expiration can only be 41760 minutes in the future.";
        return Err(No::bad(text));
    }
    Ok(text.to_owned())
}

async fn validate(url: &str) -> Result<(), No> {
    let id = uuid::Uuid::new_v4();
    let token = format!("Validation: Testing client application reachability. Request-Id: {id}");
    let failed = |why: String| {
        let text = format!("Subscription validation request failed. {why}");
        No(StatusCode::BAD_REQUEST, "ValidationError", text)
    };
    let mut address = url::Url::parse(url).map_err(|error| failed(error.to_string()))?;
    address
        .query_pairs_mut()
        .append_pair("validationToken", &token);
    let client = client(&address).map_err(|error| failed(error.to_string()))?;
    let answer = client.post(address).header("content-type", "text/plain");
    let answer = answer.body("").send().await;
    let answer = answer.map_err(|error| failed(format!("{error:?}")))?;
    let (status, kind) = (
        answer.status(),
        answer.headers().get("content-type").cloned(),
    );
    let plain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let said = answer.text().await.unwrap_or_default();
    if status != StatusCode::OK || !plain || said != token {
        return Err(failed(format!("{status}, plain text: {plain}, {said:?}")));
    }
    Ok(())
}

fn send(notices: Vec<(String, Value)>) {
    for (url, body) in notices {
        tokio::spawn(async move {
            let Ok(address) = url::Url::parse(&url) else {
                return;
            };
            if let Ok(client) = client(&address) {
                drop(client.post(address).json(&body).send().await);
            }
        });
    }
}

/// Whoever answers at the name is taken for it: the lab's certificates prove nothing that is asked for here.
fn client(url: &url::Url) -> reqwest::Result<reqwest::Client> {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    reqwest::Client::builder()
        .no_proxy()
        .resolve(url.host_str().unwrap_or_default(), loopback)
        .tls_danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(10))
        .build()
}
