//! The authorize endpoint and the sign-in page behind it.
//!
//! A request that cannot be trusted to name our client and its address ends on a page; only
//! after both are known may an error travel to the client.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, RawForm, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};

use crate::entra::Emulator;
use crate::entra::error::{AadError, Trace};
use crate::entra::keys::random;
use crate::entra::pages;
use crate::entra::params::Params;
use crate::entra::scope::Scope;
use crate::entra::tokens::login_hint;
use crate::entra::world::{Account, Grant, SsoSession, World};

/// Name of the browser's cookie for signing in once.
const SSO_COOKIE: &str = "ESTSAUTHPERSISTENT";

/// Where and how an answer goes back to the client.
struct Reply {
    redirect_uri: String,
    state: Option<String>,
    form_post: bool,
}

/// A checked request.
struct Asked {
    reply: Reply,
    scope: Scope,
    nonce: Option<String>,
    challenge: Option<String>,
    prompt: Option<String>,
    login_hint: Option<String>,
}

enum Refusal {
    Page(AadError),
    Reply(Reply, AadError),
}

/// GET or POST `/{tenant}/oauth2/v2.0/authorize`.
pub async fn authorize(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let mut params = Params::parse(query.as_deref().unwrap_or_default());
    if method == Method::POST {
        params = params.and(Params::parse(&String::from_utf8_lossy(&body)));
    }
    let asked = match emulator.check(&tenant, &params) {
        Ok(asked) => asked,
        Err(refusal) => return emulator.refuse(refusal, &headers),
    };
    let mut world = emulator.world();
    let session = session(&world, &headers);
    let known = session
        .as_ref()
        .and_then(|(_, session)| world.account(&session.oid).cloned());
    let prompt = asked.prompt.as_deref();
    // An account other than the one hinted at must be signed in first.
    let fits = known.as_ref().is_some_and(|account| {
        asked
            .login_hint
            .as_deref()
            .is_none_or(|hint| hinted(account, hint))
    });
    if prompt == Some("none") && !fits {
        let (number, error, text) = match known {
            None => (
                50_058,
                "login_required",
                "A silent sign-in request was sent but no user is signed in.",
            ),
            Some(_) => (
                16_000,
                "interaction_required",
                "User account in the session does not fit the request; an account must be chosen.",
            ),
        };
        drop(world);
        return emulator.refuse(
            Refusal::Reply(asked.reply, AadError::new(number, error, text)),
            &headers,
        );
    }
    if let (Some(account), Some((_, session)), true) = (known, session, fits)
        && !matches!(prompt, Some("login" | "select_account"))
    {
        return match emulator.admit(&mut world, &account, &session, asked) {
            Ok(answer) => answer,
            Err(error) => {
                drop(world);
                emulator.refuse(Refusal::Page(error), &headers)
            }
        };
    }
    let action = format!("/{tenant}/login?{}", params.encoded_without("prompt"));
    let denied = AadError::new(
        65_004,
        "access_denied",
        "User declined to consent to access the app.",
    );
    let cancel = asked.reply.url(&error_fields(&emulator, &denied, &headers));
    let all = params.get("all") == Some("1");
    let people: Vec<_> = world
        .accounts
        .iter()
        .filter(|account| all || !account.person.load)
        .collect();
    let more = (!all).then(|| {
        format!(
            "/{tenant}/oauth2/v2.0/authorize?{}&all=1",
            params.encoded_without("all")
        )
    });
    let hint = asked.login_hint.as_deref();
    pages::sign_in(&action, &people, hint, &cancel, more.as_deref())
}

/// POST `/{tenant}/login`: a person's button was pressed.
pub async fn sign_in(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default());
    let asked = match emulator.check(&tenant, &params) {
        Ok(asked) => asked,
        Err(refusal) => return emulator.refuse(refusal, &headers),
    };
    let form = Params::parse(&String::from_utf8_lossy(&body));
    let login = form.get("login").unwrap_or_default();
    let mut world = emulator.world();
    let Some(account) = world.account(login).cloned() else {
        drop(world);
        let text = format!(
            "The user account {login} does not exist in the {tenant} directory. To sign into this \
             application, the account must be added to the directory."
        );
        return emulator.refuse(
            Refusal::Page(AadError::new(50_034, "invalid_grant", text)),
            &headers,
        );
    };
    let session = SsoSession {
        oid: account.person.oid.clone(),
        sid: uuid::Uuid::new_v4().to_string(),
        begun: Instant::now(),
    };
    let mut answer = match emulator.admit(&mut world, &account, &session, asked) {
        Ok(answer) => answer,
        Err(error) => {
            drop(world);
            return emulator.refuse(Refusal::Page(error), &headers);
        }
    };
    if let Some(before) = cookie(&headers) {
        world.sessions.remove(&before);
    }
    let id = random(32);
    set_cookie(&mut answer, &id, emulator.secure(), None);
    world.sessions.insert(id, session);
    answer
}

