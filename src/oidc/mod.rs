//! OpenID Connect towards one issuer: discovery, keys, token validation, the code flow.
//!
//! In: settings, and texts from the network (tokens, codes, metadata). Out: `Claims` of a validated token, or an
//! [`Error`] that names exactly what was wrong. Knows nothing of applications, sessions or HTTP answers of ours.
//!
//! Specifications: OpenID Connect Core 1.0 (3.1.3.7 above all) and Discovery 1.0, RFC 6749, RFC 7519, RFC 7636,
//! RFC 8725, RFC 9207; Microsoft's token and key roll-over rules.
//!
//! # Why by hand
//! Entra signs two kinds of tokens (v1 and v2) with two issuers, and a tenant-independent issuer is a template. General
//! libraries compare strings and fail there. The rules are few, and each stands beside its check in `token.rs`.

pub mod client;
pub mod code_flow;
pub mod error;
pub mod keys;
pub mod metadata;
pub mod settings;
#[cfg(test)]
pub mod test_issuer;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use error::Error;
pub use error::TokenError;
pub use settings::Settings;

use crate::model::claims::Claims;
use crate::model::clock::Clock;

use client::Client;
use metadata::From;
use metadata::Provider;
use settings::Version;
use token::Expected;

/// One issuer, as the gateway knows it: its endpoints, its keys, and our registration with it.
#[derive(Debug)]
pub struct Issuer {
    settings: Settings,
    clock: Clock,
    client: Client,
    v2: Provider,
    v1: Option<Provider>,
}

impl Issuer {
    /// Prepares the issuer; nothing is fetched before [`Issuer::keep_fresh`] or the first use.
    ///
    /// # Errors
    /// A setting is unusable: a URL that is not https, an unreadable root certificate or client key.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, Error> {
        settings.check()?;
        let client = Client::new(&settings.trust)?;
        let v2 = Provider::new(&settings, Version::V2, client.clone())?;
        let v1 = match &settings.issuer_v1 {
            Some(_) => Some(Provider::new(&settings, Version::V1, client.clone())?),
            None => None,
        };
        Ok(Self {
            settings,
            clock,
            client,
            v2,
            v1,
        })
    }

    /// The settings it was made from.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The issuer's name, as it must stand in `iss` of an ID token.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.issuer
    }

    /// The HTTP client that trusts what the settings say: https only, no redirects.
    #[must_use]
    pub fn http(&self) -> reqwest::Client {
        self.client.http()
    }

    /// Fetches metadata and keys now, and again for ever: hourly, and soon after a failure. Never returns.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut pause = RETRY_FIRST;
        loop {
            let wait = match self.refresh().await {
                Ok(()) => {
                    pause = RETRY_FIRST;
                    self.settings.keys_every
                }
                Err(error) => {
                    tracing::warn!(%error, "issuer metadata not refreshed, keeping the last known good");
                    let wait = pause;
                    pause = (pause * 2).min(RETRY_LAST);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Fetches metadata and keys of each token version now. What is known stays known on failure.
    ///
    /// # Errors
    /// The issuer did not answer, or answered something that does not fit the settings.
    pub async fn refresh(&self) -> Result<(), Error> {
        let v2 = self.v2.refresh().await;
        if let Some(v1) = &self.v1 {
            v1.refresh().await?;
        }
        v2
    }

    /// True when metadata and keys of ID tokens are known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.v2.is_known()
    }

    /// Checks an ID token that the token endpoint gave, and returns what it says.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that is not to be believed; others when its key could not be fetched.
    pub async fn validate_id_token(
        &self,
        token: &str,
        nonce: Option<&str>,
    ) -> Result<Claims, Error> {
        let audience = [self.settings.client_id.clone()];
        let parsed = token::parse(token)?;
        let key = self.v2.key(parsed.kid(), From::Issuer).await?;
        let expected = Expected {
            version: Version::V2,
            issuer: &self.settings.issuer,
            audiences: &audience,
            nonce: nonce.map_or(token::Nonce::NotExpected, token::Nonce::Exactly),
            id_token: true,
        };
        let payload = parsed.verify(&key)?;
        Ok(token::check(
            &payload,
            &expected,
            &self.settings,
            self.clock.unix(),
        )?)
    }

    /// Checks an access token of an API client (v1 or v2) against `audiences`.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that is not to be believed; others when its key could not be fetched.
    pub async fn validate_access_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Claims, Error> {
        let parsed = token::parse(token)?;
        // Entra: pick metadata by the token's `ver`, never by what the client calls. The choice is made before the
        // signature is checked and gives away nothing: keys and issuer of the chosen version must fit exactly.
        let (provider, version, issuer) = match (parsed.version_hint(), &self.v1) {
            (Version::V1, Some(v1)) => (v1, Version::V1, v1.issuer()),
            (Version::V1, None) => return Err(TokenError::VersionWrong("1.0".to_owned()).into()),
            (Version::V2, _) => (&self.v2, Version::V2, self.v2.issuer()),
        };
        let key = provider.key(parsed.kid(), From::Anybody).await?;
        let expected = Expected {
            version,
            issuer,
            audiences,
            nonce: token::Nonce::NotExpected,
            id_token: false,
        };
        let payload = parsed.verify(&key)?;
        Ok(token::check(
            &payload,
            &expected,
            &self.settings,
            self.clock.unix(),
        )?)
    }

    /// Checks the `iss` parameter of an authorization response.
    ///
    /// # Errors
    /// The parameter names another issuer, or is absent although the issuer promises to send it.
    pub async fn check_response_issuer(&self, iss: Option<&str>) -> Result<(), Error> {
        let promised = self.v2.metadata().await?.iss_parameter;
        // RFC 9207 2.4: a response of another issuer is a mix-up attack.
        match iss {
            Some(iss) if iss == self.settings.issuer => Ok(()),
            Some(iss) => Err(TokenError::issuer(iss).into()),
            None if promised => Err(TokenError::ClaimMissing("iss").into()),
            None => Ok(()),
        }
    }

    /// True when `iss` (of a front-channel sign-out) names this issuer, in its v2 or v1 form.
    #[must_use]
    pub fn is_named(&self, iss: &str) -> bool {
        iss == self.settings.issuer
            || self
                .settings
                .issuer_v1
                .as_ref()
                .is_some_and(|v1| iss == v1.issuer)
    }

    /// Where to send the browser to end its session at the issuer; `None` where the issuer offers no such place.
    ///
    /// # Errors
    /// The issuer's metadata is not known and could not be fetched.
    pub async fn end_session_url(
        &self,
        back_to: &Url,
        logout_hint: Option<&str>,
    ) -> Result<Option<Url>, Error> {
        let metadata = self.v2.metadata().await?;
        Ok(metadata.end_session_endpoint.map(|mut url| {
            url.query_pairs_mut()
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("post_logout_redirect_uri", back_to.as_str());
            if let Some(hint) = logout_hint {
                url.query_pairs_mut().append_pair("logout_hint", hint);
            }
            url
        }))
    }
}

const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
