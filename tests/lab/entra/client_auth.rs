//! How the application proves itself at the token endpoint: a secret (in the body or as HTTP
//! Basic) or a signed assertion (RFC 7523, PS256 with the registered certificate).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::entra::Emulator;
use crate::entra::error::AadError;
use crate::entra::keys::b64;
use crate::entra::params::Params;
use crate::serve::Failure;

/// A certificate registered for the application.
pub struct RegisteredCertificate {
    thumbprint: String,
    public_key: Vec<u8>,
}

impl RegisteredCertificate {
    /// From PEM.
    pub fn new(pem: &[u8]) -> Result<Self, Failure> {
        let der = CertificateDer::from_pem_slice(pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)?;
        Ok(Self {
            thumbprint: b64(digest(&SHA256, &der)),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// How the application proved itself: the value of `appidacr` and `azpacr`.
#[derive(Clone, Copy)]
pub enum Proof {
    Secret,
    Certificate,
}

impl Proof {
    pub fn level(self) -> &'static str {
        match self {
            Self::Secret => "1",
            Self::Certificate => "2",
        }
    }
}

impl Emulator {
    /// Which kind of proof was given, or the refusal.
    pub fn client(&self, headers: &HeaderMap, params: &Params) -> Result<Proof, AadError> {
        let basic = basic(headers)?;
        if basic.is_some() && (params.get("client_secret").is_some()) {
            let text = "The request contains more than one client credential.";
            return Err(AadError::new(7_000_219, "invalid_request", text));
        }
        let (client, secret) = match basic {
            Some((client, secret)) => (client, Some(secret)),
            None => {
                let client = params.require("client_id")?.to_owned();
                (client, params.get("client_secret").map(str::to_owned))
            }
        };
        if client != self.client_id {
            return Err(AadError::unknown_client(&client, &self.tenant));
        }
        match (secret, params.get("client_assertion")) {
            (Some(given), None) => self.secret(&given),
            (None, Some(assertion)) => {
                if params.get("client_assertion_type") != Some(JWT_BEARER) {
                    return Err(AadError::missing("client_assertion_type"));
                }
                self.assertion(assertion)
            }
            (Some(_), Some(_)) => {
                let text = "The request contains more than one client credential.";
                Err(AadError::new(7_000_219, "invalid_request", text))
            }
            (None, None) => {
                let text = "The request body must contain the following parameter: \
                            'client_assertion' or 'client_secret'.";
                Err(AadError::new(7_000_218, "invalid_client", text).unauthorized())
            }
        }
    }

    fn secret(&self, given: &str) -> Result<Proof, AadError> {
        let right = self.client_secret.as_deref().unwrap_or_default();
        if !right.is_empty() && bool::from(right.as_bytes().ct_eq(given.as_bytes())) {
            return Ok(Proof::Secret);
        }
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the \
             client secret value, not the client secret ID, for a secret added to app '{}'.",
            self.client_id
        );
        Err(AadError::new(7_000_215, "invalid_client", text).unauthorized())
    }

    fn assertion(&self, assertion: &str) -> Result<Proof, AadError> {
        let malformed = || {
            let text = "Client assertion is malformed or invalid.";
            AadError::new(50_027, "invalid_client", text).unauthorized()
        };
        let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
        let json = |text: &str| {
            part(text)
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|_| malformed()))
        };
        let (header, claims, signature) = (json(header)?, json(claims)?, part(signature)?);
        let padding: &'static RsaParameters = match header["alg"].as_str() {
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(malformed()),
        };
        let named = header["x5t#S256"].as_str();
        let verified = self.client_certs.iter().any(|certificate| {
            named == Some(certificate.thumbprint.as_str())
                && UnparsedPublicKey::new(padding, &certificate.public_key)
                    .verify(signed.as_bytes(), &signature)
                    .is_ok()
        });
        if !verified {
            let text = "The certificate with identifier used to sign the client assertion is not \
                        registered on application, or its signature does not verify.";
            return Err(AadError::new(700_027, "invalid_client", text).unauthorized());
        }
        self.assertion_claims(&claims)
    }

    fn assertion_claims(&self, claims: &Value) -> Result<Proof, AadError> {
        let endpoint = format!("{}/{}/oauth2/v2.0/token", self.public_url, self.tenant);
        let audience = claims["aud"].as_str();
        if audience != Some(&endpoint) && audience != Some(&self.issuer_v2()) {
            let text = "Client assertion audience claim does not match Realm issuer.";
            return Err(AadError::new(700_023, "invalid_client", text).unauthorized());
        }
        if ["iss", "sub"]
            .iter()
            .any(|name| claims[*name].as_str() != Some(&self.client_id))
        {
            let text = "Client assertion issuer or subject is not the client id.";
            return Err(AadError::new(700_021, "invalid_client", text).unauthorized());
        }
        if claims["jti"].as_str().is_none_or(str::is_empty) {
            let text = "Client assertion is malformed or invalid: it has no 'jti'.";
            return Err(AadError::new(50_027, "invalid_client", text).unauthorized());
        }
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        // Microsoft asks for 5 to 10 minutes; a longer life is a credential by itself.
        let short = claims["exp"].as_i64().is_some_and(|exp| exp <= now + 900);
        let in_time = short
            && claims["exp"].as_i64().is_some_and(|exp| exp > now - 300)
            && claims["nbf"].as_i64().unwrap_or(now) < now + 300;
        if !in_time {
            let text = "Client assertion is not within its valid time range.";
            return Err(AadError::new(700_024, "invalid_client", text).unauthorized());
        }
        Ok(Proof::Certificate)
    }
}

/// RFC 6749 2.3.1: both halves are form-encoded before they are joined.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, AadError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let malformed = || AadError::new(9_002_313, "invalid_request", "Invalid request.");
    let text = value.to_str().map_err(|_| malformed())?;
    let text = text.strip_prefix("Basic ").ok_or_else(malformed)?;
    let decoded = STANDARD.decode(text.trim()).map_err(|_| malformed())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (client, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    let plain = |half: &str| {
        let pair = format!("x={half}");
        let first = url::form_urlencoded::parse(pair.as_bytes()).next();
        first
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    Ok(Some((plain(client), plain(secret))))
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
