//! Sign-out: ends the browser's sign-in, tells the application by hidden frames
//! (front-channel), and goes back to where the application asked, if that is registered.

use std::sync::Arc;

use axum::extract::{Path, RawForm, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, StatusCode};

use crate::entra::Emulator;
use crate::entra::authorize::{hinted, session, set_cookie};
use crate::entra::error::{AadError, Trace};
use crate::entra::pages;
use crate::entra::params::Params;

/// GET or POST `/{tenant}/oauth2/v2.0/logout`.
pub async fn logout(
    State(emulator): State<Arc<Emulator>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    if tenant != emulator.tenant && !matches!(tenant.as_str(), "common" | "organizations") {
        return pages::error(&AadError::unknown_tenant(&tenant), &Trace::new(&headers));
    }
    let mut params = Params::parse(query.as_deref().unwrap_or_default());
    if method == Method::POST {
        params = params.and(Params::parse(&String::from_utf8_lossy(&body)));
    }
    let mut world = emulator.world();
    let back = params
        .get("post_logout_redirect_uri")
        .filter(|uri| {
            world
                .registration
                .post_logout_uris
                .iter()
                .any(|known| known == uri)
        })
        .map(|uri| with_state(uri, params.get("state")));
    let Some((id, session)) = session(&world, &headers) else {
        return match back {
            Some(uri) => found(&uri),
            None => pages::signed_out(&[], None),
        };
    };
    let account = world.account(&session.oid).cloned();
    if let (Some(hint), Some(account)) = (params.get("logout_hint"), &account)
        && !hinted(account, hint)
        && params.get("chosen") != Some("1")
    {
        // Entra asks which account is meant when the hint names none that is signed in.
        let action = format!(
            "/{tenant}/oauth2/v2.0/logout?{}&chosen=1",
            params.encoded_without("chosen")
        );
        return pages::choose_sign_out(&action, account);
    }
    world.sessions.remove(&id);
    let frames: Vec<_> = world
        .registration
        .logout_uris
        .iter()
        .map(|uri| front_channel(uri, &session.sid, &emulator.issuer_v2()))
        .collect();
    drop(world);
    let mut response = pages::signed_out(&frames, back.as_deref());
    set_cookie(&mut response, "", emulator.secure(), Some(0));
    response
}

fn with_state(uri: &str, state: Option<&str>) -> String {
    state.map_or_else(
        || uri.to_owned(),
        |state| appended(uri, &[("state", state)]),
    )
}

/// OpenID Connect Front-Channel Logout 2: `iss` and `sid` as query parameters.
fn front_channel(uri: &str, sid: &str, issuer: &str) -> String {
    appended(uri, &[("sid", sid), ("iss", issuer)])
}

fn appended(uri: &str, pairs: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{query}")
}

fn found(uri: &str) -> Response {
    let mut response = Redirect::to(uri).into_response();
    *response.status_mut() = StatusCode::FOUND;
    response
}
