//! Discovery and the cache of keys, for one token version of the issuer.
//!
//! # Why like this
//! Keys may roll over at any moment, so an unknown `kid` fetches them again; but `kid` comes from the token, so anybody
//! could make the gateway hammer the issuer: one fetch at a time, and at most one in `unknown_key_every`.
//! What was fetched last stays good until something better arrives.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::client::Client;
use super::error::Error;
use super::error::TokenError;
use super::keys::Key;
use super::keys::KeySet;
use super::settings::Settings;
use super::settings::Version;
use super::settings::https;

/// What the metadata says, as far as it is used.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Where the browser is sent to sign in.
    pub authorization_endpoint: Url,
    /// Where codes and refresh tokens are redeemed.
    pub token_endpoint: Url,
    /// Where the browser is sent to sign out.
    pub end_session_endpoint: Option<Url>,
    /// RFC 9207: responses carry `iss`.
    pub iss_parameter: bool,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Out of a request: its `kid` is anybody's invention.
    Anybody,
    /// From the token endpoint, over a verified connection: an unknown `kid` means a new key, and a flood of invented
    /// ones must not keep people from signing in with it.
    Issuer,
}

/// Metadata and keys of one token version.
#[derive(Debug)]
pub struct Provider {
    metadata_url: Url,
    issuer: String,
    client: Client,
    unknown_key_every: Duration,
    known: ArcSwapOption<Known>,
    gate: Mutex<Gate>,
}

#[derive(Debug)]
struct Known {
    metadata: Metadata,
    keys: KeySet,
}

/// Held by whoever fetches; all others wait for the result.
#[derive(Debug, Default)]
struct Gate {
    unknown_key_fetch: Option<Instant>,
    new_key_fetch: Option<Instant>,
    failed: Option<(Instant, Error)>,
}

impl Provider {
    /// A provider that knows nothing yet.
    ///
    /// # Errors
    /// The metadata's address is no https URL.
    pub fn new(settings: &Settings, version: Version, client: Client) -> Result<Self, Error> {
        let issuer = match (version, &settings.issuer_v1) {
            (Version::V1, Some(v1)) => v1.issuer.clone(),
            (Version::V1, None) | (Version::V2, _) => settings.issuer.clone(),
        };
        Ok(Self {
            metadata_url: settings.metadata_url(version)?,
            issuer,
            client,
            unknown_key_every: settings.unknown_key_every,
            known: ArcSwapOption::empty(),
            gate: Mutex::default(),
        })
    }

    /// `iss` of its tokens, possibly with the tenant template.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// True once metadata and keys were fetched.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known.load().is_some()
    }

    /// Fetches now.
    ///
    /// # Errors
    /// The issuer did not answer as it should; what was known stays known.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut gate = self.gate.lock().await;
        self.fetch(&mut gate).await.map(drop)
    }

    /// The metadata, fetched if it is not known yet.
    ///
    /// # Errors
    /// It is not known and the issuer did not answer as it should.
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        Ok(self.known().await?.metadata.clone())
    }

    /// The key named `kid`, fetched if it is not known and the rate allows.
    ///
    /// # Errors
    /// [`TokenError::KeyUnknown`], [`TokenError::KeyAmbiguous`], or the issuer did not answer and nothing is known.
    pub async fn key(&self, kid: Option<&str>, from: From) -> Result<Key, Error> {
        match self.known().await?.keys.find(kid) {
            Err(TokenError::KeyUnknown(unknown)) => {
                let keys = self.look_again(from).await?;
                keys.find(kid)
                    .map_err(|_| TokenError::KeyUnknown(unknown).into())
            }
            found => Ok(found?),
        }
    }

    async fn known(&self) -> Result<Arc<Known>, Error> {
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        let mut gate = self.gate.lock().await;
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        // Start-up against a dead issuer: one attempt at a time and a short rest, so that waiting requests do not queue
        // up one time-out behind the other.
        if let Some((at, error)) = &gate.failed
            && at.elapsed() < REST_AFTER_FAILURE
        {
            return Err(error.clone());
        }
        self.fetch(&mut gate).await
    }

    async fn look_again(&self, from: From) -> Result<KeySet, Error> {
        // Somebody is fetching at this moment: what they bring is as new as what we would.
        let waited = self.gate.try_lock().is_err();
        let mut gate = self.gate.lock().await;
        let (last, pause) = match from {
            From::Anybody => (gate.unknown_key_fetch, self.unknown_key_every),
            From::Issuer => (gate.new_key_fetch, REST_AFTER_NEW_KEY),
        };
        let fresh_enough = last.is_some_and(|at| at.elapsed() < pause);
        // SECURITY: `kid` is the attacker's choice; without this line a flood of random ones reaches the issuer.
        if fresh_enough || waited {
            return Ok(self
                .known
                .load_full()
                .map_or_else(KeySet::default, |known| known.keys.clone()));
        }
        match from {
            From::Anybody => gate.unknown_key_fetch = Some(Instant::now()),
            From::Issuer => gate.new_key_fetch = Some(Instant::now()),
        }
        match self.fetch(&mut gate).await {
            Ok(known) => Ok(known.keys.clone()),
            Err(error) => {
                tracing::warn!(%error, "keys not refreshed for an unknown kid, keeping the last known good");
                Ok(self
                    .known
                    .load_full()
                    .map_or_else(KeySet::default, |known| known.keys.clone()))
            }
        }
    }

    async fn fetch(&self, gate: &mut Gate) -> Result<Arc<Known>, Error> {
        match self.fetch_once().await {
            Ok(known) => {
                gate.failed = None;
                let known = Arc::new(known);
                self.known.store(Some(Arc::clone(&known)));
                Ok(known)
            }
            Err(error) => {
                gate.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch_once(&self) -> Result<Known, Error> {
        let url = self.metadata_url.as_str();
        let document: Document = self.client.json(url, MAX_DOCUMENT).await?;
        // OpenID Connect Discovery 4.3: the issuer in the metadata must be the one asked for.
        if document.issuer != self.issuer {
            return Err(Error::IssuerMismatch {
                url: url.to_owned(),
                found: super::error::bounded(&document.issuer),
                wanted: self.issuer.clone(),
            });
        }
        let metadata = Metadata {
            authorization_endpoint: https(
                "authorization_endpoint",
                &document.authorization_endpoint,
            )?,
            token_endpoint: https("token_endpoint", &document.token_endpoint)?,
            end_session_endpoint: match &document.end_session_endpoint {
                Some(end) => Some(https("end_session_endpoint", end)?),
                None => None,
            },
            iss_parameter: document.authorization_response_iss_parameter_supported,
            jwks_uri: https("jwks_uri", &document.jwks_uri)?,
        };
        let jwks_url = metadata.jwks_uri.as_str();
        let jwks: serde_json::Value = self.client.json(jwks_url, MAX_DOCUMENT).await?;
        let unusable = |why: String| Error::Answer {
            url: jwks_url.to_owned(),
            why,
        };
        let keys = KeySet::parse(&jwks).map_err(unusable)?;
        // Keeping the last known good beats replacing it by nothing.
        if keys.is_empty() {
            return Err(unusable("no key that may sign RS256".to_owned()));
        }
        Ok(Known { metadata, keys })
    }
}

/// Entra's documents are about 2 kB and 20 kB.
const MAX_DOCUMENT: usize = 1024 * 1024;
const REST_AFTER_NEW_KEY: Duration = Duration::from_secs(5);
const REST_AFTER_FAILURE: Duration = Duration::from_secs(3);
