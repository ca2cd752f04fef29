//! The boot file and the applications' files, parsed into checked settings.
//!
//! In: a path. Out: a [`Config`] in which every value is valid, or *all* mistakes at once with file, line
//! and key. `kerbgate run`, `check` and every test use this one loader. Nothing is bound and nothing is
//! written before it has succeeded.

pub mod acme;
pub mod applications;
mod client_credential;
pub mod limits;
pub mod partners;
pub mod prints;
pub mod reader;
pub mod sections;
pub mod sync;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::config::acme::Acme;
use crate::config::applications::maintenance;
use crate::config::limits::GatewayRates;
use crate::config::partners::PartnersSync;
use crate::config::prints::Prints;
use crate::config::reader::Mistake;
use crate::config::reader::Mistakes;
use crate::config::reader::Section;
use crate::config::reader::Source;
use crate::config::sections::Directory;
use crate::config::sections::Gateway;
use crate::config::sections::Issuer;
use crate::config::sections::Kerberos;
use crate::config::sections::Listener;
use crate::config::sections::Log;
use crate::config::sections::Mapping;
use crate::config::sections::Pages;
use crate::config::sections::Session;
use crate::config::sync::GuestsSync;
use crate::model::addresses::Addresses;
use crate::model::application::Application;
use crate::model::application::Guests;
use crate::model::application::Sso;
use crate::model::names::HostName;

/// Everything the gateway is told from outside, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gateway itself lives.
    pub gateway: Gateway,
    /// Sockets, certificates and limits towards clients.
    pub listener: Listener,
    /// Certificates that are ordered; absent = all come from files.
    pub acme: Option<Acme>,
    /// From where people may come to any application.
    pub addresses: Addresses,
    /// How much one person or address may ask for in all.
    pub rates: GatewayRates,
    /// The identity provider.
    pub issuer: Issuer,
    /// Lifetimes of sessions.
    pub session: Session,
    /// The on-premises directory; absent when no application needs an account.
    pub directory: Option<Directory>,
    /// How people become accounts; absent when no application needs one.
    pub mapping: Option<Mapping>,
    /// The gateway's own Kerberos credential; absent when no application needs a ticket.
    pub kerberos: Option<Kerberos>,
    /// Guests of the cloud as accounts.
    pub guests_sync: GuestsSync,
    /// Partners' accounts as guests of the cloud; absent = none are.
    pub partners_sync: Option<PartnersSync>,
    /// A private authority that signed the backends' certificates; absent = the machine's store.
    pub backends_ca: Option<PathBuf>,
    /// What our own pages say and look like.
    pub pages: Pages,
    /// What is logged, and where to.
    pub log: Log,
    /// The published applications.
    pub applications: Vec<Application>,
    /// What it was read from.
    pub prints: Prints,
}

impl Config {
    /// The hosts of all applications and the sign-in host; a host comes once for each application on it.
    pub fn published_hosts(&self) -> impl Iterator<Item = &HostName> {
        let named = self.applications.iter().filter(|app| !app.is_pattern());
        named
            .map(|app| &app.host)
            .chain([&self.gateway.sign_in_host])
    }

    /// The same with wildcards, as they are configured.
    pub fn published_names(&self) -> impl Iterator<Item = &str> {
        let names = self.applications.iter().map(Application::configured_host);
        names.chain([self.gateway.sign_in_host.as_str()])
    }
}

/// Loads and checks `path` and the applications' files it names.
///
/// # Errors
/// Every mistake found, ordered by file and line.
pub fn load(path: &Path) -> Result<Config, Vec<Mistake>> {
    let mistakes = Mistakes::default();
    let config = Source::read(path, &mistakes).and_then(|source| read(&source, &mistakes));
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        Some(_) | None => Err(mistakes.into_sorted()),
    }
}

