//! A token: read, its signature checked, its claims checked, in that order.
//!
//! The types keep the order: only [`Parsed::verify`] makes a [`Payload`], and only a `Payload` can be [`check`]ed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::error::TokenError;
use super::error::bounded;
use super::keys::Key;
use super::settings::Settings;
use super::settings::TENANT_TEMPLATE;
use super::settings::Version;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::claims::Home;
use crate::model::names::PersonId;

/// A token whose form is sound and whose header is acceptable; nothing in it is believed yet.
#[derive(Debug)]
pub struct Parsed<'a> {
    message: &'a str,
    signature: &'a str,
    kid: Option<String>,
    payload: Map<String, Value>,
}

/// Claims under a good signature.
#[derive(Debug)]
pub struct Payload {
    claims: Map<String, Value>,
    key_issuer: Option<String>,
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Version of the token.
    pub version: Version,
    /// `iss`, possibly with the tenant template.
    pub issuer: &'a str,
    /// One of these must be in `aud`.
    pub audiences: &'a [String],
    /// `nonce`.
    pub nonce: Nonce<'a>,
    /// True for an ID token, false for an access token.
    pub id_token: bool,
}

/// What is expected of `nonce`.
#[derive(Clone, Copy, Debug)]
pub enum Nonce<'a> {
    /// Exactly this one.
    Exactly(&'a str),
    /// The token answers no sign-in (a renewal, an API client).
    NotExpected,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
    enc: Option<Value>,
    zip: Option<Value>,
}

/// Reads a compact JWS (RFC 7515 7.1), strictly.
///
/// # Errors
/// The form is wrong, or the header asks for something that is not done here.
pub fn parse(token: &str) -> Result<Parsed<'_>, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed("larger than 64 KiB"));
    }
    let (message, signature) = token
        .rsplit_once('.')
        .ok_or(TokenError::Malformed("not three parts"))?;
    let (header, payload) = message
        .split_once('.')
        .filter(|(_, payload)| !payload.contains('.'))
        .ok_or(TokenError::Malformed("not three parts"))?;
    // RFC 7515 2: base64url without padding, without line breaks; the engine also refuses stray trailing bits.
    let decode = |part: &str| {
        URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| TokenError::Malformed("not base64url"))
    };
    let header: Header = serde_json::from_slice(&decode(header)?)
        .map_err(|_| TokenError::Malformed("the header is no JSON object with `alg`"))?;
    // RFC 8725 3.1: the algorithm comes from our configuration, never from the token; the header may only agree.
    if header.alg != "RS256" {
        return Err(TokenError::AlgorithmRefused(bounded(&header.alg)));
    }
    // RFC 7515 4.1.11: an extension that is not understood and must be.
    if header.crit.is_some() || header.b64.is_some() {
        return Err(TokenError::Malformed("the header demands an extension"));
    }
    if header.enc.is_some() || header.zip.is_some() {
        return Err(TokenError::Malformed("encrypted or compressed"));
    }
    if decode(signature)?.is_empty() {
        return Err(TokenError::SignatureBad);
    }
    let Ok(Value::Object(payload)) = serde_json::from_slice(&decode(payload)?) else {
        return Err(TokenError::Malformed("the payload is no JSON object"));
    };
    // RFC 8725 3.10: `jwk`, `jku`, `x5u` and `x5c` are not even read; the key is the issuer's, by `kid`.
    Ok(Parsed {
        message,
        signature,
        kid: header.kid,
        payload,
    })
}