impl Emulator {
    fn check(&self, tenant: &str, params: &Params) -> Result<Asked, Refusal> {
        let reply = self.check_client(tenant, params).map_err(Refusal::Page)?;
        match self.check_rest(params) {
            Ok((scope, challenge)) => Ok(Asked {
                reply,
                scope,
                challenge,
                nonce: params.get("nonce").map(str::to_owned),
                prompt: params.get("prompt").map(str::to_owned),
                login_hint: params.get("login_hint").map(str::to_owned),
            }),
            Err(error) => Err(Refusal::Reply(reply, error)),
        }
    }

    /// Everything that must hold before anything may be sent to the client's address.
    fn check_client(&self, tenant: &str, params: &Params) -> Result<Reply, AadError> {
        if matches!(tenant, "common" | "organizations" | "consumers") {
            let text = format!(
                "Application '{}' is not configured as a multi-tenant application. Usage of the \
                 /{tenant} endpoint is not supported for such apps. Use a tenant-specific endpoint.",
                self.client_id
            );
            return Err(AadError::new(50_194, "invalid_request", text));
        }
        if tenant != self.tenant {
            return Err(AadError::unknown_tenant(tenant));
        }
        params.refuse_duplicates()?;
        let client = params.require("client_id")?;
        if client != self.client_id {
            return Err(AadError::unknown_client(client, &self.tenant));
        }
        let redirect_uri = params.require("redirect_uri")?;
        if !self
            .world()
            .registration
            .redirect_uris
            .iter()
            .any(|known| known == redirect_uri)
        {
            let text = format!(
                "The redirect URI '{redirect_uri}' specified in the request does not match the \
                 redirect URIs configured for the application '{client}'. Make sure the redirect \
                 URI sent in the request matches one added to your application."
            );
            return Err(AadError::new(50_011, "invalid_request", text));
        }
        let form_post = match params.get("response_mode") {
            None | Some("query") => false,
            Some("form_post") => true,
            Some(other) => {
                let text = format!("response_mode '{other}' is not supported for this request.");
                return Err(AadError::new(70_007, "unsupported_response_mode", text));
            }
        };
        Ok(Reply {
            redirect_uri: redirect_uri.to_owned(),
            state: params.get("state").map(str::to_owned),
            form_post,
        })
    }

    fn check_rest(&self, params: &Params) -> Result<(Scope, Option<String>), AadError> {
        if params.require("response_type")? != "code" {
            let text = "The response type is not enabled for this application.";
            return Err(AadError::new(700_054, "unsupported_response_type", text));
        }
        let scope = Scope::parse(self, params.require("scope")?)?;
        if let Some(prompt) = params.get("prompt")
            && !["none", "login", "consent", "select_account"].contains(&prompt)
        {
            let text = format!("Unsupported 'prompt' value: {prompt}.");
            return Err(AadError::new(90_023, "invalid_request", text));
        }
        let challenge = params.get("code_challenge");
        match (challenge, params.get("code_challenge_method")) {
            (None, _) if self.world().registration.pkce_required => {
                let text = "Proof Key for Code Exchange is required for this application.";
                Err(AadError::new(9_002_325, "invalid_request", text))
            }
            (None, _) => Ok((scope, None)),
            (Some(challenge), Some("S256")) => {
                // The SHA-256 is 32 bytes: 43 characters and no others.
                let right = challenge.len() == 43
                    && challenge
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                if !right {
                    let text = "Invalid size of Code_Challenge parameter.";
                    return Err(AadError::new(501_491, "invalid_request", text));
                }
                Ok((scope, Some(challenge.to_owned())))
            }
            (Some(_), other) => {
                let text = format!(
                    "The code_challenge_method '{}' is not supported.",
                    other.unwrap_or("plain")
                );
                Err(AadError::new(501_492, "invalid_request", text))
            }
        }
    }

