//! One file an application: `apps/<id>.toml` becomes an [`Application`].

mod backend_http;
mod backend_tls;
mod balance;
mod cors;
mod health;
mod links;
pub(super) mod maintenance;
mod public;
mod segments;
mod websocket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use crate::config::applications::segments::Segments;
use crate::config::limits;
use crate::config::prints::Prints;
use crate::config::reader::Hosts;
use crate::config::reader::Mistake;
use crate::config::reader::Mistakes;
use crate::config::reader::Section;
use crate::config::reader::Source;
use crate::model::application::Access;
use crate::model::application::Application;
use crate::model::application::Backend;
use crate::model::application::Guests;
use crate::model::application::HeaderSso;
use crate::model::application::HeaderValueFrom;
use crate::model::application::KerberosSso;
use crate::model::application::Kind;
use crate::model::application::Limits;
use crate::model::application::Rule;
use crate::model::application::SendToken;
use crate::model::application::Sso;
use crate::model::application::Wrap;
use crate::model::names::AppId;
use crate::model::names::HostName;
use crate::model::names::Spn;

/// Reads all `files`; an unsound file is noted in `mistakes` and left out.
#[must_use]
pub fn load(
    files: &[PathBuf],
    hosts: &Hosts,
    mistakes: &Mistakes,
    prints: &mut Prints,
) -> Vec<Application> {
    files
        .iter()
        .flat_map(|file| {
            let stem = file
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or("");
            let id = stem.parse::<AppId>();
            if let Err(error) = &id {
                mistakes.note(Mistake {
                    file: file.clone(),
                    line: 0,
                    key: String::new(),
                    problem: format!("the file's name is the application's id: {error}"),
                });
            }
            let Some(source) = Source::read(file, mistakes) else {
                return Vec::new();
            };
            let table = source.parse(mistakes);
            let root = Section::root(&source, &table, mistakes);
            let segments = Segments::take(&root);
            let app = application(id.ok(), &root, hosts);
            root.finish();
            prints.application(file, table.get_ref(), source.named());
            app.map(|app| segments.publish(app, hosts))
                .unwrap_or_default()
        })
        .collect()
}

fn application(id: Option<AppId>, root: &Section<'_>, hosts: &Hosts) -> Option<Application> {
    let name = root.required("name", "the name shown to people", root.text("name"));
    let owner = root.text("owner");
    let published = published_url(root);
    let backends = backends(root, hosts);
    let backend_tls = backend_tls::read(&root.section("backend_tls"), &backends);
    let balance = balance::balance(&root.section("balance"), &backends);
    let keep_host = root.flag("keep_host", false);
    let keeps_encoded_slash = encoded_slash(root);
    let prefix = published.as_ref().map(|(_, _, prefix)| prefix.as_str());
    let public = public::read(root, prefix);
    let (access, sso) = if public.pass_through {
        for key in ["access", "sso", "bearer", "cors"] {
            if root.section(key).exists() {
                root.mistake(key, "means nothing with pass_through = true, where nobody signs in; remove one of the two");
            }
        }
        (Access::default(), Some(Sso::None))
    } else {
        (
            access(&root.section("access")),
            sso(&root.section("sso"), &backends),
        )
    };
    let backend_http = backend_http::read(root, &backends, sso.as_ref());
    let cors = cors::read(&root.section("cors"));
    let maintenance = maintenance::read(&root.section("maintenance"), prefix);
    let limits = time_and_size(&root.section("limits"));
    let addresses = limits::addresses(&root.section("addresses"));
    let rates = limits::rates(&root.section("rates"));
    let bearer = root.section("bearer");
    let bearer_audiences = bearer.list("audiences", "an audience such as \"api://intranet\"");
    if bearer.exists() && bearer_audiences.is_empty() {
        // SECURITY: a bearer route without an audience accepts any application's token (GHSA-wcvh-g65p-v576).
        bearer.mistake(
            "audiences",
            "names no audience; a token for any application would do",
        );
    }
    bearer.finish();
    let links = links::read(&root.section("links"));
    let websocket = websocket::websocket(&root.section("websocket"));
    let (published_url, host, prefix) = published?;
    Some(Application {
        id: id?,
        name: name?,
        owner,
        host,
        prefix,
        pattern: is_pattern(&published_url).then(|| published_url.clone()),
        published_url,
        keeps_encoded_slash,
        backends: (!backends.is_empty()).then_some(backends)?,
        backend_http,
        backend_tls,
        balance,
        keep_host,
        access,
        sso: sso?,
        limits,
        addresses,
        rates,
        bearer_audiences,
        websocket,
        public,
        cors,
        links,
        maintenance,
    })
}