fn read(source: &Source, mistakes: &Mistakes) -> Option<Config> {
    let table = source.parse(mistakes);
    let root = Section::root(source, &table, mistakes);
    let hosts = sections::hosts(&root.section("hosts"));
    let gateway = sections::gateway(&root.section("gateway"));
    let acme = root.section("acme");
    let listener = sections::listener(&root.section("listener"), acme.exists());
    let acme = acme::acme(&acme);
    let addresses = limits::addresses(&root.section("addresses"));
    let rates = limits::gateway_rates(&root.section("rates"));
    let issuer = sections::issuer(&root.section("issuer"), &hosts);
    let session = sections::session(&root.section("session"));
    let directory = sections::directory(&root.section("directory"), &hosts);
    let mapping = sections::mapping(&root.section("mapping"));
    let kerberos = sections::kerberos(&root.section("kerberos"), &hosts);
    let synced = root.section("sync");
    let guests_sync = sync::guests(&synced.section("guests"));
    let partners_sync = partners::partners(&synced.section("partners"));
    synced.finish();
    let backends = root.section("backends");
    let backends_ca = backends.path("ca_file");
    backends.finish();
    let pages = sections::pages(&root.section("pages"));
    let log = sections::log(&root.section("log"));
    let maintenance = maintenance::read(&root.section("maintenance"), None);
    root.finish();
    let mut prints = Prints::default();
    prints.boot(source.path(), table.get_ref(), source.named());

    let folder = gateway.as_ref().map(|gateway| gateway.applications.clone());
    let applications = folder.map(|folder| {
        let files = application_files(&folder, mistakes);
        let mut applications = applications::load(&files, &hosts, mistakes, &mut prints);
        for app in &mut applications {
            // An application's own words are the more specific ones.
            app.maintenance = app.maintenance.take().or_else(|| maintenance.clone());
        }
        applications
    });
    let config = Config {
        gateway: gateway?,
        listener: listener?,
        acme: acme?,
        addresses,
        rates,
        issuer: issuer?,
        session,
        directory: directory?,
        mapping: mapping?,
        kerberos: kerberos?,
        guests_sync,
        partners_sync,
        backends_ca,
        pages,
        log,
        applications: applications?,
        prints,
    };
    check_together(&config, source, mistakes);
    Some(config)
}

fn application_files(folder: &Path, mistakes: &Mistakes) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match listed {
        Ok(entries) => {
            let mut files: Vec<_> = entries
                .iter()
                .map(fs::DirEntry::path)
                .filter(|path| path.extension().is_some_and(|e| e == "toml"))
                .collect();
            files.sort();
            files
        }
        Err(error) => {
            mistakes.note(Mistake {
                file: folder.to_owned(),
                line: 0,
                key: String::from("gateway.applications"),
                problem: format!("the folder of applications cannot be read: {error}"),
            });
            Vec::new()
        }
    }
}

