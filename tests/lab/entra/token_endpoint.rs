//! The token endpoint: code, refresh token, client credentials.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, RawForm, State};
use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::entra::Emulator;
use crate::entra::client_auth::Proof;
use crate::entra::error::AadError;
use crate::entra::keys::{random, sha256};
use crate::entra::params::Params;
use crate::entra::scope::{Resource, Scope};
use crate::entra::tokens::{Object, Occasion};
use crate::entra::world::{Account, Grant, GraphGrant, World};

/// POST `/{tenant}/oauth2/v2.0/token`.
pub async fn token(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let params = Params::parse(&String::from_utf8_lossy(&body));
    match emulator.grant(&tenant, &headers, &params) {
        Ok(body) => {
            let mut response = Json(body).into_response();
            let out = response.headers_mut();
            out.insert(
                "cache-control",
                HeaderValue::from_static("no-store, no-cache"),
            );
            out.insert("pragma", HeaderValue::from_static("no-cache"));
            response
        }
        Err(error) => error.json(&emulator.public_url, &headers),
    }
}

impl Emulator {
    fn grant(&self, tenant: &str, headers: &HeaderMap, params: &Params) -> Result<Value, AadError> {
        if tenant != self.tenant {
            return Err(AadError::unknown_tenant(tenant));
        }
        params.refuse_duplicates()?;
        let grant_type = params.require("grant_type")?;
        let proof = self.client(headers, params)?;
        match grant_type {
            "authorization_code" => self.by_code(params, proof),
            "refresh_token" => self.by_refresh_token(params, proof),
            "client_credentials" => self.by_client(params, proof),
            other => {
                let text = format!("The app requested an unsupported grant type '{other}'.");
                Err(AadError::new(70_003, "unsupported_grant_type", text))
            }
        }
    }

    fn by_code(&self, params: &Params, proof: Proof) -> Result<Value, AadError> {
        let code = params.require("code")?;
        let redirect_uri = params.require("redirect_uri")?;
        let mut world = self.world();
        let lifetime = world.registration.code_lifetime;
        let Some(grant) = world.codes.get_mut(code) else {
            let text = "The provided value for the 'code' parameter is not valid. The code is \
                        malformed or was issued by somebody else.";
            return Err(AadError::new(9_002_313, "invalid_grant", text));
        };
        if grant.used {
            let text = "OAuth2 Authorization code was already redeemed, please retry with a new \
                        valid code or use an existing refresh token.";
            return Err(AadError::new(54_005, "invalid_grant", text));
        }
        if grant.made.elapsed() > lifetime {
            let text = "The provided authorization code or refresh token has expired due to \
                        inactivity. Send a new interactive authorization request for this user \
                        and resource.";
            return Err(AadError::new(70_008, "invalid_grant", text));
        }
        if grant.redirect_uri != redirect_uri {
            let text = format!(
                "The reply address '{redirect_uri}' does not match the reply address '{}' provided \
                 when requesting Authorization code.",
                grant.redirect_uri
            );
            return Err(AadError::new(500_112, "invalid_grant", text));
        }
        verify(grant.challenge.as_deref(), params.get("code_verifier"))?;
        grant.used = true;
        let grant = grant.clone();
        let scope = self.narrowed(params, &grant)?;
        self.issue(&mut world, &grant, &scope, proof, grant.nonce.as_deref())
    }

    fn by_refresh_token(&self, params: &Params, proof: Proof) -> Result<Value, AadError> {
        let token = params.require("refresh_token")?;
        let mut world = self.world();
        let Some(grant) = world.refresh_tokens.get(token).cloned() else {
            let text = "The provided value for the 'refresh_token' parameter is not valid.";
            return Err(AadError::new(9_002_313, "invalid_grant", text));
        };
        if grant.made.elapsed() > world.registration.refresh_lifetime {
            let text = "The refresh token has expired due to inactivity. The token was inactive \
                        for longer than its lifetime.";
            return Err(AadError::new(700_082, "invalid_grant", text));
        }
        if grant.used {
            return Err(revoked());
        }
        let scope = self.narrowed(params, &grant)?;
        let answer = self.issue(&mut world, &grant, &scope, proof, None)?;
        if world.registration.refresh_single_use
            && let Some(grant) = world.refresh_tokens.get_mut(token)
        {
            grant.used = true;
        }
        Ok(answer)
    }

