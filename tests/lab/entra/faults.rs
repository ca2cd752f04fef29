//! Counts what reaches each endpoint, and makes the next requests fail on demand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::entra::Emulator;
use crate::entra::error::{AadError, Trace};
use crate::entra::graph;
use crate::serve::cut;

/// What is to go wrong.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The status given, with an error body in the endpoint's format.
    Status,
    /// 429 with `Retry-After`.
    Throttle,
    /// No answer ever.
    Hang,
    /// The right answer after `ms`.
    Slow,
    /// 200 and nonsense of the right content type.
    Garbage,
    /// 200 and an HTML page.
    Html,
    /// The connection closed without an answer.
    Close,
    /// What was asked is done, and the connection closed without an answer.
    Lost,
    /// What was asked is done, and there is no answer ever.
    Mute,
    /// Half an answer, then the connection closed.
    Truncate,
    /// 200 and `bytes` bytes.
    Oversize,
    /// 302 to `location`.
    Redirect,
}

/// One order: the next `count` requests fail.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub endpoint: String,
    /// Only requests whose method and path begin so, such as `POST /graph/v1.0/invitations`.
    #[serde(default)]
    pub only: String,
    pub kind: Kind,
    #[serde(default = "one")]
    pub count: u32,
    #[serde(default = "internal")]
    pub status: u16,
    #[serde(default = "one")]
    pub retry_after: u32,
    /// `Retry-After` as an HTTP date.
    #[serde(default)]
    pub retry_date: bool,
    #[serde(default)]
    pub ms: u64,
    #[serde(default = "much")]
    pub bytes: usize,
    #[serde(default)]
    pub location: String,
}

fn one() -> u32 {
    1
}

fn internal() -> u16 {
    500
}

fn much() -> usize {
    32 * 1024 * 1024
}

/// Orders by endpoint, first come first served.
#[derive(Default)]
pub struct Faults(HashMap<String, Vec<Fault>>);

impl Faults {
    /// Adds an order.
    pub fn add(&mut self, fault: Fault) {
        self.0
            .entry(fault.endpoint.clone())
            .or_default()
            .push(fault);
    }

    fn take(&mut self, endpoint: &str, asked: &str) -> Option<Fault> {
        let orders = self.0.get_mut(endpoint)?;
        let position = orders.iter().position(|one| asked.starts_with(&one.only))?;
        let first = &mut orders[position];
        let fault = first.clone();
        first.count = first.count.saturating_sub(1);
        if first.count == 0 {
            orders.remove(position);
        }
        Some(fault)
    }

    /// How many requests are still to fail.
    pub fn left(&self) -> u32 {
        self.0.values().flatten().map(|fault| fault.count).sum()
    }
}

/// The endpoints that are counted and can fail.
pub const ENDPOINTS: [&str; 7] = [
    "metadata",
    "jwks",
    "authorize",
    "token",
    "logout",
    "graph",
    "other",
];

fn endpoint(path: &str) -> &'static str {
    if path.ends_with("/.well-known/openid-configuration") {
        "metadata"
    } else if path.ends_with("/keys") && path.contains("/discovery/") {
        "jwks"
    } else if path.ends_with("/oauth2/v2.0/authorize") || path.ends_with("/login") {
        "authorize"
    } else if path.ends_with("/oauth2/v2.0/token") {
        "token"
    } else if path.ends_with("/oauth2/v2.0/logout") {
        "logout"
    } else if path.starts_with("/graph/") {
        "graph"
    } else {
        "other"
    }
}

/// The layer around all endpoints but the control API.
pub async fn count_and_fail(
    State(emulator): State<Arc<Emulator>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if path.starts_with("/_control") {
        return next.run(request).await;
    }
    let endpoint = endpoint(path);
    let fault = {
        let mut world = emulator.world();
        world.count(endpoint);
        world
            .faults
            .take(endpoint, &format!("{} {path}", request.method()))
    };
    let method = request.method().clone();
    let path = path.to_owned();
    let response = match fault {
        Some(fault) if matches!(fault.kind, Kind::Slow) => {
            tokio::time::sleep(Duration::from_millis(fault.ms)).await;
            next.run(request).await
        }
        Some(fault) if matches!(fault.kind, Kind::Lost | Kind::Mute) => {
            drop(next.run(request).await);
            if matches!(fault.kind, Kind::Mute) {
                std::future::pending::<()>().await;
            }
            cut()
        }
        Some(fault) => failed(&emulator, endpoint, &fault, request).await,
        None => next.run(request).await,
    };
    // Never the query: it holds codes.
    tracing::info!(%method, path, status = response.status().as_u16());
    response
}

async fn failed(emulator: &Emulator, endpoint: &str, fault: &Fault, request: Request) -> Response {
    let told = |status: StatusCode, number: u64, text: &str| {
        if endpoint == "graph" {
            return graph::error(status, "ServiceError", text, request.headers());
        }
        let mut error = AadError::new(number, "temporarily_unavailable", text);
        error.status = status;
        if matches!(endpoint, "authorize" | "logout") {
            return crate::entra::pages::error(&error, &Trace::new(request.headers()));
        }
        error.json(&emulator.public_url, request.headers())
    };
    match fault.kind {
        Kind::Status | Kind::Slow => {
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
            told(
                status,
                90_033,
                "A transient error has occurred. Please try again.",
            )
        }
        Kind::Throttle => {
            let mut response = if endpoint == "graph" {
                let status = StatusCode::TOO_MANY_REQUESTS;
                graph::error(
                    status,
                    "TooManyRequests",
                    "Too Many Requests",
                    request.headers(),
                )
            } else {
                told(
                    StatusCode::TOO_MANY_REQUESTS,
                    90_055,
                    "There have been too many requests.",
                )
            };
            response
                .headers_mut()
                .insert(RETRY_AFTER, retry_after(fault));
            response
        }
        Kind::Hang => std::future::pending().await,
        Kind::Garbage => {
            let body = "{\"keys\": [ {\"kty\": \"RSA\", \u{1}\u{fffd}]] not json";
            ([(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
        }
        Kind::Html => (
            [(CONTENT_TYPE, "text/html")],
            "<!doctype html><title>Proxy</title><p>Sign in to the \
              network",
        )
            .into_response(),
        Kind::Close | Kind::Lost | Kind::Mute => cut(),
        Kind::Truncate => {
            let half = futures_util::stream::iter([
                Ok(axum::body::Bytes::from_static(b"{\"half\": \"an ans")),
                Err(std::io::Error::other("cut on request")),
            ]);
            let head = [
                (CONTENT_TYPE, "application/json"),
                (http::header::CONTENT_LENGTH, "4000"),
            ];
            (head, Body::from_stream(half)).into_response()
        }
        Kind::Oversize => {
            let filler = vec![b' '; fault.bytes];
            ([(CONTENT_TYPE, "application/json")], filler).into_response()
        }
        Kind::Redirect => {
            let location = HeaderValue::from_str(&fault.location)
                .unwrap_or_else(|_| HeaderValue::from_static("/"));
            (StatusCode::FOUND, [(LOCATION, location)], Json(json!({}))).into_response()
        }
    }
}

fn retry_after(fault: &Fault) -> HeaderValue {
    let date = fault.retry_date.then(|| {
        let then = time::OffsetDateTime::now_utc() + Duration::from_secs(fault.retry_after.into());
        let date = then
            .format(&time::format_description::well_known::Rfc2822)
            .unwrap_or_default();
        date.replace("+0000", "GMT")
    });
    date.and_then(|date| HeaderValue::from_str(&date).ok())
        .unwrap_or_else(|| HeaderValue::from(fault.retry_after))
}
