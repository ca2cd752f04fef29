//! `[acme]`: certificates that are ordered (RFC 8555).

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use crate::config::Config;
use crate::config::reader::Section;
use crate::model::names::HostName;
use crate::model::secret::Secret;

/// Whom certificates are ordered from, and for which hosts.
#[derive(Clone, Debug)]
pub struct Acme {
    /// The authority's directory.
    pub directory: Url,
    /// Whom the authority may write to: `mailto:` addresses.
    pub contact: Vec<String>,
    /// How a host is proved to be ours.
    pub challenge: Challenge,
    /// A further authority that signed the directory's own certificate; absent = the machine's store only.
    pub ca_file: Option<PathBuf>,
    /// An account that the authority knows from elsewhere (RFC 8555 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// For which hosts; empty = every published host that no file has a certificate for.
    pub hosts: Vec<HostName>,
}

/// How a host is proved to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// By a text on port 80 (RFC 8555 8.3).
    Http01,
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

/// An account that the authority knows from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its name.
    pub kid: String,
    /// Its HMAC key.
    pub key: Secret<Vec<u8>>,
}

/// The outer `None` is a mistake, the inner one a section that is not there.
pub(super) fn acme(section: &Section<'_>) -> Option<Option<Acme>> {
    if !section.exists() {
        return Some(None);
    }
    const DIRECTORY: &str =
        "the authority's directory such as \"https://acme-v02.api.letsencrypt.org/directory\"";
    let directory: Option<Url> = section.required(
        "directory",
        DIRECTORY,
        section.parsed("directory", DIRECTORY),
    );
    // RFC 8555 6.1.
    let directory = directory.filter(|url| {
        let sound = url.scheme() == "https";
        if !sound {
            section.mistake("directory", &format!("\"{url}\" is not {DIRECTORY}"));
        }
        sound
    });
    if !section.flag("terms_accepted", false) {
        section.mistake(
            "terms_accepted",
            "is not true; read the authority's terms of service (its directory names them) and say so",
        );
    }
    let contact = contact(section);
    let challenge = section.choice(
        "challenge",
        &[
            ("http-01", Challenge::Http01),
            ("tls-alpn-01", Challenge::TlsAlpn01),
        ],
    );
    let ca_file = section.path("ca_file");
    let external_account = external_account(section);
    let hosts = section.list("hosts", "a published host such as \"wiki.example.com\"");
    section.finish();
    Some(Some(Acme {
        directory: directory?,
        contact,
        challenge: challenge.unwrap_or(Challenge::Http01),
        ca_file,
        external_account,
        hosts,
    }))
}

fn contact(section: &Section<'_>) -> Vec<String> {
    let contact: Vec<String> = section.list("contact", "a mail address: \"mailto:it@example.com\"");
    for one in &contact {
        if !one
            .strip_prefix("mailto:")
            .is_some_and(|at| at.contains('@'))
        {
            let problem =
                format!("{one:?} is not a mail address such as \"mailto:it@example.com\"");
            section.mistake("contact", &problem);
        }
    }
    contact
}

fn external_account(section: &Section<'_>) -> Option<ExternalAccount> {
    let kid = section.text("eab_kid");
    let key = section.secret([
        "eab_key",
        "eab_key_file",
        "eab_key_env",
        "eab_key_credential",
    ]);
    match (kid, key) {
        (Some(kid), Some(key)) => {
            let text = key.expose().trim().trim_end_matches('=');
            let Ok(key) = URL_SAFE_NO_PAD.decode(text) else {
                // SECURITY: the value is not shown.
                section.mistake("eab_key", "is not base64url, as authorities give it");
                return None;
            };
            let key = Secret::new(key);
            Some(ExternalAccount { kid, key })
        }
        (None, None) => None,
        (Some(_), None) => {
            section.mistake("eab_kid", "wants eab_key_file");
            None
        }
        (None, Some(_)) => {
            section.mistake("eab_key_file", "wants eab_kid");
            None
        }
    }
}

/// What only shows when `[acme]` is seen together with listeners and applications: key and problem.
pub(super) fn together(config: &Config) -> Vec<(&'static str, String)> {
    let Some(acme) = &config.acme else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    if acme.challenge == Challenge::Http01 && config.listener.http.is_empty() {
        let cure = "is missing; the authority asks there (http-01): listen on port 80, or set acme.challenge = \"tls-alpn-01\"";
        wrong.push(("listener.http", String::from(cure)));
    }
    let published: Vec<_> = config.published_hosts().collect();
    for host in &acme.hosts {
        if !published.contains(&host) {
            let problem =
                format!("{host} is not a published host; no request for it would come in");
            wrong.push(("acme.hosts", problem));
        }
    }
    wrong
}
