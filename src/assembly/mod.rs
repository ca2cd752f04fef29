//! From the configuration to each tool's own settings: the only place that knows both.
//!
//! In: a checked [`Config`]. Out: settings for the tools, which know nothing of the gateway. `app` and
//! `doctor` build the same things from here, so a check examines what really runs.

mod cutoff;
mod guests_sync;
mod own_identity;
mod partners_sync;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::acme;
use crate::assembly::own_identity::Own;
use crate::authn;
use crate::authn::seal::Keyring;
use crate::config::Config;
use crate::config::sections::Bind;
use crate::config::sections::ClientCredential;
use crate::config::sections::Directory;
use crate::forward::connect::Trust;
use crate::graph;
use crate::graph::Graph;
use crate::kerberos;
use crate::kerberos::Delegator;
use crate::kerberos::KdcAddress;
use crate::ldap;
use crate::ldap::Dn;
use crate::listener;
use crate::listener::buckets::AtOnce;
use crate::listener::tls::Certificates;
use crate::mapping::settings as mapping;
use crate::mapping::settings::BadSettings;
use crate::mapping::settings::GroupSource;
use crate::mapping::settings::ManagedGroup;
use crate::mapping::settings::UpnRule;
use crate::model::names::BadName;
use crate::model::names::HostName;
use crate::model::secret::Secret;
use crate::oidc;
use crate::oidc::Issuer;
use crate::oidc::settings::ClaimNames;
use crate::oidc::settings::Credential;
use crate::oidc::settings::IssuerV1;
use crate::oidc::settings::Trust as IssuerTrust;
use crate::pages::Accent;
use crate::pages::Brand;
use crate::pages::Contact;
use crate::pages::Logo;

pub use cutoff::cutoff_settings;
pub use guests_sync::guests_sync_settings;
pub use partners_sync::partners_sync_settings;

/// What the configuration names and what turned out to be unusable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the configuration names.
    #[error("{key}: {path:?}: {source}")]
    File {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A value that only its tool can judge.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Values of `[mapping]` that contradict each other.
    #[error(transparent)]
    Mapping(#[from] BadSettings),
}

fn value(key: &'static str, problem: impl std::fmt::Display) -> Error {
    Error::Value {
        key,
        problem: problem.to_string(),
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        key,
        path: path.to_owned(),
        source,
    })
}

/// The issuer, not yet asked for anything.
///
/// # Errors
/// A certificate or key is unusable.
pub fn oidc_settings(config: &Config) -> Result<oidc::Settings, Error> {
    let issuer = &config.issuer;
    let credential = match &issuer.credential {
        ClientCredential::Secret(secret) => Credential::Secret(secret.clone()),
        ClientCredential::Certificate(pair) => {
            let key = Secret::new(read("issuer.client_key", &pair.key)?);
            let chain = read("issuer.client_certificate", &pair.chain)?;
            Credential::from_pem(&key, &chain).map_err(|e| value("issuer.client_certificate", e))?
        }
    };
    let issuer_v1 = match (&issuer.issuer_v1, &issuer.metadata_v1) {
        (Some(name), Some(metadata_url)) => Some(IssuerV1 {
            issuer: name.clone(),
            metadata_url: metadata_url.clone(),
        }),
        _ => None,
    };
    Ok(oidc::Settings {
        issuer: issuer.issuer.clone(),
        metadata_url: Some(issuer.metadata.clone()),
        issuer_v1,
        tenant: issuer.tenant,
        allowed_tenants: issuer.allowed_tenants.clone(),
        client_id: issuer.client_id.clone(),
        credential,
        scope: issuer.scopes.join(" "),
        domain_hint: None,
        prompt: None,
        claims: ClaimNames {
            tid: issuer.tenant_claim.clone(),
            oid: issuer.person_claim.clone(),
            ..ClaimNames::default()
        },
        skew: issuer.skew,
        keys_every: Duration::from_secs(3600),
        unknown_key_every: issuer.unknown_key_every,
        trust: IssuerTrust {
            ca_file: issuer.ca_file.clone(),
            hosts: issuer.hosts.clone(),
            ..IssuerTrust::default()
        },
    })
}

/// Microsoft Graph, if it is configured.
///
/// # Errors
/// The base address is unusable.
pub fn graph(config: &Config, issuer: &Arc<Issuer>) -> Result<Option<Graph>, Error> {
    let Some(base_url) = &config.issuer.graph else {
        return Ok(None);
    };
    let scope = config.issuer.graph_scope.clone();
    let settings = graph::Settings {
        base_url: base_url.clone(),
        scope: scope.clone(),
        remember: config
            .cutoff
            .as_ref()
            .map_or(config.session.recheck, |cutoff| {
                // What was answered a moment ago lets nobody stay for longer than was promised.
                config.session.recheck.min(cutoff.within / 2)
            }),
        deadline: Duration::from_secs(8),
        capacity: 20_000,
        units_per_second: config.issuer.graph_units_per_second,
        patience: graph::Patience::default(),
    };
    let (source, http) = (Arc::clone(issuer), issuer.http());
    let source: graph::TokenSource = Arc::new(move || {
        let (issuer, scope) = (Arc::clone(&source), scope.clone());
        Box::pin(async move {
            let token = issuer
                .app_token(&scope)
                .await
                .map_err(|error| error.to_string())?;
            Ok(graph::Token {
                token: token.token,
                lasts: token.lasts,
            })
        })
    });
    Graph::new(settings, http, source)
        .map(Some)
        .map_err(|e| value("issuer.graph", e))
}