    /// Issues a code, or says why this person gets none.
    fn admit(
        &self,
        world: &mut World,
        account: &Account,
        session: &SsoSession,
        asked: Asked,
    ) -> Result<Response, AadError> {
        let person = &account.person;
        if !person.enabled {
            return Err(AadError::disabled());
        }
        if world.registration.assignment_required && person.roles.is_empty() {
            let text = format!(
                "Your administrator has configured the application Kerbgate ('{}') to block users \
                 unless they are specifically granted ('assigned') access to the application. The \
                 signed in user '{}' is blocked because they are not a direct member of a group \
                 with access, nor had access directly assigned by an administrator.",
                self.client_id, person.mail
            );
            return Err(AadError::new(50_105, "invalid_grant", text));
        }
        // As long as Entra's, so that limits on the callback's length are felt here.
        let code = format!("1.{}", random(600));
        let grant = Grant {
            oid: person.oid.clone(),
            sid: session.sid.clone(),
            scope: asked.scope,
            nonce: asked.nonce,
            redirect_uri: asked.reply.redirect_uri.clone(),
            challenge: asked.challenge,
            made: Instant::now(),
            signed_in: session.begun,
            used: false,
        };
        if let Some(account) = world.account_mut(&grant.oid) {
            account.person.pending = false; // signing in is accepting
        }
        world.codes.insert(code.clone(), grant);
        let session_state = uuid::Uuid::new_v4().to_string();
        Ok(asked
            .reply
            .answer(vec![("code", code), ("session_state", session_state)]))
    }

    fn refuse(&self, refusal: Refusal, headers: &HeaderMap) -> Response {
        match refusal {
            Refusal::Page(error) => pages::error(&error, &Trace::new(headers)),
            Refusal::Reply(reply, error) => reply.answer(error_fields(self, &error, headers)),
        }
    }
}

fn error_fields(
    emulator: &Emulator,
    error: &AadError,
    headers: &HeaderMap,
) -> Vec<(&'static str, String)> {
    vec![
        ("error", error.error.to_owned()),
        ("error_description", error.description(&Trace::new(headers))),
        ("error_uri", error.uri(&emulator.public_url)),
    ]
}

impl Reply {
    fn answer(&self, mut fields: Vec<(&'static str, String)>) -> Response {
        if !self.form_post {
            let mut response = Redirect::to(&self.url(&fields)).into_response();
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert(
                "cache-control",
                HeaderValue::from_static("no-store, no-cache"),
            );
            return response;
        }
        fields.extend(self.state.clone().map(|state| ("state", state)));
        pages::form_post(&self.redirect_uri, &fields)
    }

    fn url(&self, fields: &[(&'static str, String)]) -> String {
        let state = self.state.iter().map(|state| ("state", state));
        let pairs = fields
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(state);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        let joint = if self.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        format!("{}{joint}{query}", self.redirect_uri)
    }
}

/// Whether a `login_hint` or `logout_hint` means this account.
pub fn hinted(account: &Account, hint: &str) -> bool {
    let person = &account.person;
    hint == login_hint(&person.oid)
        || [person.login.as_str(), person.mail.as_str(), &person.upn()]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(hint))
}

/// The browser's live sign-in and its cookie's value.
pub fn session(world: &World, headers: &HeaderMap) -> Option<(String, SsoSession)> {
    let id = cookie(headers)?;
    let session = world.sessions.get(&id)?.clone();
    let revoked = world
        .account(&session.oid)
        .is_none_or(|account| account.revoked(session.begun));
    (!revoked).then_some((id, session))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == SSO_COOKIE)
        .map(|(_, value)| value.to_owned())
}

/// Sets the cookie, or with `Some(0)` takes it away.
pub fn set_cookie(response: &mut Response, id: &str, secure: bool, max_age: Option<u32>) {
    // None, as Entra's: a form_post and a hidden frame are cross-site.
    let site = if secure {
        "; Secure; SameSite=None"
    } else {
        "; SameSite=Lax"
    };
    let age = max_age
        .map(|seconds| format!("; Max-Age={seconds}"))
        .unwrap_or_default();
    let text = format!("{SSO_COOKIE}={id}; Path=/; HttpOnly{site}{age}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
