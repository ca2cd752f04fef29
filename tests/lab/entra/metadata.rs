//! Metadata documents and key sets.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::entra::Emulator;
use crate::entra::error::AadError;

/// v2 metadata, of the tenant or of `common` and `organizations`.
pub async fn v2(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    match emulator.segment(&tenant) {
        Ok(segment) => cached(emulator.metadata_v2(&tenant, segment)),
        Err(error) => error.json(&emulator.public_url, &headers),
    }
}

/// v1 metadata.
pub async fn v1(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    match emulator.segment(&tenant) {
        Ok(segment) => cached(emulator.metadata_v1(&tenant, segment)),
        Err(error) => error.json(&emulator.public_url, &headers),
    }
}

/// The key set that v2 metadata names: each key says which issuer it signs for.
pub async fn keys_v2(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    match emulator.segment(&tenant) {
        Ok(segment) => {
            let issuer = format!("{}/{segment}/v2.0", emulator.public_url);
            cached(emulator.world().keys.jwks(Some(&issuer)))
        }
        Err(error) => error.json(&emulator.public_url, &headers),
    }
}

/// The key set that v1 metadata names.
pub async fn keys_v1(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    match emulator.segment(&tenant) {
        Ok(_) => cached(emulator.world().keys.jwks(None)),
        Err(error) => error.json(&emulator.public_url, &headers),
    }
}

fn cached(body: Value) -> Response {
    let mut response = Json(body).into_response();
    let value = HeaderValue::from_static("max-age=86400, private");
    response.headers_mut().insert("cache-control", value);
    response
}

impl Emulator {
    /// What stands for the tenant in issuers: its id, or the template of the shared endpoints.
    fn segment(&self, tenant: &str) -> Result<&str, AadError> {
        match tenant {
            "common" | "organizations" => Ok("{tenantid}"),
            own if own == self.tenant => Ok(&self.tenant),
            other => Err(AadError::unknown_tenant(other)),
        }
    }

    fn metadata_v2(&self, tenant: &str, segment: &str) -> Value {
        let base = format!("{}/{tenant}", self.public_url);
        let mut document = self.metadata(&base);
        document["issuer"] = json!(format!("{}/{segment}/v2.0", self.public_url));
        document["authorization_endpoint"] = json!(format!("{base}/oauth2/v2.0/authorize"));
        document["token_endpoint"] = json!(format!("{base}/oauth2/v2.0/token"));
        document["end_session_endpoint"] = json!(format!("{base}/oauth2/v2.0/logout"));
        document["device_authorization_endpoint"] = json!(format!("{base}/oauth2/v2.0/devicecode"));
        document["jwks_uri"] = json!(format!("{base}/discovery/v2.0/keys"));
        document["request_uri_parameter_supported"] = json!(false);
        document["userinfo_endpoint"] = json!(format!("{}/graph/oidc/userinfo", self.public_url));
        document["scopes_supported"] = json!(["openid", "profile", "email", "offline_access"]);
        document["response_types_supported"] =
            json!(["code", "id_token", "code id_token", "id_token token"]);
        document["claims_supported"] = json!([
            "sub",
            "iss",
            "cloud_instance_name",
            "cloud_instance_host_name",
            "cloud_graph_host_name",
            "msgraph_host",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "acr",
            "nonce",
            "preferred_username",
            "name",
            "tid",
            "ver",
            "at_hash",
            "c_hash",
            "email"
        ]);
        document
    }

    /// The v1 endpoints themselves are not emulated: v1 is here for its issuer and keys.
    fn metadata_v1(&self, tenant: &str, segment: &str) -> Value {
        let base = format!("{}/{tenant}", self.public_url);
        let mut document = self.metadata(&base);
        document["issuer"] = json!(format!("{}/sts/{segment}/", self.public_url));
        document["authorization_endpoint"] = json!(format!("{base}/oauth2/authorize"));
        document["token_endpoint"] = json!(format!("{base}/oauth2/token"));
        document["end_session_endpoint"] = json!(format!("{base}/oauth2/logout"));
        document["jwks_uri"] = json!(format!("{base}/discovery/keys"));
        document["userinfo_endpoint"] = json!(format!("{base}/openid/userinfo"));
        document["check_session_iframe"] = json!(format!("{base}/oauth2/checksession"));
        document["microsoft_multi_refresh_token"] = json!(true);
        document["scopes_supported"] = json!(["openid"]);
        document["response_types_supported"] = json!([
            "code",
            "id_token",
            "code id_token",
            "token id_token",
            "token"
        ]);
        document["claims_supported"] = json!([
            "sub",
            "iss",
            "cloud_instance_name",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "acr",
            "amr",
            "nonce",
            "email",
            "given_name",
            "family_name",
            "nickname"
        ]);
        document
    }

    fn metadata(&self, base: &str) -> Value {
        json!({
            "token_endpoint_auth_methods_supported":
                ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "http_logout_supported": true,
            "frontchannel_logout_supported": true,
            "kerberos_endpoint": format!("{base}/kerberos"),
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
            "rbac_url": "https://pas.windows.net",
        })
    }
}