impl Parsed<'_> {
    /// Which key the token says it was signed with.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Which version the token says it has: only to choose issuer and keys, which must then fit.
    #[must_use]
    pub fn version_hint(&self) -> Version {
        match self.payload.get("ver").and_then(Value::as_str) {
            Some("1.0") => Version::V1,
            _ => Version::V2,
        }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`TokenError::SignatureBad`].
    pub fn verify(self, key: &Key) -> Result<Payload, TokenError> {
        let good = jsonwebtoken::crypto::verify(
            self.signature,
            self.message.as_bytes(),
            &key.decoding,
            Algorithm::RS256,
        );
        match good {
            Ok(true) => Ok(Payload {
                claims: self.payload,
                key_issuer: key.issuer.clone(),
            }),
            Ok(false) | Err(_) => Err(TokenError::SignatureBad),
        }
    }
}

/// Checks the claims (OpenID Connect Core 3.1.3.7; Entra's claims validation) and returns what they say.
///
/// # Errors
/// The first rule that does not hold.
pub fn check(
    payload: &Payload,
    expected: &Expected<'_>,
    settings: &Settings,
    now: i64,
) -> Result<Claims, TokenError> {
    let claims = &payload.claims;
    let tid = check_issuer(payload, expected, settings)?;
    check_audience(claims, expected, settings)?;
    check_times(claims, settings, now)?;
    match expected.nonce {
        Nonce::Exactly(nonce) => {
            // OpenID Connect Core 3.1.3.7 (11).
            let found = text(claims, "nonce").ok_or(TokenError::ClaimMissing("nonce"))?;
            if found != nonce {
                return Err(TokenError::NonceWrong);
            }
        }
        Nonce::NotExpected => {}
    }
    check_kind(claims, expected)?;
    let oid = guid(claims, &settings.claims.oid, "oid")?;
    read(claims, PersonId { tid, oid }, settings)
}

fn check_issuer(
    payload: &Payload,
    expected: &Expected<'_>,
    settings: &Settings,
) -> Result<Uuid, TokenError> {
    let claims = &payload.claims;
    let iss = text(claims, "iss").ok_or(TokenError::ClaimMissing("iss"))?;
    let tid_text = text(claims, &settings.claims.tid).ok_or(TokenError::ClaimMissing("tid"))?;
    let tid = guid(claims, &settings.claims.tid, "tid")?;
    // OpenID Connect Core 3.1.3.7 (2): exactly the issuer; the template's GUID is the token's own `tid`, which must
    // then be on the list.
    let fill = |template: &str| template.replace(TENANT_TEMPLATE, &tid.to_string());
    if iss != fill(expected.issuer) {
        return Err(TokenError::issuer(iss));
    }
    // SECURITY: the same keys sign for every tenant of Entra; only this line keeps the other tenants out.
    if !settings.allows_tenant(tid) {
        return Err(TokenError::TenantWrong(bounded(tid_text)));
    }
    // Entra: a key may be published for one issuer only. Named is the v2 issuer, also for keys that sign v1 tokens.
    if let Some(key_issuer) = &payload.key_issuer {
        let named = fill(key_issuer);
        if named != iss && named != fill(&settings.issuer) {
            return Err(TokenError::issuer(key_issuer));
        }
    }
    Ok(tid)
}

fn check_audience(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    settings: &Settings,
) -> Result<(), TokenError> {
    let aud = claims.get("aud").ok_or(TokenError::ClaimMissing("aud"))?;
    let found: Vec<&str> = match aud {
        Value::String(one) => vec![one],
        Value::Array(many) => many
            .iter()
            .map(|one| one.as_str().ok_or(TokenError::ClaimBad("aud")))
            .collect::<Result<_, _>>()?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(TokenError::ClaimBad("aud"));
        }
    };
    // OpenID Connect Core 3.1.3.7 (3); RFC 8725 3.9.
    if !found
        .iter()
        .any(|one| expected.audiences.iter().any(|ours| ours == one))
    {
        return Err(TokenError::AudienceWrong(bounded(&found.join(" "))));
    }
    // OpenID Connect Core 3.1.3.7 (4, 5): several audiences need an authorized party, and in an ID token it is us.
    let azp = text(claims, "azp");
    let azp_is_us = azp.is_some_and(|azp| azp == settings.client_id);
    if (found.len() > 1 || (expected.id_token && claims.contains_key("azp"))) && !azp_is_us {
        return Err(TokenError::AuthorizedPartyWrong(bounded(
            azp.unwrap_or_default(),
        )));
    }
    Ok(())
}

