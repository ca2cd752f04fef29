//! What the gateway is told about its issuer. Every field has a default except tenant, client id and credential.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::EncodingKey;
use url::Url;
use uuid::Uuid;

use super::error::Error;
use crate::model::secret::Secret;

/// The issuer and our registration with it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss` of ID tokens and v2 access tokens, exactly. Entra: `https://login.microsoftonline.com/<tenant>/v2.0`;
    /// with several tenants `{tenantid}` stands for the GUID.
    pub issuer: String,
    /// Where the metadata is; default: issuer + `/.well-known/openid-configuration`.
    pub metadata_url: Option<Url>,
    /// The issuer of v1 access tokens; `None` = v1 tokens are refused. Default for Entra: `https://sts.windows.net/<tenant>/`.
    pub issuer_v1: Option<IssuerV1>,
    /// Our tenant.
    pub tenant: Uuid,
    /// Tenants whose tokens are accepted; empty (the default) = only `tenant`.
    pub allowed_tenants: Vec<Uuid>,
    /// Our client id.
    pub client_id: String,
    /// How we prove to be that client.
    pub credential: Credential,
    /// `scope` of the sign-in; default `openid profile email offline_access`.
    pub scope: String,
    /// `domain_hint` of the sign-in; default none.
    pub domain_hint: Option<String>,
    /// `prompt` of the sign-in; default none.
    pub prompt: Option<String>,
    /// Names of the claims; default: Entra's.
    pub claims: ClaimNames,
    /// Accepted difference of the clocks; default 5 min, more is refused.
    pub skew: Duration,
    /// Background refresh of metadata and keys; default 1 h.
    pub keys_every: Duration,
    /// An unknown `kid` causes at most one fetch in this time; default 5 min.
    pub unknown_key_every: Duration,
    /// Whom the connection to the issuer trusts.
    pub trust: Trust,
}

/// The issuer of v1 access tokens.
#[derive(Clone, Debug)]
pub struct IssuerV1 {
    /// `iss`, exactly.
    pub issuer: String,
    /// Where its metadata is.
    pub metadata_url: Url,
}

/// Proof of the client's identity at the token endpoint.
#[derive(Clone)]
pub enum Credential {
    /// `client_secret` in the form body.
    Secret(Secret<String>),
    /// `private_key_jwt`, PS256, with `x5t#S256`: Microsoft's certificate credential.
    Certificate {
        /// The RSA private key.
        key: EncodingKey,
        /// base64url of the certificate's SHA-256.
        thumbprint: String,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(***)"),
            Self::Certificate { thumbprint, .. } => write!(f, "Certificate({thumbprint})"),
        }
    }
}

impl Credential {
    /// A certificate credential from PEM texts.
    ///
    /// # Errors
    /// No RSA private key in `key_pem`, or no certificate in `certificate_pem`.
    pub fn from_pem(key_pem: &Secret<String>, certificate_pem: &str) -> Result<Self, Error> {
        use base64::Engine;
        let wrong = |setting, why: String| Error::Setting {
            setting,
            value: "PEM".to_owned(),
            why,
        };
        let key = EncodingKey::from_rsa_pem(key_pem.expose().as_bytes())
            .map_err(|e| wrong("client_key", e.to_string()))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|e| wrong("client_certificate", e.to_string()))?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pem.contents);
        Ok(Self::Certificate {
            key,
            thumbprint: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest),
        })
    }
}

/// How to reach the issuer.
#[derive(Clone, Debug)]
pub struct Trust {
    /// A PEM file of further root certificates, for an issuer with a private CA; default none.
    pub ca_file: Option<PathBuf>,
    /// Addresses of hosts without DNS; default none. Names under `localhost` are the loopback address anyway.
    pub hosts: BTreeMap<String, IpAddr>,
    /// An HTTP proxy for the way to the issuer; default none. The environment's proxy variables are not used.
    pub proxy: Option<Url>,
    /// Time to connect; default 3 s.
    pub connect: Duration,
    /// Time of a whole exchange; default 10 s.
    pub total: Duration,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            ca_file: None,
            hosts: BTreeMap::new(),
            proxy: None,
            connect: Duration::from_secs(3),
            total: Duration::from_secs(10),
        }
    }
}

/// Names of the claims, so that another OpenID provider can stand in.
#[derive(Clone, Debug)]
pub struct ClaimNames {
    /// The tenant's GUID; default `tid`.
    pub tid: String,
    /// The person's GUID; default `oid`.
    pub oid: String,
    /// The home provider; default `idp`.
    pub idp: String,
    /// Guest flag; default `acct`.
    pub acct: String,
    /// App roles; default `roles`.
    pub roles: String,
    /// Group ids; default `groups`.
    pub groups: String,
    /// On-premises SID; default `onprem_sid`.
    pub onprem_sid: String,
    /// Display name; default `name`.
    pub name: String,
    /// Cloud UPN; default `upn`.
    pub upn: String,
    /// E-mail; default `email`.
    pub email: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            tid: "tid".to_owned(),
            oid: "oid".to_owned(),
            idp: "idp".to_owned(),
            acct: "acct".to_owned(),
            roles: "roles".to_owned(),
            groups: "groups".to_owned(),
            onprem_sid: "onprem_sid".to_owned(),
            name: "name".to_owned(),
            upn: "upn".to_owned(),
            email: "email".to_owned(),
        }
    }
}

