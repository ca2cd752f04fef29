//! Entra's errors: AADSTS numbers, the JSON form, and the text that pages and redirects carry.

use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use time::macros::format_description;

/// One refusal in Entra's words.
#[derive(Debug)]
pub struct AadError {
    pub number: u64,
    /// The OAuth error code.
    pub error: &'static str,
    pub status: StatusCode,
    pub text: String,
}

impl AadError {
    pub fn new(number: u64, error: &'static str, text: impl Into<String>) -> Self {
        Self {
            number,
            error,
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    pub fn unauthorized(mut self) -> Self {
        self.status = StatusCode::UNAUTHORIZED;
        self
    }

    pub fn missing(parameter: &str) -> Self {
        let text = format!("The request body must contain the following parameter: '{parameter}'.");
        Self::new(900_144, "invalid_request", text)
    }

    pub fn duplicated(parameter: &str) -> Self {
        let text = format!(
            "The request is not properly formatted. The parameter '{parameter}' is duplicated."
        );
        Self::new(9_000_411, "invalid_request", text)
    }

    pub fn unknown_tenant(tenant: &str) -> Self {
        let text = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and \
             are signing into the correct cloud."
        );
        Self::new(90_002, "invalid_request", text)
    }

    pub fn unknown_client(client: &str, tenant: &str) -> Self {
        let text = format!(
            "Application with identifier '{client}' was not found in the directory '{tenant}'. \
             This can happen if the application has not been installed by the administrator of \
             the tenant or consented to by any user in the tenant."
        );
        Self::new(700_016, "unauthorized_client", text)
    }

    pub fn disabled() -> Self {
        Self::new(50_057, "invalid_grant", "The user account is disabled.")
    }

    /// As `error_description` carries it.
    pub fn description(&self, trace: &Trace) -> String {
        format!(
            "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: {}",
            self.number, self.text, trace.trace_id, trace.correlation_id, trace.timestamp
        )
    }

    /// The answer of the token and metadata endpoints.
    pub fn json(&self, public_url: &str, headers: &HeaderMap) -> Response {
        let trace = Trace::new(headers);
        let body: Value = json!({
            "error": self.error,
            "error_description": self.description(&trace),
            "error_codes": [self.number],
            "timestamp": trace.timestamp,
            "trace_id": trace.trace_id,
            "correlation_id": trace.correlation_id,
            "error_uri": self.uri(public_url),
        });
        let mut response = (self.status, Json(body)).into_response();
        let out = response.headers_mut();
        out.insert(
            "cache-control",
            HeaderValue::from_static("no-store, no-cache"),
        );
        out.insert("pragma", HeaderValue::from_static("no-cache"));
        if let Ok(id) = HeaderValue::from_str(&trace.trace_id) {
            out.insert("x-ms-request-id", id);
        }
        response
    }

    pub fn uri(&self, public_url: &str) -> String {
        format!("{public_url}/error?code={}", self.number)
    }
}

/// What ties an error to Entra's own logs.
pub struct Trace {
    pub trace_id: String,
    pub correlation_id: String,
    pub timestamp: String,
}

impl Trace {
    pub fn new(headers: &HeaderMap) -> Self {
        let asked = headers
            .get("client-request-id")
            .and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|text| uuid::Uuid::parse_str(text).ok());
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
        Self {
            trace_id: uuid::Uuid::new_v4().to_string(),
            correlation_id: asked.unwrap_or_else(uuid::Uuid::new_v4).to_string(),
            timestamp: time::OffsetDateTime::now_utc()
                .format(&format)
                .unwrap_or_default(),
        }
    }
}