/// What only shows when sections and applications are seen together.
fn check_together(config: &Config, source: &Source, mistakes: &Mistakes) {
    let note = |key: &str, problem: String| {
        mistakes.note(Mistake {
            file: source.path().to_owned(),
            line: 1,
            key: key.to_owned(),
            problem,
        });
    };
    for (key, problem) in acme::together(config) {
        note(key, problem);
    }
    for (key, problem) in partners::together(config) {
        note(key, problem);
    }
    for (key, problem) in sync::together(config) {
        note(key, problem);
    }
    let mut taken: HashMap<(String, String), &Application> = HashMap::new();
    for app in &config.applications {
        // Prefixes are compared in any case, as `route` does.
        let place = (
            app.configured_host().to_owned(),
            app.prefix.to_ascii_lowercase(),
        );
        if let Some(other) = taken.insert(place, app) {
            let (first, second) = (&other.id, &app.id);
            note(
                "published_url",
                format!(
                    "applications {first} and {second} are both published at {}",
                    app.published_url
                ),
            );
        }
        if app.configured_host() == config.gateway.sign_in_host.as_str() && app.prefix == "/" {
            note(
                "published_url",
                format!(
                    "application {} takes the gateway's own host {}; publish it under another host",
                    app.id, app.host
                ),
            );
        }
        let name = &app.id;
        if app.needs_account() {
            if config.directory.is_none() {
                note(
                    "directory",
                    format!("is missing; application {name} needs accounts"),
                );
            }
            if config.mapping.is_none() {
                note(
                    "mapping",
                    format!("is missing; application {name} needs accounts"),
                );
            }
        }
        if matches!(app.sso, Sso::Kerberos(_)) && config.kerberos.is_none() {
            note(
                "kerberos",
                format!("is missing; application {name} needs tickets"),
            );
        }
        let makes = app.needs_account() && app.access.guests == Guests::Provision;
        if makes
            && config
                .mapping
                .as_ref()
                .is_some_and(|m| m.guests_ou.is_none())
        {
            note(
                "mapping.guests_ou",
                format!("is missing; application {name} has guests = \"provision\""),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped examples, with the secrets they name put in place.
    fn shipped(folder: &str) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(folder);
        fs::create_dir(copy.path().join("apps")).unwrap();
        fs::copy(
            from.join("kerbgate.toml"),
            copy.path().join("kerbgate.toml"),
        )
        .unwrap();
        for app in fs::read_dir(from.join("apps")).unwrap() {
            let app = app.unwrap();
            fs::copy(app.path(), copy.path().join("apps").join(app.file_name())).unwrap();
        }
        // A text that is base64url, too.
        fs::write(
            copy.path().join("eab-key"),
            "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfT\n",
        )
        .unwrap();
        for secret in ["client-secret", "bind-password", "seal-key", "seal-key.old"] {
            fs::write(
                copy.path().join(secret),
                "a secret of more than 32 characters\n",
            )
            .unwrap();
        }
        let shown = rcgen::generate_simple_self_signed([String::from("gateway")]).unwrap();
        let tls = copy.path().join("tls");
        fs::create_dir(&tls).unwrap();
        for file in ["corp-ca.pem", "gateway-client.pem"] {
            fs::write(tls.join(file), shown.cert.pem()).unwrap();
        }
        let key = shown.signing_key.serialize_pem();
        fs::write(tls.join("gateway-client.key"), key).unwrap();
        copy
    }

    #[test]
    fn every_shipped_configuration_loads() {
        for folder in [".", "examples/headers-only", "examples/simple-bind"] {
            let copy = shipped(folder);
            let loaded = load(&copy.path().join("kerbgate.toml"));
            assert!(loaded.is_ok(), "{folder}: {loaded:#?}");
        }
    }

    /// What the reference file shows behind `#` are real keys with sound values.
    #[test]
    fn the_reference_shows_every_optional_key_as_it_may_be_written() {
        let copy = shipped(".");
        let uncomment = |file: &Path| {
            let text = fs::read_to_string(file).unwrap();
            let lines: Vec<_> = text
                .lines()
                .map(|l| {
                    l.strip_prefix('#')
                        .filter(|rest| !rest.starts_with(' '))
                        .unwrap_or(l)
                })
                .collect();
            fs::write(file, lines.join("\n")).unwrap();
        };
        let boot = copy.path().join("kerbgate.toml");
        uncomment(&boot);
        uncomment(&copy.path().join("apps/intranet.toml"));
        uncomment(&copy.path().join("apps/wiki.toml"));
        // Two pairs of keys exclude each other; everything else must load together.
        let mistakes = load(&boot).unwrap_err();
        let keys: Vec<_> = mistakes.iter().map(|m| m.key.as_str()).collect();
        assert_eq!(
            keys,
            ["issuer.client_secret", "directory.bind_name"],
            "{mistakes:#?}"
        );
    }

    #[test]
    fn the_protocol_of_a_backend_must_be_one_that_can_work() {
        for (file, value, wanted) in [
            ("intranet", "http2", Some("Negotiate is bound to HTTP/1.1")),
            ("intranet", "auto", Some("Negotiate is bound to HTTP/1.1")),
            ("intranet", "http1", None),
            ("wiki", "auto", Some("within TLS (ALPN)")),
            ("wiki", "http2", None),
            (
                "wiki",
                "http3",
                Some("one of \"http1\", \"http2\", \"auto\""),
            ),
        ] {
            let copy = shipped(".");
            let path = copy.path().join(format!("apps/{file}.toml"));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("backend_http = \"{value}\"\n{text}")).unwrap();
            let loaded = load(&copy.path().join("kerbgate.toml"));
            let mistakes: Vec<_> = loaded.err().unwrap_or_default().into_iter().collect();
            let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            match wanted {
                None => assert!(told.is_empty(), "{file} {value}: {told:?}"),
                Some(wanted) => {
                    assert_eq!(told.len(), 1, "{file} {value}: {told:?}");
                    assert_eq!(mistakes[0].key, "backend_http");
                    assert!(told[0].contains(wanted), "{told:?}");
                }
            }
        }
    }

    #[test]
    fn mistakes_of_all_files_are_reported_together() {
        let copy = shipped(".");
        let boot = copy.path().join("kerbgate.toml");
        let text = fs::read_to_string(&boot).unwrap();
        fs::write(
            &boot,
            text.replace("0.0.0.0:443", "everywhere")
                .replace("realm =", "relm ="),
        )
        .unwrap();
        fs::write(
            copy.path().join("apps/broken.toml"),
            "name = \"x\"\nbackend_urls = [\"ftp://x/\"]\n",
        )
        .unwrap();
        fs::remove_file(copy.path().join("client-secret")).unwrap();
        let mistakes = load(&boot).unwrap_err();
        let all = mistakes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        for part in [
            "listener.https: \"everywhere\" is not an address with port",
            "directory.relm: is no known key here",
            "directory.realm: is missing",
            "client-secret cannot be read",
            "broken.toml:2: backend_urls: \"ftp://x/\" is not",
            "broken.toml:1: published_url: is missing",
            "broken.toml:1: access.guests: is missing",
            "broken.toml:1: sso: wanted: exactly one of",
        ] {
            assert!(all.contains(part), "{part:?} is not in\n{all}");
        }
    }

    #[test]
    fn mistakes_about_acme_are_named() {
        let copy = shipped(".");
        let boot = copy.path().join("kerbgate.toml");
        let text = fs::read_to_string(&boot).unwrap();
        fs::write(copy.path().join("eab-key"), "no base64url!").unwrap();
        let told = |section: &str| {
            fs::write(&boot, format!("{text}\n[acme]\n{section}")).unwrap();
            let mistakes = load(&boot).err().unwrap_or_default();
            let told = mistakes.iter().map(ToString::to_string);
            told.collect::<Vec<_>>().join("\n")
        };
        let all = told(
            "directory = \"http://ca.example/dir\"\ncontact = [\"it@example.com\"]\n\
             challenge = \"dns-01\"\neab_kid = \"kid-1\"\neab_key_file = \"eab-key\"\nemail = \"x\"\n",
        );
        for part in [
            "acme.directory: \"http://ca.example/dir\" is not the authority's directory",
            "acme.terms_accepted: is not true; read the authority's terms",
            "acme.contact: \"it@example.com\" is not a mail address",
            "acme.challenge: \"dns-01\" is not one of \"http-01\", \"tls-alpn-01\"",
            "acme.eab_key: is not base64url",
            "acme.email: is no known key here",
        ] {
            assert!(all.contains(part), "{part:?} is not in\n{all}");
        }
        assert!(!all.contains("no base64url!"), "{all}");
        let good = "directory = \"https://ca.example/dir\"\nterms_accepted = true\n";
        let http = told(good);
        assert!(
            http.contains("listener.http: is missing; the authority asks there"),
            "{http}"
        );
        let hosts = format!("{good}challenge = \"tls-alpn-01\"\nhosts = [\"other.example.net\"]\n");
        let hosts = told(&hosts);
        assert!(
            hosts.contains("acme.hosts: other.example.net is not a published host"),
            "{hosts}"
        );
        assert_eq!(told(&format!("{good}challenge = \"tls-alpn-01\"\n")), "");
    }

    #[test]
    fn two_applications_cannot_share_an_address() {
        let copy = shipped(".");
        fs::copy(
            copy.path().join("apps/wiki.toml"),
            copy.path().join("apps/wiki2.toml"),
        )
        .unwrap();
        let mistakes = load(&copy.path().join("kerbgate.toml")).unwrap_err();
        assert!(
            mistakes[0]
                .problem
                .contains("wiki and wiki2 are both published"),
            "{mistakes:?}"
        );
    }
}