/// Version of a token, which decides issuer and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `ver` 1.0: `sts.windows.net`.
    V1,
    /// `ver` 2.0, and any provider that sends no `ver`.
    V2,
}

impl Settings {
    /// Entra ID with one tenant.
    ///
    /// # Errors
    /// Never for a GUID; the signature leaves room for a different cloud.
    pub fn entra(tenant: Uuid, client_id: String, credential: Credential) -> Result<Self, Error> {
        let login = "https://login.microsoftonline.com";
        Ok(Self {
            issuer: format!("{login}/{tenant}/v2.0"),
            metadata_url: None,
            issuer_v1: Some(IssuerV1 {
                issuer: format!("https://sts.windows.net/{tenant}/"),
                metadata_url: https(
                    "metadata_url",
                    &format!("{login}/{tenant}/.well-known/openid-configuration"),
                )?,
            }),
            tenant,
            allowed_tenants: Vec::new(),
            client_id,
            credential,
            scope: "openid profile email offline_access".to_owned(),
            domain_hint: None,
            prompt: None,
            claims: ClaimNames::default(),
            skew: MAX_SKEW,
            keys_every: Duration::from_secs(3600),
            unknown_key_every: Duration::from_secs(300),
            trust: Trust::default(),
        })
    }

    /// True when a token of tenant `tid` may be accepted.
    #[must_use]
    pub fn allows_tenant(&self, tid: Uuid) -> bool {
        if self.allowed_tenants.is_empty() {
            tid == self.tenant
        } else {
            self.allowed_tenants.contains(&tid)
        }
    }

    /// Where the metadata of `version` is.
    ///
    /// # Errors
    /// The issuer is no https URL.
    pub fn metadata_url(&self, version: Version) -> Result<Url, Error> {
        match (version, &self.issuer_v1, &self.metadata_url) {
            (Version::V1, Some(v1), _) => Ok(v1.metadata_url.clone()),
            (_, _, Some(url)) => Ok(url.clone()),
            (_, _, None) => {
                // OpenID Connect Discovery 4: the issuer without a trailing slash, then the well-known path.
                let issuer = self
                    .issuer
                    .trim_end_matches('/')
                    .replace(TENANT_TEMPLATE, "organizations");
                https(
                    "issuer",
                    &format!("{issuer}/.well-known/openid-configuration"),
                )
            }
        }
    }

    /// Refuses settings that would weaken the checks.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |setting, value: &str, why: &str| Error::Setting {
            setting,
            value: value.to_owned(),
            why: why.to_owned(),
        };
        https("issuer", &self.issuer)?;
        for url in [
            self.metadata_url.as_ref(),
            self.issuer_v1.as_ref().map(|v1| &v1.metadata_url),
        ] {
            if let Some(url) = url.filter(|url| url.scheme() != "https") {
                return Err(wrong("metadata_url", url.as_str(), "not an https URL"));
            }
        }
        if self.skew > MAX_SKEW {
            return Err(wrong(
                "skew",
                &format!("{}s", self.skew.as_secs()),
                "more than 5 minutes",
            ));
        }
        if self.client_id.is_empty() {
            return Err(wrong("client_id", "", "empty"));
        }
        let template = self.issuer.contains(TENANT_TEMPLATE);
        // SECURITY: a templated issuer without a list of tenants would let in anybody's tenant.
        if template && self.allowed_tenants.is_empty() {
            return Err(wrong(
                "issuer",
                &self.issuer,
                "a template needs `allowed_tenants`",
            ));
        }
        if !template && !self.allowed_tenants.is_empty() {
            return Err(wrong(
                "allowed_tenants",
                &self.issuer,
                "several tenants need an issuer with {tenantid}",
            ));
        }
        if !self
            .scope
            .split_ascii_whitespace()
            .any(|part| part == "openid")
        {
            return Err(wrong("scope", &self.scope, "`openid` is missing"));
        }
        Ok(())
    }
}

/// Parses `value`, which must be an https URL.
///
/// # Errors
/// It is not; `setting` is named.
pub fn https(setting: &'static str, value: &str) -> Result<Url, Error> {
    let wrong = |why: String| Error::Setting {
        setting,
        value: value.to_owned(),
        why,
    };
    let url = Url::parse(value).map_err(|e| wrong(e.to_string()))?;
    if url.scheme() == "https" && url.host_str().is_some() {
        Ok(url)
    } else {
        Err(wrong("not an https URL".to_owned()))
    }
}

/// Stands for the tenant's GUID in the issuer of a registration with several tenants.
pub const TENANT_TEMPLATE: &str = "{tenantid}";

const MAX_SKEW: Duration = Duration::from_secs(300);