    /// A later request may ask for other scopes than the first.
    fn narrowed(&self, params: &Params, grant: &Grant) -> Result<Scope, AadError> {
        params
            .get("scope")
            .map_or_else(|| Ok(grant.scope.clone()), |text| Scope::parse(self, text))
    }

    fn issue(
        &self,
        world: &mut World,
        grant: &Grant,
        scope: &Scope,
        proof: Proof,
        nonce: Option<&str>,
    ) -> Result<Value, AadError> {
        let Some(account) = world.account(&grant.oid).cloned() else {
            let text = "The user account does not exist in the directory.";
            return Err(AadError::new(50_034, "invalid_grant", text));
        };
        if !account.person.enabled {
            return Err(AadError::disabled());
        }
        if account.revoked(grant.signed_in) {
            return Err(revoked());
        }
        let occasion = Occasion {
            account: &account,
            scope,
            nonce,
            sid: &grant.sid,
            proof,
        };
        let access = self.access_token(world, &occasion);
        let mut answer = json!({
            "token_type": "Bearer",
            "scope": scope.granted(),
            "expires_in": access.seconds,
            "ext_expires_in": access.seconds,
            "access_token": access.text,
        });
        if scope.openid {
            answer["id_token"] = json!(self.id_token(world, &occasion)?);
        }
        if scope.offline {
            let token = format!("1.{}", random(800));
            let successor = Grant {
                made: Instant::now(),
                nonce: None,
                challenge: None,
                used: false,
                ..grant.clone()
            };
            world.refresh_tokens.insert(token.clone(), successor);
            answer["refresh_token"] = json!(token);
        }
        if scope.resource == Resource::Graph {
            remember(
                world,
                &access.text,
                Some(&account),
                Vec::new(),
                access.seconds,
            );
        }
        Ok(answer)
    }

    fn id_token(&self, world: &mut World, occasion: &Occasion<'_>) -> Result<String, AadError> {
        let claims = self.id_claims(world, occasion);
        let seal = world.take_next_id_token(&occasion.account.person.login);
        world
            .seal(claims, &Object::new(), &seal.unwrap_or_default())
            .map_err(|text| AadError::new(90_000, "server_error", text))
    }

    fn by_client(&self, params: &Params, proof: Proof) -> Result<Value, AadError> {
        let asked = params.require("scope")?;
        if !asked.ends_with("/.default") || asked.contains(' ') {
            let text = format!(
                "The provided value for scope {asked} is not valid. Client credential flows must \
                 have a scope value with /.default suffixed to the resource identifier (application \
                 ID URI)."
            );
            return Err(AadError::new(1_002_012, "invalid_scope", text));
        }
        let scope = Scope::parse(self, asked)?;
        let mut world = self.world();
        let access = self.app_token(&world, scope.resource, proof);
        if scope.resource == Resource::Graph {
            let roles = world.registration.graph_roles.clone();
            remember(&mut world, &access.text, None, roles, access.seconds);
        }
        Ok(json!({
            "token_type": "Bearer",
            "expires_in": access.seconds,
            "ext_expires_in": access.seconds,
            "access_token": access.text,
        }))
    }
}

/// Graph knows its tokens by heart: nobody else is meant to read them.
fn remember(
    world: &mut World,
    token: &str,
    account: Option<&Account>,
    roles: Vec<String>,
    seconds: i64,
) {
    let ends = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let oid = account.map(|account| account.person.oid.clone());
    world
        .graph_tokens
        .insert(token.to_owned(), GraphGrant { oid, roles, ends });
}

/// RFC 7636 4.6.
fn verify(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), AadError> {
    let wrong = |number: u64| {
        let text = "The Code_Verifier does not match the code_challenge supplied in the \
                    authorization request.";
        AadError::new(number, "invalid_grant", text)
    };
    match (challenge, verifier) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(wrong(50_148)),
        (Some(challenge), Some(verifier)) => {
            let length = (43..=128).contains(&verifier.len());
            if length && sha256(verifier) == challenge {
                Ok(())
            } else {
                Err(wrong(501_481))
            }
        }
        (None, Some(_)) => Err(wrong(501_481)),
    }
}

fn revoked() -> AadError {
    let text = "The provided grant has expired due to it being revoked, a fresh auth token is \
                needed. The user might have changed or reset their password.";
    AadError::new(50_173, "invalid_grant", text)
}