/// Longest segment of a published path, in bytes: what `route` compares.
const LONGEST: usize = 255;

fn published_url(root: &Section<'_>) -> Option<(Url, HostName, String)> {
    const WANTED: &str = "an address such as \"https://intranet.example.com/\"";
    let url: Url = root.required(
        "published_url",
        WANTED,
        root.parsed("published_url", WANTED),
    )?;
    let host = url
        .host_str()
        // RFC 9525 6.3: a wildcard is the whole left-most label.
        .map(|host| host.strip_prefix("*.").unwrap_or(host))
        .and_then(|host| host.parse::<HostName>().ok());
    let sound = url.scheme() == "https"
        && url.path().ends_with('/')
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && !url.path().contains(['%', ';'])
        && !url.path().contains("//")
        && url.path().split('/').all(|part| part.len() <= LONGEST);
    match host {
        Some(host) if sound => {
            let prefix = url.path().to_owned();
            Some((url, host, prefix))
        }
        Some(_) | None => {
            root.mistake("published_url", &format!(
                "\"{url}\" is not {WANTED}: https, a host name, a plain path that ends in \"/\", no query"
            ));
            None
        }
    }
}

fn is_pattern(published: &Url) -> bool {
    published
        .host_str()
        .is_some_and(|host| host.starts_with("*."))
}

/// `"refuse"` or `"keep"`.
fn encoded_slash(root: &Section<'_>) -> bool {
    match root.text("encoded_slash").as_deref() {
        None | Some("refuse") => false,
        Some("keep") => true,
        Some(other) => {
            root.mistake(
                "encoded_slash",
                &format!("\"{other}\" is neither \"refuse\" nor \"keep\""),
            );
            false
        }
    }
}

fn backends(root: &Section<'_>, hosts: &Hosts) -> Vec<Backend> {
    const WANTED: &str = "an address such as \"https://iis01.corp.example.com/\"";
    let urls: Vec<Url> = root.list("backend_urls", WANTED);
    if urls.is_empty() {
        root.required::<()>("backend_urls", "a list of at least one backend URL", None);
    }
    let mut backends = Vec::new();
    for url in urls {
        let sound = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path().ends_with('/')
            && url.query().is_none()
            && url.username().is_empty();
        if !sound {
            root.mistake(
                "backend_urls",
                &format!(
                    "\"{url}\" is not {WANTED}: http or https, a path that ends in \"/\", no query"
                ),
            );
            continue;
        }
        let address = url
            .host_str()
            .and_then(|host| hosts.get(host))
            .and_then(|ip| Some(SocketAddr::new(*ip, url.port_or_known_default()?)));
        backends.push(Backend { url, address });
    }
    backends
}

fn access(section: &Section<'_>) -> Access {
    let guests = section.choice(
        "guests",
        &[
            ("provision", Guests::Provision),
            ("existing", Guests::Existing),
            ("deny", Guests::Deny),
        ],
    );
    let allow = rules(section, "allow");
    let deny = rules(section, "deny");
    let home_tenants = section.list("home_tenants", "a tenant id (GUID)");
    section.required("guests", "\"provision\", \"existing\" or \"deny\"", guests);
    if allow.is_empty() {
        section.mistake("allow", "names nobody: nobody may enter; write for example allow = [{ role = \"Intranet.User\" }]");
    }
    section.finish();
    Access {
        guests: guests.unwrap_or_default(),
        allow,
        deny,
        home_tenants,
    }
}

fn rules(section: &Section<'_>, key: &'static str) -> Vec<Rule> {
    section
        .sections(key)
        .iter()
        .map(|rule| {
            let read = Rule {
                role: rule.text("role"),
                group: rule.parsed("group", "a group's object id (GUID)"),
                home_tenant: rule.parsed("home_tenant", "a tenant id (GUID)"),
                kind: rule.choice(
                    "kind",
                    &[
                        ("anyone", Kind::Anyone),
                        ("guest", Kind::Guest),
                        ("member", Kind::Member),
                        ("external", Kind::External),
                        ("employee", Kind::Employee),
                    ],
                ),
                person: rule.parsed("person", "a person's object id (GUID)"),
            };
            // SECURITY: a rule without a condition would fit everybody.
            if read == Rule::default() {
                rule.mistake(
                    "",
                    "the rule has no condition; wanted: role, group, home_tenant, kind or person",
                );
            }
            rule.finish();
            read
        })
        .collect()
}

