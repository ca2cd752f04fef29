//! The authorization code flow with PKCE (RFC 6749 4.1, RFC 7636), its renewal, and app-only tokens.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::Header;
use serde::Deserialize;
use serde::Serialize;
use url::Url;
use uuid::Uuid;

use super::Issuer;
use super::client::parse;
use super::error::Error;
use super::error::Refusal;
use super::error::bounded;
use super::settings::Credential;
use crate::model::secret::Secret;

/// What one sign-in sends to the authorization endpoint.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeRequest<'a> {
    /// Our callback.
    pub redirect_uri: &'a Url,
    /// Random, one use, bound to the browser.
    pub state: &'a str,
    /// Random; comes back inside the ID token.
    pub nonce: &'a str,
    /// The PKCE verifier; only its hash is sent.
    pub verifier: &'a str,
    /// Fills in the sign-in name.
    pub login_hint: Option<&'a str>,
}

/// What the token endpoint gave.
#[derive(Debug)]
pub struct Tokens {
    /// The ID token, not yet checked.
    pub id_token: Secret<String>,
    /// For renewals, where `offline_access` was granted.
    pub refresh_token: Option<Secret<String>>,
}

/// An app-only access token.
#[derive(Debug)]
pub struct AppToken {
    /// The token, opaque to us.
    pub token: Secret<String>,
    /// How long it lasts.
    pub lasts: Duration,
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<String>,
    refresh_token: Option<String>,
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
    #[serde(default)]
    error_codes: Vec<u32>,
    error_description: Option<String>,
    trace_id: Option<String>,
}