/// The gateway's own Kerberos credential, if it has one.
///
/// # Errors
/// A KDC's address is none.
pub fn kerberos_settings(config: &Config) -> Result<Option<kerberos::Settings>, Error> {
    let Some(section) = &config.kerberos else {
        return Ok(None);
    };
    let realm = section.principal.realm().parse();
    let realm = realm.map_err(|error: BadName| value("kerberos.principal", error))?;
    let kdcs: Result<Vec<KdcAddress>, _> = section
        .kdcs
        .iter()
        .map(|text| {
            let kdc: KdcAddress = text.parse()?;
            let at = section.hosts.get(&kdc.host).copied();
            Ok(kdc.at(at))
        })
        .collect();
    let kdcs = kdcs.map_err(|error: BadName| value("kerberos.kdcs", error))?;
    Ok(Some(kerberos::Settings {
        threads: section.threads,
        queue: section.queue,
        deadline: section.deadline,
        allow_rc4: section.allow_rc4,
        ..kerberos::Settings::new(
            section.principal.clone(),
            realm,
            section.keytab.clone(),
            kdcs,
            config.gateway.runtime_dir.clone(),
        )
    }))
}

/// The directory, if there is one; `delegator` lends the gateway's own identity for the bind.
///
/// # Errors
/// The CA file is unusable, or the bind wants Kerberos and there is none.
pub fn ldap_settings(
    config: &Config,
    delegator: Option<&Delegator>,
) -> Result<Option<ldap::Settings>, Error> {
    let Some(section) = &config.directory else {
        return Ok(None);
    };
    let tls = directory_trust(section)?;
    let servers = if section.servers.is_empty() {
        ldap::Servers::Dns {
            domain: section.realm.as_str().to_ascii_lowercase(),
            site: section.site.clone(),
            name_server: None,
        }
    } else {
        ldap::Servers::Listed(section.servers.clone())
    };
    Ok(Some(ldap::Settings {
        port: section.port,
        connect: section.connect,
        operation: section.operation,
        page_size: section.page_size,
        follow_referrals: section.follow_referrals.clone(),
        hosts: section.hosts.clone().into_iter().collect(),
        ..ldap::Settings::new(servers, tls, bind(section, delegator)?)
    }))
}

/// Whom we believe that a directory server is the one it says.
///
/// # Errors
/// The CA file is unusable.
pub fn directory_trust(section: &Directory) -> Result<Arc<rustls::ClientConfig>, Error> {
    let pem = match &section.ca_file {
        Some(path) => Some(read("directory.ca_file", path)?),
        None => None,
    };
    ldap::client_config(pem.as_deref().map(str::as_bytes))
        .map_err(|error| value("directory.ca_file", error))
}

fn bind(section: &Directory, delegator: Option<&Delegator>) -> Result<ldap::Bind, Error> {
    match (&section.bind, delegator) {
        (Bind::Simple { name, password }, _) => Ok(ldap::Bind::Simple {
            name: name.clone(),
            password: password.clone(),
        }),
        (Bind::Kerberos, Some(delegator)) => {
            Ok(ldap::Bind::Gssapi(Box::new(Own(delegator.clone()))))
        }
        (Bind::Kerberos, None) => Err(wants_kerberos()),
    }
}

/// The directory is to be bound by Kerberos, and there is no credential.
#[must_use]
pub fn wants_kerberos() -> Error {
    value(
        "directory.bind",
        "\"kerberos\" wants a [kerberos] section with the gateway's keytab",
    )
}

/// Limits of the TLS listener.
#[must_use]
pub fn listener_settings(config: &Config) -> listener::Settings {
    let section = &config.listener;
    listener::Settings {
        proxies: section.proxy_protocol_from.clone(),
        // Each worker takes its share; one that is full leaves new connections to the others.
        max_connections: section.max_connections.div_ceil(config.gateway.workers),
        per_address: section.max_connections_per_address.map(AtOnce::new),
        handshake: section.handshake,
        headers: section.headers,
        idle: section.idle,
        write: section.write,
        max_head: section.max_head,
        drain: section.drain,
        ..listener::Settings::default()
    }
}

/// What is ordered by ACME, if anything; `files` are the certificates that need not be.
#[must_use]
pub fn acme_settings(config: &Config, files: &Certificates) -> Option<acme::Settings> {
    let section = config.acme.as_ref()?;
    let mut hosts = section.hosts.clone();
    if hosts.is_empty() {
        // RFC 8555 8.3, RFC 8737 3: neither challenge can prove a wildcard, and none is among these.
        let wanted = |host: &&HostName| !files.covers(host.as_str());
        hosts = config.published_hosts().filter(wanted).cloned().collect();
    }
    hosts.sort();
    hosts.dedup();
    Some(acme::Settings {
        directory: section.directory.to_string(),
        contact: section.contact.clone(),
        challenge: section.challenge,
        external_account: section.external_account.clone(),
        ca_file: section.ca_file.clone(),
        addresses: config.issuer.hosts.clone(),
        hosts,
    })
}