fn sso(section: &Section<'_>, backends: &[Backend]) -> Option<Sso> {
    let kerberos = section.section("kerberos");
    let headers = section.section("headers");
    let none = section.flag("none", false);
    let chosen = [kerberos.exists(), headers.exists(), none];
    let read = match chosen {
        [true, false, false] => kerberos_sso(&kerberos, backends).map(Sso::Kerberos),
        [false, true, false] => Some(Sso::Headers(header_sso(&headers))),
        [false, false, true] => Some(Sso::None),
        _ => {
            section.mistake(
                "",
                "wanted: exactly one of [sso.kerberos], [sso.headers] or sso.none = true",
            );
            None
        }
    };
    section.finish();
    read
}

const SPN_WANTED: &str =
    "an SPN such as \"HTTP/intranet.corp.example.com\" or the template \"HTTP/{backend_host}\"";

fn kerberos_sso(section: &Section<'_>, backends: &[Backend]) -> Option<KerberosSso> {
    let template = section.required("spn", SPN_WANTED, section.text("spn"));
    let send = section.choice(
        "send",
        &[
            ("each-request", SendToken::EachRequest),
            ("each-connection", SendToken::EachConnection),
            ("learn", SendToken::Learn),
            ("on-challenge", SendToken::OnChallenge),
        ],
    );
    let wrap = section.choice("wrap", &[("spnego", Wrap::Spnego), ("raw", Wrap::Raw)]);
    let mutual = section.flag("mutual", true);
    let channel_binding = section.flag("channel_binding", true);
    section.finish();
    let template = template?;
    Some(KerberosSso {
        spns: spns(section, &template, backends)?,
        send: send.unwrap_or(SendToken::EachRequest),
        wrap: wrap.unwrap_or(Wrap::Spnego),
        mutual,
        channel_binding,
    })
}

/// One SPN for each backend.
fn spns(section: &Section<'_>, template: &str, backends: &[Backend]) -> Option<Vec<Spn>> {
    let spns: Result<Vec<Spn>, _> = backends
        .iter()
        .map(|backend| {
            let host = backend.url.host_str().unwrap_or("");
            template.replace("{backend_host}", host).parse()
        })
        .collect();
    spns.map_err(|error| section.mistake("spn", &format!("{error}; wanted: {SPN_WANTED}")))
        .ok()
}

fn header_sso(section: &Section<'_>) -> HeaderSso {
    const WANTED: &str = "one of \"object-id\", \"tenant-id\", \"display-name\", \"email\", \"upn\", \
        \"roles\", \"groups\", \"sam\", \"account-upn\", \"sid\", under the name of a header";
    let set = section.section("set");
    let headers = set.entries(WANTED, |name, from| {
        let name: HeaderName = name.parse().ok()?;
        // SECURITY: framing, hop-by-hop and our own names are never identity headers.
        if RESERVED.contains(&name.as_str()) {
            return None;
        }
        let sources: HashMap<&str, HeaderValueFrom> = HashMap::from([
            ("object-id", HeaderValueFrom::ObjectId),
            ("tenant-id", HeaderValueFrom::TenantId),
            ("display-name", HeaderValueFrom::DisplayName),
            ("email", HeaderValueFrom::Email),
            ("upn", HeaderValueFrom::Upn),
            ("roles", HeaderValueFrom::Roles),
            ("groups", HeaderValueFrom::Groups),
            ("sam", HeaderValueFrom::Sam),
            ("account-upn", HeaderValueFrom::AccountUpn),
            ("sid", HeaderValueFrom::Sid),
        ]);
        Some((name, *sources.get(from)?))
    });
    let assertion = section.flag("assertion", true);
    let account = section.flag("account", false);
    section.finish();
    HeaderSso {
        headers,
        assertion,
        account,
    }
}

const RESERVED: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "keep-alive",
    "kerbgate-jwt-assertion",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

fn time_and_size(section: &Section<'_>) -> Limits {
    let limits = Limits {
        connect: section.span("connect", Duration::from_secs(5)),
        first_byte: section.span("first_byte", Duration::from_secs(120)),
        idle: section.span("idle", Duration::from_secs(60)),
        total: Some(section.span("total", Duration::ZERO)).filter(|total| !total.is_zero()),
        min_rate: section.size("min_rate", 500),
        max_body: section.size("max_body", 0),
        keep_form: section.size("keep_form", 1 << 20),
    };
    section.finish();
    limits
}