/// A form field whose value is secret.
type Field = (&'static str, Secret<String>);

#[derive(Serialize)]
struct Assertion<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl Issuer {
    /// Where to send the browser to sign in.
    ///
    /// # Errors
    /// The issuer's metadata is not known and could not be fetched.
    pub async fn authorize_url(&self, request: &AuthorizeRequest<'_>) -> Result<Url, Error> {
        let mut url = self.v2.metadata().await?.authorization_endpoint;
        let challenge =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, request.verifier.as_bytes());
        let settings = &self.settings;
        url.query_pairs_mut()
            .append_pair("client_id", &settings.client_id)
            .append_pair("response_type", "code")
            .append_pair("response_mode", "query")
            .append_pair("redirect_uri", request.redirect_uri.as_str())
            .append_pair("scope", &settings.scope)
            .append_pair("state", request.state)
            .append_pair("nonce", request.nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256");
        let optional = [
            ("domain_hint", settings.domain_hint.as_deref()),
            ("prompt", settings.prompt.as_deref()),
            ("login_hint", request.login_hint),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }

    /// Redeems an authorization code.
    ///
    /// # Errors
    /// The issuer refused, or did not answer as it should.
    pub async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &Url,
    ) -> Result<Tokens, Error> {
        let answer = self
            .token_request(&[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("code_verifier", verifier),
                ("redirect_uri", redirect_uri.as_str()),
            ])
            .await?;
        self.tokens(answer).await
    }

    /// Asks for a fresh ID token: the proof that the person is still welcome, with today's roles and groups.
    ///
    /// # Errors
    /// The issuer refused ([`Refusal::is_about_the_person`]), or did not answer as it should.
    pub async fn renew(&self, refresh_token: &Secret<String>) -> Result<Tokens, Error> {
        let answer = self
            .token_request(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token.expose()),
                ("scope", &self.settings.scope),
            ])
            .await?;
        self.tokens(answer).await
    }

    /// An access token of our own, for `scope` (`https://graph.microsoft.com/.default`).
    ///
    /// # Errors
    /// The issuer refused, or did not answer as it should.
    pub async fn app_token(&self, scope: &str) -> Result<AppToken, Error> {
        let answer = self
            .token_request(&[("grant_type", "client_credentials"), ("scope", scope)])
            .await?;
        let token = match answer.access_token {
            Some(token) => Secret::new(token),
            None => return Err(self.unusable("no access_token").await),
        };
        let lasts = match &answer.expires_in {
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
            None => None,
        };
        Ok(AppToken {
            token,
            lasts: Duration::from_secs(lasts.unwrap_or(300).min(86_400)),
        })
    }

    async fn tokens(&self, answer: Answer) -> Result<Tokens, Error> {
        let bearer = answer
            .token_type
            .as_deref()
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        match answer.id_token {
            Some(id_token) if bearer => Ok(Tokens {
                id_token: Secret::new(id_token),
                refresh_token: answer.refresh_token.map(Secret::new),
            }),
            Some(_) => Err(self.unusable("token_type is not Bearer").await),
            None => Err(self
                .unusable("no id_token: is the scope `openid` granted?")
                .await),
        }
    }

    async fn unusable(&self, why: &str) -> Error {
        let url = match self.v2.metadata().await {
            Ok(metadata) => metadata.token_endpoint.to_string(),
            Err(_) => "token endpoint".to_owned(),
        };
        Error::Answer {
            url,
            why: why.to_owned(),
        }
    }

    async fn token_request(&self, grant: &[(&str, &str)]) -> Result<Answer, Error> {
        let endpoint = self.v2.metadata().await?.token_endpoint;
        let proof = self.proof(&endpoint)?;
        let mut form = vec![("client_id", self.settings.client_id.as_str())];
        form.extend_from_slice(grant);
        form.extend(
            proof
                .iter()
                .map(|(name, value)| (*name, value.expose().as_str())),
        );
        let url = endpoint.as_str();
        let (status, body) = self.client.post(url, &form, MAX_ANSWER).await?;
        if status == 200 {
            return parse(url, &body);
        }
        // RFC 6749 5.2: 400 or 401 with a JSON error; anything else is the issuer's trouble, not the person's.
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if matches!(status, 400 | 401 | 403) => {
                Err(Error::Refused(problem.into_refusal()))
            }
            Ok(_) | Err(_) => Err(Error::Status {
                url: url.to_owned(),
                status,
            }),
        }
    }

    fn proof(&self, endpoint: &Url) -> Result<Vec<Field>, Error> {
        match &self.settings.credential {
            Credential::Secret(secret) => Ok(vec![("client_secret", secret.clone())]),
            Credential::Certificate { key, thumbprint } => {
                // RFC 7523 3, in Microsoft's certificate form.
                let now = self.clock.unix();
                let mut header = Header::new(Algorithm::PS256);
                header.x5t_s256 = Some(thumbprint.clone());
                let claims = Assertion {
                    aud: endpoint.as_str(),
                    iss: &self.settings.client_id,
                    sub: &self.settings.client_id,
                    jti: Uuid::new_v4().to_string(),
                    nbf: now.saturating_sub(60),
                    iat: now,
                    exp: now.saturating_add(300),
                };
                let assertion =
                    jsonwebtoken::encode(&header, &claims, key).map_err(|e| Error::Setting {
                        setting: "client_key",
                        value: "***".to_owned(),
                        why: e.to_string(),
                    })?;
                Ok(vec![
                    (
                        "client_assertion_type",
                        Secret::new(ASSERTION_TYPE.to_owned()),
                    ),
                    ("client_assertion", Secret::new(assertion)),
                ])
            }
        }
    }
}

impl Problem {
    fn into_refusal(self) -> Refusal {
        let mut codes = self.error_codes;
        codes.truncate(8);
        if codes.is_empty() {
            codes = entra_codes(self.error_description.as_deref().unwrap_or_default());
        }
        Refusal {
            error: bounded(&self.error),
            codes,
            trace: self.trace_id.as_deref().map(bounded),
        }
    }
}

/// Entra's numbers in an `error_description`. The rest of the text is not kept: it may name people.
#[must_use]
pub fn entra_codes(description: &str) -> Vec<u32> {
    description
        .split("AADSTS")
        .skip(1)
        .take(8)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const MAX_ANSWER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_numbers_and_drops_names() {
        let problem: Problem = serde_json::from_str(
            r#"{"error":"invalid_grant","error_description":"AADSTS50057: The user account jane@x is disabled. Trace",
                "error_codes":[50057],"trace_id":"7f\r\n","correlation_id":"c"}"#,
        )
        .unwrap();
        let refusal = problem.into_refusal();
        assert_eq!(refusal.to_string(), "invalid_grant AADSTS50057 (trace 7f)");
        assert!(refusal.is_about_the_person());
        assert_eq!(
            entra_codes("AADSTS700016: app AADSTS90002 and AADSTSx"),
            [700_016, 90_002]
        );
    }
}