/// Lifetimes and places of sessions.
#[must_use]
pub fn authn_settings(config: &Config) -> authn::Settings {
    let session = &config.session;
    authn::Settings {
        idle: session.idle,
        absolute: session.absolute,
        recheck: session.recheck,
        issuer_grace: session.issuer_grace,
        sign_in: session.sign_in,
        sign_ins: config.rates.sign_ins,
        bad_tokens: config.rates.bad_tokens,
        ..authn::Settings::new(
            config.gateway.sign_in_url.clone(),
            config.gateway.sign_in_host.clone(),
        )
    }
}

/// The keys that seal refresh tokens: configured, or made once in `state_dir`.
///
/// # Errors
/// A key is too short, or its file unusable.
pub fn keyring(config: &Config) -> Result<Keyring, Error> {
    let session = &config.session;
    match &session.seal_key {
        Some(current) => Keyring::from_secrets(current, session.previous_seal_key.as_ref())
            .map_err(|error| value("session.seal_key", error)),
        None => Keyring::from_file(&config.gateway.state_dir.join("seal.key"))
            .map_err(|error| value("gateway.state_dir", error)),
    }
}

/// What our own pages look like.
///
/// # Errors
/// The logo or the color cannot be used.
pub fn brand(config: &Config) -> Result<Brand, Error> {
    let section = &config.pages;
    let logo = match &section.logo {
        Some(path) => {
            let content = fs::read(path).map_err(|source| Error::File {
                key: "pages.logo",
                path: path.clone(),
                source,
            })?;
            Some(Logo::from_bytes(&content).map_err(|error| value("pages.logo", error))?)
        }
        None => None,
    };
    let accent = match &section.accent {
        Some(text) => Accent::from_hex(text).map_err(|error| value("pages.accent", error))?,
        None => Accent::default(),
    };
    let owners = config.applications.iter().filter_map(|app| {
        let owner = app.owner.as_deref()?;
        Some((app.name.clone(), Contact::from_text(owner)))
    });
    Ok(Brand {
        organization: section.organization.clone(),
        logo,
        accent,
        support: section.support.as_deref().map(Contact::from_text),
        owners: owners.collect(),
    })
}

/// Whom the forwarder believes that a backend is the one it says.
///
/// # Errors
/// The CA file holds no certificates.
pub fn backend_trust(config: &Config) -> Result<Trust, Error> {
    let Some(path) = &config.backends_ca else {
        return Ok(Trust::Platform);
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let authorities = read.map_err(|error| value("backends.ca_file", error))?;
    if authorities.is_empty() {
        return Err(value(
            "backends.ca_file",
            format!("{} holds no certificate", path.display()),
        ));
    }
    Ok(Trust::Authorities(authorities))
}

/// How people become accounts, if any application needs one.
///
/// # Errors
/// A distinguished name is none, or values contradict each other.
pub fn mapping_settings(config: &Config) -> Result<Option<mapping::Settings>, Error> {
    let (Some(section), Some(directory)) = (&config.mapping, &config.directory) else {
        return Ok(None);
    };
    let dn = |key, text: &str| text.parse::<Dn>().map_err(|error| value(key, error));
    let optional = |key, text: &Option<String>| text.as_deref().map(|t| dn(key, t)).transpose();
    let bases: Result<Vec<Dn>, Error> = section
        .account_bases
        .iter()
        .map(|text| dn("mapping.account_bases", text))
        .collect();
    let groups: Result<Vec<ManagedGroup>, Error> = section
        .groups
        .iter()
        .map(|mapped| {
            let from = match (&mapped.role, mapped.group) {
                (Some(role), _) => GroupSource::Role(role.clone()),
                (None, Some(group)) => GroupSource::Group(group),
                (None, None) => return Err(value("mapping.groups", "wanted: role or group")),
            };
            let group = dn("mapping.groups.ad_group", &mapped.ad_group)?;
            Ok(ManagedGroup { from, group })
        })
        .collect();
    let anchor = section.anchor_attribute.parse();
    let settings = mapping::Settings {
        realm: directory.realm.clone(),
        account_bases: bases?,
        guests_ou: optional("mapping.guests_ou", &section.guests_ou)?,
        disabled_ou: optional("mapping.disabled_ou", &section.disabled_ou)?,
        groups_ou: optional("mapping.groups_ou", &section.groups_ou)?,
        anchor: anchor.map_err(|error| value("mapping.anchor_attribute", error))?,
        sam_prefix: section.sam_prefix.clone(),
        upn: match &section.upn_suffix {
            Some(suffix) => UpnRule::Suffix(suffix.clone()),
            None => UpnRule::CloudUpn,
        },
        adopt: section.adopt,
        groups: groups?,
        cache: section.cache,
        patience: section.patience,
    };
    settings.check()?;
    Ok(Some(settings))
}