fn check_times(
    claims: &Map<String, Value>,
    settings: &Settings,
    now: i64,
) -> Result<(), TokenError> {
    let skew = i64::try_from(settings.skew.as_secs()).unwrap_or(0);
    let exp = instant(claims, "exp")?.ok_or(TokenError::ClaimMissing("exp"))?;
    // RFC 7519 4.1.4: "on or after" the time the token must not be accepted.
    if now >= exp.saturating_add(skew) {
        return Err(TokenError::Expired { exp, now });
    }
    let iat = instant(claims, "iat")?.ok_or(TokenError::ClaimMissing("iat"))?;
    let nbf = instant(claims, "nbf")?;
    for (claim, at) in [("iat", Some(iat)), ("nbf", nbf)] {
        // RFC 7519 4.1.5.
        if let Some(at) = at.filter(|at| *at > now.saturating_add(skew)) {
            return Err(TokenError::NotYetValid { claim, at, now });
        }
    }
    Ok(())
}

fn check_kind(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenError> {
    match (text(claims, "ver"), expected.version) {
        (None | Some("2.0"), Version::V2) | (Some("1.0"), Version::V1) => {}
        (other, Version::V1 | Version::V2) => {
            return Err(TokenError::VersionWrong(bounded(other.unwrap_or_default())));
        }
    }
    // Entra: `idtyp` = `app` means that no person stands behind the token.
    if text(claims, "idtyp") == Some("app") {
        return Err(TokenError::WithoutPerson);
    }
    // Delegated access tokens carry `scp` (`scope` elsewhere). App-only tokens do not, and neither do ID tokens.
    // SECURITY: without this line an ID token, which has the same `aud` as a v2 access token for ourselves, would open
    // the API to whoever saw it.
    if !expected.id_token && !claims.contains_key("scp") && !claims.contains_key("scope") {
        // Entra puts the service principal's id into both `oid` and `sub` of an app-only token.
        let oid = text(claims, "oid");
        if oid.is_some() && oid == text(claims, "sub") {
            return Err(TokenError::WithoutPerson);
        }
        return Err(TokenError::ClaimMissing("scp"));
    }
    Ok(())
}

fn read(
    claims: &Map<String, Value>,
    person: PersonId,
    settings: &Settings,
) -> Result<Claims, TokenError> {
    let names = &settings.claims;
    let owned = |name: &str| {
        text(claims, name)
            .map(str::to_owned)
            .filter(|value| !value.is_empty())
    };
    let onprem_sid = match owned(&names.onprem_sid) {
        // An unreadable SID must not turn an employee into a person without an account.
        Some(sid) => Some(
            sid.parse()
                .map_err(|_| TokenError::ClaimBad("onprem_sid"))?,
        ),
        None => None,
    };
    Ok(Claims {
        person,
        home: home(text(claims, &names.idp), person.tid, settings),
        guest: guest(claims.get(&names.acct)),
        display_name: owned(&names.name),
        given_name: owned("given_name"),
        family_name: owned("family_name"),
        email: owned(&names.email),
        upn: owned(&names.upn),
        // v1 tokens call it `unique_name`.
        preferred_username: owned("preferred_username").or_else(|| owned("unique_name")),
        roles: strings(claims.get(&names.roles)),
        groups: groups(claims, &names.groups),
        onprem_sid,
        session_id: owned("sid"),
        login_hint: owned("login_hint"),
    })
}

/// Where the person signs in at home.
fn home(idp: Option<&str>, tid: Uuid, settings: &Settings) -> Home {
    let Some(idp) = idp.filter(|idp| !idp.is_empty()) else {
        return Home::Own; // absent: the issuer itself
    };
    let own_names = [
        Some(settings.issuer.as_str()),
        settings.issuer_v1.as_ref().map(|v1| v1.issuer.as_str()),
    ];
    if own_names
        .into_iter()
        .flatten()
        .any(|name| name.replace(TENANT_TEMPLATE, &tid.to_string()) == idp)
    {
        return Home::Own;
    }
    match entra_tenant(idp) {
        Some(home) if home == tid => Home::Own,
        Some(MICROSOFT_ACCOUNTS) => Home::Provider("live.com".to_owned()),
        Some(home) => Home::Tenant(home),
        None => Home::Provider(idp.to_owned()),
    }
}

/// The GUID in Entra's names for a tenant: `https://sts.windows.net/<guid>/`, `https://login…/<guid>/v2.0`.
fn entra_tenant(idp: &str) -> Option<Uuid> {
    let url = Url::parse(idp).ok()?;
    // SECURITY: a partner's SAML provider chooses its own URI; `https://evil.example/<our tenant>/` must not be read as
    // our tenant.
    let host = url.host_str()?;
    if url.scheme() != "https" || !ENTRA_HOSTS.contains(&host) {
        return None;
    }
    url.path_segments()?.next()?.parse().ok()
}

fn guest(acct: Option<&Value>) -> Option<bool> {
    match acct? {
        Value::Number(n) => n.as_u64().map(|n| n == 1),
        Value::String(text) => match text.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn groups(claims: &Map<String, Value>, name: &str) -> Groups {
    let truthy = |value: &Value| value == &Value::Bool(true) || value == "true";
    // SECURITY: an overage must never be read as "no groups" (a `deny` rule would not fit). The URL in
    // `_claim_sources` is not followed: Graph is asked at the configured address.
    let elsewhere = claims
        .get("_claim_names")
        .and_then(Value::as_object)
        .is_some_and(|names| names.contains_key(name));
    if elsewhere || claims.get("hasgroups").is_some_and(truthy) {
        return Groups::Overage;
    }
    // Entra can be told to send names instead of object ids; only ids are compared here.
    Groups::Listed(
        strings(claims.get(name))
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
    )
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(many)) => many
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

fn guid(
    claims: &Map<String, Value>,
    name: &str,
    known_as: &'static str,
) -> Result<Uuid, TokenError> {
    let value = claims.get(name).ok_or(TokenError::ClaimMissing(known_as))?;
    let text = value.as_str().ok_or(TokenError::ClaimBad(known_as))?;
    // The plain form only: braces, URNs and missing hyphens name no Entra object.
    match Uuid::try_parse(text) {
        Ok(id) if text.len() == 36 && !id.is_nil() => Ok(id),
        Ok(_) | Err(_) => Err(TokenError::ClaimBad(known_as)),
    }
}

fn instant(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        // RFC 7519 2: NumericDate may have a fraction; it is cut off.
        Some(Value::Number(n)) => n
            .as_i64()
            .or_else(|| {
                n.as_f64()
                    .filter(|f| f.is_finite() && f.abs() < 1e15)
                    .and_then(|f| format!("{:.0}", f.trunc()).parse().ok())
            })
            .map(Some)
            .ok_or(TokenError::ClaimBad(name)),
        Some(
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => Err(TokenError::ClaimBad(name)),
    }
}

/// A guest in 200 groups has a token of about 9 kB.
const MAX_TOKEN: usize = 64 * 1024;
/// The tenant of all Microsoft accounts (outlook.com, live.com, …).
const MICROSOFT_ACCOUNTS: Uuid = Uuid::from_u128(0x9188_040d_6c67_4c5b_b112_36a3_04b6_6dad);
const ENTRA_HOSTS: &[&str] = &[
    "sts.windows.net",
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "sts.chinacloudapi.cn",
    "login.windows.net",
];

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
